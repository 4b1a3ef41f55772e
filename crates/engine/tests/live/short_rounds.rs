//! QEMU's rule over rounds that are shorter than its window of 100 ms, in a real move: each decision is held against the rule as
//! QEMU's own loop has it, worked out anew from what the journal says was sent.
use std::time::Duration;

use super::world::{World, mib};
use whimbrel_core::journal::Entry;
use whimbrel_core::machine::SourceEvent;
use whimbrel_core::policy::{Decision, RateLimit};
use whimbrel_core::progress::Moment;
use whimbrel_core::report::Outcome;
use whimbrel_core::units::{Bandwidth, ByteCount, Timestamp};
use whimbrel_engine::orders::Order;

const WINDOW: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_millis(50);

/// QEMU's counters: `migration_update_counters`.
struct Counters {
    since: Timestamp,
    bytes: u64,
    threshold: ByteCount,
}

impl Counters {
    fn sent(&mut self, at: Timestamp, bytes: ByteCount) {
        self.bytes += bytes.0;
        if at.since(self.since) >= WINDOW {
            let bandwidth = Bandwidth::measured(ByteCount(self.bytes), at.since(self.since));
            self.threshold = bandwidth.map_or(ByteCount(0), |bandwidth| bandwidth.bytes_in(LIMIT));
            (self.since, self.bytes) = (at, 0);
        }
    }

    /// What QEMU does with so much pending: `migration_iteration_run`.
    fn turns(&self, moment: Moment, pending: ByteCount) -> &'static str {
        let below = pending < self.threshold;
        match moment {
            // An estimate below the threshold is counted anew, whatever comes of it.
            Moment::Tick | Moment::RoundEnd if below => "sync",
            _ if below || pending == ByteCount(0) => "completion",
            _ => "iterate",
        }
    }
}

fn name(moment: Moment, decision: Decision) -> &'static str {
    match decision {
        Decision::Harvest => "sync",
        // When everything is sent, going on is to harvest.
        Decision::Continue if moment == Moment::RoundEnd => "sync",
        Decision::Continue => "iterate",
        Decision::Switchover { .. } => "completion",
        _ => "something else",
    }
}

/// Decisions that are QEMU's own.
fn held_against_the_rule(lines: &[Entry]) -> usize {
    let mut counters: Option<Counters> = None;
    let mut decisions = 0;
    for line in lines {
        match line {
            Entry::Event { at, event: SourceEvent::Transmitted(sent) } => {
                counters.as_mut().expect("after its start").sent(*at, sent.bytes);
            }
            Entry::Decision { moment, progress, verdict } => {
                let start = Counters { since: progress.now, bytes: 0, threshold: ByteCount(0) };
                let rule = counters.get_or_insert(start).turns(*moment, progress.pending_bytes());
                assert_eq!(
                    name(*moment, verdict.decision),
                    rule,
                    "{moment:?} at {:?}: {verdict:?}",
                    progress.now
                );
                decisions += 1;
            }
            _ => {}
        }
    }
    decisions
}

#[test]
fn a_link_that_is_slow_for_its_first_window_is_judged_by_it_until_the_next_one_has_ended() {
    let slow = RateLimit::AtMost(Bandwidth::new(2 << 20).expect("a rate"));
    let world = World::of(mib(16)).writing(40_000.0).limit(slow);
    let moved = world.policy_with("qemu-default", &[("downtime-limit", "50ms")]).go_with(|source, _| {
        std::thread::sleep(Duration::from_millis(120));
        source.give(Order::Limit(RateLimit::Unlimited));
    });
    assert_eq!(moved.source.report.outcome, Outcome::Completed, "{}", moved.source.report.why);
    assert!(held_against_the_rule(&moved.lines) >= 4, "{:?}", moved.source.report.rounds);
    moved.check_the_guest_there();
}

#[test]
fn a_bulk_round_that_no_window_has_seen_is_followed_by_the_last_copy() {
    let world = World::of(mib(4)).writing(40_000.0);
    let moved = world.policy_with("qemu-default", &[("downtime-limit", "50ms")]).go();
    assert!(held_against_the_rule(&moved.lines) >= 2);
    // A machine that is busy elsewhere may take longer; the rule holds anyway.
    let rounds = &moved.source.report.rounds;
    if rounds[0].length < WINDOW {
        assert_eq!((rounds.len(), rounds[1].paused), (2, true), "{rounds:?}");
    }
    moved.check_the_guest_there();
}
