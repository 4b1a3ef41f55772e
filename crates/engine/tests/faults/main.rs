//! Moves within one process that go wrong at any moment, in any way that a connection can: exactly one whole guest afterwards, and
//! nothing left of the migration. The only test of its process, because it counts threads and descriptors.
#![cfg(target_os = "linux")]

/// Connections on which something is done to what is said.
#[path = "../live/between.rs"]
mod between;
/// A source that does not hear how it ended.
mod deaf;
/// What is left of a migration in the process.
mod left;
/// The moves.
mod series;
/// Connections that give what they carry in odd parts.
mod uneven;
/// What only these tests want of it.
mod wanted;
/// What lies between two drivers, and can be cut.
mod way;
/// A lab guest, two hosts and what lies between them.
#[path = "../live/world.rs"]
mod world;
