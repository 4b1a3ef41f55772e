//! What migrating a virtual machine means, as pure code: no I/O, no clock, no threads, no `unsafe`.
//!
//! Start at [`machine`]: its two state machines are a migration, and its example drives one from start to end. What they
//! rest on, from the bottom up:
//!
//! | module | what it has |
//! |---|---|
//! | [`units`] | pages, bytes, bandwidths, times and shares as types, with parsing and printing |
//! | [`layout`] | where a guest's memory is and how its pages are numbered |
//! | [`dirty`] | the bitmap that vCPUs mark, the set that a harvest gives, the backlog of what is pending and in flight |
//! | [`throttle`] | ways to slow a guest |
//! | [`progress`] | all that a policy may know, and what the host can do |
//! | [`policy`] | when to go on, harvest, slow the guest, switch over or give up, with the reason; every preset |
//! | [`forecast`] | how much longer, as a distribution over what the rest may be |
//! | [`journal`] | what happened and what was decided, recorded; replayed, it decides the same |
//! | [`controller`] | observation in, verdict out: progress, policy and journal together |
//! | [`machine`] | source and destination, and the handoff that lets one side at most run the guest |
//! | [`embed`] | what an embedder implements: guest memory, a dirty log, the guest |
//! | [`report`] | rounds, the parts of the downtime, totals, how it ended and why |
//!
//! Who embeds a migration drives [`machine::Source`] and [`machine::Destination`]. Where something else moves the pages,
//! as QEMU does, [`controller::Controller`] is used alone. Who wants another rule implements [`policy::Policy`].
#![forbid(unsafe_code)]
// Tests may read files and start threads.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod controller;
pub mod dirty;
pub mod embed;
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
