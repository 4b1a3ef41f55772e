//! What holds a writer up, and what the guest accounts for. (What is dirtied is compared with an oracle
//! in the crate's `tests/oracle.rs`.)

use std::time::Duration;

use super::*;
use crate::config::{Pattern, PhaseConfig, WriterConfig};
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::{Bandwidth, ByteCount, CpuShare};

const PAGE: u64 = 4096;
/// First page and pages of the working set: within words at both ends.
const FIRST: u64 = 37;
const PAGES: u64 = 1000;
/// The largest deviation that passes, in standard deviations.
const BOUND: f64 = 5.0;

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

/// How many pages a harvest at `now` finds.
fn harvest(guest: &mut Guest, now: Timestamp) -> u64 {
    guest.harvest(now, |_, _| {}).dirty.0
}

#[test]
fn a_throttle_slows_a_writer_as_measured() {
    // Reference runs: no effect up to 80 %, 58 % of the rate at 90 %, 6 % at 99 %.
    for (throttle, wanted) in [(0.0, 1.0), (0.5, 1.0), (0.8, 1.0), (0.9, 0.6), (0.99, 0.06), (1.0, 0.0)] {
        let mut guest = Guest::new(&config(vec![writer(Pattern::Uniform, 5000.0)]), 0).unwrap();
        guest.set_throttle(Timestamp::ZERO, Throttle::duty_cycle(CpuShare::new(throttle).unwrap()));
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
        guest.set_throttle(Timestamp::ZERO, Throttle::duty_cycle(CpuShare::new(0.3).unwrap()));
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
                    let one =
                        WriterConfig { write_cost: Duration::from_micros(cost), ..writer(pattern, 5000.0) };
                    let mut guest =
                        tracked(&config(vec![one]), 0, Detail::Rounds, Duration::from_micros(fault));
                    guest.set_throttle(
                        Timestamp::ZERO,
                        Throttle::duty_cycle(CpuShare::new(throttle).unwrap()),
                    );
                    for round in 1..6 {
                        harvest(&mut guest, at(f64::from(round) * 0.4));
                    }
                    let writes = guest.writes(at(3.0));
                    assert!(
                        writes <= last * (1.0 + 1e-9),
                        "{pattern:?} {cost} {fault} {throttle}: {writes} > {last}"
                    );
                    last = writes;
                }
            }
        }
    }
}

#[test]
fn a_paused_guest_writes_nothing_and_catches_up_with_nothing() {
    let mut guest =
        tracked(&config(vec![writer(Pattern::Uniform, 1000.0)]), 0, Detail::Rounds, Duration::ZERO);
    guest.pause(at(1.0));
    assert!(harvest(&mut guest, at(1.0)) > 0);
    assert_eq!(harvest(&mut guest, at(3.0)), 0);
    guest.resume(at(4.0));
    assert!((guest.writes(at(5.0)) - 2000.0).abs() < 1e-6);
    let lost = guest.lost();
    assert!((lost.pause.as_f64() - 3.0).abs() < 1e-9 && lost.throttle.as_f64() == 0.0);
}

/// Follows the CPU time of a writer in small steps: debts, faults and all.
fn stepped(rate: f64, cost: f64, fault: f64, cpu: f64, catch_up: f64, rounds: &[f64]) -> f64 {
    let (mut writes, mut owed, step) = (0.0_f64, 0.0_f64, 1e-5);
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
    for (rate, cost, fault, throttle) in [
        (2000.0, 50, 100, 0.0),
        (5000.0, 100, 300, 0.0),
        (5000.0, 0, 900, 0.0),
        (9000.0, 100, 900, 0.0),
        (4000.0, 50, 300, 0.5),
    ] {
        let one = WriterConfig { write_cost: Duration::from_micros(cost), ..writer(Pattern::Uniform, rate) };
        let mut guest = tracked(&config(vec![one]), 0, Detail::Rounds, Duration::from_micros(fault));
        guest.set_throttle(Timestamp::ZERO, Throttle::duty_cycle(CpuShare::new(throttle).unwrap()));
        let (mut now, mut dirty) = (0.0, 0);
        for round in rounds {
            now += round;
            dirty += harvest(&mut guest, at(now));
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
            guest
                .set_throttle(at(now), Throttle::duty_cycle(CpuShare::new(f64::from(round) * 0.08).unwrap()));
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
    for (time, wanted) in
        [(0.5, 0.0), (0.55, 50.0), (0.6, 100.0), (0.9, 100.0), (1.0, 200.0), (1.32, 220.0), (9.0, 250.0)]
    {
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
    assert_eq!(harvest(&mut guest, at(1.0)), 0, "found without tracking");
    guest.start_tracking(at(2.0), Duration::ZERO);
    assert_eq!(harvest(&mut guest, at(2.0)), 0, "found what was written before");
    assert!(harvest(&mut guest, at(2.1)) > 0);
    guest.stop_tracking(at(3.0));
    assert_eq!(harvest(&mut guest, at(4.0)), 0, "found after tracking stopped");
    guest.start_tracking(at(5.0), Duration::ZERO);
    assert_eq!(harvest(&mut guest, at(5.0)), 0, "kept what was dropped");
}

#[test]
fn a_throttle_costs_its_share_of_all_vcpus() {
    let mut guest = Guest::new(&GuestConfig { vcpus: 4, ..config(Vec::new()) }, 0).unwrap();
    guest.set_throttle(at(1.0), Throttle::duty_cycle(CpuShare::new(0.5).unwrap()));
    guest.set_throttle(at(3.0), Throttle::duty_cycle(CpuShare::new(0.25).unwrap()));
    guest.pause(at(5.0));
    guest.resume(at(5.5));
    guest.advance(at(7.5));
    let lost = guest.lost();
    assert!((lost.throttle.as_f64() - 4.0 * (2.0 * 0.5 + 4.0 * 0.25)).abs() < 1e-9, "{lost:?}");
    assert!((lost.pause.as_f64() - 2.0).abs() < 1e-9);
    assert!((lost.total().as_f64() - 10.0).abs() < 1e-9);
}

#[test]
fn who_resumes_free_is_as_who_is_freed_step_by_step() {
    let duty = Throttle::duty_cycle(CpuShare::new(0.6).unwrap());
    let limit = Throttle::DirtyLimit {
        quota: Bandwidth::new(1_000_000).unwrap(),
        period: Duration::from_millis(100),
    };
    let config = config(vec![writer(Pattern::Uniform, 3000.0)]);
    for throttle in [Throttle::Off, duty, limit] {
        for (tracks, pauses) in [(true, true), (false, true), (true, false), (false, false)] {
            let mut free = Guest::expected(&config).unwrap();
            if tracks {
                free.start_tracking(at(0.1), Duration::from_micros(3));
            }
            free.set_throttle(at(0.5), throttle);
            if pauses {
                free.pause(at(1.0));
            }
            let mut freed = free.clone();
            free.resume_free(at(1.25));
            freed.stop_tracking(at(1.25));
            freed.set_throttle(at(1.25), Throttle::Off);
            freed.resume(at(1.25));
            assert_eq!(format!("{free:?}"), format!("{freed:?}"), "{throttle:?} {tracks} {pauses}");
        }
    }
}
