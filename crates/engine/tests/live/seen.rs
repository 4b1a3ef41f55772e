//! What the ledger says of a downtime, and what the guest sees of it by its own heartbeat.
//!
//! A busy machine makes the gap between two heartbeats longer than the downtime, as often and as much as it likes, and so is no promise
//! of the engine's. But the guest stands still for all of a downtime, whatever the machine does.

use std::time::Duration;

use super::world::{Moved, World, mib};
use whimbrel_core::report::Outcome;

/// The guest has missed all that the ledger says. The way of *go* is the only part that nobody has measured; it is taken to be
/// half of `transfer` at most.
fn missed_what_the_ledger_says(mut moved: Moved) {
    let report = &moved.source.report;
    assert_eq!(report.outcome, Outcome::Completed, "{}", report.why);
    let ledger = report.downtime;
    assert!(ledger.total() > Duration::ZERO);
    let gap = moved.gap();
    assert!(gap + ledger.transfer / 2 >= ledger.total(), "{gap:?}, {ledger:?}");
}

#[test]
fn a_guest_misses_all_that_the_ledger_says() {
    for streams in [1, 3] {
        missed_what_the_ledger_says(World::of(mib(16)).writing(20_000.0).streams(streams).go());
    }
    missed_what_the_ledger_says(World::of(mib(16)).verified().go());
}

#[test]
fn a_guest_that_runs_on_when_it_is_told_to_stop_has_missed_nothing_yet() {
    missed_what_the_ledger_says(World::of(mib(16)).late(Duration::from_secs(1)).go());
}
