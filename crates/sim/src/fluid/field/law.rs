//! How many pages some writes leave untouched where pages are written at very different rates.
//!
//! A law has about twenty groups of pages, each with an exponential of its own, and a fluid migration asks for their
//! sum after every round. What is computed is that sum, but not with twenty exponentials of the library:
//!
//! - where rates double from each group to the next, as most Zipf laws are given, each exponential is the square of its
//!   neighbour's, see [`Ladder`];
//! - of others, groups that are touched seldom together are a power series, `exp(-nw) = 1 - nw + (nw)²/2 - …`, whose
//!   sums over the groups are known beforehand, and the rest are computed four at a time, in operations that a compiler
//!   makes of several at once.
//!
//! What comes out is the same on every machine, which the library's exponential is not.

use super::terrain::Untouched;

/// Groups that are computed together.
const TOGETHER: usize = 4;

/// Groups whose pages are touched less often than this are a power series.
const SELDOM: f64 = 0.25;

/// Terms of that series: at twice [`SELDOM`] touches, for the sum of squares, the next is 7e-16.
const TERMS: usize = 14;

/// How a writer's writes are spread over its pages.
#[derive(Clone, Debug, Default)]
pub(super) struct Law {
    /// The most written ones first; none where the law is a ladder.
    groups: Vec<Groups>,
    ladder: Ladder,
}

/// Groups of pages with rates that double from one to the next: two flights of equal length, the cool half of the
/// groups and the hot one, that are climbed together.
#[derive(Clone, Debug, Default)]
struct Ladder {
    rungs: Vec<Rung>,
    /// The share of the writes that each page of the first rung gets, in halvings of what is untouched.
    halvings: [f64; 2],
}

/// Which of two is of the hot flight, which is looked at after each rung, and which of the cool one.
const HOT: usize = 0;
const COOL: usize = 1;

/// A group of the hot half and one of the cool half.
#[derive(Clone, Copy, Debug, Default)]
struct Rung {
    /// Shares of the pages.
    shares: [f64; 2],
    /// Shares of the writes that those get together.
    weights: [f64; 2],
}

/// A chance of being untouched of which the square and all that follow are nothing. (Numbers near the smallest that
/// can be told from nothing are slow to multiply.)
const NOTHING: f64 = 1e-30;

impl Ladder {
    /// Makes it that of such groups, the coolest first.
    fn become_of(&mut self, groups: impl ExactSizeIterator<Item = (f64, f64)>, pages: f64) {
        self.rungs.clear();
        let length = groups.len().div_ceil(2);
        self.rungs.resize(length, Rung::default());
        let mut groups = groups;
        for flight in [COOL, HOT] {
            let mut first = true;
            for ((count, weight), rung) in groups.by_ref().take(length).zip(&mut self.rungs) {
                rung.shares[flight] = count / pages;
                rung.weights[flight] = count / pages * weight;
                if std::mem::take(&mut first) {
                    self.halvings[flight] = weight * std::f64::consts::LOG2_E;
                }
            }
        }
    }

    /// Sums up what so many writes leave untouched, as far as anything is left of the hot half; gives what is left of
    /// the cool half's next rung, and the rungs from there on. (The sums are handed over in memory: it is stores that a
    /// compiler makes operations on two numbers at once of.)
    #[inline(never)]
    fn climb(&self, writes: f64, sums: &mut Climbed) -> (f64, &[Rung]) {
        let mut untouched = halve(self.halvings.map(|halvings| writes * halvings));
        let (mut share, mut square, mut loss) = ([0.0; 2], [0.0; 2], [0.0; 2]);
        let mut rungs = self.rungs.iter();
        for rung in rungs.by_ref() {
            let mut squares = [0.0; 2];
            for flight in 0..2 {
                squares[flight] = untouched[flight] * untouched[flight];
                share[flight] += rung.shares[flight] * untouched[flight];
                square[flight] += rung.shares[flight] * squares[flight];
                loss[flight] += rung.weights[flight] * untouched[flight];
            }
            untouched = squares;
            if untouched[HOT] < NOTHING {
                break;
            }
        }
        *sums = Climbed { share, square, loss };
        (untouched[COOL], rungs.as_slice())
    }

    /// The share of pages that so many writes leave untouched.
    #[inline(always)]
    fn untouched(&self, writes: f64) -> Untouched {
        let mut sums = Climbed::default();
        let (mut untouched, rungs) = self.climb(writes, &mut sums);
        let Climbed { share, square, loss } = sums;
        let [mut share, mut square, mut loss] = [share, square, loss].map(|[hot, cool]| cool + hot);
        for rung in rungs {
            if untouched < NOTHING {
                break;
            }
            let squares = untouched * untouched;
            share += rung.shares[COOL] * untouched;
            square += rung.shares[COOL] * squares;
            loss += rung.weights[COOL] * untouched;
            untouched = squares;
        }
        // Hot rungs may have less than no pages, by a small part of one.
        Untouched { share: share.min(1.0), spread: (share - square).max(0.0), loss: loss * writes }
    }
}

/// What is untouched of both flights: the share, the sum of squares, and how fast it falls for each write.
#[derive(Default)]
struct Climbed {
    share: [f64; 2],
    square: [f64; 2],
    loss: [f64; 2],
}

/// Groups of pages with equal rates.
#[derive(Clone, Copy, Debug)]
struct Groups {
    /// Shares of the pages.
    shares: [f64; TOGETHER],
    /// The share of the writes that each page gets, in halvings of what is untouched: times log2 e.
    halvings: [f64; TOGETHER],
    /// The highest share of the writes that a page of these and the later groups gets.
    most: f64,
    /// The power series in the number of writes of what is untouched of these and the later groups.
    series: [[f64; 2]; TERMS / 2],
    /// And of how fast that falls.
    losses: [[f64; 2]; TERMS / 2],
}

impl Groups {
    /// Without pages.
    const NONE: Self = Self {
        shares: [0.0; TOGETHER],
        halvings: [0.0; TOGETHER],
        most: 0.0,
        series: [[0.0; 2]; TERMS / 2],
        losses: [[0.0; 2]; TERMS / 2],
    };

    /// Adds pages to the sums of which the series is made.
    fn follow(&mut self, share: f64, weight: f64) {
        self.most = self.most.max(weight);
        let mut term = share;
        for sum in self.series.as_flattened_mut() {
            *sum += term;
            term *= weight;
        }
    }

    /// Adds what so many writes leave untouched of these groups.
    #[inline(never)]
    fn add(&self, writes: f64, sums: &mut Sums) {
        let halved = self.halvings.map(|halvings| writes * halvings);
        let untouched = halve(halved);
        for lane in 0..TOGETHER {
            let here = self.shares[lane] * untouched[lane];
            sums.share[lane] += here;
            sums.square[lane] += here * untouched[lane];
            sums.loss[lane] += here * halved[lane];
        }
    }

    /// The same of these and all later groups, which are touched seldom.
    #[inline(never)]
    fn add_all(&self, writes: f64, sums: &mut Sums) {
        let (once, twice) = (writes * writes, 4.0 * (writes * writes));
        let (mut share, mut square, mut loss) = ([0.0; 2], [0.0; 2], [0.0; 2]);
        for (terms, losses) in self.series.iter().zip(&self.losses).rev() {
            // The even powers and the odd ones.
            for lane in 0..2 {
                share[lane] = share[lane] * once + terms[lane];
                square[lane] = square[lane] * twice + terms[lane];
                loss[lane] = loss[lane] * once + losses[lane];
            }
        }
        sums.share[0] += share[0] + share[1] * writes;
        sums.square[0] += square[0] + square[1] * (2.0 * writes);
        sums.loss[0] += (loss[0] + loss[1] * writes) * std::f64::consts::LOG2_E;
    }
}

/// What is untouched, lane by lane: the share, the sum of squares, and how fast it halves.
#[derive(Default)]
struct Sums {
    share: [f64; TOGETHER],
    square: [f64; TOGETHER],
    loss: [f64; TOGETHER],
}

/// Of the series of `exp(-x)`.
const FACTORS: [f64; TERMS] = {
    let mut factors = [1.0; TERMS];
    let mut power = 1;
    while power < TERMS {
        factors[power] = -factors[power - 1] / power as f64;
        power += 1;
    }
    factors
};

impl Law {
    /// Makes it that of groups of so many pages, each of which gets such a share of the writes.
    pub(super) fn become_of(
        &mut self,
        groups: impl DoubleEndedIterator<Item = (f64, f64)> + ExactSizeIterator + Clone,
    ) {
        let pages: f64 = groups.clone().map(|(pages, _)| pages).sum();
        self.groups.clear();
        self.ladder.rungs.clear();
        if groups.len() > 1 && are_a_ladder(groups.clone()) {
            return self.ladder.become_of(groups.rev(), pages);
        }
        for (index, (count, weight)) in groups.enumerate() {
            let (group, lane) = (index / TOGETHER, index % TOGETHER);
            if lane == 0 {
                self.groups.push(Groups::NONE);
            }
            let here = &mut self.groups[group];
            here.shares[lane] = count / pages;
            here.halvings[lane] = weight * std::f64::consts::LOG2_E;
            here.follow(count / pages, weight);
        }
        // Each goes on with those behind it.
        for index in (1..self.groups.len()).rev() {
            let Groups { most, series, .. } = self.groups[index];
            let before = &mut self.groups[index - 1];
            before.most = before.most.max(most);
            for (sum, behind) in before.series.as_flattened_mut().iter_mut().zip(series.as_flattened()) {
                *sum += behind;
            }
        }
        for groups in &mut self.groups {
            let losses = groups.losses.as_flattened_mut();
            for (power, sum) in groups.series.as_flattened_mut().iter_mut().enumerate() {
                *sum *= FACTORS[power];
                losses[power] = -(power as f64) * *sum;
            }
        }
    }

    /// The share of pages that so many writes leave untouched.
    #[inline(always)]
    pub(super) fn untouched(&self, writes: f64) -> Untouched {
        if self.ladder.rungs.is_empty() { self.summed_up(writes) } else { self.ladder.untouched(writes) }
    }

    /// The same, group by group.
    #[inline(never)]
    fn summed_up(&self, writes: f64) -> Untouched {
        let mut sums = Sums::default();
        for groups in &self.groups {
            if writes * groups.most < SELDOM {
                groups.add_all(writes, &mut sums);
                break;
            }
            groups.add(writes, &mut sums);
        }
        let Sums { share, square, loss } = sums;
        let [share, square, loss] = [share, square, loss].map(|[a, b, c, d]| (a + b) + (c + d));
        Untouched { share, spread: share - square, loss: loss * std::f64::consts::LN_2 }
    }
}

/// Whether rates fall to exactly half from each group to the next.
#[allow(clippy::float_cmp)] // Doubling is exact.
fn are_a_ladder(groups: impl Iterator<Item = (f64, f64)> + Clone) -> bool {
    groups.clone().zip(groups.skip(1)).all(|((_, one), (_, next))| one == 2.0 * next)
}

/// Beyond this nothing is left: 10^-308.
const MOST: f64 = 1022.0;
/// Added to a number it rounds it to a whole one, which then stands in the lowest bits.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// Two to a power between -1/2 and 1/2, by Chebyshev polynomials (relative error 2e-16).
#[allow(clippy::approx_constant)] // The best polynomial's second factor is near ln 2 and not equal.
const SERIES: [f64; 11] = [
    1.0,
    0.693_147_180_559_95,
    0.240_226_506_959_100_97,
    0.055_504_108_664_447_42,
    0.009_618_129_107_606_871,
    0.001_333_355_823_021_526_2,
    0.000_154_035_304_417_650_88,
    1.525_265_722_955_142_9e-5,
    1.321_544_257_022_465e-6,
    1.020_869_642_937_431_3e-7,
    7.072_589_488_396_345e-9,
];

/// `2^-x` of numbers that are not negative.
#[inline(always)]
fn halve<const LANES: usize>(x: [f64; LANES]) -> [f64; LANES] {
    let mut result = [0.0; LANES];
    for lane in 0..LANES {
        let x = if x[lane] < MOST { x[lane] } else { MOST };
        let rounded = x + ROUND;
        let rest = (rounded - ROUND) - x;
        // The exponent of a power of two.
        let scale = f64::from_bits(1023_u64.wrapping_sub(rounded.to_bits()) << 52);
        // Powers by halves and quarters, so that fewer operations wait for one another: a round waits for the last.
        let [one, two, three, four, five, six, seven, eight, nine, ten, eleven] = SERIES;
        let square = rest * rest;
        let fourth = square * square;
        let low = (one + two * rest) + (three + four * rest) * square;
        let middle = (five + six * rest) + (seven + eight * rest) * square;
        let high = (nine + ten * rest) + eleven * square;
        result[lane] = (low + (middle + high * fourth) * fourth) * scale;
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn halving_is_right_to_the_last_two_digits(x in prop_oneof![
            0.0..1e-3f64, 0.0..1.0f64, 0.0..50.0f64, 0.0..1000.0f64,
        ], y in 0.0..1000.0f64) {
            let [one, other, none, half] = halve([x, y, 0.0, 1.0]);
            prop_assert!((one / (-x).exp2() - 1.0).abs() < 1e-15, "2^-{x} = {one}");
            prop_assert!((other / (-y).exp2() - 1.0).abs() < 1e-15, "2^-{y} = {other}");
            prop_assert_eq!((none.to_bits(), half.to_bits()), (1.0f64.to_bits(), 0.5f64.to_bits()));
        }

        #[test]
        fn a_law_is_the_sum_over_its_groups(
            groups in prop::collection::vec((1.0..1e5f64, 1e-9..0.2f64), 1..30),
            in_order in any::<bool>(),
            writes in prop_oneof![0.0..10.0f64, 0.0..1e3f64, 0.0..1e6f64],
        ) {
            let mut groups = groups;
            if in_order {
                groups.sort_by(|one, other| other.1.total_cmp(&one.1));
            }
            let mut law = Law::default();
            // It forgets what it was.
            law.become_of([(1.0, 0.5); 7].into_iter());
            law.become_of(groups.iter().copied());
            let Untouched { share, spread, loss } = law.untouched(writes);
            let all: f64 = groups.iter().map(|(pages, _)| pages).sum();
            let sum = |of: fn(f64) -> f64| -> f64 {
                groups.iter().map(|(pages, weight)| pages / all * of(writes * weight)).sum()
            };
            let near = |one: f64, other: f64| (one - other).abs() < 2e-15;
            prop_assert!(near(share, sum(|touches| (-touches).exp())));
            prop_assert!(near(spread, share - sum(|touches| (-2.0 * touches).exp())));
            prop_assert!((loss - sum(|touches| touches * (-touches).exp())).abs() < 1e-13);
        }
    }

    proptest! {
        #[test]
        fn a_ladder_is_the_sum_over_its_groups(
            pages in prop::collection::vec(0.0..100.0f64, 2..40),
            (growth, coolest) in (1.3..4.0f64, 1e-9..0.01f64),
            writes in prop_oneof![0.0..10.0f64, 0.0..1e3f64, 0.0..1e6f64, 0.0..1e12f64],
        ) {
            // The cooler, the more pages.
            let count = i32::try_from(pages.len()).expect("few");
            let groups: Vec<(f64, f64)> = (0..count).zip(&pages).map(|(index, pages)| {
                (pages * growth.powi(index) + 1e-3, coolest * f64::from(count - 1 - index).exp2())
            }).collect();
            let mut law = Law::default();
            law.become_of([(1.0, 0.5), (1.0, 0.25)].into_iter());
            prop_assert!((law.untouched(1.0).share - f64::midpoint((-0.5f64).exp(), (-0.25f64).exp())).abs() < 1e-15);
            law.become_of(groups.iter().copied());
            prop_assert_eq!(law.ladder.rungs.len(), groups.len().div_ceil(2));
            let Untouched { share, spread, loss } = law.untouched(writes);
            let all: f64 = groups.iter().map(|(pages, _)| pages).sum();
            let sum = |of: fn(f64) -> f64| -> f64 {
                groups.iter().map(|(pages, weight)| pages / all * of(writes * weight)).sum()
            };
            // A square's error is twice as large, and so is its neighbour's.
            let near = |one: f64, other: f64| (one - other).abs() < 1e-10;
            prop_assert!(near(share, sum(|touches| (-touches).exp())), "{share}");
            prop_assert!(near(spread, sum(|touches| (-touches).exp() - (-2.0 * touches).exp())), "{spread}");
            prop_assert!(near(loss, sum(|touches| touches * (-touches).exp())), "{loss}");
        }
    }

    #[test]
    fn nothing_is_left_of_what_is_written_without_end() {
        assert!(halve([1e4, 1e300, f64::INFINITY, 1022.0]).iter().all(|left| (0.0..1e-300).contains(left)));
    }
}
