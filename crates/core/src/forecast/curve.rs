//! The writable working set by the length of the window, from the harvests of the migration itself.

use std::time::Duration;

use crate::units::Pages;

/// Harvests that are remembered.
pub(super) const KEPT: usize = 16;
/// A harvest's weight falls by this with each later one, so that a guest that changes is followed: after
/// four it counts a quarter (ours; found on the design scenarios).
const FADING: f64 = 0.7;
/// Windows that differ by this factor still tell half as much (in logarithms; ours).
const REACH: f64 = 1.5;
/// The slope that is assumed where no two windows tell one, and how many harvests that assumption is
/// worth. Skewed writers give 0.5 to 0.9, a set that is rewritten in every window 0.
const SLOPE: (f64, f64) = (0.7, 0.3);

/// Distinct pages dirtied as a function of the window's length, as far as harvests have shown it.
///
/// In logarithms of both, the curve of any mixture of writers is smooth, rises with a slope from 0 (a
/// set that is rewritten all the time) to 1 (pages that were never seen before), and never steeper. Near
/// the length asked for it is fitted as a straight line, weighted by nearness and recency; the slope is
/// held between 0 and 1, so that no extrapolation exceeds what concavity allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DirtyCurve {
    /// Logarithms of window (seconds) and pages, newest first.
    points: [(f64, f64); KEPT],
    count: usize,
}

/// A number of pages that is expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// The middle of it.
    pub pages: f64,
    /// Standard deviation of its logarithm: 0.1 is about 10 %.
    pub spread: f64,
}

impl Expected {
    /// By how many pages it is expected to stay below `pages`, where staying above counts as nothing: what
    /// there is to win if one may try again. (The logarithm is taken for normal; Φ for the logistic curve
    /// that is nearest to it, which is within 0.01.)
    pub fn below(self, pages: f64) -> f64 {
        if self.pages <= 0.0 || pages <= 0.0 {
            return pages.max(0.0);
        }
        let spread = self.spread.max(1e-3);
        let normal = |x: f64| 1.0 / (1.0 + (-1.702 * x).exp());
        let far = (pages / self.pages).ln() / spread;
        let mean = self.pages * (0.5 * spread * spread).exp();
        (pages * normal(far) - mean * normal(far - spread)).max(0.0)
    }
}

impl Default for DirtyCurve {
    fn default() -> Self {
        Self { points: [(0.0, 0.0); KEPT], count: 0 }
    }
}

impl DirtyCurve {
    /// A harvest found `dirtied` distinct pages written in a window of this length. Windows of no length
    /// tell nothing.
    pub fn observe(&mut self, window: Duration, dirtied: Pages) {
        if window.is_zero() {
            return;
        }
        self.points.rotate_right(1);
        self.points[0] = (window.as_secs_f64().ln(), dirtied.as_f64().max(0.5).ln());
        self.count = (self.count + 1).min(KEPT);
    }

    /// Logarithms of window (seconds) and pages, newest first.
    pub(crate) fn seen(&self) -> &[(f64, f64)] {
        self.points.get(..self.count).unwrap_or(&self.points)
    }

    /// Whether anything was seen.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many distinct pages a window of this length is expected to dirty; none before the first harvest.
    pub fn expect(&self, window: Duration) -> Option<Expected> {
        if self.is_empty() {
            return None;
        }
        let at = window.as_secs_f64().max(1e-9).ln();
        let mut weights = [0.0; KEPT];
        let (mut sum, mut x, mut y) = (0.0, 0.0, 0.0);
        let mut fading = 1.0;
        for (weight, point) in weights.iter_mut().zip(&self.points).take(self.count) {
            let apart = (point.0 - at) / REACH;
            // Far windows still count for something, or a first forecast would rest on nothing.
            *weight = fading * (1e-3 + (-0.5 * apart * apart).exp());
            fading *= FADING;
            sum += *weight;
            x += *weight * point.0;
            y += *weight * point.1;
        }
        let (x, y) = (x / sum, y / sum);
        let seen = || weights.iter().zip(&self.points).take(self.count);
        let (mut xx, mut xy) = (0.0, 0.0);
        for (weight, point) in seen() {
            xx += weight * (point.0 - x) * (point.0 - x);
            xy += weight * (point.0 - x) * (point.1 - y);
        }
        let (assumed, worth) = SLOPE;
        let worth = worth * sum * 0.1;
        let slope = ((xy + worth * assumed) / (xx + worth)).clamp(0.0, 1.0);
        let squares: f64 = seen()
            .map(|(weight, point)| {
                let off = point.1 - y - slope * (point.0 - x);
                weight * off * off
            })
            .sum();
        // How far the window asked for is from those seen is doubt about the slope.
        let far = (at - x).abs() * 0.15;
        let spread = (squares / sum + far * far).sqrt();
        let pages = (y + slope * (at - x)).min(60.0).exp();
        Some(Expected { pages: if pages < 1.0 { 0.0 } else { pages }, spread })
    }
}
