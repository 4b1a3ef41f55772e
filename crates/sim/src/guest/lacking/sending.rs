//! What is sent behind a guest that lacks pages: a slice at a time, between two looks for requests.
//!
//! As the exact sender does it: it goes through words of 64 pages, looks at its clock when a batch of pages has been
//! copied since it looked last, and sleeps whenever the queue is full.

use super::{Flight, Lacking, Missing, NONE, Push, WORD, pages, unit};
use crate::fluid::looks::pages_between;
use crate::guest::Generator;
use crate::link::Nanos;

/// The source looks for requests at least this often, nanoseconds.
const LOOK: Nanos = 1e6;

/// A slice in progress.
#[derive(Clone, Copy, Debug, Default)]
struct Slice {
    /// Bytes that find room before the sender sleeps.
    room: f64,
    /// Bytes copied, and the time it took without the sleeps.
    bytes: f64,
    busy: Nanos,
    /// Pages since the last look at the clock.
    unlooked: f64,
}

/// The rhythm of a sender on a link slower than memory.
#[derive(Clone, Copy, Debug)]
struct Sleeps {
    /// Bytes copied between two of them.
    quantum: f64,
    length: Nanos,
}

impl Slice {
    fn sleeps(&self, of: Sleeps) -> f64 {
        ((self.bytes - self.room) / of.quantum).ceil().max(0.0)
    }

    fn length(&self, of: Sleeps) -> Nanos {
        self.busy + self.sleeps(of) * of.length
    }

    /// Whether it ends at the end of a word, as the sender looks at its clock there.
    fn ends(&mut self, of: Sleeps, batch: f64) -> bool {
        let looks = self.unlooked >= batch - NONE;
        if looks {
            self.unlooked = 0.0;
        }
        looks && self.length(of) >= LOOK
    }

    /// How many more pages, of so many bytes that take so long to copy, make it as long as it has to be.
    fn lacks(&self, of: Sleeps, (bytes, busy): (f64, Nanos)) -> f64 {
        let [left, speed] = [LOOK - self.busy, bytes / busy];
        let room = self.room - self.bytes;
        let sleeps = ((left * speed - room) / (of.quantum + of.length * speed)).ceil().max(0.0);
        let awake = (left - sleeps * of.length) * speed;
        let asleep = if sleeps > 0.0 { room + (sleeps - 1.0) * of.quantum } else { 0.0 };
        awake.max(asleep).max(0.0) / bytes
    }
}

/// The pages after which the sender looks at its clock.
#[derive(Clone, Copy, Debug)]
struct Looks {
    first: f64,
    later: f64,
}

impl Looks {
    /// Where in `ahead` the first look comes after so many pages; none if not in it.
    fn after(self, pages: f64, ahead: Missing, rng: &mut Generator) -> Option<f64> {
        let Self { first, later } = self;
        // Words are zero as a whole, and a slice ends among others.
        let full = if ahead.zero < 0.99 { 1.0 - ahead.zero } else { 1.0 };
        let looks = ((pages * full - first) / later).floor() + 1.0;
        let mut end = ahead.from + (first + looks.max(0.0) * later) / full / ahead.density;
        if ahead.density < 1.0 && end < ahead.to {
            // It comes at the end of a word: which, hangs on the pages that are missing in those before.
            let next = ((ahead.from + NONE) / WORD).ceil() * WORD;
            end = ((end / WORD + unit(rng)).floor() * WORD).max(next);
        }
        (end < ahead.to).then_some(end)
    }

    /// Pages since the last of them before the end of so many; before those there were `before`.
    fn unlooked(self, before: f64, pages: f64) -> f64 {
        let Self { first, later } = self;
        if pages < first + NONE {
            return before + pages;
        }
        let since = (pages - first - NONE) % later;
        if since > later - 2.0 * NONE { later } else { since }
    }
}

impl Lacking<'_> {
    pub(super) fn queued(&self, now: Nanos) -> f64 {
        (self.drained - now).max(0.0) * self.push.rate
    }

    /// Bytes of a missing page, and the time it takes to copy it.
    pub(super) fn costs(&self, part: &Missing) -> (f64, Nanos) {
        let Push { page_bytes, zero_bytes, copying, scanning, .. } = self.push;
        let bytes = page_bytes + part.zero * (zero_bytes - page_bytes);
        (bytes, bytes / copying + part.zero * scanning)
    }

    /// A slice of sending from the cursor on. It ends with the first look at the clock after [`LOOK`]; what is handed over
    /// in it is queued at once, as the sender does not turn to requests before.
    pub(super) fn send(&mut self, now: Nanos) {
        let Push { rate, copying, levels: [wake, full], .. } = self.push;
        // In the time of copying a byte, `rate / copying` of one leaves.
        let growth = (1.0 - rate / copying).max(1e-3);
        let sleeps = Sleeps { quantum: (full - wake) / growth, length: (full - wake) / rate };
        let mut slice = Slice { room: (full - self.queued(now)).max(0.0) / growth, ..Slice::default() };
        while !self.parts.is_empty() {
            let index = self.parts.partition_point(|part| part.to <= self.cursor);
            let Some(&part) = self.parts.get(index) else {
                self.cursor = 0.0;
                continue;
            };
            let Some(ahead) = self.piece(part, part.from.max(self.cursor), part.to) else {
                self.cursor = part.to;
                continue;
            };
            let of_a_page = self.costs(&part);
            let same_word = (self.cursor - NONE).max(0.0) >= (ahead.from / WORD).floor() * WORD;
            if !same_word && slice.ends(sleeps, self.push.batch) {
                break;
            }
            let looks = self.looks(&slice, &ahead);
            let end = looks.after(slice.lacks(sleeps, of_a_page), ahead, &mut self.rng);
            let to = end.unwrap_or(part.to);
            let Some(what) = self.piece(ahead, ahead.from, to) else {
                self.cursor = to;
                if end.is_some() {
                    break;
                }
                continue;
            };
            let (pages, (bytes, busy)) = (pages(&what), of_a_page);
            slice.bytes += pages * bytes;
            slice.busy += pages * busy;
            slice.unlooked = looks.unlooked(slice.unlooked, pages);
            self.take(index, what);
            self.fly(what, now, pages * bytes);
            if end.is_some() {
                break;
            }
        }
        self.sends_at = now + slice.length(sleeps).max(LOOK);
    }

    /// After how many pages of `ahead` the sender looks at its clock.
    fn looks(&self, slice: &Slice, ahead: &Missing) -> Looks {
        let (density, batch) = (ahead.density, self.push.batch);
        // Where a page was asked for, a word begins in the middle.
        let begun = (WORD - ahead.from.floor() % WORD) % WORD * density;
        let unlooked = slice.unlooked + begun;
        let more = if unlooked < batch { pages_between(density, batch - unlooked) } else { 0.0 };
        Looks { first: begun + more, later: pages_between(density, batch) }
    }

    /// Takes a piece out of a part, and moves the cursor behind it.
    fn take(&mut self, index: usize, piece: Missing) {
        let part = self.parts[index];
        self.leave(index, self.piece(part, part.from, piece.from), self.piece(part, piece.to, part.to));
        self.cursor = piece.to;
    }

    /// What is left of a part.
    fn leave(&mut self, index: usize, before: Option<Missing>, behind: Option<Missing>) {
        match (before, behind) {
            (None, None) => drop(self.parts.remove(index)),
            (Some(one), None) | (None, Some(one)) => self.parts[index] = one,
            (Some(before), Some(behind)) => {
                self.parts[index] = before;
                self.parts.insert(index + 1, behind);
            }
        }
    }

    fn fly(&mut self, what: Missing, now: Nanos, bytes: f64) {
        let begins = self.drained.max(now);
        self.drained = begins + bytes / self.push.rate;
        self.flights.push(Flight {
            what,
            begins: begins + self.push.way,
            ends: self.drained + self.push.way,
        });
    }

    /// Sends a page that was asked for; gives when it arrives.
    pub(super) fn send_urgent(&mut self, page: f64, now: Nanos) -> Nanos {
        let Some(index) = self.part_of(page) else { return now + self.push.way };
        let part = self.parts[index];
        let time = self.costs(&part).0 / self.push.rate;
        self.leave(index, self.piece(part, part.from, page), self.piece(part, page + 1.0, part.to));
        let queued = self.queued(now);
        self.drained = self.drained.max(now) + time;
        if let Some(shared) = self.push.shared {
            now + queued.min(shared) / self.push.rate + time + self.push.way
        } else {
            self.cursor = page;
            self.drained + self.push.way
        }
    }
}
