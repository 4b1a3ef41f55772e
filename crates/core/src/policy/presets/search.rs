//! How far a parameter may sensibly be moved: the range that a search for better values looks through.
//!
//! Used by whoever searches (the laboratory's tuning) and by lists of parameters. A range follows from what
//! the parameter is and from its default, by the rules of [`ParameterInfo::search`], so that a new preset
//! has ranges without writing any; nothing here says that another value is better.

use std::time::Duration;

use super::parameters::{ParameterInfo, ParameterKind, Value};
use crate::units::{Bandwidth, ByteCount, Pages, Share, duration};

/// A range of a parameter, or the words it may be. Numbers are in the units of [`ParameterKind::number`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Search {
    /// Numbers from the first to the second.
    Range {
        /// The least.
        from: f64,
        /// The most.
        to: f64,
        /// How steps grow on the way.
        scale: Scale,
    },
    /// One of these words.
    Words(Vec<&'static str>),
}

/// How steps through a range grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scale {
    /// By equal differences.
    Linear,
    /// By equal factors.
    Log,
    /// By equal factors of the odds `x / (1 - x)`, for shares: 0.1 % to 1 % is as far as 99 % to 99.9 %.
    Odds,
}

/// By what a quantity with a dimension (a time, a size, a bandwidth) may differ from its default.
const FAR: f64 = 10.0;
/// By what a pure number (a count, a factor) may: most of these are small.
const NEAR: f64 = 4.0;

impl ParameterInfo {
    /// The range to look for better values in; none if the default gives none: it is a word (a permission
    /// or a fact, which is the user's to say), switches something off, or is a whole share.
    ///
    /// * Times, sizes, pages and bandwidths: a tenth to ten times the default, by equal factors.
    /// * Counts and factors: a quarter to four times the default, by equal factors; a count at least 1.
    /// * Shares: a tenth to ten times the default's odds, by equal factors of the odds.
    ///
    /// What the kind does not accept is cut off.
    pub fn search(&self) -> Option<Search> {
        let default = self.kind.number(self.kind.parse(self.default).ok()?)?;
        let around = |factor: f64, least: f64| Search::Range {
            from: (default / factor).max(least),
            to: (default * factor).min(self.kind.most()),
            scale: Scale::Log,
        };
        match self.kind {
            _ if default <= 0.0 => None,
            ParameterKind::Share if default >= 1.0 => None,
            ParameterKind::Share => {
                let odds = default / (1.0 - default);
                let share = |odds: f64| odds / (1.0 + odds);
                Some(Search::Range { from: share(odds / FAR), to: share(odds * FAR), scale: Scale::Odds })
            }
            ParameterKind::Factor => Some(around(NEAR, 0.0)),
            ParameterKind::Count | ParameterKind::OptionalCount { .. } => Some(around(NEAR, 1.0)),
            ParameterKind::Pages | ParameterKind::Bytes => Some(around(FAR, 1.0)),
            _ => Some(around(FAR, 0.0)),
        }
    }
}

impl ParameterKind {
    /// The number that a value is: seconds, pages, bytes, bytes a second, a share from 0 to 1, a count or a
    /// factor. None of a word, also of one for having none.
    pub fn number(self, value: Value) -> Option<f64> {
        Some(match value {
            Value::Duration(time) | Value::OptionalDuration(Some(time)) => time.as_secs_f64(),
            Value::Pages(pages) => pages.0 as f64,
            Value::Bytes(bytes) => bytes.0 as f64,
            Value::Count(count) | Value::OptionalCount(Some(count)) => count.into(),
            Value::Bandwidth(rate) | Value::OptionalBandwidth(Some(rate)) => rate.as_f64(),
            Value::Share(share) => share.as_f64(),
            Value::Factor(factor) => factor,
            _ => return None,
        })
    }

    /// The text of the value that is nearest to `number`, of at most three significant digits where the
    /// kind has fractions; [`number`](Self::number) of what it parses to. A choice has no numbers: none.
    pub fn text(self, number: f64) -> Option<String> {
        let number = if number.is_finite() { number.clamp(0.0, self.most()) } else { return None };
        let rounded = three_digits(number);
        Some(match self {
            Self::Duration { .. } | Self::OptionalDuration { .. } => {
                duration::format(Duration::try_from_secs_f64(rounded).ok()?)
            }
            Self::Pages => Pages(rounded.round() as u64).to_string(),
            Self::Bytes => ByteCount(rounded.round() as u64).to_string(),
            Self::Count | Self::OptionalCount { .. } => (number.round() as u32).to_string(),
            // Rates are named in bits.
            Self::Bandwidth | Self::OptionalBandwidth { .. } => {
                Bandwidth::new((three_digits(number * 8.0) / 8.0).round() as u64)?.to_string()
            }
            Self::Share => Share::new(rounded).ok()?.to_string(),
            Self::Factor => rounded.to_string(),
            Self::Choice(_) => return None,
        })
    }

    /// The most that is accepted, and where nothing says so, that means anything.
    fn most(self) -> f64 {
        match self {
            Self::Duration { most: Some(most) } => most.as_secs_f64(),
            // A century.
            Self::Duration { most: None } | Self::OptionalDuration { .. } => 3.2e9,
            Self::Share => 1.0,
            Self::Count | Self::OptionalCount { .. } => u32::MAX.into(),
            // An exabyte, in whatever unit.
            _ => 1e18,
        }
    }
}

/// `value` in three significant digits; as people write numbers that they choose.
fn three_digits(value: f64) -> f64 {
    // Through decimal text, so that 0.3 is 0.3 and not its neighbour.
    format!("{value:.2e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::presets::{self, presets};

    fn range(preset: &str, parameter: &str) -> (f64, f64, Scale) {
        let info = presets::find(preset).and_then(|preset| preset.parameter(parameter)).expect("a parameter");
        match info.search() {
            Some(Search::Range { from, to, scale }) => (from, to, scale),
            other => panic!("{parameter}: {other:?}"),
        }
    }

    #[test]
    fn ranges_follow_from_the_kind_and_the_default() {
        assert_eq!(range("kubevirt-stall", "stall-window"), (4.0, 400.0, Scale::Log));
        assert_eq!(range("kubevirt-stall", "soft-factor"), (0.375, 6.0, Scale::Log));
        assert_eq!(range("xen-5", "max-iterations"), (1.25, 20.0, Scale::Log));
        let (from, to, scale) = range("kubevirt-stall", "stall-margin");
        assert!((from - 0.0041).abs() < 1e-4 && (to - 0.294).abs() < 1e-3, "{from} {to}");
        assert_eq!(scale, Scale::Odds);
    }

    #[test]
    fn a_range_ends_where_the_kind_does() {
        let kind = ParameterKind::Duration { most: Some(Duration::from_secs(2)) };
        let info = ParameterInfo { name: "limit", kind, default: "1s", doc: "", source: "ours" };
        assert_eq!(info.search(), Some(Search::Range { from: 0.1, to: 2.0, scale: Scale::Log }));
    }

    #[test]
    fn permissions_facts_and_what_is_off_have_no_range() {
        for (preset, parameter) in [
            ("kubevirt-stall", "allow-post-copy"),
            ("kubevirt-stall", "max-bandwidth"),
            ("nova", "copied-disks"),
            ("criu-phaul", "max-growth-pages"),
        ] {
            let info = presets::find(preset).and_then(|preset| preset.parameter(parameter));
            assert_eq!(info.expect("a parameter").search(), None, "{parameter}");
        }
    }

    #[test]
    fn every_range_contains_the_default_and_its_ends_are_accepted() {
        let mut ranges = 0;
        for parameter in presets().iter().flat_map(|preset| preset.parameters) {
            let Some(Search::Range { from, to, .. }) = parameter.search() else { continue };
            ranges += 1;
            let kind = parameter.kind;
            let default = kind.number(kind.parse(parameter.default).expect("a default")).expect("a number");
            assert!(from < default && default <= to, "{}: {from}..{to}", parameter.name);
            for end in [from, to, default] {
                let text = kind.text(end).expect("a text");
                let value = kind.parse(&text).unwrap_or_else(|_| panic!("{}: {text}", parameter.name));
                let number = kind.number(value).expect("a number");
                let off = (number - end).abs();
                assert!(off <= 0.005 * end || off <= 0.5, "{}: {end} became {text}", parameter.name);
            }
        }
        assert!(ranges > 30, "{ranges}");
    }

    #[test]
    fn texts_have_three_significant_digits() {
        assert_eq!(ParameterKind::Duration { most: None }.text(0.123_456).as_deref(), Some("123ms"));
        assert_eq!(ParameterKind::Share.text(0.043_21).as_deref(), Some("4.32%"));
        assert_eq!(ParameterKind::Factor.text(2.0 / 3.0).as_deref(), Some("0.667"));
        assert_eq!(ParameterKind::Count.text(7.4).as_deref(), Some("7"));
        assert_eq!(ParameterKind::Factor.text(f64::NAN), None);
    }
}
