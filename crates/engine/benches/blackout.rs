//! How long an idle guest stands still when it is moved: from its last heartbeat at the source to the first at the destination,
//! beside what the ledger says.
//!
//! `cargo bench -p whimbrel-engine --bench blackout -- [MIB] [MOVES]`. Records go to a directory of the disk that the target
//! folder is on. A word behind the numbers says otherwise: `memory` keeps them in memory, which no real migration may do, to show what the
//! disk takes; `cold` does not tell the stores that a record is near, and `both` makes twice as many moves, every other
//! one of them cold, for a table of each; `there` is the same with the source's records in memory, so that nobody but the destination keeps
//! its disk awake. `huge` has both ends' memory in huge pages, of which far fewer are to be looked through while the guest stands
//! still. The name of a policy takes the place of `xen-5`.

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
    use whimbrel_core::machine::handoff::StableRecord;
    use whimbrel_core::machine::message::{Configuration, MigrationId, Section};
    use whimbrel_core::policy::presets;
    use whimbrel_core::report::{Ledger, Outcome};
    use whimbrel_core::units::ByteCount;
    use whimbrel_engine::destination::{self, DestinationSettings, Incoming, Replica};
    use whimbrel_engine::orders::Orders;
    use whimbrel_engine::source::{self, Outgoing, SourceSettings};
    use whimbrel_engine::stable::{DirectoryStore, MemoryStore, PersistError, Role, StableStore, StoreError};
    use whimbrel_engine::transport::{Listen, open};
    use whimbrel_guest::lab::config::LabConfig;
    use whimbrel_guest::lab::{LabGuest, host_clock};
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
        let moves = numbers.get(1).copied().unwrap_or(moves).max(1);
        let said = |word: &str| arguments.iter().any(|argument| argument == word);
        let records = Path::new(env!("CARGO_TARGET_TMPDIR")).join("blackout");
        // At the source, at the destination.
        let kinds: &[[Kept; 2]] = match () {
            () if said("memory") => &[[Kept::InMemory; 2]],
            () if said("cold") => &[[Kept::Cold; 2]],
            () if said("both") => &[[Kept::Warm; 2], [Kept::Cold; 2]],
            () if said("there") => &[[Kept::InMemory, Kept::Warm], [Kept::InMemory, Kept::Cold]],
            () => &[[Kept::Warm; 2]],
        };
        let is_policy = |argument: &&String| presets::build(argument, &BTreeMap::new()).is_ok();
        let policy = arguments.iter().find(is_policy).map_or("xen-5", |policy| policy);
        let backing = if said("huge") { Backing::PrivateHuge } else { Backing::Private };
        let plan = Plan { mib, backing, policy, records: &records };

        let mut seen: Vec<Vec<Seen>> = kinds.iter().map(|_| Vec::new()).collect();
        let mut id = 0;
        for _ in 0..moves {
            for (&kept, seen) in kinds.iter().zip(&mut seen) {
                id += 1;
                seen.push(once(&plan, MigrationId(id), kept)?);
            }
        }
        for (kept, seen) in kinds.iter().zip(&seen) {
            println!(
                "{moves} moves of an idle guest of {mib} MiB ({backing}) by {policy}, TCP on loopback, records {} and {}; in milliseconds",
                kept[0].in_words(),
                kept[1].in_words()
            );
            table(seen);
        }
        Ok(())
    }

    /// Where records are kept.
    #[derive(Clone, Copy)]
    enum Kept {
        Warm,
        Cold,
        InMemory,
    }

    impl Kept {
        fn in_words(self) -> &'static str {
            match self {
                Self::Warm => "on disk",
                Self::Cold => "on a disk that is left to sleep",
                Self::InMemory => "in memory",
            }
        }

        fn store(self, records: &Path, role: Role) -> Result<Box<dyn StableStore>, Bad> {
            let directory = records.join(role.name());
            Ok(match self {
                Self::Warm => Box::new(DirectoryStore::open(directory, role)?),
                Self::Cold => Box::new(Cold(DirectoryStore::open(directory, role)?)),
                Self::InMemory => Box::new(MemoryStore::new(role)),
            })
        }
    }

    /// A store that is not told when a record is near.
    struct Cold(DirectoryStore);

    impl StableStore for Cold {
        fn prepare(&mut self, id: MigrationId, guest: &str) -> Result<(), StoreError> {
            self.0.prepare(id, guest)
        }

        fn persist(&mut self, id: MigrationId, record: StableRecord) -> Result<(), PersistError> {
            self.0.persist(id, record)
        }

        fn load(&mut self, id: MigrationId) -> Result<Option<StableRecord>, StoreError> {
            self.0.load(id)
        }

        fn erase(&mut self, id: MigrationId) -> Result<(), StoreError> {
            self.0.erase(id)
        }
    }

    fn table(seen: &[Seen]) {
        println!("{:34}{:>9}{:>9}{:>9}{:>9}", "", "quickest", "median", "90 %", "slowest");
        let row = |name: &str, of: &dyn Fn(&Seen) -> Duration| {
            let mut times: Vec<Duration> = seen.iter().map(of).collect();
            times.sort_unstable();
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
            println!("{name:34}{:9.2}{:9.2}{:9.2}{:9.2}", at(0.0), at(0.5), at(0.9), at(1.0));
        };
        row("from heartbeat to heartbeat", &|seen| seen.gap);
        row("last heartbeat to pause", &|seen| seen.before);
        row("ledger", &|seen| seen.ledger.total());
        for (index, (name, _)) in Ledger::default().parts().iter().enumerate() {
            if seen.iter().any(|seen| seen.ledger.parts()[index].1 > Duration::ZERO) {
                row(&format!("  {name}"), &|seen| seen.ledger.parts()[index].1);
            }
        }
        row("told to run to first heartbeat", &|seen| seen.after);
        row("difference of ledger and heartbeats", &|seen| seen.gap.abs_diff(seen.ledger.total()));
    }

    /// What was seen of a move.
    struct Seen {
        /// From the last heartbeat at the source to the first at the destination.
        gap: Duration,
        /// From the last heartbeat until the guest was told to stop, and from when it was told to run to the first.
        before: Duration,
        after: Duration,
        ledger: Ledger,
    }

    /// A guest whose heartbeat can be read while a driver has it, and of which it is known when it was told to stop or to run.
    #[derive(Clone)]
    struct Watched {
        guest: Arc<Mutex<LabGuest>>,
        /// When the last of that began, and when it was done.
        told: Arc<Mutex<(Duration, Duration)>>,
    }

    impl Watched {
        fn new(guest: LabGuest) -> Self {
            Self { guest: Arc::new(Mutex::new(guest)), told: Arc::default() }
        }

        fn guest(&self) -> MutexGuard<'_, LabGuest> {
            self.guest.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn told(&self) -> MutexGuard<'_, (Duration, Duration)> {
            self.told.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl Guest for Watched {
        fn pause(&mut self) -> Result<(), GuestError> {
            let began = host_clock();
            self.guest().pause()?;
            *self.told() = (began, host_clock());
            Ok(())
        }

        fn resume(&mut self) -> Result<(), GuestError> {
            let began = host_clock();
            self.guest().resume()?;
            *self.told() = (began, host_clock());
            Ok(())
        }

        fn turned_ago(&self) -> Option<Duration> {
            self.guest().turned_ago()
        }

        fn save(&mut self) -> Result<Vec<Section>, GuestError> {
            self.guest().save()
        }

        fn restore(&mut self, state: Vec<Section>) -> Result<(), GuestError> {
            self.guest().restore(state)
        }
    }

    /// What all moves have in common.
    struct Plan<'a> {
        mib: u64,
        backing: Backing,
        policy: &'a str,
        /// The directory of the records on disk.
        records: &'a Path,
    }

    impl Plan<'_> {
        fn memory(&self) -> Result<Arc<GuestMemory>, Bad> {
            let layout = RamLayout::contiguous(ByteCount::mib(self.mib), PageSize::Kib4)?;
            Ok(Arc::new(GuestMemory::new(layout, self.backing)?))
        }
    }

    /// Takes the guest, and answers its source for as long as that may ask.
    fn receive(
        listen: Arc<dyn Listen>,
        token: Token,
        (replica, guest): (Arc<GuestMemory>, Watched),
        records: &mut dyn StableStore,
    ) {
        let mut host = |_: &Configuration| {
            let ram = Arc::<GuestMemory>::clone(&replica);
            Ok(Replica { ram, guest: Box::new(guest.clone()), fresh: true })
        };
        let incoming = Incoming { listen, host: &mut host, store: records };
        let settings = DestinationSettings::new(token, ByteCount::gib(64));
        if let Ok(mut received) = destination::receive(incoming, settings, &Orders::new(), &mut ()) {
            received.afterlife.answer(Duration::from_secs(1));
        }
    }

    /// One move, with records kept so at the source and at the destination.
    fn once(plan: &Plan<'_>, id: MigrationId, kept: [Kept; 2]) -> Result<Seen, Bad> {
        let lab = LabConfig { device_rate: 0.0, ..LabConfig::default() };
        let memory = plan.memory()?;
        let log::Choice { mut log, marks, .. } = log::best(Arc::clone(&memory) as Arc<_>);
        let mut here = Watched::new(LabGuest::new(Arc::clone(&memory), lab.clone(), marks)?);
        here.guest().fill();
        let replica = plan.memory()?;
        let there = Watched::new(LabGuest::new(Arc::clone(&replica), lab, None)?);
        let options = open::Options::default();
        let listen = open::listener(&"tcp:127.0.0.1:0".parse()?, &options)?;
        let connect = open::connector(&listen.address().parse()?, &options)?;
        let token = Token::new(b"bench")?;
        here.resume()?;
        thread::sleep(Duration::from_millis(20));

        let policy = presets::build(plan.policy, &BTreeMap::new()).map_err(|error| error.to_string())?;
        let mut records_there = kept[1].store(plan.records, Role::Destination)?;
        let mut records = kept[0].store(plan.records, Role::Source)?;
        let arriving = (replica, there.clone());
        let sent = thread::scope(|scope| {
            let expected = token.clone();
            scope.spawn(move || {
                receive(Arc::from(listen), expected, arriving, &mut *records_there);
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
            let settings = SourceSettings::new(id, token);
            source::send(outgoing, settings, &Orders::new(), &mut ())
        });
        let report = sent?.report;
        records.erase(id)?;
        if report.outcome != Outcome::Completed {
            return Err(format!("{}: {}", report.outcome, report.why).into());
        }
        thread::sleep(Duration::from_millis(20));
        seen(&here, &there, report.downtime)
    }

    /// What of it was seen, and what the source says.
    fn seen(here: &Watched, there: &Watched, ledger: Ledger) -> Result<Seen, Bad> {
        let gap = there.guest().heartbeat().arrival.ok_or("it had no heartbeat")?;
        let (paused, resumed) = (here.told().0, there.told().0);
        Ok(Seen {
            gap: gap.length,
            before: paused.saturating_sub(gap.ended.saturating_sub(gap.length)),
            after: gap.ended.saturating_sub(resumed),
            ledger,
        })
    }
}
