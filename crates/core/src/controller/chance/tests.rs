// Exact numbers on purpose: nothing is nothing, and as expected is as expected.
#![allow(clippy::float_cmp)]

use std::time::Duration;

use super::{Chance, Changes, hashed, normal};
use crate::units::Timestamp;

const CASES: u32 = 19;

fn now() -> Timestamp {
    Timestamp::ZERO.saturating_add(Duration::from_secs(100))
}

fn cases(changes: [Changes; 2]) -> Vec<Chance> {
    (0..CASES).map(|case| Chance::case(case, CASES, now(), 0.01, changes)).collect()
}

#[test]
fn what_is_expected_is_changed_by_nothing() {
    let later = now().saturating_add(Duration::from_secs(1_000_000));
    assert_eq!(Chance::NONE.guest(later, 3, 0.5, 0.5), 1.0);
    assert_eq!(Chance::NONE.link(later), 1.0);
    assert_eq!(Chance::NONE.again(3), 1.0);
    assert_eq!(Chance::NONE.queued(), 1.0);
}

#[test]
fn hashes_look_as_if_drawn_from_the_normal_distribution() {
    let drawn: Vec<f64> =
        (0..CASES).flat_map(|case| (0..500).map(move |harvest| hashed(case, harvest))).collect();
    let count = drawn.len() as f64;
    let mean = drawn.iter().sum::<f64>() / count;
    let square = drawn.iter().map(|one| one * one).sum::<f64>() / count;
    let neighbours = drawn.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / count;
    assert!(mean.abs() < 0.03, "{mean}");
    assert!((square - 1.0).abs() < 0.05, "{square}");
    assert!(neighbours.abs() < 0.03, "{neighbours}");
}

#[test]
fn quantiles_are_the_normal_distributions() {
    for (share, quantile) in [(0.05, -1.645), (0.25, -0.674), (0.5, 0.0), (0.841, 1.0), (0.95, 1.645)] {
        assert!((normal(share) - quantile).abs() < 0.1, "{share}: {}", normal(share));
    }
}

#[test]
fn half_of_the_cases_dirty_more_and_half_less() {
    let more =
        cases([Changes::default(); 2]).iter().filter(|case| case.guest(now(), 0, 0.0, 0.2) > 1.0).count();
    assert_eq!(more, 9);
}

#[test]
fn what_has_changed_before_changes_sooner() {
    let soon = now().saturating_add(Duration::from_secs(20));
    let changed = |changes| {
        let cases = cases(changes);
        cases.iter().filter(|case| (case.link(soon) / case.link(now()) - 1.0).abs() > 1e-9).count()
    };
    let mut thrice = Changes::default();
    (0..3).for_each(|_| thrice.seen(1.5));
    // In a fifth of the time so far, 1 − 1.2^−0.15 = 3 % and 1 − 1.2^−3.15 = 44 % of the cases.
    assert!(changed([Changes::default(); 2]) <= 1);
    assert_eq!(changed([thrice, Changes::default()]), changed([Changes::default(); 2]), "it was the guest");
    assert!((6..=10).contains(&changed([Changes::default(), thrice])));
}
