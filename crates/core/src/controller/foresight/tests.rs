use std::time::Duration;

use super::{APART, BETWEEN, CASES, class_of};

const LIMIT: Duration = Duration::from_secs(100);

/// Ends spread evenly between two times.
fn ends(soonest: f64, latest: f64) -> Vec<Option<Duration>> {
    let step = (latest - soonest) / f64::from(CASES - 1);
    (0..CASES).map(|case| Some(Duration::from_secs_f64(soonest + f64::from(case) * step))).collect()
}

fn class(ends: &[Option<Duration>]) -> usize {
    class_of(ends[ends.len() / 2], ends, Some(LIMIT))
}

#[test]
fn the_further_apart_the_ends_the_less_sure_is_the_class() {
    let classes = [1.0, 1.15, 1.5, 3.0, 30.0].map(|latest| class(&ends(1.0, latest)));
    assert!(classes.is_sorted(), "{classes:?}");
    assert_eq!((classes[0], classes[4]), (0, APART.len()));
}

#[test]
fn limits_have_classes_of_their_own() {
    let mut ends = ends(1.0, 1.01);
    let reaching = |ends: &mut [Option<Duration>], count: usize| {
        ends.iter_mut().rev().take(count).for_each(|end| *end = Some(LIMIT));
        class(ends)
    };
    assert!(reaching(&mut ends, 2) <= APART.len());
    assert_eq!(reaching(&mut ends, 8), APART.len() + 1);
    assert_eq!(reaching(&mut ends, 18), APART.len() + 2);
}

#[test]
fn an_end_out_of_sight_is_later_than_any() {
    let mut ends = ends(1.0, 1.01);
    ends.iter_mut().rev().take(8).for_each(|end| *end = None);
    assert_eq!(class_of(Some(Duration::from_secs(1)), &ends, None), APART.len() + 1);
}

#[test]
fn every_interval_holds_its_forecast_and_those_of_surer_classes() {
    for row in BETWEEN {
        for (low, high) in row {
            assert!((0.0..=1.0).contains(&low) && high >= 1.0, "{low} to {high}");
        }
        for pair in row[..=APART.len()].windows(2) {
            assert!(pair[1].0 <= pair[0].0 && pair[0].1 <= pair[1].1, "{pair:?}");
        }
    }
}
