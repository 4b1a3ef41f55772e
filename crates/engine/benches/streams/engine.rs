//! A whole migration of the same memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use whimbrel_core::embed::{DirtyLog, Guest as _};
use whimbrel_core::machine::message::{Configuration, MigrationId};
use whimbrel_core::policy::presets;
use whimbrel_core::report::Outcome;
use whimbrel_core::units::ByteCount;
use whimbrel_engine::destination::{self, DestinationSettings, Incoming, Replica};
use whimbrel_engine::orders::Orders;
use whimbrel_engine::source::{self, Outgoing, SourceSettings};
use whimbrel_engine::stable::{MemoryStore, Role};
use whimbrel_guest::lab::LabGuest;
use whimbrel_guest::lab::config::LabConfig;
use whimbrel_guest::log::SoftwareLog;
use whimbrel_guest::memory::GuestMemory;
use whimbrel_wire::hello::Token;

use super::ends::{ends, replica};
use super::{Bad, Row, Took};

pub(super) fn run(memory: &Arc<GuestMemory>, row: Row, checksums: bool) -> Result<Took, Bad> {
    let (connect, listen) = ends(row.transport)?;
    let token = Token::new(b"bench")?;
    let lab = LabConfig { heartbeat: false, device_rate: 0.0, ..LabConfig::default() };
    let mut log = SoftwareLog::new(memory.layout());
    let mut guest = LabGuest::new(Arc::clone(memory), lab.clone(), Some(Arc::clone(log.bitmap())))?;
    guest.resume()?;
    let mut settings = SourceSettings::new(MigrationId(1), token.clone());
    settings.streams = row.streams;
    settings.encoding.payload_checksums = checksums;
    let ram = replica(memory.layout(), row)?;
    let there = Box::new(LabGuest::new(Arc::clone(&ram), lab, None)?);
    let built = Replica { ram, guest: there, fresh: true };
    let sent = thread::scope(|scope| {
        let receiving = scope.spawn(move || {
            let mut built = Some(built);
            let mut host = |_: &Configuration| built.take().ok_or_else(|| "one guest only".into());
            let mut store = MemoryStore::new(Role::Destination);
            let incoming = Incoming { listen, host: &mut host, store: &mut store };
            let settings = DestinationSettings::new(token, ByteCount::gib(64));
            let _ = destination::receive(incoming, settings, &Orders::new(), &mut ());
        });
        let outgoing = Outgoing {
            name: "bench".to_owned(),
            vcpus: 1,
            ram: Arc::<GuestMemory>::clone(memory),
            log: &mut log as &mut dyn DirtyLog,
            guest: &mut guest,
            policy: presets::build("xen-5", &BTreeMap::new())
                .map_err(|error| error.to_string())
                .expect("a preset"),
            connect,
            store: &mut MemoryStore::new(Role::Source),
        };
        let sent = source::send(outgoing, settings, &Orders::new(), &mut ());
        let _ = receiving.join();
        sent
    })?;
    let report = sent.report;
    if report.outcome != Outcome::Completed {
        return Err(format!("{}: {}", report.outcome, report.why).into());
    }
    // All of it, the handshake, the switchover and what is undone included.
    let bulk = report.rounds.first().ok_or("no round")?.length;
    Ok(Took { all: report.total, bulk })
}
