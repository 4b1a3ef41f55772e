//! The atomics of the shared bitmap: std's, or loom's under `--cfg loom`.
//!
//! Production code takes them from here and nowhere else, so that what loom checks is what runs.

#[cfg(loom)]
pub(super) use loom::sync::{Mutex, atomic::AtomicU64};
#[cfg(not(loom))]
pub(super) use std::sync::{Mutex, atomic::AtomicU64};

pub(super) use std::sync::atomic::Ordering;
