//! The simulator against migrations that others published: how near it comes with the inputs that they
//! state (`scenarios/published/`, told in `docs/published.md`).
//!
//! Each test's bounds lie close around what the simulation gives today, where it is near and where it is
//! not: whoever changes the simulator sees which published number it moves.

use std::path::PathBuf;

use whimbrel_lab::result::{MigrationRecord, RoundRecord};
use whimbrel_lab::scenario::Scenario;
use whimbrel_lab::sweep::simulation;

const PAGE: f64 = 4096.0;

fn run_with(name: &str, overrides: &[&str]) -> MigrationRecord {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios/published");
    let file = PathBuf::from(folder).join(name).with_extension("toml");
    let mut scenario = Scenario::load(file).expect("a scenario");
    scenario.apply_overrides(overrides).expect("overrides");
    let setup = scenario.setup();
    let run = whimbrel_sim::simulate(&simulation(setup, setup.run.seed).expect("a policy")).expect("a run");
    MigrationRecord::of(&run, setup.run.seed)
}

fn run(name: &str) -> MigrationRecord {
    run_with(name, &[])
}

/// Memory sent in a round, in bytes, without what the stream adds.
fn volume(round: &RoundRecord) -> f64 {
    (round.sent_pages - round.zero_pages) as f64 * PAGE
}

/// Asserts that `simulated` is `published` times something from `least` to `most`.
fn near(what: &str, simulated: f64, published: f64, [least, most]: [f64; 2]) {
    let times = simulated / published;
    println!("{what}: published {published}, simulated {simulated:.3}, {times:.3} of it");
    assert!(times >= least && times <= most, "{what}: {simulated} is {times:.3} x {published}");
}

fn is_complete(record: &MigrationRecord) {
    assert_eq!(record.outcome, "completed", "{}", record.why);
}

#[test]
fn clark_specweb99_total_time_within_1_percent_and_bytes_within_4() {
    let record = run("clark-2005-specweb99");
    is_complete(&record);
    near("total time, s", record.total_ms / 1e3, 71.0, [0.99, 1.01]);
    let sent: f64 = record.round.iter().map(volume).sum();
    near("sent, MB", sent / 1e6, 960.0, [0.96, 1.0]);
}

/// The paper's last round is 18.2 MB in 201 ms: 724 Mbit/s, above the highest bandwidth that it states. The
/// simulation keeps to 500 Mbit/s, at which they take 291 ms.
#[test]
fn clark_specweb99_downtime_is_half_as_long_again_because_the_stated_limit_is_kept() {
    let record = run("clark-2005-specweb99");
    near("downtime, ms", record.downtime_ms, 210.0, [1.4, 1.6]);
    let at_the_limit = 18.2e6 * 8.0 / 500e6 * 1e3;
    near("last pages, ms", record.downtime.last_pages_ms, at_the_limit, [0.95, 1.05]);
    assert!(record.why.starts_with("next round") && !record.converged, "{}", record.why);
}

#[test]
fn clark_specweb99_the_first_rounds_are_near_and_the_short_ones_fewer_and_smaller() {
    let record = run("clark-2005-specweb99");
    let sent: Vec<f64> = record.round.iter().map(|round| volume(round) / 1e6).collect();
    println!("{sent:.1?}");
    // Nine were published; from the fifth on, the guest of the paper wrote in bursts.
    assert!((7..=8).contains(&sent.len()), "{} rounds", sent.len());
    near("round 1, s", record.round[0].length_ms / 1e3, 54.1, [1.0, 1.02]);
    near("round 1, MB", sent[0], 676.8, [0.99, 1.02]);
    // What round 2 sent and the last round found are where the guest's writers were read off.
    near("round 2, MB", sent[1], 126.7, [0.97, 1.03]);
    near("round 3, MB", sent[2], 39.0, [1.3, 1.6]);
    near("round 4, MB", sent[3], 28.4, [0.85, 1.05]);
    near("round 5, MB", sent[4], 24.2, [0.4, 0.7]);
    near("round 6, MB", sent[5], 16.7, [0.45, 0.75]);
    near("last round, MB", sent[sent.len() - 1], 18.2, [0.95, 1.02]);
}

/// Only what was skipped in round 1 is known of this guest's writing.
#[test]
fn clark_apache_first_round_within_1_percent_and_the_rest_a_fifth_as_long() {
    let record = run("clark-2005-apache");
    is_complete(&record);
    near("round 1, s", record.round[0].length_ms / 1e3, 62.0, [0.99, 1.01]);
    near("round 1, MB", volume(&record.round[0]) / 1e6, 776.0, [0.99, 1.01]);
    near("total time, s", record.total_ms / 1e3, 71.8, [0.87, 0.92]);
    near("the rounds after it, s", (record.total_ms - record.round[0].length_ms) / 1e3, 9.8, [0.15, 0.3]);
    near("downtime, ms", record.downtime_ms, 165.0, [0.2, 0.5]);
}

#[test]
fn clark_stop_and_copy_of_512_mb_within_1_percent() {
    for (bandwidth, seconds) in [("128Mbit/s", 32.0), ("256Mbit/s", 16.0), ("512Mbit/s", 8.0)] {
        let record =
            run_with("clark-2005-stop-and-copy", &["sweep={}", &format!("link.bandwidth={bandwidth}")]);
        is_complete(&record);
        near(bandwidth, record.downtime_ms / 1e3, seconds, [1.0, 1.01]);
    }
}

/// The bandwidth is the mean of the log, so that round 0 (faster) comes late and round 4 (slower) early.
#[test]
fn cloud_hypervisor_every_delta_round_has_its_volume_and_all_but_two_their_length() {
    let record = run("cloud-hypervisor-39768704");
    is_complete(&record);
    let published = [
        (6144.0, 3_090.0),
        (5418.0, 2_970.0),
        (5418.0, 2_920.0),
        (5428.0, 3_020.0),
        (5418.0, 3_940.0),
        (5418.0, 3_140.0),
        (5429.0, 3_150.0),
        (5668.0, 3_150.0),
    ];
    assert_eq!(record.round.len(), published.len());
    for (round, (mebibytes, milliseconds)) in record.round.iter().zip(published) {
        let bounds = if round.paused { [0.95, 0.96] } else { [0.997, 1.001] };
        near("MiB", volume(round) / f64::from(1 << 20), mebibytes, bounds);
        let bounds = match round.round {
            0 => [1.0, 1.15],
            4 => [0.75, 0.8],
            _ => [0.97, 1.07],
        };
        near("ms", round.length_ms, milliseconds, bounds);
    }
}

#[test]
fn cloud_hypervisor_bytes_within_1_percent_and_the_pause_within_2() {
    let record = run("cloud-hypervisor-39768704");
    let sent: f64 = record.round.iter().map(volume).sum();
    near("sent, MiB", sent / f64::from(1 << 20), 44_339.0, [0.99, 1.0]);
    near("sum of the rounds, s", record.total_ms / 1e3, 25.38, [1.0, 1.02]);
    // The log's own total is less than its rounds.
    near("total as logged, s", record.total_ms / 1e3, 23.82, [1.06, 1.1]);
    let paused = record.downtime.last_pages_ms / 1e3;
    near("last round, s", paused, 3.15, [0.98, 1.02]);
}

#[test]
fn qemu_idle_guest_of_54_gib_total_within_2_percent() {
    let record = run("qemu-qatzip");
    is_complete(&record);
    near("total time, ms", record.total_ms, 46_063.0, [1.0, 1.02]);
}

/// QEMU's limit was not stated. At its default the rule leaves what fits 300 ms, and sending that is the downtime.
#[test]
fn qemu_idle_guest_of_54_gib_downtime_is_the_unstated_limit_and_not_the_40_ms_published() {
    let record = run("qemu-qatzip");
    near("downtime, ms", record.downtime_ms, 40.0, [6.0, 9.0]);
    let tight = run_with("qemu-qatzip", &["policy.downtime-limit=10ms"]);
    assert!(tight.downtime_ms < 120.0, "{}", tight.downtime_ms);
}

/// What zstd leaves of a page and how fast it is are read off the same run.
#[test]
fn qemu_idle_guest_of_54_gib_with_zstd_total_within_5_percent() {
    let record = run_with("qemu-qatzip", &["host.compression.ratio=0.373"]);
    is_complete(&record);
    near("total time, ms", record.total_ms, 20_165.0, [1.0, 1.05]);
    near("downtime, ms", record.downtime_ms, 24.0, [5.0, 7.0]);
}

#[test]
fn qemu_2013_xbzrle_total_within_12_percent_bytes_within_10_and_downtime_half() {
    let record = run("qemu-xbzrle-2013");
    is_complete(&record);
    near("total time, ms", record.total_ms, 22_185.0, [0.87, 0.9]);
    near("sent, kB", record.sent_bytes as f64 / 1024.0, 706_034.0, [0.9, 0.93]);
    near("downtime, ms", record.downtime_ms, 29.0, [0.4, 0.6]);
    near("zero pages", record.round[0].zero_pages as f64, 108_556.0, [0.999, 1.001]);
}

/// The simulated guest converges after the first small round; the real one after some 29 passes over 16 MiB,
/// because its rounds were longer. What made them so is not stated.
#[test]
fn qemu_2013_xbzrle_converges_many_small_rounds_earlier() {
    let record = run("qemu-xbzrle-2013");
    near("deltas", record.encoding.encoded_pages as f64, 117_811.0, [0.05, 0.08]);
    near("misses", record.encoding.cache_misses as f64, 18_750.0, [0.55, 0.62]);
}

/// 16 MiB that are rewritten all the time take 500 ms at 32 MiB/s.
#[test]
fn qemu_2013_without_xbzrle_never_converges() {
    let record = run_with("qemu-xbzrle-2013", &["host.xbzrle.cache=none"]);
    assert_eq!(record.outcome, "timed-out");
    near("bulk round of the published total, s", record.round[0].length_ms / 1e3, 22.185, [0.84, 0.88]);
}

/// How much of the guest's memory was in use and how fast the host scans zero pages is not stated: the
/// default run is far, the tuned one near by accident of what was assumed.
#[test]
fn qemu_opnfv_idle_guest_is_a_fifth_of_the_default_run_and_near_the_tuned_one() {
    let record = run("qemu-opnfv");
    is_complete(&record);
    near("total time as it came, ms", record.total_ms, 2_070.0, [0.2, 0.25]);
    near("downtime as it came, ms", record.downtime_ms, 29.0, [0.4, 0.6]);
    near("total time tuned, ms", record.total_ms, 401.0, [1.0, 1.2]);
    near("downtime tuned, ms", record.downtime_ms, 9.0, [1.2, 1.7]);
}
