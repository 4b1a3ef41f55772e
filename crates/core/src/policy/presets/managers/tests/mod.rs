//! What the managers promise: each point of their rules, one file per family, and what they have in common.

mod kubevirt;
mod kubevirt_stall;
mod nova;
mod ovirt;
mod proxmox;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use proptest::prelude::*;

use super::super::testing::{Guest, Situation, Step, curve};
use crate::policy::presets::{ParameterKind, build};
use crate::policy::{Decision, Policy, Quantity, SwitchoverWhen, Verdict};
use crate::progress::Moment;
use crate::units::{ByteCount, Pages, Timestamp};

/// A forced switchover, and one that QEMU's rule wanted.
const FORCED: Decision = Decision::Switchover { when: SwitchoverWhen::Now, forced: true };
const CONVERGED: Decision = Decision::Switchover { when: SwitchoverWhen::Now, forced: false };
/// 100 MB/s: 24,414 pages a second.
const LINK: &str = "100000000B/s";
/// More pages than fit any limit but a lifted one.
const MANY: u64 = 400_000;

fn preset(name: &str, parameters: &[(&str, &str)]) -> Box<dyn Policy> {
    let texts: BTreeMap<String, String> =
        parameters.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    build(name, &texts).expect("a preset and its parameters")
}

/// A moment of a guest of 2 GiB over [`LINK`].
fn moment(moment: Moment, millis: u64, pending: u64) -> Situation {
    let mut situation = Situation::new("asked", moment, 1, pending).at(LINK);
    situation.progress.memory = ByteCount::gib(2).pages(situation.progress.page_size);
    situation.progress.now = Timestamp::from_nanos(millis * 1_000_000);
    situation
}

fn tick(millis: u64, pending: u64) -> Situation {
    moment(Moment::Tick, millis, pending)
}

fn ask(policy: &mut dyn Policy, situation: &Situation) -> Verdict {
    policy.decide(situation.moment, &situation.progress)
}

fn decision(policy: &mut dyn Policy, situation: &Situation) -> Decision {
    ask(policy, situation).decision
}

/// The downtime limit that QEMU's rule decided with, in milliseconds.
fn limit(verdict: &Verdict) -> u128 {
    let mut inputs = verdict.reason.inputs();
    match inputs.find(|input| input.name == "downtime-limit").map(|input| input.value) {
        Some(Quantity::Duration(limit)) => limit.as_millis(),
        _ => panic!("QEMU's rule did not decide: {}", verdict.reason),
    }
}

fn limit_at(policy: &mut dyn Policy, situation: &Situation) -> u128 {
    limit(&ask(policy, situation))
}

/// A guest of 1 GiB that dirties 256 MiB again and again, over 1 Gbit/s.
fn busy() -> Guest {
    Guest {
        name: "busy",
        memory: Pages(1 << 18),
        working_set: Pages(1 << 16),
        rate: 100_000,
        link: "1Gbit/s".parse().expect("a bandwidth"),
    }
}

/// The moments at which a manager did something: a new limit of QEMU's, or an order.
fn deeds(steps: &[Step]) -> String {
    let mut printed = String::new();
    let mut before = None;
    for Step { situation, verdict } in steps {
        let mut inputs = verdict.reason.inputs();
        let limit = inputs.find(|input| input.name == "downtime-limit").map(|input| input.value);
        let new_limit = limit.filter(|_| limit != before);
        let order = !matches!(verdict.decision, Decision::Continue | Decision::Harvest);
        if new_limit.is_some() || order {
            let limit = new_limit.map(|limit| format!(" limit {limit}")).unwrap_or_default();
            let order =
                if order { format!(" {:?}: {}", verdict.decision, verdict.reason) } else { String::new() };
            let progress = &situation.progress;
            let now = progress.now.as_secs_f64();
            writeln!(printed, "{now:>8.3}s round {:<3}{limit}{order}", progress.round).expect("a String");
        }
        before = limit.or(before);
    }
    printed
}

/// Each manager with its ways to end, on a guest that does not converge. Times that are long for a curve
/// are shortened.
#[test]
fn managers_act_on_a_busy_guest_as_they_always_did() {
    let nova = ("downtime-delay", "4s");
    let timeout = ("completion-timeout", "50s");
    let short = ("completion-timeout-per-gib", "50s");
    let calm = ("auto-converge", "off");
    let on = "on";
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("nova", &[nova, timeout]),
        ("nova", &[nova, timeout, ("timeout-action", "force-complete")]),
        ("nova", &[nova, timeout, ("timeout-action", "force-complete"), ("permit-post-copy", on)]),
        ("proxmox", &[]),
        ("ovirt-minimal", &[]),
        ("ovirt-minimal", &[calm]),
        ("ovirt-suspend", &[calm]),
        ("ovirt-postcopy", &[calm]),
        ("kubevirt-legacy", &[short]),
        ("kubevirt-legacy", &[short, ("allow-workload-disruption", on)]),
        ("kubevirt-legacy", &[short, ("allow-workload-disruption", on), ("vfio", on)]),
        ("kubevirt-legacy", &[short, ("allow-workload-disruption", on), ("allow-post-copy", on)]),
        ("kubevirt-stepped", &[short]),
        ("kubevirt-stall", &[short]),
        ("kubevirt-stall", &[short, ("max-downtime", "2s")]),
        ("kubevirt-stall", &[short, ("allow-workload-disruption", on)]),
        ("kubevirt-stall", &[short, ("allow-workload-disruption", on), ("allow-post-copy", on)]),
        ("kubevirt-stall", &[short, ("allow-post-copy", on)]),
    ];
    let mut printed = String::new();
    for (name, parameters) in cases {
        let mut policy = preset(name, parameters);
        let steps = curve(&mut *policy, busy(), 500);
        printed += name;
        for (name, value) in *parameters {
            write!(printed, " {name}={value}").expect("a String");
        }
        writeln!(printed, "\n{}", deeds(&steps)).expect("a String");
    }
    insta::assert_snapshot!("managers", printed);
}

#[test]
fn an_order_at_a_rounds_end_waits_for_the_harvest() {
    let mut policy = preset("ovirt-postcopy", &[("auto-converge", "off"), ("poll-interval", "1s")]);
    for second in 1..=4 {
        assert_eq!(decision(&mut *policy, &tick(second * 1_000, MANY + second)), Decision::Continue);
    }
    // The fourth stall, with nothing pending but a remainder that is said to be more: a round's end.
    let end = moment(Moment::RoundEnd, 5_000, MANY + 5);
    assert_eq!(decision(&mut *policy, &end), Decision::Continue);
    assert_eq!(decision(&mut *policy, &moment(Moment::RoundStart, 5_000, MANY)), Decision::PostCopy);
}

#[test]
fn a_new_order_replaces_one_that_waits() {
    let mut policy = preset("nova", &[("timeout-action", "force-complete")]);
    assert_eq!(decision(&mut *policy, &moment(Moment::RoundEnd, 1_601_000, MANY)), Decision::Continue);
    policy.set_parameter("timeout-action", "abort").expect("mutable");
    assert_eq!(decision(&mut *policy, &moment(Moment::RoundStart, 1_601_000, MANY)), Decision::Abort);
}

#[test]
fn the_cap_is_lifted_for_post_copy() {
    let parameters = [("poll-interval", "1s"), ("max-bandwidth", "1Gbit/s")];
    let mut policy = preset("ovirt-postcopy", &parameters);
    let last = (1..=5).map(|second| ask(&mut *policy, &tick(second * 1_000, MANY + second))).last();
    let last = last.expect("asked");
    assert_eq!(last.decision, Decision::PostCopy);
    assert_eq!(last.adjust.rate_limit, Some(crate::policy::RateLimit::Unlimited));
}

/// Presets whose migrations end by a time, with any of their permissions; the time.
fn bounded() -> impl Strategy<Value = (Box<dyn Policy>, Duration)> {
    let flags = prop::collection::vec(prop::sample::select(vec!["off", "on"]), 3);
    let kubevirt = prop::sample::select(vec!["kubevirt-legacy", "kubevirt-stepped", "kubevirt-stall"]);
    let kubevirt = (kubevirt, flags.clone(), 1..40u64).prop_map(|(name, flags, per_gib)| {
        let per_gib_text = format!("{per_gib}s");
        let parameters = [
            ("completion-timeout-per-gib", per_gib_text.as_str()),
            ("allow-post-copy", flags[0]),
            ("allow-workload-disruption", flags[1]),
            ("vfio", flags[2]),
        ];
        // 1 GiB counts as 2. A limit that was set at the deadline has the switchover-timeout to work.
        let deadline = 2 * per_gib;
        let end = (2 * deadline).max(if name == "kubevirt-stall" { deadline + 1 + 60 } else { 0 });
        // Whole seconds, cut; a poll; a slice of sending.
        (preset(name, &parameters), Duration::from_secs(end + 1) + Duration::from_millis(460))
    });
    let nova = (prop::sample::select(vec!["abort", "force-complete"]), flags, 1..40u64);
    let nova = nova.prop_map(|(action, flags, timeout)| {
        let timeout_text = format!("{timeout}s");
        let parameters = [
            ("completion-timeout", timeout_text.as_str()),
            ("timeout-action", action),
            ("permit-post-copy", flags[0]),
            ("permit-auto-converge", flags[1]),
        ];
        // Two polls and a slice; a paused guest is sent within its memory's time.
        let polls = Duration::from_millis(2 * 500 + 60);
        let sent = if action == "abort" { Duration::ZERO } else { Duration::from_secs(9) };
        (preset("nova", &parameters), Duration::from_secs(2 * timeout) + polls + sent)
    });
    prop_oneof![kubevirt, nova]
}

/// A manager whose times are short enough to pass within a test.
fn hasty() -> impl Strategy<Value = Box<dyn Policy>> {
    let names = ["nova", "proxmox", "ovirt-minimal", "ovirt-suspend", "ovirt-postcopy"];
    let names = names.into_iter().chain(["kubevirt-legacy", "kubevirt-stepped", "kubevirt-stall"]);
    let name = prop::sample::select(names.collect::<Vec<_>>());
    let times = prop::collection::vec(1..20_000u64, 12);
    let choices = prop::collection::vec(any::<bool>(), 12);
    (name, times, choices).prop_map(|(name, times, choices)| {
        let info = crate::policy::presets::find(name).expect("a preset");
        let texts = info.parameters.iter().zip(times).zip(choices).map(|((parameter, time), choice)| {
            let text = match parameter.kind {
                ParameterKind::Duration { .. } if parameter.name.contains("downtime") => {
                    format!("{}ms", time / 20)
                }
                ParameterKind::Duration { .. } => format!("{time}ms"),
                ParameterKind::Choice(words) => words[usize::from(choice)].to_owned(),
                _ => parameter.default.to_owned(),
            };
            (parameter.name.to_owned(), text)
        });
        build(name, &texts.collect()).expect("parameters")
    })
}

/// A minute of slices, of various lengths: what each leaves pending and at which bandwidth it ends. After
/// some of them the next round starts.
fn minute() -> impl Strategy<Value = Vec<(u64, u64, u64, bool)>> {
    let slice = (20..300u64, 1_000..60_000u64, 50..150u64, prop::bool::weighted(0.1));
    prop::collection::vec(slice, 300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Asking only when the last answer's `until` holds decides the same as asking at every slice, through
    /// steps, stalls and timeouts.
    #[test]
    fn skipped_slices_change_nothing(policy in hasty(), slices in minute()) {
        let (mut always, mut seldom) = (policy.clone(), policy);
        let mut now = 0;
        let mut standing: Option<Verdict> = None;
        let mut sent = 0;
        for (millis, pending, percent, starts) in slices {
            now += millis;
            sent += millis;
            let kind = if starts { Moment::RoundStart } else { Moment::Tick };
            let mut asked = moment(kind, now, pending).at(&format!("{}B/s", percent * 1_000_000));
            asked.progress.sent = ByteCount(sent << 16);
            let expected = ask(&mut *always, &asked);
            let skipped =
                standing.take().filter(|standing| !starts && !standing.until.reached(&asked.progress));
            let got = skipped.unwrap_or_else(|| ask(&mut *seldom, &asked));
            let reasons = (&got.reason, &expected.reason);
            prop_assert_eq!(got.decision, expected.decision, "at {} ms: {:?}", now, reasons);
            match got.decision {
                Decision::Continue => standing = Some(got),
                Decision::Harvest | Decision::Pause => {}
                _ => break,
            }
        }
    }

    /// A manager with a deadline ends a migration by it: KubeVirt by twice its deadline (or, if later, a
    /// switchover-timeout after it), nova a poll after its timeout.
    #[test]
    fn a_deadline_ends_every_migration(
        (policy, end) in bounded(),
        rate in 1..400_000u64,
        set in 0..1u64 << 18,
    ) {
        let mut policy = policy;
        let guest = Guest { rate, working_set: Pages(set), ..busy() };
        let steps = curve(&mut *policy, guest, 100_000);
        let last = steps.last().expect("asked at least once");
        let over = !matches!(last.verdict.decision, Decision::Continue | Decision::Harvest | Decision::Pause);
        prop_assert!(over, "{:?}", last.verdict);
        prop_assert!(last.situation.progress.elapsed() <= end, "{:?}", last);
    }
}
