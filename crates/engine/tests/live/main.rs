//! Whole moves of a lab guest between two drivers in one process.
#![cfg(target_os = "linux")]

/// Connections on which something is done to what is said.
mod between;
/// Bytes and pages that change on their way are found.
mod damage;
/// A digest, and what of it is in the blackout.
mod hashed;
/// A guest whose driver at the destination panics when it runs.
mod left;
/// Moves that go well.
mod moves;
/// Orders that are taken, and that are not: whoever gave them is told.
mod orders;
/// Embedders whose code panics.
mod panics;
/// How long connections are waited for, and what that is counted in.
mod patient;
/// Guests that nobody takes.
mod refused;
/// Sources that were started anew, and what they are told.
mod restarted;
/// Stores without room for a record.
mod room;
/// Who comes second with the right token.
mod second;
/// What the ledger says, and what the guest sees.
mod seen;
/// QEMU's rule over rounds that are shorter than its window.
mod short_rounds;
/// When the journal is shown while nothing happens.
mod shown;
/// Processor time that sending takes, and what is not in it.
mod spent;
/// Sources that come and do nothing.
mod stalled;
/// Sources of a later release.
mod versions;
/// What only these tests want of it.
mod wanted;
/// What a destination says that it takes.
mod welcome;
/// A lab guest, two hosts and what lies between them.
mod world;
