//! Bytes to messages and back: what the two sides of a migration say to each other.
//!
//! Pure code: no sockets, no clock, no threads. The engine reads and writes the bytes; here they get and lose their
//! meaning. Whatever comes from a peer is checked before it is believed: every length before anything is allocated, every
//! page number before anything is indexed. `docs/protocol.md` is the specification.
#![forbid(unsafe_code)]

pub mod control;
mod error;
pub mod frame;
#[doc(hidden)]
pub mod fuzzing;
pub mod hello;
mod limits;
pub mod pages;

pub use self::error::WireError;
pub use self::limits::{Limit, Limits};
