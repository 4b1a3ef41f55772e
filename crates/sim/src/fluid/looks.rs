//! How often the sender looks at its clock.
//!
//! The exact sender goes through words of 64 pages and looks when a batch of pages has been copied since it
//! looked last, at the end of a word. Where a batch fills the queue more than once, this and not the
//! sleep on a full queue is how long a slice lasts beyond what was asked for.

use crate::link::{Link, Nanos};

/// Pages of a word.
const WORD: f64 = 64.0;
/// From this share of pending pages on words are alike: nearly all full.
pub(super) const ALIKE: f64 = 0.999;
/// Slices that are gone through one by one; what comes later is like them.
const MANY: u32 = 64;

/// How long a slice lasts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tick {
    /// On average.
    pub(super) time: Nanos,
    /// By how much single ones differ from each other: from half of it less to half of it more.
    pub(super) spread: Nanos,
    /// Where between woken (0) and full (1) the queue stands when the last one ends, if that is known.
    pub(super) level: Option<f64>,
}

/// What the sender goes through again and again: it sleeps on the full queue, is woken, copies until the queue is full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cycle {
    /// How long it sleeps and copies.
    pub(super) rest: Nanos,
    pub(super) copying: Nanos,
}

impl Cycle {
    pub(super) fn length(&self) -> Nanos {
        self.rest + self.copying
    }

    /// The sender's clock when so many cycles were copied since the queue stood where writers wake: it stands still while
    /// they are copied that do not fit, and then jumps to the next wake-up.
    fn clock(&self, copied: f64) -> Nanos {
        copied.floor().max(0.0) * self.rest + copied * self.copying
    }
}

impl Tick {
    pub(super) const fn even(time: Nanos) -> Self {
        Self { time, spread: 0.0, level: None }
    }

    /// A slice of the length `slice` that ends with the first look after that, where between two looks, `look`
    /// nanoseconds of the wire, the queue fills more than once.
    ///
    /// The time that it then has is a whole number of cycles, but which part of one is gone when it begins is chance.
    pub(super) fn of_looks(slice: Nanos, cycle: Cycle, look: Nanos) -> Self {
        let cycles = (slice / cycle.length()).ceil().max(1.0);
        // Words that are not alike leave anywhere where the last look is, and the queue anywhere in its sawtooth.
        let time = (cycles - 0.5) * cycle.length() + look / 2.0;
        Self { time, spread: look, level: Some(0.5) }
    }

    /// The same where looks are all alike, on average over a long time.
    pub(super) fn of_looks_alike(slice: Nanos, cycle: Cycle, look: Nanos) -> Self {
        let mut slices = Slices::new(slice, cycle, look, 0.5);
        let (mut looks, mut levels) = (0.0, 0.0);
        for _ in 0..MANY {
            looks += slices.next();
            levels += slices.copied;
        }
        let many = f64::from(MANY);
        Self { time: looks * look / many, spread: 0.0, level: Some((levels / many).clamp(0.0, 1.0)) }
    }

    /// The same, on average over as many slices as it takes until the wire has carried for `enough` nanoseconds, where
    /// the first begins with the queue at `level`.
    pub(super) fn of_next_looks(slice: Nanos, cycle: Cycle, look: Nanos, level: f64, enough: Nanos) -> Self {
        let mut slices = Slices::new(slice, cycle, look, level);
        let (mut looks, mut count) = (0.0, 0);
        loop {
            (looks, count) = (looks + slices.next(), count + 1);
            if looks * look >= enough || count >= MANY {
                let time = looks * look / f64::from(count);
                return Self { time, spread: 0.0, level: Some(slices.copied.clamp(0.0, 1.0)) };
            }
        }
    }
}

/// Slices one after the other, where looks are all alike: where a slice leaves the queue is where the next finds it, and
/// so slices of two lengths follow each other by a rule. Not one is chance, and they are no sample of all phases.
#[derive(Clone, Copy, Debug)]
struct Slices {
    slice: Nanos,
    cycle: Cycle,
    /// Cycles between two looks, and looks that are never enough.
    step: f64,
    least: f64,
    /// Where the queue stands, as [`Tick::level`].
    copied: f64,
}

impl Slices {
    fn new(slice: Nanos, cycle: Cycle, look: Nanos, level: f64) -> Self {
        let step = look / cycle.length();
        let least = ((slice / cycle.length() - 1.0) / step).floor().max(1.0);
        Self { slice, cycle, step, least, copied: level }
    }

    /// Looks in the next slice.
    fn next(&mut self) -> f64 {
        let begun = self.cycle.clock(self.copied);
        let mut looks = self.least;
        while self.cycle.clock(self.copied + looks * self.step) - begun < self.slice {
            looks += 1.0;
        }
        self.copied += looks * self.step;
        self.copied -= self.copied.floor().max(0.0);
        looks
    }
}

/// Pages between two looks on average, in words of which each page is pending with the chance `density`.
pub(crate) fn pages_between(density: f64, batch: f64) -> f64 {
    let density = density.clamp(1e-9, 1.0);
    let a_word = WORD * density;
    // Words that may just be enough, and the chance that they are.
    let words = (batch / a_word + 0.5).floor().max(1.0);
    let deviation = (words * a_word * (1.0 - density)).sqrt().max(1e-9);
    let enough = 1.0 / (1.0 + (1.702 * (batch - 0.5 - words * a_word) / deviation).exp());
    let pages = a_word * (words + 1.0 - enough);
    if a_word < 4.0 { batch + a_word / 2.0 } else { pages }
}

/// What the queue holds on average when a slice ends, if copying what lies between two looks takes `batch` nanoseconds.
pub(super) fn queued(batch: Nanos, link: &Link) -> f64 {
    let [wake, full] = link.levels();
    let Some((_, copying)) = link.rest() else { return full };
    wake + since_it_woke(batch, copying) / copying * (full - wake)
}

/// For how long the sender has copied on average, since it woke last, when it looks at its clock and a slice is over: it
/// looks whenever it has copied for `batch`, and sleeps whenever it has copied for `quantum`. As it sleeps most of the time,
/// slices end the more often with a look the more often it slept before that.
fn since_it_woke(batch: Nanos, quantum: Nanos) -> Nanos {
    let sleeps = (batch / quantum).floor();
    let over = batch - sleeps * quantum;
    (sleeps * quantum * quantum + over * over) / (2.0 * batch)
}

#[cfg(test)]
mod tests {
    use rand_core::Rng as _;

    use whimbrel_core::units::{Bandwidth, ByteCount};

    use super::*;
    use crate::config::LinkConfig;
    use crate::guest::stream;
    use crate::link::Link;

    /// Goes through words and looks.
    fn played(density: f64, batch: f64) -> f64 {
        let mut rng = stream(1, "looks");
        let (mut pages, mut since, mut looks) = (0.0, 0.0, 0.0);
        for _ in 0..40_000 {
            let word =
                (0..64).filter(|_| (rng.next_u64() >> 11) as f64 * 2.0_f64.powi(-53) < density).count();
            pages += word as f64;
            since += word as f64;
            if since >= batch {
                (since, looks) = (0.0, looks + 1.0);
            }
        }
        pages / looks
    }

    const SLICE: Nanos = 51e6;
    const PAGE: f64 = 4104.0;

    /// A link with a queue that has been full for a while, and the time.
    fn link(buffer: u64, megabytes: u64) -> (Link, Nanos) {
        let config = LinkConfig {
            bandwidth: Bandwidth::new(megabytes * 1_000_000).unwrap(),
            buffer: ByteCount::kib(buffer),
            ..LinkConfig::default()
        };
        let mut link = Link::new(&config, 2.0, 0.5);
        let now = (0..40).fold(0.0, |now, _| link.copy(now, WORD * PAGE));
        (link, now)
    }

    fn cycle(link: &Link) -> Cycle {
        let (rest, copying) = link.rest().unwrap();
        Cycle { rest, copying }
    }

    /// Nanoseconds of the wire that leave in so many slices on an exact link, where the sender looks at the end of a
    /// word behind a batch.
    fn played_slices(
        count: u32,
        (link, mut now): (&mut Link, Nanos),
        mut word: impl FnMut() -> f64,
    ) -> Nanos {
        let mut pages = 0.0;
        for _ in 0..count {
            let (end, mut since) = (now + SLICE, 0.0);
            while since < WORD || now < end {
                since = if since < WORD { since } else { 0.0 };
                let pending = word();
                now = link.copy(now, pending * PAGE);
                (pages, since) = (pages + pending, since + pending);
            }
        }
        pages * PAGE / link.rate()
    }

    #[test]
    fn slices_of_looks_that_are_all_alike_are_those_of_an_exact_link() {
        for buffer in [150, 238, 352, 416, 557, 720, 760, 899] {
            for megabytes in [41, 60, 77, 98, 117] {
                let (mut link, now) = link(buffer, megabytes);
                let [wake, full] = link.levels();
                let level = (link.queued(now) - wake) / (full - wake);
                let exact = played_slices(24, (&mut link, now), || WORD);
                let look = WORD * PAGE / link.rate();
                let tick = Tick::of_next_looks(SLICE, cycle(&link), look, level, exact - look / 2.0);
                let ticks = 24.0 * tick.time;
                assert!((ticks / exact - 1.0).abs() < 1e-9, "{buffer} {megabytes}: {exact} {ticks}");
            }
        }
    }

    #[test]
    fn slices_of_looks_that_are_all_alike_are_those_of_an_exact_link_on_average() {
        for (buffer, megabytes) in [(352, 117), (416, 98), (522, 60), (720, 85)] {
            let (mut link, now) = link(buffer, megabytes);
            let exact = played_slices(1000, (&mut link, now), || WORD) / 1000.0;
            let tick = Tick::of_looks_alike(SLICE, cycle(&link), WORD * PAGE / link.rate());
            assert!((tick.time / exact - 1.0).abs() < 2e-3, "{buffer} {megabytes}: {exact} {}", tick.time);
        }
    }

    #[test]
    fn slices_of_words_that_differ_are_those_of_an_exact_link_to_4_percent() {
        let mut rng = stream(2, "looks");
        for (buffer, megabytes) in [(150, 60), (238, 58), (352, 117), (387, 105)] {
            for density in [0.1, 0.3, 0.5, 0.7, 0.9, 0.98] {
                let (mut link, now) = link(buffer, megabytes);
                let mut word = || {
                    (0..64).filter(|_| (rng.next_u64() >> 11) as f64 * 2.0_f64.powi(-53) < density).count()
                };
                let exact = played_slices(80, (&mut link, now), || word() as f64) / 80.0;
                let look = pages_between(density, WORD) * PAGE / link.rate();
                let tick = Tick::of_looks(SLICE, cycle(&link), look);
                let error = tick.time / exact - 1.0;
                assert!(error.abs() < 0.04, "{buffer} {megabytes} {density}: {exact} {}", tick.time);
            }
        }
    }

    #[test]
    fn a_slice_ends_as_long_after_waking_as_it_does_if_it_is_played() {
        let mut rng = stream(2, "looks");
        for batch in [0.1, 0.4, 0.9, 1.0, 1.3, 1.9, 2.5, 7.2] {
            let (mut copied, mut sum, slices) = (0.0_f64, 0.0, 40_000);
            for _ in 0..slices {
                // Slices of so many sleeps, and looks that lie anywhere in them.
                let end = copied.floor() + 50.0;
                copied += (rng.next_u64() >> 11) as f64 * 2.0_f64.powi(-53) * batch;
                copied += ((end - copied) / batch).ceil() * batch;
                sum += copied.fract();
            }
            let (expected, played) = (since_it_woke(batch, 1.0), sum / f64::from(slices));
            assert!((expected - played).abs() < 0.01, "{batch}: {expected} {played}");
        }
    }

    #[test]
    fn pages_between_two_looks_are_those_of_playing_words() {
        for density in [0.02, 0.08, 0.15, 0.3, 0.45, 0.5, 0.6, 0.75, 0.9, 0.98, 1.0] {
            let (expected, played) = (pages_between(density, 64.0), played(density, 64.0));
            assert!((expected / played - 1.0).abs() < 0.06, "{density}: {expected} {played}");
        }
    }
}
