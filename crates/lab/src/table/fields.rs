//! The fields of a record one after the other, written as JSON or as CSV with nothing in between: for rows by the
//! million.
//!
//! A record names its fields once, in their order ([`MigrationRecord::name_fields`](crate::result::MigrationRecord)),
//! and both formats follow from that. JSON is what serde makes of the same record, byte for byte; a number in CSV is
//! printed as Rust prints it.

use std::io::Write as _;

use super::csv;

/// The name of a field; made by [`name!`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name {
    /// As it stands in a JSON object behind another field: a row is written sooner with as few pieces as can be.
    json: &'static str,
}

impl Name {
    /// Of a text that is a comma, the name in quotes and a colon.
    pub(crate) const fn of(json: &'static str) -> Self {
        Self { json }
    }
}

/// A [`Name`] from a literal that needs no escapes.
macro_rules! name {
    ($name:literal) => {
        $crate::table::fields::Name::of(concat!(",\"", $name, "\":"))
    };
}
pub(crate) use name;

/// Where fields go.
pub(crate) trait Fields {
    fn text(&mut self, name: Name, value: &str);
    fn whole(&mut self, name: Name, value: u64);
    fn flag(&mut self, name: Name, value: bool);
    /// None has no value, but a name.
    fn number(&mut self, name: Name, value: Option<f64>);
    /// The value of the field before it once more.
    fn again(&mut self, name: Name);
    /// How many there are of each of these.
    fn counts<'a>(&mut self, name: Name, counts: impl Iterator<Item = (&'a str, u64)>);
    /// What follows belongs together under this name.
    fn open(&mut self, name: Name);
    fn close(&mut self);
    /// So many fields are left out where names stand beside their values, and empty where they stand above.
    fn leave_out(&mut self, count: usize);
}

/// Fields of a JSON object. What is in `0` ends with a brace or a value.
pub(crate) struct Json<'a>(pub(crate) &'a mut Vec<u8>);

/// Fields of a CSV line, each with a comma behind it.
pub(crate) struct Csv<'a>(pub(crate) &'a mut Vec<u8>);

impl Json<'_> {
    #[inline]
    fn name(&mut self, name: Name) {
        let text = name.json.as_bytes();
        // In two branches, so that each copies a length that is known beforehand.
        if self.0.last() == Some(&b'{') {
            self.0.extend_from_slice(&text[1..]);
        } else {
            self.0.extend_from_slice(text);
        }
    }
}

/// Adds a value as JSON. Texts and numbers can always be written.
pub(crate) fn json(text: &mut Vec<u8>, value: impl serde::Serialize) {
    let written = serde_json::to_writer(text, &value);
    debug_assert!(written.is_ok(), "{written:?}");
}

/// Where what follows the last of these bytes begins.
fn behind_last(text: &[u8], byte: u8) -> usize {
    text.iter().rposition(|other| *other == byte).map_or(0, |at| at + 1)
}

/// Adds a text as JSON; most need no escapes.
fn json_text(text: &mut Vec<u8>, value: &str) {
    let escaped = |byte: &u8| *byte < b' ' || matches!(*byte, b'"' | b'\\');
    // All of them, and not up to the first: so they are looked at many at a time.
    if value.as_bytes().iter().filter(|byte| escaped(byte)).count() > 0 {
        json(text, value);
        return;
    }
    text.push(b'"');
    text.extend_from_slice(value.as_bytes());
    text.push(b'"');
}

/// Adds a number as JSON. Most of a record's numbers are whole, nothing above all.
#[inline]
fn json_number(text: &mut Vec<u8>, value: f64) {
    let whole = value as u64;
    // Bit by bit: nothing may have a sign. Beyond this not every whole number is one, and larger ones have exponents.
    if whole >= 1 << f64::MANTISSA_DIGITS || (whole as f64).to_bits() != value.to_bits() {
        json(text, value);
        return;
    }
    if whole < 10 {
        text.extend_from_slice(&[b'0' + whole as u8, b'.', b'0']);
    } else {
        json(text, whole);
        text.extend_from_slice(b".0");
    }
}

impl Fields for Json<'_> {
    #[inline]
    fn text(&mut self, name: Name, value: &str) {
        self.name(name);
        json_text(self.0, value);
    }

    #[inline]
    fn whole(&mut self, name: Name, value: u64) {
        self.name(name);
        json(self.0, value);
    }

    #[inline]
    fn flag(&mut self, name: Name, value: bool) {
        self.name(name);
        self.0.extend_from_slice(if value { b"true" } else { b"false" });
    }

    #[inline]
    fn number(&mut self, name: Name, value: Option<f64>) {
        self.name(name);
        match value {
            Some(value) => json_number(self.0, value),
            None => self.0.extend_from_slice(b"null"),
        }
    }

    fn again(&mut self, name: Name) {
        let from = behind_last(self.0, b':')..self.0.len();
        self.name(name);
        self.0.extend_from_within(from);
    }

    fn counts<'a>(&mut self, name: Name, counts: impl Iterator<Item = (&'a str, u64)>) {
        self.open(name);
        for (index, (what, count)) in counts.enumerate() {
            if index > 0 {
                self.0.push(b',');
            }
            json_text(self.0, what);
            self.0.push(b':');
            json(self.0, count);
        }
        self.close();
    }

    #[inline]
    fn open(&mut self, name: Name) {
        self.name(name);
        self.0.push(b'{');
    }

    #[inline]
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
    fn text(&mut self, _: Name, value: &str) {
        csv::field(self.0, value);
        self.0.push(b',');
    }

    fn whole(&mut self, _: Name, value: u64) {
        json(self.0, value);
        self.0.push(b',');
    }

    fn flag(&mut self, _: Name, value: bool) {
        self.0.extend_from_slice(if value { b"true," } else { b"false," });
    }

    fn number(&mut self, _: Name, value: Option<f64>) {
        if let Some(value) = value {
            number(self.0, value);
        }
        self.0.push(b',');
    }

    fn again(&mut self, _: Name) {
        let end = self.0.len().saturating_sub(1);
        let from = behind_last(&self.0[..end], b',');
        self.0.extend_from_within(from..);
    }

    fn counts<'a>(&mut self, _: Name, counts: impl Iterator<Item = (&'a str, u64)>) {
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

    fn open(&mut self, _: Name) {}

    fn close(&mut self) {}

    fn leave_out(&mut self, count: usize) {
        self.0.extend(std::iter::repeat_n(b',', count));
    }
}

/// Adds a number as Rust prints it: the shortest digits that read back to it, which JSON has as well and sooner. Where two
/// such lie equally near, the last digit is JSON's.
fn number(text: &mut Vec<u8>, value: f64) {
    let from = text.len();
    json_number(text, value);
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
            record.encoding.source_cpu_s = Some(numbers[2]);
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
