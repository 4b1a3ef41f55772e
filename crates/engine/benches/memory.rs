//! What the engine takes beside the guest's memory, on each side: what it asks the heap for, and what the system counts as the
//! process's own.
//!
//! `cargo bench -p whimbrel-engine --bench memory -- [MIB…]`
//!
//! Source and destination are two processes. Guest memory is a file of the kernel's, which neither figure contains. The heap's is
//! exact, without what C takes; the system's (`RssAnon`) has stacks, contexts of Zstandard and what the allocator keeps, and is looked at every two
//! milliseconds. Both are counted from when the guest is there.

#[path = "../tests/memory/moving.rs"]
#[cfg(target_os = "linux")]
mod moving;

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("guest memory is for Linux");
}

#[cfg(target_os = "linux")]
fn main() -> Result<(), moving::Bad> {
    bench::main()
}

#[cfg(target_os = "linux")]
mod bench {
    use std::io::{BufRead as _, BufReader, Read as _};
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::thread;
    use std::time::Duration;

    use whimbrel_guest::heap::Counted;

    use super::moving::{Bad, Case, Sending, give, take};

    #[global_allocator]
    static HEAP: Counted = Counted::new();

    /// What one side took, in bytes.
    #[derive(Clone, Copy, Debug)]
    struct Taken {
        heap: u64,
        system: u64,
    }

    pub(super) fn main() -> Result<(), Bad> {
        let arguments: Vec<String> = std::env::args().collect();
        if let Some(at) = arguments.iter().position(|argument| argument == "--destination") {
            return destination(arguments.get(at + 1..).unwrap_or_default());
        }
        let test = arguments.iter().any(|argument| argument == "--test");
        let mut sizes: Vec<u64> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
        if sizes.is_empty() {
            sizes = if test { vec![16] } else { vec![256, 1024, 4096] };
        }
        println!("MiB beside the guest's memory: heap / RssAnon\n");
        println!("| guest | streams | sent | source | destination | bound |\n|---|---|---|---|---|---|");
        for (index, mib) in sizes.into_iter().enumerate() {
            for streams in if test { [1, 2].as_slice() } else { &[1, 8, 64] } {
                for sending in Sending::ALL {
                    // With its size only bitmaps and digests grow.
                    if index > 0 && (*streams == 8 || matches!(sending, Sending::Lz4 | Sending::Zstd)) {
                        continue;
                    }
                    let case = Case { mib, zero: 0.25, streams: *streams, sending };
                    let [source, destination] = once(case)?.map(|taken| {
                        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
                        format!("{:.1} / {:.1}", mib(taken.heap), mib(taken.system))
                    });
                    let bound = case.bound() as f64 / 1_048_576.0;
                    println!(
                        "| {mib} MiB | {streams} | {} | {source} | {destination} | {bound:.1} |",
                        name(sending)
                    );
                }
            }
        }
        Ok(())
    }

    fn name(sending: Sending) -> &'static str {
        match sending {
            Sending::Raw => "raw",
            Sending::Checked => "raw, checksums, digest",
            Sending::Lz4 => "lz4",
            Sending::Zstd => "zstd",
            Sending::Everything => "adaptive, checksums, digest",
        }
    }

    /// One move; what source and destination took.
    fn once(case: Case) -> Result<[Taken; 2], Bad> {
        let socket = std::env::temp_dir().join(format!("whimbrel-memory-bench-{}", std::process::id()));
        let index = Sending::ALL.iter().position(|sending| *sending == case.sending).unwrap_or(0);
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--destination")
            .args([case.mib.to_string(), case.streams.to_string(), index.to_string()])
            .arg(&socket)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = BufReader::new(child.stdout.take().ok_or("it says nothing")?);
        let mut listens = String::new();
        said.read_line(&mut listens)?;
        let source = give(case, &socket, |send| watched(send));
        let mut took = String::new();
        said.read_to_string(&mut took)?;
        child.wait()?;
        let numbers: Vec<u64> = took.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        match numbers.as_slice() {
            [heap, system] => Ok([source?, Taken { heap: *heap, system: *system }]),
            _ => Err(format!("the destination said {took:?}").into()),
        }
    }

    /// The other process.
    fn destination(arguments: &[String]) -> Result<(), Bad> {
        let [mib, streams, sending, socket] = arguments else { return Err("not for people".into()) };
        let sending = Sending::ALL.get(sending.parse::<usize>()?).copied().ok_or("which?")?;
        let case = Case { mib: mib.parse()?, zero: 0.25, streams: streams.parse()?, sending };
        let socket = PathBuf::from(socket);
        let taken = take(case, &socket, || println!("listens"), |receive| watched(receive))?;
        println!("{} {}", taken.heap, taken.system);
        Ok(())
    }

    /// What is taken while `act` goes on.
    fn watched(act: &mut dyn FnMut() -> Result<(), Bad>) -> Result<Taken, Bad> {
        HEAP.begin();
        let (heap, system) = (HEAP.now() as u64, anonymous()?);
        let (over, most) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    most.fetch_max(anonymous().unwrap_or(0), Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(2));
                }
            });
            let done = act();
            over.store(true, Ordering::Relaxed);
            done
        })?;
        let (most, system_most) = (HEAP.most() as u64, most.into_inner());
        Ok(Taken { heap: most - heap, system: system_most.saturating_sub(system) })
    }

    /// Resident memory of this process that is no file's, in bytes.
    fn anonymous() -> Result<u64, Bad> {
        let text = std::fs::read_to_string(Path::new("/proc/self/status"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("no RssAnon")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
    }
}
