//! Moves that go wrong at any moment, in any way that a connection can: exactly one whole guest afterwards, and nothing left of
//! the migration.
//!
//! `WHIMBREL_FAULTS` says how many moves are made; few unless it is set.
use std::thread;
use std::time::Duration;

use super::world::{Where, World, mib};
use rand_core::{Rng as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;
use whimbrel_core::machine::SourcePhase;
use whimbrel_engine::observer::Event;
use whimbrel_engine::orders::Remote;
use whimbrel_engine::transport::memory::MemoryHub;

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// One connection, by its number, is lost when so many bytes went over it.
    CutAfter { link: usize, bytes: u64 },
    /// All are lost at this moment.
    CutAll,
    /// Nothing arrives any more on one of them, from this moment on.
    Stall { link: usize },
    /// The source is told to stop.
    Cancel,
    /// The destination is told to stop.
    Withdraw,
}

/// One move of the series.
#[derive(Clone, Copy, Debug)]
struct Case {
    streams: u16,
    fault: Fault,
    at: Duration,
    /// For so long nobody can connect again.
    unreachable: Duration,
}

/// Numbers from a seed, each below what is asked for.
struct Dice(Xoshiro256PlusPlus);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        // As good as even for what is thrown here.
        self.0.next_u64() % end
    }
}

fn case(seed: u64) -> Case {
    let mut dice = Dice(Xoshiro256PlusPlus::seed_from_u64(seed));
    let streams = 1 + dice.below(3) as u16;
    let link = dice.below(u64::from(streams) + 1) as usize;
    let fault = match dice.below(8) {
        // Control says little, pages much.
        0..=3 if link == 0 => Fault::CutAfter { link, bytes: dice.below(2_000) },
        0..=3 => Fault::CutAfter { link, bytes: dice.below(6 << 20) },
        4 => Fault::CutAll,
        5 => Fault::Stall { link },
        6 => Fault::Cancel,
        _ => Fault::Withdraw,
    };
    let at = Duration::from_micros(dice.below(60_000));
    Case { streams, fault, at, unreachable: Duration::from_millis(dice.below(3) * 150) }
}

/// Does what is to go wrong.
fn meddle(case: Case, hub: &MemoryHub, source: &Remote, destination: &Remote) {
    let links = |count: usize| {
        // They are made before anything else.
        for _ in 0..50_000 {
            if hub.links().len() >= count {
                break;
            }
            thread::sleep(Duration::from_micros(100));
        }
        hub.links()
    };
    let all = usize::from(case.streams) + 1;
    if let Fault::CutAfter { link, bytes } = case.fault {
        if let Some(link) = links(link + 1).get(link) {
            link.cut_after(bytes);
        }
        return;
    }
    let links = links(all);
    thread::sleep(case.at);
    match case.fault {
        Fault::CutAfter { .. } => {}
        Fault::CutAll => {
            hub.set_reachable(false);
            links.iter().for_each(whimbrel_engine::transport::memory::Link::cut);
        }
        Fault::Stall { link } => {
            hub.set_reachable(false);
            if let Some(link) = links.get(link) {
                link.stall(true);
            }
        }
        Fault::Cancel => drop(source.cancel()),
        Fault::Withdraw => drop(destination.cancel()),
    }
    thread::sleep(case.unreachable);
    hub.set_reachable(true);
}

fn go(seed: u64) -> Where {
    let case = case(seed);
    let world = World::of(mib(4))
        .writing(20_000.0)
        .streams(case.streams)
        .policy("fixed-rounds")
        .patience(Duration::from_millis(400));
    let hub = world.between();
    match world.attempt(move |source, destination| meddle(case, &hub, &source, &destination)) {
        Ok(moved) => {
            println!("{seed}: {case:?}: {}: {}", moved.source.report.outcome, moved.source.report.why);
            moved.check_the_guest_where_it_is()
        }
        Err(stayed) => {
            println!("{seed}: {case:?}: not begun: {}", stayed.why);
            stayed.check_the_guest();
            Where::Here
        }
    }
}

#[test]
fn whatever_happens_to_the_connections_there_is_one_whole_guest() {
    let count = std::env::var("WHIMBREL_FAULTS").ok().and_then(|count| count.parse().ok()).unwrap_or(40);
    let first = std::env::var("WHIMBREL_FIRST").ok().and_then(|first| first.parse().ok()).unwrap_or(0);
    let (mut here, mut there) = (0, 0);
    for seed in first..first + count {
        match go(seed) {
            Where::Here => here += 1,
            Where::There => there += 1,
        }
    }
    println!("{here} stayed, {there} moved");
    assert!(count < 20 || (here > 0 && there > 0), "{here} stayed, {there} moved: nothing was tried");
}

/// Panics when the source's machine comes to this phase.
macro_rules! panics_in {
    ($phase:ident) => {
        |event| assert!(!matches!(event, Event::Source(SourcePhase::$phase)), "told to panic")
    };
}

#[test]
fn a_panic_of_the_embedders_leaves_the_guest_running_and_untracked() {
    let watches: [fn(&Event<'_>); 5] = [
        panics_in!(Sending),
        panics_in!(LastHarvest),
        panics_in!(Saving),
        panics_in!(AwaitingReady),
        |event| assert!(!matches!(event, Event::Progress(progress) if progress.round > 1), "told to panic"),
    ];
    for watch in watches {
        let world = World::of(mib(4)).writing(20_000.0).policy("fixed-rounds").watched(watch);
        let stayed = world.attempt(|_, _| ()).err().expect("it panicked");
        assert_eq!(stayed.why, "somebody has panicked");
        stayed.check_the_guest();
    }
}
