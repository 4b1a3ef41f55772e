//! Live migrations: threads and sockets around the core's machines.
//!
//! An embedder gives guest memory, a dirty log and a guest ([`whimbrel_core::embed`]) and a way to the peer
//! ([`transport`]); a driver carries out what the machine asks for. Drivers decide nothing: when to harvest, pause, hand
//! over or give up is the machine's affair, who may run the guest the handoff's. All of it blocks; there is no async.
#![forbid(unsafe_code)]

mod capabilities;
pub mod clock;
pub mod destination;
pub mod digest;
mod hello;
pub mod limiter;
mod link;
pub mod observer;
pub mod orders;
pub mod source;
pub mod stable;
pub mod transport;
mod verify;
