//! A digest costs a blackout what changed last and no more, however slowly its thread hashes.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use whimbrel_core::embed::{Cause, Guest as _, GuestRam, RamError};
use whimbrel_core::layout::{Gpa, PageSize, RamLayout};
use whimbrel_core::machine::message::{Configuration, MigrationId};
use whimbrel_core::machine::{CancelReason, SourcePhase};
use whimbrel_core::policy::{RateLimit, presets};
use whimbrel_core::report::{Outcome, Report};
use whimbrel_core::units::{Bandwidth, ByteCount, Timestamp};
use whimbrel_engine::Token;
use whimbrel_engine::destination::{self, DestinationSettings, Incoming, Replica};
use whimbrel_engine::observer::Event;
use whimbrel_engine::orders::{Order, Orders, Remote};
use whimbrel_engine::source::{self, Outgoing, SourceSettings};
use whimbrel_engine::stable::{MemoryStore, Role};
use whimbrel_engine::transport::memory::MemoryHub;
use whimbrel_guest::lab::LabGuest;
use whimbrel_guest::lab::config::LabConfig;
use whimbrel_guest::log::SoftwareLog;
use whimbrel_guest::memory::{Backing, GuestMemory};

use super::world::mib;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What a digest reads at a time.
const PIECE: usize = 64 << 10;

/// Memory that a digest reads slowly, if it is told so; counts what a digest reads.
struct Slow {
    memory: Arc<GuestMemory>,
    /// How long a piece takes.
    takes: Duration,
    hashed: AtomicU64,
}

impl Slow {
    fn new(layout: RamLayout, takes: Duration) -> Result<Arc<Self>> {
        let memory = Arc::new(GuestMemory::new(layout, Backing::Private)?);
        Ok(Arc::new(Self { memory, takes, hashed: AtomicU64::new(0) }))
    }

    /// Nothing was hashed, from now on.
    fn forget(&self) {
        self.hashed.store(0, Ordering::SeqCst);
    }

    fn hashed(&self) -> ByteCount {
        ByteCount(self.hashed.load(Ordering::SeqCst))
    }
}

impl GuestRam for Slow {
    fn layout(&self) -> &RamLayout {
        GuestMemory::layout(&self.memory)
    }

    fn read(&self, at: Gpa, out: &mut [u8]) -> std::result::Result<(), RamError> {
        if out.len() == PIECE {
            self.hashed.fetch_add(PIECE as u64, Ordering::SeqCst);
            thread::sleep(self.takes);
        }
        self.memory.read(at, out)
    }

    fn write(&self, at: Gpa, data: &[u8]) -> std::result::Result<(), RamError> {
        self.memory.write(at, data)
    }
}

/// Moves a guest that does nothing, whose pieces take so long each to be hashed at either side; says how much was hashed there when it
/// stood still.
fn hashed_in_the_blackout(policy: &str, takes: [Duration; 2], limit: RateLimit) -> Result<[ByteCount; 2]> {
    let (sent, hashed) = moved(policy, takes, limit, |_, _, _| ())?;
    assert_eq!(sent.outcome, Outcome::Completed, "{}", sent.why);
    Ok(hashed)
}

/// The same, watched by somebody who is told what the source has hashed and may give orders; with what the source reports.
fn moved(
    policy: &str,
    takes: [Duration; 2],
    limit: RateLimit,
    watch: impl Fn(&Event<'_>, ByteCount, &Remote),
) -> Result<(Report, [ByteCount; 2])> {
    let (hub, token) = (MemoryHub::new(), Token::new(b"open sesame")?);
    let (listen, layout) = (Arc::new(hub.listen()?), RamLayout::contiguous(MEMORY, PageSize::Kib4)?);
    let (here, there) = (Slow::new(layout.clone(), takes[0])?, Slow::new(layout.clone(), takes[1])?);
    let lab = LabConfig { device_rate: 0.0, ..LabConfig::default() };
    let mut log = SoftwareLog::new(&layout);
    let mut guest = LabGuest::new(Arc::clone(&here.memory), lab.clone(), Some(Arc::clone(log.bitmap())))?;
    guest.fill();
    guest.resume()?;
    let mut host = |_: &Configuration| -> std::result::Result<Replica, Cause> {
        let guest = Box::new(LabGuest::new(Arc::clone(&there.memory), lab.clone(), None)?);
        Ok(Replica { ram: Arc::clone(&there) as Arc<_>, guest, fresh: true })
    };
    let mut settings = SourceSettings::new(MigrationId(7), token.clone());
    (settings.verify, settings.limit) = (true, limit);
    let outgoing = Outgoing {
        name: "lab".to_owned(),
        vcpus: 1,
        ram: Arc::clone(&here) as Arc<_>,
        log: &mut log,
        guest: &mut guest,
        policy: presets::build(policy, &BTreeMap::new())?,
        connect: Arc::new(hub.connector()),
        store: &mut MemoryStore::new(Role::Source),
    };
    let orders = Orders::new();
    let remote = orders.remote();
    let mut watch = |_: Timestamp, event: &Event<'_>| {
        watch(event, here.hashed(), &remote);
        if matches!(event, Event::Source(SourcePhase::LastHarvest)) {
            here.forget();
            there.forget();
        }
    };
    let sent = thread::scope(|scope| {
        scope.spawn(|| -> Result<()> {
            let store = &mut MemoryStore::new(Role::Destination);
            let incoming = Incoming { listen, host: &mut host, store };
            let settings = DestinationSettings::new(token, mib(64));
            let mut received = destination::receive(incoming, settings, &Orders::new(), &mut ())?;
            received.afterlife.answer(Duration::from_secs(5));
            Ok(())
        });
        source::send(outgoing, settings, &orders, &mut watch)
    })?;
    Ok((sent.report, [here.hashed(), there.hashed()]))
}

/// The guest's heartbeat, the page of its registers, and what is next to either.
const CHANGED: ByteCount = ByteCount(4 * PIECE as u64);

/// Several times as much as is hashed before anybody looks around.
const MEMORY: ByteCount = ByteCount::mib(16);
/// A whole second for all of it.
const SLOWLY: Duration = Duration::from_millis(4);
const AT_ONCE: Duration = Duration::ZERO;

#[test]
fn a_round_is_over_when_it_is_hashed_too() -> Result<()> {
    let at_its_end = Cell::new(None);
    let look = |event: &Event<'_>, hashed: ByteCount, _: &Remote| {
        if matches!(event, Event::Source(SourcePhase::Harvesting)) && at_its_end.get().is_none() {
            at_its_end.set(Some(hashed));
        }
    };
    let (report, [here, _]) = moved("fixed-rounds", [SLOWLY, AT_ONCE], RateLimit::Unlimited, look)?;
    assert_eq!(report.outcome, Outcome::Completed, "{}", report.why);
    assert!(at_its_end.get().is_some_and(|hashed| hashed >= MEMORY), "{at_its_end:?}");
    assert!(here <= CHANGED, "{here}");
    // A policy that waits until the destination has acknowledged a round.
    let [_, there] = hashed_in_the_blackout("whimbrel", [AT_ONCE, SLOWLY], RateLimit::Unlimited)?;
    assert!(there <= CHANGED, "{there}");
    Ok(())
}

/// By QEMU's rule it may be when what is left takes 300 ms: here of 400.
#[test]
fn a_guest_that_is_paused_within_a_round_was_hashed_before() -> Result<()> {
    let limit = RateLimit::AtMost(Bandwidth::new(40_000_000).ok_or("no rate")?);
    let [here, _] = hashed_in_the_blackout("qemu-default", [SLOWLY, AT_ONCE], limit)?;
    assert!(here <= CHANGED, "{here}");
    Ok(())
}

/// All was sent long ago, and what is left to hash takes five seconds.
#[test]
fn a_move_is_cancelled_while_its_round_is_hashed() -> Result<()> {
    let was_paused = Cell::new(false);
    let cancel = |event: &Event<'_>, _: ByteCount, remote: &Remote| match event {
        Event::Source(SourcePhase::Sending) => {
            let remote = remote.clone();
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(300));
                remote.give(Order::Cancel(CancelReason::Requested));
            });
        }
        Event::Source(SourcePhase::Pausing) => was_paused.set(true),
        _ => {}
    };
    let (report, _) = moved("fixed-rounds", [5 * SLOWLY, AT_ONCE], RateLimit::Unlimited, cancel)?;
    assert_eq!(report.outcome, Outcome::Cancelled, "{}", report.why);
    assert!(!was_paused.get(), "all was hashed before anybody was heard");
    Ok(())
}
