//! Every parameter of every preset counts: another value than the default gives another answer somewhere.
//!
//! Values lie on either side of the default where both mean something, so that a bound on one side, left in
//! by mistake, is seen. What a value does is the affair of each preset's own tests.

use super::*;
use crate::policy::presets::testing::steps;

/// Presets, one of their parameters, values that each have to make a difference, and what else is given, to
/// both sides of the comparison.
type Row = (&'static [&'static str], &'static str, &'static [&'static str], Given);
type Given = &'static [(&'static str, &'static str)];

const QEMU: &[&str] = &["qemu-default", "qemu-auto-converge", "qemu-dirty-limit", "qemu-postcopy"];
const OVIRT: &[&str] = &["ovirt-minimal", "ovirt-suspend", "ovirt-postcopy"];
const KUBEVIRT: &[&str] = &["kubevirt-legacy", "kubevirt-stepped", "kubevirt-stall"];
const OURS: &[&str] = &["whimbrel"];
const SLOW_PAIR: (&str, &str) = ("host-bandwidth", "10Mbit/s");
const MONITORED: &[&str] = &["kubevirt-legacy", "kubevirt-stepped"];
/// 20 s for the guest of 1 GiB, which counts as 2.
const SOON: (&str, &str) = ("completion-timeout-per-gib", "10s");
const DISRUPT: (&str, &str) = ("allow-workload-disruption", "on");

const ROWS: &[Row] = &[
    (&["fixed-rounds"], "rounds", &["0", "3", "9"], &[]),
    (&["fixed-rounds"], "stop-below", &["24", "65536"], &[]),
    (QEMU, "downtime-limit", &["30ms", "2s"], &[]),
    (QEMU, "switchover-bandwidth", &["1Mbit/s", "100Gbit/s"], &[]),
    (QEMU, "max-bandwidth", &["100Mbit/s"], &[]),
    (&["qemu-auto-converge"], "throttle-initial", &["5%", "40%"], &[]),
    (&["qemu-auto-converge"], "throttle-increment", &["5%", "30%"], &[]),
    (
        &["qemu-auto-converge"],
        "max-throttle",
        &["85%", "97%"],
        &[("throttle-initial", "80%"), ("throttle-trigger-threshold", "1%")],
    ),
    (&["qemu-auto-converge", "qemu-dirty-limit"], "throttle-trigger-threshold", &["5%", "100%"], &[]),
    (&["qemu-auto-converge"], "tailslow", &["on"], &[]),
    (&["qemu-auto-converge"], "periodic-sync", &["off"], &[]),
    (&["qemu-dirty-limit"], "vcpu-dirty-limit", &["100KiB/s", "8MiB/s"], &[]),
    (&["qemu-dirty-limit"], "vcpu-dirty-limit-period", &["200ms"], &[]),
    (&["qemu-postcopy"], "postcopy-after", &["1s", "20s", "never"], &[]),
    (&["qemu-postcopy"], "postcopy-after-rounds", &["1", "9"], &[("postcopy-after", "never")]),
    (&["xen-5"], "max-iterations", &["2", "9"], &[]),
    (&["xen-5"], "min-dirty", &["1", "20000"], &[]),
    (&["xen-classic"], "max-iterations", &["2", "40"], &[("max-factor", "50")]),
    (&["xen-classic"], "max-factor", &["1", "5"], &[]),
    (&["xen-classic"], "min-remaining", &["1", "20000"], &[]),
    (&["xen-classic"], "adaptive-rate", &["on"], &[]),
    (&["xen-classic"], "start-rate", &["50Mbit/s", "200Mbit/s"], &[("adaptive-rate", "on")]),
    (&["xen-classic"], "rate-step", &["10Mbit/s", "90Mbit/s"], &[("adaptive-rate", "on")]),
    (&["xen-classic"], "max-rate", &["300Mbit/s", "800Mbit/s"], &[("adaptive-rate", "on")]),
    (&["clark-2005"], "min-bandwidth", &["50Mbit/s", "200Mbit/s"], &[]),
    (&["clark-2005"], "max-bandwidth", &["300Mbit/s", "800Mbit/s"], &[]),
    (&["clark-2005"], "increment", &["10Mbit/s", "90Mbit/s"], &[]),
    (&["clark-2005"], "remaining", &["4KiB", "100MiB"], &[]),
    (&["cloud-hypervisor"], "downtime-limit", &["30ms", "2s"], &[]),
    (&["cloud-hypervisor"], "timeout", &["5s", "20s"], &[]),
    (&["cloud-hypervisor"], "timeout-strategy", &["ignore"], &[("timeout", "5s")]),
    (&["ch-legacy"], "delta-rounds", &["2", "9"], &[]),
    (&["hyperv-5"], "passes", &["2", "9"], &[]),
    (&["hyperv-10"], "passes", &["2", "14"], &[]),
    (&["hyperv-5", "hyperv-10"], "small-remainder", &["4KiB", "100MiB"], &[]),
    (&["vmware-sdps"], "goal", &["200ms", "3s"], &[]),
    (&["vmware-sdps"], "margin", &["0.2", "1.5"], &[]),
    (&["vmware-sdps"], "gain", &["0.1", "2"], &[]),
    (&["vmware-sdps"], "decrease", &["0.01", "0.3"], &[]),
    (&["vmware-sdps"], "most", &["20%", "99%"], &[]),
    (&["vmware-sdps"], "sleep", &["1ms", "4ms"], &[]),
    (&["criu-phaul"], "max-iterations", &["2", "12"], &[]),
    (&["criu-phaul"], "min-pages", &["1", "20000"], &[]),
    (&["criu-phaul"], "max-growth", &["1%", "100%"], &[]),
    (&["criu-phaul"], "max-growth-pages", &["0", "32", "1000000"], &[]),
    (&["nova"], "max-downtime", &["100ms", "3s"], &[("downtime-delay", "1s")]),
    (&["nova"], "downtime-steps", &["3", "20"], &[("downtime-delay", "1s")]),
    (&["nova"], "downtime-delay", &["1s", "4s"], &[("max-downtime", "3s")]),
    (&["nova"], "completion-timeout", &["5s", "15s"], &[]),
    (&["nova"], "timeout-action", &["force-complete"], &[("completion-timeout", "5s")]),
    (
        &["nova"],
        "permit-post-copy",
        &["on"],
        &[("completion-timeout", "5s"), ("timeout-action", "force-complete")],
    ),
    (&["nova"], "permit-auto-converge", &["on"], &[]),
    (&["nova"], "copied-disks", &["2GiB"], &[("completion-timeout", "5s")]),
    (&["nova"], "max-bandwidth", &["100Mbit/s"], &[]),
    (&["proxmox"], "downtime", &["30ms", "2s"], &[]),
    (&["proxmox"], "max-bandwidth", &["100Mbit/s", "unlimited"], &[]),
    (OVIRT, "initial-downtime", &["30ms", "2s"], &[]),
    (
        &["ovirt-suspend"],
        "last-downtime",
        &["1s", "600s"],
        &[("poll-interval", "1s"), ("auto-converge", "off")],
    ),
    (OVIRT, "poll-interval", &["20s"], &[("auto-converge", "off")]),
    (OVIRT, "auto-converge", &["off"], &[]),
    (OVIRT, "max-bandwidth", &["100Mbit/s"], &[]),
    (KUBEVIRT, "completion-timeout-per-gib", &["5s", "15s"], &[]),
    (KUBEVIRT, "allow-auto-converge", &["on"], &[]),
    (KUBEVIRT, "allow-post-copy", &["on"], &[SOON, DISRUPT]),
    (KUBEVIRT, "allow-workload-disruption", &["on"], &[SOON]),
    (KUBEVIRT, "vfio", &["on"], &[SOON, DISRUPT, ("allow-post-copy", "on")]),
    (KUBEVIRT, "max-bandwidth", &["100Mbit/s"], &[]),
    (MONITORED, "progress-timeout", &["1s", "2s"], &[("completion-timeout-per-gib", "0s")]),
    (&["kubevirt-stepped"], "max-downtime", &["300ms", "3s"], &[]),
    (&["kubevirt-stepped"], "initial-downtime", &["10ms", "700ms"], &[]),
    (&["kubevirt-stepped"], "downtime-steps", &["1", "30"], &[]),
    (&["kubevirt-stepped"], "start-iteration", &["1", "30"], &[]),
    (&["kubevirt-stepped"], "downtime-cooldown", &["1s", "30s"], &[]),
    (&["kubevirt-stall"], "max-downtime", &["100ms", "3s"], &[]),
    (&["kubevirt-stall"], "stall-margin", &["0%", "50%"], &[]),
    (&["kubevirt-stall"], "stall-window", &["5s", "80s"], &[]),
    (&["kubevirt-stall"], "bandwidth-smoothing", &["0"], &[("soft-factor", "1"), ("max-downtime", "800ms")]),
    (&["kubevirt-stall"], "bandwidth-smoothing", &["1"], &[("soft-factor", "1")]),
    (
        &["kubevirt-stall"],
        "patience-factor",
        &["0", "2"],
        &[("stall-margin", "0%"), DISRUPT, ("stall-window", "20s")],
    ),
    (&["kubevirt-stall"], "switchover-timeout", &["5s", "90s"], &[("stall-window", "5s")]),
    (&["kubevirt-stall"], "soft-factor", &["1", "3"], &[]),
    (&["kubevirt-stall"], "initial-downtime", &["30ms", "800ms"], &[]),
    (&["kubevirt-stall"], "poll-interval", &["20s"], &[("soft-factor", "1"), ("max-downtime", "800ms")]),
    (&["kubevirt-stall"], "deadline-factor", &["1"], &[SOON, DISRUPT, ("stall-window", "5s")]),
    (&["kubevirt-stall"], "deadline-factor", &["9"], &[("completion-timeout-per-gib", "3s"), DISRUPT]),
    (OURS, "downtime", &["30ms", "2s"], &[]),
    (OURS, "deadline", &["5s", "30s"], &[]),
    (OURS, "slowdown", &["50%", "90%"], &[("deadline", "100s")]),
    (OURS, "post-copy", &["on"], &[("downtime", "2s")]),
    (OURS, "host-fixed", &["250ms"], &[]),
    (OURS, "host-harvest", &["100ms", "1s"], &[]),
    (OURS, "host-state", &["30MiB"], &[]),
    (OURS, "host-state", &["0B"], &[("downtime", "40ms")]),
    (OURS, "host-bandwidth", &["10Mbit/s"], &[("deadline", "1min"), ("downtime", "5s")]),
    (OURS, "used-memory", &["1%"], &[("deadline", "1min"), ("downtime", "5s"), SLOW_PAIR]),
];

/// What a policy did, and when.
type Deed = (Timestamp, u32, Decision, Adjustments);

fn deeds(found: Vec<Step>) -> impl Iterator<Item = Deed> {
    found.into_iter().filter_map(|Step { situation, verdict }| {
        let nothing = verdict.decision == Decision::Continue && verdict.adjust == Adjustments::default();
        let progress = situation.progress;
        (!nothing).then_some((progress.now, progress.round, verdict.decision, verdict.adjust))
    })
}

/// Guests of 1 GiB over 1 Gbit/s whose rest takes from next to nothing to 6.5 s to send.
fn guests() -> impl Iterator<Item = Guest> {
    let guest = |(working_set, rate)| Guest {
        name: "guest",
        memory: Pages(1 << 18),
        working_set: Pages(working_set),
        rate,
        link: "1Gbit/s".parse().expect("a bandwidth"),
    };
    [
        (20, 100),
        (10_000, 9_000),
        (13_000, 100_000),
        (200_000, 100_000),
        (24_000, 100_000),
        (38_000, 32_000),
        (1 << 16, 100_000),
    ]
    .into_iter()
    .map(guest)
}

/// Rounds of about 6 s whose remainders and bandwidths wander.
fn weather() -> Vec<Situation> {
    let mut state = 1u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    // Pages sent in a round: they grow by less than a tenth, by half, and to three times as many.
    let sent = [20_000, 20_600, 21_200, 32_000, 33_000, 99_000];
    let mut situations = Vec::new();
    let mut now = Timestamp::ZERO;
    for (round, sent) in (0..60).zip(sent.into_iter().cycle()) {
        let pending = 22_000 + draw(30_000);
        for slice in 0..24 {
            let (moment, pending) = match slice {
                0 => (Moment::RoundStart, pending),
                23 => (Moment::RoundEnd, 0),
                _ => (Moment::Tick, pending + draw(50)),
            };
            let mut asked = Situation::new("weather", moment, round, pending);
            asked.progress.round_sent_pages = Pages(sent);
            now = now.saturating_add(Duration::from_millis(250));
            asked.progress.memory = Pages(1 << 18);
            asked.progress.now = now;
            asked.progress.sent = ByteCount(now.as_nanos() / 10);
            asked.progress.bandwidth = Bandwidth::new(60_000_000 + draw(80_000_000));
            asked.progress.dirty_rate = PageRate::new(draw(60_000) as f64).ok();
            situations.push(asked);
        }
    }
    situations
}

fn answers(name: &str, parameters: Given, changed: Option<(&str, &str)>) -> Vec<Deed> {
    let texts = given(&[parameters, changed.as_slice()].concat());
    let policy = || build(name, &texts).unwrap_or_else(|error| panic!("{error}"));
    let curves = guests().flat_map(|guest| deeds(curve(&mut *policy(), guest, 100)));
    curves.chain(deeds(steps(&mut *policy(), &weather()))).collect()
}

#[test]
fn every_parameter_makes_a_difference() {
    let mut same = Vec::new();
    for &(names, parameter, values, parameters) in ROWS {
        for name in names {
            let before = answers(name, parameters, None);
            for &value in values {
                if answers(name, parameters, Some((parameter, value))) == before {
                    same.push(format!("{name}: {parameter} = {value} ({parameters:?})"));
                }
            }
        }
    }
    assert!(same.is_empty(), "no difference: {same:#?}");
}

#[test]
fn every_parameter_is_tried() {
    for preset in presets() {
        for parameter in preset.parameters {
            let mut rows = ROWS.iter().filter(|(names, ..)| names.contains(&preset.name));
            assert!(
                rows.any(|row| row.1 == parameter.name),
                "{}: {} is in no row",
                preset.name,
                parameter.name
            );
        }
    }
}
