//! KVM's log keeps its promises with this guest, alone and with a software log beside it.

use super::*;
use whimbrel_core::dirty::PageSet;
use whimbrel_core::embed::{DirtyLog, LogError};

use crate::conformance::{KvmGround, Promise, check};
use crate::log::{KvmLog, SoftwareLog, Union};

fn harvests() -> u64 {
    std::env::var("WHIMBREL_HARVESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

fn guest_on(backing: Backing) -> KvmGuest {
    let memory = Arc::new(GuestMemory::new(layout(), backing).unwrap());
    KvmGuest::boot(memory, &shape(Pace::Free)).unwrap()
}

fn alone(backing: Backing, harvests: u64) {
    if !kvm() {
        return;
    }
    let guest = guest_on(backing);
    let log = KvmLog::new(Arc::clone(guest.slots()));
    let missing = check(&mut KvmGround::new(guest, Box::new(log), None), harvests);
    // What the kernel does on the monitor's behalf is nothing that it sees.
    assert_eq!(missing.unwrap_or_else(|broken| panic!("{broken}")), [Promise::SeesTheKernel]);
}

#[test]
fn the_kvm_log_keeps_its_promises() {
    alone(Backing::Private, harvests());
}

#[test]
fn also_for_huge_pages() {
    alone(Backing::PrivateHuge, harvests() / 10);
}

#[test]
fn also_for_shared_memory() {
    alone(Backing::Memfd, harvests() / 10);
}

#[test]
fn a_union_sees_vcpus_and_the_monitor() {
    if !kvm() {
        return;
    }
    let guest = guest_on(Backing::Private);
    let software = SoftwareLog::new(guest.layout());
    let bitmap = Arc::clone(software.bitmap());
    let vcpus = KvmLog::new(Arc::clone(guest.slots()));
    let log = Union::of(vec![Box::new(vcpus), Box::new(software)]);
    let missing = check(&mut KvmGround::new(guest, Box::new(log), Some(bitmap)), harvests());
    assert_eq!(missing.unwrap_or_else(|broken| panic!("{broken}")), []);
}

/// Pages of 2 MiB: a write anywhere in one is a write to it.
#[test]
fn guest_pages_may_be_larger_than_the_hosts() {
    if !kvm() {
        return;
    }
    let mib = |start: u64, len: u64| Region { start: Gpa(start << 20), len: ByteCount::mib(len) };
    let layout = RamLayout::new(PageSize::Mib2, vec![mib(0, 16), mib(32, 16)]).unwrap();
    let memory = Arc::new(GuestMemory::new(layout, Backing::Private).unwrap());
    let writers = vec![
        Writer { pages: run(0, 4), pattern: Pattern::Uniform { seed: 1 } },
        Writer { pages: run(66, 2), pattern: Pattern::Sequential },
    ];
    let guest = KvmGuest::boot(memory, &Shape { writers, pace: Pace::Free }).unwrap();
    let log = KvmLog::new(Arc::clone(guest.slots()));
    let missing = check(&mut KvmGround::new(guest, Box::new(log), None), 1_000);
    assert_eq!(missing.unwrap_or_else(|broken| panic!("{broken}")), [Promise::SeesTheKernel]);
}

#[test]
fn one_log_at_a_time_watches_a_vm() {
    if !kvm() {
        return;
    }
    let mut guest = guest_on(Backing::Private);
    let [mut one, mut other] = [(); 2].map(|()| KvmLog::new(Arc::clone(guest.slots())));
    one.start().unwrap();
    let error = other.start().unwrap_err();
    assert!(error.to_string().contains("stop the other one first"), "{error}");
    // It has taken nothing from the first.
    guest.write_to(&[PageNumber(3)]).unwrap();
    let mut found = PageSet::new(guest.layout().numbers());
    assert!(matches!(other.harvest(&mut found), Err(LogError::NotStarted { .. })));
    one.harvest(&mut found).unwrap();
    assert!(found.pages().eq([PageNumber(3)]));
    // Dropping it is stopping it.
    drop(one);
    other.start().unwrap();
    guest.write_to(&[PageNumber(4)]).unwrap();
    found.clear();
    other.harvest(&mut found).unwrap();
    assert!(found.pages().eq([PageNumber(4)]));
}

/// Somebody else at the same slots.
#[test]
fn a_log_that_was_switched_off_behind_its_back_says_so() {
    if !kvm() {
        return;
    }
    let guest = guest_on(Backing::Private);
    let mut log = KvmLog::new(Arc::clone(guest.slots()));
    log.start().unwrap();
    guest.slots().stop_logging().unwrap();
    let error = log.harvest(&mut PageSet::new(guest.layout().numbers())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the KVM dirty log cannot fetch what was written in 6MiB at 0x0: somebody else has switched this slot's log off, or \
         replaced the slot"
    );
    log.stop().unwrap();
}
