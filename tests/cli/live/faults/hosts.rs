//! The two processes, what is done to them, and what is known of them from outside.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use whimbrel::core::machine::handoff::StableRecord;
use whimbrel::engine::stable::{Entry, Role, list};

use super::super::process::{Running, receive_as, receiving};
use super::between::lock;
use super::case::{Case, Fault, PATIENCE, Step};
use super::ends::{Plain, Way};
#[cfg(feature = "tls")]
use super::veiled::{Keys, Tunnel};
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

/// The migration.
const ID: &str = "2a";

/// Any port of an address that nobody else has, and where nobody else's connections come from: it stays free while nobody listens.
fn own_address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id() % 120;
    format!("tls:127.{}.{}.{}:0", 100 + process, number >> 8 & 255, number & 255)
}

/// One of them.
#[derive(Default)]
pub(super) struct Host {
    running: Mutex<Option<Running>>,
    /// Its guest's memory, and what was in it when the guest was paused.
    memory: Mutex<Option<Memory>>,
    killed: Mutex<Option<Instant>>,
    interrupted: Mutex<bool>,
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

    /// Ctrl-C, once: a second one ends it at once.
    pub(super) fn interrupt(&self) {
        if !std::mem::replace(&mut *lock(&self.interrupted), true) {
            self.signal("INT");
        }
    }

    /// Lets it write no file beyond this size (`prlimit --fsize`).
    fn limit_files(&self, size: &str) {
        if let Some(running) = &mut *lock(&self.running)
            && !running.has_ended()
        {
            let args = [format!("--pid={}", running.id()), format!("--fsize={size}:unlimited")];
            let mut command = Command::new("prlimit");
            // It may be gone in this moment.
            let _ = command.args(args).stderr(Stdio::null()).status().expect("prlimit");
        }
    }
}

/// Both.
pub(super) struct Hosts {
    pub(super) fresh: Fresh,
    pub(super) source: Host,
    pub(super) destination: Host,
    /// What asks about the record of a source that was killed.
    pub(super) asker: Host,
    case: Case,
    #[cfg(feature = "tls")]
    keys: Option<Keys>,
    /// Where the destination listens.
    listen: Mutex<String>,
    /// Where the source connects to.
    to: Mutex<String>,
    /// The record of the source is to be asked about then.
    asks: Mutex<Option<Instant>>,
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
    pub(super) fn new(case: &Case) -> Arc<Self> {
        let fresh = Fresh::new();
        fresh.write("guest.toml", GUEST);
        let listen = if case.tls { own_address() } else { format!("unix:{}", fresh.path("w").display()) };
        let hosts = Self {
            #[cfg(feature = "tls")]
            keys: case.tls.then(|| Keys::new(&fresh.path(""))),
            fresh,
            source: Host::default(),
            destination: Host::default(),
            asker: Host::default(),
            case: *case,
            listen: Mutex::new(listen),
            to: Mutex::default(),
            asks: Mutex::default(),
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
        let listen = lock(&self.listen).clone();
        let patience = format!("{}ms", PATIENCE.as_millis());
        let args = [
            &["--listen", &listen, "--token", "sesame", "--control", "there", "--memory", "memfd"][..],
            &["--format", "json", "--patience", &patience],
        ];
        let started = receive_as(self.command(&receiving(&args.concat()), "there"));
        // The port that was free is kept by whoever is started again.
        *lock(&self.listen) = started.address;
        *lock(&self.destination.running) = Some(started.running);
    }

    /// Where the destination is.
    pub(super) fn there(&self) -> Box<dyn Way> {
        #[cfg(feature = "tls")]
        if let Some(keys) = &self.keys {
            let to = lock(&self.listen).trim_start_matches("tls:").parse().expect("an address");
            return Box::new(Tunnel { to, keys: keys.clone() });
        }
        Box::new(Plain(self.path("w")))
    }

    /// The program as one of the sides, with its keys. A full disk is to be an error to it, and not the end of it: a process that writes
    /// beyond its limit has a signal.
    #[cfg_attr(
        not(feature = "tls"),
        expect(unused_variables, reason = "keys are what makes the sides differ")
    )]
    fn command(&self, args: &[&str], side: &str) -> Command {
        let mut command = self.fresh.command(args);
        if self.case.fills_a_disk() {
            command = Command::new("sh");
            command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_whimbrel")]);
            command.args(args).current_dir(self.path("")).stdin(Stdio::null());
        }
        #[cfg(feature = "tls")]
        if let Some(keys) = &self.keys {
            command.args(keys.args(side));
        }
        command
    }

    pub(super) fn send(&self, to: &str) {
        to.clone_into(&mut lock(&self.to));
        let case = &self.case;
        let (streams, patience) = (case.streams.to_string(), format!("{}ms", PATIENCE.as_millis()));
        let args = [
            &["send", "--guest", "guest.toml", "--store", "store", "--to", to, "--token", "sesame"][..],
            &["--control", "here", "--memory", "memfd", "--format", "json", "--warm-up", "10ms"],
            &["--policy", "fixed-rounds", "--streams", &streams, "--patience", &patience, "--id", ID],
            case.encoding,
            case.log,
            case.limit,
        ];
        *lock(&self.source.running) = Some(Running::start_as(self.command(&args.concat(), "here")));
    }

    /// Asks the destination about what the source has left, if it has left anything.
    fn resolve_from_its_record(&self) {
        if self.entry(Role::Source).is_none() {
            return;
        }
        let (to, patience) = (lock(&self.to).clone(), format!("{}ms", PATIENCE.as_millis()));
        let args = [
            &["resolve", "--store", "store", "--id", ID, "--ask", &to, "--token", "sesame"][..],
            &["--format", "json", "--patience", &patience],
        ];
        *lock(&self.asker.killed) = None;
        *lock(&self.asker.interrupted) = false;
        *lock(&self.asker.running) = Some(Running::start_as(self.command(&args.concat(), "here")));
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

    /// The source, or whoever asks in its place.
    pub(super) fn kill_the_source(&self, again: Option<Duration>) {
        // In one step with the kill: nobody takes it for dead for good in between.
        let mut asks = lock(&self.asks);
        if self.source.is_over() {
            self.asker.kill();
        } else {
            self.source.kill();
        }
        if self.source.was_killed() {
            *asks = again.map(|after| Instant::now() + after);
        }
    }

    pub(super) fn fill_the_disk(self: &Arc<Self>, of_the_source: bool, how_long: Duration) {
        let host = move |hosts: &Self, size| {
            let host = if of_the_source { &hosts.source } else { &hosts.destination };
            host.limit_files(size);
        };
        host(self, "0");
        let hosts = Arc::clone(self);
        thread::spawn(move || {
            thread::sleep(how_long);
            host(&hosts, "unlimited");
        });
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
        let mut asks = lock(&self.asks);
        if asks.take_if(|at| *at <= Instant::now()).is_some() {
            self.resolve_from_its_record();
        }
    }

    /// Whether nobody asks about the record of a source that was killed, and nobody will.
    pub(super) fn nobody_asks(&self) -> bool {
        let asks = lock(&self.asks);
        asks.is_none() && self.asker.is_over()
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
        [Role::Source, Role::Destination].map(|role| self.entry(role).and_then(|entry| entry.record))
    }

    /// Whether what must be on stable storage before this is said is there.
    pub(super) fn has_written_before(&self, step: Step) -> bool {
        let role = match step {
            // It is erased when it is known that the guest is there.
            Step::Go if !self.source_may_know() => Role::Source,
            Step::Running => Role::Destination,
            _ => return true,
        };
        // What has a name is whole. Asked by a thread whose panic nobody sees: what is not whole counts as not written.
        let entries: Result<Vec<Entry>, _> =
            list(&self.path("store")).expect("a directory").into_iter().collect();
        entries.is_ok_and(|entries| {
            entries.iter().any(|entry| entry.role == role && entry.record == Some(role.record()))
        })
    }

    fn entry(&self, role: Role) -> Option<Entry> {
        let entries = list(&self.path("store")).expect("a directory");
        let whole = entries.into_iter().map(|entry| entry.expect("a whole record"));
        whole.into_iter().find(|entry| entry.role == role)
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
