//! QEMU's rule where a round is shorter than its window of 100 ms: the threshold is that of the window before, whatever the link
//! carries by now.

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel_core::policy::{Quantity, presets};
use whimbrel_core::report::{Outcome, RoundReport};
use whimbrel_core::units::ByteCount;
use whimbrel_sim::config::{BandwidthChange, GuestConfig, LinkConfig, WriterConfig};
use whimbrel_sim::{Run, Setup, simulate};

const WINDOW: Duration = Duration::from_millis(100);
/// The preset's slice of sending, more than 50 ms in whole milliseconds: a window ends with the slice in which it is over, so by so much
/// late at most.
const SLICE: Duration = Duration::from_millis(51);

/// A small guest that writes 100,000 pages a second, under a downtime limit of 50 ms. A harvest takes 2 ms.
fn run(link: LinkConfig) -> Run {
    let writer = WriterConfig { working_set: ByteCount::mib(32), rate: 100_000.0, ..WriterConfig::default() };
    let guest = GuestConfig { memory: ByteCount::mib(64), writers: vec![writer], ..GuestConfig::default() };
    let told: BTreeMap<String, String> = [("downtime-limit".to_owned(), "50ms".to_owned())].into();
    let mut setup = Setup::new(guest, presets::build("qemu-default", &told).unwrap());
    setup.host.harvest_cost = Duration::from_millis(32);
    setup.link = link;
    simulate(&setup).unwrap()
}

fn threshold(round: &RoundReport) -> u64 {
    match round.decision.as_ref().expect("decided").reason.right().value {
        Quantity::Bytes(bytes) => bytes.0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bulk_round_that_no_window_has_seen_is_followed_by_the_last_copy() {
    let run = run(LinkConfig { bandwidth: "20Gbit/s".parse().unwrap(), ..LinkConfig::default() });
    let rounds = &run.report.rounds;
    assert_eq!(run.report.outcome, Outcome::Completed);
    assert!(rounds[0].length < WINDOW, "{:?}", rounds[0].length);
    // Nothing pending, and nothing can be below a threshold of zero: QEMU does not even look at what is dirty.
    assert_eq!((rounds.len(), rounds[1].paused, threshold(&rounds[0])), (2, true, 0));
    assert!(rounds[1].pending.0 > 1000, "{:?}", rounds[1].pending);
}

#[test]
fn a_slow_first_window_makes_short_rounds_until_the_next_one_has_ended() {
    let faster = BandwidthChange { at: Duration::from_millis(104), bandwidth: "20Gbit/s".parse().unwrap() };
    let run = run(LinkConfig {
        bandwidth: "1Mbit/s".parse().unwrap(),
        buffer: ByteCount::kib(64),
        round_trip: Duration::from_micros(100),
        changes: vec![faster],
        ..LinkConfig::default()
    });
    assert_eq!(run.report.outcome, Outcome::Completed);
    let (last, live) = run.report.rounds.split_last().expect("rounds");
    let short: Vec<_> = live.iter().filter(|round| round.length < Duration::from_millis(2)).collect();
    assert!(short.len() > 20, "{} of {}", short.len(), live.len());
    // All of them within the second window, by what the first one has shown.
    let begun = live[0].started;
    let second_ended = begun + (WINDOW + SLICE) * 2;
    let slow = threshold(&live[0]);
    for round in &short[..short.len() - 1] {
        assert!(round.started < second_ended, "{:?}", round.started);
        assert_eq!(threshold(round), slow);
        assert!(round.pending.0 * 4096 > slow, "QEMU would have stopped");
    }
    // The second one has the bulk round in it, and ends them at once.
    assert!(threshold(short[short.len() - 1]) > 100 * slow, "{}", threshold(short[short.len() - 1]));
    assert!(last.paused && last.pending.0 * 4096 < 100 * slow, "{:?}", last.pending);
}
