//! What KVM gives: memory slots whose dirty log KVM keeps, and a guest that runs on it.
//!
//! A VMM takes [`KvmSlots`] for its guest's memory and a [`KvmLog`](crate::log::KvmLog) over them; the rest it has itself.
//! Tests, benches and the laboratory take the KVM guest, which is a whole VMM of its own with a guest that says what its memory must
//! hold. Nothing here is in the way of interrupt controllers, clocks or devices of an embedder's VM.

#[cfg(target_arch = "x86_64")]
mod guest;
mod slots;
#[cfg(test)]
mod tests;

use std::ffi::CStr;
use std::io;

use kvm_ioctls::{Cap, Kvm};

#[cfg(target_arch = "x86_64")]
pub use self::guest::{
    Found, KvmGuest, MAX_VCPUS, Mismatch, Pace, Pattern, Shape, TOLD_WORD, VerifyError, Writer, WriterError,
};
pub use self::slots::KvmSlots;

/// Where KVM is.
const DEVICE: &CStr = c"/dev/kvm";

/// The version that every KVM since Linux 2.6.22 has, and will have.
const API_VERSION: i32 = kvm_bindings::KVM_API_VERSION.cast_signed();

/// Why KVM does not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KvmError {
    /// There is no KVM, or not for us.
    #[error("cannot open /dev/kvm: {help}")]
    Unavailable {
        /// What can be done about it.
        help: &'static str,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// Something that says it is KVM, and is not.
    #[error("/dev/kvm speaks version {found} of KVM's interface, needed is {API_VERSION}")]
    OtherVersion {
        /// The version it speaks.
        found: i32,
    },
    /// This KVM lacks what is needed.
    #[error("this KVM has no {capability}: {help}")]
    Lacking {
        /// Which capability, by the kernel's name.
        capability: &'static str,
        /// What can be done about it.
        help: &'static str,
    },
    /// More vCPUs than there can be.
    #[error("{asked} vCPUs asked for, from 1 to {most} are possible: {help}")]
    Vcpus {
        /// How many were asked for.
        asked: usize,
        /// How many there can be.
        most: usize,
        /// Who sets the limit.
        help: &'static str,
    },
    /// More memory slots than KVM has.
    #[error("memory slots {first} to {last} asked for, this KVM has {most}: merge regions of guest memory")]
    Slots {
        /// The first that was asked for.
        first: u32,
        /// The last.
        last: u64,
        /// How many there are, from 0 on.
        most: u64,
    },
    /// KVM refuses a call.
    #[error("KVM cannot {what}{}", advice(.help))]
    Failed {
        /// What it was to do.
        what: String,
        /// What can be done about it; empty where nobody knows.
        help: &'static str,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
}

/// What can be done, behind what is wrong.
fn advice(help: &str) -> String {
    if help.is_empty() { String::new() } else { format!(": {help}") }
}

/// A call that KVM refused.
fn failed(what: impl Into<String>, help: &'static str, cause: kvm_ioctls::Error) -> KvmError {
    KvmError::Failed { what: what.into(), help, cause: cause.into() }
}

/// Opens KVM, and checks that it can do what this crate needs.
///
/// # Errors
///
/// [`KvmError::Unavailable`], [`KvmError::OtherVersion`] or [`KvmError::Lacking`]; each says what to do about it.
pub fn open() -> Result<Kvm, KvmError> {
    open_at(DEVICE)
}

fn open_at(device: &CStr) -> Result<Kvm, KvmError> {
    let kvm = Kvm::new_with_path(device).map_err(|cause| unavailable(cause.into()))?;
    let found = kvm.get_api_version();
    if found != API_VERSION {
        return Err(KvmError::OtherVersion { found });
    }
    needs(&kvm, Cap::UserMemory, "KVM_CAP_USER_MEMORY")?;
    needs(&kvm, Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT")?;
    Ok(kvm)
}

fn needs(kvm: &Kvm, capability: Cap, name: &'static str) -> Result<(), KvmError> {
    if kvm.check_extension(capability) {
        Ok(())
    } else {
        Err(KvmError::Lacking { capability: name, help: "it needs Linux 4.12 or later" })
    }
}

fn unavailable(cause: io::Error) -> KvmError {
    let help = match cause.kind() {
        io::ErrorKind::NotFound => {
            "there is no KVM here; load the module kvm_intel or kvm_amd, switch virtualisation on in the firmware or, in a virtual \
             machine, let it have nested virtualisation; into a container the device has to be passed"
        }
        io::ErrorKind::PermissionDenied => {
            "no permission for it; add the user to its group, which mostly is `kvm`, or run as root"
        }
        _ if cause.raw_os_error() == Some(libc::ENODEV) || cause.raw_os_error() == Some(libc::ENXIO) => {
            "the device is there, but no module of KVM is behind it; load kvm_intel or kvm_amd"
        }
        _ => "the system refuses",
    };
    KvmError::Unavailable { help, cause }
}
