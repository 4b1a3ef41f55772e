//! Guests that nobody takes: they run on where they are, and the source says why.
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::thread;

use whimbrel_core::embed::{Cause, Guest as _, GuestError};
use whimbrel_core::layout::{PageSize, RamLayout};
use whimbrel_core::machine::handoff::Right;
use whimbrel_core::machine::message::{Configuration, MigrationId};
use whimbrel_core::policy::presets;
use whimbrel_core::report::Outcome;
use whimbrel_engine::Token;
use whimbrel_engine::destination::{self, DestinationSettings, Incoming, Replica};
use whimbrel_engine::orders::Orders;
use whimbrel_engine::source::{self, Outgoing, SourceSettings};
use whimbrel_engine::stable::{MemoryStore, Role};
use whimbrel_engine::transport::memory::MemoryHub;
use whimbrel_guest::lab::LabGuest;
use whimbrel_guest::lab::config::LabConfig;
use whimbrel_guest::log::SoftwareLog;
use whimbrel_guest::memory::{Backing, GuestMemory};

use super::world::mib;

/// Of a host that has no room, why the source says that its guest stayed.
#[test]
fn a_guest_that_no_host_takes_runs_on_and_the_source_says_why_with_all_causes() -> Result<(), Box<dyn Error>>
{
    let layout = RamLayout::contiguous(mib(4), PageSize::Kib4)?;
    let ram = Arc::new(GuestMemory::new(layout.clone(), Backing::Private)?);
    let mut log = SoftwareLog::new(&layout);
    let mut guest = LabGuest::new(Arc::clone(&ram), LabConfig::default(), Some(Arc::clone(log.bitmap())))?;
    guest.resume()?;
    let hub = MemoryHub::new();
    let token = Token::new(b"open sesame")?;
    let (listen, there) = (hub.listen()?, DestinationSettings::new(token.clone(), mib(64)));
    let receiving = thread::spawn(move || {
        let mut host = |_: &Configuration| -> Result<Replica, Cause> {
            Err(GuestError::Failed { what: "be built", cause: "no vCPU is free".into() })?
        };
        let store = &mut MemoryStore::new(Role::Destination);
        let incoming = Incoming { listen: Arc::new(listen), host: &mut host, store };
        let mut received = destination::receive(incoming, there, &Orders::new(), &mut ())?;
        received.afterlife.answer(std::time::Duration::from_secs(5));
        Ok::<_, destination::DestinationError>(received)
    });
    let outgoing = Outgoing {
        name: "lab".to_owned(),
        vcpus: 1,
        ram,
        log: &mut log,
        guest: &mut guest,
        policy: presets::build("fixed-rounds", &BTreeMap::new())?,
        connect: Arc::new(hub.connector()),
        store: &mut MemoryStore::new(Role::Source),
    };
    let settings = SourceSettings::new(MigrationId(7), token);
    let sent = source::send(outgoing, settings, &Orders::new(), &mut ())?;
    assert_eq!((sent.report.outcome, sent.right, sent.settled), (Outcome::Refused, Right::Mine, true));
    let why = "the guest cannot be built: no vCPU is free";
    assert!(sent.report.why.contains(why), "{}", sent.report.why);
    let received = receiving.join().expect("no panic")?;
    assert_eq!((received.right, received.why.as_deref()), (Right::Theirs, Some(why)));

    let beats = guest.heartbeat().beats;
    thread::sleep(std::time::Duration::from_millis(20));
    assert!(guest.heartbeat().beats > beats, "it stands still");
    Ok(())
}
