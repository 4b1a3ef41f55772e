//! Records as comma-separated values: RFC 4180 quoting, lines ended by a line feed, empty for none.
//!
//! Column names are the dotted JSON names; a test holds the two together.

use crate::result::{MigrationRecord, RoundRecord};

/// The columns of a migration.
pub const MIGRATION: &[&str] = &[
    "schema",
    "outcome",
    "converged",
    "why",
    "seed",
    "total_ms",
    "downtime_ms",
    "unreachable_ms",
    "paused_in_vain_ms",
    "sent_bytes",
    "rounds",
    "amplification",
    "disruption_vcpu_s",
    "disruption.throttle_vcpu_s",
    "disruption.pause_vcpu_s",
    "disruption.post_copy_vcpu_s",
    "disruption.tracking_faults_vcpu_s",
    "downtime.pause_ms",
    "downtime.held_ms",
    "downtime.harvest_ms",
    "downtime.last_pages_ms",
    "downtime.save_ms",
    "downtime.transfer_ms",
    "downtime.restore_ms",
    "downtime.commit_ms",
    "downtime.resume_ms",
    "downtime.first_pages_ms",
    "post_copy.length_ms",
    "post_copy.missing_pages",
    "post_copy.requests",
    "unchanged_pages",
    "encoding.encoded_pages",
    "encoding.encoded_bytes",
    "encoding.cache_misses",
    "encoding.overflow_pages",
    "encoding.source_cpu_s",
    "near_threshold.round",
    "near_threshold.pending_pages",
    "near_threshold.deviations",
];

/// The columns of a round.
pub const ROUND: &[&str] = &[
    "round",
    "paused",
    "post_copy",
    "started_ms",
    "length_ms",
    "dirtied_pages",
    "left_over_pages",
    "pending_pages",
    "sent_pages",
    "zero_pages",
    "sent_bytes",
    "dirty_pages_per_s",
    "bandwidth_bytes_per_s",
    "throttle",
    "throttled",
    "decision",
    "reason",
    "progress",
    "eta.remaining_ms",
    "eta.low_ms",
    "eta.high_ms",
];

/// The fields of a migration, as [`MIGRATION`] names them.
pub fn migration(record: &MigrationRecord) -> Vec<String> {
    let (lost, ledger, encoding) = (&record.disruption, &record.downtime, &record.encoding);
    let near = record.near_threshold.as_ref();
    vec![
        record.schema.to_string(),
        record.outcome.to_owned(),
        record.converged.to_string(),
        record.why.clone(),
        record.seed.to_string(),
        record.total_ms.to_string(),
        record.downtime_ms.to_string(),
        record.unreachable_ms.to_string(),
        record.paused_in_vain_ms.to_string(),
        record.sent_bytes.to_string(),
        record.rounds.to_string(),
        record.amplification.to_string(),
        record.disruption_vcpu_s.to_string(),
        lost.throttle_vcpu_s.to_string(),
        lost.pause_vcpu_s.to_string(),
        lost.post_copy_vcpu_s.to_string(),
        lost.tracking_faults_vcpu_s.to_string(),
        ledger.pause_ms.to_string(),
        ledger.held_ms.to_string(),
        ledger.harvest_ms.to_string(),
        ledger.last_pages_ms.to_string(),
        ledger.save_ms.to_string(),
        ledger.transfer_ms.to_string(),
        ledger.restore_ms.to_string(),
        ledger.commit_ms.to_string(),
        ledger.resume_ms.to_string(),
        ledger.first_pages_ms.to_string(),
        record.post_copy.length_ms.to_string(),
        record.post_copy.missing_pages.to_string(),
        record.post_copy.requests.to_string(),
        record.unchanged_pages.to_string(),
        encoding.encoded_pages.to_string(),
        encoding.encoded_bytes.to_string(),
        encoding.cache_misses.to_string(),
        encoding.overflow_pages.to_string(),
        encoding.source_cpu_s.to_string(),
        optional(near.map(|near| near.round)),
        optional(near.map(|near| near.pending_pages)),
        optional(near.map(|near| near.deviations)),
    ]
}

/// The fields of a round, as [`ROUND`] names them.
pub fn round(round: &RoundRecord) -> Vec<String> {
    let eta = round.eta.as_ref();
    vec![
        round.round.to_string(),
        round.paused.to_string(),
        round.post_copy.to_string(),
        round.started_ms.to_string(),
        round.length_ms.to_string(),
        round.dirtied_pages.to_string(),
        round.left_over_pages.to_string(),
        round.pending_pages.to_string(),
        round.sent_pages.to_string(),
        round.zero_pages.to_string(),
        round.sent_bytes.to_string(),
        optional(round.dirty_pages_per_s),
        optional(round.bandwidth_bytes_per_s),
        round.throttle.to_string(),
        optional(round.throttled.as_ref()),
        optional(round.decision),
        optional(round.reason.as_ref()),
        optional(round.progress),
        optional(eta.and_then(|eta| eta.remaining_ms)),
        optional(eta.map(|eta| eta.low_ms)),
        optional(eta.and_then(|eta| eta.high_ms)),
    ]
}

fn optional<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// The rounds of a migration as a table with a line of names.
pub fn rounds(record: &MigrationRecord) -> String {
    let mut text = String::new();
    line(&mut text, ROUND);
    for one in &record.round {
        line(&mut text, round(one));
    }
    text
}

/// Adds a line.
pub fn line<T: AsRef<str>>(text: &mut String, fields: impl IntoIterator<Item = T>) {
    for (index, field) in fields.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        let field = field.as_ref();
        if field.contains(['"', ',', '\n', '\r']) {
            text.push('"');
            text.push_str(&field.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(field);
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::table::tests::record;

    /// The names of a JSON object, dotted, with those of the objects in it.
    fn names(json: &serde_json::Value, before: &str, into: &mut BTreeSet<String>) {
        for (key, value) in json.as_object().into_iter().flatten() {
            match value {
                serde_json::Value::Object(_) => names(value, &format!("{before}{key}."), into),
                serde_json::Value::Array(_) => {}
                _ => drop(into.insert(format!("{before}{key}"))),
            }
        }
    }

    #[test]
    fn csv_columns_are_the_json_names() {
        let record = record();
        let mut json = BTreeSet::new();
        names(&serde_json::to_value(&record).expect("JSON"), "", &mut json);
        assert_eq!(MIGRATION.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), json);
        let mut json = BTreeSet::new();
        names(&serde_json::to_value(&record.round[0]).expect("JSON"), "", &mut json);
        assert_eq!(ROUND.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), json);
        assert_eq!(migration(&record).len(), MIGRATION.len());
        assert_eq!(round(&record.round[0]).len(), ROUND.len());
    }

    #[test]
    fn a_field_with_a_separator_is_quoted() {
        let mut text = String::new();
        line(&mut text, ["a", "b,c", "d\"e", ""]);
        assert_eq!(text, "a,\"b,c\",\"d\"\"e\",\n");
    }
}
