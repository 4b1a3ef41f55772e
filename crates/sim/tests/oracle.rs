//! The guest model beside a model that plays every single write.
//!
//! The oracle draws the gap to each write and the page it goes to. The guest draws the pages that an
//! interval dirtied. Both must have the same distribution: means, variances, single pages, pairs of pages
//! and consecutive intervals. Seeds are fixed, so these tests always give the same answer; bounds are at
//! about five standard deviations, so that a sound change of the streams passes too.

use std::time::Duration;

use whimbrel_core::layout::PageNumber;
use whimbrel_core::units::{ByteCount, Timestamp};
use whimbrel_sim::config::{GuestConfig, Pattern, WriterConfig};
use whimbrel_sim::guest::{Detail, Guest};

const PAGE: u64 = 4096;
/// First page and pages of the working set: within words at both ends.
const FIRST: u64 = 37;
const PAGES: u64 = 1000;
/// The largest deviation that passes, in standard deviations.
const BOUND: f64 = 5.0;

/// A generator of its own kind (`SplitMix64`), so that both sides share nothing.
struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((value ^ (value >> 31)) >> 11) as f64 / 9_007_199_254_740_992.0
    }
}

/// Plays writes: how many a second, and the chance of each page as a running sum.
struct Oracle {
    dice: Dice,
    rate: f64,
    sums: Vec<f64>,
    next: f64,
}

impl Oracle {
    fn new(weights: &[f64], rate: f64, seed: u64) -> Self {
        let mut dice = Dice(seed);
        let next = -(1.0 - dice.unit()).ln() / rate;
        let sums = weights.iter().scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self { sums: sums.collect(), dice, rate, next }
    }

    /// The pages written in the next `time` seconds.
    fn play(&mut self, time: f64) -> Vec<bool> {
        let mut dirty = vec![false; self.sums.len()];
        let total = *self.sums.last().unwrap();
        while self.next < time {
            let place = self.dice.unit() * total;
            dirty[self.sums.partition_point(|&sum| sum <= place)] = true;
            self.next -= (1.0 - self.dice.unit()).ln() / self.rate;
        }
        self.next -= time;
        dirty
    }
}

fn writer(pattern: Pattern, rate: f64) -> WriterConfig {
    WriterConfig {
        pattern,
        working_set: ByteCount(PAGES * PAGE),
        offset: Some(ByteCount(FIRST * PAGE)),
        rate,
        write_cost: Duration::ZERO,
        ..WriterConfig::default()
    }
}

fn config(writers: Vec<WriterConfig>) -> GuestConfig {
    GuestConfig { memory: ByteCount::mib(8), writers, ..GuestConfig::default() }
}

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_nanos((seconds * 1e9).round() as u64)
}

/// A guest whose log is on from time zero.
fn tracked(config: &GuestConfig, seed: u64, detail: Detail, fault: Duration) -> Guest {
    let mut guest = Guest::new(config, seed).unwrap().with_detail(detail);
    guest.start_tracking(Timestamp::ZERO, fault);
    guest
}

/// Harvests at `now`: which pages of the working set are dirty. Checks what every harvest promises.
fn harvest(guest: &mut Guest, now: Timestamp) -> Vec<bool> {
    let mut dirty = vec![false; PAGES as usize];
    let mut count = 0;
    let found = guest.harvest(now, |word, mask| {
        assert_ne!(mask, 0, "a word without dirty pages");
        for bit in (0..64).filter(|bit| mask >> bit & 1 != 0) {
            let page = (word as u64 * 64 + bit).checked_sub(FIRST).expect("a page before the working set");
            assert!(!std::mem::replace(&mut dirty[page as usize], true), "page {page} came twice");
            count += 1;
        }
    });
    assert_eq!(found.dirty.0, count);
    dirty
}

/// The share of the writes that each page gets, hottest first where the guest scatters them.
fn weights(pattern: Pattern) -> Vec<f64> {
    match pattern {
        Pattern::HotCold => (0..PAGES).map(|page| if page < 100 { 0.009 } else { 0.1 / 900.0 }).collect(),
        Pattern::Zipf => {
            let raw: Vec<f64> = (1..=PAGES).map(|rank| (rank as f64).powf(-0.99)).collect();
            let sum: f64 = raw.iter().sum();
            raw.iter().map(|weight| weight / sum).collect()
        }
        _ => vec![1.0 / PAGES as f64; PAGES as usize],
    }
}

/// Mean, variance and fourth central moment.
fn moments(values: &[f64]) -> (f64, f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let power = |exponent| values.iter().map(|value| (value - mean).powi(exponent)).sum::<f64>() / count;
    (mean, power(2), power(4))
}

/// Fails unless two samples have the same mean and variance.
fn same_moments(one: &[f64], other: &[f64], what: &str) {
    let (first, second) = (moments(one), moments(other));
    let error = (first.1 / one.len() as f64 + second.1 / other.len() as f64).sqrt();
    let mean = (first.0 - second.0) / error.max(1e-9);
    assert!(mean.abs() < BOUND, "{what}: means {} and {}, {mean:.1} deviations", first.0, second.0);
    let spread = |sample: (f64, f64, f64), count: usize| (sample.2 - sample.1 * sample.1) / count as f64;
    let error = (spread(first, one.len()) + spread(second, other.len())).sqrt();
    let variance = (first.1 - second.1) / error.max(1e-9);
    assert!(
        variance.abs() < BOUND,
        "{what}: variances {} and {}, {variance:.1} deviations",
        first.1,
        second.1
    );
}

/// Fails unless `squares` is what a chi-square of so many degrees of freedom may be.
fn plausible(squares: f64, freedom: f64, what: &str) {
    let deviations = (squares - freedom) / (2.0 * freedom).sqrt();
    assert!(
        deviations.abs() < BOUND,
        "{what}: chi-square {squares:.1} for {freedom}, {deviations:.1} deviations"
    );
}

fn count(dirty: &[bool]) -> f64 {
    dirty.iter().filter(|&&page| page).count() as f64
}

/// Chance of a page with this share of `writes`.
fn chance(writes: f64, weight: f64) -> f64 {
    -(-writes * weight).exp_m1()
}

const PATTERNS: [Pattern; 3] = [Pattern::Uniform, Pattern::HotCold, Pattern::Zipf];
/// Writes for each page in an interval: rare hits, dense, and rare misses.
const EXPOSURES: [f64; 6] = [0.004, 0.05, 0.7, 1.0, 3.0, 6.5];

#[test]
fn as_many_pages_are_dirtied_as_by_playing_every_write() {
    for pattern in PATTERNS {
        for (index, exposure) in EXPOSURES.into_iter().enumerate() {
            let rate = exposure * PAGES as f64;
            let mut oracle = Oracle::new(&weights(pattern), rate, 77 + index as u64);
            let mut guest = tracked(&config(vec![writer(pattern, rate)]), 5, Detail::Rounds, Duration::ZERO);
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            let mut last: Option<(Vec<bool>, Vec<bool>)> = None;
            let mut both = (Vec::new(), Vec::new());
            for round in 1..=if exposure > 2.0 { 300 } else { 800 } {
                let (one, other) = (harvest(&mut guest, at(f64::from(round))), oracle.play(1.0));
                ours.push(count(&one));
                theirs.push(count(&other));
                if let Some((before, played)) = last.replace((one.clone(), other.clone())) {
                    let common =
                        |a: &[bool], b: &[bool]| a.iter().zip(b).filter(|(a, b)| **a && **b).count() as f64;
                    both.0.push(common(&before, &one));
                    both.1.push(common(&played, &other));
                }
            }
            same_moments(&ours, &theirs, &format!("{pattern:?} at {exposure}: pages of a round"));
            // Every second pair, so that they share no interval.
            let apart = |all: &[f64]| all.iter().step_by(2).copied().collect::<Vec<_>>();
            same_moments(
                &apart(&both.0),
                &apart(&both.1),
                &format!("{pattern:?} at {exposure}: pages of two rounds"),
            );
        }
    }
}

#[test]
fn every_page_has_its_own_chance() {
    const ROUNDS: u32 = 2000;
    for pattern in [Pattern::Uniform, Pattern::HotCold] {
        for exposure in EXPOSURES {
            let rate = exposure * PAGES as f64;
            let mut guest = tracked(&config(vec![writer(pattern, rate)]), 9, Detail::Rounds, Duration::ZERO);
            let mut hits = vec![0.0; PAGES as usize];
            for round in 1..=ROUNDS {
                for (page, dirty) in harvest(&mut guest, at(f64::from(round))).into_iter().enumerate() {
                    hits[page] += f64::from(u8::from(dirty));
                }
            }
            let (mut squares, mut freedom) = (0.0, 0.0);
            for (hits, weight) in hits.iter().zip(weights(pattern)) {
                let chance = chance(rate, weight);
                let expected = f64::from(ROUNDS) * chance;
                // A chi-square wants some of each kind; pages that are always dirty are checked in sum.
                if expected * (1.0 - chance) > 3.0 {
                    squares += (hits - expected).powi(2) / (expected * (1.0 - chance));
                    freedom += 1.0;
                }
            }
            plausible(squares, freedom, &format!("{pattern:?} at {exposure}"));
            // A small error that all pages of a part share shows in their sum only.
            for part in [0..100, 100..PAGES as usize] {
                let (mut sum, mut variance) = (0.0, 0.0);
                for (hits, weight) in hits[part.clone()].iter().zip(&weights(pattern)[part.clone()]) {
                    let chance = chance(rate, *weight);
                    sum += hits - f64::from(ROUNDS) * chance;
                    variance += f64::from(ROUNDS) * chance * (1.0 - chance);
                }
                let deviations = sum / variance.sqrt().max(1e-3);
                assert!(
                    deviations.abs() < BOUND,
                    "{pattern:?} at {exposure}, {part:?}: {deviations:.1} deviations"
                );
            }
        }
    }
}

#[test]
fn pages_and_rounds_are_independent_of_each_other() {
    const ROUNDS: u32 = 2000;
    for exposure in EXPOSURES {
        let rate = exposure * PAGES as f64;
        let p = chance(rate, 1.0 / PAGES as f64);
        let mut guest =
            tracked(&config(vec![writer(Pattern::Uniform, rate)]), 13, Detail::Rounds, Duration::ZERO);
        let mut before = vec![false; PAGES as usize];
        // Pairs dirty together: the same page in two rounds, then pages this far apart in one round.
        let distances = [0_usize, 1, 2, 17, 32, 63, 64, 65, 128, 256];
        let mut together = vec![0.0; distances.len()];
        let mut pairs = vec![0.0; distances.len()];
        for round in 1..=ROUNDS {
            let dirty = harvest(&mut guest, at(f64::from(round)));
            for (index, &distance) in distances.iter().enumerate() {
                let other = if distance == 0 { &before } else { &dirty };
                let covariance = dirty
                    .iter()
                    .zip(&other[distance..])
                    .map(|(one, other)| (f64::from(u8::from(*one)) - p) * (f64::from(u8::from(*other)) - p));
                if distance > 0 || round > 1 {
                    together[index] += covariance.sum::<f64>();
                    pairs[index] += (PAGES as usize - distance) as f64;
                }
            }
            before = dirty;
        }
        for ((sum, pairs), distance) in together.iter().zip(&pairs).zip(distances) {
            let deviations = sum / (pairs.sqrt() * p * (1.0 - p));
            assert!(
                deviations.abs() < BOUND,
                "exposure {exposure}, distance {distance}: {deviations:.1} deviations"
            );
        }
    }
}

#[test]
fn zipf_pages_of_large_sets_follow_the_exact_rates() {
    let pages = 100_000_u64;
    for exponent in [0.0, 0.3, 0.99, 1.0, 2.5] {
        let set = ByteCount(pages * PAGE);
        let rate = 2.0 * pages as f64;
        let writers = vec![WriterConfig { working_set: set, exponent, ..writer(Pattern::Zipf, rate) }];
        let config = GuestConfig { memory: ByteCount::mib(512), ..config(writers) };
        let raw: Vec<f64> = (1..=pages).map(|rank| (rank as f64).powf(-exponent)).collect();
        let sum: f64 = raw.iter().sum();
        let mut guest = tracked(&config, 3, Detail::Rounds, Duration::ZERO);
        for time in [0.001, 0.1, 1.0] {
            let (mut mean, mut variance, mut found) = (0.0, 0.0, 0.0);
            for weight in &raw {
                let p = chance(rate * time, weight / sum);
                mean += p;
                variance += p * (1.0 - p);
            }
            let rounds = 40;
            for _ in 0..rounds {
                let now = Timestamp::from_nanos(guest.clock().as_nanos() + (time * 1e9) as u64);
                let expected = guest.expected_dirty(now);
                assert!((expected / mean - 1.0).abs() < 1e-3, "expected {expected}, exact {mean}");
                found += guest.harvest(now, |_, _| {}).dirty.0 as f64;
            }
            let rounds = f64::from(rounds);
            // The documented bias of classes is at most 5.4e-5 a page.
            let bias = 5.4e-5 * pages as f64;
            let error = (found / rounds - mean).abs() - bias;
            assert!(
                error < BOUND * (variance / rounds).sqrt(),
                "exponent {exponent}, {time} s: {found} for {mean}"
            );
        }
    }
}

#[test]
fn a_sequential_writer_is_followed_to_the_page() {
    let rate = 777.0;
    let mut guest =
        tracked(&config(vec![writer(Pattern::Sequential, rate)]), 1, Detail::Rounds, Duration::ZERO);
    let mut words =
        tracked(&config(vec![writer(Pattern::Sequential, rate)]), 1, Detail::Words, Duration::ZERO);
    let (mut time, mut cursor, mut dice) = (0.0, 0_u64, Dice(4));
    // Where the cycle begins is drawn from the seed, for both alike.
    let mut begin = None;
    for _ in 0..300 {
        time += dice.unit() * 2.0;
        let mut played = vec![false; PAGES as usize];
        let until = (rate * at(time).as_nanos() as f64 * 1e-9) as u64;
        let found = harvest(&mut guest, at(time));
        let length = until - cursor;
        if begin.is_none() && length > 0 && length < PAGES {
            let first = |page: u64| found[page as usize] && !found[((page + PAGES - 1) % PAGES) as usize];
            let starts: Vec<u64> = (0..PAGES).filter(|page| first(*page)).collect();
            assert_eq!(starts.len(), 1, "the pages of a short while are one run");
            begin = Some((starts[0] + PAGES - cursor % PAGES) % PAGES);
        }
        while cursor < until {
            played[((cursor + begin.unwrap_or(0)) % PAGES) as usize] = true;
            cursor += 1;
        }
        assert_eq!(found, played);
        for word in 0..20 {
            words.dirtied_mask(word, at(time));
        }
        assert_eq!(harvest(&mut words, at(time)), played);
    }
}

#[test]
fn looking_at_words_in_between_changes_no_distribution() {
    for pattern in PATTERNS {
        for exposure in [0.02, 0.7, 4.0] {
            let rate = exposure * PAGES as f64;
            let mut oracle = Oracle::new(&weights(pattern), rate, 21);
            let mut guest = tracked(&config(vec![writer(pattern, rate)]), 6, Detail::Words, Duration::ZERO);
            let (mut ours, mut theirs, mut early) = (Vec::new(), Vec::new(), (Vec::new(), Vec::new()));
            let mut dice = Dice(8);
            for round in 0..600 {
                let start = f64::from(round);
                let first = oracle.play(0.3);
                let last = oracle.play(0.7);
                theirs.push(first.iter().zip(&last).filter(|(one, other)| **one || **other).count() as f64);
                early.1.push(count(&first));
                let (mut seen, mut found) = (vec![0; 20], 0);
                for (word, seen) in seen.iter_mut().enumerate() {
                    *seen = guest.dirtied_mask(word, at(start + 0.3));
                    found += seen.count_ones();
                }
                early.0.push(f64::from(found));
                // Some words again, later and later, as a scan passes.
                for (word, seen) in seen.iter_mut().enumerate() {
                    if dice.unit() < 0.5 {
                        let now = guest.dirtied_mask(word, at(start + 0.3 + 0.03 * word as f64));
                        assert_eq!(*seen & !now, 0, "a dirty page became clean");
                        *seen = now;
                    }
                }
                let dirty = harvest(&mut guest, at(start + 1.0));
                for page in 0..PAGES {
                    let (word, bit) = ((page + FIRST) / 64, (page + FIRST) % 64);
                    assert!(
                        dirty[page as usize] || seen[word as usize] >> bit & 1 == 0,
                        "a dirty page was lost"
                    );
                }
                ours.push(count(&dirty));
            }
            same_moments(&ours, &theirs, &format!("{pattern:?} at {exposure}, whole rounds"));
            same_moments(&early.0, &early.1, &format!("{pattern:?} at {exposure}, the first third"));
        }
    }
}

#[test]
fn overlapping_writers_dirty_a_page_once() {
    let (one, other) = (writer(Pattern::Uniform, 400.0), writer(Pattern::HotCold, 800.0));
    let mut weights = weights(Pattern::HotCold);
    for weight in &mut weights {
        *weight = (*weight * 800.0 + 400.0 / PAGES as f64) / 1200.0;
    }
    let mut oracle = Oracle::new(&weights, 1200.0, 3);
    let mut guest = tracked(&config(vec![one, other]), 2, Detail::Rounds, Duration::ZERO);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=1000 {
        ours.push(count(&harvest(&mut guest, at(f64::from(round)))));
        theirs.push(count(&oracle.play(1.0)));
    }
    same_moments(&ours, &theirs, "two writers");
}

#[test]
fn a_version_counts_what_was_seen_to_change() {
    let mut guest =
        tracked(&config(vec![writer(Pattern::Uniform, 1000.0)]), 2, Detail::Versions, Duration::ZERO);
    let mut versions = vec![0; PAGES as usize];
    for round in 1..=50 {
        let version = |guest: &Guest, page: u64| guest.version(PageNumber(page + FIRST));
        let before: Vec<u64> = (0..PAGES).map(|page| version(&guest, page)).collect();
        for word in 0..8 {
            guest.dirtied_mask(word, at(f64::from(round) - 0.4));
        }
        let middle: Vec<u64> = (0..PAGES).map(|page| version(&guest, page)).collect();
        let dirty = harvest(&mut guest, at(f64::from(round)));
        for page in 0..PAGES as usize {
            versions[page] = version(&guest, page as u64);
            let steps = versions[page] - before[page];
            assert_eq!(steps > 0, dirty[page], "a page is dirty if and only if its content changed");
            assert!(steps <= 2 && middle[page] - before[page] <= 1);
        }
    }
    assert_eq!(guest.version(PageNumber(0)), 0);
    assert!(versions.iter().sum::<u64>() > 10_000);
}
