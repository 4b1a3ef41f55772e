//! What `whimbrel` decides in named situations, and why.

use std::collections::BTreeMap;

use super::*;
use crate::controller::{Controller, Harvested, Transmitted};
use crate::layout::PageSize;
use crate::policy::presets::testing::{Guest, Situation, Step, answer, curve};
use crate::throttle::Throttle;
use crate::units::{ByteCount, CpuShare};

fn policy(parameters: &[(&str, &str)]) -> Box<dyn Policy> {
    let texts: BTreeMap<_, _> =
        parameters.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    INFO.build(&texts).expect("accepted")
}

/// A guest of 1 GiB over 1 Gbit/s, 30,500 pages a second.
fn guest(working_set: u64, rate: u64) -> Guest {
    Guest {
        name: "guest",
        memory: Pages(1 << 18),
        working_set: Pages(working_set),
        rate,
        link: "1Gbit/s".parse().expect("a bandwidth"),
    }
}

fn last(steps: &[Step]) -> &Step {
    steps.last().expect("asked at least once")
}

#[test]
fn an_impossible_downtime_is_refused_with_what_is_possible() {
    let mut policy = policy(&[("downtime", "10ms"), ("host-fixed", "12ms")]);
    let start = Situation::new("start", Moment::RoundStart, 0, 1 << 20);
    let said = "least downtime of the two hosts 16.0 ms > downtime 10.0 ms (by 60 %; harvest 4.00 ms, fixed \
                12.0 ms)";
    assert_eq!(policy.refuses(&start.progress).expect("refused").to_string(), said);
    let verdict = answer(&mut *policy, &start);
    assert_eq!((verdict.decision, verdict.reason.to_string().as_str()), (Decision::Abort, said));
}

#[test]
fn a_deadline_before_the_end_of_one_copy_is_refused_if_the_rate_is_known() {
    // Half of 4 GiB at 125 MB/s takes 17.2 s.
    let start = Situation::new("start", Moment::RoundStart, 0, 1 << 20);
    let refuses = |parameters: &[(&str, &str)]| policy(parameters).refuses(&start.progress).is_some();
    let rate = ("host-bandwidth", "1Gbit/s");
    assert!(refuses(&[("deadline", "17s"), rate]));
    assert!(!refuses(&[("deadline", "18s"), rate]));
    assert!(!refuses(&[("deadline", "17s")]), "nobody knows the rate");
    assert!(refuses(&[("deadline", "30s"), rate, ("used-memory", "100%")]));
}

#[test]
fn a_deadline_that_the_bulk_round_will_not_keep_ends_it_after_a_second() {
    let steps = curve(&mut *policy(&[("deadline", "5s")]), guest(10, 10), 5);
    let end = last(&steps);
    assert_eq!((end.verdict.decision, end.situation.progress.round), (Decision::Abort, 0));
    assert!(end.situation.progress.elapsed() < Duration::from_secs(2));
    assert!(end.verdict.reason.to_string().contains("deadline possible"), "{}", end.verdict.reason);
}

#[test]
fn it_goes_on_past_what_fits_as_long_as_that_pays_and_no_longer() {
    // 300 ms are 7,700 pages or so: at the second round start they fit already.
    let steps = curve(&mut *policy(&[]), guest(1 << 16, 8_000), 40);
    let end = last(&steps);
    let pending = end.situation.progress.pending.0;
    assert_eq!(end.verdict.decision, Decision::Switchover { when: SwitchoverWhen::Now, forced: false });
    assert!(
        pending < 200 && end.situation.progress.round < 12,
        "{pending} in {}",
        end.situation.progress.round
    );
    let went_on = steps.iter().any(|step| step.verdict.reason.to_string().contains("going on saves"));
    assert!(went_on, "a pause of 300 ms was there to be had");
}

#[test]
fn a_guest_that_never_fits_is_waited_for_and_then_given_up_with_what_was_seen() {
    // 65,536 pages rewritten all the time: 2.1 s.
    let steps = curve(&mut *policy(&[]), guest(1 << 16, 1_000_000), 1_000);
    let end = last(&steps);
    assert_eq!(end.verdict.decision, Decision::Abort);
    let said = end.verdict.reason.to_string();
    assert!(said.starts_with("least downtime seen 2.1") && said.contains("waited"), "{said}");
    assert!(end.situation.progress.elapsed() < Duration::from_mins(2));
}

#[test]
fn no_throttle_is_asked_for_where_none_is_allowed_or_none_is_needed() {
    for (parameters, guest) in
        [(&[][..], guest(1 << 16, 1_000_000)), (&[("slowdown", "90%")], guest(1 << 16, 8_000))]
    {
        let steps = curve(&mut *policy(parameters), guest, 200);
        assert!(steps.iter().all(|step| step.verdict.adjust.throttle.is_none()));
    }
}

#[test]
fn a_guest_that_would_be_late_is_slowed_and_by_no_more_than_is_allowed() {
    // It dirties 97 % of what the link carries: 130 s and more unless it is slowed.
    let slow = guest(1 << 17, 29_500);
    for (allowed, expected) in [("80%", true), ("0%", false)] {
        let steps = curve(&mut *policy(&[("slowdown", allowed), ("deadline", "60s")]), slow, 400);
        let mut slowed = false;
        for step in &steps {
            let Some(throttle) = step.verdict.adjust.throttle else { continue };
            slowed |= !throttle.is_off();
            assert!(throttle.share().as_f64() <= 0.8);
        }
        let why = last(&steps).verdict.reason.to_string();
        assert_eq!(slowed, expected, "{allowed}: {why}");
    }
}

#[test]
fn a_throttle_takes_its_share_in_sleeps_of_half_the_downtime() {
    for (share, limit) in [(0.1, 300), (0.5, 300), (0.9, 60)] {
        let throttle = stall::throttle(CpuShare::clamped(share), Duration::from_millis(limit));
        let Throttle::DutyCycle { share: taken, run } = throttle else { panic!("{throttle:?}") };
        let sleep = run.mul_f64(share / (1.0 - share)).as_secs_f64();
        assert!(
            (sleep - limit as f64 / 2e3).abs() < 1e-6 && (taken.as_f64() - share).abs() < 1e-9,
            "{throttle:?}"
        );
    }
}

#[test]
fn dirtying_is_limited_where_no_throttle_would_do_and_for_no_longer_than_the_slowdown_allows() {
    // 65,536 pages rewritten all the time, whatever share is left to it: 2.1 s. This guest obeys no limit.
    let told = [("slowdown", "8%"), ("deadline", "60s")];
    let steps = curve(&mut *policy(&told), guest(1 << 16, 1_000_000), 400);
    let asked = |step: &&Step| step.verdict.adjust.throttle.is_some();
    let limit = steps.iter().find(asked).expect("slowed");
    assert!(matches!(limit.verdict.adjust.throttle, Some(Throttle::DirtyLimit { .. })));
    let from = limit.situation.progress.elapsed();
    let off = steps.iter().filter(asked).nth(1).expect("lifted");
    assert_eq!(off.verdict.adjust.throttle, Some(Throttle::Off));
    let until = off.situation.progress.elapsed();
    // Nothing is taken in the first period, of a second.
    let taken = until.saturating_sub(from).as_secs_f64() - 1.0;
    assert!(taken > 2.0 && taken <= 0.08 * until.as_secs_f64(), "{from:?} to {until:?}");
    assert_eq!(last(&steps).verdict.decision, Decision::Abort);
}

#[test]
fn post_copy_comes_when_it_is_allowed_and_rounds_lead_nowhere() {
    let allowed = [("post-copy", "on"), ("downtime", "1s"), ("deadline", "5min")];
    let steps = curve(&mut *policy(&allowed), guest(1 << 16, 1_000_000), 400);
    assert_eq!(last(&steps).verdict.decision, Decision::PostCopy);
    let steps = curve(&mut *policy(&allowed), guest(1 << 16, 8_000), 400);
    assert!(matches!(last(&steps).verdict.decision, Decision::Switchover { .. }));
}

#[test]
fn it_needs_what_its_intent_allows() {
    let needs = policy(&[]).needs();
    assert!(!needs.throttle && !needs.post_copy);
    let needs = policy(&[("slowdown", "1%"), ("post-copy", "on")]).needs();
    assert!(needs.throttle && needs.post_copy);
}

/// A guest that rewrites a set of pages evenly, over 30,500 pages a second, and is harvested when it is asked to be.
struct Rewriting {
    set: f64,
    /// Writes a second.
    rate: f64,
    /// Whether the ground tells what is in flight: 1 MiB while it sends.
    tells: bool,
}

const LINK: f64 = 30_500.0;

/// What the policy decided: pages pending at its harvests inside rounds, and the last word.
fn rounds(policy: Box<dyn Policy>, guest: &Rewriting) -> (Vec<f64>, Decision) {
    let capabilities = Capabilities { harvest_on_demand: true, ..Capabilities::default() };
    let mut controller =
        Controller::new(policy, PageSize::Kib4, Pages(1 << 18), capabilities).expect("all it needs");
    let (mut now, mut pending, mut harvests) = (0.0, 262_144.0, Vec::new());
    let at = |seconds: f64| Timestamp::from_nanos((seconds * 1e9) as u64);
    let flying = |bytes| guest.tells.then_some(ByteCount(bytes));
    let mut verdict = controller.bulk_round(at(now));
    let mut harvested = now;
    for _ in 0..100_000 {
        match verdict.decision {
            Decision::Continue if pending >= 1.0 => {
                let slice = controller.policy().cadence().tick.expect("ticks").as_secs_f64();
                let sent = (LINK * slice).min(pending);
                (now, pending) = (now + sent / LINK, pending - sent);
                let sent = Transmitted {
                    pages: Pages(sent as u64),
                    bytes: ByteCount((sent * 4096.0) as u64),
                    pending: Pages(pending.ceil() as u64),
                    in_flight: flying(1 << 20),
                    ..Transmitted::default()
                };
                verdict = if let Some(verdict) = controller.transmitted(at(now), sent) {
                    verdict
                } else {
                    let verdict = controller.round_ended(at(now));
                    assert_eq!(controller.progress().in_flight, flying(0), "it waited for that");
                    verdict
                };
            }
            Decision::Continue | Decision::Harvest => {
                if verdict.decision == Decision::Harvest {
                    harvests.push(pending);
                }
                let again = 1.0 - (-guest.rate * (now - harvested) / guest.set).exp();
                (harvested, now) = (now, now + 0.001);
                let left = pending;
                pending = guest.set * again + left * (1.0 - again);
                let pages = |pages: f64| Pages(pages as u64);
                let found = Harvested {
                    dirtied: pages(guest.set * again),
                    left_over: pages(left),
                    pending: pages(pending),
                    in_flight: flying(if left > 0.0 { (1 << 20) - (LINK * 4.096) as u64 } else { 0 }),
                };
                controller.fixed_cost(Duration::from_millis(1));
                verdict = controller.harvested(at(now), found);
            }
            other => return (harvests, other),
        }
    }
    panic!("no end")
}

#[test]
fn rounds_end_early_where_pages_are_written_again_before_they_are_sent() {
    // Whole rounds settle at 3,000 pages: 125 ms with what is fixed.
    let guest = |tells| Rewriting { set: 10_240.0, rate: 36_000.0, tells };
    let told = [("downtime", "120ms"), ("deadline", "2min")];
    let (harvests, end) = rounds(policy(&told), &guest(true));
    assert!(!harvests.is_empty() && matches!(end, Decision::Switchover { .. }), "{} {end:?}", harvests.len());
    // Where nobody tells what is in flight, the downtime after such a harvest would not be known.
    assert_eq!(rounds(policy(&told), &guest(false)), (Vec::new(), Decision::Abort));
}

#[test]
fn early_harvests_are_given_up_where_everything_is_written_all_the_time() {
    let guest = Rewriting { set: 10_240.0, rate: 4_000_000.0, tells: true };
    let (harvests, end) = rounds(policy(&[("downtime", "200ms")]), &guest);
    // Tried again after 8, 16, 32, … whole rounds.
    assert!((4..30).contains(&harvests.len()) && end == Decision::Abort, "{} {end:?}", harvests.len());
}

#[test]
fn a_tick_harvests_from_the_number_of_pages_on_that_the_last_answer_named() {
    let none = BTreeMap::new();
    let ours = Whimbrel::read(&Given::new(&INFO, &none).expect("none")).expect("defaults");
    let mut ours = Whimbrel { leave: Pages(500), ..ours };
    let tick = |pending| Situation::new("tick", Moment::Tick, 3, pending);
    assert_eq!(ours.cadence().tick, Some(SHORT));
    ours.look = Timestamp::MAX;
    let verdict = answer(&mut ours, &tick(501));
    assert_eq!((verdict.decision, verdict.until.pending), (Decision::Continue, Pages(500)));
    assert_eq!(answer(&mut ours, &tick(500)).decision, Decision::Harvest);
    assert_eq!(ours.cadence().tick, Some(TICK));
}
