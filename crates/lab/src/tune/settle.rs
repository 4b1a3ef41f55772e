//! What the search kept, without what it moved for nothing.
//!
//! A search moves parameters that make no difference as it likes, for nothing holds them. Whoever takes such a point
//! takes constants that nobody found. So each parameter of each point of the front is put back to where the search
//! started, one after the other, and stays there if no objective is the worse for it.

use super::nsga2::{Member, fronts};
use super::{Options, TuneError, Tuning, pool};

impl Tuning {
    /// The front, settled; none if it was stopped.
    ///
    /// # Errors
    ///
    /// The first run that failed.
    pub(super) fn settled(&self, options: &Options<'_>) -> Result<Option<Vec<Member>>, TuneError> {
        let plan = &self.plan;
        let start = plan.space.start();
        let mut front = best(self.search.members(), &start);
        let moved = |front: &[Member], at: usize| -> Vec<usize> {
            (0..front.len()).filter(|&place| (front[place].genes[at] - start[at]).abs() > 0.0).collect()
        };
        let candidates = (0..start.len()).map(|at| moved(&front, at).len()).sum();
        (options.begins)("putting back what does nothing", self.runs(candidates, plan.repeat));
        let runner = self.scorer(options, &self.design, (plan.seed, plan.repeat));
        let pool = pool(options)?;
        for (at, &home) in start.iter().enumerate() {
            let places = moved(&front, at);
            let back = |&place: &usize| {
                let mut genes = front[place].genes.clone();
                genes[at] = home;
                genes
            };
            let asked: Vec<Vec<f64>> = places.iter().map(back).collect();
            let Some(scores) = pool.install(|| runner.scores(&asked))? else { return Ok(None) };
            for ((place, genes), values) in places.into_iter().zip(asked).zip(scores) {
                let no_worse = values.iter().zip(&front[place].values).all(|(back, there)| back <= there);
                if no_worse {
                    front[place] = Member { genes, values };
                }
            }
        }
        Ok(Some(best(&front, &start)))
    }
}

/// The members that no other betters, each set of scores once, by the first objective.
pub(super) fn best(members: &[Member], start: &[f64]) -> Vec<Member> {
    let values: Vec<&[f64]> = members.iter().map(|member| &*member.values).collect();
    let away = |member: &Member| -> f64 {
        member.genes.iter().zip(start).map(|(gene, start)| (gene - start).abs()).sum()
    };
    let first = fronts(&values).into_iter().next().unwrap_or_default();
    let mut front: Vec<&Member> = first.into_iter().map(|place| &members[place]).collect();
    // Of points that come to the same, the one that changes least.
    let by_values = |a: &Member, b: &Member| {
        let pairs = a.values.iter().zip(&b.values);
        pairs.map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    };
    front.sort_by(|a, b| by_values(a, b).then(away(a).total_cmp(&away(b))));
    front.dedup_by(|later, kept| later.values == kept.values);
    front.into_iter().cloned().collect()
}
