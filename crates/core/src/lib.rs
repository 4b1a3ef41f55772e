//! What migrating a virtual machine means, as pure code: no I/O, no clock, no threads, no `unsafe`.
#![forbid(unsafe_code)]

pub mod dirty;
pub mod layout;
pub mod policy;
pub mod progress;
pub mod units;
