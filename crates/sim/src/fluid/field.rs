//! Memory in the mean: how many pages are expected to be pending, and where in the order of the scan.
//!
//! The world tells it how often each writer had written at every harvest, and how far the scan went; it says
//! what the harvest finds and what lies before the scan. Knows no times and no bytes. The mathematics is
//! in `docs/fluid.md`; in short:
//!
//! *A page is pending if it was written since the harvest that its last sending followed.* So what is to
//! be known of a stretch of addresses is that harvest alone, and the expected share of its pages that
//! are pending follows from the writers' counts then and now. A scan that is cut short leaves the stretch
//! that it did not reach as it was; two harvests later nothing has to be united page by page.

mod law;
mod missing;
mod terrain;

use std::ops::Range;
use std::sync::Arc;

use whimbrel_core::layout::PageRun;

use self::terrain::{Share, Terrain, luck_of_turn};
use crate::config::{ConfigError, GuestConfig};
use crate::guest::{Form, Guest, Layer, Piece};

/// Memory, see the module. Positions are page numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Field {
    /// What does not change in a migration: copies have it in common.
    terrain: Arc<Terrain>,
    writers: usize,
    /// How often each writer had written at each harvest, one harvest after the other; the first is when
    /// tracking began.
    counts: Vec<f64>,
    /// The number of the last harvest.
    last: usize,
    /// In the order of addresses, without gaps.
    spans: Vec<Span>,
    /// Where the scan of this round began, and where it is.
    begun: f64,
    scan: Scan,
    /// What lies before the scan, in its order.
    ahead: Vec<Ahead>,
    /// Of each piece, the share of pages written since the harvest before the last, and its variance.
    fresh: Vec<Share>,
}

/// How far a scan is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    cursor: f64,
    /// The scan went all the way round.
    round_is_over: bool,
    /// The first of what lies before it that is left.
    next: usize,
    /// What lay before it and was passed in part since it was looked at last: which, and where it began.
    partly: Option<(usize, f64)>,
}

/// Memory that was sent last after the same harvest.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    from: f64,
    to: f64,
    /// The number of that harvest; none if it was never sent.
    since: Option<usize>,
}

/// Memory before the scan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ahead {
    pub(super) from: f64,
    pub(super) to: f64,
    /// The share of its pages that is pending.
    pub(super) density: f64,
    /// The share of zero pages among those.
    pub(super) zero: f64,
    /// It was never sent: the destination has not touched its memory.
    pub(super) first: bool,
}

impl Ahead {
    /// No memory.
    const NONE: Self = Self { from: 0.0, to: 0.0, density: 0.0, zero: 0.0, first: false };

    /// Pending pages.
    #[inline]
    pub(super) fn pages(&self) -> f64 {
        (self.to - self.from) * self.density
    }
}

/// What a harvest found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Found {
    /// Pages written since the harvest before.
    pub(super) dirty: f64,
    /// Pages pending now.
    pub(super) pending: f64,
    /// The variance of that number.
    pub(super) variance: f64,
    /// How fast `dirty` grew at last: by how much if the time since the harvest before were as long again and
    /// the pace remained.
    pub(super) growth: f64,
}

impl Field {
    /// Prepares it for another guest, all of whose memory is pending.
    pub(super) fn begin(
        &mut self,
        guest: &Guest,
        config: &GuestConfig,
        zero_runs: Option<&[PageRun]>,
    ) -> Result<(), ConfigError> {
        let terrain = Arc::make_mut(&mut self.terrain);
        terrain.become_of(guest, config, zero_runs)?;
        self.writers = guest.writers();
        self.counts.clear();
        self.last = 0;
        self.spans.clear();
        self.spans.push(Span { from: 0.0, to: self.terrain.memory, since: None });
        (self.begun, self.scan) = (0.0, Scan::default());
        self.fresh.clear();
        self.fresh.resize(self.terrain.pieces.len(), Share::default());
        // All of it is pending.
        let all = |piece: &Piece| {
            let Range { start: from, end: to } = piece.pages;
            Ahead { from, to, density: 1.0, zero: piece.zero, first: true }
        };
        self.ahead.clear();
        self.ahead.extend(self.terrain.pieces.iter().map(all));
        Ok(())
    }

    /// The counts of all harvests, to which the next ones are added before [`Field::harvest`].
    pub(super) fn counts_mut(&mut self) -> &mut Vec<f64> {
        &mut self.counts
    }

    /// The next memory in the order of the scan; none if the round is over.
    #[inline]
    pub(super) fn ahead(&self) -> Option<Ahead> {
        self.ahead.get(self.scan.next).copied()
    }

    /// All of it.
    #[inline]
    pub(super) fn all_ahead(&self) -> &[Ahead] {
        self.ahead.get(self.scan.next..).unwrap_or_default()
    }

    /// What follows on that.
    pub(super) fn behind_ahead(&self) -> Option<Ahead> {
        self.ahead.get(self.scan.next + 1).copied()
    }

    /// How far the scan is. From now on one passing in part can be undone.
    pub(super) fn scan(&mut self) -> Scan {
        self.scan.partly = None;
        self.scan
    }

    /// Goes back to where the scan was, or forward again; gives where it was before. In between are any number of
    /// passings, but only the last one is in part.
    pub(super) fn go_to(&mut self, scan: Scan) -> Scan {
        let mut before = std::mem::replace(&mut self.scan, scan);
        for partly in [&mut before.partly, &mut self.scan.partly].into_iter().flatten() {
            if let Some(ahead) = self.ahead.get_mut(partly.0) {
                std::mem::swap(&mut ahead.from, &mut partly.1);
            }
        }
        before
    }

    /// The scan passes the next memory up to `to`.
    #[inline]
    pub(super) fn pass(&mut self, to: f64) {
        let Some(ahead) = self.ahead.get_mut(self.scan.next) else { return };
        self.scan.cursor = to.min(ahead.to);
        if to < ahead.to {
            self.scan.partly = Some((self.scan.next, ahead.from));
            ahead.from = to;
            return;
        }
        self.scan.next += 1;
        if self.scan.next == self.ahead.len() {
            self.end_round();
        }
    }

    /// The scan passes all memory before it.
    #[inline]
    pub(super) fn pass_all(&mut self) {
        if self.scan.next < self.ahead.len() {
            self.scan.next = self.ahead.len();
            self.end_round();
        }
    }

    /// The scan is where it began, though one that was never stopped ends where its last page was.
    #[inline]
    fn end_round(&mut self) {
        self.scan.round_is_over = true;
        self.scan.cursor = self.begun;
    }

    /// The log was fetched; the counts were added.
    #[inline(always)]
    pub(super) fn harvest(&mut self) -> Found {
        if self.writers == 0 {
            return self.harvest_nothing();
        }
        self.last += 1;
        let last = self.last;
        let whole = self.scan.round_is_over;
        self.settle_after(last - 1);
        // The usual case: all of it was sent in the round before, from the first page on.
        if whole && self.begun == 0.0 { self.harvest_all(last) } else { self.harvest_rest(last) }
    }

    /// The same where not all memory was sent after the harvest before.
    #[inline(never)]
    fn harvest_rest(&mut self, last: usize) -> Found {
        let mut found = Found::default();
        for index in 0..self.terrain.pieces.len() {
            let piece = &self.terrain.pieces[index];
            // Nobody writes there.
            if piece.layers.is_empty() {
                continue;
            }
            let share = self.written(piece, last - 1, last);
            let pages = piece.pages.end - piece.pages.start;
            self.fresh[index] = share;
            found.dirty += pages * share.mean;
            found.growth += pages * share.growth;
        }
        (found.pending, found.variance) = self.look_ahead();
        found
    }

    /// The same where all memory was sent after the harvest before.
    #[inline(always)]
    fn harvest_all(&mut self, last: usize) -> Found {
        let mut found = Found::default();
        let mut count = 0;
        let Self { terrain, writers, counts, fresh, ahead, scan, .. } = self;
        let terrain = &**terrain;
        if ahead.len() < terrain.plots.len() {
            ahead.resize(terrain.plots.len(), Ahead::NONE);
        }
        // What was written up to the harvest before, and to this one.
        let lately = counts.get((last - 1) * *writers..).unwrap_or_default();
        let (before, now) = lately.split_at_checked(*writers).unwrap_or_default();
        for plot in &terrain.plots {
            let (fresh, ahead) = (&mut fresh[plot.piece], &mut ahead[count]);
            let made = |layer: &Layer| now[layer.writer as usize] - before[layer.writer as usize];
            let dirty = if let Some(layer) = &plot.alone {
                let Share { mean, variance, growth } = terrain.written_by(layer, made(layer));
                let share = Share { mean, variance, growth };
                plot.lay(share, luck_of_turn(layer, plot.to - plot.from, share), fresh, &mut found, ahead)
            } else {
                plot.lay(terrain.written(&terrain.pieces[plot.piece], made), 0.0, fresh, &mut found, ahead)
            };
            count += usize::from(dirty);
        }
        ahead.truncate(count);
        scan.next = 0;
        scan.round_is_over = count == 0;
        found
    }

    /// So many pages more are pending than expected, or fewer: of all memory that was sent before in the same
    /// proportion. Gives how many more, as no fewer than none can be.
    pub(super) fn add(&mut self, pages: f64) -> f64 {
        let uncertain = |ahead: &&mut Ahead| ahead.density < 1.0;
        let all: f64 = self.ahead.iter_mut().filter(uncertain).map(|ahead| ahead.pages()).sum();
        let more = pages.max(-0.99 * all);
        for ahead in self.ahead.iter_mut().filter(uncertain) {
            ahead.density *= 1.0 + more / all;
        }
        more
    }

    /// How many pages would be dirty `time` nanoseconds after the last harvest, if writers go on as they did
    /// for `length` nanoseconds before it, or as they want to at most.
    pub(super) fn would_be_dirty(&mut self, time: f64, length: Option<f64>, guest: &Guest) -> f64 {
        if self.writers == 0 {
            return 0.0;
        }
        let (last_one, end) = (self.last, self.counts.len());
        for writer in 0..self.writers {
            let last = self.counts[end - self.writers + writer];
            let pace = match length {
                Some(length) if last_one > 0 => {
                    (last - self.counts[end - 2 * self.writers + writer]) / length
                }
                _ => guest.peak(writer) * 1e-9,
            };
            self.counts.push(last + pace * time);
        }
        let dirty = self.terrain.pieces.iter().map(|piece| {
            (piece.pages.end - piece.pages.start) * self.written(piece, last_one, last_one + 1).mean
        });
        let dirty = dirty.sum();
        self.counts.truncate(end);
        dirty
    }

    /// How many pages fewer the last harvest would have found dirty, had it come earlier by the share `part` of
    /// the time since the one before.
    pub(super) fn dirty_in_the_last(&mut self, part: f64) -> f64 {
        if self.writers == 0 {
            return 0.0;
        }
        let last = self.last;
        let end = self.counts.len();
        for writer in 0..self.writers {
            let [before, now] = [last - 1, last].map(|harvest| self.counts[harvest * self.writers + writer]);
            self.counts.push(now - (now - before) * part.clamp(0.0, 1.0));
        }
        let shares = self.terrain.pieces.iter().zip(&self.fresh);
        let fewer = shares.map(|(piece, now)| {
            let then = self.written(piece, last - 1, last + 1);
            (piece.pages.end - piece.pages.start) * (now.mean - then.mean)
        });
        let fewer = fewer.sum();
        self.counts.truncate(end);
        fewer
    }

    /// Whether a writer in turn has just gone round its pages between the last two harvests, or just not, give
    /// or take this share of what it wrote: on average it then wrote to fewer than in the average time.
    pub(super) fn just_gone_round(&self, part: f64) -> bool {
        let last = self.last;
        last > 0
            && self.terrain.layers.iter().any(|layer| {
                let Form::InTurn(pages) = layer.form else { return false };
                let count = |harvest: usize| self.counts[harvest * self.writers + layer.writer as usize];
                let writes = count(last) - count(last - 1);
                (writes - pages).abs() < part * writes
            })
    }

    #[inline(never)]
    fn harvest_nothing(&mut self) -> Found {
        self.settle_after(0);
        let (pending, variance) = self.look_ahead();
        Found { pending, variance, ..Found::default() }
    }

    /// Notes what was sent in the round that ends; it began with harvest number `since`.
    #[inline(always)]
    fn settle_after(&mut self, since: usize) {
        let since = Some(since);
        let (begun, cursor, memory) = (self.begun, self.scan.cursor, self.terrain.memory);
        if self.scan.round_is_over {
            if let [all] = &mut self.spans[..] {
                all.since = since;
            } else {
                self.spans.clear();
                self.spans.push(Span { from: 0.0, to: memory, since });
            }
        } else if begun <= cursor {
            self.cover(Span { from: begun, to: cursor, since });
        } else {
            self.cover(Span { from: begun, to: memory, since });
            self.cover(Span { from: 0.0, to: cursor, since });
        }
        self.begun = self.scan.cursor;
        self.scan.round_is_over = false;
    }

    /// Lays `new` over the spans that are there.
    fn cover(&mut self, new: Span) {
        if new.from >= new.to {
            return;
        }
        let mut index = 0;
        while index < self.spans.len() {
            let old = self.spans[index];
            let before = Span { to: old.to.min(new.from), ..old };
            let behind = Span { from: old.from.max(new.to), ..old };
            match (before.from < before.to, behind.from < behind.to) {
                (true, true) => {
                    self.spans[index] = before;
                    self.spans.insert(index + 1, behind);
                    index += 2;
                }
                (true, false) => {
                    self.spans[index] = before;
                    index += 1;
                }
                (false, true) => {
                    self.spans[index] = behind;
                    index += 1;
                }
                (false, false) => {
                    self.spans.remove(index);
                }
            }
        }
        let at = self.spans.partition_point(|span| span.from < new.from);
        self.spans.insert(at, new);
    }

    /// Lists what is pending from the cursor on and around the end; gives how much that is and its variance.
    fn look_ahead(&mut self) -> (f64, f64) {
        self.ahead.clear();
        self.scan.next = 0;
        let (mut pending, mut variance) = (0.0, 0.0);
        let last = self.last;
        let parts = [self.scan.cursor..self.terrain.memory, 0.0..self.scan.cursor];
        for part in parts {
            if part.start >= part.end {
                continue;
            }
            for &span in &self.spans {
                for (index, piece) in self.terrain.pieces.iter().enumerate() {
                    // Nobody writes there.
                    if span.since.is_some() && piece.layers.is_empty() {
                        continue;
                    }
                    let from = part.start.max(span.from).max(piece.pages.start);
                    let to = part.end.min(span.to).min(piece.pages.end);
                    if from >= to {
                        continue;
                    }
                    let share = match span.since {
                        None => Share { mean: 1.0, ..Share::default() },
                        Some(since) if since + 1 == last => self.fresh[index],
                        Some(since) => self.written(piece, since, last),
                    };
                    if share.mean > 0.0 {
                        let first = span.since.is_none();
                        let zero = if first { piece.zero } else { 0.0 };
                        self.ahead.push(Ahead { from, to, density: share.mean, zero, first });
                        pending += (to - from) * share.mean;
                        variance +=
                            (to - from) * share.variance + self.luck_of_place(piece, to - from, share);
                    }
                }
            }
        }
        if self.ahead.is_empty() {
            self.scan.round_is_over = true;
        }
        (pending, variance)
    }

    /// The variance of how much of a stretch of a piece is pending by where writers in turn are.
    fn luck_of_place(&self, piece: &Piece, stretch: f64, share: Share) -> f64 {
        match &self.terrain.layers[piece.layers.start as usize..piece.layers.end as usize] {
            [layer] => luck_of_turn(layer, stretch, share),
            _ => 0.0,
        }
    }

    /// How often the layer's writer wrote between two harvests.
    #[inline]
    fn made(&self, layer: &Layer, since: usize, until: usize) -> f64 {
        let count = |harvest: usize| self.counts[harvest * self.writers + layer.writer as usize];
        count(until) - count(since)
    }

    /// The share of a piece's pages that were written between two harvests.
    fn written(&self, piece: &Piece, since: usize, until: usize) -> Share {
        self.terrain.written(piece, |layer| self.made(layer, since, until))
    }
}

#[cfg(test)]
mod tests;
