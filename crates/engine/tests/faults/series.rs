//! The moves.
//!
//! Each is drawn from its seed, which is printed. `WHIMBREL_FAULTS` says how many are made, few unless it is set; `WHIMBREL_FIRST` from
//! which seed on.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rand_core::{Rng as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;
use whimbrel_core::journal::Entry;
use whimbrel_core::machine::message::MigrationId;
use whimbrel_core::policy::RateLimit;
use whimbrel_core::units::{Bandwidth, ByteCount};
use whimbrel_engine::destination::{Records, answer};
use whimbrel_engine::orders::{Order, Orders, Remote};
use whimbrel_engine::stable::{self, MemoryStore};
use whimbrel_engine::transport::Connect as _;
use whimbrel_engine::transport::memory::MemoryHub;
use whimbrel_wire::hello::{Capabilities, Hello, Role, Token, Versions};

use super::between::Through;
use super::deaf::who_does_not_hear_running_is_told_when_it_comes_again;
use super::left::Left;
use super::uneven::Uneven;
use super::way::{Ends, Kind, Way};
use super::world::{PANICKED, Where, World, mib};

/// Longer than any move takes that goes well.
const LONG: Duration = Duration::from_secs(30);

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// One connection, by its number, is lost when so many bytes went over it.
    CutAfter { link: usize, bytes: u64 },
    /// One is lost at this moment.
    Cut { link: usize },
    /// All are.
    CutAll,
    /// Nothing arrives any more on one of them, from this moment on.
    Stall { link: usize },
    /// The source is told to stop.
    Cancel,
    /// The destination is told to stop.
    Withdraw,
    /// The source is lost, with all connections, when it writes *go*, and started anew; meanwhile the replica is given up, or is not.
    Crash { discard: bool },
    /// Writes of records go wrong, in these ways one after the other, at the source or the destination.
    Disk { here: bool, faults: [Option<stable::Fault>; 3] },
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::CutAfter { .. } | Self::Cut { .. } | Self::CutAll => "cut",
            Self::Stall { .. } => "stalled",
            Self::Cancel => "cancelled",
            Self::Withdraw => "withdrawn",
            Self::Crash { .. } => "source lost at go, started anew",
            Self::Disk { here: true, .. } => "disk fails at the source",
            Self::Disk { here: false, .. } => "disk fails at the destination",
        }
    }
}

/// Slows a guest until what it writes goes over a slow link: QEMU's rule, which begins when two periods of more than a second have passed,
/// and takes nearly all at once; the step that suffices comes two periods later. From its 20 % on it would be at that after 17 s.
const SLOWING: &[(&str, &str)] = &[("downtime-limit", "5ms"), ("throttle-initial", "90%")];

/// Within this time a fault comes to such a guest: before it is slowed, while it is, or when it is there already.
const SLOWED: Duration = Duration::from_millis(3_500);

/// One move of the series.
#[derive(Clone, Copy, Debug)]
struct Case {
    kind: Kind,
    streams: u16,
    fault: Fault,
    at: Duration,
    /// For so long nobody can connect again.
    unreachable: Duration,
    /// The link is so slow that the guest is slowed.
    slow: bool,
    best_log: bool,
    verified: bool,
    /// What is said arrives in odd parts, and now and then late: each connection for itself.
    uneven: Option<u64>,
}

/// Numbers from a seed, each below what is asked for.
struct Dice(Xoshiro256PlusPlus);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        // As good as even for what is thrown here.
        self.0.next_u64() % end
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

fn case(seed: u64) -> Case {
    let dice = &mut Dice(Xoshiro256PlusPlus::seed_from_u64(seed));
    let streams = 1 + dice.below(3) as u16;
    let link = dice.below(u64::from(streams) + 1) as usize;
    let kind = match dice.below(5) {
        0 => Kind::Unix,
        1 => Kind::Tcp,
        2 if cfg!(feature = "tls") => Kind::Tls,
        _ => Kind::Memory,
    };
    let fault = match dice.below(11) {
        // Only within the process bytes are counted. Control says little, pages much.
        0..=3 if kind != Kind::Memory => Fault::Cut { link },
        0..=3 if link == 0 => Fault::CutAfter { link, bytes: dice.below(2_000) },
        0..=3 => Fault::CutAfter { link, bytes: dice.below(6 << 20) },
        4 => Fault::CutAll,
        5 => Fault::Stall { link },
        6 => Fault::Cancel,
        7 => Fault::Withdraw,
        8 => Fault::Crash { discard: dice.once_in(2) },
        _ => Fault::Disk { here: dice.once_in(2), faults: [(); 3].map(|()| disk_fault(dice)) },
    };
    let slow = dice.once_in(10);
    Case {
        kind,
        streams,
        fault,
        at: Duration::from_micros(dice.below(if slow { SLOWED.as_micros() as u64 } else { 60_000 })),
        unreachable: Duration::from_millis(dice.below(3) * 150),
        slow,
        best_log: dice.once_in(2),
        verified: dice.once_in(4),
        uneven: dice.once_in(3).then(|| dice.0.next_u64()),
    }
}

fn disk_fault(dice: &mut Dice) -> Option<stable::Fault> {
    match dice.below(6) {
        0 => Some(stable::Fault::Not),
        1 => Some(stable::Fault::UnknownLost),
        2 => Some(stable::Fault::UnknownWritten),
        3 => Some(stable::Fault::Slow(Duration::from_millis(dice.below(40)))),
        _ => None,
    }
}

/// Whether the source was lost at *go*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtGo {
    /// It has not come to that.
    NotYet,
    Lost,
    /// It took too long, and is not to be lost any more: nobody would make the way free again.
    Spared,
}

/// Does what is to go wrong.
fn meddle(case: Case, way: &Way, crashed: &Mutex<AtGo>, source: &Remote, destination: &Remote) {
    let wait_for = |count: usize| {
        // They are made before anything else.
        for _ in 0..50_000 {
            if way.count() >= count {
                break;
            }
            thread::sleep(Duration::from_micros(100));
        }
    };
    if let Fault::CutAfter { link, bytes } = case.fault {
        wait_for(link + 1);
        return way.cut_after(link, bytes);
    }
    if let Fault::Crash { discard } = case.fault {
        return crash(way, crashed, discard, (source, destination));
    }
    let all = usize::from(case.streams) + 1;
    wait_for(all);
    thread::sleep(case.at);
    let lost = matches!(case.fault, Fault::Cut { .. } | Fault::CutAll | Fault::Stall { .. });
    way.set_reachable(!lost);
    match case.fault {
        Fault::CutAfter { .. } | Fault::Crash { .. } | Fault::Disk { .. } => {}
        Fault::Cut { link } => way.cut(link),
        Fault::CutAll => (0..all).for_each(|link| way.cut(link)),
        Fault::Stall { link } => way.stall(link),
        Fault::Cancel => drop(source.cancel()),
        Fault::Withdraw => drop(destination.cancel()),
    }
    thread::sleep(case.unreachable);
    way.set_reachable(true);
}

/// The source is gone once it has lost its connections, and nobody comes for a while.
fn crash(way: &Way, crashed: &Mutex<AtGo>, discard: bool, (source, destination): (&Remote, &Remote)) {
    let begun = Instant::now();
    loop {
        let mut at_go = crashed.lock().unwrap_or_else(PoisonError::into_inner);
        if *at_go == AtGo::NotYet && begun.elapsed() > LONG {
            *at_go = AtGo::Spared;
            return;
        }
        if *at_go == AtGo::Lost {
            drop(at_go);
            // Taken when the source has found out that it is in doubt, and the destination likewise; and before anybody can ask.
            let found_out = Duration::from_millis(200);
            thread::sleep(found_out);
            source.give(Order::Leave);
            if discard {
                destination.give(Order::Discard);
            }
            thread::sleep(found_out);
            break;
        }
        drop(at_go);
        thread::sleep(Duration::from_micros(100));
    }
    way.set_reachable(true);
}

/// A crash of the source, as its store sees it.
fn crashing(way: &Arc<Way>, crashed: &Arc<Mutex<AtGo>>) -> impl FnMut() + Send + use<> {
    let (way, crashed) = (Arc::clone(way), Arc::clone(crashed));
    move || {
        let mut at_go = crashed.lock().unwrap_or_else(PoisonError::into_inner);
        if *at_go == AtGo::NotYet {
            way.set_reachable(false);
            (0..way.count()).for_each(|link| way.cut(link));
            *at_go = AtGo::Lost;
        }
    }
}

fn world(case: Case) -> (World, Way) {
    let slow = Bandwidth::new(8 << 20).expect("a rate");
    let mut world = if case.slow {
        World::of(mib(1)).policy_with("qemu-auto-converge", SLOWING).limit(RateLimit::AtMost(slow))
    } else {
        World::of(mib(4)).policy("fixed-rounds")
    };
    world = world.writing(20_000.0).streams(case.streams).patience(Duration::from_millis(400));
    if case.best_log {
        world = world.best_log();
    }
    if case.verified {
        world = world.verified();
    }
    if let Fault::Disk { here, faults } = case.fault {
        let faults: Vec<_> = faults.into_iter().flatten().collect();
        world = if here { world.disks(faults, Vec::new()) } else { world.disks(Vec::new(), faults) };
    }
    let (mut world, way) = match Way::sockets(case.kind) {
        None => {
            let way = Way::Memory(world.between());
            (world, way)
        }
        Some(Ends { way, connect, listen }) => (world.over(connect, listen), way),
    };
    if let Some(seed) = case.uneven {
        world =
            world.each_connection(move |number, inner| Box::new(Through(Uneven::new(inner, seed ^ number))));
    }
    (world, way)
}

/// Whether somebody has slowed it.
fn was_slowed(lines: &[Entry]) -> bool {
    lines
        .iter()
        .any(|line| matches!(line, Entry::Decision { verdict, .. } if verdict.adjust.throttle.is_some()))
}

/// What was tried, and where the guest is.
struct Tried {
    case: Case,
    slowed: bool,
    whole: Where,
}

fn go(seed: u64) -> Tried {
    let case = case(seed);
    // Before it: who hangs is repeated by its seed, too.
    println!("{seed}: {case:?}");
    let (mut world, way) = world(case);
    let (way, crashed) = (Arc::new(way), Arc::new(Mutex::new(AtGo::NotYet)));
    if matches!(case.fault, Fault::Crash { .. }) {
        world = world.at_go(crashing(&way, &crashed));
    }
    let meddle = move |source, destination| meddle(case, &way, &crashed, &source, &destination);
    let (slowed, whole) = match world.attempt(meddle) {
        Ok(moved) => {
            let slowed = was_slowed(&moved.lines);
            println!("{seed}: {}: {}", moved.source.report.outcome, moved.source.report.why);
            (slowed, moved.check_the_guest_where_it_is())
        }
        Err(stayed) => {
            // As if it had come to nothing; but nothing here is told to panic.
            assert_ne!(stayed.why, PANICKED);
            println!("{seed}: not begun: {}", stayed.why);
            stayed.check_the_guest();
            (false, Where::Here)
        }
    };
    // Who fails here is repeated by its seed.
    println!("{seed}: {whole:?}{}", if slowed { ", slowed" } else { "" });
    Tried { case, slowed, whole }
}

/// Somebody who is let in to ask, and says nothing, while the destination leaves.
fn who_asks_and_says_nothing_keeps_no_thread() {
    let (hub, orders) = (MemoryHub::new(), Orders::new());
    let token = Token::new(b"open sesame").expect("short enough");
    let before = Left::now();
    let remote = orders.remote();
    let (listen, connect) = (Arc::new(hub.listen().expect("nobody listens yet")), hub.connector());
    let hello = Hello {
        versions: Versions::SPOKEN,
        role: Role::Again,
        migration: MigrationId(7),
        capabilities: Capabilities::from_bits(0),
        memory: ByteCount(0),
        token: token.clone(),
    };
    let asker = thread::scope(|scope| {
        scope.spawn(|| {
            let store = &mut MemoryStore::new(stable::Role::Destination);
            answer(Records { listen, token, store }, None, &orders, &mut ()).expect("it answers");
        });
        let asker = connect.connect(Duration::from_secs(20)).expect("somebody listens");
        asker.write(&[IoSlice::new(&hello.encode())]).expect("a hello");
        assert!(asker.read(&mut [0; 64]).expect("a welcome") > 0);
        remote.give(Order::Leave);
        asker
    });
    // Sooner than it would have given up by itself.
    before.check_within(Duration::from_secs(3));
    drop(asker);
}

#[test]
fn whatever_happens_to_the_connections_there_is_one_whole_guest_and_nothing_else_left() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let (count, first) = (setting("WHIMBREL_FAULTS").unwrap_or(40), setting("WHIMBREL_FIRST").unwrap_or(0));
    let mut ended: BTreeMap<&str, BTreeMap<Where, u64>> = BTreeMap::new();
    // Whatever the process makes at its first migration is there already.
    World::of(mib(1)).best_log().verified().go().check_the_guest_where_it_is();
    who_asks_and_says_nothing_keeps_no_thread();
    who_does_not_hear_running_is_told_when_it_comes_again();
    let before = Left::now();
    for seed in first..first + count {
        let Tried { case, slowed, whole } = go(seed);
        let kinds =
            [case.fault.name(), case.kind.name(), if case.uneven.is_some() { "uneven" } else { "even" }];
        for kind in kinds.into_iter().chain(slowed.then_some("slowed")).chain(["all"]) {
            *ended.entry(kind).or_default().entry(whole).or_default() += 1;
        }
        before.check();
    }
    for (kind, ended) in &ended {
        println!("{kind}: {ended:?}");
    }
    let all = [Where::Here, Where::There, Where::Disks];
    let tried = all.iter().filter(|whole| ended.get("all").is_some_and(|ended| ended.contains_key(whole)));
    assert!(count < 20 || tried.count() == all.len(), "not all was tried: {ended:?}");
}
