//! What lies before the scan when the guest is handed over without it.

use super::{Field, Layer};
use crate::guest::{Form, Forms, LawGroup, Made, Missing, MissingGroup, Mix, Piece, Ranks};

impl Field {
    /// What is pending, by pieces, in the order of addresses.
    pub(in super::super) fn missing(&self) -> Vec<Missing> {
        let missing = self.all_ahead().iter().map(|ahead| {
            let (piece, since) = (self.piece_at(ahead.from), self.sent_after(ahead.from));
            Missing {
                from: ahead.from,
                to: ahead.to,
                density: ahead.density.min(1.0),
                scattered: self.scattered(piece, since, |form| !matches!(form, Form::InTurn(_))),
                even: self.scattered(piece, since, |form| matches!(form, Form::Even(_))),
                zero: ahead.zero,
                piece,
                since,
                word: None,
            }
        });
        let mut missing: Vec<Missing> = missing.collect();
        missing.sort_by(|one, other| one.from.total_cmp(&other.from));
        missing
    }

    /// The harvest after which the memory at `page` was sent last; none if it never was.
    fn sent_after(&self, page: f64) -> Option<usize> {
        self.spans.iter().find(|span| span.from <= page && page < span.to)?.since
    }

    /// The part of a piece's pages that was written since that harvest by writers of these forms.
    fn scattered(&self, piece: usize, since: Option<usize>, forms: fn(Form) -> bool) -> f64 {
        let Some(since) = since else { return 1.0 };
        let layers = self.layers_of(&self.terrain.pieces[piece]);
        let scattered = layers.iter().filter(|layer| forms(layer.form));
        let clean =
            scattered.map(|layer| self.terrain.untouched(layer, self.made(layer, since, self.last)).share);
        1.0 - clean.product::<f64>()
    }

    fn layers_of(&self, piece: &Piece) -> &[Layer] {
        &self.terrain.layers[piece.layers.start as usize..piece.layers.end as usize]
    }

    /// For each harvest, how often each writer has written since.
    pub(in super::super) fn made_since(&self) -> Made {
        let count = |harvest: usize, writer: usize| self.counts[harvest * self.writers + writer];
        let since = |harvest| {
            (0..self.writers).map(|writer| count(self.last, writer) - count(harvest, writer)).collect()
        };
        (0..=self.last).map(since).collect()
    }

    fn piece_at(&self, page: f64) -> usize {
        self.terrain.pieces.partition_point(|piece| piece.pages.end <= page)
    }

    /// Of each piece, who writes there and how.
    pub(in super::super) fn forms(&self) -> Vec<Forms> {
        self.terrain.pieces.iter().map(|piece| self.forms_of(piece).collect()).collect()
    }

    fn forms_of(&self, piece: &Piece) -> impl Iterator<Item = (usize, Form)> {
        self.layers_of(piece).iter().map(|layer| (layer.writer as usize, layer.form))
    }

    /// Of each writer, of which groups of its law what is pending outside of its hottest words is; empty where it has none.
    pub(in super::super) fn mixes(&self, laws: &[Option<Ranks>]) -> Vec<Mix> {
        let groups = laws.iter().map(|law| law.as_ref().map_or(&[][..], Ranks::behind));
        groups.enumerate().map(|(writer, groups)| self.mix(groups, writer)).collect()
    }

    fn mix(&self, groups: &[LawGroup], writer: usize) -> Mix {
        let all: f64 = groups.iter().map(|group| group.pages).sum();
        let group = |group: &LawGroup| MissingGroup { part: 0.0, weight: group.weight, pages: group.pages };
        let mut mix: Mix = groups.iter().map(group).collect();
        for ahead in self.all_ahead() {
            let piece = &self.terrain.pieces[self.piece_at(ahead.from)];
            if !self.forms_of(piece).any(|form| form == (writer, Form::Mixed)) {
                continue;
            }
            let count = |harvest: usize| self.counts[harvest * self.writers + writer];
            let made = self.sent_after(ahead.from).map(|since| count(self.last) - count(since));
            for one in &mut mix {
                let written = made.map_or(1.0, |made| 1.0 - (-one.weight * made).exp());
                one.part += (ahead.to - ahead.from) * one.pages / all * written;
            }
        }
        let sum: f64 = mix.iter().map(|group| group.part).sum();
        for group in &mut mix {
            group.part /= sum.max(f64::MIN_POSITIVE);
        }
        mix
    }
}
