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
    use std::os::fd::AsFd as _;
    use std::sync::Arc;
    use std::thread;
    use std::time::{Duration, Instant};

    use whimbrel_core::embed::{DirectRam, DirtyLog, Guest as _, GuestRam as _, Piece, RamRange};
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
        let mib = numbers.first().copied().unwrap_or(1024);
        let passes = numbers.get(1).copied().unwrap_or(5);
        let layout = RamLayout::contiguous(ByteCount::mib(mib), PageSize::Kib4)?;
        let memory = Arc::new(GuestMemory::new(layout.clone(), Backing::Private)?);
        let guest = LabGuest::new(Arc::clone(&memory), LabConfig::default(), None)?;
        guest.fill();
        drop(guest);

        println!("{mib} MiB, the best and the median of {passes} passes, GiB/s\n");
        println!("| transport | streams | memory | bare | engine | engine / bare | with checksums | / bare |");
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
            let mut rates: Vec<f64> = times.iter().map(|took| mib as f64 / 1024.0 / took.as_secs_f64()).collect();
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
        let address = match transport {
            "tcp" => "tcp:127.0.0.1:0".to_owned(),
            _ => {
                let path = std::env::temp_dir().join(format!("whimbrel-bench-{}", std::process::id()));
                format!("unix:{}", path.display())
            }
        };
        let options = open::Options::default();
        let listen = open::listen(&address.parse()?, &options)?;
        let connect = open::connect(&listen.address().parse()?, &options)?;
        Ok((Arc::from(connect), Arc::from(listen)))
    }

    fn replica(layout: &RamLayout, prepared: bool) -> Result<Arc<GuestMemory>, Bad> {
        let memory = Arc::new(GuestMemory::new(layout.clone(), Backing::Private)?);
        if prepared {
            memory.populate()?;
        }
        Ok(memory)
    }
}
