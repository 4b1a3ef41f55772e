//! Zipf's law over a working set: the i-th hottest page gets writes in proportion to `i^-exponent`.
//!
//! Built once for a writer and read by it only. Ranks are dealt out in blocks: the words of the working set
//! are brought into a random order and get the ranks one word after another, so that hot words are
//! scattered and pages within a word are about equally hot. (A program that scatters page by page dirties
//! as many pages, by the same law; only their order in memory differs.)
//!
//! Words with neighbouring ranks form a class and share their mean rate, as long as the hottest page of a
//! class has at most [`SPREAD`] times the rate of the coldest. Words in which a single block spans more,
//! the hottest ones, are drawn page by page with exact rates, their pages in random order.
//!
//! The error of sharing a mean: 1 − exp(−x) is concave, so the mean rate dirties a little too much.
//! Rates spread evenly over a ratio of 1.05 vary by 1.4 % (standard deviation) about their mean, and the
//! chance of a page is too large by at most ½·x²·exp(−x)·0.014² ≤ 5.4·10⁻⁵, the worst near x = 2. The
//! chance noise of the count of dirty pages is larger than that bias for working sets below 10⁷ pages.

use std::ops::Range;

use super::mask::{Law, Sampler, each_word};
use super::rng::{Generator, below, shuffle};
use super::touch::unit;

/// Hottest to coldest rate within a class.
const SPREAD: f64 = 1.05;
/// The same behind ranks that are known one by one.
const BEHIND_FIRST: f64 = 1.5;
/// Sums over ranks up to this one add every term.
const EXACT_RANKS: u64 = 4096;
/// Set in the class of a word that is drawn page by page; the rest is its index.
const BY_PAGE: u16 = 1 << 15;

/// Pages of about the same rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Group {
    /// How many.
    pub(crate) pages: f64,
    /// Share of the writes that each gets.
    pub(crate) weight: f64,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Zipf {
    set: Range<u64>,
    exponent: f64,
    /// The class of each word from the first of the set on.
    class_of: Vec<u16>,
    /// The mean weight of each class.
    weights: Vec<f64>,
    /// The weight of each page of the hottest words; zero outside the set.
    hottest: Vec<[f64; 64]>,
    groups: Vec<Group>,
}

/// The sum of `rank^-exponent` over `first..=last`, ranks from 1.
///
/// Beyond [`EXACT_RANKS`] by the midpoint rule with its first correction; relative error below 10⁻¹².
fn rank_sum(first: u64, last: u64, exponent: f64) -> f64 {
    let direct =
        |first: u64, last: u64| -> f64 { (first..=last).map(|rank| (rank as f64).powf(-exponent)).sum() };
    if last <= EXACT_RANKS {
        return direct(first, last);
    }
    if first <= EXACT_RANKS {
        return direct(first, EXACT_RANKS) + rank_sum(EXACT_RANKS + 1, last, exponent);
    }
    let (from, to) = (first as f64 - 0.5, last as f64 + 0.5);
    let (power, log) = (1.0 - exponent, (to / from).ln());
    let integral = if (power * log).abs() < 1e-9 {
        from.powf(power) * log
    } else {
        from.powf(power) * (power * log).exp_m1() / power
    };
    let slope = |at: f64| -exponent * at.powf(-exponent - 1.0);
    integral - (slope(to) - slope(from)) / 24.0
}

/// How many times hotter rank `first` is than rank `last`.
fn ratio(first: u64, last: u64, exponent: f64) -> f64 {
    (last as f64 / first as f64).powf(exponent)
}

/// All ranks from `first` up to `pages`, neighbours of about the same rate together, not normalised.
fn groups(mut first: u64, pages: u64, exponent: f64, spread: f64) -> Vec<Group> {
    let reach = spread.powf(1.0 / exponent);
    let mut groups = Vec::new();
    while first <= pages {
        // Infinite for exponent zero: a float that does not fit becomes the greatest integer.
        let last = ((first as f64 * reach) as u64).clamp(first, pages);
        let count = (last - first + 1) as f64;
        groups.push(Group { pages: count, weight: rank_sum(first, last, exponent) / count });
        first = last + 1;
    }
    groups
}

/// Ranks up to this one are one by one with [`pairs`].
const FIRST_RANKS: u64 = 8;
/// Hottest to coldest rate within a pair of groups.
const WIDE: f64 = 4.0;

/// All ranks up to `pages` in few groups that stand for the whole law, hottest first, not normalised. The expected
/// number of dirty pages is right to 0.1 % for exponents around 1, to 0.5 % up to 2.
fn few_groups(pages: u64, exponent: f64, groups: &mut Vec<Group>) {
    groups.clear();
    if !rungs(pages, exponent, groups) {
        pairs(pages, exponent, groups);
    }
}

/// Few groups where rates fall by little or by very much: the first ranks one by one, then two groups for each stretch
/// in which rates fall to a quarter, of the sizes and rates that have the number, the sum, and the sums of squares and
/// cubes of the stretch's rates (a Gauss rule of two points).
fn pairs(pages: u64, exponent: f64, groups: &mut Vec<Group>) {
    let first = FIRST_RANKS.min(pages);
    groups.extend((1..=first).map(|rank| Group { pages: 1.0, weight: (rank as f64).powf(-exponent) }));
    let (from, to) = (first as f64 + 0.5, pages as f64 + 0.5);
    let stretches = ((to / from).ln() * (exponent / WIDE.ln()).max(0.4)).ceil();
    if pages == first || stretches < 1.0 {
        return;
    }
    let step = (to / from).powf(1.0 / stretches);
    // The integral of rank^-(j·exponent) over a stretch grows from one to the next by a fixed factor.
    let powers = [0.0, 1.0, 2.0, 3.0].map(|times: f64| 1.0 - times * exponent);
    let mut integrals = powers.map(|power| integral(from, from * step, power));
    let factors = powers.map(|power| step.powf(power));
    for _ in 0..stretches as u64 {
        groups.extend(two_points(integrals));
        for (integral, factor) in integrals.iter_mut().zip(factors) {
            *integral *= factor;
        }
    }
}

/// Exponents for which the groups are [`rungs`].
const STEEP: std::ops::RangeInclusive<f64> = 0.5..=2.0;
/// How many halvings the rate of the coolest rung is below that of the last rank: where the sums over all ranks are
/// best.
const BELOW: f64 = 0.58;
/// The logarithms to base 2 of the ranks that are one by one with [`rungs`].
const LOGS: [f64; 4] = [0.0, 1.0, 1.584_962_500_721_156, 2.0];
/// Where the ranks behind them begin, and its logarithm.
const BEHIND: (f64, f64) = (4.5, 2.169_925_001_442_312);

/// What four rungs get that stand for pages with these sums of rates to the powers 0 to 3: the coefficients of
/// Lagrange's polynomials. The rungs' rates are 1, `ratio`, `ratio`² and `ratio`³.
const fn shares(ratio: f64) -> [[f64; 4]; 4] {
    let nodes = [1.0, ratio, ratio * ratio, ratio * ratio * ratio];
    let mut shares = [[0.0; 4]; 4];
    let mut rung = 0;
    while rung < 4 {
        let mut factors = [1.0, 0.0, 0.0, 0.0];
        let mut other = 0;
        while other < 4 {
            if other != rung {
                let apart = nodes[rung] - nodes[other];
                let mut power = 3;
                while power > 0 {
                    factors[power] = (factors[power - 1] - factors[power] * nodes[other]) / apart;
                    power -= 1;
                }
                factors[0] = -factors[0] * nodes[other] / apart;
            }
            other += 1;
        }
        shares[rung] = factors;
        rung += 1;
    }
    shares
}
const BY_RATES: [[f64; 4]; 4] = shares(2.0);
const BY_ROOTS: [[f64; 4]; 4] = shares(std::f64::consts::SQRT_2);

/// Adds pages with such sums of powers to four rungs.
fn hang(rungs: &mut [Group], shares: &[[f64; 4]; 4], sums: [f64; 4]) {
    for (rung, shares) in rungs.iter_mut().zip(shares) {
        rung.pages +=
            (shares[0] * sums[0] + shares[1] * sums[1]) + (shares[2] * sums[2] + shares[3] * sums[3]);
    }
}

/// Few groups whose rates double from one to the next, so that the chance of being untouched is the square of the
/// neighbour's; added to `rungs`. None, and false, if rates do not fall far enough, or too far.
///
/// The integral over the logarithm of the rate is a sum over rungs at equal distances, each with the density there:
/// for a smooth law its error is below 1e-6. Where the law ends, four rungs are corrected so that sums of powers of the
/// rates are right: at the cool end the powers 0 to 3, at the hot end, where ranks are single, 0, 1/2, 1 and 3/2. The
/// first ranks hang on the four rungs about them by the same powers. (A hot rung may have less than no pages, by a
/// small part of one.)
fn rungs(pages: u64, exponent: f64, rungs: &mut Vec<Group>) -> bool {
    if !STEEP.contains(&exponent) {
        return false;
    }
    let end = pages as f64 + 0.5;
    let log = end.log2();
    // Rungs are numbered from the coolest on, and so are places between them.
    let place = |log_rank: f64| exponent * (log - log_rank) + BELOW;
    let behind = place(BEHIND.1);
    let first_behind = behind as usize + 1;
    if behind < 3.0 {
        return false;
    }
    let mut weight = (-place(0.0)).exp2();
    let count = place(0.0) as usize + 3;
    rungs.reserve(count);
    let growth = 1.0 / exponent;
    // The density falls by this from a rung to the next.
    let fall = (-growth).exp2();
    let coolest = std::f64::consts::LN_2 * growth * end * (BELOW * growth).exp2();
    let mut density = coolest;
    for rung in 0..count {
        let inside = rung > 0 && rung < first_behind;
        rungs.push(Group { pages: if inside { density } else { 0.0 }, weight });
        if rung < first_behind {
            density *= fall;
        }
        weight *= 2.0;
    }
    // What the integral from `end` on has more than the sum over rungs from one with that density on: `end` in pages
    // times the power of the rate, and `ahead` rungs from there.
    let excess = |power: f64, step: f64, ended: f64, density: f64, ahead: f64| {
        let slope = growth - power;
        if slope.abs() < 1e-6 {
            return density * (ahead - 0.5);
        }
        ended / slope * growth - density / (1.0 - fall * step)
    };
    let powers = |base: f64| [1.0, base, base * base, base * base * base];
    let (steps, ends) = (powers(2.0), powers(BELOW.exp2()));
    let sums = [0, 1, 2, 3].map(|power| {
        let step = steps[power];
        excess(power as f64, step, end * ends[power], coolest * fall * step, 1.0 - BELOW)
    });
    hang(rungs, &BY_RATES, sums);
    let base = first_behind - 2;
    let from = behind - base as f64;
    let (steps, ends) = (powers(std::f64::consts::SQRT_2), powers((from / 2.0).exp2()));
    let sums = [0, 1, 2, 3].map(|power| {
        let step = steps[power];
        -excess(power as f64 / 2.0, step, BEHIND.0 * ends[power], density * step * step, 2.0 - from)
    });
    hang(&mut rungs[base..], &BY_ROOTS, sums);
    for log_rank in LOGS {
        let place = place(log_rank);
        let base = place as usize - 1;
        hang(&mut rungs[base..], &BY_ROOTS, powers(((place - base as f64) / 2.0).exp2()));
    }
    rungs.reverse();
    true
}

/// The integral of `x^(power - 1)`.
fn integral(from: f64, to: f64, power: f64) -> f64 {
    let log = (to / from).ln();
    if (power * log).abs() < 1e-9 {
        from.powf(power) * log
    } else {
        from.powf(power) * (power * log).exp_m1() / power
    }
}

/// Two groups with these sums of rates to the powers 0 to 3.
fn two_points(sums: [f64; 4]) -> [Group; 2] {
    let pages = sums[0];
    let [mean, square, cube] = [sums[1], sums[2], sums[3]].map(|sum| sum / pages);
    let variance = square - mean * mean;
    // Alike, but for rounding.
    if variance <= 1e-12 * square {
        return [Group { pages: pages / 2.0, weight: mean }; 2];
    }
    let deviation = variance.sqrt();
    let skew = (cube - 3.0 * mean * square + 2.0 * mean.powi(3)) / (variance * deviation) / 2.0;
    let half = (1.0 + skew * skew).sqrt();
    let (low, high) = (skew - half, skew + half);
    let share = high / (high - low);
    [
        Group { pages: pages * share, weight: mean + low * deviation },
        Group { pages: pages * (1.0 - share), weight: mean + high * deviation },
    ]
}

/// Makes the weights add up to one; gives what they added up to.
fn normalise(groups: &mut [Group]) -> f64 {
    let total: f64 = groups.iter().map(|group| group.pages * group.weight).sum();
    for group in groups {
        group.weight /= total;
    }
    total
}

impl Zipf {
    /// The law alone, in few groups: no page has a place.
    pub(super) fn expected(set: Range<u64>, exponent: f64) -> Self {
        let (class_of, weights, hottest, groups) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut zipf = Self { set: 0..0, exponent, class_of, weights, hottest, groups };
        zipf.become_expected(set, exponent);
        zipf
    }

    /// Makes it what [`Zipf::expected`] gives, in the memory that it has.
    pub(super) fn become_expected(&mut self, set: Range<u64>, exponent: f64) {
        few_groups(set.end - set.start, exponent, &mut self.groups);
        normalise(&mut self.groups);
        (self.set, self.exponent) = (set, exponent);
        self.class_of.clear();
        self.weights.clear();
        self.hottest.clear();
    }

    /// Deals the ranks out over `set`, which must not be empty.
    pub(super) fn new(set: Range<u64>, exponent: f64, rng: &mut Generator) -> Self {
        let first_word = set.start / 64;
        let words = (set.end - 1) / 64 - first_word + 1;
        let mut order: Vec<u32> = (0..words as u32).collect();
        shuffle(rng, &mut order);
        let mut groups = groups(1, set.end - set.start, exponent, SPREAD);
        let total = normalise(&mut groups);
        let mut zipf = Self {
            set,
            exponent,
            class_of: vec![0; words as usize],
            weights: Vec::new(),
            hottest: Vec::new(),
            groups,
        };
        zipf.deal(&order, exponent, total, rng);
        zipf
    }

    fn deal(&mut self, order: &[u32], exponent: f64, total: f64, rng: &mut Generator) {
        // The ranks of the class being filled.
        let mut class = 1..1_u64;
        let mut rank = 1;
        for &word in order {
            let lanes = self.lanes(word as usize);
            let last = rank + u64::from(lanes.count_ones()) - 1;
            if ratio(rank, last, exponent) > SPREAD && self.hottest.len() < usize::from(BY_PAGE) {
                self.close(&class, exponent, total);
                self.class_of[word as usize] = BY_PAGE | self.hottest.len() as u16;
                self.hottest.push(scattered(lanes, rank, exponent, total, rng));
                class = last + 1..last + 1;
            } else {
                let fits = !class.is_empty() && ratio(class.start, last, exponent) <= SPREAD;
                if !fits && self.weights.len() < usize::from(BY_PAGE) {
                    self.close(&class, exponent, total);
                    class = rank..rank;
                    self.weights.push(0.0);
                }
                class.end = last + 1;
                self.class_of[word as usize] = (self.weights.len() - 1) as u16;
            }
            rank = last + 1;
        }
        self.close(&class, exponent, total);
    }

    /// Gives the class being filled its mean weight.
    fn close(&mut self, class: &Range<u64>, exponent: f64, total: f64) {
        if let Some(weight) = self.weights.last_mut()
            && !class.is_empty()
        {
            *weight =
                rank_sum(class.start, class.end - 1, exponent) / (class.end - class.start) as f64 / total;
        }
    }

    /// The pages of the set in its `index`-th word.
    fn lanes(&self, index: usize) -> u64 {
        let mut lanes = u64::MAX;
        if index == 0 {
            lanes &= u64::MAX << (self.set.start % 64);
        }
        if index + 1 == self.class_of.len() {
            lanes &= u64::MAX >> (63 - (self.set.end - 1) % 64);
        }
        lanes
    }

    /// Pages of about equal weight, hottest first, as a fluid model sees them.
    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The shares of the writes that the `first` hottest pages get, and those behind them in a few groups.
    pub(super) fn ranks(&self, first: u64) -> (Vec<f64>, Vec<Group>) {
        let (pages, exponent) = (self.set.end - self.set.start, self.exponent);
        let total = rank_sum(1, pages, exponent);
        let hottest = (1..=first.min(pages)).map(|rank| (rank as f64).powf(-exponent) / total).collect();
        let mut behind = groups(first + 1, pages, exponent, BEHIND_FIRST);
        for group in &mut behind {
            group.weight /= total;
        }
        (hottest, behind)
    }

    /// The share of the writes that `page` gets; none if it is not in the set.
    pub(super) fn share_of(&self, page: u64) -> Option<f64> {
        let index = ((page / 64).checked_sub(self.set.start / 64)?) as usize;
        let class = *self.class_of.get(index).filter(|_| self.set.contains(&page))?;
        if class & BY_PAGE == 0 {
            self.weights.get(usize::from(class)).copied()
        } else {
            let weights = self.hottest.get(usize::from(class & !BY_PAGE))?;
            Some(weights[(page % 64) as usize])
        }
    }

    /// Draws the pages that `writes` dirty; says how many.
    pub(super) fn draw(&self, writes: f64, sampler: &mut Sampler, sink: &mut impl FnMut(usize, u64)) -> u64 {
        let mut count = 0;
        let laws: Vec<Law> = self.weights.iter().map(|weight| Law::of_exposure(writes * weight)).collect();
        let first_word = (self.set.start / 64) as usize;
        each_word(self.set.start, self.set.end, &mut |word, lanes| {
            let class = self.class_of[word - first_word];
            let mask = if class & BY_PAGE == 0 {
                sampler.word(laws[usize::from(class)]) & lanes
            } else {
                by_page(&self.hottest[usize::from(class & !BY_PAGE)], writes, sampler)
            };
            if mask != 0 {
                count += u64::from(mask.count_ones());
                sink(word, mask);
            }
        });
        count
    }

    /// The same for one word.
    pub(super) fn draw_word(&self, word: usize, writes: f64, sampler: &mut Sampler) -> u64 {
        let index = word.wrapping_sub((self.set.start / 64) as usize);
        let Some(&class) = self.class_of.get(index) else { return 0 };
        if class & BY_PAGE == 0 {
            sampler.word(Law::of_exposure(writes * self.weights[usize::from(class)])) & self.lanes(index)
        } else {
            by_page(&self.hottest[usize::from(class & !BY_PAGE)], writes, sampler)
        }
    }
}

/// What drawing single writes takes: the words in an order in which the sums of their weights are known.
#[derive(Clone, Debug, Default)]
pub(super) struct Draws {
    /// The sum of the weights of all words up to this one, in the order of addresses.
    sums: Vec<f64>,
}

impl Zipf {
    /// The first page and the one behind the last.
    pub(super) fn extent(&self) -> (u64, u64) {
        (self.set.start, self.set.end)
    }

    /// Prepares [`Zipf::draw_page`].
    pub(super) fn draws(&self) -> Draws {
        let mut sum = 0.0;
        let of_word = |(index, &class): (usize, &u16)| {
            sum += if class & BY_PAGE == 0 {
                self.weights[usize::from(class)] * f64::from(self.lanes(index).count_ones())
            } else {
                self.hottest[usize::from(class & !BY_PAGE)].iter().sum()
            };
            sum
        };
        Draws { sums: self.class_of.iter().enumerate().map(of_word).collect() }
    }

    /// The page that one write goes to.
    pub(super) fn draw_page(&self, draws: &Draws, rng: &mut Generator) -> Option<u64> {
        let at = unit(rng) * draws.sums.last()?;
        let index = draws.sums.partition_point(|&sum| sum <= at).min(draws.sums.len() - 1);
        let class = self.class_of[index];
        let lane = if class & BY_PAGE == 0 {
            let lanes = self.lanes(index);
            u64::from(lanes.trailing_zeros()) + below(rng, u64::from(lanes.count_ones()))
        } else {
            let mut left = at - if index == 0 { 0.0 } else { draws.sums[index - 1] };
            let weights = &self.hottest[usize::from(class & !BY_PAGE)];
            let found = weights.iter().position(|weight| {
                left -= weight;
                left < 0.0
            });
            found.or_else(|| weights.iter().rposition(|&weight| weight > 0.0))? as u64
        };
        Some((self.set.start / 64 + index as u64) * 64 + lane)
    }
}

/// The weights of a word's pages, ranks from `rank` on in random order.
fn scattered(lanes: u64, rank: u64, exponent: f64, total: f64, rng: &mut Generator) -> [f64; 64] {
    let mut ranks: Vec<u64> = (rank..rank + u64::from(lanes.count_ones())).collect();
    shuffle(rng, &mut ranks);
    let mut weights = [0.0; 64];
    let pages = (0..64).filter(|page| lanes >> page & 1 != 0);
    for (page, rank) in pages.zip(ranks) {
        weights[page] = (rank as f64).powf(-exponent) / total;
    }
    weights
}

/// Draws pages with a weight each.
fn by_page(weights: &[f64; 64], writes: f64, sampler: &mut Sampler) -> u64 {
    weights.iter().enumerate().fold(0, |mask, (page, weight)| {
        let hit = *weight > 0.0 && sampler.event(writes * weight);
        mask | u64::from(hit) << page
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_groups_dirty_as_many_pages_as_all_ranks_do() {
        for (pages, exponent, bound) in [
            (5, 1.0, 1e-9),
            (20_000, 0.0, 1e-6),
            (20_000, 0.5, 1e-3),
            (20_000, 0.99, 1e-3),
            (1000, 2.0, 6e-3),
        ] {
            let zipf = Zipf::expected(0..pages, exponent);
            let total: f64 = (1..=pages).map(|rank| (rank as f64).powf(-exponent)).sum();
            for writes in [10.0, 1e3, 1e5] {
                let dirty = |weight: f64| -(-writes * weight).exp_m1();
                let all: f64 = (1..=pages).map(|rank| dirty((rank as f64).powf(-exponent) / total)).sum();
                let few: f64 = zipf.groups().iter().map(|group| group.pages * dirty(group.weight)).sum();
                assert!((few / all - 1.0).abs() <= bound, "{pages} {exponent} {writes}: {few} {all}");
            }
            assert!(zipf.groups().len() < 50, "{}", zipf.groups().len());
        }
    }

    #[test]
    fn rungs_stand_for_the_law_after_any_number_of_writes() {
        for exponent in [0.5, 0.6, 0.75, 0.99, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0] {
            // From the fewest pages for which there are rungs, and where places of rungs differ.
            for pages in [11, 20, 40, 80, 150, 301, 1000, 5003] {
                let mut groups = Vec::new();
                if !rungs(pages, exponent, &mut groups) {
                    assert!(pages < 150, "{pages} {exponent}");
                    continue;
                }
                normalise(&mut groups);
                let sum: f64 = groups.iter().map(|group| group.pages).sum();
                assert!((sum / pages as f64 - 1.0).abs() < 1e-9, "{pages} {exponent}: {sum}");
                assert!(
                    groups
                        .windows(2)
                        .all(|two| (two[0].weight / two[1].weight).to_bits() == 2.0f64.to_bits())
                );
                assert!(groups.iter().all(|group| group.pages > -0.05), "{pages} {exponent}: {groups:?}");
                assert!(groups.last().is_some_and(|coolest| coolest.pages > 0.0));
                let total = rank_sum(1, pages, exponent);
                let rates: Vec<f64> = (1..=pages).map(|rank| (rank as f64).powf(-exponent) / total).collect();
                let mut writes = 1.0;
                let (mut worst, mut at) = (0.0, 0.0);
                while writes * rates[rates.len() - 1] < 20.0 {
                    let dirty = |weight: f64| -(-writes * weight).exp_m1();
                    let all: f64 = rates.iter().map(|&weight| dirty(weight)).sum();
                    let few: f64 = groups.iter().map(|group| group.pages * dirty(group.weight)).sum();
                    if (few / all - 1.0).abs() > worst {
                        (worst, at) = ((few / all - 1.0).abs(), writes);
                    }
                    writes *= 1.5;
                }
                let bound = if exponent < 1.3 { 1.2e-3 } else { 2.5e-3 };
                assert!(worst < bound, "{pages} {exponent}: {worst:.1e} after {at} writes");
            }
        }
    }
}
