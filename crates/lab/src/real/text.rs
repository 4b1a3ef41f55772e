//! A real guest beside its simulation, as text for people.

use std::fmt::Write as _;

use super::beside::{AGREEMENT, Beside, HarvestPair, Pair, Pulse};
use crate::chart::Unit;
use crate::table::{Align, Columns, per_cent};

/// Lines of harvests, at most: where there are more, each line has the mean of several.
const LINES: usize = 20;

fn time(seconds: f64) -> String {
    Unit::Milliseconds.format(seconds * 1e3)
}

fn difference(pair: Pair) -> String {
    pair.difference().map_or_else(|| "-".to_owned(), |share| format!("{:+.1} %", share * 100.0))
}

/// What is known when the guest has run.
pub fn beside(found: &Beside) -> String {
    let mut text = String::new();
    let instead = found.instead.as_ref().map(|why| format!(", because {why}")).unwrap_or_default();
    let (start, stop) = (time(found.start_s), time(found.stop_s));
    let _ = writeln!(text, "dirty log  {}{instead}; started in {start}, stopped in {stop}", found.log);
    let Pulse { beats, longest_gap_s } = found.heartbeat;
    let _ = writeln!(text, "heartbeat  {beats} beats, the longest gap {}", time(longest_gap_s));
    let _ = writeln!(text, "memory     holds what the guest's registers say\n");
    rates(&mut text, found);
    harvests(&mut text, found);
    curve(&mut text, found);
    let verdict = if found.agrees { "agree" } else { "do not agree" };
    let _ = writeln!(
        text,
        "Dirty rate {} pages/s, simulated {} ({}). Rate and curve {verdict} within {}.",
        found.dirty_rate.measured.round(),
        found.dirty_rate.simulated.round(),
        difference(found.dirty_rate),
        per_cent(AGREEMENT)
    );
    text
}

fn rates(text: &mut String, found: &Beside) {
    let mut table = Columns::new(&[
        ("vCPU", Align::Right),
        ("writes/s wanted", Align::Right),
        ("held", Align::Right),
        ("share", Align::Right),
        ("given up", Align::Right),
    ]);
    for (index, rate) in found.rates.iter().enumerate() {
        let share = if rate.wanted > 0.0 { rate.held / rate.wanted } else { 1.0 };
        table.row(vec![
            index.to_string(),
            format!("{:.0}", rate.wanted),
            format!("{:.0}", rate.held),
            per_cent(share),
            rate.forgone.to_string(),
        ]);
    }
    table.put(text);
}

fn harvests(text: &mut String, found: &Beside) {
    let mut table = Columns::new(&[
        ("until", Align::Right),
        ("harvests", Align::Right),
        ("pages each", Align::Right),
        ("simulated", Align::Right),
        ("difference", Align::Right),
        ("harvest took", Align::Right),
    ]);
    let several = found.harvests.len().div_ceil(LINES).max(1);
    for group in found.harvests.chunks(several) {
        let mean = |of: fn(&HarvestPair) -> f64| group.iter().map(of).sum::<f64>() / group.len() as f64;
        let pages =
            Pair { measured: mean(|one| one.pages.measured), simulated: mean(|one| one.pages.simulated) };
        table.row(vec![
            time(group.last().map_or(0.0, |last| last.at_s)),
            group.len().to_string(),
            format!("{:.1}", pages.measured),
            format!("{:.1}", pages.simulated),
            difference(pages),
            time(mean(|one| one.took_s)),
        ]);
    }
    table.put(text);
}

fn curve(text: &mut String, found: &Beside) {
    let mut table = Columns::new(&[
        ("window", Align::Right),
        ("different pages", Align::Right),
        ("simulated", Align::Right),
        ("difference", Align::Right),
    ]);
    for point in &found.curve {
        table.row(vec![
            time(point.window_s),
            format!("{:.1}", point.pages.measured),
            format!("{:.1}", point.pages.simulated),
            difference(point.pages),
        ]);
    }
    table.put(text);
}
