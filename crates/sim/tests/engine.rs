//! What whimbrel's own engine does otherwise than the simulator's usual sender: it begins at once and drains at each round's end.

use std::time::Duration;

use whimbrel_core::policy::presets;
use whimbrel_core::units::{Bandwidth, ByteCount};
use whimbrel_sim::config::{GuestConfig, WriterConfig};
use whimbrel_sim::{Run, Setup, simulate};

fn run(policy: &str, aligned: bool, drained: bool, seed: u64) -> Run {
    let writer = WriterConfig { working_set: ByteCount::mib(16), rate: 4000.0, ..WriterConfig::default() };
    let guest = GuestConfig { memory: ByteCount::mib(64), writers: vec![writer], ..GuestConfig::default() };
    let mut setup =
        Setup::new(guest, presets::build(policy, &std::collections::BTreeMap::new()).expect("a preset"));
    setup.link.bandwidth = Bandwidth::new(100_000_000).expect("a rate");
    setup.link.buffer = ByteCount(2_000_000);
    (setup.aligned, setup.drained, setup.seed) = (aligned, drained, seed);
    simulate(&setup).expect("a migration")
}

#[test]
fn a_round_that_drains_ends_when_the_link_has_carried_it() {
    // 20 ms of the buffer: they belong to the round, and not to what comes behind it.
    let (usual, drained) = (run("xen-5", true, false, 1).report, run("xen-5", true, true, 1).report);
    let bulk = drained.rounds[0].length.saturating_sub(usual.rounds[0].length);
    assert!((Duration::from_millis(5)..Duration::from_millis(25)).contains(&bulk), "{bulk:?}");
    assert!(drained.downtime.transfer + Duration::from_millis(5) < usual.downtime.transfer);
}

#[test]
fn slices_that_are_aligned_hang_on_chance_by_a_few_batches_only() {
    let spread = |aligned| {
        let bulk = |seed| run("qemu-default", aligned, true, seed).report.rounds[0].sent_pages.0;
        let all: Vec<u64> = (0..8).map(bulk).collect();
        all.iter().max().zip(all.iter().min()).map_or(0, |(most, least)| most - least)
    };
    // A slice is 1,220 pages.
    let (usual, aligned) = (spread(false), spread(true));
    assert!(usual > 600 && aligned < 300, "{usual} {aligned}");
}
