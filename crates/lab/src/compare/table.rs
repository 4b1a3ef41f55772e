//! A summary as text for people.

use std::fmt::{self, Write as _};

use super::claims::{LEVEL, Scope};
use super::summary::{Row, Summary};
use crate::chart::Unit;
use crate::outcome::Objective;
use crate::stats::Interval;
use crate::table::{Align, Columns, counted};

/// Up to so many policies each workload has a table of its own, and each claim a line.
const FEW: usize = 6;

/// The summary in tables: all workloads together, who beats whom, each workload.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.overall.first().map_or(0, |row| row.runs);
        writeln!(
            f,
            "all {}, {} a policy; medians with 95 % intervals\n",
            counted(self.workloads.len() as u64, "workload"),
            counted(runs, "run")
        )?;
        lines(f, &rows(self.overall.iter(), true))?;
        f.write_str("\n")?;
        self.beaten(f)?;
        if self.policies.len() <= FEW {
            for (name, about) in &self.workloads {
                writeln!(f, "\n{name}: {about}")?;
                let rows_of = self.by_workload.iter().filter(|row| row.workload.as_ref() == Some(name));
                lines(f, &rows(rows_of, false))?;
            }
        } else {
            f.write_str("\n")?;
            lines(f, &self.best())?;
        }
        if let Some(needed) = self.needed_for_single_workloads {
            writeln!(
                f,
                "\non single workloads nothing can be significant with so few runs of so many policies: it takes \
                 --repeat {needed}"
            )?;
        }
        Ok(())
    }
}

fn lines(f: &mut fmt::Formatter<'_>, columns: &Columns) -> fmt::Result {
    columns.lines().iter().try_for_each(|line| writeln!(f, "{line}"))
}

/// A row a policy.
fn rows<'a>(rows: impl Iterator<Item = &'a Row>, overall: bool) -> Columns {
    let mut names = vec![("policy", Align::Left)];
    if overall {
        names.push(("front", Align::Right));
    }
    names.extend([
        ("failed", Align::Right),
        ("converged", Align::Right),
        ("total time", Align::Right),
        ("downtime", Align::Right),
        ("p95", Align::Right),
        ("sent", Align::Right),
        ("lost vCPU-s", Align::Right),
    ]);
    let mut columns = Columns::new(&names);
    for row in rows {
        let mut cells = vec![row.policy.clone()];
        if overall {
            cells.push(front(row));
        }
        cells.extend([
            percent(row.failed),
            percent(row.converged),
            estimated(Objective::TotalTime, row),
            estimated(Objective::Downtime, row),
            row.downtime_s.p95.map_or_else(|| "never".to_owned(), |value| shown(Objective::Downtime, value)),
            row.sent_bytes.median.map_or_else(String::new, |value| shown(Objective::Bytes, value)),
            estimated(Objective::Disruption, row),
        ]);
        columns.row(cells);
    }
    columns
}

/// Whether it is on the front, and how surely.
fn front(row: &Row) -> String {
    let share = percent(row.front_share.unwrap_or_default());
    if row.on_front == Some(true) { format!("* {share}") } else { share }
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A value of an objective as people read it.
pub(super) fn shown(objective: Objective, value: f64) -> String {
    match objective {
        Objective::TotalTime | Objective::Downtime => Unit::Milliseconds.format(value * 1e3),
        Objective::Bytes => Unit::Bytes.format(value),
        Objective::Disruption => Unit::VcpuSeconds.format(value),
        Objective::Failures => Unit::Share.format(value),
    }
}

/// The median and its interval.
fn estimated(objective: Objective, row: &Row) -> String {
    let Some(estimate) = row.estimate(objective) else { return String::new() };
    let Some(median) = estimate.median else { return "never".to_owned() };
    // The column's name has the unit.
    let shown = |value: f64| match objective {
        Objective::Disruption => Unit::VcpuSeconds.compact(value),
        _ => shown(objective, value),
    };
    let ends = estimate.median_interval.map(|Interval { low, high }| [shown(low), shown(high)]);
    match ends {
        Some([low, high]) if low != high => format!("{} [{low}, {high}]", shown(median)),
        _ => shown(median),
    }
}

impl Summary {
    /// Who beats whom over all workloads.
    fn beaten(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let overall: Vec<_> = self.claims.iter().filter(|claim| claim.scope == Scope::Overall).collect();
        let level = percent(LEVEL);
        if overall.is_empty() {
            return writeln!(
                f,
                "no policy is significantly better than another over all workloads ({level})"
            );
        }
        if self.policies.len() <= FEW {
            writeln!(
                f,
                "significantly better over all workloads, compared run by run ({level}, corrected for {} tests)",
                self.tests
            )?;
            for claim in overall {
                writeln!(f, "  {}", claim.sentence())?;
            }
            return Ok(());
        }
        writeln!(
            f,
            "how many others each is significantly better / worse than ({level}, corrected for {} tests)\n",
            self.tests
        )?;
        let names: Vec<_> = Objective::ALL.iter().map(|objective| (objective.name(), Align::Right)).collect();
        let mut columns = Columns::new(&[&[("policy", Align::Left)], &names[..]].concat());
        for policy in &self.policies {
            let mut cells = vec![policy.clone()];
            for objective in Objective::ALL {
                let of = |better: bool| {
                    let name = |claim: &super::Claim| {
                        if better { claim.better.clone() } else { claim.worse.clone() }
                    };
                    overall
                        .iter()
                        .filter(|claim| claim.objective == objective && name(claim) == *policy)
                        .count()
                };
                cells.push(format!("{} / {}", of(true), of(false)));
            }
            columns.row(cells);
        }
        lines(f, &columns)
    }

    /// The best median of each workload.
    fn best(&self) -> Columns {
        let objectives = [Objective::TotalTime, Objective::Downtime, Objective::Disruption];
        let mut columns = Columns::new(&[
            ("workload", Align::Left),
            ("failed", Align::Right),
            ("shortest", Align::Left),
            ("least downtime", Align::Left),
            ("least lost, of those that never fail", Align::Left),
        ]);
        for (name, _) in &self.workloads {
            let rows: Vec<_> =
                self.by_workload.iter().filter(|row| row.workload.as_ref() == Some(name)).collect();
            let failed = rows.iter().map(|row| row.failed).sum::<f64>() / rows.len().max(1) as f64;
            let mut cells = vec![name.clone(), percent(failed)];
            for objective in objectives {
                let best = rows
                    .iter()
                    .filter(|row| objective != Objective::Disruption || row.failed == 0.0)
                    .filter_map(|row| Some((row.estimate(objective)?.median?, &row.policy)))
                    .min_by(|a, b| a.0.total_cmp(&b.0));
                cells.push(best.map_or_else(
                    || "nobody".to_owned(),
                    |(value, policy)| format!("{} {policy}", shown(objective, value)),
                ));
            }
            columns.row(cells);
        }
        columns
    }
}

impl super::Claim {
    /// As a sentence without its scope: `downtime: xen-5 beats nova, which takes 1.52 times as much [1.48, 1.57], p 0.003`.
    ///
    /// Who beats whom is a matter of ranks, the ratio one of means: where most runs lie one way and a few far the
    /// other, they disagree, and the sentence says so.
    pub fn sentence(&self) -> String {
        let mut text = format!("{}: {} beats {}", self.objective, self.better, self.worse);
        if let Some(ratio) = self.ratio {
            let how = if ratio < 1.0 { " in most runs, though on average it takes" } else { ", which takes" };
            let _ = write!(text, "{how} {} times as much", times(ratio));
            if let Some(Interval { low, high }) = self.ratio_interval {
                let _ = write!(text, " [{}, {}]", times(low), times(high));
            }
        }
        if let Some(less) = self.failures_less {
            let _ = write!(text, " by {} of the runs", percent(less));
        }
        let p = if self.p < 1e-4 { "< 0.0001".to_owned() } else { format!("{:.4}", self.p) };
        let _ = write!(text, ", p {p}");
        text
    }
}

fn times(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.2}") } else { format!("{ratio:.0}") }
}
