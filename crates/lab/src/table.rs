//! Results as tables: text for people, CSV for programs.
//!
//! Made from records alone and printed by the command line. Text tables line their columns up and break
//! only sentences, so that they read well in a narrow terminal; nothing here asks how wide it is.

pub mod csv;
mod explanation;
pub(crate) mod fields;
mod validation;

pub use self::validation::validation;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use whimbrel_core::policy::presets::{self, PresetInfo};
use whimbrel_core::units::{ByteCount, duration};

pub use self::explanation::explanation;
use crate::result::{EncodingRecord, EtaRecord, MigrationRecord, RoundRecord};
use crate::scenario::Setup;
use crate::sweep::PolicySummary;
use whimbrel_sim::config::{HostConfig, Pattern, WriterConfig};

/// On which side of its column a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Columns of text, each as wide as its widest entry.
#[derive(Clone, Debug)]
pub struct Columns {
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// Columns with these names; a row of names is the first row.
    pub fn new(names: &[(&str, Align)]) -> Self {
        Self {
            align: names.iter().map(|(_, align)| *align).collect(),
            rows: vec![names.iter().map(|(name, _)| (*name).to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// Adds its lines to `text`, indented, and an empty one.
    pub(crate) fn put(&self, text: &mut String) {
        for line in self.lines() {
            text.extend(["  ", &line, "\n"]);
        }
        text.push('\n');
    }

    /// Its lines, that of the names first, without spaces at their ends.
    pub fn lines(&self) -> Vec<String> {
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|text| text.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.align.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let mut line = String::new();
            for ((text, width), align) in row.iter().zip(&widths).zip(&self.align) {
                let gap = if line.is_empty() { "" } else { "  " };
                let _ = match align {
                    Align::Left => write!(line, "{gap}{text:<width$}"),
                    Align::Right => write!(line, "{gap}{text:>width$}"),
                };
            }
            line.trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

/// `text` broken between words into lines of at most `width` characters, each behind `indent`; a longer
/// word has a line of its own.
pub fn wrap(text: &str, indent: &str, width: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            out.push('\n');
            used = 0;
        }
        if used == 0 {
            out.push_str(indent);
            used = indent.chars().count() + length;
        } else {
            out.push(' ');
            used += 1 + length;
        }
        out.push_str(word);
    }
    out.push('\n');
    out
}

/// A length of time for people; a dash for none.
pub fn milliseconds(value: Option<f64>) -> String {
    let time = value.and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok());
    time.map_or_else(|| "-".to_owned(), duration::human)
}

/// A share in per cent; those that are nearly none or nearly all don't become so by rounding.
pub fn per_cent(share: f64) -> String {
    let text = format!("{:.1} %", share * 100.0);
    match text.as_str() {
        "0.0 %" if share > 0.0 => "< 0.1 %".to_owned(),
        "100.0 %" if share < 1.0 => "> 99.9 %".to_owned(),
        _ => text,
    }
}

/// The name of a value in scenario files.
pub(crate) fn name_of(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        other => format!("{other:?}"),
    }
}

/// A writer for people, of three parts that can stand one after the other.
pub(crate) struct Written {
    /// The pattern; a trace or a program by its name.
    pub(crate) what: String,
    /// The memory that it writes to, if the scenario says that.
    pub(crate) over: Option<String>,
    /// How often, with a comma before it.
    pub(crate) rate: String,
}

/// What a writer does. Of a trace and of a measured program that is what was recorded, not what the scenario's keys
/// would say of other patterns.
pub(crate) fn written(writer: &WriterConfig) -> Written {
    let pattern = name_of(&writer.pattern);
    let traced = writer.trace.as_ref();
    let set = Some(writer.working_set.human());
    match (writer.pattern, traced.and_then(|named| Some((named.name(), named.trace()?)))) {
        (Pattern::Idle, _) => Written { what: pattern, over: None, rate: String::new() },
        (Pattern::Trace, Some((name, trace))) => {
            let (pages, length) = (trace.touched_pages(), duration::human(trace.end()));
            let again = if writer.repeat { "again and again" } else { "once" };
            let rate = format!(", {pages} of it in {length}, {again}");
            Written { what: format!("{pattern} {name}"), over: None, rate }
        }
        (Pattern::Measured, traced) => {
            let of = writer.curve.as_deref().or(traced.map(|(name, _)| name)).unwrap_or_default();
            let pages = writer.measured.as_ref().map(|model| format!(", {} in all", model.pages()));
            Written { what: format!("{pattern} {of}"), over: set, rate: pages.unwrap_or_default() }
        }
        _ if writer.phases.is_empty() => {
            Written { what: pattern, over: set, rate: format!(", {} writes/s", writer.rate) }
        }
        _ => Written { what: pattern, over: set, rate: format!(", {} phases", writer.phases.len()) },
    }
}

/// One migration: what was migrated, its rounds with the decision and its reason in each, the downtime
/// ledger, what the guest lost and how it ended. Sentences are broken at `width` characters.
pub fn migration(setup: &Setup, record: &MigrationRecord, width: usize) -> String {
    let mut text = head(setup, record.seed, width);
    text.push('\n');
    text.push_str(&rounds(&record.round, width));
    text.push('\n');
    text.push_str(&ledger(record));
    text.push('\n');
    text.push_str(&totals(record, true, width));
    text
}

/// The same for a migration of a real guest, under the rows of `head`, each a name and what there is to say.
pub fn real_migration(
    setup: &Setup,
    head: &[(&str, String)],
    record: &MigrationRecord,
    width: usize,
) -> String {
    let mut rows = guest_rows(setup);
    rows.extend_from_slice(head);
    rows.extend(policy_rows(setup));
    let mut text = named(&rows, "          ", width);
    for part in [rounds(&record.round, width), ledger(record), totals(record, false, width)] {
        text.push('\n');
        text.push_str(&part);
    }
    text
}

/// Names, and beside each what there is to say, behind `indent` and broken at `width` characters.
pub fn named(rows: &[(&str, String)], indent: &str, width: usize) -> String {
    let mut text = String::new();
    for (name, value) in rows {
        let lines = wrap(value, indent, width);
        let _ = write!(text, "{name:<len$}{}", lines.trim_start(), len = indent.len());
    }
    text
}

fn head(setup: &Setup, seed: u64, width: usize) -> String {
    let link = &setup.link;
    let mut rows = guest_rows(setup);
    let changes = match link.changes.len() + link.outages.len() + usize::from(link.lost_at.is_some()) {
        0 => "",
        _ => ", changing over time",
    };
    let (bandwidth, round_trip) = (link.bandwidth.human(), duration::human(link.round_trip));
    rows.push(("link", format!("{bandwidth}, round trip {round_trip}{changes}")));
    rows.extend(encodings(&setup.host).map(|encodings| ("sending", encodings)));
    rows.extend(policy_rows(setup));
    rows.push(("seed", seed.to_string()));
    named(&rows, "          ", width)
}

fn policy_rows(setup: &Setup) -> Vec<(&'static str, String)> {
    let missing = presets::find(&setup.policy.preset).and_then(|preset| preset.approximate);
    let missing = missing.map(|missing| ("", format!("approximate: {missing}")));
    [("policy", policy(setup))].into_iter().chain(missing).collect()
}

fn guest_rows(setup: &Setup) -> Vec<(&'static str, String)> {
    let guest = &setup.guest;
    let zero = match guest.zero_pages.as_f64() {
        share if share > 0.0 => format!(", {:.0} % of them zero", share * 100.0),
        _ => String::new(),
    };
    let vcpus = if guest.vcpus == 1 { "1 vCPU".to_owned() } else { format!("{} vCPUs", guest.vcpus) };
    let memory = guest.memory.human();
    let mut rows = vec![("guest", format!("{memory}, {vcpus}, pages of {}{zero}", guest.page_size))];
    if guest.writers.is_empty() {
        rows.push(("writer", "none".to_owned()));
    }
    for writer in &guest.writers {
        let Written { what, over, rate } = written(writer);
        let over = over.map_or_else(String::new, |over| format!(" over {over}"));
        rows.push(("writer", [what, over, rate].concat()));
    }
    rows
}

/// So many of something, whose name takes an `s`: `1 run`, `2 runs`.
pub fn counted(number: u64, name: &str) -> String {
    format!("{number} {name}{}", if number == 1 { "" } else { "s" })
}

/// How pages are sent, if not simply as they are over one connection.
fn encodings(host: &HostConfig) -> Option<String> {
    let mut parts = Vec::new();
    if host.streams > 1 {
        parts.push(format!("{} streams", host.streams));
    }
    if let Some(cache) = host.xbzrle.cache {
        parts.push(format!("xbzrle with a cache of {}", cache.human()));
    }
    let compression = &host.compression;
    if let Some(ratio) = compression.ratio {
        let (method, threads) = (&compression.method, compression.threads);
        let threads = if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
        parts.push(format!("{method} in {threads}, to {}", per_cent(ratio.as_f64())));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn policy(setup: &Setup) -> String {
    let spec = &setup.policy;
    let Some(preset) = presets::find(&spec.preset) else {
        return spec.preset.clone();
    };
    let value =
        |name: &str, default: &str| spec.parameters.get(name).cloned().unwrap_or_else(|| default.to_owned());
    let all: Vec<_> = preset
        .parameters
        .iter()
        .map(|known| format!("{} {}", known.name, value(known.name, known.default)))
        .collect();
    let mut text = match &spec.name {
        Some(name) => format!("{name}, {}", spec.preset),
        None => spec.preset.clone(),
    };
    if !all.is_empty() {
        let _ = write!(text, ": {}", all.join(", "));
    }
    for change in &spec.changes {
        let _ = write!(text, "; {change}");
    }
    text
}

/// What was left when a round began.
fn outlook(progress: f64, eta: EtaRecord) -> String {
    let (low, high) = (milliseconds(Some(eta.low_ms)), eta.high_ms);
    let range = match high {
        Some(high) => format!("{low} to {}", milliseconds(Some(high))),
        None => format!("{low} or more"),
    };
    let left = eta
        .remaining_ms
        .map_or_else(|| "no end in sight".to_owned(), |left| format!("{} left", milliseconds(Some(left))));
    format!("at its start {:.0} % done, {left} ({range})", progress * 100.0)
}

/// More rounds than these are not read one by one: the first and the last are shown, so many of each.
const ROUNDS: usize = 60;
const ENDS: usize = 20;

/// The rounds; below each the decision and its reason.
fn rounds(rounds: &[RoundRecord], width: usize) -> String {
    use Align::Right;
    let between = if rounds.len() > ROUNDS { ENDS..rounds.len() - ENDS } else { 0..0 };
    let names = ["round", "at", "length", "dirtied", "pending", "sent", "sent", "rate", "dirtied/s"];
    let mut columns = Columns::new(&names.map(|name| (name, Right)));
    for round in rounds {
        let rate = round
            .bandwidth_bytes_per_s
            .map_or_else(|| "-".to_owned(), |rate| format!("{}/s", ByteCount(rate).human()));
        columns.row(vec![
            match (round.paused, round.post_copy) {
                (true, _) => format!("{} paused", round.round),
                (_, true) => format!("{} behind", round.round),
                _ => round.round.to_string(),
            },
            milliseconds(Some(round.started_ms)),
            milliseconds(Some(round.length_ms)),
            round.dirtied_pages.to_string(),
            round.pending_pages.to_string(),
            round.sent_pages.to_string(),
            ByteCount(round.sent_bytes).human(),
            rate,
            round.dirty_pages_per_s.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}")),
        ]);
    }
    let lines = columns.lines();
    let mut text = String::new();
    let _ = writeln!(text, "{}", lines[0]);
    for (index, (line, round)) in lines[1..].iter().zip(rounds).enumerate() {
        if between.contains(&index) {
            if index == between.start {
                let _ = writeln!(
                    text,
                    "     … {} more, all of them in --format json",
                    counted(between.len() as u64, "round")
                );
            }
            continue;
        }
        let _ = writeln!(text, "{line}");
        if let Some((progress, eta)) = round.progress.zip(round.eta) {
            text.push_str(&wrap(&outlook(progress, eta), "       ", width));
        }
        if let Some(decision) = round.decision {
            let throttle = round.throttled.as_ref().map(|throttle| format!(" [throttle {throttle}]"));
            let throttle = throttle.unwrap_or_default();
            let reason = round.reason.as_deref().unwrap_or("no reason given");
            text.push_str(&wrap(&format!("{decision}{throttle}: {reason}"), "       ", width));
        }
    }
    let mut note = "dirtied, pending and the first sent: pages; sent while paused: the last copy".to_owned();
    if rounds.iter().any(|round| round.post_copy) {
        note.push_str("; behind: sent after the handover");
    }
    text.push_str(&wrap(&note, "", width));
    text
}

fn ledger(record: &MigrationRecord) -> String {
    let parts = record.downtime.parts();
    if record.downtime_ms == 0.0 && parts.iter().all(|(_, part)| *part == 0.0) {
        return "downtime    none\n".to_owned();
    }
    let mut columns = Columns::new(&[("downtime", Align::Left), ("", Align::Right)]);
    // What only some migrations have is named only there.
    let rare = ["held", "first pages"];
    let parts = parts.into_iter().filter(|(name, part)| *part > 0.0 || !rare.contains(name));
    for (name, part) in parts.chain([("in all", record.downtime_ms)]) {
        columns.row(vec![format!("  {name}"), milliseconds(Some(part))]);
    }
    columns.lines().join("\n") + "\n"
}

/// `faults`: it is known what tracking cost the guest.
fn totals(record: &MigrationRecord, faults: bool, width: usize) -> String {
    let sent = format!(
        "{} ({:.2} x memory) in {}",
        ByteCount(record.sent_bytes).human(),
        record.amplification,
        counted(record.rounds as u64, "round")
    );
    let mut rows = vec![("total time", milliseconds(Some(record.total_ms))), ("sent", sent)];
    rows.extend(post_copy(record).map(|behind| ("post-copy", behind)));
    rows.extend(encoded(&record.encoding));
    rows.push(("guest lost", guest_lost(record, faults)));
    let converged = if record.converged { "converged" } else { "not converged" };
    rows.push(("outcome", format!("{}, {converged}", record.outcome)));
    if !record.why.is_empty() {
        rows.push(("why", record.why.clone()));
    }
    rows.extend(record.near_threshold.as_ref().map(|near| {
        let chance = format!(
            "in round {} the {} pages pending were {:.1} standard deviations from the threshold: of exact \
             runs some go on for a round more there",
            near.round, near.pending_pages, near.deviations
        );
        ("chance", chance)
    }));
    named(&rows, "            ", width)
}

/// What was sent after the handover, if something was.
fn post_copy(record: &MigrationRecord) -> Option<String> {
    let post_copy = &record.post_copy;
    (post_copy.missing_pages > 0).then(|| {
        format!(
            "{} pages were missing at the handover, {} of them were asked for; {} after {}",
            post_copy.missing_pages,
            post_copy.requests,
            if record.outcome == "completed" { "all there" } else { "cut off" },
            milliseconds(Some(post_copy.length_ms))
        )
    })
}

/// What pages became and what that took, if they were not all sent as they are.
fn encoded(encoding: &EncodingRecord) -> Vec<(&'static str, String)> {
    if encoding.encoded_pages + encoding.cache_misses == 0 {
        return Vec::new();
    }
    let pages = format!(
        "{} pages in {}; {} cache misses, {} overflows",
        encoding.encoded_pages,
        ByteCount(encoding.encoded_bytes).human(),
        encoding.cache_misses,
        encoding.overflow_pages
    );
    let cpu = encoding.source_cpu_s.map(|seconds| ("source CPU", format!("{seconds:.3} s")));
    [("encoded", pages)].into_iter().chain(cpu).collect()
}

fn guest_lost(record: &MigrationRecord, faults: bool) -> String {
    let lost = &record.disruption;
    let waiting = match lost.post_copy_vcpu_s {
        0.0 => String::new(),
        waiting => format!(", waiting for pages {waiting:.3}"),
    };
    let faults =
        if faults { format!(", tracking faults {:.3}", lost.tracking_faults_vcpu_s) } else { String::new() };
    format!(
        "{:.3} vCPU-s: throttle {:.3}, pause {:.3}{waiting}{faults}",
        record.disruption_vcpu_s, lost.throttle_vcpu_s, lost.pause_vcpu_s
    )
}

/// A sweep by policy.
pub fn policies(policies: &[PolicySummary]) -> String {
    use Align::{Left, Right};
    let mut columns = Columns::new(&[
        ("policy", Left),
        ("runs", Right),
        ("converged", Right),
        ("completed", Right),
        ("median total", Right),
        ("median downtime", Right),
    ]);
    for policy in policies {
        columns.row(vec![
            policy.policy.clone(),
            policy.runs.to_string(),
            per_cent(policy.converged),
            per_cent(policy.completed),
            milliseconds(policy.total_ms),
            milliseconds(policy.downtime_ms),
        ]);
    }
    columns.lines().join("\n") + "\n"
}

/// A line for each preset.
pub fn presets(presets: &[PresetInfo], width: usize) -> String {
    let mut text = String::new();
    for preset in presets {
        let approximate = if preset.approximate.is_some() { " (approximate)" } else { "" };
        let _ = writeln!(text, "{}{approximate}", preset.name);
        text.push_str(&wrap(preset.summary, "    ", width));
    }
    text
}

/// What a ground must be able to do for a preset with its defaults, by the names in configuration files.
fn needs(preset: &PresetInfo) -> Vec<String> {
    let needs =
        preset.build(&BTreeMap::new()).ok().and_then(|policy| serde_json::to_value(policy.needs()).ok());
    let Some(serde_json::Value::Object(needs)) = needs else {
        return Vec::new();
    };
    needs.into_iter().filter(|(_, needed)| *needed == true).map(|(name, _)| name).collect()
}

/// All that is known about a preset.
pub fn preset(preset: &PresetInfo, width: usize) -> String {
    let mut text = format!("{}\n", preset.name);
    text.push_str(&wrap(preset.summary, "  ", width));
    if let Some(missing) = preset.approximate {
        text.push_str("\nApproximate\n");
        text.push_str(&wrap(missing, "  ", width));
    }
    text.push_str("\nRule\n");
    for line in preset.rule.lines() {
        let _ = writeln!(text, "  {line}");
    }
    if !preset.notes.is_empty() {
        text.push_str("\nNotes\n");
    }
    for note in preset.notes {
        text.push_str(&wrap(&format!("- {note}"), "  ", width));
    }
    text.push_str("\nNeeds\n");
    let needs = needs(preset).join(", ");
    text.push_str(&wrap(if needs.is_empty() { "nothing" } else { &needs }, "  ", width));
    text.push_str("\nParameters\n");
    if preset.parameters.is_empty() {
        text.push_str("  none\n");
    }
    for known in preset.parameters {
        let _ = writeln!(text, "  {} = {}", known.name, known.default);
        text.push_str(&wrap(known.doc, "      ", width));
        text.push_str(&wrap(
            &format!("Accepts {}. Default from: {}.", known.kind, known.source),
            "      ",
            width,
        ));
    }
    text.push_str("\nSources\n");
    if preset.sources.is_empty() {
        text.push_str("  none: a policy of whimbrel's own\n");
    }
    for source in preset.sources {
        text.push_str(&wrap(&format!("{}: {} ({})", source.tag, source.what, source.version), "  ", width));
    }
    text
}

/// What is known about a preset, as JSON with stable names.
pub fn preset_json(preset: &PresetInfo) -> serde_json::Value {
    let parameters: Vec<_> = preset
        .parameters
        .iter()
        .map(|known| {
            serde_json::json!({
                "name": known.name,
                "default": known.default,
                "accepts": known.kind.describe(),
                "doc": known.doc,
                "source": known.source,
            })
        })
        .collect();
    let sources: Vec<_> = preset
        .sources
        .iter()
        .map(
            |source| serde_json::json!({ "tag": source.tag, "what": source.what, "version": source.version }),
        )
        .collect();
    serde_json::json!({
        "name": preset.name,
        "summary": preset.summary,
        "approximate": preset.approximate,
        "rule": preset.rule,
        "notes": preset.notes,
        "needs": needs(preset),
        "parameters": parameters,
        "sources": sources,
    })
}

#[cfg(test)]
mod tests;
