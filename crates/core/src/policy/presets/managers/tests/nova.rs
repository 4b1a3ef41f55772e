//! Section by section: nova's steps, its timeout and what follows it.

use super::*;
use crate::progress::Capabilities;

const FORCE: (&str, &str) = ("timeout-action", "force-complete");

/// A guest that never fits: only nova's own actions are seen.
fn late(millis: u64) -> Situation {
    tick(millis, MANY)
}

#[test]
fn a_guest_of_2_gib_has_steps_of_150_s_up_to_500_ms_after_1500_s() {
    let mut nova = preset("nova", &[]);
    for step in 0..=10 {
        let at = step * 150_000;
        let before = if step == 0 { 300 } else { 50 + 45 * (u128::from(step) - 1) };
        assert_eq!(limit_at(&mut *nova, &late(at)), before, "not at {at} ms yet");
        assert_eq!(limit_at(&mut *nova, &late(at + 499)), before, "no poll since");
        assert_eq!(limit_at(&mut *nova, &late(at + 500)), 50 + 45 * u128::from(step));
    }
    assert_eq!(limit_at(&mut *nova, &late(1_599_000)), 500);
}

#[test]
fn the_timeout_of_a_guest_of_2_gib_is_after_1600_s() {
    let mut nova = preset("nova", &[]);
    assert_eq!(decision(&mut *nova, &late(1_600_499)), Decision::Continue);
    assert_eq!(decision(&mut *nova, &late(1_600_500)), Decision::Abort);
}

#[test]
fn no_timeout_is_never_reached() {
    let mut nova = preset("nova", &[("completion-timeout", "0s")]);
    assert_eq!(decision(&mut *nova, &late(10_000_000_000)), Decision::Continue);
}

#[test]
fn less_than_2_gib_counts_as_2_and_more_as_it_is() {
    for (pages, timeout) in [(1 << 17, 1_600), (1 << 19, 1_600), (5 << 17, 2_000), (1 << 21, 6_400)] {
        let at = |millis| {
            let mut asked = late(millis);
            asked.progress.memory = Pages(pages);
            decision(&mut *preset("nova", &[]), &asked)
        };
        assert_eq!(at(timeout * 1_000), Decision::Continue, "{pages} pages");
        assert_eq!(at(timeout * 1_000 + 500), Decision::Abort, "{pages} pages");
    }
}

#[test]
fn copied_disks_count_as_data_and_at_least_2_gib() {
    for (disks, timeout) in [("0B", 1_600), ("1MiB", 3_200), ("2GiB", 3_200), ("10GiB", 9_600)] {
        let mut nova = preset("nova", &[("copied-disks", disks)]);
        assert_eq!(decision(&mut *nova, &late(timeout * 1_000)), Decision::Continue, "{disks}");
        assert_eq!(decision(&mut *nova, &late(timeout * 1_000 + 500)), Decision::Abort, "{disks}");
    }
}

#[test]
fn completion_is_forced_one_poll_after_the_timeout() {
    let mut nova = preset("nova", &[FORCE]);
    assert_eq!(decision(&mut *nova, &late(1_600_500)), Decision::Continue);
    assert_eq!(decision(&mut *nova, &late(1_601_000)), Decision::Pause);
}

#[test]
fn a_guest_that_was_paused_is_handed_over_as_forced_and_never_aborted() {
    for parameters in [&[FORCE][..], &[]] {
        let mut nova = preset("nova", parameters);
        let mut paused = late(2_000_000);
        paused.progress.paused = true;
        assert_eq!(decision(&mut *nova, &paused), Decision::Continue);
        let mut rest = moment(Moment::RoundStart, 2_001_000, 100);
        rest.progress.paused = true;
        assert_eq!(decision(&mut *nova, &rest), FORCED);
    }
}

#[test]
fn post_copy_is_preferred_to_a_pause_where_it_is_permitted_and_available() {
    let parameters = [FORCE, ("permit-post-copy", "on")];
    let mut asked = late(1_601_000);
    assert_eq!(decision(&mut *preset("nova", &parameters), &asked), Decision::PostCopy);
    asked.progress.capabilities.post_copy = false;
    assert_eq!(decision(&mut *preset("nova", &parameters), &asked), Decision::Pause);
    asked.progress.capabilities.pause = false;
    assert_eq!(decision(&mut *preset("nova", &parameters), &asked), Decision::Continue);
}

#[test]
fn post_copy_is_not_used_without_the_timeout_action() {
    let mut nova = preset("nova", &[("permit-post-copy", "on")]);
    assert_eq!(decision(&mut *nova, &late(1_601_000)), Decision::Abort);
}

#[test]
fn the_guest_is_slowed_only_where_post_copy_is_not_permitted() {
    let needs = |parameters| preset("nova", parameters).needs();
    assert!(!needs(&[]).throttle);
    assert!(needs(&[("permit-auto-converge", "on")]).throttle);
    assert!(!needs(&[("permit-auto-converge", "on"), ("permit-post-copy", "on")]).throttle);
}

#[test]
fn nova_needs_what_forcing_completion_takes() {
    let plain = Capabilities { harvest_on_demand: true, ..Capabilities::default() };
    let needs = |parameters| preset("nova", parameters).needs();
    assert_eq!(needs(&[]), plain);
    assert_eq!(needs(&[("permit-post-copy", "on")]), plain);
    assert_eq!(needs(&[FORCE]), Capabilities { pause: true, ..plain });
    let post_copy = Capabilities { post_copy: true, ..plain };
    assert_eq!(needs(&[FORCE, ("permit-post-copy", "on")]), post_copy);
    assert_eq!(needs(&[FORCE, ("completion-timeout", "0s")]), plain);
}

#[test]
fn an_answer_holds_until_the_poll_at_which_something_changes() {
    let mut nova = preset("nova", &[]);
    let mut until = |millis| ask(&mut *nova, &late(millis)).until.at.as_nanos() / 1_000_000;
    assert_eq!(until(0), 500);
    assert_eq!(until(600), 150_500);
    assert_eq!(until(150_499), 150_500);
    assert_eq!(until(150_500), 300_500);
    assert_eq!(until(1_500_500), 1_600_500);
    let mut forcing = preset("nova", &[FORCE]);
    assert_eq!(ask(&mut *forcing, &late(1_500_500)).until.at.as_nanos() / 1_000_000, 1_601_000);
}

#[test]
fn a_guest_that_fits_is_handed_over_unforced() {
    let mut nova = preset("nova", &[]);
    assert_eq!(decision(&mut *nova, &moment(Moment::RoundStart, 1_000, 100)), CONVERGED);
}

#[test]
fn an_operator_can_change_the_timeout_and_its_action_while_it_runs() {
    let mut nova = preset("nova", &[]);
    nova.set_parameter("timeout-action", "force-complete").expect("mutable");
    nova.set_parameter("completion-timeout", "10s").expect("mutable");
    assert_eq!(decision(&mut *nova, &late(21_000)), Decision::Pause);
    let said = nova.parameters();
    assert!(said.contains(&("timeout-action", "force-complete".to_owned())));
    assert!(said.contains(&("completion-timeout", "10s".to_owned())));
    for (name, value) in [("max-downtime", "1s"), ("completion-timeout", "soon"), ("nothing", "1")] {
        nova.set_parameter(name, value).expect_err(name);
    }
}

#[test]
fn steps_are_whole_milliseconds_and_any_number_of_them_ends_at_the_last() {
    for (steps, max, reached) in
        [("3", "500ms", 500), ("0", "500ms", 500), ("1", "400ms", 400), ("7", "1s", 1_000)]
    {
        let parameters = [("downtime-steps", steps), ("max-downtime", max), ("completion-timeout", "0s")];
        let mut nova = preset("nova", &parameters);
        assert_eq!(limit_at(&mut *nova, &late(100_000_000)), reached, "{steps} steps");
    }
    let mut nova = preset("nova", &[("downtime-steps", "3")]);
    // 166.67 + 111.11 i
    let limits = [500, 150_500, 300_500, 450_500].map(|millis| limit_at(&mut *nova, &late(millis)));
    assert_eq!(limits, [166, 277, 388, 500]);
}

#[test]
fn a_pause_that_waited_for_a_harvest_is_ordered_once() {
    let mut nova = preset("nova", &[FORCE]);
    let end = moment(Moment::RoundEnd, 1_601_000, MANY);
    assert_eq!(decision(&mut *nova, &end), Decision::Continue);
    let mut start = moment(Moment::RoundStart, 1_601_000, MANY);
    assert_eq!(decision(&mut *nova, &start), Decision::Pause);
    start.progress.paused = true;
    assert_eq!(decision(&mut *nova, &start), Decision::Continue);
}
