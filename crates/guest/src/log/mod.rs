//! Dirty logs: who records which pages were written.
//!
//! | log | who records | sees | costs the writer |
//! |---|---|---|---|
//! | [`SoftwareLog`] | whoever writes, by marking | what is marked | two atomic operations a write |
//! | `UserfaultfdLog` | the kernel, by write protection | all writes of this process, the kernel's included | a fault for a page's first write after a harvest |
//! | `KvmLog` | KVM, by write protection | what vCPUs write | a fault into the host for a page's first write after a harvest |
//! | [`Union`] | several logs together | what any of them sees | what they cost |
//!
//! `probe` tries which of them this machine has; `best` takes the best one for some memory, and says why.
//!
//! All implement [`DirtyLog`](whimbrel_core::embed::DirtyLog) and pass [`crate::conformance`].

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod best;
#[cfg(all(feature = "kvm", target_os = "linux", target_pointer_width = "64"))]
mod kvm;
mod software;
mod union;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod userfaultfd;

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub use best::{Choice, Probe, best, probe};
#[cfg(all(feature = "kvm", target_os = "linux", target_pointer_width = "64"))]
pub use kvm::KvmLog;
pub use software::SoftwareLog;
pub use union::Union;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub use userfaultfd::UserfaultfdLog;
