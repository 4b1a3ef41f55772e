//! How far forecasts of real runs held: what the numbers of a simulation are worth on this machine.

use super::{Forecasts, ReportInput};
use crate::chart::Unit;
use crate::page::{Column, Entry, Kind, Section, Table};

/// The section; none where nothing was real.
pub(super) fn section(input: &ReportInput) -> Option<Section> {
    let all = input.forecasts.first()?;
    let columns = [
        ("runs of", Kind::Text),
        ("runs", Kind::Number),
        ("total time", Kind::Number),
        ("bytes sent", Kind::Number),
        ("downtime", Kind::Number),
        ("downtime, share", Kind::Number),
        ("within 15 % or 3 ms", Kind::Number),
        ("source CPU", Kind::Number),
    ];
    let columns = columns.map(|(name, kind)| Column::new(name, kind)).to_vec();
    let mut table = Table::new("Median errors of the forecasts", columns);
    for forecasts in &input.forecasts {
        table.row(row(forecasts));
    }
    let intro = format!(
        "Each run was simulated before it was made, with what moving an idle guest costs on this machine. Half of all {} forecasts \
         are nearer than this to what was then measured.",
        all.runs
    );
    Some(Section::new("forecasts", "How far forecasts held", intro, table.render()))
}

fn row(forecasts: &Forecasts) -> Vec<Entry> {
    let of = if forecasts.of.is_empty() { "all" } else { &forecasts.of };
    vec![
        Entry::text(of),
        Entry::text(&forecasts.runs.to_string()),
        share(forecasts.total),
        share(forecasts.sent),
        Entry::value(Unit::Milliseconds, forecasts.downtime_ms),
        share(forecasts.downtime),
        Entry::text(&format!("{} of {}", forecasts.within, forecasts.judged))
            .sorted_by(forecasts.within as f64),
        share(forecasts.source_cpu),
    ]
}

fn share(share: Option<f64>) -> Entry {
    share.map_or_else(
        || Entry::never("–"),
        |share| Entry::text(&format!("{:.1} %", share * 100.0)).sorted_by(share),
    )
}
