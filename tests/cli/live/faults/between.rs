//! What lies between the two processes: carries what they say, knows how far they are, and does what is to go wrong.

use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use whimbrel::core::machine::handoff::HandoffMessage;
use whimbrel::core::machine::message::Message;
use whimbrel::wire::hello::{Direction, Hello, Role};

use super::super::conversation::{first_words, next_frame};
use super::case::{Arrival, Case, Deed, Dice, Fault, Impostor, Step, When};
use super::ends::{End, Opening, Way};
use super::hosts::Hosts;

/// How often it is looked whether something has changed.
const LOOK: Duration = Duration::from_millis(1);

/// How many parts of a chunk are of odd sizes, and those sizes.
const CRUMBS: usize = 24;
const ODD: [usize; 6] = [1, 3, 17, 107, 1_441, 4_099];

/// For so long in all a connection is held up, so that nobody's patience ends.
const HELD_UP: Duration = Duration::from_millis(120);

/// When what a connection carries to the destination is held up.
struct Steadiness {
    dice: Dice,
    held_up: Duration,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection of the source's, and its continuation.
struct Link {
    /// 0 is control, pages from 1 on, later ones have no number.
    number: Option<usize>,
    source: Box<dyn End>,
    destination: Box<dyn End>,
    stalled: AtomicBool,
    /// A bit of the next that passes is turned.
    spoiled: AtomicBool,
    /// Bytes to the destination, and back.
    carried: [AtomicU64; 2],
}

impl Link {
    fn cut(&self) {
        self.source.cut();
        self.destination.cut();
    }

    /// One direction has ended: then both have, the way this one did.
    fn finish(&self, ended: &io::Result<()>) {
        if ended.is_err() {
            return self.cut();
        }
        self.source.end();
        self.destination.end();
    }

    fn from(&self, to_destination: bool) -> &dyn End {
        if to_destination { &*self.source } else { &*self.destination }
    }

    fn to(&self, to_destination: bool) -> &dyn End {
        if to_destination { &*self.destination } else { &*self.source }
    }
}

struct Shared {
    way: Box<dyn Way>,
    arrival: Arrival,
    seed: u64,
    impostor: Option<Impostor>,
    /// Somebody has spoken with an impostor.
    betrayed: AtomicBool,
    /// Something was said before it was on stable storage.
    rash: AtomicBool,
    /// Rounds that the source has ended.
    rounds: AtomicU64,
    hosts: Arc<Hosts>,
    faults: Mutex<Vec<Fault>>,
    links: Mutex<Vec<Arc<Link>>>,
    unreachable: Mutex<Option<Instant>>,
    /// Held by whoever does what is to go wrong.
    acting: Mutex<()>,
    calm: AtomicBool,
    over: AtomicBool,
}

/// Carries connections to the destination. Dropped, it ends them all.
pub(super) struct Between {
    pub(super) address: String,
    shared: Arc<Shared>,
}

impl Between {
    pub(super) fn start(way: Box<dyn Way>, hosts: Arc<Hosts>, case: &Case) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let kind = if case.tls { "tls" } else { "tcp" };
        let address = format!("{kind}:{}", listener.local_addr().expect("an address"));
        listener.set_nonblocking(true).expect("a socket");
        let shared = Arc::new(Shared {
            way,
            arrival: case.arrival,
            seed: case.seed,
            impostor: case.impostor,
            betrayed: AtomicBool::new(false),
            rash: AtomicBool::new(false),
            rounds: AtomicU64::new(0),
            hosts,
            faults: Mutex::new(case.faults.iter().flatten().copied().collect()),
            links: Mutex::default(),
            unreachable: Mutex::default(),
            acting: Mutex::default(),
            calm: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener));
        Self { address, shared }
    }

    /// Nothing more goes wrong; what is being done is done when this returns.
    pub(super) fn calm(&self) {
        lock(&self.shared.faults).clear();
        self.shared.calm.store(true, Ordering::Relaxed);
        drop(lock(&self.shared.acting));
    }

    /// Whether somebody has told an impostor something, or listened to one.
    pub(super) fn was_betrayed(&self) -> bool {
        self.shared.betrayed.load(Ordering::Relaxed)
    }

    /// Whether *go* or *running* was said before it was written.
    pub(super) fn was_rash(&self) -> bool {
        self.shared.rash.load(Ordering::Relaxed)
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        lock(&self.shared.links).iter().for_each(|link| link.cut());
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        let (mut timed, mut count) = (false, 0);
        while !self.is_over() {
            let Ok((source, _)) = listener.accept() else {
                thread::sleep(LOOK);
                continue;
            };
            if lock(&self.unreachable).is_some_and(|until| Instant::now() < until) {
                continue;
            }
            source.set_nonblocking(false).expect("a socket");
            let _ = source.set_nodelay(true);
            let impostor = self.impostor.filter(|impostor| impostor.connection == count);
            count += 1;
            let Some(opening) = self.way.open(source, impostor) else { continue };
            if !std::mem::replace(&mut timed, true) {
                self.begin_to_count();
            }
            let shared = Arc::clone(self);
            // Its first words say what it is, and may be long in coming.
            thread::spawn(move || shared.carry(opening, impostor));
        }
    }

    /// Does what is to be done at a time.
    fn begin_to_count(self: &Arc<Self>) {
        let timed = |when| if let When::After(after) = when { Some(after) } else { None };
        let Some(fault) = self.take(|when| timed(*when).is_some()) else { return };
        let shared = Arc::clone(self);
        thread::spawn(move || {
            thread::sleep(timed(fault.when).unwrap_or_default());
            if shared.is_over() {
                return;
            }
            let links = lock(&shared.links);
            let link = links.get(fault.late.subsec_micros() as usize % links.len().max(1)).cloned();
            drop(links);
            if let Some(link) = link {
                if fault.deed == Deed::Corrupt {
                    link.spoiled.store(true, Ordering::Relaxed);
                } else {
                    shared.act(&fault, (&link, true), &mut []);
                }
            }
        });
    }

    /// The first fault that is due, which is then no more.
    fn take(&self, is_due: impl Fn(&When) -> bool) -> Option<Fault> {
        let mut faults = lock(&self.faults);
        let index = faults.iter().position(|fault| is_due(&fault.when))?;
        Some(faults.remove(index))
    }

    /// Whether it is not too late for it: then it is done before it is calm.
    fn may_act(&self) -> Option<MutexGuard<'_, ()>> {
        let acting = lock(&self.acting);
        (!self.calm.load(Ordering::Relaxed)).then_some(acting)
    }

    fn carry(self: &Arc<Self>, opening: Opening, impostor: Option<Impostor>) {
        let Ok([source, destination]) = opening() else { return };
        let Ok((prefix, rest)) = first_words(&mut &*source, Direction::FromSource) else { return };
        let Ok(Hello { role, .. }) = Hello::decode(&prefix, &rest) else { return };
        let first = [&prefix[..], &rest].concat();
        if impostor.is_some_and(|impostor| impostor.to_the_source) {
            self.betrayed.store(true, Ordering::Relaxed);
        }
        let number = match role {
            Role::Control { .. } => Some(0),
            Role::Pages { stream } => Some(1 + usize::from(stream)),
            Role::Again | Role::Unknown { .. } => None,
        };
        let pages = matches!(role, Role::Pages { .. });
        let link = Arc::new(Link {
            number,
            source,
            destination,
            stalled: AtomicBool::new(false),
            spoiled: AtomicBool::new(false),
            carried: Default::default(),
        });
        lock(&self.links).push(Arc::clone(&link));
        let (shared, back) = (Arc::clone(self), Arc::clone(&link));
        let answers = thread::spawn(move || {
            let ended = shared.answers(&back, pages, impostor.is_some());
            back.finish(&ended);
        });
        let ended = self.asks(&link, first, pages);
        link.finish(&ended);
        let _ = answers.join();
    }

    /// What the source says.
    fn asks(&self, link: &Link, mut first: Vec<u8>, pages: bool) -> io::Result<()> {
        self.pass(link, true, &mut first, None)?;
        if pages { self.bytes(link, true) } else { self.frames(link, true) }
    }

    /// What the destination says.
    fn answers(&self, link: &Link, pages: bool, to_an_impostor: bool) -> io::Result<()> {
        let (prefix, rest) = first_words(&mut &*link.destination, Direction::FromDestination)?;
        if to_an_impostor {
            self.betrayed.store(true, Ordering::Relaxed);
        }
        self.pass(link, false, &mut [&prefix[..], &rest].concat(), None)?;
        if pages { self.bytes(link, false) } else { self.frames(link, false) }
    }

    fn bytes(&self, link: &Link, to_destination: bool) -> io::Result<()> {
        let mut chunk = vec![0; 64 << 10];
        let mut steadiness = self.steadiness(link, to_destination);
        loop {
            let rounds = self.rounds.load(Ordering::Relaxed);
            let count = link.from(to_destination).read(&mut chunk)?;
            self.hold_up(link, rounds, steadiness.as_mut());
            if count == 0 {
                return Ok(());
            }
            self.pass(link, to_destination, &mut chunk[..count], None)?;
        }
    }

    fn frames(&self, link: &Link, to_destination: bool) -> io::Result<()> {
        let mut steadiness = self.steadiness(link, to_destination);
        loop {
            let Some(mut frame) = next_frame(&mut link.from(to_destination))? else { return Ok(()) };
            let step = frame.message.as_ref().and_then(step);
            if step.is_some_and(|step| !self.hosts.has_written_before(step)) {
                self.rash.store(true, Ordering::Relaxed);
            }
            self.hold_up(link, 0, steadiness.as_mut());
            // What both hold is known from outside now, and nobody writes it but a guest that runs.
            match step {
                Some(Step::State) => self.hosts.look_at_the_source(),
                Some(Step::Ready) => self.hosts.look_at_the_destination(),
                Some(Step::Running | Step::Answer) => self.hosts.tell_the_source(),
                _ => {}
            }
            self.pass(link, to_destination, &mut frame.bytes, step)?;
            if step == Some(Step::RoundEnd) {
                self.rounds.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Carries something on, unless that goes wrong.
    fn pass(
        &self,
        link: &Link,
        to_destination: bool,
        chunk: &mut [u8],
        step: Option<Step>,
    ) -> io::Result<()> {
        let passing =
            |before: bool| step.and_then(|step| self.take(|when| *when == When::Passing { step, before }));
        if let Some(fault) = passing(true) {
            self.act(&fault, (link, to_destination), chunk);
        }
        if link.spoiled.swap(false, Ordering::Relaxed) {
            link.to(to_destination).spoil(chunk);
        }
        let carried = link.carried[usize::from(to_destination)].load(Ordering::Relaxed);
        let reached = carried..carried + chunk.len() as u64;
        let due = self.take(|when| {
            matches!(*when, When::Bytes { link: of, to_destination: way, bytes }
                if Some(of) == link.number && way == to_destination && reached.contains(&bytes))
        });
        match due {
            Some(fault) => {
                let When::Bytes { bytes, .. } = fault.when else { unreachable!("it was taken for that") };
                let (before, behind) = chunk.split_at_mut((bytes - carried) as usize);
                self.write(link, to_destination, before)?;
                self.act(&fault, (link, to_destination), behind);
                self.write(link, to_destination, behind)?;
            }
            None => self.write(link, to_destination, chunk)?,
        }
        if let Some(fault) = passing(false) {
            self.act(&fault, (link, to_destination), &mut []);
        }
        Ok(())
    }

    fn write(&self, link: &Link, to_destination: bool, chunk: &[u8]) -> io::Result<()> {
        while link.stalled.load(Ordering::Relaxed) {
            if self.is_over() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            thread::sleep(LOOK);
        }
        let carried =
            link.carried[usize::from(to_destination)].fetch_add(chunk.len() as u64, Ordering::Relaxed);
        let to = link.to(to_destination);
        let mut rest: &[u8] = chunk;
        if matches!(self.arrival, Arrival::Crumbs | Arrival::Unsteady) {
            let mut dice = Dice::of(self.seed ^ carried);
            // A few of each chunk: all of them would take for ever.
            for _ in 0..CRUMBS {
                let (crumb, behind) = rest.split_at(rest.len().min(dice.one_of(&ODD)));
                to.write_all(crumb)?;
                rest = behind;
            }
        }
        to.write_all(rest)
    }

    /// Of what goes to the destination: what comes back is never held up.
    fn steadiness(&self, link: &Link, to_destination: bool) -> Option<Steadiness> {
        let number = link.number.unwrap_or(99) as u64;
        let dice = Dice::of(self.seed ^ (number << 1 | 1) << 20);
        to_destination.then_some(Steadiness { dice, held_up: Duration::ZERO })
    }

    /// Waits, where what comes is to arrive in another order than it was sent. `rounds` had ended when it was sent.
    fn hold_up(&self, link: &Link, rounds: u64, steadiness: Option<&mut Steadiness>) {
        let Some(steadiness) = steadiness.filter(|of| of.held_up < HELD_UP) else { return };
        let most = match self.arrival {
            Arrival::AsSent | Arrival::Crumbs => return,
            Arrival::Unsteady if !steadiness.dice.once_in(4) => return,
            Arrival::Unsteady => Duration::from_micros(steadiness.dice.below(8_000)),
            Arrival::Behind { link: behind } if link.number == Some(behind) => Duration::from_millis(30),
            Arrival::Behind { .. } => return,
        };
        let begun = Instant::now();
        let behind = matches!(self.arrival, Arrival::Behind { .. });
        while begun.elapsed() < most && !(behind && self.rounds.load(Ordering::Relaxed) > rounds) {
            thread::sleep(LOOK);
        }
        steadiness.held_up += begun.elapsed();
    }

    /// Does what is to go wrong while this passes.
    fn act(&self, fault: &Fault, (link, to_destination): (&Link, bool), chunk: &mut [u8]) {
        thread::sleep(fault.late);
        let Some(_acting) = self.may_act() else { return };
        self.hosts.note(fault);
        let block = |how_long| *lock(&self.unreachable) = Some(Instant::now() + how_long);
        let each = |all: bool, act: &dyn Fn(&Link)| {
            if all { lock(&self.links).iter().for_each(|link| act(link)) } else { act(link) }
        };
        match fault.deed {
            Deed::Cut { all, unreachable } => {
                block(unreachable);
                each(all, &Link::cut);
            }
            Deed::Stall { all, unreachable } => {
                block(unreachable);
                each(all, &|link: &Link| link.stalled.store(true, Ordering::Relaxed));
            }
            Deed::Delay(how_long) => thread::sleep(how_long),
            Deed::Corrupt if chunk.is_empty() => link.spoiled.store(true, Ordering::Relaxed),
            Deed::Corrupt => link.to(to_destination).spoil(chunk),
            Deed::KillDestination { again } => self.hosts.kill_the_destination(again),
            Deed::KillSource { again } => self.hosts.kill_the_source(again),
            Deed::FreezeDestination(how_long) => self.hosts.freeze_the_destination(how_long),
            Deed::FreezeSource(how_long) => self.hosts.freeze_the_source(how_long),
            Deed::FillDestination(how_long) => self.hosts.fill_the_disk(false, how_long),
            Deed::FillSource(how_long) => self.hosts.fill_the_disk(true, how_long),
        }
    }
}

fn step(message: &Message) -> Option<Step> {
    Some(match message {
        Message::Configure(_) => Step::Configure,
        Message::Accept => Step::Accept,
        Message::RoundEnd { .. } => Step::RoundEnd,
        Message::Acknowledge { .. } => Step::Acknowledge,
        Message::State(_) => Step::State,
        Message::Handoff { message, .. } => match message {
            HandoffMessage::Ready => Step::Ready,
            HandoffMessage::Go => Step::Go,
            HandoffMessage::Running => Step::Running,
            HandoffMessage::Ask => Step::Ask,
            HandoffMessage::Answer(_) => Step::Answer,
            HandoffMessage::Cancel => Step::Cancel,
            HandoffMessage::Withdraw => return None,
        },
        _ => return None,
    })
}
