//! Live migration of virtual machines: one migration engine and one set of policies, simulated and real.
//!
//! A convergence policy decides, round by round, whether to go on sending, to slow the guest, to stop it
//! or to give up. Here it is tried on simulated guests, in virtual time, before it touches a real one:
//! the machines that take the decisions' consequences are the same code on every ground.
//!
//! * [`core`]: what migrating means, without I/O: machines, policies, dirty pages, reports.
//! * [`sim`]: those machines in virtual time, with a guest, two hosts and a link.
//! * [`guest`]: real guests: memory, dirty logs, a guest to try them on.
//! * [`engine`]: those machines with real bytes over real sockets; what goes over them is [`wire`].
//! * [`lab`]: scenarios, sweeps, tables, charts and reports.
//!
//! The program `whimbrel` is built from these with the feature `cli` (a default); who uses the library
//! alone turns it off.
//!
//! # One migration
//!
//! ```
//! use std::collections::BTreeMap;
//! use whimbrel::core::policy::presets;
//! use whimbrel::core::units::ByteCount;
//! use whimbrel::sim::config::{GuestConfig, WriterConfig};
//! use whimbrel::sim::{Setup, simulate};
//!
//! let guest = GuestConfig {
//!     memory: ByteCount::mib(256),
//!     writers: vec![WriterConfig { working_set: ByteCount::mib(64), ..WriterConfig::default() }],
//!     ..GuestConfig::default()
//! };
//! let limit = BTreeMap::from([("downtime-limit".to_owned(), "100ms".to_owned())]);
//! let policy = presets::build("qemu-default", &limit)?;
//!
//! let run = simulate(&Setup::new(guest, policy))?;
//! for round in &run.report.rounds {
//!     let why = round.decision.as_ref().map(|decided| decided.reason.to_string());
//!     println!("round {}: {} sent, {why:?}", round.round, round.sent.human());
//! }
//! assert!(run.report.converged, "{}", run.report.why);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A policy of your own implements [`core::policy::Policy`]; `examples/custom_policy.rs` has one and
//! compares it with a preset.
#![forbid(unsafe_code)]

pub use whimbrel_core as core;
pub use whimbrel_engine as engine;
pub use whimbrel_guest as guest;
pub use whimbrel_lab as lab;
pub use whimbrel_sim as sim;
pub use whimbrel_wire as wire;

/// The example in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// So does the one for embedders.
#[cfg(all(doctest, target_os = "linux", target_pointer_width = "64"))]
#[doc = include_str!("../../docs/embedding.md")]
struct Embedding;
