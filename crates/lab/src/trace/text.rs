//! Statistics as text for people.

use std::fmt::Write as _;

use super::stats::{Redirty, Series, Statistics};
use crate::chart::Unit;
use crate::table::{Align, Columns, per_cent};

/// The statistics of what is called `name`.
pub fn statistics(name: &str, found: &Statistics) -> String {
    let mut text = format!("{name}\n");
    let time = |seconds: f64| Unit::Milliseconds.format(seconds * 1e3);
    let size = found.page_size.bytes().0;
    let mib = |pages: f64| Unit::Bytes.format(pages * size as f64);
    let _ = writeln!(
        text,
        "  guest      {}, {} pages of {}",
        found.memory.human(),
        found.memory.0 / size,
        found.page_size
    );
    let _ = writeln!(text, "  intervals  {} of {}", found.intervals, time(found.interval_ms / 1e3));
    let touched = found.touched_pages;
    let _ = writeln!(text, "  dirtied    {touched} different pages, {}", mib(touched as f64));
    let Series { mean, sd, cv, peak_to_mean, lag1 } = found.pages;
    let number = |name: &str, value: Option<f64>| {
        value.map(|value| format!(", {name} {value:.3}")).unwrap_or_default()
    };
    let _ = writeln!(
        text,
        "  pages in an interval: mean {mean:.1}{}{}{}{}; {} a second",
        number("sd", sd),
        number("sd/mean", cv),
        number("peak/mean", peak_to_mean),
        number("lag-1 correlation", lag1),
        mib(mean / (found.interval_ms / 1e3).max(1e-9)),
    );
    text.push('\n');
    curve(&mut text, found);
    hits(&mut text, found);
    if let Some(again) = &found.redirty {
        redirty(&mut text, again);
    }
    text
}

fn curve(text: &mut String, found: &Statistics) {
    let mut table = Columns::new(&[
        ("window", Align::Right),
        ("windows", Align::Right),
        ("pages, mean", Align::Right),
        ("sd", Align::Right),
        ("min", Align::Right),
        ("p10", Align::Right),
        ("p50", Align::Right),
        ("p90", Align::Right),
        ("max", Align::Right),
    ]);
    for point in &found.curve {
        let windows = format!("{}{}", point.windows, if point.overlapping { "*" } else { "" });
        let mut row =
            vec![Unit::Milliseconds.format(point.window_s * 1e3), windows, format!("{:.1}", point.mean)];
        row.push(point.sd.map_or_else(|| "-".to_owned(), |sd| format!("{sd:.1}")));
        row.extend(
            [point.min, point.p10, point.p50, point.p90, point.max].map(|pages| format!("{pages:.0}")),
        );
        table.row(row);
    }
    table.put(text);
    if found.curve.iter().any(|point| point.overlapping) {
        text.truncate(text.len() - 1);
        text.push_str("  * windows that overlap\n\n");
    }
}

fn hits(text: &mut String, found: &Statistics) {
    let mut table = Columns::new(&[
        ("dirtied in intervals", Align::Right),
        ("pages", Align::Right),
        ("share", Align::Right),
    ]);
    let all = found.hits.iter().map(|hits| hits.pages).sum::<u64>().max(1) as f64;
    for hits in &found.hits {
        let range = if hits.from == hits.to {
            hits.from.to_string()
        } else {
            format!("{} to {}", hits.from, hits.to)
        };
        table.row(vec![range, hits.pages.to_string(), per_cent(hits.pages as f64 / all)]);
    }
    table.put(text);
}

fn redirty(text: &mut String, found: &Redirty) {
    let mut table = Columns::new(&[
        ("dirtied again within", Align::Right),
        ("times", Align::Right),
        ("share", Align::Right),
    ]);
    for step in &found.steps {
        let within = Unit::Milliseconds.format(step.within_s * 1e3);
        table.row(vec![within, step.count.to_string(), per_cent(step.share)]);
    }
    table.put(text);
    text.truncate(text.len() - 1);
    let _ = writeln!(text, "  not again before the end: {} times\n", found.never);
}
