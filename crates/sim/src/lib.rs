//! Live migrations in virtual time.
//!
//! The core's own machines on both sides, a guest model, two hosts and a link between them, driven by a
//! queue of events. *Exact* fidelity: which pages were written and sent is known page by page. The same
//! setup and seed give the same run, on any number of threads. Nothing here reads a clock.
#![forbid(unsafe_code)]

mod codec;
pub mod config;
mod fluid;
pub mod guest;
mod link;
mod migration;
mod queue;
mod sender;
pub mod trace;
mod witness;

pub use crate::codec::Encoding;
pub use crate::fluid::{NearThreshold, Simulator, Totals};
pub use crate::guest::Lost;
pub use crate::migration::{
    CAPABILITIES, GuestAt, Look, PolicyChange, Run, Setup, SimError, Simulation, covered, observe, replay,
    simulate,
};
