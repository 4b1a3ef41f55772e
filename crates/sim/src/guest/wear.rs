//! How often a page was written, for who must know how much of it changed.
//!
//! Asked by the codec for single pages, at the time that the guest was told last. Draws nothing: means, or
//! exact counts where a writer is deterministic. Not used where nothing is encoded.

use super::Guest;

/// How often a page was written up to some moment, since the beginning. Only differences mean something.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Wear {
    /// The mean of a Poisson number.
    pub(crate) mean: f64,
    /// Exactly so many by sequential writers.
    pub(crate) count: f64,
}

/// One writer's part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Touch {
    pub(super) before: Wear,
    pub(super) found: Wear,
    pub(super) now: Wear,
    /// Bytes that a write changes.
    pub(super) size: f64,
    /// Always the same bytes.
    pub(super) fixed: bool,
}

/// The wear of a page at the harvest that found it dirty, at the one before that, and now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct History {
    pub(crate) before: Wear,
    pub(crate) found: Wear,
    pub(crate) now: Wear,
    /// Bytes that a write changes. Of several writers, the mean by their writes since `before`.
    pub(crate) size: f64,
    /// All of them always change the same bytes.
    pub(crate) fixed: bool,
    /// Of the written pages, the share that changed.
    pub(crate) changing: f64,
}

impl Wear {
    fn add(&mut self, other: Self) {
        self.mean += other.mean;
        self.count += other.count;
    }

    /// Writes since `earlier`.
    fn since(self, earlier: Self) -> f64 {
        self.mean - earlier.mean + self.count - earlier.count
    }
}

impl Guest {
    /// How `page` was written up to the latest time that the guest was told. It was found dirty in the last
    /// harvest, or is `left_over` from the one before.
    pub(crate) fn history(&mut self, page: u64, left_over: bool) -> History {
        let changing = 1.0 - self.unchanged.0.as_f64();
        let none = Wear::default();
        // A page of no writer that was dirty all the same: taken to have changed all over.
        let all = self.layout.page_size().bytes().as_f64();
        let mut sum = History { before: none, found: none, now: none, size: all, fixed: true, changing };
        let (mut sizes, mut total, mut largest) = (0.0, 0.0, None::<f64>);
        for writer in &mut self.writers {
            if !writer.words().contains(&((page / 64) as usize)) {
                continue;
            }
            let writes = writer.writes(self.clock, &self.held);
            let Some(touch) = writer.touch(page, left_over, writes) else { continue };
            sum.before.add(touch.before);
            sum.found.add(touch.found);
            sum.now.add(touch.now);
            sum.fixed &= touch.fixed;
            let share = touch.now.since(touch.before).max(0.0);
            sizes += share * touch.size;
            total += share;
            largest = Some(largest.map_or(touch.size, |size| size.max(touch.size)));
        }
        if let Some(largest) = largest {
            sum.size = if total > 0.0 { sizes / total } else { largest };
        }
        sum
    }
}
