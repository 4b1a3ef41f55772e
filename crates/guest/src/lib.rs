//! Real guests: their memory, who records their writes, and a guest to try it all on.
//!
//! The ground under a live migration, and what an embedder looks at first. Whoever writes a VMM takes from here what it
//! has not got itself: memory that is mapped ([`memory`]), a dirty log for it ([`log`]), or the adapters for the crates
//! of rust-vmm. The laboratory and the live engine's tests take the lab guest: real threads that write
//! real memory at a known pace.
//!
//! | module | what it has |
//! |---|---|
//! | [`memory`] | guest memory of this process: private, shared, or behind a descriptor |
//! | [`log`] | dirty logs: software, userfaultfd, KVM, several as one |
//! | `kvm` | memory slots for a VMM on KVM, and a KVM guest (feature `kvm`) |
//! | `rust_vmm` | the same for memory of `vm-memory` (feature `rust-vmm`) |
//! | [`socket`] | what a socket holds that is not there yet |
//! | [`processor`] | processor time of a thread |
//! | [`lab`] | a guest without a hypervisor, that knows what its memory must hold |
//! | [`conformance`] | what every dirty log must pass, and yours too |
//! | [`heap`] | how much of the heap a program has: for tests and benches |
//!
//! What they implement is in [`whimbrel_core::embed`]. Nothing here knows what a migration is, decides anything about one or
//! opens a socket.
//!
//! # Unsafe code
//!
//! This is the only crate of whimbrel with any. Each block makes one call and says why it is sound; whatever is built on
//! them is safe to use. Guest memory is only ever seen as atomic words, so a guest that writes while it is read is no
//! data race. Maps, tracking and descriptors are values that give back what they took when they are dropped.
//!
//! # Where it runs
//!
//! On Linux. Elsewhere it still builds, with [`conformance`] and the logs that need no kernel.

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod cycle;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub mod lab;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub mod memory;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub mod processor;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub mod socket;

#[cfg(all(feature = "kvm", target_os = "linux", target_pointer_width = "64"))]
pub mod kvm;

pub mod conformance;
pub mod heap;
pub mod log;
#[cfg(all(feature = "rust-vmm", target_os = "linux", target_pointer_width = "64"))]
pub mod rust_vmm;
#[cfg(all(test, target_os = "linux", target_pointer_width = "64"))]
mod surroundings;
