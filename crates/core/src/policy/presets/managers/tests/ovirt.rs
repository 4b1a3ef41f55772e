//! oVirt's schedules.

use super::*;

const CALM: (&str, &str) = ("auto-converge", "off");

/// Limits, and what ended it, of a migration whose remainder is these pages at its polls.
fn polled(name: &str, remaining: impl IntoIterator<Item = u64>) -> (Vec<u128>, Option<Decision>) {
    let mut policy = preset(name, &[CALM]);
    let mut limits = Vec::new();
    for (poll, pending) in remaining.into_iter().enumerate() {
        let verdict = ask(&mut *policy, &tick((poll as u64 + 1) * 10_000, pending));
        if verdict.decision != Decision::Continue {
            return (limits, Some(verdict.decision));
        }
        limits.push(limit(&verdict));
    }
    (limits, None)
}

#[test]
fn minimal_raises_the_limit_with_each_stall_beyond_an_items_and_then_gives_up() {
    let (limits, end) = polled("ovirt-minimal", MANY..MANY + 20);
    // The first poll compares nothing; then stalls 1, 2, 3, ...
    assert_eq!(limits, [100, 100, 150, 200, 300, 400, 400, 500]);
    assert_eq!(end, Some(Decision::Abort));
}

#[test]
fn suspend_allows_5_s_before_it_gives_up() {
    let (limits, end) = polled("ovirt-suspend", MANY..MANY + 20);
    assert_eq!(limits, [100, 100, 150, 200, 300, 400, 400, 500, 5_000]);
    assert_eq!(end, Some(Decision::Abort));
}

#[test]
fn postcopy_goes_over_after_200_ms_were_tried() {
    let (limits, end) = polled("ovirt-postcopy", MANY..MANY + 20);
    assert_eq!(limits, [100, 100, 150, 200]);
    assert_eq!(end, Some(Decision::PostCopy));
    assert!(preset("ovirt-postcopy", &[]).needs().post_copy);
    assert!(!preset("ovirt-suspend", &[]).needs().post_copy);
}

#[test]
fn a_remainder_that_does_not_grow_is_no_stall_and_resets_nothing() {
    let (limits, end) = polled("ovirt-minimal", (0..100).map(|poll| MANY - poll));
    assert_eq!((limits, end), (vec![100; 100], None));
    let up_and_down = [0, 1, 0, 0, 1, 0, 1].map(|more| MANY + more);
    assert_eq!(polled("ovirt-minimal", up_and_down).0, [100, 100, 100, 100, 150, 150, 200]);
}

#[test]
fn a_stall_is_compared_with_the_poll_before_and_not_with_the_least_seen() {
    // Never a new low after the first, but only two polls that grew.
    let saw = [0, 10, 9, 8, 7, 11, 10, 9].map(|more| MANY + more);
    assert_eq!(polled("ovirt-minimal", saw).0, [100, 100, 100, 100, 100, 150, 150, 150]);
}

#[test]
fn what_happens_between_two_polls_is_not_seen() {
    let mut policy = preset("ovirt-minimal", &[CALM]);
    for millis in 10_001..19_999 {
        assert_eq!(limit_at(&mut *policy, &tick(millis, MANY + millis)), 100);
    }
}

#[test]
fn the_guest_is_slowed_unless_that_is_off() {
    assert!(preset("ovirt-minimal", &[]).needs().throttle);
    assert!(!preset("ovirt-minimal", &[CALM]).needs().throttle);
}

#[test]
fn a_guest_that_fits_5_s_is_not_forced() {
    let mut policy = preset("ovirt-suspend", &[CALM]);
    // 410 MB: more than 500 ms and less than 5 s.
    for second in 1..=8 {
        ask(&mut *policy, &tick(second * 10_000, 100_000 + second));
    }
    assert_eq!(decision(&mut *policy, &moment(Moment::RoundStart, 81_000, 100_000)), Decision::Continue);
    ask(&mut *policy, &tick(90_000, 100_100));
    assert_eq!(decision(&mut *policy, &moment(Moment::RoundStart, 91_000, 100_000)), CONVERGED);
}

#[test]
fn nothing_can_be_changed_while_it_runs() {
    for preset_name in ["ovirt-minimal", "kubevirt-legacy", "kubevirt-stepped", "kubevirt-stall"] {
        preset(preset_name, &[]).set_parameter("max-bandwidth", "unlimited").expect_err("refused");
    }
}
