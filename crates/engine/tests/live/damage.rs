//! Bytes and pages that change on their way are found.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use whimbrel_core::embed::{GuestRam, RamError};
use whimbrel_core::layout::{Gpa, RamLayout};
use whimbrel_core::report::Outcome;
use whimbrel_engine::transport::Stream;
use whimbrel_guest::memory::GuestMemory;

use super::between::{Disturbed, Through};
use super::world::{World, mib};

/// Turns one bit of all that the source writes on its connections together.
struct Noisy {
    inner: Box<dyn Stream>,
    /// Bytes until the damage.
    left: Arc<AtomicU64>,
}

impl Disturbed for Noisy {
    fn inner(&self) -> &dyn Stream {
        &*self.inner
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let left = self.left.load(Ordering::SeqCst);
        if let Some(byte) = bytes.get_mut(left as usize) {
            *byte ^= 0x10;
        }
        let taken = self.inner.write(&[IoSlice::new(&bytes)])?;
        self.left.store(left.wrapping_sub(taken as u64), Ordering::SeqCst);
        Ok(taken)
    }
}

fn noisy(world: World, after: u64) -> World {
    let left = Arc::new(AtomicU64::new(after));
    world.each_connection(move |_, inner| Box::new(Through(Noisy { inner, left: Arc::clone(&left) })))
}

#[test]
fn a_bit_that_turns_on_its_way_is_found_by_checksums() {
    // Tables, payloads, and what is said: the first bytes are hellos, which are checked as well.
    for after in [300, 350, 1_000, 20_000, 700_000, 1_500_003] {
        let moved = noisy(World::of(mib(4)).checked().policy("fixed-rounds"), after).go();
        let report = &moved.source.report;
        assert_eq!(report.outcome, Outcome::Failed, "{after}: {}", report.why);
        moved.check_the_guest_here();
    }
}

#[test]
fn a_bit_that_turns_in_a_payload_is_found_by_the_digest() {
    let moved = noisy(World::of(mib(4)).verified().policy("fixed-rounds"), 700_000).go();
    let report = &moved.source.report;
    assert_eq!(report.outcome, Outcome::Failed, "{}", report.why);
    let why = moved.destination.why.clone().unwrap_or_default();
    assert!(why.contains("the replica's memory is not the guest's"), "{why}");
    moved.check_the_guest_here();
}

/// Memory that forgets what is written to one place when it is written for the second time.
struct Forgetful {
    memory: Arc<GuestMemory>,
    writes: AtomicU64,
}

/// In the working set of the first vCPU.
const FORGOTTEN: Gpa = Gpa(100 * 4096);

impl GuestRam for Forgetful {
    fn layout(&self) -> &RamLayout {
        GuestMemory::layout(&self.memory)
    }

    fn read(&self, at: Gpa, out: &mut [u8]) -> Result<(), RamError> {
        self.memory.read(at, out)
    }

    fn write(&self, at: Gpa, data: &[u8]) -> Result<(), RamError> {
        let here = (at.0..at.0 + data.len() as u64).contains(&FORGOTTEN.0);
        if here && self.writes.fetch_add(1, Ordering::SeqCst) > 0 {
            let skipped = (FORGOTTEN.0 - at.0) as usize;
            self.memory.write(at, &data[..skipped])?;
            let behind = skipped + 4096;
            return self.memory.write(Gpa(at.0 + behind as u64), data.get(behind..).unwrap_or_default());
        }
        self.memory.write(at, data)
    }
}

#[test]
fn a_page_that_the_replica_has_in_an_older_version_is_found_by_the_digest() {
    let veil = |memory| Arc::new(Forgetful { memory, writes: AtomicU64::new(0) }) as Arc<dyn GuestRam>;
    let moved = World::of(mib(4)).writing(20_000.0).verified().policy("fixed-rounds").veiled(veil).go();
    let report = &moved.source.report;
    assert_eq!(report.outcome, Outcome::Failed, "{}", report.why);
    let why = moved.destination.why.clone().unwrap_or_default();
    assert!(why.contains("the replica's memory is not the guest's"), "{why}");
    moved.check_the_guest_here();
}
