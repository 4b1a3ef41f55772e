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
    let mut line = Vec::new();
    for (index, one) in fields.into_iter().enumerate() {
        if index > 0 {
            line.push(b',');
        }
        field(&mut line, one.as_ref());
    }
    line.push(b'\n');
    // Made of whole texts.
    text.push_str(&String::from_utf8_lossy(&line));
}

/// Adds a field, in quotes if it needs them.
pub(crate) fn field(line: &mut Vec<u8>, field: &str) {
    if field.contains(['"', ',', '\n', '\r']) {
        line.push(b'"');
        line.extend_from_slice(field.replace('"', "\"\"").as_bytes());
        line.push(b'"');
    } else {
        line.extend_from_slice(field.as_bytes());
    }
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
        assert_eq!(round(&record.round[0]).len(), ROUND.len());
    }

    #[test]
    fn a_field_with_a_separator_is_quoted() {
        let mut text = String::new();
        line(&mut text, ["a", "b,c", "d\"e", ""]);
        assert_eq!(text, "a,\"b,c\",\"d\"\"e\",\n");
    }
}
