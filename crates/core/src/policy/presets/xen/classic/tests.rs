//! Each point of `xc_linux_save` that a preset can be held to.

use super::super::super::testing::{Guest, Situation, Step, answer, curve, print, steps};
use super::*;
use crate::units::PageRate;

fn xen(adaptive: bool) -> XenClassic {
    let rate = |text: &str| text.parse().expect("a bandwidth");
    let rates = AdaptiveRate { start: rate("100Mbit/s"), step: rate("50Mbit/s"), most: rate("500Mbit/s") };
    XenClassic {
        max_iterations: 29,
        max_factor: 3,
        min_remaining: Pages(50),
        adaptive,
        rates,
        rate: rates.start.bytes_per_second(),
        sent_before: None,
    }
}

/// The end of round `round` (0 is the full one), in which `sent` pages were sent and `skipped` left out.
fn end(round: u32, sent: u64, skipped: u64) -> Situation {
    let mut end = Situation::new("end", Moment::RoundEnd, round, 0);
    end.progress.round_sent_pages = Pages(sent);
    end.progress.round_skipped = Pages(skipped);
    end
}

/// The start of a round before which `dirty` Mbit/s were dirtied.
fn start(round: u32, dirty: f64) -> Situation {
    let mut start = Situation::new("start", Moment::RoundStart, round, 1_000);
    start.progress.dirty_rate = Some(PageRate::new(dirty * 1e6 / 8.0 / 4096.0).expect("finite"));
    start
}

const fn last(forced: bool) -> Decision {
    Decision::Switchover { when: SwitchoverWhen::Now, forced }
}

fn decisions(steps: &[Step]) -> Vec<Decision> {
    steps.iter().map(|step| step.verdict.decision).collect()
}

/// The rate limit that the answer sets, in Mbit/s of 2^20 bits, as Xen's limiter counts.
fn limited_to(policy: &mut XenClassic, situation: &Situation) -> Option<u64> {
    let RateLimit::AtMost(rate) = answer(policy, situation).adjust.rate_limit? else { return Some(0) };
    Some((rate.as_f64() * 8.0 / f64::from(1 << 20)).round() as u64)
}

#[test]
fn the_twenty_ninth_round_is_the_last() {
    let rounds: Vec<_> = (0..40).map(|round| end(round, 1_000, 0)).collect();
    let steps = steps(&mut xen(false), &rounds);
    assert_eq!(steps.len(), 29);
    assert_eq!(steps[28].verdict.decision, last(true));
}

#[test]
fn fewer_than_50_pages_sent_and_skipped_together_are_the_last_round() {
    let at = |sent, skipped| answer(&mut xen(false), &end(3, sent, skipped)).decision;
    assert_eq!(at(49, 0), last(false));
    assert_eq!(at(0, 49), last(false));
    assert_eq!(at(50, 0), Decision::Continue);
    assert_eq!(at(1, 49), Decision::Continue);
}

#[test]
fn more_than_three_times_the_memory_is_enough_and_three_times_is_not() {
    let mut busy = end(3, 1_000, 0);
    busy.progress.sent_pages = Pages(3 << 20);
    assert_eq!(answer(&mut xen(false), &busy).decision, Decision::Continue);
    busy.progress.sent_pages = Pages((3 << 20) + 1);
    assert_eq!(answer(&mut xen(false), &busy).decision, last(true));
}

#[test]
fn without_adaptive_rates_a_growing_round_changes_nothing_and_nothing_is_limited() {
    let growing = [end(0, 1_000, 0), end(1, 2_000, 0), end(2, 4_000, 0)];
    assert_eq!(decisions(&steps(&mut xen(false), &growing)), [Decision::Continue; 3]);
    assert_eq!(limited_to(&mut xen(false), &start(0, 0.0)), None);
    assert_eq!(limited_to(&mut xen(false), &start(1, 400.0)), None);
}

#[test]
fn a_growing_round_is_the_last_only_at_the_highest_rate() {
    let mut policy = xen(true);
    let growing = [end(0, 1_000, 0), end(1, 2_000, 0), start(2, 499.0), end(2, 2_000, 0), end(3, 2_001, 0)];
    let goes_on = Decision::Continue;
    assert_eq!(decisions(&steps(&mut policy, &growing)), [goes_on, goes_on, goes_on, goes_on, last(true)]);
}

#[test]
fn a_first_rate_above_the_highest_counts_as_the_highest() {
    let texts = [("adaptive-rate", "on"), ("start-rate", "600Mbit/s")];
    let texts = texts.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let mut policy = INFO.build(&texts).expect("parameters");
    let set = policy.decide(Moment::RoundStart, &start(0, 0.0).progress).adjust.rate_limit;
    assert_eq!(set, Some(limit(500 * MEGABIT)));
    // It is the highest from the first round on, so a growing round is the last.
    let mut decide = |end: Situation| policy.decide(end.moment, &end.progress).decision;
    assert_eq!(decide(end(0, 1_000, 0)), Decision::Continue);
    assert_eq!(decide(end(1, 1_001, 0)), last(true));
}

#[test]
fn the_limit_stays_in_force_while_the_guest_is_suspended() {
    let mut policy = xen(true);
    answer(&mut policy, &start(0, 0.0));
    for end in [end(28, 1_000, 0), end(3, 10, 0)] {
        let verdict = answer(&mut policy.clone(), &end);
        assert!(matches!(verdict.decision, Decision::Switchover { .. }), "{verdict:?}");
        assert_eq!(verdict.adjust.rate_limit, None);
    }
}

#[test]
fn the_full_round_has_none_before_it() {
    let mut policy = xen(true);
    policy.rate = policy.rates.most.bytes_per_second();
    assert_eq!(answer(&mut policy, &end(0, 1 << 20, 0)).decision, Decision::Continue);
}

#[test]
fn the_rate_follows_what_was_dirtied_upwards_only_and_no_further_than_the_highest() {
    let mut policy = xen(true);
    let mut at = |round, dirty| limited_to(&mut policy, &start(round, dirty));
    assert_eq!(at(0, 0.0), Some(100));
    assert_eq!(at(1, 100.9), None, "whole Mbit/s are compared, strictly");
    assert_eq!(at(2, 101.0), Some(151));
    assert_eq!(at(3, 40.0), None, "it never falls");
    assert_eq!(at(4, 2_000.0), Some(500));
}

#[test]
fn the_limiter_counts_binary_megabits() {
    // 100 KiB in every 7812 us.
    let slot = Bandwidth::new(102_400 * 1_000_000 / 7_812).expect("not zero");
    assert_eq!(limit(100 * MEGABIT), RateLimit::AtMost(slot));
    assert_eq!(limit(u64::MAX), RateLimit::Unlimited);
    assert!(matches!(limit(0), RateLimit::AtMost(_)));
}

#[test]
fn a_round_is_judged_when_it_is_sent_and_at_no_other_moment() {
    for moment in [Moment::RoundStart, Moment::Tick] {
        let asked = Situation::new("asked", moment, 40, 0).at("1Gbit/s").after("9h");
        assert_eq!(answer(&mut xen(false), &asked).decision, Decision::Continue);
    }
}

/// The adaptive form, which the curves of all presets leave out because it is off by default.
#[test]
fn adaptive_rates_climb_on_known_guests_as_they_always_did() {
    let mut printed = String::new();
    for (name, rate) in [("converging guest", 2_000), ("non-converging guest", 100_000)] {
        let link = "1Gbit/s".parse().expect("a bandwidth");
        let guest = Guest { name, memory: Pages(1 << 18), working_set: Pages(1 << 16), rate, link };
        printed += &print(&curve(&mut xen(true), guest, 40));
    }
    insta::assert_snapshot!("xen-classic-adaptive", printed);
}
