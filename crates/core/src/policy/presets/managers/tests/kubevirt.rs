//! `kubevirt-legacy` and `kubevirt-stepped`: deadlines, the watchdog, steps.

use super::*;
use crate::progress::Capabilities;

const DISRUPT: (&str, &str) = ("allow-workload-disruption", "on");
const POST_COPY: (&str, &str) = ("allow-post-copy", "on");
const VFIO: (&str, &str) = ("vfio", "on");
const NO_DEADLINE: (&str, &str) = ("completion-timeout-per-gib", "0s");

fn legacy(parameters: &[(&str, &str)]) -> Box<dyn Policy> {
    preset("kubevirt-legacy", parameters)
}

/// What is decided at the end of polls every second, from second 1 on, with these remainders.
fn watched(policy: &mut dyn Policy, remaining: impl IntoIterator<Item = u64>) -> Option<u64> {
    let mut polls = (1..).zip(remaining);
    polls.find_map(|(second, pending)| {
        (decision(policy, &tick(second * 1_000, pending)) == Decision::Abort).then_some(second)
    })
}

#[test]
fn the_deadline_counts_ram_in_units_of_10_to_the_9_begun() {
    // 2 GiB are 2.15 GB: three times 150 s.
    for (pages, deadline) in [(1 << 18, 300), (1 << 19, 450), (1 << 20, 750), (1_000_000_000 / 4_096, 150)] {
        let at = |second: u64| {
            let mut asked = tick(second * 1_000, MANY);
            asked.progress.memory = Pages(pages);
            decision(&mut *legacy(&[]), &asked)
        };
        assert_eq!(at(deadline), Decision::Continue, "{pages} pages");
        assert_eq!(at(deadline + 1), Decision::Abort, "{pages} pages");
    }
}

#[test]
fn more_than_a_deadline_begins_a_whole_second_after_it() {
    assert_eq!(decision(&mut *legacy(&[]), &tick(450_999, MANY)), Decision::Continue);
    assert_eq!(decision(&mut *legacy(&[]), &tick(451_000, MANY)), Decision::Abort);
}

#[test]
fn without_a_deadline_there_is_none() {
    assert_eq!(decision(&mut *legacy(&[NO_DEADLINE]), &tick(1_000_000_000, MANY)), Decision::Continue);
}

#[test]
fn a_remainder_that_has_not_fallen_for_150_s_ends_it() {
    // Seen first at second 1.
    assert_eq!(watched(&mut *legacy(&[NO_DEADLINE]), [MANY; 400]), Some(152));
    let off = [NO_DEADLINE, ("progress-timeout", "0s")];
    assert_eq!(watched(&mut *legacy(&off), [MANY; 400]), None);
}

#[test]
fn any_single_dip_below_the_poll_before_resets_the_watchdog() {
    // Grows all the time but for one poll, far above the least seen.
    let dip = (1..=400).map(|second| if second == 140 { MANY + 138 } else { MANY + second });
    assert_eq!(watched(&mut *legacy(&[NO_DEADLINE]), dip), Some(291));
}

#[test]
fn disruption_pauses_the_guest_at_the_deadline_and_gives_it_as_long_again() {
    let mut policy = legacy(&[DISRUPT]);
    assert_eq!(decision(&mut *policy, &tick(450_000, MANY)), Decision::Continue);
    assert_eq!(decision(&mut *policy, &tick(451_000, MANY)), Decision::Pause);
    let paused = |millis, pending| {
        let mut asked = tick(millis, pending);
        asked.progress.paused = true;
        asked
    };
    assert_eq!(decision(&mut *policy, &paused(452_000, MANY - 1)), Decision::Continue);
    assert_eq!(decision(&mut *policy, &paused(900_000, MANY - 2)), Decision::Continue);
    assert_eq!(decision(&mut *policy.clone(), &paused(901_000, MANY - 3)), Decision::Abort);
    let mut rest = moment(Moment::RoundStart, 900_100, 10);
    rest.progress.paused = true;
    assert_eq!(decision(&mut *policy, &rest), FORCED);
}

#[test]
fn disruption_goes_over_to_post_copy_where_that_is_allowed() {
    assert_eq!(decision(&mut *legacy(&[DISRUPT, POST_COPY]), &tick(451_000, MANY)), Decision::PostCopy);
    assert_eq!(decision(&mut *legacy(&[POST_COPY]), &tick(451_000, MANY)), Decision::Abort);
}

#[test]
fn the_deadline_comes_before_the_watchdog_in_one_poll() {
    let mut policy = legacy(&[DISRUPT, POST_COPY, ("progress-timeout", "450s")]);
    assert_eq!(decision(&mut *policy, &tick(400, MANY)), Decision::Continue);
    assert_eq!(decision(&mut *policy, &tick(451_400, MANY)), Decision::PostCopy);
}

#[test]
fn a_guest_with_vfio_gets_a_limit_of_twice_the_deadline_instead() {
    for parameters in [&[DISRUPT, VFIO][..], &[DISRUPT, VFIO, POST_COPY]] {
        let mut policy = legacy(parameters);
        // 2 x 450 s at 100 MB/s are 90 GB.
        assert_eq!(limit_at(&mut *policy, &tick(451_000, 1 << 30)), 900_000);
        assert_eq!(decision(&mut *policy, &moment(Moment::RoundStart, 452_000, MANY)), FORCED);
    }
    let mut long = legacy(&[DISRUPT, VFIO, ("completion-timeout-per-gib", "400s")]);
    assert_eq!(limit_at(&mut *long, &tick(1_201_000, 1 << 30)), 2_000_000);
}

#[test]
fn legacy_leaves_qemus_limit_alone() {
    let mut policy = legacy(&[]);
    for second in 1..=450 {
        assert_eq!(limit_at(&mut *policy, &tick(second * 1_000, MANY - second)), 300);
    }
}

#[test]
fn only_what_may_be_done_is_needed() {
    let plain = Capabilities { harvest_on_demand: true, ..Capabilities::default() };
    let needs = |parameters| legacy(parameters).needs();
    assert_eq!(needs(&[]), plain);
    assert_eq!(needs(&[POST_COPY]), plain);
    assert_eq!(needs(&[DISRUPT]), Capabilities { pause: true, ..plain });
    assert_eq!(needs(&[DISRUPT, POST_COPY]), Capabilities { post_copy: true, ..plain });
    assert_eq!(needs(&[DISRUPT, VFIO]), plain);
    assert_eq!(needs(&[DISRUPT, NO_DEADLINE]), plain);
    assert_eq!(needs(&[("allow-auto-converge", "on")]), Capabilities { throttle: true, ..plain });
    let stall = |parameters| preset("kubevirt-stall", parameters).needs();
    assert_eq!(stall(&[DISRUPT]), plain);
    assert_eq!(stall(&[POST_COPY]), Capabilities { post_copy: true, ..plain });
    assert_eq!(stall(&[POST_COPY, VFIO]), plain);
    assert_eq!(stall(&[POST_COPY, DISRUPT, NO_DEADLINE]), plain);
}

/// Limits of `kubevirt-stepped` at polls a second apart, in round `round`.
fn steps_in(round: u32, seconds: u64, parameters: &[(&str, &str)]) -> Vec<u128> {
    let mut policy = preset("kubevirt-stepped", parameters);
    let mut limits: Vec<u128> = (1..=seconds)
        .map(|second| {
            let mut asked = tick(second * 1_000, MANY - second);
            asked.progress.round = round;
            limit_at(&mut *policy, &asked)
        })
        .collect();
    limits.dedup();
    limits
}

#[test]
fn stepped_goes_from_150_ms_to_900_ms_in_steps_of_107() {
    let limits = steps_in(2, 120, &[]);
    assert_eq!(limits, [150, 257, 364, 471, 578, 685, 792, 899, 900]);
}

#[test]
fn stepped_waits_for_the_third_iteration() {
    // The bulk round is the first.
    assert_eq!(steps_in(1, 120, &[]), [150]);
    assert_eq!(steps_in(1, 12, &[("start-iteration", "2")]), [150, 257]);
}

#[test]
fn stepped_waits_10_s_between_two_steps() {
    assert_eq!(steps_in(2, 10, &[]), [150]);
    assert_eq!(steps_in(2, 11, &[]), [150, 257]);
    assert_eq!(steps_in(2, 20, &[]), [150, 257]);
    assert_eq!(steps_in(2, 21, &[]), [150, 257, 364]);
}

#[test]
fn stepped_never_goes_above_max_downtime() {
    assert_eq!(steps_in(2, 120, &[("max-downtime", "100ms")]), [100]);
}

#[test]
fn stepped_takes_a_forced_limit_back_with_its_next_step() {
    let mut policy = preset("kubevirt-stepped", &[DISRUPT, VFIO]);
    let polled = |millis, pending| {
        let mut asked = tick(millis, pending);
        asked.progress.round = 2;
        asked
    };
    assert_eq!(limit_at(&mut *policy, &polled(445_000, 1 << 30)), 150);
    assert_eq!(limit_at(&mut *policy, &polled(451_000, 1 << 30)), 900_000);
    let large = Situation { moment: Moment::RoundStart, ..polled(454_000, MANY) };
    assert_eq!(decision(&mut *policy.clone(), &large), FORCED);
    assert_eq!(limit_at(&mut *policy, &polled(455_000, 1 << 30)), 257);
    let fits = Situation { moment: Moment::RoundStart, ..polled(456_000, 100) };
    assert_eq!(decision(&mut *policy, &fits), CONVERGED);
}

#[test]
fn stepped_has_the_deadlines_of_legacy() {
    let at = |parameters: &[(&str, &str)]| {
        decision(&mut *preset("kubevirt-stepped", parameters), &tick(451_000, MANY))
    };
    assert_eq!(at(&[]), Decision::Abort);
    assert_eq!(at(&[DISRUPT]), Decision::Pause);
    assert_eq!(at(&[DISRUPT, POST_COPY]), Decision::PostCopy);
}
