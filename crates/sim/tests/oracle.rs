//! The guest model beside a model that plays every single write.
//!
//! The oracle draws the gap to each write and the page it goes to. The guest draws the pages that an
//! interval dirtied. Both must have the same distribution: means, variances, single pages, pairs of pages
//! and consecutive intervals. Seeds are fixed, so these tests always give the same answer; bounds are at
//! about five standard deviations, so that a sound change of the streams passes too.

use std::time::Duration;

use whimbrel_core::layout::PageNumber;
use whimbrel_core::units::{ByteCount, CpuShare, Share, Timestamp};
use whimbrel_sim::config::{GuestConfig, Pattern, PhaseConfig, WriterConfig};
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
    assert!(variance.abs() < BOUND, "{what}: variances {} and {}, {variance:.1} deviations", first.1, second.1);
}

/// Fails unless `squares` is what a chi-square of so many degrees of freedom may be.
fn plausible(squares: f64, freedom: f64, what: &str) {
    let deviations = (squares - freedom) / (2.0 * freedom).sqrt();
    assert!(deviations.abs() < BOUND, "{what}: chi-square {squares:.1} for {freedom}, {deviations:.1} deviations");
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
            for round in 1..=1500 {
                let (one, other) = (harvest(&mut guest, at(f64::from(round))), oracle.play(1.0));
                ours.push(count(&one));
                theirs.push(count(&other));
                if let Some((before, played)) = last.replace((one.clone(), other.clone())) {
                    let common = |a: &[bool], b: &[bool]| a.iter().zip(b).filter(|(a, b)| **a && **b).count() as f64;
                    both.0.push(common(&before, &one));
                    both.1.push(common(&played, &other));
                }
            }
            same_moments(&ours, &theirs, &format!("{pattern:?} at {exposure}: pages of a round"));
            // Every second pair, so that they share no interval.
            let apart = |all: &[f64]| all.iter().step_by(2).copied().collect::<Vec<_>>();
            same_moments(&apart(&both.0), &apart(&both.1), &format!("{pattern:?} at {exposure}: pages of two rounds"));
        }
    }
}

#[test]
fn every_page_has_its_own_chance() {
    const ROUNDS: u32 = 4000;
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
        }
    }
}

#[test]
fn pages_and_rounds_are_independent_of_each_other() {
    const ROUNDS: u32 = 6000;
    for exposure in EXPOSURES {
        let rate = exposure * PAGES as f64;
        let p = chance(rate, 1.0 / PAGES as f64);
        let mut guest = tracked(&config(vec![writer(Pattern::Uniform, rate)]), 13, Detail::Rounds, Duration::ZERO);
        let mut before = vec![false; PAGES as usize];
        // Pairs dirty together: the same page in two rounds, then pages this far apart in one round.
        let distances = [0_usize, 1, 2, 17, 32, 63, 64, 65, 128, 256];
        let mut together = vec![0.0; distances.len()];
        let mut pairs = vec![0.0; distances.len()];
        for round in 1..=ROUNDS {
            let dirty = harvest(&mut guest, at(f64::from(round)));
            for (index, &distance) in distances.iter().enumerate() {
                let other = if distance == 0 { &before } else { &dirty };
                let covariance = dirty.iter().zip(&other[distance..]).map(|(one, other)| {
                    (f64::from(u8::from(*one)) - p) * (f64::from(u8::from(*other)) - p)
                });
                if distance > 0 || round > 1 {
                    together[index] += covariance.sum::<f64>();
                    pairs[index] += (PAGES as usize - distance) as f64;
                }
            }
            before = dirty;
        }
        for ((sum, pairs), distance) in together.iter().zip(&pairs).zip(distances) {
            let deviations = sum / (pairs.sqrt() * p * (1.0 - p));
            assert!(deviations.abs() < BOUND, "exposure {exposure}, distance {distance}: {deviations:.1} deviations");
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
            assert!(error < BOUND * (variance / rounds).sqrt(), "exponent {exponent}, {time} s: {found} for {mean}");
        }
    }
}

#[test]
fn a_sequential_writer_is_followed_to_the_page() {
    let rate = 777.0;
    let mut guest = tracked(&config(vec![writer(Pattern::Sequential, rate)]), 1, Detail::Rounds, Duration::ZERO);
    let mut words = tracked(&config(vec![writer(Pattern::Sequential, rate)]), 1, Detail::Words, Duration::ZERO);
    let (mut time, mut cursor, mut dice) = (0.0, 0_u64, Dice(4));
    for _ in 0..300 {
        time += dice.unit() * 2.0;
        let mut played = vec![false; PAGES as usize];
        let until = (rate * at(time).as_nanos() as f64 * 1e-9) as u64;
        while cursor < until {
            played[(cursor % PAGES) as usize] = true;
            cursor += 1;
        }
        assert_eq!(harvest(&mut guest, at(time)), played);
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
            for round in 0..1200 {
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
                    assert!(dirty[page as usize] || seen[word as usize] >> bit & 1 == 0, "a dirty page was lost");
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
    for round in 1..=2000 {
        ours.push(count(&harvest(&mut guest, at(f64::from(round)))));
        theirs.push(count(&oracle.play(1.0)));
    }
    same_moments(&ours, &theirs, "two writers");
}

#[test]
fn a_version_counts_what_was_seen_to_change() {
    let mut guest = tracked(&config(vec![writer(Pattern::Uniform, 1000.0)]), 2, Detail::Versions, Duration::ZERO);
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

#[test]
fn a_throttle_slows_a_writer_as_measured() {
    // Reference runs: no effect up to 80 %, 58 % of the rate at 90 %, 6 % at 99 %.
    for (throttle, wanted) in [(0.0, 1.0), (0.5, 1.0), (0.8, 1.0), (0.9, 0.6), (0.99, 0.06), (1.0, 0.0)] {
        let mut guest = Guest::new(&config(vec![writer(Pattern::Uniform, 5000.0)]), 0).unwrap();
        guest.set_throttle(Timestamp::ZERO, CpuShare::new(throttle).unwrap());
        let share = guest.writes(at(100.0)) / 500_000.0;
        assert!((share - wanted).abs() < 1e-9, "throttle {throttle}: {share} of the rate");
    }
    // A writer that needs all its CPU time loses what is taken; one that never catches up, too.
    for (cost, catch_up) in [(100, 50), (0, 0)] {
        let busy = WriterConfig {
            write_cost: Duration::from_micros(cost),
            catch_up: Duration::from_millis(catch_up),
            ..writer(Pattern::Uniform, 10_000.0)
        };
        let mut guest = Guest::new(&config(vec![busy]), 0).unwrap();
        guest.set_throttle(Timestamp::ZERO, CpuShare::new(0.3).unwrap());
        let writes = guest.writes(at(10.0));
        assert!((writes / 70_000.0 - 1.0).abs() < 1e-9, "{writes} writes");
    }
}

#[test]
fn a_stronger_throttle_never_lets_more_writes_through() {
    for pattern in [Pattern::Uniform, Pattern::Sequential, Pattern::HotCold, Pattern::Zipf] {
        for cost in [0, 10, 150] {
            for fault in [0, 20, 500] {
                let mut last = f64::INFINITY;
                for throttle in [0.0, 0.1, 0.5, 0.85, 0.9, 0.97, 0.99, 1.0] {
                    let one = WriterConfig { write_cost: Duration::from_micros(cost), ..writer(pattern, 5000.0) };
                    let mut guest = tracked(&config(vec![one]), 0, Detail::Rounds, Duration::from_micros(fault));
                    guest.set_throttle(Timestamp::ZERO, CpuShare::new(throttle).unwrap());
                    for round in 1..6 {
                        guest.harvest(at(f64::from(round) * 0.4), |_, _| {});
                    }
                    let writes = guest.writes(at(3.0));
                    assert!(writes <= last * (1.0 + 1e-9), "{pattern:?} {cost} {fault} {throttle}: {writes} > {last}");
                    last = writes;
                }
            }
        }
    }
}

#[test]
fn a_paused_guest_writes_nothing_and_catches_up_with_nothing() {
    let mut guest = tracked(&config(vec![writer(Pattern::Uniform, 1000.0)]), 0, Detail::Rounds, Duration::ZERO);
    guest.pause(at(1.0));
    assert!(harvest(&mut guest, at(1.0)).contains(&true));
    assert!(!harvest(&mut guest, at(3.0)).contains(&true));
    guest.resume(at(4.0));
    assert!((guest.writes(at(5.0)) - 2000.0).abs() < 1e-6);
    let lost = guest.lost();
    assert!((lost.pause.as_f64() - 3.0).abs() < 1e-9 && lost.throttle.as_f64() == 0.0);
}

/// Follows the CPU time of a writer in small steps: debts, faults and all.
fn stepped(rate: f64, cost: f64, fault: f64, cpu: f64, catch_up: f64, rounds: &[f64]) -> f64 {
    let (mut writes, mut owed, step) = (0.0_f64, 0.0_f64, 2e-6);
    for &round in rounds {
        let (mut since, mut time) = (0.0_f64, 0.0);
        while time < round {
            owed = (owed + rate * step).min(rate * catch_up + rate * step);
            let price = cost + fault * (-since / PAGES as f64).exp();
            let done = owed.min(cpu * step / price);
            owed = (owed - done).min(rate * catch_up);
            writes += done;
            since += done;
            time += step;
        }
    }
    writes
}

#[test]
fn tracking_faults_slow_a_busy_writer_and_it_catches_up() {
    let rounds = [0.2, 0.05, 0.4, 0.4, 0.01];
    // Rate, cost of a write, of a fault, throttle: never slowed, slowed at first, slowed all the time.
    for (rate, cost, fault, throttle) in
        [(2000.0, 50, 100, 0.0), (5000.0, 100, 300, 0.0), (5000.0, 0, 900, 0.0), (9000.0, 100, 900, 0.0), (4000.0, 50, 300, 0.5)]
    {
        let one = WriterConfig { write_cost: Duration::from_micros(cost), ..writer(Pattern::Uniform, rate) };
        let mut guest = tracked(&config(vec![one]), 0, Detail::Rounds, Duration::from_micros(fault));
        guest.set_throttle(Timestamp::ZERO, CpuShare::new(throttle).unwrap());
        let (mut now, mut dirty) = (0.0, 0);
        for round in rounds {
            now += round;
            dirty += guest.harvest(at(now), |_, _| {}).dirty.0;
        }
        let seconds = |micros: u64| micros as f64 * 1e-6;
        let played = stepped(rate, seconds(cost), seconds(fault), 1.0 - throttle, 0.05, &rounds);
        let writes = guest.writes(at(now));
        assert!((writes / played - 1.0).abs() < 2e-3, "{rate} {cost} {fault}: {writes}, in steps {played}");
        let lost = guest.lost().tracking_faults.as_f64();
        assert!((lost - dirty as f64 * seconds(fault)).abs() < 1e-9);
    }
}

#[test]
fn asking_more_often_changes_nothing_at_all() {
    let phases = vec![
        PhaseConfig { length: Duration::from_millis(70), rate: 9000.0 },
        PhaseConfig { length: Duration::from_millis(130), rate: 100.0 },
    ];
    let one = WriterConfig {
        write_cost: Duration::from_micros(90),
        phases,
        start: Duration::from_millis(33),
        end: Some(Duration::from_millis(2900)),
        ..writer(Pattern::HotCold, 1.0)
    };
    let run = |often: bool| {
        let mut guest = tracked(&config(vec![one.clone()]), 4, Detail::Rounds, Duration::from_micros(200));
        let (mut all, mut now) = (Vec::new(), 0.0);
        for round in 0..12 {
            for tick in 1..=50 {
                if often {
                    guest.advance(at(now + f64::from(tick) * 0.005));
                    guest.expected_dirty(at(now + f64::from(tick) * 0.005));
                    let _ = (guest.writes(at(now + f64::from(tick) * 0.005)), guest.lost());
                }
            }
            now += 0.25;
            guest.set_throttle(at(now), CpuShare::new(f64::from(round) * 0.08).unwrap());
            guest.harvest(at(now), |word, mask| all.push((word, mask)));
        }
        (all, guest.writes(at(now)).to_bits(), guest.lost())
    };
    assert_eq!(run(false), run(true));
}

#[test]
fn phases_start_and_end_are_kept() {
    let phases = vec![
        PhaseConfig { length: Duration::from_millis(100), rate: 1000.0 },
        PhaseConfig { length: Duration::from_millis(300), rate: 0.0 },
    ];
    let one = WriterConfig {
        phases,
        start: Duration::from_millis(500),
        end: Some(Duration::from_millis(1350)),
        ..writer(Pattern::Uniform, 77.0)
    };
    let mut guest = Guest::new(&config(vec![one]), 4).unwrap();
    // Seconds, and writes made until then.
    for (time, wanted) in [(0.5, 0.0), (0.55, 50.0), (0.6, 100.0), (0.9, 100.0), (1.0, 200.0), (1.32, 220.0), (9.0, 250.0)] {
        let writes = guest.writes(at(time));
        assert!((writes - wanted).abs() < 1e-6, "{writes} writes after {time} s");
    }
}

#[test]
fn a_writer_more_shifts_no_other_and_seeds_differ() {
    let one = writer(Pattern::Zipf, 500.0);
    let other = WriterConfig { offset: None, ..writer(Pattern::Uniform, 500.0) };
    let run = |writers: Vec<WriterConfig>, seed| {
        let mut guest = tracked(&config(writers), seed, Detail::Rounds, Duration::ZERO);
        let mut all = vec![0_u64; 40];
        guest.harvest(at(1.0), |word, mask| all[word] |= mask);
        // The words that only the first writer has.
        all.truncate(((FIRST + PAGES) / 64) as usize);
        all
    };
    assert_eq!(run(vec![one.clone()], 1), run(vec![one.clone(), other], 1));
    assert_ne!(run(vec![one.clone()], 1), run(vec![one], 2));
}

#[test]
fn more_writers_than_vcpus_share_them() {
    let busy = |pages: u64| WriterConfig {
        working_set: ByteCount(64 * PAGE),
        offset: Some(ByteCount(pages * PAGE)),
        write_cost: Duration::from_micros(100),
        ..writer(Pattern::Uniform, 20_000.0)
    };
    let light = WriterConfig { rate: 1000.0, ..busy(256) };
    let mut guest = Guest::new(&config(vec![busy(0), busy(64), light]), 0).unwrap();
    // One vCPU: the light one gets the tenth it wants, the others share the rest.
    assert!((guest.writes(at(1.0)) - 10_000.0).abs() < 1e-6);
    let two = GuestConfig { vcpus: 2, ..config(vec![busy(0), busy(64)]) };
    assert!((Guest::new(&two, 0).unwrap().writes(at(1.0)) - 20_000.0).abs() < 1e-6);
}

#[test]
fn the_unchanged_share_is_a_share_of_the_dirty_pages() {
    for share in [0.0, 0.2, 0.9, 1.0] {
        let config = GuestConfig {
            unchanged_pages: Share::new(share).unwrap(),
            ..config(vec![writer(Pattern::Uniform, 1000.0)])
        };
        let mut guest = tracked(&config, 1, Detail::Rounds, Duration::ZERO);
        let (mut dirty, mut unchanged) = (0.0, 0.0);
        for round in 1..=500 {
            let found = guest.harvest(at(f64::from(round)), |_, _| {});
            assert!(found.unchanged <= found.dirty);
            dirty += found.dirty.0 as f64;
            unchanged += found.unchanged.0 as f64;
        }
        let deviation = (dirty * share * (1.0 - share)).sqrt().max(1e-9);
        assert!(((unchanged - share * dirty) / deviation).abs() < BOUND, "{unchanged} of {dirty} at {share}");
    }
}

#[test]
fn tracking_sees_only_what_was_written_while_it_was_on() {
    let mut guest = Guest::new(&config(vec![writer(Pattern::Uniform, 1e6)]), 0).unwrap();
    assert!(!harvest(&mut guest, at(1.0)).contains(&true), "found without tracking");
    guest.start_tracking(at(2.0), Duration::ZERO);
    assert!(!harvest(&mut guest, at(2.0)).contains(&true), "found what was written before");
    assert!(harvest(&mut guest, at(2.1)).contains(&true));
    guest.stop_tracking(at(3.0));
    assert!(!harvest(&mut guest, at(4.0)).contains(&true), "found after tracking stopped");
    guest.start_tracking(at(5.0), Duration::ZERO);
    assert!(!harvest(&mut guest, at(5.0)).contains(&true), "kept what was dropped");
}

#[test]
fn a_throttle_costs_its_share_of_all_vcpus() {
    let mut guest = Guest::new(&GuestConfig { vcpus: 4, ..config(Vec::new()) }, 0).unwrap();
    guest.set_throttle(at(1.0), CpuShare::new(0.5).unwrap());
    guest.set_throttle(at(3.0), CpuShare::new(0.25).unwrap());
    guest.pause(at(5.0));
    guest.resume(at(5.5));
    guest.advance(at(7.5));
    let lost = guest.lost();
    assert!((lost.throttle.as_f64() - 4.0 * (2.0 * 0.5 + 4.0 * 0.25)).abs() < 1e-9, "{lost:?}");
    assert!((lost.pause.as_f64() - 2.0).abs() < 1e-9);
    assert!((lost.total().as_f64() - 10.0).abs() < 1e-9);
}
