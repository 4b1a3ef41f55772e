use super::*;

fn harvest(bitmap: &DirtyBitmap) -> PageSet {
    let mut found = PageSet::new(bitmap.numbers());
    bitmap.harvest_into(&mut found).unwrap();
    found
}

#[cfg(not(loom))]
mod plain {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::sync::atomic::AtomicBool;

    fn page(page: u64) -> PageNumber {
        PageNumber(page)
    }

    const NUMBERS: u64 = 65 * LINE_PAGES + 70;

    proptest! {
        /// With one thread a harvest finds exactly what was marked since the last one.
        #[test]
        fn a_harvest_finds_what_was_marked_and_no_more(
            rounds in prop::collection::vec(prop::collection::vec((0..NUMBERS, 1..900_u64), 0..9), 1..8),
        ) {
            let bitmap = DirtyBitmap::new(NUMBERS);
            let mut all = PageSet::new(NUMBERS);
            let mut model_of_all = BTreeSet::new();
            for round in rounds {
                let mut model = BTreeSet::new();
                for (first, count) in round {
                    let count = count.min(NUMBERS - first);
                    if count == 1 {
                        bitmap.mark(page(first)).unwrap();
                    } else {
                        bitmap.mark_run(PageRun { first: page(first), count: Pages(count) }).unwrap();
                    }
                    model.extend(first..first + count);
                }
                let new = model.difference(&model_of_all).count() as u64;
                model_of_all.extend(model);
                prop_assert_eq!(bitmap.harvest_into(&mut all), Ok(Pages(new)));
                prop_assert_eq!(
                    all.pages().map(|page| page.0).collect::<Vec<_>>(),
                    model_of_all.iter().copied().collect::<Vec<_>>()
                );
            }
        }
    }

    #[test]
    fn a_harvest_leaves_the_bitmap_clean() {
        let bitmap = DirtyBitmap::new(NUMBERS);
        bitmap.mark(page(NUMBERS - 1)).unwrap();
        assert_eq!(harvest(&bitmap).count(), Pages(1));
        assert_eq!(harvest(&bitmap).count(), Pages(0));
        assert_eq!(harvest(&bitmap).count(), Pages(0));
    }

    #[test]
    fn pages_beyond_the_end_are_refused() {
        let bitmap = DirtyBitmap::new(100);
        assert!(bitmap.mark(page(100)).is_err());
        assert!(bitmap.mark(page(u64::MAX)).is_err());
        assert!(bitmap.mark_run(PageRun { first: page(99), count: Pages(2) }).is_err());
        assert!(bitmap.mark_run(PageRun { first: page(2), count: Pages(u64::MAX) }).is_err());
        bitmap.mark(page(7)).unwrap();
        assert!(bitmap.harvest_into(&mut PageSet::new(101)).is_err());
        assert_eq!(harvest(&bitmap).count(), Pages(1));
    }

    /// On real hardware: markers count up cells and mark; a harvester that finds a page reads its cell.
    /// In the end it has read the last value of each.
    #[test]
    fn no_write_is_missed_by_real_threads() {
        const PAGES: u64 = 700;
        let bitmap = DirtyBitmap::new(PAGES);
        let cells: Vec<_> = (0..PAGES).map(|_| std::sync::atomic::AtomicU64::new(0)).collect();
        let (done, mut seen) = (AtomicBool::new(false), vec![0; PAGES as usize]);
        std::thread::scope(|scope| {
            let mark = |seed: u64| {
                let mut at = seed;
                for _ in 0..60_000 {
                    at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let index = (at >> 33) % PAGES;
                    cells[index as usize].fetch_add(1, Ordering::Relaxed);
                    bitmap.mark(page(index)).unwrap();
                }
            };
            let markers = [scope.spawn(move || mark(1)), scope.spawn(move || mark(2))];
            let harvester = scope.spawn(|| {
                loop {
                    let last = done.load(Ordering::Acquire);
                    for page in harvest(&bitmap).pages() {
                        seen[page.0 as usize] = cells[page.0 as usize].load(Ordering::Relaxed);
                    }
                    if last {
                        break;
                    }
                }
            });
            for marker in markers {
                marker.join().unwrap();
            }
            done.store(true, Ordering::Release);
            harvester.join().unwrap();
        });
        let written: Vec<u64> = cells.iter().map(|cell| cell.load(Ordering::Relaxed)).collect();
        assert_eq!(seen, written);
    }
}

/// Run with `ci/loom`. Each test is a promise; each ordering in the code is needed by one of them.
#[cfg(loom)]
mod loomed {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, AtomicU64};
    use loom::thread;

    /// A guest of one or two lines, with a cell for the bytes of each page.
    struct Guest {
        bitmap: DirtyBitmap,
        pages: Vec<(PageNumber, AtomicU64)>,
    }

    impl Guest {
        fn new(numbers: u64, pages: &[u64]) -> Arc<Self> {
            let pages = pages.iter().map(|&page| (PageNumber(page), AtomicU64::new(0))).collect();
            Arc::new(Self { bitmap: DirtyBitmap::new(numbers), pages })
        }

        /// A guest's write: bytes that nothing else orders, then the mark.
        fn write(&self, index: usize, value: u64) {
            self.pages[index].1.fetch_or(value, Ordering::Relaxed);
            self.bitmap.mark(self.pages[index].0).unwrap();
        }

        /// Harvests, and reads the bytes of what it found; `None` for a page not found.
        fn harvest(&self) -> Vec<Option<u64>> {
            let found = harvest(&self.bitmap);
            let read = |(page, bytes): &(PageNumber, AtomicU64)| {
                found.contains(*page).then(|| bytes.load(Ordering::Relaxed))
            };
            self.pages.iter().map(read).collect()
        }
    }

    fn explore(bound: Option<usize>, test: impl Fn() + Sync + Send + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = bound;
        model.check(test);
    }

    /// What the last harvest that found each page read of it.
    fn latest(harvests: &[Vec<Option<u64>>], index: usize) -> Option<u64> {
        harvests.iter().rev().find_map(|harvest| harvest[index])
    }

    #[test]
    fn loom_a_finished_mark_is_in_the_next_harvest() {
        explore(None, || {
            let guest = Guest::new(64, &[1]);
            let done = Arc::new(AtomicBool::new(false));
            let marker = thread::spawn({
                let (guest, done) = (guest.clone(), done.clone());
                move || {
                    guest.write(0, 1);
                    done.store(true, Ordering::Release);
                }
            });
            let finished = done.load(Ordering::Acquire);
            let found = guest.harvest();
            if finished {
                assert_eq!(found[0], Some(1), "finished before the harvest, and not in it");
            }
            marker.join().unwrap();
        });
    }

    #[test]
    fn loom_no_write_is_lost_by_racing_harvests() {
        explore(None, || {
            let guest = Guest::new(64, &[1]);
            let marker = thread::spawn({
                let guest = guest.clone();
                move || guest.write(0, 1)
            });
            let mut harvests = vec![guest.harvest(), guest.harvest()];
            marker.join().unwrap();
            harvests.push(guest.harvest());
            assert_eq!(latest(&harvests, 0), Some(1));
        });
    }

    /// Two writes to one page: the second one's mark must count although the bit may be set already.
    #[test]
    fn loom_a_second_write_to_a_page_is_not_lost() {
        explore(Some(3), || {
            let guest = Guest::new(64, &[1]);
            let markers = [1, 2].map(|value| {
                let guest = guest.clone();
                thread::spawn(move || guest.write(0, value))
            });
            let mut harvests = vec![guest.harvest()];
            for marker in markers {
                marker.join().unwrap();
            }
            harvests.push(guest.harvest());
            assert_eq!(latest(&harvests, 0), Some(3));
        });
    }

    /// Two markers in one line: one's summary bit leads the harvester to the other's page.
    #[test]
    fn loom_whoever_sees_the_bit_sees_the_bytes() {
        explore(Some(3), || {
            let guest = Guest::new(128, &[1, 65]);
            let markers = [0, 1].map(|index| {
                let guest = guest.clone();
                thread::spawn(move || guest.write(index, 1))
            });
            let mut harvests = vec![guest.harvest()];
            for marker in markers {
                marker.join().unwrap();
            }
            harvests.push(guest.harvest());
            for index in 0..2 {
                for harvest in &harvests {
                    assert_ne!(harvest[index], Some(0), "found page {index} without its bytes");
                }
                assert_eq!(latest(&harvests, index), Some(1), "lost page {index}");
            }
        });
    }

    /// The same word and another line of the same summary word.
    #[test]
    fn loom_markers_of_one_word_and_of_two_lines_do_not_disturb_each_other() {
        for other in [2, LINE_PAGES] {
            explore(Some(2), move || {
                let guest = Guest::new(LINE_PAGES + 64, &[1, other]);
                let markers = [0, 1].map(|index| {
                    let guest = guest.clone();
                    thread::spawn(move || guest.write(index, 1))
                });
                let mut harvests = vec![guest.harvest(), guest.harvest()];
                for marker in markers {
                    marker.join().unwrap();
                }
                harvests.push(guest.harvest());
                assert_eq!((latest(&harvests, 0), latest(&harvests, 1)), (Some(1), Some(1)));
            });
        }
    }

    /// A marker that sees a new epoch also sees the zeroes stored on its side two epochs ago.
    #[test]
    fn loom_old_zeroes_do_not_overwrite_new_marks() {
        explore(Some(3), || {
            let guest = Guest::new(64, &[1]);
            guest.write(0, 1);
            let harvester = thread::spawn({
                let guest = guest.clone();
                move || vec![guest.harvest(), guest.harvest()]
            });
            guest.write(0, 2);
            guest.write(0, 4);
            let mut harvests = harvester.join().unwrap();
            harvests.push(guest.harvest());
            assert_eq!(latest(&harvests, 0), Some(7));
        });
    }

    /// One harvester must not clear a side that is marked again because of the other.
    #[test]
    fn loom_two_harvesters_do_not_clear_each_others_side() {
        explore(Some(3), || {
            let guest = Guest::new(64, &[1]);
            guest.write(0, 1);
            let harvester = thread::spawn({
                let guest = guest.clone();
                move || guest.harvest()
            });
            let marker = thread::spawn({
                let guest = guest.clone();
                move || guest.write(0, 2)
            });
            let mine = guest.harvest();
            marker.join().unwrap();
            let harvests = [mine, harvester.join().unwrap(), guest.harvest()];
            assert!(harvests.iter().any(|harvest| harvest[0] == Some(3)));
        });
    }
}
