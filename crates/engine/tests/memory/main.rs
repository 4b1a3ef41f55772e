//! What a migration takes beside the guest's memory: on either side at most 64 MiB and 0.02 % of it, whatever the streams and encodings.
//!
//! The destination is this program once more, so that each side is counted alone, by a heap that counts. The contexts of Zstandard are
//! C's and not counted, nor are threads' stacks: the bench `memory` looks at what the system counts, too.
#![cfg(target_os = "linux")]

mod moving;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use whimbrel_guest::heap::Counted;

use self::moving::{Bad, Case, Sending, give, take};

#[global_allocator]
static HEAP: Counted = Counted::new();

/// The test, as the other process is told to run it.
const TEST: &str = "the_engine_takes_no_more_than_64_mib_and_a_five_thousandth_of_the_guest";

/// Tells the other process that it is that, and what is moved: MiB, share of zeroes, streams, index of the encoding, directory.
const CASE: &str = "WHIMBREL_MEMORY_CASE";

/// What `act` takes at most, in bytes.
fn counted(act: &mut dyn FnMut() -> Result<(), Bad>) -> Result<usize, Bad> {
    HEAP.begin();
    let before = HEAP.now();
    act()?;
    Ok(HEAP.most() - before)
}

/// The other process: takes the guest that it was told of, and leaves word of what that took.
fn the_destination(case: &str) {
    let [mib, zero, streams, sending, directory] =
        case.split(' ').collect::<Vec<_>>().try_into().expect("a case");
    let sending = Sending::ALL[sending.parse::<usize>().expect("an index")];
    let number = |text: &str| text.parse().expect("a number");
    let case = Case {
        mib: number(mib),
        zero: zero.parse().expect("a share"),
        streams: number(streams) as u16,
        sending,
    };
    let directory = PathBuf::from(directory);
    let taken = take(case, &directory.join("socket"), || (), counted).expect("it comes");
    std::fs::write(directory.join("taken"), taken.to_string()).expect("written");
}

/// Ends it, whatever becomes of the test.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn the_other(case: Case, directory: &Path) -> Other {
    let sending = Sending::ALL.iter().position(|sending| *sending == case.sending).expect("one of them");
    let words = format!("{} {} {} {sending} {}", case.mib, case.zero, case.streams, directory.display());
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", TEST]).env(CASE, words).stdout(Stdio::null());
    let mut other = Other(command.spawn().expect("it starts"));
    while !directory.join("socket").exists() {
        assert_eq!(other.0.try_wait().expect("a child"), None, "the destination has ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    other
}

/// What source and destination take.
fn taken(case: Case) -> [usize; 2] {
    let directory = std::env::temp_dir().join(format!("whimbrel-memory-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("a directory");
    let mut other = the_other(case, &directory);
    let here = give(case, &directory.join("socket"), counted).expect("it was moved");
    assert!(other.0.wait().expect("it ends").success());
    let there = std::fs::read_to_string(directory.join("taken")).expect("it has counted");
    std::fs::remove_dir_all(&directory).expect("removed");
    [here, there.parse().expect("a number")]
}

#[test]
fn the_engine_takes_no_more_than_64_mib_and_a_five_thousandth_of_the_guest() {
    if let Ok(case) = std::env::var(CASE) {
        return the_destination(&case);
    }
    let cases = Sending::ALL
        .into_iter()
        .map(|sending| Case { mib: 32, zero: 0.0, streams: 64, sending })
        // Bitmaps go with the guest's size.
        .chain([Case { mib: 1024, zero: 0.98, streams: 1, sending: Sending::Raw }]);
    for case in cases {
        for taken in taken(case) {
            assert!(taken <= case.bound(), "{taken} bytes, accepted are {}: {case:?}", case.bound());
            eprintln!("{case:?}: {:.2} MiB", taken as f64 / 1_048_576.0);
        }
    }
}
