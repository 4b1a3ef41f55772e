//! Parameters of presets: what they accept, and how their texts become values.
//!
//! Used by the presets' builders and by whoever lists parameters for people. Must never panic on
//! what a user wrote, and must name in every refusal the preset, the parameter and what is accepted.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{PRESETS, PresetInfo, nearest_name};
use crate::policy::{ChangeError, Policy};
use crate::units::{self, Bandwidth, ByteCount, Pages, Share, UnitError, duration};

/// What is known about a parameter of a preset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParameterInfo {
    /// Its name in scenario files.
    pub name: &'static str,
    /// What it accepts.
    pub kind: ParameterKind,
    /// Its default, as it would be written.
    pub default: &'static str,
    /// What it does, in a sentence or two.
    pub doc: &'static str,
    /// Where the default comes from: a [`Source`](super::Source) by its tag, or `ours`.
    pub source: &'static str,
}

/// What a parameter accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParameterKind {
    /// A length of time.
    Duration {
        /// The longest that is accepted; none: any.
        most: Option<Duration>,
    },
    /// A number of pages.
    Pages,
    /// A size in bytes.
    Bytes,
    /// A number of something, of rounds mostly.
    Count,
    /// A bandwidth, or a word for having none.
    OptionalBandwidth {
        /// The word.
        none: &'static str,
    },
    /// A share from 0 to 1, written as one or in per cent.
    Share,
    /// A factor: a number that is finite and not negative.
    Factor,
    /// A bandwidth.
    Bandwidth,
    /// A length of time, or a word for having none.
    OptionalDuration {
        /// The word.
        none: &'static str,
    },
    /// A number of something, or a word for having none.
    OptionalCount {
        /// The word.
        none: &'static str,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// A parameter's value.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Of [`ParameterKind::Duration`].
    Duration(Duration),
    /// Of [`ParameterKind::Pages`].
    Pages(Pages),
    /// Of [`ParameterKind::Bytes`].
    Bytes(ByteCount),
    /// Of [`ParameterKind::Count`].
    Count(u32),
    /// Of [`ParameterKind::OptionalBandwidth`].
    OptionalBandwidth(Option<Bandwidth>),
    /// Of [`ParameterKind::Share`].
    Share(Share),
    /// Of [`ParameterKind::Factor`].
    Factor(f64),
    /// Of [`ParameterKind::Bandwidth`].
    Bandwidth(Bandwidth),
    /// Of [`ParameterKind::OptionalDuration`].
    OptionalDuration(Option<Duration>),
    /// Of [`ParameterKind::OptionalCount`].
    OptionalCount(Option<u32>),
    /// Of [`ParameterKind::Choice`].
    Choice(&'static str),
}

impl ParameterKind {
    /// What is accepted, as a phrase for people.
    pub fn describe(self) -> String {
        use units::Quantity;
        match self {
            Self::Duration { most } => {
                let accepted = Quantity::Duration.accepted();
                let most = most.map(|most| format!(", at most {}", duration::format(most)));
                format!("a duration such as {accepted}{}", most.unwrap_or_default())
            }
            Self::Pages => format!("a number of pages such as {}", Quantity::Pages.accepted()),
            Self::Bytes => format!("a size such as {}", Quantity::Bytes.accepted()),
            Self::Count => format!("a whole number from 0 to {}", u32::MAX),
            Self::OptionalBandwidth { none } => {
                format!("a bandwidth such as {}, or `{none}`", Quantity::Bandwidth.accepted())
            }
            Self::Share => "a share such as 0.2 or 20%".to_owned(),
            Self::Factor => "a number such as 0.4 or 1.5, not negative".to_owned(),
            Self::Bandwidth => format!("a bandwidth such as {}", Quantity::Bandwidth.accepted()),
            Self::OptionalDuration { none } => {
                format!("a duration such as {}, or `{none}`", Quantity::Duration.accepted())
            }
            Self::OptionalCount { none } => format!("a whole number from 0 to {}, or `{none}`", u32::MAX),
            Self::Choice(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                words.join(" or ")
            }
        }
    }

    /// Reads a value.
    ///
    /// # Errors
    ///
    /// Why the text is not a value of this kind; none if [`describe`](Self::describe) says it all.
    pub fn parse(self, text: &str) -> Result<Value, Option<UnitError>> {
        let text = text.trim();
        Ok(match self {
            Self::Duration { most } => {
                let value = duration::parse(text)?;
                if most.is_some_and(|most| value > most) {
                    return Err(None);
                }
                Value::Duration(value)
            }
            Self::Pages => Value::Pages(text.parse()?),
            Self::Bytes => Value::Bytes(text.parse()?),
            Self::Count => Value::Count(text.parse().map_err(|_| None)?),
            Self::OptionalBandwidth { none } if text == none => Value::OptionalBandwidth(None),
            Self::OptionalBandwidth { .. } => Value::OptionalBandwidth(Some(text.parse()?)),
            Self::Share => Value::Share(text.parse()?),
            Self::Factor => {
                let value: f64 = text.parse().map_err(|_| None)?;
                if !value.is_finite() || value < 0.0 {
                    return Err(None);
                }
                // Minus zero is zero.
                Value::Factor(value.abs())
            }
            Self::Bandwidth => Value::Bandwidth(text.parse()?),
            Self::OptionalDuration { none } if text == none => Value::OptionalDuration(None),
            Self::OptionalDuration { .. } => Value::OptionalDuration(Some(duration::parse(text)?)),
            Self::OptionalCount { none } if text == none => Value::OptionalCount(None),
            Self::OptionalCount { .. } => Value::OptionalCount(Some(text.parse().map_err(|_| None)?)),
            Self::Choice(words) => Value::Choice(words.iter().find(|&&word| word == text).ok_or(None)?),
        })
    }
}

impl fmt::Display for ParameterKind {
    /// As [`ParameterKind::describe`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.describe())
    }
}

/// Why a preset was not built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PresetError {
    /// There is no such preset.
    #[error("unknown preset `{}`; {}", short(preset), hint(*nearest, PRESETS.iter().map(|p| p.name)))]
    UnknownPreset {
        /// The name as given.
        preset: String,
        /// The name that was most likely meant.
        nearest: Option<&'static str>,
    },
    /// The preset has no such parameter.
    #[error(
        "preset `{preset}` has no parameter `{}`; {}",
        short(parameter),
        hint(*nearest, known.iter().copied())
    )]
    UnknownParameter {
        /// The preset.
        preset: &'static str,
        /// The parameter's name as given.
        parameter: String,
        /// The name that was most likely meant.
        nearest: Option<&'static str>,
        /// The preset's parameters.
        known: Vec<&'static str>,
    },
    /// The parameter does not take this value.
    #[error("preset `{preset}`: `{parameter}` cannot be `{}`{}: expected {accepted}", short(value), why(reason.as_ref()))]
    InvalidValue {
        /// The preset.
        preset: &'static str,
        /// The parameter.
        parameter: &'static str,
        /// The value as given.
        value: String,
        /// What it takes.
        accepted: String,
        /// What is wrong with the value, if more is known. The message has its fault; what is accepted is the parameter's to
        /// say.
        reason: Option<UnitError>,
    },
}

/// The fault behind a value, in brackets.
fn why(reason: Option<&UnitError>) -> String {
    reason.map_or_else(String::new, |reason| format!(" ({})", reason.fault()))
}

/// No more of a text than fits into a message on one line.
fn short(text: &str) -> String {
    const MOST: usize = 60;
    let mut cut: String = text.chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MOST).is_some() {
        cut.push('…');
    }
    cut
}

fn hint<'a>(nearest: Option<&str>, known: impl Iterator<Item = &'a str>) -> String {
    match nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("known are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// The parameters of one preset, as given and else by default. Builders read from it.
pub(super) struct Given<'a> {
    preset: &'a PresetInfo,
    texts: &'a BTreeMap<String, String>,
}

impl<'a> Given<'a> {
    /// Parameters for `preset`.
    ///
    /// # Errors
    ///
    /// [`PresetError::UnknownParameter`] if one of them is not the preset's.
    pub(super) fn new(
        preset: &'a PresetInfo,
        texts: &'a BTreeMap<String, String>,
    ) -> Result<Self, PresetError> {
        match texts.keys().find(|name| preset.parameter(name).is_none()) {
            Some(unknown) => Err(Self::unknown(preset, unknown)),
            None => Ok(Self { preset, texts }),
        }
    }

    fn unknown(preset: &PresetInfo, parameter: &str) -> PresetError {
        let known: Vec<_> = preset.parameters.iter().map(|known| known.name).collect();
        PresetError::UnknownParameter {
            preset: preset.name,
            parameter: parameter.to_owned(),
            nearest: nearest_name(parameter, known.iter().copied()),
            known,
        }
    }

    /// The value of `name`, if it is of the kind that `pick` takes.
    fn value<T>(&self, name: &str, pick: fn(Value) -> Option<T>) -> Result<T, PresetError> {
        let Some(info) = self.preset.parameter(name) else {
            return Err(Self::unknown(self.preset, name));
        };
        let text = self.texts.get(name).map_or(info.default, String::as_str);
        let refused = |reason| PresetError::InvalidValue {
            preset: self.preset.name,
            parameter: info.name,
            value: text.to_owned(),
            accepted: info.kind.describe(),
            reason,
        };
        info.kind.parse(text).map_err(refused).and_then(|value| pick(value).ok_or_else(|| refused(None)))
    }

    pub(super) fn duration(&self, name: &str) -> Result<Duration, PresetError> {
        self.value(name, |value| if let Value::Duration(x) = value { Some(x) } else { None })
    }

    pub(super) fn pages(&self, name: &str) -> Result<Pages, PresetError> {
        self.value(name, |value| if let Value::Pages(x) = value { Some(x) } else { None })
    }

    pub(super) fn bytes(&self, name: &str) -> Result<ByteCount, PresetError> {
        self.value(name, |value| if let Value::Bytes(x) = value { Some(x) } else { None })
    }

    pub(super) fn count(&self, name: &str) -> Result<u32, PresetError> {
        self.value(name, |value| if let Value::Count(x) = value { Some(x) } else { None })
    }

    pub(super) fn optional_bandwidth(&self, name: &str) -> Result<Option<Bandwidth>, PresetError> {
        self.value(name, |value| if let Value::OptionalBandwidth(x) = value { Some(x) } else { None })
    }

    pub(super) fn share(&self, name: &str) -> Result<Share, PresetError> {
        self.value(name, |value| if let Value::Share(x) = value { Some(x) } else { None })
    }

    pub(super) fn factor(&self, name: &str) -> Result<f64, PresetError> {
        self.value(name, |value| if let Value::Factor(x) = value { Some(x) } else { None })
    }

    pub(super) fn bandwidth(&self, name: &str) -> Result<Bandwidth, PresetError> {
        self.value(name, |value| if let Value::Bandwidth(x) = value { Some(x) } else { None })
    }

    pub(super) fn optional_duration(&self, name: &str) -> Result<Option<Duration>, PresetError> {
        self.value(name, |value| if let Value::OptionalDuration(x) = value { Some(x) } else { None })
    }

    pub(super) fn optional_count(&self, name: &str) -> Result<Option<u32>, PresetError> {
        self.value(name, |value| if let Value::OptionalCount(x) = value { Some(x) } else { None })
    }

    /// Of a choice between `on` and `off`.
    pub(super) fn switch(&self, name: &str) -> Result<bool, PresetError> {
        Ok(self.choice(name)? == "on")
    }

    pub(super) fn choice(&self, name: &str) -> Result<&'static str, PresetError> {
        self.value(name, |value| if let Value::Choice(x) = value { Some(x) } else { None })
    }
}

/// The text of a switch, as [`Given::switch`] reads it.
pub(super) fn on_off(on: bool) -> String {
    if on { "on" } else { "off" }.to_owned()
}

/// The longest downtime limit that QEMU accepts.
pub(super) const LONGEST_LIMIT: Duration = Duration::from_secs(2_000);

/// The word for no cap of the sending rate.
pub(super) const UNLIMITED: &str = "unlimited";

/// The text of a cap of the sending rate.
pub(super) fn cap_text(cap: Option<Bandwidth>) -> String {
    cap.map_or_else(|| UNLIMITED.to_owned(), |cap| cap.to_string())
}

/// A policy's parameters after a change while it runs: what it says of itself, with `name` set to
/// `value`, if `name` is one of `changeable`.
///
/// # Errors
///
/// [`ChangeError`] if there is no such parameter, it is none of `changeable`, or it does not take `value`.
pub(super) fn changed<P: Policy>(
    policy: &P,
    info: &PresetInfo,
    changeable: &[&str],
    name: &str,
    value: &str,
) -> Result<BTreeMap<String, String>, ChangeError> {
    let refuse = |why| ChangeError { policy: info.name.to_owned(), parameter: short(name), why };
    if !changeable.contains(&name) {
        let why = format!("can't be changed while the migration runs; {} can", changeable.join(", "));
        return Err(refuse(why));
    }
    let Some(parameter) = info.parameter(name) else {
        return Err(refuse("is not known".to_owned()));
    };
    if parameter.kind.parse(value).is_err() {
        return Err(refuse(format!("cannot be `{}`: expected {}", short(value), parameter.kind.describe())));
    }
    let mut texts: BTreeMap<String, String> =
        policy.parameters().into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
    texts.insert(name.to_owned(), value.to_owned());
    Ok(texts)
}
