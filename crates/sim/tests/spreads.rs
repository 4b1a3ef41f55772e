//! What differs from run to run, from outside: each spread shows where it should and nowhere else, and none of them
//! changes a run that does not use it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use whimbrel_core::layout::{PageNumber, PageRun};
use whimbrel_core::policy::presets;
use whimbrel_core::units::{Bandwidth, ByteCount, Pages, Share, Timestamp};
use whimbrel_sim::config::{
    Activity, Follows, GuestConfig, HostConfig, LinkConfig, MeasuredWrites, PageClass, Pattern, WriteAt,
    WriterConfig, ZeroPlacement,
};
use whimbrel_sim::guest::Guest;
use whimbrel_sim::{Run, Setup, Simulation, simulate};

const PAGE: u64 = 4096;

/// 64 MiB, half of it zero, over 16 MiB/s.
fn setup(seed: u64) -> Setup {
    let writer = WriterConfig { working_set: ByteCount::mib(4), rate: 2000.0, ..WriterConfig::default() };
    let guest = GuestConfig {
        memory: ByteCount::mib(64),
        zero_pages: Share::percent(50),
        writers: vec![writer],
        ..GuestConfig::default()
    };
    let mut setup = Setup::new(guest, presets::build("qemu-default", &BTreeMap::default()).unwrap());
    setup.link = LinkConfig { bandwidth: Bandwidth::new(16 << 20).unwrap(), ..LinkConfig::default() };
    setup.seed = seed;
    setup
}

fn runs(change: impl Fn(&mut Setup), count: u64) -> Vec<Run> {
    let run = |seed| {
        let mut setup = setup(seed);
        change(&mut setup);
        simulate(&setup).unwrap()
    };
    (0..count).map(run).collect()
}

/// Mean and standard deviation.
fn moments(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let values: Vec<f64> = values.into_iter().collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (values.len() - 1) as f64).sqrt())
}

#[test]
fn memory_in_use_differs_by_the_spread_wherever_the_zero_pages_are() {
    for placement in [ZeroPlacement::Spread, ZeroPlacement::End] {
        let of = |spread: u64| {
            moments((0..200).map(|seed| {
                let mut config = setup(0).guest;
                config.zero_placement = placement;
                config.used_spread = ByteCount(spread * PAGE);
                Guest::new(&config, seed).unwrap().zero_pages().0 as f64
            }))
        };
        let (mean, deviation) = of(0);
        assert!(deviation.abs() < f64::EPSILON, "{placement:?}: {deviation}");
        let (spread_mean, deviation) = of(200);
        assert!((spread_mean - mean).abs() < 45.0, "{placement:?}: {spread_mean}, without {mean}");
        assert!((175.0..225.0).contains(&deviation), "{placement:?}: {deviation}");
    }
}

/// Where a host says which pages are zero, too.
#[test]
fn runs_of_zero_pages_are_longer_and_shorter_by_the_spread() {
    let run = |first, count| PageRun { first: PageNumber(first), count: Pages(count) };
    let (mean, deviation) = moments((0..200).map(|seed| {
        let mut config = setup(0).guest;
        config.used_spread = ByteCount(300 * PAGE);
        let runs = [run(1124, 26), run(1200, 2000)];
        Guest::with_zero_runs(&config, seed, &runs).unwrap().zero_pages().0 as f64
    }));
    assert!((mean - 2026.0).abs() < 70.0, "{mean}");
    assert!((260.0..340.0).contains(&deviation), "{deviation}");
}

#[test]
fn the_links_rate_differs_by_the_spread_for_the_whole_run() {
    let found = runs(|setup| setup.link.bandwidth_spread = Share::percent(10), 150);
    let rates = found.iter().map(|run| {
        let bulk = &run.report.rounds[0];
        bulk.bandwidth.unwrap().as_f64().ln()
    });
    let (_, deviation) = moments(rates);
    assert!((0.085..0.115).contains(&deviation), "{deviation}");
    let (_, without) = moments(runs(|_| (), 30).iter().map(|run| run.report.total.as_secs_f64().ln()));
    assert!(without < 0.02, "{without}");
}

#[test]
fn all_parts_of_a_switchover_take_as_much_longer() {
    let of = |run: &Run| {
        let ledger = &run.report.downtime;
        [ledger.pause, ledger.save, ledger.restore, ledger.resume].map(|part| part.as_secs_f64())
    };
    let found = runs(
        |setup| {
            setup.host.switchover_spread = Share::percent(50);
            // Else part of the destination's resume.
            setup.host.persist = Duration::ZERO;
        },
        150,
    );
    let factors: Vec<f64> = found.iter().map(|run| of(run)[0] / 1e-3).collect();
    for (run, factor) in found.iter().zip(&factors) {
        assert!(of(run).iter().all(|part| (part / 1e-3 - factor).abs() < 1e-4), "{:?}", run.report.downtime);
    }
    let (_, deviation) = moments(factors.iter().map(|factor| factor.ln()));
    assert!((0.42..0.58).contains(&deviation), "{deviation}");
}

/// The bandwidth that the policy sees varies; no byte is lost or counted twice.
#[test]
fn a_count_that_is_behind_changes_what_is_seen_and_not_what_is_sent() {
    let seen = |jitter: u64| {
        let mut setup = setup(1);
        setup.host.count_jitter = Duration::from_millis(jitter);
        // A queue so short that windows are alike, and no convergence, so that there are many.
        setup.link.bandwidth = Bandwidth::new(64 << 20).unwrap();
        setup.link.buffer = ByteCount(256 << 10);
        setup.guest.writers[0].rate = 20_000.0;
        setup.guest.writers[0].working_set = ByteCount::mib(16);
        setup.time_limit = Duration::from_secs(20);
        let mut simulation = Simulation::new(&setup).unwrap();
        let (mut seen, mut last) = (Vec::new(), Timestamp::ZERO);
        while simulation.step().unwrap() {
            let now = simulation.now();
            if now.since(last) > Duration::from_millis(200)
                && let Some(bandwidth) = simulation.progress().bandwidth
            {
                seen.push(bandwidth.as_f64());
                last = now;
            }
        }
        moments(seen)
    };
    let ((mean, exact), (jittered_mean, jittered)) = (seen(0), seen(4));
    assert!((jittered_mean / mean - 1.0).abs() < 0.04, "{jittered_mean} {mean}");
    assert!(jittered > 1.5 * exact && jittered / mean > 0.02, "{jittered} {exact}");

    let plain = runs(|_| (), 10);
    for (run, plain) in
        runs(|setup| setup.host.count_jitter = Duration::from_millis(4), 10).iter().zip(&plain)
    {
        let pages: u64 = run.report.rounds.iter().map(|round| round.sent_pages.0 - round.zero_pages.0).sum();
        let plain_pages: u64 =
            plain.report.rounds.iter().map(|round| round.sent_pages.0 - round.zero_pages.0).sum();
        let bytes = run.report.sent.as_f64() - plain.report.sent.as_f64();
        let expected = (pages as f64 - plain_pages as f64) * (PAGE + 8) as f64;
        // Zero pages and messages are the rest.
        assert!((bytes - expected).abs() < 20_000.0, "{bytes} {expected}");
    }
}

fn class(pages: u64, rate: f64) -> PageClass {
    PageClass {
        pages: Pages(pages),
        rate,
        follows: Follows::Always,
        change: ByteCount(256),
        write_at: WriteAt::Random,
    }
}

fn measured(change_spread: f64, cluster: u64) -> WriterConfig {
    let activity =
        Activity { tick: Duration::from_millis(50), busy: vec![1.0; 4], quiet: vec![1.0; 4], block: 2 };
    let model = MeasuredWrites {
        classes: vec![class(512, 50.0), class(3000, 0.01)],
        cycles: Vec::new(),
        activity,
        busy: Share::ONE,
        speed_spread: 0.0,
        change_spread,
    };
    WriterConfig {
        pattern: Pattern::Measured,
        working_set: ByteCount::mib(16),
        measured: Some(Arc::new(model)),
        cluster: ByteCount(cluster * PAGE),
        ..WriterConfig::default()
    }
}

#[test]
fn pages_that_recur_alike_lie_together_if_asked() {
    // Neighbours among the pages found in 50 ms, nearly all of which are hot.
    let neighbours = |cluster| {
        let config = GuestConfig {
            memory: ByteCount::mib(64),
            writers: vec![measured(0.0, cluster)],
            ..GuestConfig::default()
        };
        let mut guest = Guest::new(&config, 5).unwrap();
        guest.start_tracking(Timestamp::ZERO, Duration::ZERO);
        let mut words = vec![0_u64; 256];
        guest.harvest(Timestamp::from_nanos(50_000_000), |word, mask| words[word] |= mask);
        let pairs: u32 = words.iter().map(|word| (word & (word >> 1)).count_ones()).sum();
        let pages: u32 = words.iter().map(|word| word.count_ones()).sum();
        f64::from(pairs) / f64::from(pages)
    };
    assert!(neighbours(0) < 0.3, "{}", neighbours(0));
    assert!(neighbours(256) > 0.8, "{}", neighbours(256));
    // Larger than the working set: one piece.
    assert!(neighbours(1 << 20) > 0.8, "{}", neighbours(1 << 20));
}

/// Where differences are sent, runs differ by how large they are.
#[test]
fn how_much_a_write_changes_differs_by_the_spread() {
    let bytes = |spread| {
        let found = runs(
            |setup| {
                setup.guest.writers = vec![measured(spread, 0)];
                setup.host.xbzrle.cache = Some(ByteCount::mib(64));
                setup.policy = presets::build(
                    "fixed-rounds",
                    &std::collections::BTreeMap::from([("rounds".to_owned(), "8".to_owned())]),
                )
                .unwrap();
            },
            60,
        );
        moments(found.iter().map(|run| {
            (run.encoding.encoded_bytes.as_f64() / run.encoding.encoded_pages.0.max(1) as f64).ln()
        }))
    };
    let ((_, without), (_, with)) = (bytes(0.0), bytes(0.3));
    let more = (with * with - without * without).sqrt();
    assert!((0.22..0.38).contains(&more), "{without} {with}");
}

/// Spreads of zero draw nothing, and one part's draws shift no other's.
#[test]
fn a_run_without_spreads_is_what_it_was_and_spreads_do_not_shift_each_other() {
    let defaults = (GuestConfig::default(), HostConfig::default(), LinkConfig::default());
    assert_eq!(defaults.0.used_spread, ByteCount(0));
    assert_eq!((defaults.1.switchover_spread, defaults.1.count_jitter), (Share::ZERO, Duration::ZERO));
    assert_eq!(defaults.2.bandwidth_spread, Share::ZERO);
    let plain = runs(|_| (), 5);
    let slow = runs(|setup| setup.host.switchover_spread = Share::percent(30), 5);
    for (one, other) in plain.iter().zip(&slow) {
        let before = |run: &Run| {
            let rounds = run.report.rounds.iter().filter(|round| !round.paused);
            rounds.cloned().collect::<Vec<_>>()
        };
        assert_eq!(before(one), before(other));
        assert_ne!(one.report.downtime.pause, other.report.downtime.pause);
    }
}
