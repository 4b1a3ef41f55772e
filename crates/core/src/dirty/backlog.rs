//! Which pages are pending and which are in flight: the one place where a page could be lost.
//!
//! The engine's driver and the simulator borrow it to merge harvests, to send, and to acknowledge. A page
//! leaves *pending* only for *in flight*, and *in flight* only when its round is acknowledged or put
//! back; nothing here drops a page for any other reason, whatever the order of calls.

mod scan;

use self::scan::Scan;
use super::dirty_bitmap::DirtyBitmap;
use super::page_set::{PageSet, RangeError};
use super::stock::{Expected, Stock};
use super::words::{LINE_WORDS, Line, WORD_PAGES, line_count};
use crate::layout::{PageNumber, PageRun, RamLayout};
use crate::units::Pages;
use std::fmt;

/// The number of a round's gate; the first round of a backlog has gate 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gate(pub u64);

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A gate was closed or acknowledged out of turn. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// The round before the last one is not acknowledged yet.
    #[error("gate {open} is still open: acknowledge it before closing gate {closing}")]
    StillOpen {
        /// The gate that awaits its acknowledgement.
        open: Gate,
        /// The gate that was to be closed.
        closing: Gate,
    },
    /// An acknowledgement for a gate that is not the one awaited.
    #[error("gate {got} was acknowledged, which is not the one awaited")]
    NotAwaited {
        /// The gate that was acknowledged.
        got: Gate,
        /// The gate that awaits its acknowledgement, if any does.
        awaited: Option<Gate>,
    },
}

/// Pending pages of one word, as [`Backlog::take_with`] shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Index of the word: its pages begin at 64 times this.
    pub word: usize,
    /// The pending pages, lowest number in the lowest bit; never zero.
    pub mask: u64,
}

impl Block {
    /// The page of bit 0, whether pending or not.
    #[inline]
    pub const fn first(self) -> PageNumber {
        PageNumber(self.word as u64 * WORD_PAGES)
    }
}

/// What to do with a [`Block`]: which of its pages to send, and whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// These pages are sent, the others skipped: they stay pending. Show the next block.
    Continue(u64),
    /// These pages are sent. The next call begins behind the highest of them, and where this block
    /// began if there is none: what follows was not skipped, its turn has not come.
    Stop(u64),
}

/// What to do with a line of words, as [`Backlog::take_lines_with`] shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTake {
    /// The pages of each word that are sent; the others stay pending.
    pub taken: [u64; LINE_WORDS],
    /// The word (0 to 7) at which the visitor stopped, as [`Take::Stop`] does; words behind it were not
    /// looked at.
    pub stopped_at: Option<usize>,
}

/// What one [`Backlog::take_with`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Pages that went from pending to in flight.
    pub taken: Pages,
    /// Whether the visitor stopped it; otherwise every pending page was shown once.
    pub stopped: bool,
}

/// What a harvest found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Harvested {
    /// Pages found dirty.
    pub dirty: Pages,
    /// Those of them that were not pending already.
    pub newly_pending: Pages,
}

/// Pages pending and in flight of one migration attempt.
///
/// There are two kinds, by the [`Stock`] that holds the pages: the exact one knows every page
/// ([`PageSet`], what `Backlog` means if nothing is added), the fluid one only how many are expected
/// ([`Expected`]). Gates, acknowledgements and putting back, where a page could be lost,
/// are the same code.
///
/// *Pending* pages are still to be sent: all of them at first, then what harvests find. Taking a page
/// makes it *in flight* in the round being sent. [`Backlog::close_gate`] ends that round; when the
/// other side has all of it, [`Backlog::acknowledge`] forgets it. The round being sent and the one
/// awaiting its acknowledgement are the only two open gates. A page dirtied while it is in flight is
/// pending as well and stays so when the flight is acknowledged; sent again meanwhile, it is in
/// flight in both rounds and counts in both.
///
/// Memory is at most four sets (128 MiB for 1 TiB in pages of 4 KiB), each taken when first needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backlog<S = PageSet> {
    pub(super) pending: S,
    /// In flight in the round being sent.
    pub(super) sending: Option<S>,
    /// The round before it, if its gate is closed but not acknowledged.
    awaiting: Option<(Gate, Option<S>)>,
    /// An empty set kept for reuse.
    spare: Option<S>,
    /// The gate of the round being sent.
    gate: Gate,
    /// Where the next scan begins.
    cursor: u64,
    /// What was marked since the last [`Backlog::finish_harvest`].
    harvest: Harvested,
    /// The last words of regions that do not fill them, with the bits that are pages.
    edges: Vec<(usize, u64)>,
    /// First page numbers of the regions but the first: no run reaches across.
    borders: Vec<u64>,
}

impl Backlog {
    /// The start of an attempt: every page of `layout` is pending.
    pub fn new(layout: &RamLayout) -> Self {
        let edges = layout.runs().map(PageRun::end).filter(|end| !end.0.is_multiple_of(WORD_PAGES));
        Self {
            pending: PageSet::full_from(layout),
            sending: None,
            awaiting: None,
            spare: None,
            gate: Gate(0),
            cursor: 0,
            harvest: Harvested::default(),
            edges: edges
                .map(|end| ((end.0 / WORD_PAGES) as usize, !(u64::MAX << (end.0 % WORD_PAGES))))
                .collect(),
            borders: layout.runs().skip(1).map(|run| run.first.0).collect(),
        }
    }

    /// The pages still to be sent.
    #[inline]
    pub fn pending_pages(&self) -> &PageSet {
        &self.pending
    }

    /// Whether a page is in flight in an open round.
    pub fn is_in_flight(&self, page: PageNumber) -> bool {
        self.open_sets().any(|set| set.contains(page))
    }

    /// Where the next scan begins.
    #[inline]
    pub fn cursor(&self) -> PageNumber {
        PageNumber(self.cursor)
    }

    /// Begins the next scan at page 0, as hypervisors do that walk all of memory in each round.
    #[inline]
    pub fn rewind(&mut self) {
        self.cursor = 0;
    }

    fn empty_set(spare: &mut Option<PageSet>, numbers: u64) -> PageSet {
        spare.take().unwrap_or_else(|| PageSet::new(numbers))
    }

    // ---- what a harvest found ----

    /// Makes the pages of `mask` in word `index` pending and returns those that were not.
    ///
    /// For the simulator, which makes dirty pages by the word; padding is the caller's to leave out
    /// (see [`RamLayout::numbers`]). Counts are kept for [`Backlog::finish_harvest`]. A word beyond the
    /// end is a bug of the caller, caught in debug builds and ignored in others.
    #[inline]
    pub fn mark_dirty_word(&mut self, index: usize, mask: u64) -> u64 {
        let new = self.pending.or_word(index, mask);
        let newly_pending = u64::from(new.count_ones());
        self.harvest.newly_pending.0 += newly_pending;
        // Most dirty words are new as a whole.
        self.harvest.dirty.0 += if new == mask { newly_pending } else { u64::from(mask.count_ones()) };
        new
    }

    /// Makes the pages of eight words, those of line `index`, pending and returns how many were not.
    ///
    /// [`Backlog::mark_dirty_word`] for eight words at a time and faster for each: for writers that dirty
    /// much. What it says of padding and of the end holds here.
    #[inline]
    pub fn mark_dirty_line(&mut self, index: usize, pages: &Line) -> Pages {
        let new = self.pending.or_line(index, pages);
        self.harvest.newly_pending.0 += new.0;
        self.harvest.dirty.0 += line_count(pages);
        new
    }

    /// What [`Backlog::mark_dirty_word`] and [`Backlog::mark_dirty_line`] marked since the last call.
    pub fn finish_harvest(&mut self) -> Harvested {
        std::mem::take(&mut self.harvest)
    }

    /// Makes all pages of a harvest pending and leaves `found` empty. Padding is left out.
    ///
    /// # Errors
    ///
    /// [`RangeError::OtherGuest`] if `found` is over another number of pages; nothing is changed.
    pub fn harvested(&mut self, found: &mut PageSet) -> Result<Harvested, RangeError> {
        if found.numbers() != self.pending.numbers() {
            return Err(RangeError::OtherGuest { left: self.pending.numbers(), right: found.numbers() });
        }
        for &(word, pages) in &self.edges {
            found.clear_mask(word, !pages);
        }
        let dirty = found.count();
        let newly_pending = found.drain_into(&mut self.pending)?;
        Ok(Harvested { dirty, newly_pending })
    }

    /// Lends `fetch` an empty set to put dirty pages in, and makes them pending.
    ///
    /// Whatever `fetch` returns, also an error of its own, what it put into the set is merged: fetching
    /// cleared the dirty log, so these pages exist nowhere else.
    ///
    /// # Errors
    ///
    /// [`RangeError::OtherGuest`] if `fetch` exchanged the set for one over another number of pages.
    pub fn harvest_with<R>(
        &mut self,
        fetch: impl FnOnce(&mut PageSet) -> R,
    ) -> Result<(R, Harvested), RangeError> {
        let mut found = Self::empty_set(&mut self.spare, self.pending.numbers());
        let result = fetch(&mut found);
        let harvested = self.harvested(&mut found)?;
        self.spare = Some(found);
        Ok((result, harvested))
    }

    /// Moves the marks of `bitmap` to pending.
    ///
    /// # Errors
    ///
    /// [`RangeError::OtherGuest`] if the bitmap is over another number of pages; nothing is changed.
    pub fn harvest(&mut self, bitmap: &DirtyBitmap) -> Result<Harvested, RangeError> {
        let (result, harvested) = self.harvest_with(|found| bitmap.harvest_into(found))?;
        result.map(|_| harvested)
    }

    // ---- sending ----

    /// Shows the pending pages, from the cursor on and around the end of memory, word by word, and
    /// moves those that `visit` asks for to the round being sent.
    ///
    /// Ends when `visit` stops it or every pending page was shown once. The cursor stays where it
    /// ended. What `visit` asks for beyond the block's mask is ignored.
    pub fn take_with(&mut self, mut visit: impl FnMut(Block) -> Take) -> Taken {
        self.take_lines_with(|first, pending| {
            let mut answer = LineTake { taken: [0; LINE_WORDS], stopped_at: None };
            for (offset, &mask) in pending.iter().enumerate().filter(|(_, mask)| **mask != 0) {
                match visit(Block { word: first + offset, mask }) {
                    Take::Continue(pages) => answer.taken[offset] = pages,
                    Take::Stop(pages) => {
                        answer.taken[offset] = pages;
                        answer.stopped_at = Some(offset);
                        break;
                    }
                }
            }
            answer
        })
    }

    /// The same, eight words at a time: `visit` gets the index of the first word and the pending pages of
    /// all eight, some of which may be none. For the simulator, where calls count.
    #[inline]
    pub fn take_lines_with(&mut self, mut visit: impl FnMut(usize, &[u64; LINE_WORDS]) -> LineTake) -> Taken {
        let mut result = Taken::default();
        if self.pending.is_empty() {
            return result;
        }
        let numbers = self.pending.numbers();
        let sending = self.sending.get_or_insert_with(|| Self::empty_set(&mut self.spare, numbers));
        let mut scan = Scan { pending: self.pending.parts(), sending: sending.parts(), result: &mut result };
        let begin = self.cursor;
        for part in [begin..numbers, 0..begin] {
            if let Some(stopped_at) = scan.run(&part, &mut visit) {
                // Not beyond the end, so that a scan that stopped at the last page wraps.
                self.cursor = if stopped_at >= numbers { 0 } else { stopped_at };
                break;
            }
        }
        result
    }

    /// Moves the next run of pending pages, at most `most`, to the round being sent.
    ///
    /// From the cursor on and around the end of memory; no run reaches from one region into the next.
    /// `None` if nothing is pending or `most` is zero.
    pub fn take_run(&mut self, most: Pages) -> Option<PageRun> {
        let from = PageNumber(self.cursor);
        let run = self.pending.next_run(from, most).or_else(|| self.pending.next_run(PageNumber(0), most))?;
        let border = self.borders.partition_point(|&first| first <= run.first.0);
        let limit = self.borders.get(border).copied().unwrap_or(u64::MAX);
        let count = Pages(run.count.0.min(limit - run.first.0));
        let run = PageRun { count, ..run };
        let numbers = self.pending.numbers();
        let sending = self.sending.get_or_insert_with(|| Self::empty_set(&mut self.spare, numbers));
        // In flight first: should the run not fit there, which it does, it is still pending.
        sending.insert_run(run).ok()?;
        self.pending.remove_run(run);
        self.cursor = if run.end().0 >= numbers { 0 } else { run.end().0 };
        Some(run)
    }

    /// Moves this page to the round being sent, if it is pending; says whether it was.
    ///
    /// For pages that somebody waits for. The cursor stays where it is; see [`Backlog::seek`].
    pub fn take_page(&mut self, page: PageNumber) -> bool {
        if !self.pending.contains(page) {
            return false;
        }
        let numbers = self.pending.numbers();
        let sending = self.sending.get_or_insert_with(|| Self::empty_set(&mut self.spare, numbers));
        // In flight first, as in `take_run`.
        sending.insert(page).is_ok() && self.pending.remove(page)
    }

    /// Begins the next scan at `page`: what is near a page that was asked for will be asked for soon.
    /// Beyond the end it begins at page 0.
    pub fn seek(&mut self, page: PageNumber) {
        self.cursor = if page.0 < self.pending.numbers() { page.0 } else { 0 };
    }
}

impl Backlog<Expected> {
    /// The start of an attempt: all of these pages are pending.
    pub fn expecting(pages: Pages) -> Self {
        Self {
            pending: Expected::new(pages.0 as f64),
            sending: None,
            awaiting: None,
            spare: None,
            gate: Gate(0),
            cursor: 0,
            harvest: Harvested::default(),
            edges: Vec::new(),
            borders: Vec::new(),
        }
    }

    /// The pages expected to be pending.
    #[inline]
    pub fn expected(&self) -> Expected {
        self.pending
    }

    /// Moves this many pages, at most all, to the round being sent; gives how many.
    #[inline]
    pub fn take(&mut self, pages: Expected) -> Expected {
        let taken = self.pending.split(pages);
        self.sending.get_or_insert_default().add(taken);
        taken
    }

    /// Moves all pages to the round being sent.
    #[inline]
    pub fn take_all(&mut self) {
        let all = std::mem::take(&mut self.pending);
        self.sending.get_or_insert_default().add(all);
    }

    /// A harvest leaves so many pages pending. What was pending stays so: it can't be fewer than before.
    #[inline]
    pub fn harvest_to(&mut self, pending: Expected) {
        self.pending = self.pending.max(pending);
    }
}

impl<S: Stock> Backlog<S> {
    /// How many pages are still to be sent. Costs nothing.
    #[inline]
    pub fn pending(&self) -> Pages {
        self.pending.count()
    }

    /// Whether so many pages are still to be sent.
    #[inline]
    pub fn holds(&self, pending: Pages) -> bool {
        if pending == Pages::ZERO { self.pending.is_empty() } else { self.pending.count() == pending }
    }

    /// How many pages are in flight; one that is in flight in both open rounds counts twice. Costs
    /// nothing.
    #[inline]
    pub fn in_flight(&self) -> Pages {
        self.open_sets().map(S::count).fold(Pages(0), |sum, count| Pages(sum.0 + count.0))
    }

    /// Whether nothing is pending and nothing in flight: the other side has all that was harvested.
    #[inline]
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.in_flight().0 == 0
    }

    fn open_sets(&self) -> impl Iterator<Item = &S> {
        let awaiting = self.awaiting.as_ref().and_then(|(_, set)| set.as_ref());
        self.sending.iter().chain(awaiting)
    }

    /// The gate of the round being sent.
    #[inline]
    pub fn gate(&self) -> Gate {
        self.gate
    }

    /// The gate that is closed and not acknowledged yet.
    #[inline]
    pub fn awaited(&self) -> Option<Gate> {
        self.awaiting.as_ref().map(|&(gate, _)| gate)
    }

    // ---- gates ----

    /// Ends the round being sent: what is taken from now on belongs to the next one.
    ///
    /// Returns the gate to be acknowledged.
    ///
    /// # Errors
    ///
    /// [`GateError::StillOpen`] if the gate before is not acknowledged yet; nothing is changed.
    pub fn close_gate(&mut self) -> Result<Gate, GateError> {
        if let Some(open) = self.awaited() {
            return Err(GateError::StillOpen { open, closing: self.gate });
        }
        let closed = self.gate;
        self.awaiting = Some((closed, self.sending.take()));
        self.gate = Gate(closed.0 + 1);
        Ok(closed)
    }

    /// The other side has all pages of the round that `gate` closed: they are no longer in flight.
    ///
    /// Those dirtied again meanwhile are pending and stay so. Returns how many pages it was about.
    ///
    /// # Errors
    ///
    /// [`GateError::NotAwaited`] if `gate` is not the oldest closed one; nothing is changed.
    pub fn acknowledge(&mut self, gate: Gate) -> Result<Pages, GateError> {
        let awaited = self.awaited();
        if awaited != Some(gate) {
            return Err(GateError::NotAwaited { got: gate, awaited });
        }
        let Some(mut set) = self.awaiting.take().and_then(|(_, set)| set) else {
            return Ok(Pages(0));
        };
        let arrived = set.count();
        set.clear();
        self.keep(set);
        Ok(arrived)
    }

    /// Makes all pages in flight pending again: the connection is lost, nobody knows what arrived.
    ///
    /// All gates are forgotten; the next round has a number of its own, so that a late acknowledgement
    /// finds no gate. Returns how many pages became pending.
    pub fn put_back(&mut self) -> Pages {
        let mut returned = 0;
        let awaiting = self.awaiting.take().and_then(|(_, set)| set);
        for mut set in self.sending.take().into_iter().chain(awaiting) {
            returned += set.pour_into(&mut self.pending).0;
            self.keep(set);
        }
        self.gate = Gate(self.gate.0 + 1);
        Pages(returned)
    }

    /// Keeps an emptied set for the next round, if there is none yet.
    fn keep(&mut self, set: S) {
        debug_assert!(set.is_empty());
        self.spare.get_or_insert(set);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
