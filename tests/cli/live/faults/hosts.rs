//! The two processes, what is done to them, and what is known of them from outside.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use whimbrel::core::machine::handoff::StableRecord;
use whimbrel::engine::stable::{Role, list};

use super::super::process::{Running, receive};
use super::between::lock;
use super::case::{Case, Fault, PATIENCE};
use super::witness::Memory;
use crate::interrupt::signal;
use crate::run::{Ended, Fresh};

/// A guest that is moved in a moment, and writes meanwhile.
const GUEST: &str = "\
[guest]
memory = \"4MiB\"
vcpus = 2

[[guest.writers]]
working-set = \"1MiB\"
rate = 3000

[[guest.writers]]
pattern = \"sequential\"
working-set = \"512KiB\"
rate = 1000
";

/// One of them.
#[derive(Default)]
pub(super) struct Host {
    running: Mutex<Option<Running>>,
    /// Its guest's memory, and what was in it when the guest was paused.
    memory: Mutex<Option<Memory>>,
    killed: Mutex<Option<Instant>>,
}

impl Host {
    fn look(&self) {
        let mut memory = lock(&self.memory);
        if memory.is_none() {
            *memory = lock(&self.running).as_ref().and_then(|running| Memory::of(running.id()));
        }
    }

    fn kill(&self) {
        if let Some(running) = &mut *lock(&self.running)
            && !running.has_ended()
        {
            running.kill();
            *lock(&self.killed) = Some(Instant::now());
        }
    }

    fn signal(&self, name: &str) {
        // One that was waited for has no number any more.
        if let Some(running) = &mut *lock(&self.running)
            && !running.has_ended()
        {
            signal(name, running.id());
        }
    }

    pub(super) fn was_killed(&self) -> bool {
        lock(&self.killed).is_some()
    }

    /// Whether there is no such process any more.
    pub(super) fn is_over(&self) -> bool {
        lock(&self.running).as_mut().is_none_or(Running::has_ended)
    }

    /// Whether its guest has run since it was paused for the move; none if that was never seen.
    pub(super) fn has_run(&self) -> Option<bool> {
        lock(&self.memory).as_ref().map(Memory::has_changed)
    }

    /// Whether it has said this to people.
    pub(super) fn has_said(&self, words: &str) -> bool {
        lock(&self.running).as_mut().is_some_and(|running| running.has_said(words))
    }

    /// Waits for its end.
    pub(super) fn end(&self) -> Option<Ended> {
        let running = lock(&self.running).take();
        running.map(Running::end)
    }

    /// Ctrl-C.
    pub(super) fn interrupt(&self) {
        self.signal("INT");
    }
}

/// Both.
pub(super) struct Hosts {
    pub(super) fresh: Fresh,
    pub(super) source: Host,
    pub(super) destination: Host,
    /// The destination is to be started again then.
    again: Mutex<Option<Instant>>,
    /// It was.
    restarted: Mutex<bool>,
    /// The destination's word was on its way to the source, which needs no record when it has it.
    told: Mutex<bool>,
    done: Mutex<Vec<Fault>>,
}

impl Hosts {
    /// A destination that waits.
    pub(super) fn new() -> Arc<Self> {
        let fresh = Fresh::new();
        fresh.write("guest.toml", GUEST);
        let hosts = Self {
            fresh,
            source: Host::default(),
            destination: Host::default(),
            again: Mutex::default(),
            restarted: Mutex::default(),
            told: Mutex::default(),
            done: Mutex::default(),
        };
        hosts.receive();
        Arc::new(hosts)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.fresh.path(name)
    }

    fn receive(&self) {
        let listen = format!("unix:{}", self.path("w").display());
        let patience = format!("{}ms", PATIENCE.as_millis());
        let args = [
            &["--listen", &listen, "--token", "sesame", "--control", "there", "--memory", "memfd"][..],
            &["--format", "json", "--patience", &patience],
        ];
        *lock(&self.destination.running) = Some(receive(&self.fresh, &args.concat()).running);
    }

    pub(super) fn send(&self, case: &Case, to: &str) {
        let (streams, patience) = (case.streams.to_string(), format!("{}ms", PATIENCE.as_millis()));
        let args = [
            &["send", "--guest", "guest.toml", "--store", "store", "--to", to, "--token", "sesame"][..],
            &["--control", "here", "--memory", "memfd", "--format", "json", "--warm-up", "10ms"],
            &["--policy", "fixed-rounds", "--streams", &streams, "--patience", &patience],
            case.encoding,
            case.log,
            case.limit,
        ];
        *lock(&self.source.running) = Some(Running::start(&self.fresh, &args.concat()));
    }

    // ---- what is done to them ---------------------------------------------------------------------------------------

    pub(super) fn note(&self, fault: &Fault) {
        lock(&self.done).push(*fault);
    }

    /// What has gone wrong up to now.
    pub(super) fn done(&self) -> Vec<Fault> {
        lock(&self.done).clone()
    }

    pub(super) fn look_at_the_source(&self) {
        self.source.look();
    }

    pub(super) fn look_at_the_destination(&self) {
        self.destination.look();
    }

    pub(super) fn tell_the_source(&self) {
        *lock(&self.told) = true;
    }

    /// Whether the source may know where its guest is.
    pub(super) fn source_may_know(&self) -> bool {
        *lock(&self.told)
    }

    pub(super) fn kill_the_destination(&self, again: Option<Duration>) {
        // In one step with the kill: it is not dead for good for a moment.
        let mut at = lock(&self.again);
        let was_killed = self.destination.was_killed();
        self.destination.kill();
        // One that was started again has no guest to lose, and is started again in any case.
        let again = again.or(was_killed.then_some(Duration::ZERO));
        if self.destination.was_killed() {
            *at = again.map(|after| Instant::now() + after);
        }
    }

    pub(super) fn kill_the_source(&self) {
        self.source.kill();
    }

    pub(super) fn freeze_the_destination(self: &Arc<Self>, how_long: Duration) {
        self.destination.signal("STOP");
        let hosts = Arc::clone(self);
        thread::spawn(move || {
            thread::sleep(how_long);
            hosts.destination.signal("CONT");
        });
    }

    pub(super) fn freeze_the_source(self: &Arc<Self>, how_long: Duration) {
        self.source.signal("STOP");
        let hosts = Arc::clone(self);
        thread::spawn(move || {
            thread::sleep(how_long);
            hosts.source.signal("CONT");
        });
    }

    /// Starts the destination again, if it is time.
    pub(super) fn start_again_if_due(&self) {
        let due = lock(&self.again).take_if(|at| *at <= Instant::now()).is_some();
        if due {
            self.receive();
            *lock(&self.restarted) = true;
        }
    }

    /// Whether the destination is, or was, one that has nothing but records.
    pub(super) fn has_restarted(&self) -> bool {
        *lock(&self.restarted)
    }

    /// Whether the destination is dead for good.
    pub(super) fn is_gone_for_good(&self) -> bool {
        let again = lock(&self.again);
        again.is_none() && self.destination.is_over()
    }

    // ---- what is known of them --------------------------------------------------------------------------------------

    /// What stable storage says, of the source and of the destination.
    pub(super) fn records(&self) -> [Option<StableRecord>; 2] {
        let mut records = [None, None];
        for entry in list(&self.path("store")).expect("a directory") {
            let entry = entry.expect("a whole record");
            let side = usize::from(entry.role == Role::Destination);
            records[side] = records[side].or(entry.record);
        }
        records
    }

    /// What a command answers at its control socket; none if nobody does.
    pub(super) fn ask(&self, control: &str, question: &str) -> Option<Value> {
        let mut stream = UnixStream::connect(self.path(control)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        writeln!(stream, "{question}").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(&answer).ok()
    }

    /// Orders something as a person does.
    pub(super) fn resolve(&self, control: &str, order: &str) -> Ended {
        self.fresh.run(&["resolve", "--control", control, order])
    }
}
