//! What a live migration carries, beside a bare sender and receiver of the same sockets and threads that move the same bytes
//! without any protocol: in one run, in turns, because machines are noisy.
//!
//! `cargo bench -p whimbrel-engine --bench streams -- [MIB] [PASSES]`

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

    use std::sync::Arc;
    use std::thread;
    use std::time::{Duration, Instant};

    use whimbrel_core::embed::{DirtyLog, Guest as _, GuestRam as _, Piece, RamRange};
    use whimbrel_core::layout::{Gpa, PageSize, RamLayout};
    use whimbrel_core::machine::message::{Configuration, MigrationId};
    use whimbrel_core::policy::presets;
    use whimbrel_core::report::Outcome;
    use whimbrel_core::units::ByteCount;
    use whimbrel_engine::destination::{self, DestinationSettings, Incoming, Replica};
    use whimbrel_engine::orders::Orders;
    use whimbrel_engine::source::{self, Outgoing, SourceSettings};
    use whimbrel_engine::stable::{MemoryStore, Role};
    use whimbrel_engine::transport::{Connect, Listen, Stream};
    use whimbrel_guest::lab::LabGuest;
    use whimbrel_guest::lab::config::LabConfig;
    use whimbrel_guest::log::SoftwareLog;
    use whimbrel_guest::memory::{Backing, GuestMemory};
    use whimbrel_wire::hello::Token;

    type Bad = Box<dyn std::error::Error>;

    /// What a bare sender writes at a time: as much as a frame of ours has.
    const CHUNK: u64 = 512 << 10;

    pub(super) fn main() -> Result<(), Bad> {
        let numbers: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
        // `--test`: whether it still works.
        let (mib, passes) = if std::env::args().any(|arg| arg == "--test") { (16, 1) } else { (1024, 5) };
        let mib = numbers.first().copied().unwrap_or(mib);
        let passes = numbers.get(1).copied().unwrap_or(passes);
        let layout = RamLayout::contiguous(ByteCount::mib(mib), PageSize::Kib4)?;
        let memory = Arc::new(GuestMemory::new(layout.clone(), Backing::Private)?);
        let guest = LabGuest::new(Arc::clone(&memory), LabConfig::default(), None)?;
        guest.fill();
        drop(guest);

        println!("{mib} MiB, the best and the median of {passes} passes, GiB/s\n");
        println!(
            "| transport | streams | memory | bare | engine | engine / bare | with checksums | / bare |"
        );
        println!("|---|---|---|---|---|---|---|---|");
        for transport in ["tcp", "unix"] {
            for streams in [1, 2] {
                for prepared in [true, false] {
                    let mut rows = [Vec::new(), Vec::new(), Vec::new()];
                    for _ in 0..passes {
                        rows[0].push(bare(&memory, transport, streams, prepared)?);
                        rows[1].push(engine(&memory, transport, streams, prepared, false)?);
                        rows[2].push(engine(&memory, transport, streams, prepared, true)?);
                    }
                    print(transport, streams, prepared, mib, &rows);
                }
            }
        }
        Ok(())
    }

    fn print(transport: &str, streams: u16, prepared: bool, mib: u64, rows: &[Vec<Duration>; 3]) {
        let rates = rows.each_ref().map(|times| {
            let mut rates: Vec<f64> =
                times.iter().map(|took| mib as f64 / 1024.0 / took.as_secs_f64()).collect();
            rates.sort_by(f64::total_cmp);
            (rates[rates.len() - 1], rates[rates.len() / 2])
        });
        let [bare, engine, checked] = rates;
        let both = |(best, median): (f64, f64)| format!("{best:.2} / {median:.2}");
        let ratio = |(best, median): (f64, f64)| {
            format!("{:.0} / {:.0} %", 100.0 * best / bare.0, 100.0 * median / bare.1)
        };
        let memory = if prepared { "prepared" } else { "untouched" };
        println!(
            "| {transport} | {streams} | {memory} | {} | {} | {} | {} | {} |",
            both(bare),
            both(engine),
            ratio(engine),
            both(checked),
            ratio(checked)
        );
    }

    type Ends = (Arc<dyn Connect>, Arc<dyn Listen>);

    fn ends(transport: &str) -> Result<Ends, Bad> {
        use whimbrel_engine::transport::open;
        let address = if transport == "tcp" {
            "tcp:127.0.0.1:0".to_owned()
        } else {
            let path = std::env::temp_dir().join(format!("whimbrel-bench-{}", std::process::id()));
            format!("unix:{}", path.display())
        };
        let options = open::Options::default();
        let listen = open::listener(&address.parse()?, &options)?;
        let connect = open::connector(&listen.address().parse()?, &options)?;
        Ok((Arc::from(connect), Arc::from(listen)))
    }

    fn replica(layout: &RamLayout, prepared: bool) -> Result<Arc<GuestMemory>, Bad> {
        let memory = Arc::new(GuestMemory::new(layout.clone(), Backing::Private)?);
        if prepared {
            memory.populate()?;
        }
        Ok(memory)
    }

    /// Two threads a stream, that move all of memory in chunks without a word.
    fn bare(
        memory: &Arc<GuestMemory>,
        transport: &str,
        streams: u16,
        prepared: bool,
    ) -> Result<Duration, Bad> {
        let (connect, listen) = ends(transport)?;
        let there = replica(memory.layout(), prepared)?;
        let wait = Duration::from_secs(5);
        let mut pairs = Vec::new();
        for _ in 0..streams {
            let near = thread::scope(|scope| {
                let near = scope.spawn(|| connect.connect(wait));
                let far = listen.accept(wait);
                near.join().map(|near| (near, far))
            });
            let (near, far) = near.map_err(|_| "a thread panicked")?;
            pairs.push((near?, far?.ok_or("nobody came")?));
        }
        let began = Instant::now();
        thread::scope(|scope| {
            for (number, (near, far)) in (0..).zip(&pairs) {
                let there = &there;
                scope.spawn(move || send_bare(&**near, memory, number, streams));
                scope.spawn(move || receive_bare(&**far, there, number, streams));
            }
        });
        Ok(began.elapsed())
    }

    /// The chunks of one stream.
    fn chunks(memory: &GuestMemory, number: u64, streams: u16) -> impl Iterator<Item = RamRange> {
        let count = memory.layout().bytes().0 / CHUNK;
        (number..count)
            .step_by(streams.into())
            .map(|chunk| RamRange { at: Gpa(chunk * CHUNK), len: ByteCount(CHUNK) })
    }

    fn send_bare(stream: &dyn Stream, memory: &GuestMemory, number: u64, streams: u16) {
        let direct = memory.direct().expect("memory of this process");
        let to = stream.descriptor().expect("a socket");
        for mut range in chunks(memory, number, streams) {
            while range.len.0 > 0 {
                let sent = direct.send(&[Piece::Ram(range)], to).expect("the receiver is there") as u64;
                range = RamRange { at: Gpa(range.at.0 + sent), len: ByteCount(range.len.0 - sent) };
            }
        }
    }

    fn receive_bare(stream: &dyn Stream, memory: &GuestMemory, number: u64, streams: u16) {
        let direct = memory.direct().expect("memory of this process");
        let from = stream.descriptor().expect("a socket");
        for mut range in chunks(memory, number, streams) {
            while range.len.0 > 0 {
                let came = direct.receive(&[range], from).expect("the sender is there") as u64;
                range = RamRange { at: Gpa(range.at.0 + came), len: ByteCount(range.len.0 - came) };
            }
        }
    }

    /// A whole migration of the same memory.
    fn engine(
        memory: &Arc<GuestMemory>,
        transport: &str,
        streams: u16,
        prepared: bool,
        checksums: bool,
    ) -> Result<Duration, Bad> {
        let (connect, listen) = ends(transport)?;
        let token = Token::new(b"bench")?;
        let lab = LabConfig { heartbeat: false, device_rate: 0.0, ..LabConfig::default() };
        let mut log = SoftwareLog::new(memory.layout());
        let mut guest = LabGuest::new(Arc::clone(memory), lab.clone(), Some(Arc::clone(log.bitmap())))?;
        guest.resume()?;
        let mut settings = SourceSettings::new(MigrationId(1), token.clone());
        settings.streams = streams;
        settings.encoding.payload_checksums = checksums;
        let ram = replica(memory.layout(), prepared)?;
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
        Ok(report.total)
    }
}
