//! Moves between two processes that go wrong at any moment, in any way that a connection or a process can: never two guests, never a
//! wrong one, and exactly one unless the source was killed.
//!
//! Each run is drawn from its seed, which is printed when it fails. `WHIMBREL_FAULTS` says how many runs are made, few unless it is
//! set; `WHIMBREL_FIRST` from which seed on; `WHIMBREL_WORKERS` how many at once.

mod between;
mod case;
mod ends;
mod hosts;
mod judge;
#[cfg(feature = "tls")]
mod veiled;
mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use self::between::lock;
use self::case::Case;
use self::judge::{Fate, go};

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// From here on sixteen runs have each of what is rare: an impostor on either side before anything is begun, pages that are damaged with
/// nothing but their checksums to find it, a source that is killed behind *go* and asked for by its record.
const FIRST: u64 = 210_693;

/// What came of all runs.
#[derive(Debug, Default)]
struct Tally {
    fates: BTreeMap<Fate, u64>,
    /// What went wrong, and when.
    done: BTreeMap<String, u64>,
    /// Of each kind of fault, and of each kind of connection: how many runs it was in, and how they ended.
    ended: BTreeMap<&'static str, BTreeMap<Fate, u64>>,
    /// Seeds.
    failed: Vec<u64>,
}

fn run(seed: u64, tally: &Mutex<Tally>) {
    let case = Case::draw(seed);
    let gone = catch_unwind(AssertUnwindSafe(|| go(&case)));
    let mut tally = lock(tally);
    if let Ok((fate, done)) = gone {
        println!("{seed}: {fate:?} after {done:?} of {case:?}");
        *tally.fates.entry(fate).or_default() += 1;
        let mut kinds = BTreeSet::from([case.arrival.name(), if case.tls { "TLS" } else { "plain" }]);
        kinds.extend(case.impostor.map(|_| "impostor"));
        for fault in done {
            *tally.done.entry(fault.kind()).or_default() += 1;
            kinds.insert(fault.deed.name());
        }
        for kind in kinds {
            *tally.ended.entry(kind).or_default().entry(fate).or_default() += 1;
        }
    } else {
        println!("{seed}: FAILED: {case:?}");
        tally.failed.push(seed);
    }
}

#[test]
fn whatever_happens_to_two_processes_there_is_never_more_than_one_guest() {
    let (count, first) = (setting("WHIMBREL_FAULTS", 16), setting("WHIMBREL_FIRST", FIRST));
    let (next, tally) = (AtomicU64::new(first), Mutex::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return;
            }
            run(seed, &tally);
        }
    };
    thread::scope(|scope| {
        for _ in 0..setting("WHIMBREL_WORKERS", 4) {
            scope.spawn(work);
        }
    });
    let Tally { fates, done, ended, failed } = &*lock(&tally);
    println!("{done:#?}");
    for (kind, fates) in ended {
        println!("{kind}: {} {fates:?}", fates.values().sum::<u64>());
    }
    println!("{fates:?}");
    assert!(
        failed.is_empty(),
        "WHIMBREL_FIRST={} WHIMBREL_FAULTS=1 repeats the first of {failed:?}",
        failed[0]
    );
    // That nothing was tried must not pass for success.
    let tried = [
        Fate::Stayed,
        Fate::Moved,
        Fate::RunByOrder,
        Fate::LostWithTheDestination,
        Fate::MovedAndAsked,
        Fate::BackAtTheSource,
    ];
    assert!(count < 500 || tried.iter().all(|fate| fates.contains_key(fate)), "{fates:?}");
}
