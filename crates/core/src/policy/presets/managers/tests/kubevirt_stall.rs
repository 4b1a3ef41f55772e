//! `kubevirt-stall`: what is done at a good moment, and at the deadline.

use super::*;

const DISRUPT: (&str, &str) = ("allow-workload-disruption", "on");
const POST_COPY: (&str, &str) = ("allow-post-copy", "on");
const VFIO: (&str, &str) = ("vfio", "on");
/// 1.02 s at 100 MB/s: more than max-downtime, less than that times 1.5.
const NEAR: u64 = 25_000;
/// 1.64 s.
const FAR: u64 = 40_000;

fn stall(parameters: &[(&str, &str)]) -> Box<dyn Policy> {
    preset("kubevirt-stall", parameters)
}

fn start(second: u64, pending: u64) -> Situation {
    moment(Moment::RoundStart, second * 1_000, pending)
}

/// A policy that has sampled this bandwidth, and then seen rounds of `pending` pages at 1, 11, 21 and 31 s:
/// the next round like them, at 41 s, shows a stall.
fn nearly_stalled(parameters: &[(&str, &str)], bandwidth: &str, pending: u64) -> Box<dyn Policy> {
    let mut policy = stall(parameters);
    assert_eq!(decision(&mut *policy, &tick(400, MANY).at(bandwidth)), Decision::Continue);
    for second in [1, 11, 21, 31] {
        let verdict = ask(&mut *policy, &start(second, pending).at(bandwidth));
        assert_eq!(verdict.decision, Decision::Continue);
        assert_eq!(limit(&verdict), 300);
    }
    policy
}

fn at_the_stall(parameters: &[(&str, &str)], pending: u64) -> Verdict {
    ask(&mut *nearly_stalled(parameters, LINK, pending), &start(41, pending))
}

#[test]
fn the_limit_starts_at_300_ms_or_at_less_if_less_is_allowed() {
    assert_eq!(limit_at(&mut *stall(&[]), &tick(100, MANY)), 300);
    assert_eq!(limit_at(&mut *stall(&[("max-downtime", "200ms")]), &tick(100, MANY)), 200);
}

#[test]
fn a_good_moment_that_is_near_enough_raises_the_limit_to_max_downtime() {
    let verdict = at_the_stall(&[], NEAR);
    assert_eq!((verdict.decision, limit(&verdict)), (Decision::Continue, 900));
}

#[test]
fn a_good_moment_beyond_the_soft_factor_gives_up() {
    // 1.35 s are 32,958 pages.
    assert_eq!(at_the_stall(&[], 32_958).decision, Decision::Continue);
    assert_eq!(at_the_stall(&[], 32_960).decision, Decision::Abort);
    assert_eq!(at_the_stall(&[("soft-factor", "2")], FAR).decision, Decision::Continue);
    assert_eq!(at_the_stall(&[("soft-factor", "0")], 21_000).decision, CONVERGED, "it fits");
}

#[test]
fn a_good_moment_is_forced_where_disruption_is_allowed() {
    assert_eq!(at_the_stall(&[DISRUPT], FAR).decision, FORCED);
    assert_eq!(at_the_stall(&[DISRUPT, POST_COPY, VFIO], FAR).decision, FORCED);
    assert_eq!(at_the_stall(&[DISRUPT, POST_COPY], FAR).decision, Decision::PostCopy);
}

#[test]
fn at_a_good_moment_post_copy_alone_is_not_enough() {
    assert_eq!(at_the_stall(&[POST_COPY], FAR).decision, Decision::Abort);
}

#[test]
fn a_soft_switchover_is_no_forced_one() {
    let mut policy = nearly_stalled(&[], LINK, NEAR);
    ask(&mut *policy, &start(41, NEAR));
    // 82 MB: above 300 ms, below 900.
    assert_eq!(decision(&mut *policy, &start(45, 20_000)), CONVERGED);
}

#[test]
fn a_limit_that_was_raised_has_60_s_to_work() {
    let mut policy = nearly_stalled(&[], LINK, NEAR);
    ask(&mut *policy, &start(41, NEAR));
    assert_eq!(decision(&mut *policy.clone(), &tick(101_000, NEAR)), Decision::Continue);
    assert_eq!(decision(&mut *policy, &tick(102_000, NEAR)), Decision::Abort);
}

#[test]
fn a_limit_is_set_once_and_its_time_is_not_renewed() {
    let mut policy = nearly_stalled(&[], LINK, NEAR);
    for second in (41..=101).step_by(10) {
        assert_eq!(decision(&mut *policy, &start(second, NEAR)), Decision::Continue, "{second} s");
    }
    assert_eq!(decision(&mut *policy, &start(102, NEAR)), Decision::Abort);
}

#[test]
fn the_aim_is_relaxed_after_patience() {
    let mut policy = nearly_stalled(&[DISRUPT], LINK, FAR);
    // Above the least remainder and its margin; 40 s after the stall was found the least since is the aim.
    assert_eq!(decision(&mut *policy, &start(41, 60_000)), Decision::Continue);
    assert_eq!(decision(&mut *policy, &start(80, 60_000)), Decision::Continue);
    assert_eq!(decision(&mut *policy, &start(81, 62_000)), FORCED);
}

#[test]
fn an_estimate_beyond_twice_the_deadline_does_nothing() {
    // 102 MB at 119 kB/s take 860 s; 859 are left of 2 x 450.
    let mut slow = nearly_stalled(&[DISRUPT], "119000B/s", NEAR);
    assert_eq!(decision(&mut *slow, &start(41, NEAR)), Decision::Continue);
    assert_eq!(decision(&mut *slow, &start(51, 10_000)), FORCED, "344 s fit");
    let mut enough = nearly_stalled(&[DISRUPT], "120000B/s", NEAR);
    assert_eq!(decision(&mut *enough, &start(41, NEAR)), FORCED);
}

#[test]
fn nothing_is_done_until_a_remainder_comes_near_the_least_one() {
    let mut policy = stall(&[DISRUPT]);
    ask(&mut *policy, &tick(400, MANY));
    let rounds =
        [(1, 100_000), (11, 60_000), (21, 90_000), (31, 80_000), (41, 99_000), (51, 70_000), (61, 62_401)];
    for (second, pending) in rounds {
        assert_eq!(decision(&mut *policy, &start(second, pending)), Decision::Continue, "{second} s");
    }
    // 60,000 and 4 %.
    assert_eq!(decision(&mut *policy, &start(71, 62_400)), FORCED);
}

#[test]
fn the_bandwidth_is_smoothed_over_polls_between_rounds() {
    let mut policy = stall(&[]);
    ask(&mut *policy, &tick(400, MANY));
    ask(&mut *policy, &tick(800, MANY).at("200000000B/s"));
    for second in [1, 11, 21, 31] {
        // The start of a round samples nothing.
        ask(&mut *policy, &start(second, 60_000).at("900000000B/s"));
    }
    let verdict = ask(&mut *policy, &start(41, 60_000));
    assert_eq!(verdict.decision, Decision::Abort);
    let Quantity::Duration(estimate) = verdict.reason.left().value else { panic!("{}", verdict.reason) };
    // 245.76 MB at 0.4 x 200 + 0.6 x 100 MB/s.
    assert_eq!(estimate.as_millis(), 1_755);
}

#[test]
fn the_start_of_a_round_puts_the_next_poll_off() {
    let mut policy = stall(&[]);
    assert_eq!(ask(&mut *policy, &start(1, MANY)).until.at.as_nanos(), 1_400_000_000);
}

#[test]
fn rounds_without_a_bandwidth_are_not_looked_at() {
    let mut policy = stall(&[DISRUPT]);
    for second in 1..300 {
        assert_eq!(decision(&mut *policy, &start(second, FAR)), Decision::Continue);
    }
}

/// At the deadline, 450 s, with no stall before: rounds that fall by 10 % each.
fn at_the_deadline(parameters: &[(&str, &str)], second: u64) -> Decision {
    let mut policy = stall(parameters);
    ask(&mut *policy, &tick(400, MANY));
    let mut remaining = 1 << 24;
    for second in (1..second).step_by(30) {
        assert_eq!(decision(&mut *policy, &start(second, remaining)), Decision::Continue);
        remaining = remaining / 10 * 9;
    }
    decision(&mut *policy, &start(second, FAR))
}

#[test]
fn after_the_deadline_completion_is_forced_or_given_up_stalled_or_not() {
    assert_eq!(at_the_deadline(&[], 450), Decision::Continue);
    assert_eq!(at_the_deadline(&[], 451), Decision::Abort);
    assert_eq!(at_the_deadline(&[DISRUPT], 451), FORCED);
    assert_eq!(at_the_deadline(&[POST_COPY], 451), Decision::PostCopy);
    assert_eq!(at_the_deadline(&[POST_COPY, VFIO], 451), Decision::Abort);
    assert_eq!(at_the_deadline(&[POST_COPY, VFIO, DISRUPT], 451), FORCED);
}

#[test]
fn at_the_deadline_what_does_not_fit_twice_of_it_is_given_up() {
    let mut policy = stall(&[DISRUPT, POST_COPY]);
    // 450 s are left at 451: 1.6 GB at 3 MB/s take more.
    ask(&mut *policy, &tick(400, MANY).at("3000000B/s"));
    ask(&mut *policy, &start(1, MANY));
    assert_eq!(decision(&mut *policy, &tick(451_000, MANY).at("3000000B/s")), Decision::Abort);
    let mut unknown = stall(&[DISRUPT]);
    assert_eq!(decision(&mut *unknown, &start(451, MANY)), Decision::Abort, "no bandwidth");
}

#[test]
fn the_three_constants_of_the_product_can_be_others() {
    assert_eq!(limit_at(&mut *stall(&[("initial-downtime", "50ms")]), &tick(100, MANY)), 50);
    assert_eq!(limit_at(&mut *stall(&[("initial-downtime", "5s")]), &tick(100, MANY)), 900);
    // A bandwidth that was sampled makes an estimate, and with it a good moment; without a poll there is none.
    let stalled = |interval| {
        let mut policy = stall(&[("poll-interval", interval)]);
        decision(&mut *policy, &tick(200, MANY).at(LINK));
        for second in [1, 11, 21, 31] {
            decision(&mut *policy, &start(second, NEAR).at(LINK));
        }
        limit(&ask(&mut *policy, &start(41, NEAR).at(LINK)))
    };
    assert_eq!((stalled("200ms"), stalled("201ms")), (900, 300));
    // 1.64 s at 41 s, where the deadline is 42 s.
    let late = |factor| {
        let short = ("completion-timeout-per-gib", "14s");
        at_the_stall(&[DISRUPT, short, ("deadline-factor", factor)], FAR).decision
    };
    assert_eq!((late("1.1"), late("1")), (FORCED, Decision::Continue));
}
