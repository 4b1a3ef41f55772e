use super::*;

use std::sync::Arc;

use whimbrel_core::layout::{Gpa, PageSize, RamLayout, Region};
use whimbrel_core::units::ByteCount;

use crate::conformance::skip;
use crate::memory::{Backing, GuestMemory};

/// Whether there is KVM; says so if not.
pub(super) fn kvm() -> bool {
    match open() {
        Ok(_) => true,
        Err(error) => {
            skip("kvm", &error);
            false
        }
    }
}

fn memory(regions: &[(u64, u64)]) -> Arc<GuestMemory> {
    let region = |&(start, len): &(u64, u64)| Region { start: Gpa(start << 20), len: ByteCount::mib(len) };
    let layout = RamLayout::new(PageSize::Kib4, regions.iter().map(region).collect()).unwrap();
    Arc::new(GuestMemory::new(layout, Backing::Private).unwrap())
}

#[test]
fn no_kvm_is_said_and_what_to_do() {
    let error = open_at(c"/dev/no-kvm-here").unwrap_err();
    assert!(matches!(error, KvmError::Unavailable { .. }));
    assert!(
        error.to_string().starts_with("cannot open /dev/kvm: there is no KVM here; load the module"),
        "{error}"
    );
    let error = unavailable(io::ErrorKind::PermissionDenied.into());
    assert_eq!(
        error.to_string(),
        "cannot open /dev/kvm: no permission for it; add the user to its group, which mostly is `kvm`, or run as root"
    );
    let error = unavailable(io::Error::from_raw_os_error(libc::ENODEV));
    assert_eq!(
        error.to_string(),
        "cannot open /dev/kvm: the device is there, but no module of KVM is behind it; load kvm_intel or kvm_amd"
    );
}

#[test]
fn what_is_not_kvm_is_not_taken_for_it() {
    let error = open_at(c"/dev/null").unwrap_err();
    assert_eq!(error.to_string(), "/dev/kvm speaks version -1 of KVM's interface, needed is 12");
}

#[test]
fn slots_that_there_are_not_are_refused() {
    if !kvm() {
        return;
    }
    let vm = Arc::new(open().unwrap().create_vm().unwrap());
    let error = KvmSlots::new(vm, memory(&[(0, 1), (2, 1)]), 65_535).unwrap_err();
    assert!(matches!(error, KvmError::Slots { first: 65_535, last: 65_536, .. }), "{error}");
    assert!(error.to_string().starts_with("memory slots 65535 to 65536 asked for, this KVM has "), "{error}");
}

#[test]
fn memory_that_overlaps_is_refused_and_nothing_of_it_stays() {
    if !kvm() {
        return;
    }
    let vm = Arc::new(open().unwrap().create_vm().unwrap());
    let there = KvmSlots::new(Arc::clone(&vm), memory(&[(4, 2)]), 0).unwrap();
    let error = KvmSlots::new(Arc::clone(&vm), memory(&[(0, 1), (5, 1)]), 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "KVM cannot use guest memory of 1MiB at 0x500000: another slot of this VM has some of these guest addresses"
    );
    // The region before it would be in the way.
    KvmSlots::new(Arc::clone(&vm), memory(&[(0, 2)]), 7).unwrap();
    let error = KvmSlots::new(vm, memory(&[(16, 1)]), 0).unwrap_err();
    assert!(error.to_string().contains("another slot of this number is there already"), "{error}");
    drop(there);
}

/// Whoever holds the VM: the memory is not its any more.
#[test]
fn memory_is_taken_from_the_vm_before_it_is_gone() {
    if !kvm() {
        return;
    }
    let vm = Arc::new(open().unwrap().create_vm().unwrap());
    let slots = KvmSlots::new(Arc::clone(&vm), memory(&[(0, 2), (8, 2)]), 0).unwrap();
    drop(slots);
    let other = memory(&[(1, 8)]);
    let slots = KvmSlots::new(vm, other.clone(), 0).unwrap();
    // And it lives for as long as the VM has it.
    assert_eq!(Arc::strong_count(&other), 2);
    drop(slots);
    assert_eq!(Arc::strong_count(&other), 1);
}
