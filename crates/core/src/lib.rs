//! What migrating a virtual machine means, as pure code: no I/O, no clock, no threads, no `unsafe`.
#![forbid(unsafe_code)]
// Tests may read files and start threads.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod controller;
pub mod dirty;
pub mod forecast;
#[doc(hidden)]
pub mod fuzzing;
pub mod journal;
pub mod layout;
pub mod machine;
pub mod policy;
pub mod progress;
pub mod report;
pub mod throttle;
pub mod units;
