//! An explanation as text: what happened, the decisions, the rules, and each moment with its alternatives.

use std::fmt::Write as _;

use whimbrel_core::units::ByteCount;

use super::{Align, Columns, head, milliseconds, wrap};
use crate::explain::branch::Branch;
use crate::explain::decision::DecisionRecord;
use crate::explain::moment::{Known, Lesson, Moment};
use crate::explain::{Explanation, Verdict};
use crate::result::MigrationRecord;
use crate::scenario::Setup;

/// More decisions than this are shortened to those at both ends and those that were looked at.
const MOST_DECISIONS: usize = 24;
/// So many are then kept at each end.
const AT_THE_ENDS: usize = 6;

/// The text, sentences broken at `width` characters.
pub fn explanation(setup: &Setup, told: &Explanation, width: usize) -> String {
    let mut text = head(setup, told.run.seed, width);
    let _ = write!(text, "\nwhat happened\n{}", wrap(&happened(&told.run), INDENT, width));
    if let Some(shrinking) = &told.stopped_shrinking {
        text.push_str(&wrap(&shrinking.sentence, INDENT, width));
    }
    if let Some(missed) = &told.nearest_miss {
        text.push_str(&wrap(missed, INDENT, width));
    }
    let _ = write!(text, "\ndecisions\n{}", decisions(told, width));
    let _ = write!(text, "\nrules\n{}", rules(told));
    for moment in &told.moments {
        text.push('\n');
        text.push_str(&this_moment(told, moment, width));
    }
    text
}

const INDENT: &str = "  ";

fn happened(run: &MigrationRecord) -> String {
    let ended = match (run.outcome, run.converged) {
        ("completed", true) => "It completed and converged".to_owned(),
        ("completed", false) if run.post_copy.missing_pages > 0 => "It completed by post-copy".to_owned(),
        ("completed", false) => "It completed without having converged".to_owned(),
        (outcome, _) => format!("It ended as `{outcome}`"),
    };
    format!(
        "{ended} after {}, with {} of downtime; {} were sent in {} rounds, and the guest lost {:.3} vCPU-s. Why: {}.",
        milliseconds(Some(run.total_ms)),
        milliseconds(Some(run.downtime_ms)),
        ByteCount(run.sent_bytes).human(),
        run.rounds,
        run.disruption_vcpu_s,
        run.why
    )
}

/// The decisions that were kept; each with what would have had to be pending for the handover.
fn decisions(told: &Explanation, width: usize) -> String {
    use Align::{Left, Right};
    let mut columns = Columns::new(&[
        ("  at", Right),
        ("round", Right),
        ("asked at", Left),
        ("pending", Right),
        ("would hand over at", Right),
        ("", Right),
        ("decision", Left),
    ]);
    let shown = chosen(told);
    for decision in shown.iter().flatten() {
        columns.row(vec![
            milliseconds(Some(decision.at_ms)),
            decision.round.to_string(),
            decision.moment.replace('-', " "),
            decision.pending().human(),
            match decision.would_end_at_bytes {
                Some(most) => ByteCount(most).human(),
                None if decision.last => "anything".to_owned(),
                None => "-".to_owned(),
            },
            apart(decision),
            match &decision.throttle {
                Some(throttle) => format!("{} [throttle {throttle}]", decision.decision),
                None => decision.decision.to_owned(),
            },
        ]);
    }
    let lines = columns.lines();
    let mut text = format!("  {}\n", lines[0]);
    let mut lines = lines[1..].iter();
    let mut left_out = 0;
    for decision in &shown {
        let Some(decision) = decision else {
            left_out += 1;
            continue;
        };
        if left_out > 0 {
            let _ = writeln!(text, "       … {left_out} more …");
            left_out = 0;
        }
        let _ = writeln!(text, "  {}", lines.next().map_or("", String::as_str));
        text.push_str(&wrap(&decision.reason.to_string(), "         ", width));
    }
    let note = format!(
        "{} decisions are told of the {} times that the policy was asked: those at the start of a round, and those \
         that did more than to go on. Would hand over at: the most pending with which this policy, with what it \
         knew by then, would have handed the guest over.",
        told.decisions.len(),
        told.asked
    );
    text.push_str(&wrap(&note, INDENT, width));
    text
}

/// Its lines behind a margin.
fn indented(columns: &Columns, margin: &str) -> String {
    columns.lines().iter().flat_map(|line| [margin, line, "\n"].map(str::to_owned)).collect()
}

/// How far what was pending was from what would have been needed.
fn apart(decision: &DecisionRecord) -> String {
    match decision.would_end_at_bytes {
        Some(most) if most > 0 => match decision.pending_bytes as f64 / most as f64 {
            far if far >= 10.0 => format!("{far:.0} x"),
            near => format!("{near:.2} x"),
        },
        _ => String::new(),
    }
}

/// Which decisions are shown; none for each that is left out.
fn chosen(told: &Explanation) -> Vec<Option<&DecisionRecord>> {
    let all = &told.decisions;
    let looked_at = |decision: &DecisionRecord| {
        told.moments.iter().any(|moment| moment.next.as_ref().is_some_and(|next| next.is(decision)))
    };
    let kept = |(index, decision)| {
        let near_an_end = index < AT_THE_ENDS || index + AT_THE_ENDS >= all.len();
        (all.len() <= MOST_DECISIONS || near_an_end || looked_at(decision)).then_some(decision)
    };
    all.iter().enumerate().map(kept).collect()
}

fn rules(told: &Explanation) -> String {
    use Align::{Left, Right};
    let mut columns = Columns::new(&[
        ("what was compared", Left),
        ("decided", Right),
        ("below", Right),
        ("nearest", Right),
        ("at", Right),
    ]);
    for rule in &told.rules {
        columns.row(vec![
            format!("{} with {}", rule.left, rule.right),
            format!("{} x", rule.decided),
            format!("{} x", rule.below),
            rule.nearest.map_or_else(|| "-".to_owned(), |nearest| format!("{:+.1} %", nearest * 100.0)),
            rule.nearest_at_ms.map_or_else(|| "-".to_owned(), |at| milliseconds(Some(at))),
        ]);
    }
    indented(&columns, INDENT)
}

fn title(moment: &Moment) -> String {
    let lessons: Vec<&str> = moment
        .lessons
        .iter()
        .map(|lesson| match lesson {
            Lesson::Asked => "as asked for",
            Lesson::StoppedShrinking => "where it stopped getting smaller",
            Lesson::NearestMiss => "where it came nearest to the handover and went on",
            Lesson::Ended => "where its end was decided",
        })
        .collect();
    format!("at {}: {}", milliseconds(Some(moment.at_ms)), lessons.join(", "))
}

fn this_moment(told: &Explanation, moment: &Moment, width: usize) -> String {
    let mut text = wrap(&title(moment), "", width);
    text.push_str(&wrap(&known(&moment.known), INDENT, width));
    if let Some(next) = &moment.next {
        let at = milliseconds(Some(next.at_ms));
        let when = if next.at_ms > moment.at_ms {
            format!("The next decision fell at {at}. ")
        } else if next.at_ms < moment.at_ms {
            format!("The last decision had fallen at {at}. ")
        } else {
            String::new()
        };
        text.push_str(&wrap(&format!("{when}{}", next.sentence), INDENT, width));
    }
    if !moment.branches.is_empty() {
        let line =
            format!("had another policy than {} taken over here (lost: vCPU-s of the guest)", told.policy);
        text.push_str(&wrap(&line, INDENT, width));
        text.push_str(&branches(told, &moment.branches, width));
    }
    for sentence in &moment.summary {
        text.push_str(&wrap(sentence, INDENT, width));
    }
    text
}

fn known(known: &Known) -> String {
    let rate = |bytes: f64| format!("{}/s", ByteCount(bytes as u64).human());
    let mut text = format!(
        "Known: round {}, {} pending, {} sent",
        known.round,
        ByteCount(known.pending_bytes).human(),
        ByteCount(known.sent_bytes).human()
    );
    if let Some(dirty) = known.dirty_bytes_per_s {
        let found = ByteCount(known.dirtied_bytes).human();
        let _ = write!(text, "; the last harvest found {found} dirty, {} since the one before", rate(dirty));
    }
    if let (Some(bandwidth), Some(time)) = (known.bandwidth_bytes_per_s, known.to_send_ms) {
        let _ = write!(
            text,
            "; at the {} measured, the rest takes {}",
            rate(bandwidth as f64),
            milliseconds(Some(time))
        );
    }
    if known.throttle != "off" {
        let _ = write!(text, "; the guest slowed by {}", known.throttle);
    }
    text.push('.');
    text
}

/// The branches beside what happened; those that come to the same share a line.
fn branches(told: &Explanation, branches: &[Branch], width: usize) -> String {
    use Align::{Left, Right};
    let mut columns = Columns::new(&[
        ("policy", Left),
        ("outcome", Left),
        ("total", Right),
        ("", Right),
        ("downtime", Right),
        ("", Right),
        ("sent", Right),
        ("lost", Right),
        ("", Right),
        ("verdict", Left),
    ]);
    columns.row(row("as it was", &told.run, None));
    let mut same: Vec<&str> = Vec::new();
    for branch in branches {
        if branch.verdict == Verdict::Same {
            same.push(&branch.policy);
        } else {
            columns.row(row(&branch.policy, &branch.run, Some(branch)));
        }
    }
    let mut text = indented(&columns, "    ");
    if !same.is_empty() {
        text.push_str(&wrap(&format!("the same as it was: {}", same.join(", ")), "    ", width));
    }
    text
}

fn row(name: &str, run: &MigrationRecord, branch: Option<&Branch>) -> Vec<String> {
    let ended = match (run.outcome, run.converged) {
        ("completed", false) if run.post_copy.missing_pages > 0 => "post-copy".to_owned(),
        ("completed", false) => "forced".to_owned(),
        (outcome, _) => outcome.to_owned(),
    };
    let signed = |value: f64, told: &dyn Fn(f64) -> String| match branch {
        None => String::new(),
        Some(_) if value == 0.0 => "=".to_owned(),
        Some(_) => format!("{}{}", if value < 0.0 { "-" } else { "+" }, told(value.abs())),
    };
    let time = |value: f64| milliseconds(Some(value));
    let differences =
        branch.map_or([0.0; 3], |branch| [branch.total_ms, branch.downtime_ms, branch.disruption_vcpu_s]);
    vec![
        name.to_owned(),
        ended,
        time(run.total_ms),
        signed(differences[0], &time),
        time(run.downtime_ms),
        signed(differences[1], &time),
        ByteCount(run.sent_bytes).human(),
        format!("{:.2}", run.disruption_vcpu_s),
        signed(differences[2], &|value| format!("{value:.2}")),
        branch.map_or_else(String::new, |branch| branch.verdict.as_str().to_owned()),
    ]
}
