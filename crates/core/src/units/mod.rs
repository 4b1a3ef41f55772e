//! Quantities with units, so that no bare `u64` or `f64` has to be guessed at.
//!
//! Every other module, the wire, the simulators and the command line use these types; scenario
//! files and options are read by their [`FromStr`](std::str::FromStr), reports are written by their
//! [`Display`](std::fmt::Display). This module must never panic on what a user or a peer wrote,
//! never guess between bits and bytes, and never print what it would not read back as the same value.
//!
//! | type | counts | written as | in files (serde) |
//! |---|---|---|---|
//! | [`ByteCount`] | bytes | `4GiB`, `1.5GB`, `4096B` | text |
//! | [`Bandwidth`] | bytes per second, never zero | `1Gbit/s`, `1Gbit`, `64MiB/s` | text |
//! | [`Duration`](std::time::Duration), by [`duration`] | time | `300ms`, `0.2ms`, `10min` | text |
//! | [`Timestamp`] | nanoseconds since the migration's origin | as a duration | integer |
//! | [`Pages`] | guest pages | `1024`, `1024 pages` | integer |
//! | [`PageRate`] | pages per second | `20000`, `20000 pages/s` | number; text is read too |
//! | [`Share`], [`CpuShare`] | a part of a whole, 0 to 1 | `0.3`, `30%` | number; text is read too |
//! | [`VcpuSeconds`] | seconds of one virtual CPU | `1.5`, `1.5 vcpu-s` | number; text is read too |
//!
//! *Reading.* Space between number and unit is allowed, and so are exponents (`1e3ms`). Bytes have
//! a capital `B`, bits are spelled `bit`: `Mb` and `Mbps` are refused. Prefixes may have either case;
//! `k`, `M`, `G`, … are powers of 1000 and `Ki`, `Mi`, `Gi`, … powers of 1024. What is finer than a
//! byte or a nanosecond is rounded to the nearest, but never to zero.
//!
//! *Printing.* `Display` is exact; `human()` is short, lossy and for people only.
//!
//! *Binary formats.* Where the format is not human-readable, the plain number is stored.

mod bandwidth;
mod bytes;
pub mod duration;
mod error;
mod number;
mod pages;
mod share;
mod text;
mod time;
mod vcpu;

#[cfg(test)]
mod tests;

pub use bandwidth::Bandwidth;
pub use bytes::ByteCount;
pub use error::{Quantity, UnitError};
pub use pages::{PageRate, Pages};
pub use share::{CpuShare, Share};
pub use time::Timestamp;
pub use vcpu::VcpuSeconds;
