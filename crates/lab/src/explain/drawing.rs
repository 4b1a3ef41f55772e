//! An explanation as what the chart takes.

use super::Explanation;
use super::branch::{Branch, Verdict};
use super::decision::DecisionRecord;
use super::moment::{Lesson, Moment};
use crate::chart::{Branching, Compared, Course, CourseDecision};
use crate::result::MigrationRecord;

impl Explanation {
    /// The drawing: the branches are those of the first moment from which any would have been better, or else of
    /// the first that has any. `title` says what was moved.
    pub fn drawing(&self, title: String) -> Branching {
        let open = || self.moments.iter().filter(|moment| !moment.branches.is_empty());
        let better = open().find(|moment| moment.branches.iter().any(|b| b.verdict <= Verdict::Better));
        let moment = better.or_else(|| open().next());
        let run = &self.run;
        let converged = if run.converged { ", converged" } else { "" };
        Branching {
            title,
            subtitle: format!("{}{converged}: {}", run.outcome, run.why),
            happened: Course {
                name: format!("{} (as it was)", self.policy),
                tooltip: run.why.clone(),
                curve: self.curve.clone(),
                ..course(run)
            },
            decisions: self.decisions.iter().filter(|d| d.starts_a_round()).map(drawn).collect(),
            fork_ms: moment.map(|moment| moment.at_ms),
            fork: moment.map_or_else(String::new, name),
            branches: moment.iter().flat_map(|moment| &moment.branches).map(branch).collect(),
        }
    }
}

fn name(moment: &Moment) -> String {
    let lesson = moment.lessons.first().copied().unwrap_or(Lesson::Asked);
    match lesson {
        Lesson::Asked => "as asked for",
        Lesson::StoppedShrinking => "rounds stopped getting smaller",
        Lesson::NearestMiss => "nearest miss",
        Lesson::Ended => "its end was decided",
    }
    .to_owned()
}

fn course(run: &MigrationRecord) -> Course {
    Course {
        ended_ms: run.total_ms,
        failed: (run.outcome != "completed").then(|| run.outcome.to_owned()),
        downtime_ms: run.downtime_ms,
        lost_vcpu_s: run.disruption_vcpu_s,
        ..Course::default()
    }
}

fn branch(branch: &Branch) -> Course {
    let compared = match branch.verdict {
        Verdict::Completes => Compared::Completes,
        Verdict::Better => Compared::Better,
        Verdict::Traded => Compared::Traded,
        Verdict::Same => Compared::Same,
        Verdict::Worse => Compared::Worse,
        Verdict::Fails => Compared::Fails,
    };
    Course {
        name: branch.policy.clone(),
        compared,
        curve: branch.curve.clone(),
        tooltip: branch.sentence.clone(),
        ..course(&branch.run)
    }
}

fn drawn(decision: &DecisionRecord) -> CourseDecision {
    CourseDecision {
        at_ms: decision.at_ms,
        pending: decision.pending_bytes as f64,
        needed: decision.would_end_at_bytes.map(|most| most as f64),
        last: decision.last,
        tooltip: format!("round {}: {}", decision.round, decision.sentence),
    }
}
