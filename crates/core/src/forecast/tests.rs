//! What is forecast of guests and links whose truth is known.

use std::time::Duration;

use super::*;
use crate::units::{Bandwidth, ByteCount, Pages};

fn seconds(time: f64) -> Duration {
    Duration::from_secs_f64(time)
}

/// Distinct pages that a uniform writer over `set` pages dirties in a window.
fn uniform(set: f64, rate: f64, window: f64) -> f64 {
    set * (1.0 - (-rate * window / set).exp())
}

/// A curve that has seen a uniform writer at these windows.
fn seen(set: f64, rate: f64, windows: &[f64]) -> DirtyCurve {
    let mut curve = DirtyCurve::default();
    for &window in windows {
        curve.observe(seconds(window), Pages(uniform(set, rate, window) as u64));
    }
    curve
}

fn forecast(curve: &DirtyCurve) -> Forecast<'_> {
    Forecast {
        curve,
        bandwidth: Bandwidth::new(125_000_000).expect("not zero"),
        page_bytes: 4096.0,
        harvest: Duration::from_millis(4),
        latency: Duration::ZERO,
        behind: Duration::ZERO,
        host: HostPair::default(),
        speed: 1.0,
    }
}

#[test]
fn nothing_is_expected_of_a_guest_that_was_never_seen() {
    let curve = DirtyCurve::default();
    assert_eq!(curve.expect(seconds(1.0)), None);
    assert_eq!(forecast(&curve).next(1e5), None);
    assert_eq!(forecast(&curve).path(1e5, 1e4).rounds, None);
}

#[test]
fn a_working_set_is_found_between_and_beyond_the_windows_that_showed_it() {
    let (set, rate) = (65_536.0, 40_000.0);
    let curve = seen(set, rate, &[20.0, 4.0, 2.0, 1.0, 0.5]);
    for (window, within) in [(0.25, 0.25), (0.7, 0.15), (1.5, 0.15), (3.0, 0.2), (10.0, 0.2)] {
        let expected = curve.expect(seconds(window)).expect("seen");
        let truth = uniform(set, rate, window);
        assert!((expected.pages / truth).ln().abs() < within, "{window}: {expected:?}, truth {truth}");
    }
}

#[test]
fn one_window_says_less_of_others_the_farther_they_are() {
    let curve = seen(65_536.0, 40_000.0, &[20.0]);
    let spread = |window| curve.expect(seconds(window)).expect("seen").spread;
    assert!(spread(20.0) < 0.01 && spread(5.0) > 0.1 && spread(0.1) > 2.0 * spread(5.0));
}

#[test]
fn a_guest_that_changes_is_followed_within_a_few_rounds() {
    let mut curve = seen(65_536.0, 40_000.0, &[1.0; 12]);
    for _ in 0..5 {
        curve.observe(seconds(1.0), Pages(1_000));
    }
    let expected = curve.expect(seconds(1.0)).expect("seen");
    // 0.7^5 of the weight is the past's: in logarithms, that is what is left of the way.
    assert!(expected.pages < 3_000.0, "{expected:?}");
    assert!(expected.spread > 0.5, "{expected:?}");
}

#[test]
fn a_window_more_never_dirties_fewer_pages_nor_more_than_in_proportion() {
    let curve = seen(10_000.0, 9_000.0, &[9.0, 0.3, 2.0, 2.1]);
    let mut before = curve.expect(seconds(0.01)).expect("seen").pages;
    for step in 1..400 {
        let window = 0.01 * 1.03f64.powi(step);
        let pages = curve.expect(seconds(window)).expect("seen").pages;
        assert!(pages >= before * 0.97 && pages <= before * 1.03 * 1.03, "at {window}: {before} {pages}");
        before = pages;
    }
}

#[test]
fn the_whole_downtime_is_pages_state_harvest_and_fixed_costs() {
    let curve = DirtyCurve::default();
    let forecast = forecast(&curve);
    // 8 ms, 4 ms, 2 MiB and 10,000 pages at 125 MB/s.
    let expected = 0.012 + (2_097_152.0 + 40_960_000.0) / 125e6;
    assert!((forecast.downtime(1e4).as_secs_f64() - expected).abs() < 1e-8);
    assert!((forecast.budget(forecast.downtime(1e4)) - 1e4).abs() < 0.01);
    assert!(forecast.budget(Duration::from_millis(20)) < 0.0, "not even nothing fits");
}

#[test]
fn the_path_of_a_guest_that_converges_ends_where_its_rounds_do() {
    let (set, rate) = (65_536.0, 12_000.0);
    let curve = seen(set, rate, &[20.0, 2.0, 0.8, 0.3, 0.1]);
    let forecast = forecast(&curve);
    let budget = 2_000.0;
    let (mut pages, mut rounds, mut time) = (60_000.0, 0, 0.0);
    while pages > budget {
        let round = pages * 4096.0 / 125e6 + 0.004;
        time += round;
        pages = uniform(set, rate, round);
        rounds += 1;
    }
    let path = forecast.path(60_000.0, budget);
    assert_eq!(path.rounds, Some(rounds));
    assert!((path.time.as_secs_f64() / time - 1.0).abs() < 0.1, "{path:?}, truth {time}");
}

#[test]
fn the_path_of_a_guest_that_rewrites_its_set_leads_nowhere() {
    let curve = seen(30_000.0, 500_000.0, &[20.0, 1.0, 1.0, 1.0]);
    let path = forecast(&curve).path(30_000.0, 8_000.0);
    assert_eq!(path.rounds, None);
    assert!((path.pages / 30_000.0 - 1.0).abs() < 0.05, "{path:?}");
}

#[test]
fn what_may_be_won_grows_with_the_spread() {
    let at = |spread| Expected { pages: 1000.0, spread }.below(1000.0);
    assert!(at(1e-9) < 1.0 && at(0.1) < at(0.5) && at(0.5) < at(1.0));
    // Black's formula at the money: 2 Φ(σ/2) − 1 of the forward, here within the logistic's 0.01.
    let low = Expected { pages: 500.0, spread: 0.01 }.below(1000.0);
    assert!((low - 500.0).abs() < 5.0, "{low}");
}

#[test]
fn the_rate_forgets_what_was_sent_seconds_ago() {
    let mut rate = SendRate::default();
    assert_eq!(rate.bandwidth(), None);
    rate.observe(ByteCount(1_000_000_000), seconds(10.0));
    assert_eq!(rate.bandwidth(), Bandwidth::new(100_000_000));
    for _ in 0..10 {
        rate.observe(ByteCount(10_000_000), seconds(1.0));
    }
    let now = rate.bandwidth().expect("seen").as_f64();
    assert!((10e6..13e6).contains(&now), "{now}");
}

#[test]
fn a_dead_link_has_the_slowest_rate_there_is() {
    let mut rate = SendRate::default();
    rate.observe(ByteCount(0), seconds(1.0));
    assert_eq!(rate.bandwidth(), Some(Bandwidth::SLOWEST));
}

#[test]
fn a_mixture_passes_between_windows_that_are_far_apart() {
    let mut curve = DirtyCurve::default();
    for window in [0.02, 0.09, 0.37, 1.5, 25.0] {
        curve.observe(seconds(window), Pages(uniform(230_000.0, 76_000.0, window) as u64));
    }
    let mut mixture = Mixture::default();
    mixture.fit(&curve);
    for window in [0.05, 0.7, 3.0, 7.5, 40.0] {
        let (expected, truth) =
            (mixture.guess(&curve, seconds(window)).pages, uniform(230_000.0, 76_000.0, window));
        assert!((expected / truth - 1.0).abs() < 0.11, "{window} s: {expected}, truth {truth}");
    }
    // A line in logarithms misses the bend between the last two.
    let line = curve.expect(seconds(7.5)).expect("seen").pages;
    assert!(line < 0.85 * uniform(230_000.0, 76_000.0, 7.5), "{line}");
}

#[test]
fn a_mixture_rises_with_the_window_and_never_faster() {
    let mut curve = DirtyCurve::default();
    let mut mixture = Mixture::default();
    for (window, pages) in [(0.1, 900), (0.4, 5_000), (30.0, 4_000), (0.5, 3_000)] {
        curve.observe(seconds(window), Pages(pages));
        mixture.fit(&curve);
    }
    let at = |window| mixture.shape(window);
    for step in 0..60 {
        let window = 1e-3 * 1.2f64.powi(step);
        assert!(at(window) <= at(1.2 * window) && at(1.2 * window) <= 1.2 * at(window) * (1.0 + 1e-9));
    }
}

/// A set of 40 MiB at 36,000 writes a second over 30,500 pages a second.
fn rewritten() -> DirtyCurve {
    seen(10_240.0, 36_000.0, &[2.0, 1.0, 0.5, 0.25, 0.12, 0.06, 0.03])
}

#[test]
fn how_often_pages_are_written_again_shows_in_the_curve() {
    let curve = rewritten();
    let with = forecast;
    let forecast = forecast(&curve);
    for (pages, window) in [(4_000.0, 0.06), (6_000.0, 0.1), (8_000.0, 0.25)] {
        let again = Early::again(&forecast, pages, window);
        assert!((again / (36_000.0 / 10_240.0)).ln().abs() < 0.7, "{pages} in {window}: {again}");
    }
    // Pages that were never seen before are not written again.
    let appended = seen(1e9, 40_000.0, &[1.0, 0.5, 0.25, 0.12]);
    assert!(Early::again(&with(&appended), 4_000.0, 0.1) < 0.5);
}

#[test]
fn what_is_left_and_written_again_counts_once() {
    let curve = rewritten();
    let forecast = forecast(&curve);
    let early = Early { left: 1_800.0, again: 3.5 };
    let (next, kept) = forecast.next_early(4_000.0, early).expect("seen");
    let window = forecast.round_early(4_000.0, early);
    let dirtied = curve.expect(window).expect("seen").pages;
    assert!((kept / (1_800.0 * (-3.5 * window.as_secs_f64()).exp()) - 1.0).abs() < 1e-9, "{kept}");
    assert!((next.pages - dirtied - kept).abs() < 1e-6 && next.pages < dirtied + 1_800.0);
}

#[test]
fn a_path_of_early_harvests_goes_from_each_to_the_next() {
    let curve = rewritten();
    let forecast = forecast(&curve);
    let early = Early { left: 1_800.0, again: 3.5 };
    let (mut pages, mut time, mut rounds) = (8_000.0, Duration::ZERO, 0);
    while pages > 3_500.0 {
        time += forecast.round_early(pages, early);
        pages = forecast.next_early(pages, early).expect("seen").0.pages;
        rounds += 1;
    }
    assert!(rounds > 2);
    assert_eq!(forecast.path_early(8_000.0, 3_500.0, early), Path { rounds: Some(rounds), time, pages });
    assert_eq!(forecast.path_early(8_000.0, 1_000.0, early).rounds, None, "less than what is left");
}

#[test]
fn no_round_is_shorter_than_its_harvest() {
    let curve = rewritten();
    let forecast = forecast(&curve);
    let early = Early { left: 3_900.0, again: 3.9 };
    // 100 pages take 3 ms, a harvest 4 ms.
    assert!(forecast.next_early(4_000.0, early).is_none() && forecast.next_early(4_100.0, early).is_some());
}

#[test]
fn the_last_pages_wait_for_what_is_in_flight() {
    let curve = rewritten();
    let settled = forecast(&curve);
    let behind = Forecast { behind: Duration::from_millis(9), ..settled };
    let apart = behind.downtime(1_000.0).saturating_sub(settled.downtime(1_000.0));
    assert_eq!(apart, Duration::from_millis(9));
    let limit = Duration::from_millis(200);
    let fewer = settled.budget(limit) - behind.budget(limit);
    assert!((fewer - 0.009 * 125e6 / 4096.0).abs() < 1.0, "{fewer}");
}
