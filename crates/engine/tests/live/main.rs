//! Whole moves of a lab guest between two drivers in one process.
#![cfg(target_os = "linux")]

/// Bytes and pages that change on their way are found.
mod damage;
/// Moves that go wrong at any moment, in any way that a connection can.
mod faults;
/// A guest whose driver at the destination panics when it runs.
mod left;
/// Moves that go well.
mod moves;
/// Guests that nobody takes.
mod refused;
/// Sources that were started anew, and what they are told.
mod restarted;
/// What the ledger says, and what the guest sees.
mod seen;
/// A lab guest, two hosts and what lies between them.
mod world;
