//! Why a written quantity was refused. Made by the parsers and checked constructors of `units`;
//! it must never hold more of a hostile text than fits on a line.

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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// Nothing but space.
    #[error("empty; write a {quantity} like {}", .quantity.accepted())]
    Empty {
        /// What was expected.
        quantity: Quantity,
    },
    /// The text does not begin with a number.
    #[error("`{text}` does not begin with a number; write a {quantity} like {}", .quantity.accepted())]
    NoNumber {
        /// What was expected.
        quantity: Quantity,
        /// The value as given.
        text: Box<str>,
    },
    /// A number alone, where the unit decides what it means.
    #[error("`{text}` has no unit; write a {quantity} like {}", .quantity.accepted())]
    MissingUnit {
        /// What was expected.
        quantity: Quantity,
        /// The value as given.
        text: Box<str>,
    },
    /// A unit that this quantity does not have.
    #[error("`{text}` has the unknown unit `{unit}`; write a {quantity} like {}", .quantity.accepted())]
    UnknownUnit {
        /// What was expected.
        quantity: Quantity,
        /// The value as given.
        text: Box<str>,
        /// The part after the number.
        unit: Box<str>,
    },
    /// A unit with a small `b`, which people use for bits and for bytes.
    #[error(
        "`{unit}` in `{text}` could mean bits or bytes: bytes have a capital `B`, bits are spelled `bit`; \
         write a {quantity} like {}", .quantity.accepted()
    )]
    BitsOrBytes {
        /// What was expected.
        quantity: Quantity,
        /// The value as given.
        text: Box<str>,
        /// The part after the number.
        unit: Box<str>,
    },
    /// Below zero.
    #[error("`{text}` is negative; write a {quantity} like {}", .quantity.accepted())]
    Negative {
        /// What was expected.
        quantity: Quantity,
        /// The value as given.
        text: Box<str>,
    },
    /// Infinite, or not a number.
    #[error("`{text}` is not a finite number; write a {quantity} like {}", .quantity.accepted())]
    NotFinite {
        /// What was expected.
        quantity: Quantity,
        /// The value as given.
        text: Box<str>,
    },
    /// More than the type can hold.
    #[error("`{text}` is too large: the greatest {quantity} is {}", .quantity.greatest())]
    TooLarge {
        /// What was expected.
        quantity: Quantity,
        /// The value as given.
        text: Box<str>,
    },
    /// Not zero, but so small that it would be rounded to zero.
    #[error("`{text}` would be rounded to zero; write a {quantity} like {}", .quantity.accepted())]
    TooSmall {
        /// What was expected.
        quantity: Quantity,
        /// The value as given.
        text: Box<str>,
    },
    /// A fraction of what only comes whole.
    #[error("`{text}` is not a whole number; write a {quantity} like {}", .quantity.accepted())]
    NotWhole {
        /// What was expected.
        quantity: Quantity,
        /// The value as given.
        text: Box<str>,
    },
    /// Zero where something must flow.
    #[error("`{text}` is zero and must be more; write a {quantity} like {}", .quantity.accepted())]
    Zero {
        /// What was expected.
        quantity: Quantity,
        /// The value as given.
        text: Box<str>,
    },
    /// A share of more than the whole.
    #[error("`{text}` is more than the whole; write a {quantity} like {}", .quantity.accepted())]
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
    /// What is wrong with the value, without the value and what is accepted: for messages that say these themselves.
    pub fn fault(&self) -> String {
        let whole = self.to_string();
        let fault = whole.split_once("; write a ").map_or(&*whole, |(fault, _)| fault);
        // What begins otherwise names another part of it.
        let after = fault.strip_prefix('`').and_then(|rest| rest.split_once("` "));
        after
            .filter(|(value, _)| !value.is_empty() && !fault.contains("` in `"))
            .map_or(fault, |(_, fault)| fault)
            .to_owned()
    }
}
