//! Explanations: why a run went as it did, and what other policies would have made of it.
//!
//! A run is repeated with its journal, its policy is asked again at each recorded moment with less or more
//! pending ([`decision`]), a few moments are picked as the ones to learn from ([`moment`]), and at each the same
//! run is continued under other policies ([`branch`]). Called by `whimbrel explain`; whoever has a
//! [`whimbrel_sim::Setup`] can call [`explain`].
//!
//! What it says of a decision is what the policy itself answers, never a rule written down here a second time.

pub mod branch;
pub mod costs;
pub mod decision;
mod drawing;
pub mod moment;
mod probe;
pub mod run;
#[cfg(test)]
mod tests;
mod words;

use std::time::Duration;

use serde::Serialize;
use whimbrel_core::layout::PageSize;
use whimbrel_core::report::RoundReport;
use whimbrel_core::units::{Timestamp, duration};
use whimbrel_sim::config::Fidelity;
use whimbrel_sim::{Setup, SimError, Simulation};

pub use self::branch::{Verdict, contenders, preset};
use self::decision::{Approach, DecisionRecord, Watched};
use self::moment::{Lesson, Moment, Shrinking};
use crate::compare::Contender;
use crate::result::{MigrationRecord, milliseconds};

/// The version of an explanation's fields.
pub const SCHEMA: u32 = 1;

/// Why a run could not be explained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// It can't be simulated.
    #[error(transparent)]
    Simulation(#[from] SimError),
    /// Nothing was known at that moment, because the run was over.
    #[error(
        "nothing happens at {}: the run ended after {}",
        duration::human(*at),
        duration::human(*total)
    )]
    AfterTheEnd {
        /// The moment asked for.
        at: Duration,
        /// When the run ended.
        total: Duration,
    },
}

/// Why a run went as it did.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The policy that decided.
    pub policy: String,
    /// What the run came to, without its rounds.
    pub run: MigrationRecord,
    /// How many times the policy was asked. Where its answer held until later, it was not asked in between.
    pub asked: usize,
    /// The decisions: those made at the start of a round, and all that did more than to go on.
    pub decisions: Vec<DecisionRecord>,
    /// What was compared with what, and how near it came.
    pub rules: Vec<Approach>,
    /// Since when the run gained nothing, if that is so.
    pub stopped_shrinking: Option<Shrinking>,
    /// How near it came to the handover where it went on, in a sentence; none if it never could have.
    pub nearest_miss: Option<String>,
    /// Moments to learn from, in the order of time.
    pub moments: Vec<Moment>,
    /// What was pending over time: `(milliseconds, bytes)` at the start of each round.
    #[serde(skip)]
    pub curve: Vec<(f64, f64)>,
}

/// Explains the run of `setup`: at the moments `at`, or, where none is given, at those that teach most. At
/// each the run is continued under every one of `others`; changes of their parameters are not made.
///
/// The run is made page by page, whatever fidelity the setup names.
///
/// # Errors
///
/// [`ExplainError`] if the run can't be simulated, or had ended at one of the moments.
pub fn explain(setup: &Setup, at: &[Duration], others: &[Contender]) -> Result<Explanation, ExplainError> {
    let setup = Setup { journal: true, fidelity: Fidelity::Exact, ..setup.clone() };
    let run = Simulation::new(&setup)?.finish()?;
    let total = run.report.total;
    if let Some(&at) = at.iter().find(|&&at| at >= total) {
        return Err(ExplainError::AfterTheEnd { at, total });
    }
    let Watched { asked, decisions, rules } = decision::watch(&run.journal, &*setup.policy);
    let stopped_shrinking = moment::stopped_shrinking(&decisions, run.report.sent);
    let nearest_miss = moment::nearest_miss(&decisions).map(|(_, decision)| words::missed(decision));
    let lessons = if at.is_empty() {
        moment::lessons(&decisions, stopped_shrinking.as_ref())
    } else {
        at.iter().map(|&at| (Timestamp::ZERO.saturating_add(at), vec![Lesson::Asked])).collect()
    };
    let record = MigrationRecord::of(&run, setup.seed).totals_only();
    let mut simulation = Simulation::new(&setup)?;
    let mut moments = Vec::new();
    for (at, lessons) in moment::in_order(lessons) {
        // What is decided at a lesson's moment is what others are to decide in its place.
        let fork = if lessons == [Lesson::Asked] {
            at
        } else {
            Timestamp::from_nanos(at.as_nanos().saturating_sub(1))
        };
        simulation.run_until(fork)?;
        let branches = branch::branches(&simulation, others, &record)?;
        moments.push(Moment::new(lessons, at, &simulation, &decisions, branches));
    }
    Ok(Explanation {
        schema: SCHEMA,
        policy: setup.policy.name().to_owned(),
        asked,
        curve: curve(&run.report.rounds, setup.guest.page_size),
        run: record,
        decisions,
        rules,
        stopped_shrinking,
        nearest_miss,
        moments,
    })
}

/// What was pending when each round began.
fn curve(rounds: &[RoundReport], page: PageSize) -> Vec<(f64, f64)> {
    let point =
        |round: &RoundReport| (milliseconds(round.started.as_duration()), round.pending.bytes(page).as_f64());
    rounds.iter().map(point).collect()
}

/// The moment at which nobody is asked any more is of no use for a counterfactual.
fn is_open(simulation: &Simulation<'_>) -> bool {
    simulation.has_a_say()
}
