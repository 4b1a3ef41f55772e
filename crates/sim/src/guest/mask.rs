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
//!   For many words of one class without a branch: the first [`STEPS`] bits of the chance are done from
//!   the least significant one up (`or` with a random word for a one, `and` for a zero, which takes the
//!   chance c to (1 + c)/2 or c/2), and the small rest of the chance is added by rare hits:
//!   1 − (1 − c)(1 − d) is the wanted chance for d = (wanted − c)/(1 − c).
//! - *Rare*: the lanes of all words lie behind each other on one axis, each as long as its exposure,
//!   and events fall on the axis as a Poisson process of rate one. A lane is hit if an event falls
//!   within it, which has the chance 1 − exp(−exposure), independent of other lanes. Only events cost
//!   something: a word without one is a comparison. After a hit the rest of the lane is skipped, since
//!   the distance to the next event has no memory. For chances near one the axis carries the misses.

use super::rng::{Generator, Rng};

/// With an exposure below this, hits are drawn one by one; with a chance of a miss below it, misses.
///
/// Measured on a shared core of 2.5 GHz, for 4096 words: dense 60 to 67 µs whatever the chance; rare 5 µs
/// for each 0.001 of it.
const RARE: f64 = 0.012;

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
        if exposure.is_nan() || exposure <= 0.0 {
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

/// Bits of the chance that are drawn in steps. Fewer leave more to rare hits; 8 was the fastest of 6 to 12.
const STEPS: u32 = 8;

/// Wang Yi's wyrand (2019): a counter, multiplied with itself. The cheapest generator known to pass
/// `BigCrush` and `PractRand`; here because drawing bits is what a simulated round costs most. Each call of
/// [`Sampler::dense_pages`] seeds one from its stream.
struct Bits(u64);

impl Bits {
    #[inline(always)]
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0xa076_1d64_78bd_642f);
        let product = u128::from(self.0) * u128::from(self.0 ^ 0xe703_7ed1_a0b4_28db);
        (product >> 64) as u64 ^ product as u64
    }
}

/// A chance as [`Sampler::dense_pages`] needs it.
#[derive(Clone, Copy, Debug)]
struct Split {
    /// The coarse part, at most half of 2^[`STEPS`].
    bits: u32,
    /// What each lane takes of the axis for the rest.
    rest: f64,
    /// All ones if this is the chance of a miss.
    flip: u64,
}

impl Split {
    /// `chance` in units of 2⁻⁶⁴.
    fn new(chance: u64) -> Self {
        let half = 1_u64 << 63;
        // Not above a half: there the rest would be added to few lanes that are still clear.
        let (chance, flip) = if chance > half { (chance.wrapping_neg(), u64::MAX) } else { (chance, 0) };
        let bits = (chance >> (64 - STEPS)) as u32;
        let coarse = f64::from(bits) / f64::from(1_u32 << STEPS);
        let small = (chance << STEPS) as f64 / 18_446_744_073_709_551_616.0 / f64::from(1_u32 << STEPS);
        Self { bits, rest: -(-small / (1.0 - coarse)).ln_1p(), flip }
    }

    /// The constants of the coarse part: where the mask begins, and what is flipped after each step.
    ///
    /// With m all ones for a bit that is one and zero else, `((hit ^ m) & random) ^ m` is `hit | !random`
    /// or `hit & random`. The flips of a step and the next are one.
    fn steps(self) -> (u64, [u64; STEPS as usize]) {
        let ones = |step: u32| u64::from(self.bits >> step & 1).wrapping_neg();
        let flips = std::array::from_fn(|step| {
            let step = step as u32;
            ones(step) ^ if step + 1 < STEPS { ones(step + 1) } else { self.flip }
        });
        (ones(0), flips)
    }
}

/// Streams of random bits and where the next event lies on the axis.
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
            let one = (rest >> 63).wrapping_neg();
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

    /// Draws the pages `first..end`, calling `sink` with words that have any, in order; says how many.
    #[inline]
    pub(super) fn pages(&mut self, first: u64, end: u64, law: Law, sink: &mut impl FnMut(usize, u64)) -> u64 {
        match law {
            Law::Never => return 0,
            Law::Hits(length) => return self.few_pages(first, end, length, sink),
            Law::Dense(chance) => return self.dense_pages(first, end, chance, sink),
            Law::Misses(length) => {
                let mut count = 0;
                each_word(first, end, &mut |word, lanes| {
                    let mask = !self.events(length) & lanes;
                    count += u64::from(mask.count_ones());
                    if mask != 0 {
                        sink(word, mask);
                    }
                });
                return count;
            }
            Law::Always => each_word(first, end, sink),
        }
        end.saturating_sub(first)
    }

    fn dense_pages(&mut self, first: u64, end: u64, chance: u64, sink: &mut impl FnMut(usize, u64)) -> u64 {
        if first >= end {
            return 0;
        }
        let split = Split::new(chance);
        let whole = 64.0 * split.rest;
        let (begin, flips) = split.steps();
        let (head, tail) = (first / 64, (end - 1) / 64);
        let mut bits = Bits(self.rng.next_u64());
        // A copy, so that it stays in a register.
        let mut gap = self.gap;
        let mut count = 0;
        for word in head..=tail {
            let mut mask = begin;
            for flip in flips {
                mask = (mask & bits.next()) ^ flip;
            }
            if gap >= whole {
                gap -= whole;
            } else {
                self.gap = gap;
                mask = ((mask ^ split.flip) | self.events_found(split.rest)) ^ split.flip;
                gap = self.gap;
            }
            if word == head {
                mask &= u64::MAX << (first % 64);
            }
            if word == tail {
                mask &= u64::MAX >> (63 - (end - 1) % 64);
            }
            if mask != 0 {
                count += u64::from(mask.count_ones());
                sink(word as usize, mask);
            }
        }
        self.gap = gap;
        count
    }

    fn few_pages(&mut self, first: u64, end: u64, length: f64, sink: &mut impl FnMut(usize, u64)) -> u64 {
        let (mut at, mut word, mut mask, mut count) = (first, first / 64, 0_u64, 0);
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
            count += 1;
            at = page + 1;
            self.gap = self.exponential();
        }
        if mask != 0 {
            sink(word as usize, mask);
        }
        count
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
            return self.pages(0, trials, law, &mut |_, _| {});
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::rng::stream;

    const EXPOSURES: [f64; 9] = [0.0005, 0.011, 0.013, 0.3, std::f64::consts::LN_2, 0.7, 2.0, 4.4, 6.0];

    fn sampler(name: &str) -> Sampler {
        Sampler::new(stream(11, name))
    }

    /// Each bit of the words that `draw` gives must have the chance `p`, and no two of them a tie.
    fn check(p: f64, words: u32, what: &str, mut draw: impl FnMut() -> u64) {
        let mut hits = [0.0; 64];
        // Covariances of bits so far apart within the word, and of the words' counts one after another.
        let (mut near, mut last, mut row) = ([0.0; 64], None, 0.0);
        for _ in 0..words {
            let word = draw();
            let count = f64::from(word.count_ones()) - 64.0 * p;
            for (bit, hits) in hits.iter_mut().enumerate() {
                *hits += (word >> bit & 1) as f64;
            }
            for (distance, near) in near.iter_mut().enumerate() {
                let other = word.rotate_right(distance as u32);
                let (both, either) = ((word & other).count_ones(), (word | other).count_ones());
                // The sum of (a - p)(b - p) over the pairs (a, b).
                *near += f64::from(both) - p * f64::from(both + either) + 64.0 * p * p;
            }
            row += last.map_or(0.0, |last: f64| last * count);
            last = Some(count);
        }
        let (words, variance) = (f64::from(words), p * (1.0 - p));
        let squares: f64 = hits.iter().map(|hits| (hits - words * p).powi(2) / (words * variance)).sum();
        assert!((squares - 64.0).abs() < 5.0 * 128_f64.sqrt(), "{what}: chi-square {squares} of 64 bits");
        for (distance, sum) in near.iter().enumerate().skip(1) {
            // Opposite bits are counted twice.
            let pairs = words * 64.0 * if distance == 32 { 2.0 } else { 1.0 };
            let deviations = sum / (variance * pairs.sqrt());
            assert!(deviations.abs() < 5.0, "{what}: bits {distance} apart, {deviations} deviations");
        }
        let deviations = row / (64.0 * variance * words.sqrt());
        assert!(deviations.abs() < 5.0, "{what}: words in a row, {deviations} deviations");
    }

    #[test]
    fn every_bit_has_the_chance_of_its_exposure_and_no_tie_to_another() {
        for exposure in EXPOSURES {
            let law = Law::of_exposure(exposure);
            let p = -(-exposure).exp_m1();
            let mut words = sampler("words");
            check(p, 40_000, &format!("{law:?}, word by word"), || words.word(law));
            let (mut pages, mut block) = (sampler("pages"), Vec::new());
            check(p, 40_000, &format!("{law:?}, many words"), || {
                if block.is_empty() {
                    block = vec![0; 1000];
                    pages.pages(0, 64_000, law, &mut |word, mask| block[word] |= mask);
                }
                block.pop().unwrap_or_default()
            });
        }
    }

    #[test]
    fn extreme_exposures_are_none_or_all() {
        for exposure in [0.0, -1.0, f64::NAN] {
            assert_eq!(Law::of_exposure(exposure), Law::Never);
        }
        for exposure in [800.0, f64::INFINITY] {
            assert_eq!(Law::of_exposure(exposure), Law::Always);
        }
        let mut sampler = sampler("extremes");
        assert_eq!(sampler.word(Law::of_exposure(1e-300)), 0);
        assert_eq!(sampler.word(Law::of_exposure(700.0)), u64::MAX);
    }

    #[test]
    fn the_two_parts_of_a_chance_make_it_up() {
        for exposure in [0.0125, 0.1, 0.5, std::f64::consts::LN_2, 0.7, 1.5, 4.4] {
            let Law::Dense(chance) = Law::of_exposure(exposure) else { panic!("not dense") };
            let split = Split::new(chance);
            let coarse = f64::from(split.bits) / f64::from(1 << STEPS);
            let clear = (1.0 - coarse) * (-split.rest).exp();
            let p = if split.flip == 0 { 1.0 - clear } else { clear };
            assert!((p + (-exposure).exp_m1()).abs() < 1e-15, "exposure {exposure}: {p}");
        }
    }

    #[test]
    fn a_range_is_kept_to_the_page_and_counted() {
        for exposure in [0.005, 0.5, 5.0, 1000.0] {
            let mut sampler = sampler("ranges");
            for (first, end) in [(5, 5), (0, 64), (3, 60), (63, 65), (10, 1000), (64, 640), (70, 71)] {
                let mut found = 0;
                let count = sampler.pages(first, end, Law::of_exposure(exposure), &mut |word, mask| {
                    let inside = (0..64).filter(|bit| (first..end).contains(&(word as u64 * 64 + bit)));
                    assert_eq!(mask & !inside.fold(0, |all, bit| all | 1 << bit), 0);
                    found += u64::from(mask.count_ones());
                });
                assert_eq!(count, found);
                assert!(exposure < 1000.0 || count == end - first);
            }
        }
    }

    #[test]
    fn a_binomial_count_has_its_mean_and_variance() {
        let mut sampler = sampler("binomial");
        for (trials, share) in
            [(100, 0.3), (3000, 0.999), (1_000_000, 0.0002), (1_000_000, 0.3), (1 << 34, 0.9)]
        {
            let rounds = 2000;
            let (mean, variance) = (trials as f64 * share, trials as f64 * share * (1.0 - share));
            let counts =
                (0..rounds).map(|_| sampler.binomial(trials, share) as f64 - mean).collect::<Vec<_>>();
            let rounds = f64::from(rounds);
            let off = counts.iter().sum::<f64>() / (variance * rounds).sqrt();
            assert!(off.abs() < 5.0, "{trials} at {share}: mean off by {off}");
            let spread = counts.iter().map(|count| count * count).sum::<f64>() / rounds / variance;
            assert!(
                (spread - 1.0).abs() < 5.0 * (2.5 / rounds).sqrt(),
                "{trials} at {share}: variance {spread}"
            );
        }
        assert_eq!((sampler.binomial(7, 0.0), sampler.binomial(7, 1.0), sampler.binomial(0, 0.5)), (0, 7, 0));
    }
}
