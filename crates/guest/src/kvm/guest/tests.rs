use super::*;
use std::time::Duration;

use whimbrel_core::dirty::PageSet;
use whimbrel_core::embed::DirtyLog;
use whimbrel_core::layout::{PageSize, Region};
use whimbrel_core::units::{ByteCount, CpuShare, Pages};

use crate::log::KvmLog;
use crate::memory::Backing;

/// Whether there is KVM; says so if not.
fn kvm() -> bool {
    super::super::tests::kvm()
}

fn memory() -> Arc<GuestMemory> {
    let mib = |start: u64, len: u64| Region { start: Gpa(start << 20), len: ByteCount::mib(len) };
    let layout = RamLayout::new(PageSize::Kib4, vec![mib(0, 6), mib(16, 10)]).unwrap();
    Arc::new(GuestMemory::new(layout, Backing::Private).unwrap())
}

fn run(first: u64, count: u64) -> PageRun {
    PageRun { first: PageNumber(first), count: Pages(count) }
}

/// Two vCPUs, one all over the first region, one round and round in pages that both write.
fn shape(pace: Pace) -> Shape {
    let writers = vec![
        Writer { pages: run(0, 1024), pattern: Pattern::Uniform { seed: 7 } },
        Writer { pages: run(1000, 64), pattern: Pattern::Sequential },
        Writer { pages: run(1536, 2048), pattern: Pattern::Uniform { seed: 8 } },
    ];
    Shape { writers, pace }
}

fn let_run(guest: &mut KvmGuest, time: Duration) {
    guest.resume().unwrap();
    std::thread::sleep(time);
    guest.pause().unwrap();
}

#[test]
fn memory_holds_what_the_registers_say() {
    if !kvm() {
        return;
    }
    let memory = memory();
    let mut guest = KvmGuest::boot(memory.clone(), &shape(Pace::Free)).unwrap();
    assert_eq!(guest.writes().unwrap(), [0, 0, 0]);
    guest.verify(&*memory).unwrap();
    let mut before = vec![0; 3];
    let mut offsets = std::collections::BTreeMap::new();
    for _ in 0..100 {
        let_run(&mut guest, Duration::from_micros(300));
        for state in guest.states("").unwrap() {
            *offsets.entry(state.regs.rip - guest.board.code().0).or_insert(0) += 1;
        }
        guest.verify(&*memory).unwrap();
        let writes = guest.writes().unwrap();
        assert!(writes.iter().zip(&before).all(|(now, before)| now >= before));
        before = writes;
    }
    eprintln!("{before:?} {offsets:?}");
    assert!(before.iter().all(|&writes| writes > 1000), "{before:?}");
}
