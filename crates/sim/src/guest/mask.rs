//! Drawing which of 64 pages were dirtied, all with the same chance and independent of each other.
//!
//! Called by the writers for each word of pages. Exact: the chance of a bit is the wanted one to within
//! 2⁻⁵³ of it, and bits are independent; nothing here approximates for speed.
//!
//! Two ways, by what is cheaper:
//!
//! - *Dense*: 64 lanes compare a random fraction with the chance at once, most significant bit first. A
//!   random word gives each lane its next bit; a lane is decided at the first bit that differs. Half of
//!   the undecided lanes are decided by each word, so 64 lanes take log2(64) + 1.3, between 7 and 8
//!   random words on average, whatever the chance (one for a half: the rest of its bits are zero).
//! - *Rare*: the lanes of all words lie behind each other on one axis, each as long as its exposure,
//!   and events fall on the axis as a Poisson process of rate one. A lane is hit if an event falls
//!   within it, which has the chance 1 − exp(−exposure), independent of other lanes. Only events cost
//!   something: a word without one is a comparison. After a hit the rest of the lane is skipped, since
//!   the distance to the next event has no memory. For chances near one the axis carries the misses.

use super::rng::{Generator, Rng};

/// With an exposure below this, hits are drawn one by one; with a chance of a miss below it, misses.
///
/// Measured on a core of about 2.5 GHz: a word costs about 9 ns dense and 1.5 ns + 13 ns a hit rare.
const RARE: f64 = 0.01;

/// How the bits of a class of pages are drawn: one chance for all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Law {
    /// No page.
    Never,
    /// Few pages: each takes so much of the axis.
    Hits(f64),
    /// The chance times 2⁶⁴.
    Dense(u64),
    /// All but few pages: each miss takes so much of the axis.
    Misses(f64),
    /// Every page.
    Always,
}

impl Law {
    /// The law of pages that got a Poisson number of writes with mean `exposure`: dirty unless it is zero.
    pub(super) fn of_exposure(exposure: f64) -> Self {
        // Written so that not-a-number is nothing.
        if !(exposure > 0.0) {
            return Self::Never;
        }
        if exposure < RARE {
            return Self::Hits(exposure);
        }
        let miss = (-exposure).exp();
        if miss >= RARE {
            // At most 2^64 times (1 - RARE): fits.
            Self::Dense((-(-exposure).exp_m1() * 18_446_744_073_709_551_616.0) as u64)
        } else if miss > 0.0 {
            Self::Misses(-(-miss).ln_1p())
        } else {
            Self::Always
        }
    }
}

/// A stream of random bits and where the next event lies on its axis.
#[derive(Clone, Debug)]
pub(super) struct Sampler {
    rng: Generator,
    /// Distance to the next event: exponential with mean one, however far the axis was walked.
    gap: f64,
}

impl Sampler {
    pub(super) fn new(rng: Generator) -> Self {
        let mut sampler = Self { rng, gap: 0.0 };
        sampler.gap = sampler.exponential();
        sampler
    }

    /// An exponential number with mean one.
    #[inline]
    fn exponential(&mut self) -> f64 {
        // Never zero, at most one.
        let unit = ((self.rng.next_u64() >> 11) + 1) as f64 * (1.0 / 9_007_199_254_740_992.0);
        -unit.ln()
    }

    /// Draws 64 lanes.
    #[inline]
    pub(super) fn word(&mut self, law: Law) -> u64 {
        match law {
            Law::Never => 0,
            Law::Hits(length) => self.events(length),
            Law::Dense(chance) => self.dense(chance),
            Law::Misses(length) => !self.events(length),
            Law::Always => u64::MAX,
        }
    }

    #[inline]
    fn dense(&mut self, chance: u64) -> u64 {
        let (mut hit, mut open, mut rest) = (0, u64::MAX, chance);
        // A lane whose bits so far equal the chance's is open. No bits left: it is not below.
        while open != 0 && rest != 0 {
            let random = self.rng.next_u64();
            let one = ((rest as i64) >> 63) as u64;
            hit |= open & !random & one;
            open &= random ^ !one;
            rest <<= 1;
        }
        hit
    }

    /// The lanes of a word within which an event falls, each `length` long.
    #[inline]
    fn events(&mut self, length: f64) -> u64 {
        let whole = 64.0 * length;
        if self.gap >= whole {
            self.gap -= whole;
            return 0;
        }
        self.events_found(length)
    }

    fn events_found(&mut self, length: f64) -> u64 {
        let (mut mask, mut lane) = (0, 0_u32);
        while lane < 64 {
            let left = f64::from(64 - lane);
            let skip = self.gap / length;
            if skip >= left {
                self.gap = (self.gap - left * length).max(0.0);
                break;
            }
            // Below 64: both are.
            lane += skip as u32;
            mask |= 1 << lane;
            lane += 1;
            self.gap = self.exponential();
        }
        mask
    }

    /// Whether an event falls within the next `length` of the axis: one page with a chance of its own.
    #[inline]
    pub(super) fn event(&mut self, length: f64) -> bool {
        if self.gap >= length {
            self.gap -= length;
            return false;
        }
        self.gap = self.exponential();
        true
    }

    /// Draws the pages `first..end`, calling `sink` with words that have any, in order.
    #[inline]
    pub(super) fn pages(&mut self, first: u64, end: u64, law: Law, sink: &mut impl FnMut(usize, u64)) {
        match law {
            Law::Never => {}
            Law::Hits(length) => self.few_pages(first, end, length, sink),
            Law::Always => each_word(first, end, sink),
            _ => each_word(first, end, &mut |word, lanes| {
                let mask = self.word(law) & lanes;
                if mask != 0 {
                    sink(word, mask);
                }
            }),
        }
    }

    fn few_pages(&mut self, first: u64, end: u64, length: f64, sink: &mut impl FnMut(usize, u64)) {
        let (mut at, mut word, mut mask) = (first, first / 64, 0_u64);
        while at < end {
            let left = (end - at) as f64;
            let skip = self.gap / length;
            if skip >= left {
                self.gap = (self.gap - left * length).max(0.0);
                break;
            }
            let page = at + skip as u64;
            if page / 64 != word {
                if mask != 0 {
                    sink(word as usize, mask);
                }
                (word, mask) = (page / 64, 0);
            }
            mask |= 1 << (page % 64);
            at = page + 1;
            self.gap = self.exponential();
        }
        if mask != 0 {
            sink(word as usize, mask);
        }
    }

    /// How many of `trials` come out, each with chance `share`.
    ///
    /// Exact up to 65,536 trials and where fewer than a thousand are expected either way. Beyond, a normal
    /// number with the right mean, variance and (to first order) skew: used for a figure in a report,
    /// where that error is below a thousandth of the deviation.
    pub(super) fn binomial(&mut self, trials: u64, share: f64) -> u64 {
        if share > 0.5 {
            return trials - self.binomial(trials, 1.0 - share).min(trials);
        }
        let mean = trials as f64 * share;
        if trials <= 65_536 || mean < 1000.0 {
            let law = Law::of_exposure(-(-share).ln_1p());
            let mut count = 0;
            self.pages(0, trials, law, &mut |_, mask| count += u64::from(mask.count_ones()));
            return count;
        }
        let deviation = (mean * (1.0 - share)).sqrt();
        let radius = (2.0 * self.exponential()).sqrt();
        let turn = (self.rng.next_u64() >> 11) as f64 * (std::f64::consts::TAU / 9_007_199_254_740_992.0);
        let normal = radius * turn.cos();
        let skewed = normal + (1.0 - 2.0 * share) / deviation * (normal * normal - 1.0) / 6.0;
        ((mean + deviation * skewed).round().max(0.0) as u64).min(trials)
    }
}

/// Calls `sink` with each word of the pages `first..end` and the bits that they have in it.
#[inline]
pub(super) fn each_word(first: u64, end: u64, sink: &mut impl FnMut(usize, u64)) {
    if first >= end {
        return;
    }
    let (head, tail) = (first / 64, (end - 1) / 64);
    let from = u64::MAX << (first % 64);
    let to = u64::MAX >> (63 - (end - 1) % 64);
    if head == tail {
        sink(head as usize, from & to);
        return;
    }
    sink(head as usize, from);
    for word in head + 1..tail {
        sink(word as usize, u64::MAX);
    }
    sink(tail as usize, to);
}
