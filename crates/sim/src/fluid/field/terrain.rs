//! Who writes where, and the share of pages that so many writes leave untouched.
//!
//! Nothing of it changes while a guest migrates; [`Field`](super::Field) has counts and times.

use whimbrel_core::layout::PageRun;

use super::law::Law;
use super::{Ahead, Found};
use crate::config::{ConfigError, GuestConfig};
use crate::guest::{Division, Form, Guest, Layer, Piece};

/// Who writes where.
#[derive(Clone, Debug, Default)]
pub(super) struct Terrain {
    pub(super) memory: f64,
    pub(super) pieces: Vec<Piece>,
    /// The pieces that anybody writes to.
    pub(super) plots: Vec<Plot>,
    pub(super) layers: Vec<Layer>,
    pub(super) division: Division,
    /// Of each writer, the law by which its writes are spread; empty where it has none.
    pub(super) laws: Vec<Law>,
}

/// A piece that is written to.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    pub(super) from: f64,
    pub(super) to: f64,
    /// Which of the pieces.
    pub(super) piece: usize,
    /// What the only writer does who writes to it, if there is only one.
    pub(super) alone: Option<Layer>,
}

/// A share of pages: the mean, the variance of each page, and how fast the mean grew at last: by how much if
/// the time went on for as long again at that pace.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    pub(super) mean: f64,
    pub(super) variance: f64,
    pub(super) growth: f64,
}

/// The share of pages that some writes leave untouched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Untouched {
    pub(super) share: f64,
    /// The variance of a page.
    pub(super) spread: f64,
    /// How fast the share falls, for each time that so many writes are made.
    pub(super) loss: f64,
}

impl Terrain {
    pub(super) fn become_of(
        &mut self,
        guest: &Guest,
        config: &GuestConfig,
        zero_runs: Option<&[PageRun]>,
    ) -> Result<(), ConfigError> {
        guest.pieces(config, zero_runs, (&mut self.pieces, &mut self.layers), &mut self.division)?;
        self.plots.clear();
        for (index, piece) in self.pieces.iter().enumerate().filter(|(_, piece)| !piece.layers.is_empty()) {
            let alone = match &self.layers[piece.layers.start as usize..piece.layers.end as usize] {
                &[layer] => Some(layer),
                _ => None,
            };
            self.plots.push(Plot { from: piece.pages.start, to: piece.pages.end, piece: index, alone });
        }
        self.laws.resize_with(guest.writers(), Law::default);
        for (writer, law) in (0..).zip(&mut self.laws) {
            law.become_of(guest.groups(writer).iter().map(|group| (group.pages, group.weight)));
        }
        self.memory = self.pieces.last().map_or(0.0, |piece| piece.pages.end);
        Ok(())
    }
}

impl Terrain {
    /// The share of pages that the layer's writer, who is alone on them, wrote to with so many writes.
    #[inline(always)]
    pub(super) fn written_by(&self, layer: &Layer, writes: f64) -> Share {
        let Untouched { share, spread, loss } = self.untouched(layer, writes);
        Share { mean: 1.0 - share, variance: spread, growth: loss }
    }

    /// The share of a piece's pages that were written, if the writer of each layer made so many writes.
    pub(super) fn written(&self, piece: &Piece, made: impl Fn(&Layer) -> f64) -> Share {
        let layers = &self.layers[piece.layers.start as usize..piece.layers.end as usize];
        if let [layer] = layers {
            return self.written_by(layer, made(layer));
        }
        let (mut clean, mut variance, mut growth) = (1.0, 0.0, 0.0);
        for layer in layers {
            let Untouched { share, spread, loss } = self.untouched(layer, made(layer));
            // Layers are independent of each other.
            variance = spread * clean * clean + variance * share * share + variance * spread;
            growth = growth * share + loss * clean;
            clean *= share;
        }
        Share { mean: 1.0 - clean, variance, growth }
    }

    /// The share of pages that `writes` of a layer's writer leave untouched.
    #[inline(always)]
    pub(super) fn untouched(&self, layer: &Layer, writes: f64) -> Untouched {
        match layer.form {
            Form::Even(weight) => {
                let touches = writes * weight;
                let share = (-touches).exp();
                Untouched { share, spread: share * (1.0 - share), loss: touches * share }
            }
            Form::InTurn(pages) => {
                let gone = writes / pages;
                let loss = if gone < 1.0 { gone } else { 0.0 };
                Untouched { share: (1.0 - gone).max(0.0), spread: 0.0, loss }
            }
            Form::Mixed => {
                let Untouched { share, spread, loss } = self.laws[layer.writer as usize].untouched(writes);
                Untouched { share, spread, loss }
            }
        }
    }
}

impl Plot {
    /// Lays it before the scan, as `ahead`, if any of it is dirty: of which this is the share, and whose number has the
    /// variance `luck` besides. Gives whether it is. Number by number: what was just written elsewhere is slow to move
    /// as a whole.
    #[inline(always)]
    pub(super) fn lay(
        &self,
        share: Share,
        luck: f64,
        fresh: &mut Share,
        found: &mut Found,
        ahead: &mut Ahead,
    ) -> bool {
        let Share { mean, variance, growth } = share;
        let Self { from, to, .. } = *self;
        let pages = to - from;
        (fresh.mean, fresh.variance, fresh.growth) = (mean, variance, growth);
        found.dirty += pages * mean;
        found.growth += pages * growth;
        if mean <= 0.0 {
            return false;
        }
        found.pending += pages * mean;
        found.variance += pages * variance + luck;
        (ahead.from, ahead.to, ahead.density) = (from, to, mean);
        (ahead.zero, ahead.first) = (0.0, false);
        true
    }
}

/// The variance of how much of a stretch of a piece is among what a writer wrote in turn, who may be
/// anywhere. (The mean and the square of what two arcs of a circle have in common, of which one lies
/// anywhere; what an arc leaves out has the same variance.)
#[inline]
pub(super) fn luck_of_turn(layer: &Layer, stretch: f64, share: Share) -> f64 {
    let Form::InTurn(pages) = layer.form else { return 0.0 };
    let half = |part: f64| part.min(pages - part).max(0.0);
    let (one, other) = (half(stretch), half(share.mean * pages));
    let (short, long) = (one.min(other), one.max(other));
    let square = short * short * (long - short / 3.0) / pages;
    (square - (one * other / pages).powi(2)).max(0.0)
}
