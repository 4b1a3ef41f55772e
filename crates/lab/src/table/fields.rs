//! The fields of a record one after the other, written as JSON or as CSV with nothing in between: for rows by the
//! million.
//!
//! A record names its fields once, in their order ([`MigrationRecord::name_fields`](crate::result::MigrationRecord)),
//! and both formats follow from that. JSON is what serde makes of the same record, byte for byte; a number in CSV is
//! printed as Rust prints it.

use std::io::Write as _;

use super::csv;

/// Where fields go.
pub(crate) trait Fields {
    fn text(&mut self, name: &'static str, value: &str);
    fn whole(&mut self, name: &'static str, value: u64);
    fn flag(&mut self, name: &'static str, value: bool);
    /// None has no value, but a name.
    fn number(&mut self, name: &'static str, value: Option<f64>);
    /// How many there are of each of these.
    fn counts<'a>(&mut self, name: &'static str, counts: impl Iterator<Item = (&'a str, u64)>);
    /// What follows belongs together under this name.
    fn open(&mut self, name: &'static str);
    fn close(&mut self);
    /// So many fields are left out where names stand beside their values, and empty where they stand above.
    fn leave_out(&mut self, count: usize);
}

/// Fields of a JSON object. What is in `0` ends with a brace or a value.
pub(crate) struct Json<'a>(pub(crate) &'a mut Vec<u8>);

/// Fields of a CSV line, each with a comma behind it.
pub(crate) struct Csv<'a>(pub(crate) &'a mut Vec<u8>);

impl Json<'_> {
    /// Names of our own need no escapes.
    fn name(&mut self, name: &'static str) {
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }
}

/// Adds a value as JSON. Texts and numbers can always be written.
pub(crate) fn json(text: &mut Vec<u8>, value: impl serde::Serialize) {
    let written = serde_json::to_writer(text, &value);
    debug_assert!(written.is_ok(), "{written:?}");
}

impl Fields for Json<'_> {
    fn text(&mut self, name: &'static str, value: &str) {
        self.name(name);
        json(self.0, value);
    }

    fn whole(&mut self, name: &'static str, value: u64) {
        self.name(name);
        json(self.0, value);
    }

    fn flag(&mut self, name: &'static str, value: bool) {
        self.name(name);
        self.0.extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn number(&mut self, name: &'static str, value: Option<f64>) {
        self.name(name);
        json(self.0, value);
    }

    fn counts<'a>(&mut self, name: &'static str, counts: impl Iterator<Item = (&'a str, u64)>) {
        self.open(name);
        for (index, (what, count)) in counts.enumerate() {
            if index > 0 {
                self.0.push(b',');
            }
            json(self.0, what);
            self.0.push(b':');
            json(self.0, count);
        }
        self.close();
    }

    fn open(&mut self, name: &'static str) {
        self.name(name);
        self.0.push(b'{');
    }

    fn close(&mut self) {
        self.0.push(b'}');
    }

    fn leave_out(&mut self, _: usize) {}
}

impl Csv<'_> {
    /// Ends the line in place of the last comma.
    pub(crate) fn end_line(self) {
        self.0.pop_if(|last| *last == b',');
        self.0.push(b'\n');
    }
}

impl Fields for Csv<'_> {
    fn text(&mut self, _: &'static str, value: &str) {
        csv::field(self.0, value);
        self.0.push(b',');
    }

    fn whole(&mut self, _: &'static str, value: u64) {
        json(self.0, value);
        self.0.push(b',');
    }

    fn flag(&mut self, _: &'static str, value: bool) {
        self.0.extend_from_slice(if value { b"true," } else { b"false," });
    }

    fn number(&mut self, _: &'static str, value: Option<f64>) {
        if let Some(value) = value {
            number(self.0, value);
        }
        self.0.push(b',');
    }

    fn counts<'a>(&mut self, _: &'static str, counts: impl Iterator<Item = (&'a str, u64)>) {
        for (index, (what, count)) in counts.enumerate() {
            if index > 0 {
                self.0.push(b' ');
            }
            self.0.extend_from_slice(what.as_bytes());
            self.0.push(b'=');
            json(self.0, count);
        }
        self.0.push(b',');
    }

    fn open(&mut self, _: &'static str) {}

    fn close(&mut self) {}

    fn leave_out(&mut self, count: usize) {
        self.0.extend(std::iter::repeat_n(b',', count));
    }
}

/// Adds a number as Rust prints it: the shortest digits that read back to it, which JSON has as well and sooner. Where two
/// such lie equally near, the last digit is JSON's.
fn number(text: &mut Vec<u8>, value: f64) {
    let from = text.len();
    json(text, value);
    if text.ends_with(b".0") {
        text.truncate(text.len() - 2);
    } else if !value.is_finite() || text[from..].contains(&b'e') {
        text.truncate(from);
        // Into memory.
        let _ = write!(text, "{value}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::result::{MigrationRecord, NearThresholdRecord};
    use crate::table::tests::record;

    fn as_json(record: &MigrationRecord) -> String {
        let mut text = vec![b'{'];
        record.name_fields(&mut Json(&mut text));
        text.push(b'}');
        String::from_utf8(text).unwrap()
    }

    /// That `text` is `value` in as few digits as Rust needs, written as Rust writes it.
    fn shortest(text: &str, value: f64) -> bool {
        let printed = value.to_string();
        let (head, same) = (printed.len().saturating_sub(1), text.len() == printed.len());
        let read: f64 = text.parse().unwrap();
        same && (read.total_cmp(&value).is_eq() || read.is_nan() && value.is_nan())
            && text.as_bytes()[..head] == printed.as_bytes()[..head]
    }

    proptest! {
        /// Any number is printed as Rust prints it.
        #[test]
        fn a_number_is_printed_as_everywhere(
            value in prop_oneof![
                prop::num::f64::ANY,
                any::<i32>().prop_map(f64::from),
                (any::<u32>(), 0i32..40).prop_map(|(digits, by)| f64::from(digits) * 10f64.powi(by - 20)),
            ],
        ) {
            let mut text = Vec::new();
            number(&mut text, value);
            let text = String::from_utf8(text).unwrap();
            prop_assert!(shortest(&text, value), "{} is {}", text, value);
        }

        /// A row is what serde makes of the record, and the table's columns have its values.
        #[test]
        fn rows_are_their_records(
            numbers in prop::array::uniform4(prop::num::f64::ANY),
            count in any::<u64>(),
            why in "\\PC*|[a-c\",\n\r]{0,9}",
            near in any::<bool>(),
        ) {
            let near = near.then_some(NearThresholdRecord { round: 3, pending_pages: 7, deviations: numbers[3] });
            let mut record = MigrationRecord { why, near_threshold: near, sent_bytes: count, ..record() };
            (record.total_ms, record.downtime.restore_ms) = (numbers[0], numbers[1]);
            record.encoding.source_cpu_s = numbers[2];
            record.round.clear();
            prop_assert_eq!(as_json(&record), serde_json::to_string(&record).unwrap());
            let mut text = Vec::new();
            let mut line = Csv(&mut text);
            record.name_fields(&mut line);
            line.end_line();
            let mut quoted = Vec::new();
            csv::field(&mut quoted, &record.why);
            let text = String::from_utf8(text).unwrap();
            let rest = text.replacen(&*String::from_utf8_lossy(&quoted), "why", 1);
            let fields: Vec<&str> = rest.trim_end_matches('\n').split(',').collect();
            prop_assert_eq!(fields.len(), csv::MIGRATION.len());
            let at = |name| fields[csv::MIGRATION.iter().position(|column| *column == name).unwrap()];
            for (name, number) in [("total_ms", numbers[0]), ("downtime.restore_ms", numbers[1]), ("encoding.source_cpu_s", numbers[2])]
            {
                prop_assert!(shortest(at(name), number), "{} is {}", at(name), number);
            }
            prop_assert_eq!(at("sent_bytes"), count.to_string());
            let deviations = at("near_threshold.deviations");
            prop_assert!(if near.is_some() { shortest(deviations, numbers[3]) } else { deviations.is_empty() }, "{}", deviations);
        }
    }
}
