//! Rounds that end before everything is sent: what an early harvest leaves pending.

use std::time::Duration;

use super::{Expected, Forecast, Path};
use crate::forecast::path::{CONVERGED, MOST_ROUNDS, seconds};

/// Rounds of which some pages are left for the next.
///
/// A page that is written after the harvest and before it is sent goes out as it is then, and is found dirty all the
/// same: a whole round sends it twice. A harvest while it is still pending finds it pending, and it counts once. So
/// of `left` pages, a window of t after their harvest dirties a share 1 − e^(−`again`·t), which costs nothing more,
/// while of those that were sent all that is dirtied again is pending again:
///
/// ```text
/// P' = W(t) + left·e^(−again·t),   t = (P − left)·page/rate + harvest
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Early {
    /// Pages pending at which the log is harvested.
    pub left: f64,
    /// The rate at which a pending page is written again, per second, at the guest's full speed.
    pub again: f64,
}

impl Early {
    /// The rate at which pages of a set are written again that a window of `pages` dirtied, by the curve alone.
    ///
    /// Of a guest that goes on as it is, windows of V and t find W(V) + W(t) − W(V + t) pages in both.
    pub fn again(forecast: &Forecast<'_>, pages: f64, window: f64) -> f64 {
        let found =
            |window: f64| forecast.curve.expect(seconds(window)).map_or(0.0, |expected| expected.pages);
        // The window that dirties so many.
        let (mut low, mut high) = (1e-4_f64, 1e4_f64);
        for _ in 0..24 {
            let middle = (low * high).sqrt();
            if found(middle) < pages { low = middle } else { high = middle }
        }
        let before = (low * high).sqrt();
        let both = found(before) + found(window) - found(before + window);
        let share = (both / pages.max(1.0)).clamp(0.0, 0.999);
        -(1.0 - share).ln() / window.max(1e-6)
    }
}

impl Forecast<'_> {
    /// What a round of so many pages leaves pending that is harvested early, and how many of those were left and not
    /// written again; none before anything is known of the
    /// guest, or if the time until then would be shorter than the harvest takes.
    pub fn next_early(&self, pages: f64, early: Early) -> Option<(Expected, f64)> {
        let sending = self.carry((pages - early.left) * self.page_bytes);
        let harvest = self.harvest.as_secs_f64();
        if sending <= harvest {
            return None;
        }
        let window = (sending + harvest) * self.speed;
        let dirtied = self.curve.expect(seconds(window))?;
        let kept = early.left * (-early.again * window).exp();
        let pages = dirtied.pages + kept;
        Some((Expected { pages, spread: dirtied.spread * dirtied.pages / pages.max(1.0) }, kept))
    }

    /// How long it takes, from its start to that of the next.
    pub fn round_early(&self, pages: f64, early: Early) -> Duration {
        seconds(self.carry((pages - early.left).max(0.0) * self.page_bytes)).saturating_add(self.harvest)
    }

    /// Follows rounds that are harvested early, at least one, until what is pending is at most `budget` or shrinks
    /// no more.
    pub fn path_early(&self, pages: f64, budget: f64, early: Early) -> Path {
        let mut path = Path { rounds: None, time: seconds(0.0), pages };
        for round in 1..=MOST_ROUNDS {
            let Some((next, _)) = self.next_early(path.pages, early) else { break };
            path.time = path.time.saturating_add(self.round_early(path.pages, early));
            let shrinks = next.pages < path.pages * CONVERGED;
            path.pages = next.pages;
            if path.pages <= budget {
                path.rounds = Some(round);
                break;
            }
            if !shrinks {
                break;
            }
        }
        path
    }
}
