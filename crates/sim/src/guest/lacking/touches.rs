//! Which missing page a writer of a guest that lacks pages touches next, and after how many writes.
//!
//! Drawn from stretches of addresses of which a part is missing: a writer whose pages lie evenly touches any of them
//! by its weight; of a Zipf law, by how many of each group are still missing; one in turn, the next one ahead.

use super::{Lacking, Missing, Touch, pages, unit};
use crate::guest::expected::Form;

impl Lacking<'_> {
    /// Looks for the next touches of a vCPU's threads.
    pub(super) fn look(&mut self, index: usize) {
        for thread in 0..self.vcpus[index].threads.len() {
            self.look_one(index, thread);
        }
    }

    pub(super) fn look_one(&mut self, index: usize, thread: usize) {
        let writer = self.vcpus[index].threads[thread].0;
        let drawn = match self.walks(writer) {
            Some(_) => self.next_in_turn(index, thread),
            None => self.draw(writer),
        };
        let (_, thread, group) = &mut self.vcpus[index].threads[thread];
        thread.aim(drawn.map(|(after, page, _)| (after, page)));
        *group = drawn.and_then(|(.., group)| group);
    }

    /// The pages of the round of a writer in turn.
    fn walks(&self, writer: usize) -> Option<f64> {
        let mut forms = self.forms.iter().flatten();
        forms.find_map(|&(one, form)| match form {
            Form::InTurn(pages) if one == writer => Some(pages),
            _ => None,
        })
    }

    /// The share of a writer's writes that the missing pages of a part get; `mixed` is what one of its law gets outside
    /// of the hottest words.
    fn weight(&self, writer: usize, part: &Missing, mixed: f64) -> f64 {
        if let Some((word, weights)) = part.word
            && let Some(owner) = self.words[word].owner(writer)
        {
            return weights[owner];
        }
        pages(part)
            * match self.form(writer, part.piece) {
                Some(Form::Even(weight)) => weight,
                Some(Form::Mixed) => mixed,
                _ => 0.0,
            }
    }

    /// That of a missing page of a Zipf law.
    fn mean_weight(&self, writer: usize) -> f64 {
        self.mixes[writer].iter().map(|group| group.part * group.weight).sum()
    }

    /// After how many writes a writer meets a missing page, which, and of which group.
    fn draw(&mut self, writer: usize) -> Option<Touch> {
        let mixed = self.mean_weight(writer);
        let all: f64 = self.lying_about().map(|part| self.weight(writer, part, mixed)).sum();
        if all <= 0.0 {
            return None;
        }
        let after = -unit(&mut self.rng).ln() / all;
        let mut left = unit(&mut self.rng) * all;
        let mut found = None;
        for part in self.lying_about() {
            let here = self.weight(writer, part, mixed);
            if here <= 0.0 {
                continue;
            }
            found = Some((*part, (left / here).min(1.0 - 1e-9)));
            if left <= here {
                break;
            }
            left -= here;
        }
        let (part, share) = found?;
        if let Some((word, _)) = part.word {
            return Some((after, self.page_of(word, &part, writer, share)?, None));
        }
        let page = part.from + share * (part.to - part.from);
        let group = match self.form(writer, part.piece) {
            Some(Form::Mixed) => self.group(writer).map(|group| (writer, group)),
            _ => None,
        };
        Some((after, page as u64, group))
    }

    fn group(&mut self, writer: usize) -> Option<usize> {
        let sum: f64 = self.mixes[writer].iter().map(|group| group.part * group.weight).sum();
        let mut left = unit(&mut self.rng) * sum;
        self.mixes[writer].iter().position(|group| {
            left -= group.part * group.weight;
            left <= 0.0
        })
    }

    /// The same for a writer in turn, from where it stands.
    fn next_in_turn(&mut self, index: usize, thread: usize) -> Option<Touch> {
        let (writer, one, _) = &self.vcpus[index].threads[thread];
        let (place, set) = one.place()?;
        let (start, length) = (set.start as f64, (set.end - set.start) as f64);
        let writer = *writer;
        let mut ahead: Vec<(f64, f64, f64)> = Vec::new();
        let here = self.lying_about().filter(|part| self.form(writer, part.piece).is_some());
        for part in here.flat_map(|part| self.stretches(part)) {
            let [from, to] = [part.from - start, part.to - start];
            if to > place {
                ahead.push(((from - place).max(0.0), to - place, part.density));
            }
            if from < place {
                ahead.push((from + length - place, to.min(place) + length - place, part.density));
            }
        }
        ahead.sort_by(|one, other| one.0.total_cmp(&other.0));
        for (from, to, density) in ahead {
            // The first missing page of it.
            let gap =
                if density >= 1.0 { 0.0 } else { (unit(&mut self.rng).ln() / (1.0 - density).ln()).floor() };
            if from.ceil() + gap < to {
                let steps = from.ceil() + gap;
                return Some((steps + 1.0, (start + (place + steps) % length) as u64, None));
            }
        }
        None
    }
}
