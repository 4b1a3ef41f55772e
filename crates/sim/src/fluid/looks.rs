//! How often the sender looks at its clock.
//!
//! The exact sender goes through words of 64 pages and looks when a batch of pages has been copied since it
//! looked last, at the end of a word. Where a batch fills the queue more than once, this and not the
//! sleep on a full queue is how long a slice lasts beyond what was asked for.

use crate::link::{Link, Nanos};

/// Pages of a word.
const WORD: f64 = 64.0;
/// From this share of pending pages on words are alike: nearly all full.
const ALIKE: f64 = 0.999;

/// How long a slice lasts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tick {
    /// On average.
    pub(super) time: Nanos,
    /// By how much single ones differ from each other: from half of it less to half of it more.
    pub(super) spread: Nanos,
}

impl Tick {
    pub(super) const fn even(time: Nanos) -> Self {
        Self { time, spread: 0.0 }
    }

    /// A slice of the length `slice` that ends with the first look after that, where between two looks the queue
    /// fills more than once: a look comes after so many pages, each of which takes `page` nanoseconds, and the sender
    /// sleeps until each `cycle` is over. A page is pending with the chance `density`.
    ///
    /// The time that it then has is a whole number of cycles, but which part of one is gone when it begins is chance.
    pub(super) fn of_looks(slice: Nanos, cycle: Nanos, (pages, page): (f64, Nanos), density: f64) -> Self {
        let look = pages * page;
        let cycles = (slice / cycle).ceil().max(1.0);
        // Words that are not alike leave anywhere where the last look is.
        if density < ALIKE {
            return Self { time: (cycles - 0.5) * cycle + look / 2.0, spread: look };
        }
        // Else their number is one of two, mostly.
        let [least, most] = [cycles - 1.0, cycles].map(|cycles| cycles * cycle / look);
        let one_more = (most - least.ceil()).max(0.0) / (most - least);
        let deviation = (one_more * (1.0 - one_more)).sqrt();
        let looks = least.floor() + 1.0 + one_more;
        Self { time: looks * look, spread: 12.0_f64.sqrt() * deviation * look }
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

    use super::*;
    use crate::guest::stream;

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
