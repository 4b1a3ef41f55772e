//! The writable working set as a mixture of writers, for every length of window at once.

use std::time::Duration;

use super::curve::KEPT;
use super::{DirtyCurve, Guessed};

/// Times after which a kind of writer has come round, from a millisecond on, each √10 times the one before.
const TIMES: usize = 13;
/// Writers that hit pages at random, and writers that go through them in order.
const KINDS: usize = 2 * TIMES;
/// How often the shares are corrected when the first window is seen, and with each later one.
const AT_FIRST: u32 = 1_000;
const LATER: u32 = 60;
/// As for [`DirtyCurve`]: what a harvest still counts after the next one, and which windows are near.
const FADING: f64 = 0.7;
const REACH: f64 = 1.5;
/// What a window e times as long or short as any that was seen adds to the doubt (ours; it is calibrated
/// with the intervals).
const DISTANCE: f64 = 0.1;

/// Distinct pages as the sum of writers of a few speeds:
///
/// ```text
/// W(t) = Σ aᵢ·(1 − e^(−t/τᵢ)) + Σ bᵢ·min(1, t/τᵢ),   aᵢ, bᵢ ≥ 0
/// ```
///
/// Pages hit at random at a rate 1/τ are dirty by the first term, those of a sweep that takes τ by the second. So
/// the sum rises and bends down like the curve of any real guest, and passes smoothly between windows that
/// are far apart, where [`DirtyCurve`] knows only a line. The shares are found by Richardson's and Lucy's
/// multiplicative correction, which keeps them positive and leaves what nothing tells as it was: evenly spread
/// over all τ at first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mixture {
    shares: [f64; KINDS],
    /// By how much each window that was seen is off the sum, in logarithms.
    missed: [f64; KEPT],
    fitted: bool,
}

impl Default for Mixture {
    fn default() -> Self {
        Self { shares: [1.0; KINDS], missed: [0.0; KEPT], fitted: false }
    }
}

fn kinds(window: f64) -> [f64; KINDS] {
    let mut kinds = [0.0; KINDS];
    let mut time = 1e-3;
    for pair in kinds.chunks_exact_mut(2) {
        let rounds = window / time;
        // Where the exponential is nothing or a line it is not asked: this is done at every imagined harvest.
        pair[0] = match rounds {
            ..1e-4 => rounds,
            30.0.. => 1.0,
            _ => -(-rounds).exp_m1(),
        };
        pair[1] = rounds.min(1.0);
        time *= 10f64.sqrt();
    }
    kinds
}

impl Mixture {
    /// Takes in what `curve` has seen.
    pub(crate) fn fit(&mut self, curve: &DirtyCurve) {
        let mut fading = 1.0;
        let seen: Vec<_> = curve
            .seen()
            .iter()
            .map(|&(window, pages)| {
                let pages = pages.exp();
                let weight = fading / pages;
                fading *= FADING;
                (kinds(window.exp()), pages, weight)
            })
            .collect();
        if seen.is_empty() {
            return;
        }
        if !self.fitted {
            self.shares = [seen.iter().map(|one| one.1).fold(0.0, f64::max) / KINDS as f64; KINDS];
        }
        for _ in 0..if self.fitted { LATER } else { AT_FIRST } {
            let mut wanted = [0.0; KINDS];
            let mut had = [0.0; KINDS];
            for (kinds, pages, weight) in &seen {
                let ratio = pages / self.sum(kinds).max(1e-9);
                for (kind, (wanted, had)) in kinds.iter().zip(wanted.iter_mut().zip(&mut had)) {
                    *wanted += weight * kind * ratio;
                    *had += weight * kind;
                }
            }
            for (share, (wanted, had)) in self.shares.iter_mut().zip(wanted.iter().zip(&had)) {
                *share *= wanted / had.max(1e-300);
            }
        }
        self.fitted = true;
        for (index, (kinds, pages, _)) in seen.iter().enumerate() {
            self.missed[index] = (pages / self.sum(kinds).max(0.5)).ln();
        }
    }

    /// The sum itself, for a window in seconds.
    #[cfg(test)]
    pub(super) fn shape(&self, window: f64) -> f64 {
        self.sum(&kinds(window))
    }

    fn sum(&self, kinds: &[f64; KINDS]) -> f64 {
        self.shares.iter().zip(kinds).map(|(share, kind)| share * kind).sum()
    }

    /// How many pages a window of this length is expected to dirty, where `curve` has seen what it was
    /// fitted to. Windows nearby that were off lately move it.
    pub(crate) fn guess(&self, curve: &DirtyCurve, window: Duration) -> Guessed {
        let at = window.as_secs_f64().max(1e-9);
        let (mut weight, mut off, mut squares, mut nearest) = (0.05, 0.0, 0.0, f64::INFINITY);
        let mut fading = 1.0;
        for (&(seen, _), &missed) in curve.seen().iter().zip(&self.missed) {
            let apart = (seen - at.ln()).abs();
            let near = fading * (-0.5 * (apart / REACH) * (apart / REACH)).exp();
            fading *= FADING;
            nearest = apart.min(nearest);
            weight += near;
            off += near * missed;
            squares += near * missed * missed;
        }
        let off = off / weight;
        let scatter = (squares / weight - off * off).max(0.0).sqrt();
        let doubt = DISTANCE * nearest.min(10.0);
        Guessed { pages: self.sum(&kinds(at)) * off.exp(), scatter, doubt }
    }
}
