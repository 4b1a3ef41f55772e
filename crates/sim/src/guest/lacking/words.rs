//! The hottest words of Zipf writers, among what a guest lacks.
//!
//! Pages of neighbouring ranks share a word, and the words lie anywhere. So a page that is asked for brings pages about as
//! hot with it, those behind it in its word: which of them are missing decides what is asked for next. Most writes go to a
//! few words; these get a place, and each of their pages is missing or not by its own rate. All others are alike enough to
//! be evenly mixed.

use std::ops::Range;

use rand_core::Rng as _;

use super::{Lacking, Made, Missing, NONE, WORD, unit};
use crate::guest::expected::Form;
use crate::guest::rng::below;
use crate::guest::{Generator, Guest, LawGroup};

/// Words that get a place, at most.
const MOST: u64 = 256;

/// A writer's law: rank by rank in its hottest words, in groups behind them.
#[derive(Clone, Debug)]
pub(crate) struct Ranks {
    set: Range<u64>,
    /// The share of the writes that each page gets, the hottest first.
    weights: Vec<f64>,
    behind: Vec<LawGroup>,
    /// For each harvest that writes count from, the chance of each page to be written since, and of one behind them.
    written: Vec<(Vec<f64>, f64)>,
}

impl Ranks {
    /// Those of a writer that has a law.
    pub(crate) fn of(guest: &Guest, writer: usize, (missing, made): (&[Missing], &Made)) -> Option<Self> {
        let (set, weights, behind) = guest.ranks(writer, MOST * WORD as u64)?;
        let mut written = vec![(Vec::new(), 0.0); made.len()];
        let all: f64 = behind.iter().map(|group| group.pages).sum();
        for since in missing.iter().filter_map(|part| part.since) {
            if !written[since].0.is_empty() {
                continue;
            }
            let count = made[since][writer];
            let chance = |weight: f64| -(-weight * count).exp_m1();
            let of_all: f64 = behind.iter().map(|group| group.pages * chance(group.weight)).sum();
            written[since] =
                (weights.iter().map(|&weight| chance(weight)).collect(), of_all / all.max(f64::MIN_POSITIVE));
        }
        Some(Self { set, weights, behind, written })
    }

    /// The groups behind the hottest words.
    pub(crate) fn behind(&self) -> &[LawGroup] {
        &self.behind
    }

    /// The places of the hottest words, the hottest first: the number of a word each.
    fn places(&self, rng: &mut Generator) -> Vec<u64> {
        let words = self.set.start / 64..self.set.end.div_ceil(64);
        let count = (self.weights.len() as u64).div_ceil(64);
        let mut places: Vec<u64> = Vec::with_capacity(count as usize);
        if count * 4 > words.end - words.start {
            places.extend(words);
            for index in 0..count {
                let other = index + below(rng, places.len() as u64 - index);
                places.swap(index as usize, other as usize);
            }
            places.truncate(count as usize);
            return places;
        }
        while (places.len() as u64) < count {
            let place = words.start + below(rng, words.end - words.start);
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }
}

/// Of each owner of a word, a share of its writes. Two are as many as have their hottest words in common, mostly.
pub(super) type Weights = [f64; 2];

/// Of whose hottest words one is.
#[derive(Clone, Copy, Debug)]
struct Owner {
    writer: usize,
    /// The first of its ranks, and how they lie in it: the n-th page has that many times the one and the other more.
    rank: usize,
    order: [u64; 2],
}

impl Owner {
    fn rank_of(&self, lane: u64) -> usize {
        let [times, more] = self.order;
        self.rank + (lane.wrapping_mul(times).wrapping_add(more) % 64) as usize
    }
}

/// A word that has a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct HotWord {
    first: u64,
    owners: [Option<Owner>; 2],
    missing: u64,
}

impl HotWord {
    pub(super) fn lacks(&self, page: f64) -> bool {
        let lane = page as u64 - self.first;
        lane < 64 && self.missing >> lane & 1 != 0
    }

    /// Which of its owners a writer is.
    pub(super) fn owner(&self, writer: usize) -> Option<usize> {
        self.owners.iter().position(|owner| owner.is_some_and(|owner| owner.writer == writer))
    }

    fn rank_of(&self, writer: usize, lane: u64) -> Option<usize> {
        Some(self.owners[self.owner(writer)?]?.rank_of(lane))
    }

    /// The pages from `from` to `to` that are missing, by their place in the word.
    fn lanes(&self, from: f64, to: f64) -> impl Iterator<Item = u64> + use<> {
        let first = self.first;
        let lane = |page: f64| (page.ceil() as u64).saturating_sub(first).min(64);
        let missing = self.missing;
        (lane(from)..lane(to)).filter(move |lane| missing >> lane & 1 != 0)
    }
}

impl Lacking<'_> {
    /// What is missing of `part` from `from` to `to`.
    pub(super) fn piece(&self, part: Missing, from: f64, to: f64) -> Option<Missing> {
        if to - from <= NONE {
            return None;
        }
        let Some((index, _)) = part.word else { return Some(Missing { from, to, ..part }) };
        let word = &self.words[index];
        let (mut count, mut weights) = (0.0, Weights::default());
        for lane in word.lanes(from, to) {
            count += 1.0;
            for (weight, owner) in weights.iter_mut().zip(&word.owners) {
                *weight += owner.as_ref().map_or(0.0, |owner| self.weight_of(owner, lane));
            }
        }
        let word = Some((index, weights));
        (count > 0.0).then(|| Missing { from, to, density: count / (to - from), word, ..part })
    }

    fn weight_of(&self, owner: &Owner, lane: u64) -> f64 {
        let law = self.laws[owner.writer].as_ref();
        law.and_then(|law| law.weights.get(owner.rank_of(lane)).copied()).unwrap_or(0.0)
    }

    /// The page of a part of a word that a write of `writer` goes to, if a share of its writes there goes to pages before it.
    pub(super) fn page_of(&self, index: usize, part: &Missing, writer: usize, share: f64) -> Option<u64> {
        let word = &self.words[index];
        let owner = word.owner(writer).and_then(|owner| word.owners[owner]);
        let weight = |lane: u64| owner.map_or(1.0, |owner| self.weight_of(&owner, lane));
        let lanes = word.lanes(part.from, part.to);
        let mut left = share * word.lanes(part.from, part.to).map(weight).sum::<f64>();
        let mut last = None;
        for lane in lanes {
            last = Some(word.first + lane);
            left -= weight(lane);
            if left < 0.0 {
                break;
            }
        }
        last
    }

    /// A part page by page, if it is of a word.
    pub(super) fn stretches(&self, part: &Missing) -> impl Iterator<Item = Missing> + use<> {
        let whole = part.word.is_none().then_some(*part);
        let lanes =
            part.word.map(|(word, _)| (self.words[word].first, self.words[word].lanes(part.from, part.to)));
        let part = *part;
        let pages = lanes.into_iter().flat_map(move |(first, lanes)| {
            lanes.map(move |lane| {
                let from = (first + lane) as f64;
                Missing { from, to: from + 1.0, density: 1.0, ..part }
            })
        });
        whole.into_iter().chain(pages)
    }

    /// Gives the hottest words places, and takes them out of the parts.
    pub(super) fn place_words(&mut self, rng: &mut Generator) {
        let mut words: Vec<HotWord> = Vec::new();
        for (writer, law) in self.laws.iter().enumerate() {
            let places = law.as_ref().map_or_else(Vec::new, |law| law.places(rng));
            words.extend(places.into_iter().enumerate().map(|(index, word)| {
                let bits = rng.next_u64();
                let owner = Owner { writer, rank: index * 64, order: [bits | 1, bits >> 32] };
                HotWord { first: word * 64, owners: [Some(owner), None], missing: 0 }
            }));
        }
        words.sort_by_key(|word| word.first);
        words.dedup_by(|other, word| {
            let same = other.first == word.first;
            if same {
                word.owners[1] = word.owners[1].or(other.owners[0]);
            }
            same
        });
        if words.is_empty() {
            return;
        }
        let mut parts = Vec::with_capacity(self.parts.len() + 2 * words.len());
        let mut next = 0;
        for part in std::mem::take(&mut self.parts) {
            let mut at = part.from;
            while let Some(word) = words.get(next).filter(|word| (word.first as f64) < part.to) {
                let end = word.first as f64 + WORD;
                let [from, to] = [(word.first as f64).max(at), end.min(part.to)];
                if from < to {
                    parts.extend(self.piece(self.behind_words(part), at, from));
                    parts.extend(self.place_word(*word, (part, from, to), rng));
                    at = to;
                }
                if end > part.to {
                    break;
                }
                next += 1;
            }
            parts.extend(self.piece(self.behind_words(part), at, part.to));
        }
        parts.retain(|part| part.density > NONE);
        self.parts = parts;
    }

    /// A part without the hottest words of those who write to it.
    fn behind_words(&self, part: Missing) -> Missing {
        let mut forms = self.forms.get(part.piece).into_iter().flatten();
        let mixed = forms.any(|&(_, form)| form == Form::Mixed);
        if mixed { Missing { density: self.chance(&part, None), ..part } } else { part }
    }

    /// The chance of a page of `part` to be missing: of that page of a word, or of one behind all such words.
    fn chance(&self, part: &Missing, of: Option<(&HotWord, u64)>) -> f64 {
        let Some(since) = part.since.filter(|_| part.density < 1.0) else { return 1.0 };
        let mut clean = 1.0 - part.even;
        for &(writer, form) in self.forms.get(part.piece).into_iter().flatten() {
            let Some(law) = self.laws[writer].as_ref().filter(|_| form == Form::Mixed) else { continue };
            let (hottest, behind) = &law.written[since];
            let rank = of.and_then(|(word, lane)| word.rank_of(writer, lane));
            clean *= 1.0 - rank.map_or(*behind, |rank| hottest.get(rank).copied().unwrap_or(0.0));
        }
        1.0 - clean
    }

    /// The pages of a word that a part has between these places.
    fn place_word(
        &mut self,
        mut word: HotWord,
        (part, from, to): (Missing, f64, f64),
        rng: &mut Generator,
    ) -> Option<Missing> {
        for lane in 0..64 {
            let chance = self.chance(&part, Some((&word, lane)));
            if chance >= 1.0 || unit(rng) <= chance {
                word.missing |= 1 << lane;
            }
        }
        self.words.push(word);
        self.piece(Missing { word: Some((self.words.len() - 1, Weights::default())), ..part }, from, to)
    }
}
