//! Every log of this crate passes the suite, and the suite finds a log that breaks any of its promises.

use super::*;
use crate::log::*;
use crate::memory::*;
use std::sync::Arc;
use whimbrel_core::layout::*;
use whimbrel_core::units::*;

fn harvests() -> u64 {
    std::env::var("WHIMBREL_HARVESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

fn memory(backing: Backing) -> Arc<GuestMemory> {
    let mib = |start: u64, len: u64| Region { start: Gpa(start << 20), len: ByteCount::mib(len) };
    let layout = RamLayout::new(PageSize::Kib4, vec![mib(0, 6), mib(16, 10)]).unwrap();
    Arc::new(GuestMemory::new(layout, backing).unwrap())
}

fn passes(
    log: Box<dyn DirtyLog>,
    memory: Arc<GuestMemory>,
    bitmap: Option<Arc<whimbrel_core::dirty::DirtyBitmap>>,
) {
    let mut ground = MemoryGround::new(memory, log, bitmap);
    match check(&mut ground, harvests()) {
        Ok(missing) => assert_eq!(missing, []),
        Err(broken) => panic!("{broken}"),
    }
}

#[test]
fn the_software_log_keeps_its_promises() {
    let memory = memory(Backing::Private);
    let log = SoftwareLog::new(GuestRam::layout(&*memory));
    let bitmap = Arc::clone(log.bitmap());
    passes(Box::new(log), memory, Some(bitmap));
}

use whimbrel_core::embed::GuestRam;

fn userfaultfd(backing: Backing) {
    let memory = memory(backing);
    let log = UserfaultfdLog::new(memory.clone()).unwrap();
    passes(Box::new(log), memory, None);
}

#[test]
fn userfaultfd_private() {
    userfaultfd(Backing::Private);
}
#[test]
fn userfaultfd_huge() {
    userfaultfd(Backing::PrivateHuge);
}
#[test]
fn userfaultfd_shared() {
    userfaultfd(Backing::Shared);
}
#[test]
fn userfaultfd_memfd() {
    userfaultfd(Backing::Memfd);
}
