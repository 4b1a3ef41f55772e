//! What a search found, looked at again: with seeds that it never saw, on workloads that it never saw, and
//! parameter by parameter.
//!
//! A search keeps what came out best, and some of that is luck: on the seeds and workloads that it had. So
//! every point of the front, and the parameters it started from, are run again, and compared run by run. An
//! interval is a bootstrap over workloads, because the question is what a point is worth on workloads like
//! these; with a single workload it is one over seeds.

use std::collections::BTreeMap;

use serde::Serialize;
use whimbrel_sim::config::Fidelity;

use super::score::{Case, Scorer, Values, mean_of_means, natural};
use super::{Options, TuneError, Tuning, pool};
use crate::outcome::Objective;
use crate::stats::{Bootstrap, mean};

/// The version of the record.
const SCHEMA: u32 = 1;
/// The seeds of the assessment begin so far behind those of the search.
const FRESH: u64 = 1 << 32;
/// Places of a parameter's range that its sensitivity looks at.
const PLACES: usize = 9;

/// What a search found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Tuned {
    /// Version of the record.
    pub schema: u32,
    /// The preset.
    pub policy: &'static str,
    /// What was made small.
    pub objectives: Vec<Objective>,
    /// Units of the objectives.
    pub units: Vec<&'static str>,
    /// What was searched, as `NAME=FROM..TO`.
    pub ranges: Vec<String>,
    /// The workloads of the search.
    pub workloads: Vec<String>,
    /// The workloads held out.
    pub held_out: Vec<String>,
    /// Fidelity of the search, if it was not what the workloads say; the result is judged as they say.
    pub fidelity: Option<Fidelity>,
    /// Of the search.
    pub seed: u64,
    /// Runs of each workload for a candidate.
    pub repeat: u32,
    /// Runs of each workload when the result was judged.
    pub check: u32,
    /// Candidates of a generation.
    pub population: u32,
    /// Generations that were done.
    pub generations: u32,
    /// The parameters it started from.
    pub start: Point,
    /// What nothing else that was kept betters in every objective, by the first objective.
    pub front: Vec<Point>,
}

/// A set of parameters.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Point {
    /// Those that are not the preset's defaults by being left out.
    pub parameters: BTreeMap<String, String>,
    /// On the workloads of the search, with seeds of their own.
    pub design: Assessed,
    /// On the workloads held out; none if there are none.
    pub held_out: Option<Assessed>,
    #[serde(skip)]
    pub(super) genes: Vec<f64>,
}

/// What a set of parameters came to on a set of workloads.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Assessed {
    /// Each objective: its geometric mean, of failures the share. What failed is charged as if the guest was
    /// then paused and copied.
    pub scores: Vec<f64>,
    /// Each objective against the parameters that the search started from.
    pub changes: Vec<Change>,
}

/// A difference from the parameters that the search started from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// -0.1 is a tenth less; of failures, a tenth of all runs.
    pub change: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// How a parameter moves the objectives when it alone is moved away from a point.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ParameterFound {
    /// Its name.
    pub name: &'static str,
    /// The value that the search started from.
    pub start: String,
    /// The range that was searched.
    pub range: String,
    /// Its value at the point.
    pub value: String,
    /// By objective.
    pub sensitivity: Vec<Sensitivity>,
}

/// What an objective does when a parameter alone is moved, as changes from the point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Sensitivity {
    /// With the parameter at the value that the search started from.
    pub at_start: f64,
    /// The best that any place of its range gives.
    pub best: f64,
    /// The worst.
    pub worst: f64,
}

impl Tuning {
    /// The front and the start, judged on fresh seeds and on what was held out; none if it was stopped.
    ///
    /// # Errors
    ///
    /// The first run that failed.
    pub fn found(&self, options: &Options<'_>) -> Result<Option<Tuned>, TuneError> {
        let plan = &self.plan;
        let Some(front) = self.settled(options)? else { return Ok(None) };
        let mut genes = vec![plan.space.start()];
        genes.extend(front.into_iter().map(|member| member.genes));
        let cases = (self.judged.len() + self.held_out.len()) as u64;
        (options.begins)("judging", genes.len() as u64 * cases * u64::from(plan.check));
        let pool = pool(options)?;
        let judged = |cases: &[Case]| {
            let seed = plan.seed.wrapping_add(FRESH);
            let runner = self.scorer(options, cases, (seed, plan.check));
            pool.install(|| judged(&runner, &genes))
        };
        let Some(design) = judged(&self.judged)? else { return Ok(None) };
        let held_out = if self.held_out.is_empty() {
            vec![None; genes.len()]
        } else {
            let Some(held_out) = judged(&self.held_out)? else { return Ok(None) };
            held_out.into_iter().map(Some).collect()
        };
        let points = genes.into_iter().zip(design).zip(held_out).map(|((genes, design), held_out)| Point {
            parameters: plan.space.parameters(&genes),
            design,
            held_out,
            genes,
        });
        Ok(Some(self.record(points.collect())))
    }

    fn record(&self, mut points: Vec<Point>) -> Tuned {
        let plan = &self.plan;
        let dimensions = plan.space.dimensions().iter();
        let names = |cases: &[Case]| cases.iter().map(|case| case.name.clone()).collect();
        let start = points.remove(0);
        Tuned {
            schema: SCHEMA,
            policy: plan.space.preset().name,
            objectives: plan.objectives.clone(),
            units: plan.objectives.iter().map(|objective| objective.unit()).collect(),
            ranges: dimensions.map(|known| format!("{}={}", known.name(), known.describe())).collect(),
            workloads: names(&self.design),
            held_out: names(&self.held_out),
            fidelity: plan.fidelity,
            seed: plan.seed,
            repeat: plan.repeat,
            check: plan.check,
            population: plan.population,
            generations: self.generation(),
            start,
            front: points,
        }
    }

    /// What each parameter does when it alone leaves `point`, on the workloads of the search; none if it was
    /// stopped.
    ///
    /// # Errors
    ///
    /// The first run that failed.
    pub fn sensitivity(
        &self,
        point: &Point,
        options: &Options<'_>,
    ) -> Result<Option<Vec<ParameterFound>>, TuneError> {
        let plan = &self.plan;
        let space = &plan.space;
        let start = space.start();
        let mut points = vec![point.genes.clone()];
        for dimension in 0..start.len() {
            let places = (0..PLACES).map(|place| place as f64 / (PLACES - 1) as f64);
            for place in std::iter::once(start[dimension]).chain(places) {
                let mut moved = point.genes.clone();
                moved[dimension] = place;
                points.push(moved);
            }
        }
        (options.begins)("moving each parameter", self.runs(points.len(), plan.repeat));
        let runner = self.scorer(options, &self.design, (plan.seed, plan.repeat));
        let Some(scores) = pool(options)?.install(|| runner.scores(&points))? else { return Ok(None) };
        let (at_point, moved) = scores.split_at(1);
        let found = space.dimensions().iter().zip(moved.chunks(PLACES + 1)).zip(&point.genes);
        let found = found.map(|((dimension, scores), gene)| ParameterFound {
            name: dimension.name(),
            start: dimension.start().to_owned(),
            range: dimension.describe(),
            value: dimension.text(*gene),
            sensitivity: self.moved(&at_point[0], scores),
        });
        Ok(Some(found.collect()))
    }

    fn moved(&self, from: &[f64], scores: &[Vec<f64>]) -> Vec<Sensitivity> {
        let of = |(place, objective): (usize, &Objective)| {
            let changes: Vec<f64> =
                scores.iter().map(|scores| change(*objective, scores[place] - from[place])).collect();
            Sensitivity {
                at_start: changes[0],
                best: changes.iter().copied().fold(0.0, f64::min),
                worst: changes.iter().copied().fold(0.0, f64::max),
            }
        };
        self.plan.objectives.iter().enumerate().map(of).collect()
    }
}

/// A difference of scores as people read it: of logarithms a ratio less one.
fn change(objective: Objective, difference: f64) -> f64 {
    if objective == Objective::Failures { difference } else { difference.exp_m1() }
}

/// Each point on the runner's workloads, against the first of them.
fn judged(runner: &Scorer<'_>, genes: &[Vec<f64>]) -> Result<Option<Vec<Assessed>>, TuneError> {
    let mut all: Vec<Values> = Vec::with_capacity(genes.len());
    for point in genes {
        match runner.values(&runner.space.parameters(point))? {
            Some(values) => all.push(values),
            None => return Ok(None),
        }
    }
    let assessed = |values: &Values| {
        let objectives = runner.objectives.iter().zip(values).zip(&all[0]);
        let (scores, changes) = objectives
            .map(|((&objective, of_point), of_start)| {
                let score = natural(objective, mean_of_means(of_point));
                (score, compared(objective, of_point, of_start))
            })
            .unzip();
        Assessed { scores, changes }
    };
    Ok(Some(all.iter().map(assessed).collect()))
}

/// The difference of two points in one objective, run by run, with its interval.
pub(super) fn compared(objective: Objective, of_point: &[Vec<f64>], of_start: &[Vec<f64>]) -> Change {
    let by_run: Vec<Vec<f64>> = of_point
        .iter()
        .zip(of_start)
        .map(|(point, start)| point.iter().zip(start).map(|(point, start)| point - start).collect())
        .collect();
    let by_workload: Vec<f64> = by_run.iter().map(|runs| mean_of_means(std::slice::from_ref(runs))).collect();
    let drawn = if let [only] = &by_run[..] { only } else { &by_workload };
    let difference = mean_of_means(&by_run);
    let interval = Bootstrap::default().interval(&[drawn], mean);
    let change = |difference| change(objective, difference);
    Change {
        change: change(difference),
        low: change(interval.map_or(difference, |interval| interval.low)),
        high: change(interval.map_or(difference, |interval| interval.high)),
    }
}
