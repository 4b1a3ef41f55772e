use super::*;
use crate::layout::{Gpa, PageSize, Region};
use crate::units::ByteCount;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Two regions, the first of which does not fill its last word.
fn layout() -> RamLayout {
    let region = |start: u64, pages: u64| Region { start: Gpa(start << 30), len: ByteCount(pages * 4096) };
    RamLayout::new(PageSize::Kib4, vec![region(0, 1100), region(4, 640), region(8, 33)]).unwrap()
}

fn drain_all(backlog: &mut Backlog) -> Pages {
    backlog.take_with(|block| Take::Continue(block.mask)).taken
}

#[derive(Clone, Debug)]
enum Op {
    /// The guest writes these pages and a harvest finds them.
    Dirty(Vec<u64>),
    DirtyWord(usize, u64),
    /// Sends with a filter for the bits of each word, and stops after so many blocks.
    Take(u64, u64),
    TakeRun(u64),
    TakePage(u64),
    Close,
    Acknowledge,
    WrongAcknowledge(u64),
    PutBack,
    Rewind,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => prop::collection::vec(0..1900_u64, 0..60).prop_map(Op::Dirty),
        1 => (0..29_usize, any::<u64>()).prop_map(|(word, mask)| Op::DirtyWord(word, mask)),
        3 => (any::<u64>(), 0..30_u64).prop_map(|(mask, blocks)| Op::Take(mask, blocks)),
        2 => (0..300_u64).prop_map(Op::TakeRun),
        2 => (0..1900_u64).prop_map(Op::TakePage),
        2 => Just(Op::Close),
        2 => Just(Op::Acknowledge),
        1 => (0..9_u64).prop_map(Op::WrongAcknowledge),
        1 => Just(Op::PutBack),
        1 => Just(Op::Rewind),
    ]
}

/// The backlog beside plain sets.
struct World {
    layout: RamLayout,
    backlog: Backlog,
    pending: BTreeSet<u64>,
    sending: BTreeSet<u64>,
    awaiting: Option<(Gate, BTreeSet<u64>)>,
    /// What the other side has of each page is its newest content.
    arrived: BTreeSet<u64>,
}

impl World {
    fn new() -> Self {
        let layout = layout();
        Self {
            backlog: Backlog::new(&layout),
            pending: layout.runs().flat_map(PageRun::range).collect(),
            layout,
            sending: BTreeSet::new(),
            awaiting: None,
            arrived: BTreeSet::new(),
        }
    }

    fn dirtied(&mut self, pages: &BTreeSet<u64>) -> Harvested {
        let newly = pages.difference(&self.pending).count() as u64;
        self.pending.extend(pages);
        self.arrived.retain(|page| !pages.contains(page));
        Harvested { dirty: Pages(pages.len() as u64), newly_pending: Pages(newly) }
    }

    fn took(&mut self, page: u64) {
        assert!(self.pending.remove(&page), "page {page} was not pending");
        self.sending.insert(page);
    }

    fn mark(&mut self, op: &Op) {
        match op {
            Op::Dirty(pages) => {
                let numbers = self.layout.numbers();
                let put = |found: &mut PageSet| {
                    for &page in pages.iter().filter(|&&page| page < numbers) {
                        found.insert(PageNumber(page)).unwrap();
                    }
                };
                // Padding may be marked by mistake; it must not become pending.
                let real = pages.iter().copied().filter(|&page| self.layout.contains(PageNumber(page)));
                let expected = self.dirtied(&real.collect());
                assert_eq!(self.backlog.harvest_with(put), Ok(((), expected)));
            }
            Op::DirtyWord(word, mask) => {
                let pages = (0..64).filter(|bit| mask >> bit & 1 != 0).map(|bit| *word as u64 * 64 + bit);
                let pages: BTreeSet<u64> =
                    pages.filter(|&page| self.layout.contains(PageNumber(page))).collect();
                let mask = pages.iter().fold(0, |mask, page| mask | 1 << (page % 64));
                let expected = self.dirtied(&pages);
                self.backlog.mark_dirty_word(*word, mask);
                assert_eq!(self.backlog.finish_harvest(), expected);
            }
            _ => {}
        }
    }

    fn take(&mut self, op: &Op) {
        match *op {
            Op::Take(filter, blocks) => {
                let mut left = blocks;
                let mut shown = BTreeSet::new();
                let mut taken = Vec::new();
                let pending = self.pending.clone();
                let result = self.backlog.take_with(|block| {
                    let pages = |mask: u64| {
                        let bits = (0..64).filter(move |bit| mask >> bit & 1 != 0);
                        bits.map(move |bit| block.first().0 + bit)
                    };
                    for page in pages(block.mask) {
                        assert!(shown.insert(page), "page {page} was shown twice");
                        assert!(pending.contains(&page));
                    }
                    taken.extend(pages(block.mask & filter));
                    if left == 0 {
                        return Take::Stop(filter);
                    }
                    left -= 1;
                    Take::Continue(filter)
                });
                assert_eq!(result.taken, Pages(taken.len() as u64));
                assert!(result.stopped || shown == pending, "a pass shows all that is pending");
                for page in taken {
                    self.took(page);
                }
            }
            Op::TakeRun(most) => match self.backlog.take_run(Pages(most)) {
                Some(run) => {
                    assert!(run.count.0 <= most && run.count.0 > 0);
                    assert!(
                        self.layout
                            .runs()
                            .any(|region| { region.contains(run.first) && run.end() <= region.end() })
                    );
                    run.range().for_each(|page| self.took(page));
                }
                None => assert!(most == 0 || self.pending.is_empty()),
            },
            Op::TakePage(page) => {
                self.backlog.seek(PageNumber(page));
                assert_eq!(self.backlog.take_page(PageNumber(page)), self.pending.contains(&page));
                if self.pending.contains(&page) {
                    self.took(page);
                }
            }
            _ => {}
        }
    }

    fn gates(&mut self, op: &Op) {
        match *op {
            Op::Close => match self.backlog.close_gate() {
                Ok(gate) => {
                    assert!(self.awaiting.is_none());
                    self.awaiting = Some((gate, std::mem::take(&mut self.sending)));
                }
                Err(error) => {
                    assert!(self.awaiting.is_some());
                    assert!(matches!(error, GateError::StillOpen { .. }));
                }
            },
            Op::Acknowledge => {
                if let Some((gate, pages)) = self.awaiting.take() {
                    assert_eq!(self.backlog.acknowledge(gate), Ok(Pages(pages.len() as u64)));
                    self.arrived
                        .extend(pages.difference(&self.pending).filter(|page| !self.sending.contains(page)));
                }
            }
            Op::WrongAcknowledge(gate) => {
                let awaited = self.awaiting.as_ref().map(|&(gate, _)| gate);
                if awaited != Some(Gate(gate)) {
                    let error = GateError::NotAwaited { got: Gate(gate), awaited };
                    assert_eq!(self.backlog.acknowledge(Gate(gate)), Err(error));
                }
            }
            Op::PutBack => {
                self.pending.append(&mut self.sending);
                if let Some((_, mut pages)) = self.awaiting.take() {
                    self.pending.append(&mut pages);
                }
                let before = self.backlog.pending();
                let returned = self.backlog.put_back();
                assert_eq!(self.backlog.pending().0, before.0 + returned.0);
            }
            Op::Rewind => self.backlog.rewind(),
            _ => {}
        }
    }

    fn check(&self) {
        let pages: BTreeSet<u64> = self.backlog.pending_pages().pages().map(|page| page.0).collect();
        assert_eq!(pages, self.pending);
        assert_eq!(self.backlog.pending().0, self.pending.len() as u64);
        let awaiting = self.awaiting.as_ref().map_or(0, |(_, pages)| pages.len());
        assert_eq!(self.backlog.in_flight().0, (self.sending.len() + awaiting) as u64);
        assert_eq!(
            self.backlog.is_settled(),
            self.pending.is_empty() && self.backlog.in_flight() == Pages(0)
        );
        for page in self.layout.runs().flat_map(PageRun::range) {
            let known = self.pending.contains(&page)
                || self.backlog.is_in_flight(PageNumber(page))
                || self.arrived.contains(&page);
            assert!(known, "page {page} is forgotten");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Every page dirtied is pending, in flight, or acknowledged after it was last taken; and the
    /// counts agree.
    #[test]
    fn a_harvested_page_is_never_forgotten(ops in prop::collection::vec(op(), 1..60)) {
        let mut world = World::new();
        for op in &ops {
            world.mark(op);
            world.take(op);
            world.gates(op);
            world.check();
        }
    }

    /// However a pass is cut into calls, each page is taken once, in order from the cursor.
    #[test]
    fn a_pass_cut_into_pieces_takes_every_page_once(budgets in prop::collection::vec(1..200_u64, 1..30)) {
        let layout = layout();
        let mut backlog = Backlog::new(&layout);
        let mut order = Vec::new();
        let mut budgets = budgets.iter().cycle();
        while backlog.pending() > Pages(0) {
            let mut left = *budgets.next().unwrap();
            backlog.take_with(|block| {
                let mut mask = 0;
                for bit in (0..64).filter(|bit| block.mask >> bit & 1 != 0) {
                    if left == 0 {
                        return Take::Stop(mask);
                    }
                    left -= 1;
                    mask |= 1 << bit;
                    order.push(block.first().0 + bit);
                }
                Take::Continue(mask)
            });
        }
        let all: Vec<u64> = layout.runs().flat_map(PageRun::range).collect();
        prop_assert_eq!(order, all);
    }
}

#[test]
fn an_attempt_starts_with_every_page_pending() {
    let mut backlog = Backlog::new(&layout());
    assert_eq!(backlog.pending(), layout().pages());
    assert_eq!(drain_all(&mut backlog), layout().pages());
    assert_eq!(backlog.pending(), Pages(0));
    assert_eq!(backlog.in_flight(), layout().pages());
}

#[test]
fn a_page_dirtied_in_flight_stays_pending_after_the_acknowledgement() {
    let mut backlog = Backlog::new(&layout());
    drain_all(&mut backlog);
    let gate = backlog.close_gate().unwrap();
    backlog.mark_dirty_word(0, 0b100);
    assert_eq!(backlog.acknowledge(gate), Ok(layout().pages()));
    assert_eq!(backlog.pending(), Pages(1));
    assert_eq!(backlog.in_flight(), Pages(0));
    assert!(backlog.pending_pages().contains(PageNumber(2)));
}

#[test]
fn a_page_in_flight_in_two_rounds_is_forgotten_with_the_second() {
    let mut backlog = Backlog::new(&layout());
    drain_all(&mut backlog);
    let first = backlog.close_gate().unwrap();
    backlog.mark_dirty_word(0, 1);
    drain_all(&mut backlog);
    backlog.acknowledge(first).unwrap();
    assert!(backlog.is_in_flight(PageNumber(0)));
    let second = backlog.close_gate().unwrap();
    backlog.acknowledge(second).unwrap();
    assert!(backlog.is_settled());
}

#[test]
fn a_lost_connection_puts_everything_in_flight_back() {
    let mut backlog = Backlog::new(&layout());
    drain_all(&mut backlog);
    let lost = backlog.close_gate().unwrap();
    backlog.mark_dirty_word(1, u64::MAX);
    drain_all(&mut backlog);
    assert_eq!(backlog.put_back(), layout().pages());
    assert_eq!((backlog.pending(), backlog.in_flight()), (layout().pages(), Pages(0)));
    let late = GateError::NotAwaited { got: lost, awaited: None };
    assert_eq!(backlog.acknowledge(lost), Err(late));
    drain_all(&mut backlog);
    let next = backlog.close_gate().unwrap();
    assert!(next > lost);
    assert_eq!(backlog.acknowledge(lost), Err(GateError::NotAwaited { got: lost, awaited: Some(next) }));
}

#[test]
fn a_failed_harvest_still_keeps_what_it_found() {
    let mut backlog = Backlog::new(&layout());
    drain_all(&mut backlog);
    let (result, harvested) = backlog
        .harvest_with(|found| {
            found.insert(PageNumber(7)).unwrap();
            Err::<(), _>("log broke half way")
        })
        .unwrap();
    assert!(result.is_err());
    assert_eq!(harvested, Harvested { dirty: Pages(1), newly_pending: Pages(1) });
    assert!(backlog.pending_pages().contains(PageNumber(7)));
}

#[test]
fn skipped_pages_stay_pending_and_are_shown_once_a_call() {
    let mut backlog = Backlog::new(&layout());
    let result = backlog.take_with(|_| Take::Continue(0));
    assert_eq!(result.taken, Pages(0));
    assert!(!result.stopped);
    assert_eq!(backlog.pending(), layout().pages());
}

#[test]
fn a_scan_goes_on_where_it_stopped_unless_rewound() {
    let mut backlog = Backlog::new(&layout());
    backlog.take_with(|_| Take::Stop(0b111));
    assert_eq!(backlog.cursor(), PageNumber(3));
    backlog.mark_dirty_word(0, 0b1);
    let mut first = None;
    backlog.take_with(|block| {
        first.get_or_insert(block.mask);
        Take::Stop(0)
    });
    assert_eq!(first, Some(!0b111));
    backlog.rewind();
    assert_eq!(backlog.take_run(Pages(100)).unwrap().range(), 0..1);
}

#[test]
fn a_line_is_marked_as_its_words_are() {
    let (mut by_line, mut by_word) = (Backlog::new(&layout()), Backlog::new(&layout()));
    drain_all(&mut by_line);
    drain_all(&mut by_word);
    for pages in [[5; 8], [0, 7, 0, u64::MAX, 0, 0, 1, 5]] {
        let new: u32 = (0..8).map(|word| by_word.mark_dirty_word(8 + word, pages[word]).count_ones()).sum();
        assert_eq!(by_line.mark_dirty_line(1, &pages).0, u64::from(new));
    }
    assert_eq!(by_line.finish_harvest(), by_word.finish_harvest());
    assert_eq!(by_line, by_word);
}

#[test]
fn marks_of_a_bitmap_become_pending() {
    let mut backlog = Backlog::new(&layout());
    drain_all(&mut backlog);
    let bitmap = DirtyBitmap::new(layout().numbers());
    bitmap.mark(PageNumber(5)).unwrap();
    bitmap.mark_run(PageRun { first: PageNumber(1152), count: Pages(100) }).unwrap();
    let all = Harvested { dirty: Pages(101), newly_pending: Pages(101) };
    assert_eq!(backlog.harvest(&bitmap), Ok(all));
    assert_eq!(backlog.harvest(&bitmap), Ok(Harvested::default()));
    assert!(backlog.harvest(&DirtyBitmap::new(5)).is_err());
}
