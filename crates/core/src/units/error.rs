//! Why a written quantity was refused. Made by the parsers and checked constructors of `units`;
//! it must never hold more of a hostile text than fits on a line.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// Which kind of quantity was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Quantity {
    /// A [`ByteCount`](super::ByteCount).
    Bytes,
    /// A [`Bandwidth`](super::Bandwidth).
    Bandwidth,
    /// A [`Duration`](std::time::Duration).
    Duration,
    /// A [`Timestamp`](super::Timestamp).
    Timestamp,
    /// A number of [`Pages`](super::Pages).
    Pages,
    /// A [`PageRate`](super::PageRate).
    PageRate,
    /// A [`Share`](super::Share) or [`CpuShare`](super::CpuShare).
    Share,
    /// An amount of [`VcpuSeconds`](super::VcpuSeconds).
    VcpuSeconds,
}

impl Quantity {
    /// What may be written for this quantity, as a phrase for messages.
    pub const fn accepted(self) -> &'static str {
        match self {
            Self::Bytes => "`4GiB`, `512MiB`, `1.5GB` or `4096B` (KiB to EiB, kB to EB, B)",
            Self::Bandwidth => {
                "`1Gbit/s`, `1Gbit`, `125MB/s` or `64MiB/s` (bit/s or B/s with k to E or Ki to Ei)"
            }
            Self::Duration | Self::Timestamp => "`300ms`, `1.5s`, `10min` or `1h` (ns, us, ms, s, min, h, d)",
            Self::Pages => "`1024` or `1024 pages`",
            Self::PageRate => "`20000` or `20000 pages/s`",
            Self::Share => "`0.3` or `30%` (0 to 1, 0% to 100%)",
            Self::VcpuSeconds => "`1.5` or `1.5 vcpu-s`",
        }
    }

    /// The largest value, as a phrase for messages.
    const fn greatest(self) -> &'static str {
        match self {
            Self::Bytes => "one byte less than 16EiB",
            Self::Bandwidth => "one byte per second less than 16EiB/s",
            Self::Duration => "one nanosecond less than 2^64 s",
            Self::Timestamp => "one nanosecond less than 2^64 ns, or 584 years",
            Self::Pages => "2^64 - 1 pages",
            Self::Share => "1",
            Self::PageRate | Self::VcpuSeconds => "about 1.8e308",
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "size",
            Self::Bandwidth => "bandwidth",
            Self::Duration => "duration",
            Self::Timestamp => "timestamp",
            Self::Pages => "number of pages",
            Self::PageRate => "page rate",
            Self::Share => "share",
            Self::VcpuSeconds => "loss in vcpu-seconds",
        })
    }
}

/// Why a text or a number is not a quantity. `text` is the value as given, cut when it is long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnitError {
    /// Nothing but space.
    Empty {
        /// What was expected.
        quantity: Quantity,
    },
    /// The text does not begin with a number.
    NoNumber {
        /// What was expected.
        quantity: Quantity,
        /// The value as given.
        text: Box<str>,
    },
    /// A number alone, where the unit decides what it means.
    MissingUnit {
        /// What was expected.
        quantity: Quantity,
        /// The value as given.
        text: Box<str>,
    },
    /// A unit that this quantity does not have.
    UnknownUnit {
        /// What was expected.
        quantity: Quantity,
        /// The value as given.
        text: Box<str>,
        /// The part after the number.
        unit: Box<str>,
    },
    /// A unit with a small `b`, which people use for bits and for bytes.
    BitsOrBytes {
        /// What was expected.
        quantity: Quantity,
        /// The value as given.
        text: Box<str>,
        /// The part after the number.
        unit: Box<str>,
    },
    /// Below zero.
    Negative {
        /// What was expected.
        quantity: Quantity,
        /// The value as given.
        text: Box<str>,
    },
    /// Infinite, or not a number.
    NotFinite {
        /// What was expected.
        quantity: Quantity,
        /// The value as given.
        text: Box<str>,
    },
    /// More than the type can hold.
    TooLarge {
        /// What was expected.
        quantity: Quantity,
        /// The value as given.
        text: Box<str>,
    },
    /// Not zero, but so small that it would be rounded to zero.
    TooSmall {
        /// What was expected.
        quantity: Quantity,
        /// The value as given.
        text: Box<str>,
    },
    /// A fraction of what only comes whole.
    NotWhole {
        /// What was expected.
        quantity: Quantity,
        /// The value as given.
        text: Box<str>,
    },
    /// Zero where something must flow.
    Zero {
        /// What was expected.
        quantity: Quantity,
        /// The value as given.
        text: Box<str>,
    },
    /// A share of more than the whole.
    MoreThanOne {
        /// What was expected.
        quantity: Quantity,
        /// The value as given.
        text: Box<str>,
    },
}

/// `text` as an error keeps it: at most 48 characters, so that a hostile file cannot fill a log.
pub(super) fn excerpt(text: &str) -> Box<str> {
    const MOST: usize = 48;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

impl UnitError {
    /// What was expected.
    pub const fn quantity(&self) -> Quantity {
        match self {
            Self::Empty { quantity }
            | Self::NoNumber { quantity, .. }
            | Self::MissingUnit { quantity, .. }
            | Self::UnknownUnit { quantity, .. }
            | Self::BitsOrBytes { quantity, .. }
            | Self::Negative { quantity, .. }
            | Self::NotFinite { quantity, .. }
            | Self::TooLarge { quantity, .. }
            | Self::TooSmall { quantity, .. }
            | Self::NotWhole { quantity, .. }
            | Self::Zero { quantity, .. }
            | Self::MoreThanOne { quantity, .. } => *quantity,
        }
    }

    /// What is wrong with the value, without the value and what is accepted: for messages that say these themselves.
    pub fn fault(&self) -> Cow<'static, str> {
        match self {
            Self::Empty { .. } => "empty".into(),
            Self::NoNumber { .. } => "does not begin with a number".into(),
            Self::MissingUnit { .. } => "has no unit".into(),
            Self::UnknownUnit { unit, .. } => format!("has the unknown unit `{unit}`").into(),
            Self::BitsOrBytes { .. } => {
                "could mean bits or bytes: bytes have a capital `B`, bits are spelled `bit`".into()
            }
            Self::Negative { .. } => "is negative".into(),
            Self::NotFinite { .. } => "is not a finite number".into(),
            Self::TooLarge { quantity, .. } => {
                format!("is too large: the greatest {quantity} is {}", quantity.greatest()).into()
            }
            Self::TooSmall { .. } => "would be rounded to zero".into(),
            Self::NotWhole { .. } => "is not a whole number".into(),
            Self::Zero { .. } => "is zero and must be more".into(),
            Self::MoreThanOne { .. } => "is more than the whole".into(),
        }
    }
}

/// The value, what is wrong with it, and what is accepted.
impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (quantity, fault) = (self.quantity(), self.fault());
        match self {
            Self::Empty { .. } => f.write_str(&fault)?,
            Self::BitsOrBytes { text, unit, .. } => write!(f, "`{unit}` in `{text}` {fault}")?,
            // It has said what is the most.
            Self::TooLarge { text, .. } => return write!(f, "`{text}` {fault}"),
            Self::NoNumber { text, .. }
            | Self::MissingUnit { text, .. }
            | Self::UnknownUnit { text, .. }
            | Self::Negative { text, .. }
            | Self::NotFinite { text, .. }
            | Self::TooSmall { text, .. }
            | Self::NotWhole { text, .. }
            | Self::Zero { text, .. }
            | Self::MoreThanOne { text, .. } => write!(f, "`{text}` {fault}")?,
        }
        write!(f, "; write a {quantity} like {}", quantity.accepted())
    }
}

impl Error for UnitError {}
