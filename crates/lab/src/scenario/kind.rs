//! What may be written for a key, and how it is read. Used by the table of keys, the check of scenarios
//! and the ranges of sweeps; messages about units are the core's own.

use serde_json::Value as Json;
use whimbrel_core::layout::PageSize;
use whimbrel_core::units::{Bandwidth, ByteCount, PageRate, Quantity, Share, duration};

use super::document::Value;

/// What may be written for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A size, `4GiB`.
    Bytes,
    /// A page size.
    PageSize,
    /// A rate of sending, `1Gbit/s`.
    Bandwidth,
    /// A length of time or a moment since the start of the migration, `300ms`.
    Duration,
    /// A share from 0 to 1, or in percent.
    Share,
    /// Page writes a second.
    Rate,
    /// A number.
    Number,
    /// A whole number from the first to the second.
    Count(u64, u64),
    /// `true` or `false`.
    Flag,
    /// One of these names.
    Choice(&'static [&'static str]),
    /// The name of a policy preset.
    Preset,
    /// The path of a file.
    File,
    /// Any name.
    Name,
    /// A name in one line that is shown to people.
    Label,
    /// A text or a number, which something else reads.
    Plain,
}

/// The unit in which the numbers of a swept key are plotted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub enum AxisUnit {
    /// No unit.
    #[serde(rename = "")]
    None,
    /// Bytes.
    #[serde(rename = "B")]
    Bytes,
    /// Bits a second.
    #[serde(rename = "bit/s")]
    BitsPerSecond,
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Pages a second.
    #[serde(rename = "pages/s")]
    PagesPerSecond,
}

impl AxisUnit {
    /// As printed beside an axis; empty for none.
    pub const fn label(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Bytes => "B",
            Self::BitsPerSecond => "bit/s",
            Self::Seconds => "s",
            Self::PagesPerSecond => "pages/s",
        }
    }
}

impl Kind {
    /// What is accepted, as a phrase.
    pub fn accepted(self) -> String {
        match self {
            Self::Bytes => Quantity::Bytes.accepted().to_owned(),
            Self::PageSize => "`4KiB`, `2MiB` or `1GiB`".to_owned(),
            Self::Bandwidth => Quantity::Bandwidth.accepted().to_owned(),
            Self::Duration => Quantity::Duration.accepted().to_owned(),
            Self::Share => Quantity::Share.accepted().to_owned(),
            Self::Rate => Quantity::PageRate.accepted().to_owned(),
            Self::Number => "a number such as `0.99`".to_owned(),
            Self::Count(least, most) => format!("a whole number from {least} to {most}"),
            Self::Flag => "`true` or `false`".to_owned(),
            Self::Choice(names) => {
                names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            }
            Self::Preset => "the name of a policy preset such as `qemu-default`".to_owned(),
            Self::File => "the path of a file as text".to_owned(),
            Self::Name => "a name as text such as `zstd`".to_owned(),
            Self::Label => format!("a name in one line of up to {LABEL} characters, such as `patient`"),
            Self::Plain => "a text or a number".to_owned(),
        }
    }

    /// The kind in a word, for the table of keys.
    pub fn word(self) -> String {
        match self {
            Self::Bytes => "size".to_owned(),
            Self::PageSize | Self::Choice(_) => self.accepted(),
            Self::Bandwidth => "bandwidth".to_owned(),
            Self::Duration => "duration".to_owned(),
            Self::Share => "share".to_owned(),
            Self::Rate => "pages/s".to_owned(),
            Self::Number => "number".to_owned(),
            Self::Count(..) => "whole number".to_owned(),
            Self::Flag => "flag".to_owned(),
            Self::Preset => "preset".to_owned(),
            Self::File => "file".to_owned(),
            Self::Name | Self::Label => "name".to_owned(),
            Self::Plain => "text or number".to_owned(),
        }
    }

    /// The unit of its numbers on an axis.
    pub fn unit(self) -> AxisUnit {
        match self {
            Self::Bytes | Self::PageSize => AxisUnit::Bytes,
            Self::Bandwidth => AxisUnit::BitsPerSecond,
            Self::Duration => AxisUnit::Seconds,
            Self::Rate => AxisUnit::PagesPerSecond,
            _ => AxisUnit::None,
        }
    }

    /// Reads a value into the form that the configuration's own deserializer takes.
    ///
    /// The error is a phrase with the value and what is accepted.
    pub(super) fn read(self, value: &Value) -> Result<Json, String> {
        let refuse = || format!("{} is not accepted; write {}", value.describe(), self.accepted());
        match (self, value) {
            (Self::Bytes, _) => self.unit_text(value, |text| Ok(text.parse::<ByteCount>()?.to_string())),
            (Self::Bandwidth, _) => self.unit_text(value, |text| Ok(text.parse::<Bandwidth>()?.to_string())),
            (Self::Duration, _) => self.unit_text(value, |text| Ok(duration::format(duration::parse(text)?))),
            (Self::PageSize, Value::Text(text)) => {
                let size = text.parse::<PageSize>().map_err(|error| error.to_string())?;
                Ok(Json::from(size.to_string()))
            }
            (Self::Share, Value::Text(text)) => {
                let share = text.parse::<Share>().map_err(|error| error.to_string())?;
                Ok(Json::from(share.as_f64()))
            }
            (Self::Share, _) => {
                let number = value.as_number().ok_or_else(refuse)?;
                let share = Share::new(number).map_err(|error| error.to_string())?;
                Ok(Json::from(share.as_f64()))
            }
            (Self::Rate, Value::Text(text)) => {
                let rate = text.parse::<PageRate>().map_err(|error| error.to_string())?;
                Ok(Json::from(rate.per_second()))
            }
            (Self::Rate, _) => {
                let number = value.as_number().ok_or_else(refuse)?;
                let rate = PageRate::new(number).map_err(|error| error.to_string())?;
                Ok(Json::from(rate.per_second()))
            }
            (Self::Number, _) => {
                let number = value.as_number().filter(|number| number.is_finite()).ok_or_else(refuse)?;
                Ok(Json::from(number))
            }
            (Self::Count(least, most), Value::Integer(number)) => {
                let count = u64::try_from(*number).ok().filter(|n| (least..=most).contains(n));
                count.map(Json::from).ok_or_else(refuse)
            }
            (Self::Flag, Value::Flag(flag)) => Ok(Json::from(*flag)),
            (Self::Choice(names), Value::Text(text)) if names.contains(&text.as_str()) => {
                Ok(Json::from(text.as_str()))
            }
            (Self::Plain, _) => value.as_plain().map(Json::from).ok_or_else(refuse),
            (Self::File, Value::Text(text)) if text.is_empty() => Err(refuse()),
            (Self::Label, Value::Text(text)) if is_label(text) => Ok(Json::from(text.as_str())),
            (Self::Preset | Self::Name | Self::File, Value::Text(text)) => Ok(Json::from(text.as_str())),
            _ => Err(refuse()),
        }
    }

    /// Reads a quantity that must have a unit. A bare number is read as text without one, so that the
    /// message says that the unit is what is missing.
    fn unit_text(
        self,
        value: &Value,
        read: impl FnOnce(&str) -> Result<String, whimbrel_core::units::UnitError>,
    ) -> Result<Json, String> {
        let text = match value {
            Value::Text(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            _ => {
                return Err(format!("{} is not accepted; write {}", value.describe(), self.accepted()));
            }
        };
        read(&text).map(Json::from).map_err(|error| error.to_string())
    }

    /// The value as a number in [`Kind::unit`]; none if it has none or cannot be read.
    pub(super) fn number(self, value: &Value) -> Option<f64> {
        match (self, value) {
            (Self::Bytes, Value::Text(text)) => text.parse::<ByteCount>().ok().map(ByteCount::as_f64),
            (Self::PageSize, Value::Text(text)) => {
                text.parse::<PageSize>().ok().map(|size| size.bytes().as_f64())
            }
            (Self::Bandwidth, Value::Text(text)) => {
                text.parse::<Bandwidth>().ok().map(|rate| rate.as_f64() * 8.0)
            }
            (Self::Duration, Value::Text(text)) => duration::parse(text).ok().map(|time| time.as_secs_f64()),
            (Self::Share | Self::Rate | Self::Number | Self::Count(..), _) => {
                self.read(value).ok().and_then(|json| json.as_f64())
            }
            _ => None,
        }
    }

    /// A number in [`Kind::unit`] as a value, rounded to four significant figures, sizes to whole MiB
    /// where they are large: what is printed is then exactly what was run, and short.
    pub(super) fn of_number(self, number: f64) -> Option<Value> {
        let rounded = significant(number);
        Some(match self {
            Self::Bytes => {
                let step = [(64_u64 << 20, 2_u64 << 20), (256 << 10, 4 << 10), (0, 1)]
                    .into_iter()
                    .find(|(from, _)| number >= *from as f64)
                    .map_or(1, |(_, step)| step);
                let steps = (number / step as f64).round() as u64;
                Value::Text(ByteCount(steps.saturating_mul(step)).to_string())
            }
            Self::Bandwidth => Value::Text(bits_per_second(rounded)),
            Self::Duration => {
                let nanos = (rounded * 1e9).round() as u64;
                Value::Text(duration::format(std::time::Duration::from_nanos(nanos)))
            }
            Self::Count(..) => Value::Integer(number.round() as i128),
            Self::Share | Self::Rate | Self::Number => Value::Float(rounded),
            _ => return None,
        })
    }
}

/// The longest name that is shown to people, in characters.
const LABEL: usize = 60;

fn is_label(text: &str) -> bool {
    let edge = |c: char| c.is_whitespace();
    let plain = text.chars().all(|c| !c.is_control()) && !text.starts_with(edge) && !text.ends_with(edge);
    !text.is_empty() && plain && text.chars().count() <= LABEL
}

/// `number` with four significant decimal figures.
fn significant(number: f64) -> f64 {
    format!("{number:.3e}").parse().unwrap_or(number)
}

/// A rate in bits a second as links are sold: `512.5Mbit/s`.
fn bits_per_second(bits: f64) -> String {
    let units = [(1e12, "Tbit/s"), (1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s")];
    let unit = units.into_iter().find(|(factor, _)| bits >= *factor);
    let (factor, name) = unit.unwrap_or((1.0, "bit/s"));
    format!("{}{name}", significant(bits / factor))
}
