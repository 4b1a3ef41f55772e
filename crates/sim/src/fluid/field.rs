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

use std::ops::Range;

use whimbrel_core::layout::PageRun;

use crate::config::{ConfigError, GuestConfig};
use crate::guest::{Division, Form, Guest, Layer, Missing, MissingGroup, Mix, Piece};

/// Memory, see the module. Positions are page numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Field {
    memory: f64,
    pieces: Vec<Piece>,
    layers: Vec<Layer>,
    division: Division,
    /// Of each writer, which groups its law has, if it has any.
    laws: Vec<Range<u32>>,
    /// Shares of the pages, and of the writes that each of these pages gets.
    groups: Vec<[f64; 2]>,
    writers: usize,
    /// How often each writer had written at each harvest, one harvest after the other; the first is when
    /// tracking began.
    counts: Vec<f64>,
    /// In the order of addresses, without gaps.
    spans: Vec<Span>,
    /// Where the scan of this round began, and where it is.
    begun: f64,
    cursor: f64,
    /// The scan went all the way round.
    round_is_over: bool,
    /// What lies before the scan, in its order, and the first of it that is left.
    ahead: Vec<Ahead>,
    next: usize,
    /// Of each piece, the share of pages written since the harvest before the last, and its variance.
    fresh: Vec<Share>,
}

/// Memory that was sent last after the same harvest.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    from: f64,
    to: f64,
    /// The number of that harvest; none if it was never sent.
    since: Option<usize>,
}

/// A share of pages: the mean, the variance of each page, and how fast the mean grew at last: by how much if
/// the time went on for as long again at that pace.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    mean: f64,
    variance: f64,
    growth: f64,
}

/// The share of pages that some writes leave untouched.
#[derive(Clone, Copy, Debug)]
struct Untouched {
    share: f64,
    /// The variance of a page.
    spread: f64,
    /// How fast the share falls, for each time that so many writes are made.
    loss: f64,
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
        self.laws.clear();
        self.groups.clear();
        guest.pieces(config, zero_runs, (&mut self.pieces, &mut self.layers), &mut self.division)?;
        self.writers = guest.writers();
        for writer in 0..self.writers as u32 {
            let first = self.groups.len() as u32;
            let groups = guest.groups(writer);
            let pages: f64 = groups.iter().map(|group| group.pages).sum();
            self.groups.extend(groups.iter().map(|group| [group.pages / pages, group.weight]));
            self.laws.push(first..self.groups.len() as u32);
        }
        self.memory = self.pieces.last().map_or(0.0, |piece| piece.pages.end);
        self.counts.clear();
        self.spans.clear();
        self.spans.push(Span { from: 0.0, to: self.memory, since: None });
        (self.begun, self.cursor, self.round_is_over) = (0.0, 0.0, false);
        self.fresh.clear();
        self.fresh.resize(self.pieces.len(), Share::default());
        self.look_ahead();
        Ok(())
    }

    /// The counts of all harvests, to which the next ones are added before [`Field::harvest`].
    pub(super) fn counts_mut(&mut self) -> &mut Vec<f64> {
        &mut self.counts
    }

    /// The next memory in the order of the scan; none if the round is over.
    #[inline]
    pub(super) fn ahead(&self) -> Option<Ahead> {
        self.ahead.get(self.next).copied()
    }

    /// What follows on that.
    pub(super) fn behind_ahead(&self) -> Option<Ahead> {
        self.ahead.get(self.next + 1).copied()
    }

    /// The scan passes the next memory up to `to`.
    #[inline]
    pub(super) fn pass(&mut self, to: f64) {
        let Some(ahead) = self.ahead.get_mut(self.next) else { return };
        self.cursor = to.min(ahead.to);
        if to < ahead.to {
            ahead.from = to;
            return;
        }
        self.next += 1;
        if self.next == self.ahead.len() {
            // Where it began, though a scan that was never stopped ends where its last page was.
            self.round_is_over = true;
            self.cursor = self.begun;
        }
    }

    /// How often the log was fetched, its start counted.
    fn harvests(&self) -> usize {
        self.counts.len().checked_div(self.writers).unwrap_or(0)
    }

    /// The log was fetched; the counts were added.
    pub(super) fn harvest(&mut self) -> Found {
        if self.writers == 0 {
            return self.harvest_nothing();
        }
        self.settle_after(self.harvests() - 2);
        let last = self.harvests() - 1;
        let mut found = Found::default();
        for index in 0..self.pieces.len() {
            let piece = &self.pieces[index];
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
        let (harvests, end) = (self.harvests(), self.counts.len());
        for writer in 0..self.writers {
            let last = self.counts[end - self.writers + writer];
            let pace = match length {
                Some(length) if harvests > 1 => {
                    (last - self.counts[end - 2 * self.writers + writer]) / length
                }
                _ => guest.peak(writer) * 1e-9,
            };
            self.counts.push(last + pace * time);
        }
        let dirty = self.pieces.iter().map(|piece| {
            (piece.pages.end - piece.pages.start) * self.written(piece, harvests - 1, harvests).mean
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
        let last = self.harvests() - 1;
        let end = self.counts.len();
        for writer in 0..self.writers {
            let [before, now] = [last - 1, last].map(|harvest| self.counts[harvest * self.writers + writer]);
            self.counts.push(now - (now - before) * part.clamp(0.0, 1.0));
        }
        let shares = self.pieces.iter().zip(&self.fresh);
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
        let harvests = self.harvests();
        harvests > 1
            && self.layers.iter().any(|layer| {
                let Form::InTurn(pages) = layer.form else { return false };
                let count = |harvest: usize| self.counts[harvest * self.writers + layer.writer as usize];
                let writes = count(harvests - 1) - count(harvests - 2);
                (writes - pages).abs() < part * writes
            })
    }

    /// What lies before the scan, by pieces, in the order of addresses.
    pub(super) fn missing(&self) -> Vec<Missing> {
        let mut missing: Vec<Missing> = Vec::with_capacity(self.ahead.len());
        for ahead in &self.ahead[self.next..] {
            let piece = self.pieces.partition_point(|piece| piece.pages.end <= ahead.from);
            let Ahead { from, to, density, zero, .. } = *ahead;
            missing.push(Missing { from, to, density: density.min(1.0), zero, piece });
        }
        missing.sort_by(|one, other| one.from.total_cmp(&other.from));
        missing
    }

    /// Of each piece, who writes there and how.
    pub(super) fn forms(&self) -> Vec<Vec<(usize, Form)>> {
        let of = |piece: &Piece| {
            let layers = &self.layers[piece.layers.start as usize..piece.layers.end as usize];
            layers.iter().map(|layer| (layer.writer as usize, layer.form)).collect()
        };
        self.pieces.iter().map(of).collect()
    }

    /// Of each writer, of which groups of its law the pages before the scan are.
    pub(super) fn mixes(&self) -> Vec<Mix> {
        let last = self.harvests().saturating_sub(1);
        (0..self.writers).map(|writer| self.mix(writer, last)).collect()
    }

    fn mix(&self, writer: usize, last: usize) -> Mix {
        let law = &self.laws[writer];
        let groups = &self.groups[law.start as usize..law.end as usize];
        let mixed = |piece: &Piece| {
            let layers = &self.layers[piece.layers.start as usize..piece.layers.end as usize];
            layers.iter().any(|layer| layer.writer as usize == writer && layer.form == Form::Mixed)
        };
        let here = self.pieces.iter().filter(|piece| mixed(piece));
        let pages: f64 = here.map(|piece| piece.pages.end - piece.pages.start).sum();
        let group = |&[share, weight]: &[f64; 2]| MissingGroup { part: 0.0, weight, pages: share * pages };
        let mut mix: Mix = groups.iter().map(group).collect();
        for ahead in &self.ahead[self.next..] {
            let piece = self.pieces.partition_point(|piece| piece.pages.end <= ahead.from);
            if !mixed(&self.pieces[piece]) {
                continue;
            }
            let span = self.spans.iter().find(|span| span.from <= ahead.from && ahead.from < span.to);
            let since = span.and_then(|span| span.since);
            for (one, &[share, weight]) in mix.iter_mut().zip(groups) {
                let written = since.map_or(1.0, |since| {
                    let count = |harvest: usize| self.counts[harvest * self.writers + writer];
                    1.0 - (-weight * (count(last) - count(since))).exp()
                });
                one.part += (ahead.to - ahead.from) * share * written;
            }
        }
        let sum: f64 = mix.iter().map(|group| group.part).sum();
        mix.iter_mut().for_each(|group| group.part /= sum.max(f64::MIN_POSITIVE));
        mix
    }

    fn harvest_nothing(&mut self) -> Found {
        self.settle_after(0);
        let (pending, variance) = self.look_ahead();
        Found { pending, variance, ..Found::default() }
    }

    /// Notes what was sent in the round that ends; it began with harvest number `since`.
    fn settle_after(&mut self, since: usize) {
        let since = Some(since);
        let (begun, cursor, memory) = (self.begun, self.cursor, self.memory);
        if self.round_is_over {
            self.spans.clear();
            self.spans.push(Span { from: 0.0, to: memory, since });
        } else if begun <= cursor {
            self.cover(Span { from: begun, to: cursor, since });
        } else {
            self.cover(Span { from: begun, to: memory, since });
            self.cover(Span { from: 0.0, to: cursor, since });
        }
        self.begun = self.cursor;
        self.round_is_over = false;
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
        self.next = 0;
        let (mut pending, mut variance) = (0.0, 0.0);
        let last = self.harvests().saturating_sub(1);
        let parts = [self.cursor..self.memory, 0.0..self.cursor];
        for part in parts {
            if part.start >= part.end {
                continue;
            }
            for &span in &self.spans {
                for (index, piece) in self.pieces.iter().enumerate() {
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
            self.round_is_over = true;
        }
        (pending, variance)
    }

    /// The variance of how much of a stretch of a piece is among what a writer wrote in turn, who may be
    /// anywhere. (The mean and the square of what two arcs of a circle have in common, of which one lies
    /// anywhere; what an arc leaves out has the same variance.)
    fn luck_of_place(&self, piece: &Piece, stretch: f64, share: Share) -> f64 {
        let layers = &self.layers[piece.layers.start as usize..piece.layers.end as usize];
        let [Layer { form: Form::InTurn(pages), .. }] = layers else { return 0.0 };
        let half = |part: f64| part.min(pages - part).max(0.0);
        let (one, other) = (half(stretch), half(share.mean * pages));
        let (short, long) = (one.min(other), one.max(other));
        let square = short * short * (long - short / 3.0) / pages;
        (square - (one * other / pages).powi(2)).max(0.0)
    }

    /// The share of a piece's pages that were written between two harvests.
    #[inline]
    fn written(&self, piece: &Piece, since: usize, until: usize) -> Share {
        let layers = &self.layers[piece.layers.start as usize..piece.layers.end as usize];
        let (mut clean, mut variance, mut growth) = (1.0, 0.0, 0.0);
        for layer in layers {
            let writer = layer.writer as usize;
            let count = |harvest: usize| self.counts[harvest * self.writers + writer];
            let made = count(until) - count(since);
            let Untouched { share, spread, loss } = self.untouched(layer, made);
            // Layers are independent of each other.
            variance = spread * clean * clean + variance * share * share + variance * spread;
            growth = growth * share + loss * clean;
            clean *= share;
        }
        Share { mean: 1.0 - clean, variance, growth }
    }

    /// The share of pages that `writes` of a layer's writer leave untouched.
    #[inline]
    fn untouched(&self, layer: &Layer, writes: f64) -> Untouched {
        match layer.form {
            Form::Even(weight) => {
                let touches = writes * weight;
                let share = (-touches).exp();
                Untouched { share, spread: share * (1.0 - share), loss: touches * share }
            }
            Form::InTurn(pages) => {
                let gone = writes / pages;
                let loss = if gone < 1.0 { gone } else { 0.0 };
                Untouched { share: (1.0 - gone).max(0.0), spread: 0.0, loss }
            }
            Form::Mixed => {
                let law = &self.laws[layer.writer as usize];
                let groups = &self.groups[law.start as usize..law.end as usize];
                let (mut share, mut square, mut loss) = (0.0, 0.0, 0.0);
                for [pages, weight] in groups {
                    let touches = writes * weight;
                    let untouched = (-touches).exp();
                    share += pages * untouched;
                    square += pages * untouched * untouched;
                    loss += pages * touches * untouched;
                }
                Untouched { share, spread: share - square, loss }
            }
        }
    }
}

#[cfg(test)]
mod tests;
