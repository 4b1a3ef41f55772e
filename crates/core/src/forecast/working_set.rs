//! The writable working set for every length of window, tabulated: asked ten thousand times a forecast.

use std::time::Duration;

use super::{DirtyCurve, Mixture};

/// A number of pages that is guessed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Guessed {
    /// The middle of it.
    pub(crate) pages: f64,
    /// By how much one harvest is off the others, as the standard deviation of the logarithm.
    pub(crate) scatter: f64,
    /// How sure the middle is, likewise.
    pub(crate) doubt: f64,
}

/// Logarithms of the shortest window of the table (seconds) and of the ratio of one to the next: from 0.1 ms to
/// 20 hours. Between two windows the curve is taken for straight in logarithms, which is within 0.2 %.
const SHORTEST: f64 = -9.2;
const STEP: f64 = 0.25;
const WINDOWS: usize = 82;

/// What [`Mixture::guess`] says, for all windows.
#[derive(Clone, Debug)]
pub(crate) struct WorkingSet {
    /// Logarithms of pages, scatter and doubt.
    windows: [(f64, f64, f64); WINDOWS],
}

impl WorkingSet {
    pub(crate) fn new(mixture: &Mixture, curve: &DirtyCurve) -> Self {
        let mut windows = [(0.0, 0.0, 0.0); WINDOWS];
        for (number, window) in windows.iter_mut().enumerate() {
            let seconds = (SHORTEST + number as f64 * STEP).exp();
            let guessed = mixture.guess(curve, Duration::from_secs_f64(seconds));
            *window = (guessed.pages.max(1e-9).ln(), guessed.scatter, guessed.doubt);
        }
        Self { windows }
    }

    /// How many pages a window of this length dirties; nothing in less than half a page.
    pub(crate) fn at(&self, window: Duration) -> Guessed {
        let place = (window.as_secs_f64().max(1e-9).ln() - SHORTEST) / STEP;
        let below = (place.max(0.0) as usize).min(WINDOWS - 2);
        let [from, to] = [self.windows[below], self.windows[below + 1]];
        // Shorter windows go on as a line; longer ones than the longest are not asked for.
        let share = (place - below as f64).min(1.0);
        let between = |from: f64, to: f64| from + share.max(0.0) * (to - from);
        let pages = (from.0 + share * (to.0 - from.0)).exp();
        let pages = if pages < 0.5 { 0.0 } else { pages };
        Guessed { pages, scatter: between(from.1, to.1), doubt: between(from.2, to.2) }
    }
}

#[cfg(test)]
mod tests;
