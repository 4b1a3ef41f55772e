//! What a live migration carries, beside a bare sender and receiver of the same sockets and threads that move the same bytes
//! without any protocol, and beside QEMU where it is installed: in one run, in turns, because machines are noisy.
//!
//! `cargo bench -p whimbrel-engine --bench streams -- [MIB] [PASSES] [WORD…]`; words choose among what is measured (`tcp`,
//! `unix`; `one`, `two`; `prepared`, `untouched`; `bare`, `engine`, `checked`, `qemu`), all of a kind if none of it is named. With `huge` all
//! memory is in huge pages as far as the kernel has any, as QEMU's always is (`MADV_HUGEPAGE`, `ram_block_add` in its `softmmu/physmem.c`).

mod bare;
mod ends;
mod engine;
mod qemu;

use std::sync::Arc;
use std::time::Duration;

use whimbrel_core::layout::{PageSize, RamLayout};
use whimbrel_core::units::ByteCount;
use whimbrel_guest::lab::LabGuest;
use whimbrel_guest::lab::config::LabConfig;
use whimbrel_guest::memory::{Backing, GuestMemory};

use self::qemu::Qemu;

type Bad = Box<dyn std::error::Error>;

/// What the replica's memory is before the first byte comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Memory {
    Prepared,
    Untouched,
}

impl Memory {
    const fn name(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Untouched => "untouched",
        }
    }
}

/// One line of the table.
#[derive(Clone, Copy)]
struct Row {
    transport: &'static str,
    streams: u16,
    memory: Memory,
    /// Of the memory at both ends, but for QEMU's.
    backing: Backing,
}

/// How long something took: all of it, and the bulk round alone where there is one.
#[derive(Clone, Copy)]
struct Took {
    all: Duration,
    bulk: Duration,
}

/// What is moved, and which rows and columns are wanted.
struct Wanted {
    mib: u64,
    passes: u64,
    words: Vec<String>,
}

impl Wanted {
    fn of_arguments() -> Self {
        let (numbers, words): (Vec<String>, Vec<String>) =
            std::env::args().skip(1).partition(|arg| arg.parse::<u64>().is_ok());
        let mut numbers = numbers.iter().filter_map(|number| number.parse().ok());
        // `--test`: whether it still works.
        let (mib, passes) = if words.iter().any(|word| word == "--test") { (16, 1) } else { (1024, 5) };
        let (mib, passes) = (numbers.next().unwrap_or(mib), numbers.next().unwrap_or(passes));
        Self { mib, passes: passes.max(1), words }
    }

    /// Whether `word` is wanted of these, of which one is chosen, several or none: then all are.
    fn takes(&self, word: &str, kind: &[&str]) -> bool {
        let named = |word: &str| self.words.iter().any(|named| named == word);
        named(word) || !kind.iter().any(|word| named(word))
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let backing = self.backing();
        for transport in ["tcp", "unix"] {
            for (streams, word) in [(1, "one"), (2, "two")] {
                for memory in [Memory::Prepared, Memory::Untouched] {
                    let taken = self.takes(transport, &["tcp", "unix"])
                        && self.takes(word, &["one", "two"])
                        && self.takes(memory.name(), &["prepared", "untouched"]);
                    if taken {
                        rows.push(Row { transport, streams, memory, backing });
                    }
                }
            }
        }
        rows
    }

    fn backing(&self) -> Backing {
        if self.words.iter().any(|word| word == "huge") { Backing::PrivateHuge } else { Backing::Private }
    }

    fn column(&self, word: &str) -> bool {
        self.takes(word, &["bare", "engine", "checked", "qemu"])
    }
}

/// Times of one row, pass by pass.
#[derive(Default)]
struct Times {
    bare: Vec<Took>,
    engine: Vec<Took>,
    checked: Vec<Took>,
    qemu: Vec<Took>,
}

pub(super) fn main() -> Result<(), Bad> {
    let wanted = Wanted::of_arguments();
    let layout = RamLayout::contiguous(ByteCount::mib(wanted.mib), PageSize::Kib4)?;
    let memory = Arc::new(GuestMemory::new(layout.clone(), wanted.backing())?);
    let guest = LabGuest::new(Arc::clone(&memory), LabConfig::default(), None)?;
    guest.fill();
    drop(guest);
    let qemu = if wanted.column("qemu") { Qemu::find() } else { None };

    let pages = if wanted.backing() == Backing::Private { "4 KiB" } else { "huge" };
    println!(
        "{} MiB in {pages} pages, the best and the median of {} passes, GiB/s",
        wanted.mib, wanted.passes
    );
    match &qemu {
        Some(qemu) => println!("{}, paused, one channel: by its own total time\n", qemu.version),
        None => println!("**QEMU IS NOT MEASURED: not installed, or not wanted**\n"),
    }
    print!(
        "| transport | streams | memory | bare | engine, whole migration | of bare | its bulk round | of bare "
    );
    println!("| with checksums | of bare | its bulk round | of bare | QEMU | engine / QEMU |");
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for row in wanted.rows() {
        let mut times = Times::default();
        for _ in 0..wanted.passes {
            if wanted.column("bare") {
                times.bare.push(bare::run(&memory, row)?);
            }
            if wanted.column("engine") {
                times.engine.push(engine::run(&memory, row, false)?);
            }
            if wanted.column("checked") {
                times.checked.push(engine::run(&memory, row, true)?);
            }
            // With one channel.
            if qemu.is_some() && row.streams == 1 {
                times.qemu.push(Qemu::run(wanted.mib, row)?);
            }
        }
        print_row(row, wanted.mib, &times);
    }
    Ok(())
}

/// GiB/s, the best and the median; none if it was not measured.
type Rates = Option<(f64, f64)>;

fn rates(mib: u64, times: &[Took], of: impl Fn(&Took) -> Duration) -> Rates {
    let mut rates: Vec<f64> = times.iter().map(|took| mib as f64 / 1024.0 / of(took).as_secs_f64()).collect();
    rates.sort_by(f64::total_cmp);
    Some((*rates.last()?, *rates.get(rates.len() / 2)?))
}

fn print_row(row: Row, mib: u64, times: &Times) {
    let all = |times: &[Took]| rates(mib, times, |took| took.all);
    let bulk = |times: &[Took]| rates(mib, times, |took| took.bulk);
    let both =
        |rates: Rates| rates.map_or_else(String::new, |(best, median)| format!("{best:.2} / {median:.2}"));
    let share = |part: Rates, whole: Rates| match (part, whole) {
        (Some(part), Some(whole)) => {
            format!("{:.0} / {:.0} %", 100.0 * part.0 / whole.0, 100.0 * part.1 / whole.1)
        }
        _ => String::new(),
    };
    let bare = all(&times.bare);
    let mut cells =
        vec![row.transport.to_owned(), row.streams.to_string(), row.memory.name().to_owned(), both(bare)];
    for rates in [all(&times.engine), bulk(&times.engine), all(&times.checked), bulk(&times.checked)] {
        cells.extend([both(rates), share(rates, bare)]);
    }
    let qemu = all(&times.qemu);
    cells.extend([both(qemu), share(all(&times.engine), qemu)]);
    println!("| {} |", cells.join(" | "));
}
