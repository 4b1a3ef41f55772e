//! The control socket of a running `send` or `receive`: how it stands, and orders of whoever knows more than it can.
//!
//! One question a connection: a line with an order's name and what it needs, or `status`; the answer is one line of JSON. Who can open
//! the socket (mode 0600) may order. An order is given to the driver, which asks the machine, and tells whether that took it.

use std::fs;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use whimbrel_core::machine::CancelReason;
use whimbrel_core::machine::handoff::Fence;
use whimbrel_core::machine::message::MigrationId;
use whimbrel_core::policy::RateLimit;
use whimbrel_core::units::duration;
use whimbrel_engine::orders::{Order, Remote};
use whimbrel_engine::transport::unix::{UnixConnector, UnixListener};
use whimbrel_engine::transport::{Connect as _, Listen as _, Stream, TransportError};

use super::shown;

/// How long somebody who has connected may take to ask, and how long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long an order has to show effect.
const EFFECT: Duration = Duration::from_secs(3);

/// After so long without a change it has shown it; and the most changes that are waited for.
const QUIET: Duration = Duration::from_millis(200);
const STEPS: u32 = 10;

/// How often it is looked whether the socket is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// The longest question and the longest answer.
const LONGEST: usize = 4096;

/// What can be asked or ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Status,
    Cancel,
    PeerNeverRan,
    PeerMayHaveRun,
    Discard,
    Limit(RateLimit),
    Change { parameter: String, value: String },
}

impl Question {
    /// As it goes over the socket, in one line.
    fn to_line(&self) -> String {
        match self {
            Self::Status => "status".to_owned(),
            Self::Cancel => "cancel".to_owned(),
            Self::PeerNeverRan => "peer-never-ran".to_owned(),
            Self::PeerMayHaveRun => "peer-may-have-run".to_owned(),
            Self::Discard => "discard".to_owned(),
            Self::Limit(limit) => format!("limit {}", limit_words(*limit)),
            Self::Change { parameter, value } => format!("change {parameter}={value}"),
        }
    }

    fn read(line: &str) -> Option<Self> {
        Some(match line.split_once(' ') {
            None => match line {
                "status" => Self::Status,
                "cancel" => Self::Cancel,
                "peer-never-ran" => Self::PeerNeverRan,
                "peer-may-have-run" => Self::PeerMayHaveRun,
                "discard" => Self::Discard,
                _ => return None,
            },
            Some(("limit", "unlimited")) => Self::Limit(RateLimit::Unlimited),
            Some(("limit", rate)) => Self::Limit(RateLimit::AtMost(rate.parse().ok()?)),
            Some(("change", change)) => {
                let (parameter, value) = change.split_once('=')?;
                Self::Change { parameter: parameter.to_owned(), value: value.to_owned() }
            }
            Some(_) => return None,
        })
    }

    fn into_order(self) -> Option<Order> {
        match self {
            Self::Status => None,
            Self::Cancel => Some(Order::Cancel(CancelReason::Requested)),
            Self::PeerNeverRan => Some(Order::Fence(Fence::NeverRan)),
            Self::PeerMayHaveRun => Some(Order::Fence(Fence::MayHaveRun)),
            Self::Discard => Some(Order::Discard),
            Self::Limit(limit) => Some(Order::Limit(limit)),
            Self::Change { parameter, value } => Some(Order::Change { parameter, value }),
        }
    }
}

/// A limit exactly, as it is typed.
pub(super) fn limit_words(limit: RateLimit) -> String {
    match limit {
        RateLimit::Unlimited => "unlimited".to_owned(),
        RateLimit::AtMost(rate) => rate.to_string(),
    }
}

/// The command at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Side {
    Source,
    Destination,
}

/// How it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    pub(super) side: Side,
    /// None as long as nobody has come.
    pub(super) migration: Option<String>,
    pub(super) guest: String,
    /// Where the migration is, in words.
    pub(super) phase: String,
    pub(super) connected: bool,
    /// Only the peer, or an order, can say who may run the guest.
    pub(super) in_doubt: bool,
    /// A source sends no faster than this: the lower of what its policy wants and what was ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit: Option<String>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reply {
    #[serde(flatten)]
    pub(super) standing: Standing,
    /// Whether an order had an effect; none if none was given, or nothing was heard of one, which `refused` then says.
    pub(super) taken: Option<bool>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<String>,
}

/// Where the command writes how it stands, and whoever asks reads it.
pub(super) struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    standing: Standing,
    /// How often that has changed.
    changes: u64,
    /// The migration has begun.
    begun: bool,
    /// The order that somebody waits for, and what the driver made of it, with why it was not taken.
    given: Option<(Order, Option<Result<(), String>>)>,
}

impl State {
    /// Whether an order can be given at all, as things stand.
    fn allows(&self, order: &Order) -> Result<(), String> {
        let standing = &self.standing;
        match (order, standing.side) {
            (Order::Fence(_) | Order::Discard, _) if !standing.in_doubt => Err(no_doubt(standing)),
            (Order::Discard, Side::Source) => {
                Err("it is the source: only a destination gives up a replica".to_owned())
            }
            (Order::Limit(_) | Order::Change { .. }, Side::Destination) => {
                Err("it is the destination: only a source decides how pages are sent".to_owned())
            }
            (Order::Limit(_) | Order::Change { .. }, Side::Source) if !self.begun => {
                Err("nothing is moved yet: give it again when it sends".to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl Desk {
    pub(super) fn new(side: Side, id: Option<MigrationId>, guest: &str) -> Self {
        let (migration, guest) = (id.map(shown), guest.to_owned());
        // A source connects before it begins, a destination waits.
        let (connected, phase) = match side {
            Side::Source => (true, "the guest runs, and is about to be moved"),
            Side::Destination => (false, "waiting for a guest"),
        };
        let (phase, in_doubt, limit) = (phase.into(), false, None);
        let standing = Standing { side, migration, guest, phase, connected, in_doubt, limit };
        let state = State { standing, changes: 0, begun: false, given: None };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Standing {
        self.lock().standing.clone()
    }

    /// Changes it, and tells those who wait for that.
    pub(super) fn note(&self, change: impl FnOnce(&mut Standing)) {
        let mut state = self.lock();
        change(&mut state.standing);
        state.changes += 1;
        self.changed.notify_all();
    }

    /// The migration has begun.
    pub(super) fn begun(&self) {
        self.lock().begun = true;
    }

    /// The driver has taken an order, or says why not.
    pub(super) fn decided(&self, about: &Order, taken: Result<(), &str>) {
        if let Some((order, decided)) = &mut self.lock().given
            && order == about
        {
            *decided = Some(taken.map_err(str::to_owned));
        }
        self.changed.notify_all();
    }

    /// Gives an order and waits for its effect.
    fn give(&self, order: Order, remote: &Remote) -> Result<(), NotTaken> {
        let mut state = self.lock();
        state.allows(&order).map_err(NotTaken::Refused)?;
        // These show in no phase.
        let adjusts = matches!(order, Order::Limit(_) | Order::Change { .. });
        let before = state.standing.phase.clone();
        state.given = Some((order.clone(), None));
        drop(state);
        if !remote.give(order) {
            return Err(NotTaken::Refused("it takes no more orders".to_owned()));
        }
        let undecided = |state: &State| matches!(state.given, Some((_, None)));
        let waits = |state: &mut State| undecided(state) && (adjusts || state.standing.phase == before);
        let waited = self.changed.wait_timeout_while(self.lock(), EFFECT, waits);
        let (mut state, late) = waited.unwrap_or_else(PoisonError::into_inner);
        if late.timed_out() {
            return Err(NotTaken::Unheard);
        }
        match state.given.take() {
            Some((_, Some(Err(why)))) => Err(NotTaken::Refused(format!("it was not taken: {why}"))),
            _ if adjusts => Ok(()),
            _ => {
                self.settle(state);
                Ok(())
            }
        }
    }

    /// Waits until nothing has changed for a moment: an order has more than one step.
    fn settle(&self, mut state: MutexGuard<'_, State>) {
        for _ in 0..STEPS {
            let seen = state.changes;
            let same = |state: &mut State| state.changes == seen;
            let waited = self.changed.wait_timeout_while(state, QUIET, same);
            let late;
            (state, late) = waited.unwrap_or_else(PoisonError::into_inner);
            if late.timed_out() {
                return;
            }
        }
    }

    fn answer(&self, asked: &str, remote: &Remote) -> Reply {
        let done = match Question::read(asked).map(Question::into_order) {
            None => Some(Err(NotTaken::Refused(format!("`{asked}` is not known to it")))),
            Some(None) => None,
            Some(Some(order)) => Some(self.give(order, remote)),
        };
        let taken = done.as_ref().and_then(|done| match done {
            Ok(()) => Some(true),
            Err(NotTaken::Refused(_)) => Some(false),
            Err(NotTaken::Unheard) => None,
        });
        let refused = done.and_then(Result::err).map(NotTaken::into_words);
        Reply { standing: self.now(), taken, refused }
    }
}

/// Why an order has shown no effect.
enum NotTaken {
    /// It has none, because of this.
    Refused(String),
    /// The driver has not come to it: it waits for a disk, say, and may yet take it.
    Unheard,
}

impl NotTaken {
    fn into_words(self) -> String {
        match self {
            Self::Refused(why) => why,
            Self::Unheard => format!(
                "nothing was heard of it within {}, and it may still be taken: ask with `whimbrel resolve --control`, without an \
                 order, how it stands",
                duration::human(EFFECT)
            ),
        }
    }
}

fn no_doubt(standing: &Standing) -> String {
    match (standing.connected, standing.side) {
        (true, _) => "there is no doubt to end: the peer is connected, and knows".to_owned(),
        (false, Side::Source) => {
            "there is no doubt to end: the source knows who may run the guest".to_owned()
        }
        (false, Side::Destination) => {
            "there is no doubt to end: it holds no complete replica whose source was lost".to_owned()
        }
    }
}

/// Answers at a socket until it is dropped.
pub(super) struct Server {
    unwanted: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// As somebody elsewhere can name it.
    pub(super) path: PathBuf,
}

impl Server {
    /// Listens at `path`.
    pub(super) fn start(path: &Path, desk: Arc<Desk>, remote: Remote) -> Result<Self, TransportError> {
        let listener = UnixListener::bind(path)?;
        let unwanted = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&unwanted);
        let serve = move || {
            while !told.load(Ordering::Relaxed) {
                match listener.accept(LOOK) {
                    // Whoever hangs up in the middle hears nothing.
                    Ok(Some(stream)) => drop(serve(&*stream, &desk, &remote)),
                    Ok(None) => {}
                    Err(_) => return,
                }
            }
        };
        let thread = std::thread::Builder::new().name("orders".to_owned()).spawn(serve);
        let thread =
            thread.map_err(|cause| TransportError::new("no thread for the control socket", cause))?;
        Ok(Self { unwanted, thread: Some(thread), path: from_anywhere(path) })
    }
}

/// How names of control sockets end.
pub(super) const CONTROL: &str = ".control";

/// The control socket of this process in the directory of its records. Those that processes have left behind which were
/// killed are removed.
pub(super) fn usual(directory: &Path, command: &str) -> PathBuf {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in entries.filter(|path| is_left_behind(path)) {
        // One that stays does no harm.
        let _ = fs::remove_file(path);
    }
    directory.join(format!("{command}-{}{CONTROL}", std::process::id()))
}

/// Whether this is the socket of a process that is no more. One that nobody listens at may also be about to be listened at, so
/// the process is looked for, too.
fn is_left_behind(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let process =
        name.strip_suffix(CONTROL).and_then(|name| name.split_once('-')).map(|(_, process)| process);
    let Some(process) = process.and_then(|process| process.parse::<u32>().ok()) else { return false };
    let known = Path::new("/proc/self").exists();
    let gone = known && !Path::new(&format!("/proc/{process}")).exists();
    gone && matches!(UnixConnector::new(path).connect(PATIENCE),
        Err(error) if error.cause.kind() == io::ErrorKind::ConnectionRefused)
}

/// The longest path that a socket can have.
const LONGEST_PATH: usize = 107;

/// The path from the root, where a socket can be reached by that.
pub(super) fn from_anywhere(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).ok();
    absolute.filter(|path| path.as_os_str().len() <= LONGEST_PATH).unwrap_or_else(|| path.to_owned())
}

impl Drop for Server {
    fn drop(&mut self) {
        self.unwanted.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: &dyn Stream, desk: &Desk, remote: &Remote) -> io::Result<()> {
    stream.set_patience(Some(PATIENCE), Some(PATIENCE))?;
    let asked = read_line(stream)?;
    let reply = serde_json::to_string(&desk.answer(&asked, remote))? + "\n";
    write_all(stream, reply.as_bytes())?;
    stream.shutdown();
    Ok(())
}

/// Asks a running command.
pub(super) fn ask(path: &Path, question: &Question) -> Result<Reply, TransportError> {
    let failed = |cause| TransportError::new(format!("{} does not answer", path.display()), cause);
    let stream = UnixConnector::new(path).connect(PATIENCE)?;
    stream.set_patience(Some(PATIENCE + EFFECT), Some(PATIENCE)).map_err(failed)?;
    write_all(&*stream, (question.to_line() + "\n").as_bytes()).map_err(failed)?;
    let line = read_line(&*stream).map_err(failed)?;
    serde_json::from_str(&line).map_err(|error| failed(error.into()))
}

fn read_line(stream: &dyn Stream) -> io::Result<String> {
    let mut line = vec![0; LONGEST];
    let mut len = 0;
    loop {
        let room = line.get_mut(len..).unwrap_or_default();
        let count = match stream.read(room) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        len += count;
        if let Some(end) = line.iter().take(len).position(|&byte| byte == b'\n') {
            line.truncate(end);
            return String::from_utf8(line)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
        }
    }
}

fn write_all(stream: &dyn Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(&[IoSlice::new(bytes)]) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
