// Exact numbers on purpose: nothing is nothing, and as expected is as expected.
#![allow(clippy::float_cmp)]

use std::time::Duration;

use proptest::prelude::*;

use super::WorkingSet;
use crate::forecast::{DirtyCurve, Mixture};
use crate::units::Pages;

proptest! {
    #[test]
    fn the_table_says_what_the_mixture_says(
        (mut windows, mut dirtied) in (1usize..6).prop_flat_map(|seen| {
            (prop::collection::vec(0.002..60.0f64, seen), prop::collection::vec(1u64..1_000_000, seen))
        }),
        window in -8.0..8.0f64,
    ) {
        // What is a curve: a longer window holds what a shorter one does, and no more a second than that. Of numbers that contradict
        // one another the mixture may make a kink that no table of these steps follows within a twentieth.
        windows.sort_by(f64::total_cmp);
        dirtied.sort_unstable();
        for next in 1..windows.len() {
            let most = dirtied[next - 1] as f64 * windows[next] / windows[next - 1];
            dirtied[next] = dirtied[next].min(most as u64).max(dirtied[next - 1]);
        }
        let mut curve = DirtyCurve::default();
        for (seconds, pages) in windows.into_iter().zip(dirtied) {
            curve.observe(Duration::from_secs_f64(seconds), Pages(pages));
        }
        let mut mixture = Mixture::default();
        mixture.fit(&curve);
        let window = Duration::from_secs_f64(window.exp());
        let (asked, looked_up) = (mixture.guess(&curve, window), WorkingSet::new(&mixture, &curve).at(window));
        prop_assume!(asked.pages >= 1.0);
        prop_assert!((looked_up.pages / asked.pages).ln().abs() < 0.05, "{asked:?} {looked_up:?}");
        prop_assert!((looked_up.doubt - asked.doubt).abs() < 0.05, "{asked:?} {looked_up:?}");
    }
}

#[test]
fn a_window_of_nothing_dirties_nothing() {
    let mut curve = DirtyCurve::default();
    curve.observe(Duration::from_secs(1), Pages(100));
    let mut mixture = Mixture::default();
    mixture.fit(&curve);
    assert_eq!(WorkingSet::new(&mixture, &curve).at(Duration::ZERO).pages, 0.0);
}
