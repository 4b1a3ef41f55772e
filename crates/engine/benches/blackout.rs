//! How long an idle guest stands still when it is moved: from its last heartbeat at the source to the first at the destination,
//! beside what the ledger says.
//!
//! `cargo bench -p whimbrel-engine --bench blackout -- [MIB] [MOVES]`. Records go to a directory of the disk that the target
//! folder is on; `memory` behind the numbers keeps them in memory, which no real migration may do, to show what the disk takes.

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("guest memory is for Linux");
}

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    bench::main()
}

#[cfg(target_os = "linux")]
mod bench {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::thread;
    use std::time::Duration;

    use whimbrel_core::embed::{Guest, GuestError};
    use whimbrel_core::layout::{PageSize, RamLayout};
    use whimbrel_core::machine::message::{Configuration, MigrationId, Section};
    use whimbrel_core::policy::presets;
    use whimbrel_core::report::{Ledger, Outcome};
    use whimbrel_core::units::ByteCount;
    use whimbrel_engine::destination::{self, DestinationSettings, Incoming, Replica};
    use whimbrel_engine::orders::Orders;
    use whimbrel_engine::source::{self, Outgoing, SourceSettings};
    use whimbrel_engine::stable::{DirectoryStore, MemoryStore, Role, StableStore};
    use whimbrel_engine::transport::open;
    use whimbrel_guest::lab::LabGuest;
    use whimbrel_guest::lab::config::LabConfig;
    use whimbrel_guest::log;
    use whimbrel_guest::memory::{Backing, GuestMemory};
    use whimbrel_wire::hello::Token;

    type Bad = Box<dyn std::error::Error>;

    pub(super) fn main() -> Result<(), Bad> {
        let arguments: Vec<String> = std::env::args().collect();
        let numbers: Vec<u64> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
        // `--test`: whether it still works.
        let (mib, moves) =
            if arguments.iter().any(|argument| argument == "--test") { (16, 1) } else { (1024, 50) };
        let mib = numbers.first().copied().unwrap_or(mib);
        let moves = numbers.get(1).copied().unwrap_or(moves);
        let in_memory = arguments.iter().any(|argument| argument == "memory");
        let records = Path::new(env!("CARGO_TARGET_TMPDIR")).join("blackout");
        let directory = (!in_memory).then_some(records.as_path());

        let mut gaps = Vec::new();
        for id in 0..moves {
            gaps.push(once(mib, MigrationId(id + 1), directory)?);
        }
        gaps.sort_by_key(|(gap, _)| *gap);
        let at = |share: f64| gaps[((gaps.len() - 1) as f64 * share) as usize];
        let kept = if in_memory { "in memory" } else { "on disk" };
        println!("{moves} moves of an idle guest of {mib} MiB, TCP on loopback, records {kept}");
        for (name, share) in [("quickest", 0.0), ("median", 0.5), ("90 %", 0.9), ("slowest", 1.0)] {
            let (gap, ledger) = at(share);
            let parts = ledger.parts().map(|(part, took)| format!("{part} {:.2}", took.as_secs_f64() * 1e3));
            let (gap, total) = (gap.as_secs_f64() * 1e3, ledger.total().as_secs_f64() * 1e3);
            println!("{name:9} {gap:7.2} ms seen by the guest, ledger {total:.2} ms: {}", parts.join(", "));
        }
        Ok(())
    }

    /// A guest whose heartbeat can be read while a driver has it.
    #[derive(Clone)]
    struct Watched(Arc<Mutex<LabGuest>>);

    impl Watched {
        fn guest(&self) -> MutexGuard<'_, LabGuest> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl Guest for Watched {
        fn pause(&mut self) -> Result<(), GuestError> {
            self.guest().pause()
        }

        fn resume(&mut self) -> Result<(), GuestError> {
            self.guest().resume()
        }

        fn save(&mut self) -> Result<Vec<Section>, GuestError> {
            self.guest().save()
        }

        fn restore(&mut self, state: Vec<Section>) -> Result<(), GuestError> {
            self.guest().restore(state)
        }
    }

    fn store(directory: Option<&Path>, role: Role) -> Result<Box<dyn StableStore>, Bad> {
        Ok(match directory {
            Some(directory) => Box::new(DirectoryStore::open(directory.join(role.name()), role)?),
            None => Box::new(MemoryStore::new(role)),
        })
    }

    /// One move: what the guest saw, and the ledger.
    fn once(mib: u64, id: MigrationId, directory: Option<&Path>) -> Result<(Duration, Ledger), Bad> {
        let layout = RamLayout::contiguous(ByteCount::mib(mib), PageSize::Kib4)?;
        let lab = LabConfig { device_rate: 0.0, ..LabConfig::default() };
        let memory = Arc::new(GuestMemory::new(layout.clone(), Backing::Private)?);
        let log::Choice { mut log, marks, .. } = log::best(Arc::clone(&memory) as Arc<_>);
        let mut here = LabGuest::new(Arc::clone(&memory), lab.clone(), marks)?;
        here.fill();
        let replica = Arc::new(GuestMemory::new(layout, Backing::Private)?);
        let there = Watched(Arc::new(Mutex::new(LabGuest::new(Arc::clone(&replica), lab, None)?)));
        let options = open::Options::default();
        let listen = open::listener(&"tcp:127.0.0.1:0".parse()?, &options)?;
        let connect = open::connector(&listen.address().parse()?, &options)?;
        let token = Token::new(b"bench")?;
        here.resume()?;
        thread::sleep(Duration::from_millis(20));

        let policy = presets::build("xen-5", &BTreeMap::new()).map_err(|error| error.to_string())?;
        let mut records_there = store(directory, Role::Destination)?;
        let mut records = store(directory, Role::Source)?;
        let arriving = there.clone();
        let sent = thread::scope(|scope| {
            let token = &token;
            let receiving = scope.spawn(move || {
                let mut host = |_: &Configuration| {
                    let ram = Arc::<GuestMemory>::clone(&replica);
                    Ok(Replica { ram, guest: Box::new(arriving.clone()), fresh: true })
                };
                let incoming =
                    Incoming { listen: Arc::from(listen), host: &mut host, store: &mut *records_there };
                let settings = DestinationSettings::new(token.clone(), ByteCount::gib(64));
                let orders = Orders::new();
                if let Ok(mut received) = destination::receive(incoming, settings, &orders, &mut ()) {
                    received.afterlife.answer(Duration::from_secs(1));
                }
                records_there.erase(id)
            });
            let outgoing = Outgoing {
                name: "bench".to_owned(),
                vcpus: 1,
                ram: Arc::<GuestMemory>::clone(&memory),
                log: &mut *log,
                guest: &mut here,
                policy,
                connect: Arc::from(connect),
                store: &mut *records,
            };
            let settings = SourceSettings::new(id, token.clone());
            let sent = source::send(outgoing, settings, &Orders::new(), &mut ());
            let _ = receiving.join();
            sent
        });
        let report = sent?.report;
        records.erase(id)?;
        if report.outcome != Outcome::Completed {
            return Err(format!("{}: {}", report.outcome, report.why).into());
        }
        thread::sleep(Duration::from_millis(20));
        let gap = there.guest().heartbeat().arrival.ok_or("it had no heartbeat")?;
        Ok((gap.length, report.downtime))
    }
}
