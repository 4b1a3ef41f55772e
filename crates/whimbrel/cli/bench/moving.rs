//! One move: a lab guest runs in this process and goes to another.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use whimbrel_core::embed::Guest as _;
use whimbrel_core::layout::RamLayout;
use whimbrel_core::machine::handoff::Right;
use whimbrel_core::machine::message::{Configuration, MigrationId};
use whimbrel_core::policy::RateLimit;
use whimbrel_core::report::{Outcome, Report};
use whimbrel_core::units::{Pages, Timestamp};
use whimbrel_engine::observer::{Event, Observer};
use whimbrel_engine::orders::{Order, Orders, Remote};
use whimbrel_engine::source::{self, Outgoing, SourceError, SourceSettings};
use whimbrel_engine::stable::{DirectoryStore, Role, StableStore as _};
use whimbrel_engine::transport::open::{Options, connector};
use whimbrel_guest::memory::Backing;
use whimbrel_lab::output::{Kind, WholeFile};
use whimbrel_lab::real::guest::lab_guest;
use whimbrel_lab::real::here::{Here, Kept, LogChoice};
use whimbrel_lab::scenario::{PolicyChange, PolicySpec, Setup, guest_toml};
use whimbrel_sim::Lost;
use whimbrel_sim::config::GuestConfig;
use whimbrel_wire::hello::Token;
use whimbrel_wire::pages::Encoded;

use super::super::args::Over;
use super::super::beside::beside;
use super::super::failure::Failure;
use super::super::live::scribe::{Scribe, Written};
use super::super::live::slowed::Slowed;
use super::super::live::{new_id, random};
use super::destination::{Destination, Found};
use super::plan::Sending;
use super::work::Work;

/// How often it is looked whether somebody has pressed Ctrl-C, or a change of the policy is due.
const LOOK: Duration = Duration::from_millis(5);

/// What all moves have in common.
pub(super) struct Mover {
    pub(super) work: Work,
    pub(super) over: Over,
    pub(super) log: LogChoice,
    pub(super) backing: Backing,
}

/// What is to be moved, and how.
pub(super) struct Wanted<'a> {
    pub(super) guest: &'a GuestConfig,
    pub(super) policy: &'a PolicySpec,
    pub(super) sending: Sending,
    pub(super) limit: RateLimit,
    pub(super) time_limit: Duration,
    pub(super) seed: u64,
    /// Where its journal goes, if it is to be kept.
    pub(super) journal: Option<PathBuf>,
}

impl<'a> Wanted<'a> {
    /// A run of a cell.
    pub(super) fn of(setup: &'a Setup, sending: Sending, seed: u64) -> Self {
        Self {
            guest: &setup.guest,
            policy: &setup.policy,
            sending,
            limit: RateLimit::AtMost(setup.link.bandwidth),
            time_limit: setup.run.time_limit,
            seed,
            journal: None,
        }
    }

    /// Begins its journal, if it is to be kept.
    fn scribe(
        &self,
        (id, name, layout): (MigrationId, &str, &RamLayout),
        patience: Duration,
    ) -> Result<Option<Scribe>, Failure> {
        let Some(path) = &self.journal else { return Ok(None) };
        let file = WholeFile::create_as(path, Kind::JOURNAL).map_err(Failure::failed)?;
        let (name, layout, vcpus) = (name.to_owned(), layout.clone(), self.guest.vcpus);
        let configuration = Configuration { id, name, layout, vcpus };
        Ok(Some(Scribe::new(file, configuration, self.policy, patience)))
    }

    fn settings(&self, token: &str) -> Result<SourceSettings, Failure> {
        let token = Token::new(token.as_bytes()).map_err(Failure::failed)?;
        let mut settings = SourceSettings::new(new_id()?, token);
        settings.streams = self.sending.streams;
        settings.encoding = self.sending.encoder();
        settings.limit = self.limit;
        settings.time_limit = Some(self.time_limit);
        Ok(settings)
    }
}

/// What came of it.
pub(super) struct Moved {
    pub(super) report: Report,
    /// What pages became.
    pub(super) encoded: Encoded,
    /// Processor time that sending took here.
    pub(super) cpu: Option<Duration>,
    /// Pages that harvests found dirty: the guest paid for a first write to each.
    pub(super) found_dirty: Pages,
    /// When it began, by the clock of the report's rounds: connections were made before.
    pub(super) began: Timestamp,
    pub(super) lost: Lost,
    /// What the destination found; of a guest that stayed, nothing is of use.
    pub(super) found: Option<Found>,
    /// Whether the guest was what it must be, wherever it is.
    pub(super) exact: bool,
}

impl Mover {
    /// Moves a guest that has just begun to run; none if it was stopped meanwhile.
    pub(super) fn make(&self, wanted: &Wanted<'_>, stop: &AtomicBool) -> Result<Option<Moved>, Failure> {
        let lab = lab_guest(wanted.guest, wanted.seed).map_err(Failure::bad_input)?;
        let token = format!("{:032x}", u128::from_le_bytes(random()?));
        let scenario = guest_toml(wanted.guest, wanted.seed);
        // The name that `receive` expects.
        let name = format!("guest@{:016x}", lab.fingerprint());
        let destination = Destination::start(&self.work, self.over, self.backing, (&scenario, &token))?;
        let here = Here::new(wanted.guest, lab, self.backing, self.log).map_err(Failure::failed)?;
        let Here { memory, mut log, guest, .. } = here;
        let guest = Kept::new(guest);
        let connect = connector(&destination.address, &Options::default()).map_err(Failure::failed)?;
        let directory = self.work.records("source");
        let mut store = DirectoryStore::open(&directory, Role::Source).map_err(Failure::failed)?;
        let settings = wanted.settings(&token)?;
        let id = settings.id;
        let orders = Orders::new();
        let mut scribe = wanted.scribe((id, &name, memory.layout()), settings.patience)?;
        let mut seen = Seen { began: None, slowed: Slowed::new(wanted.guest.vcpus) };
        let outgoing = Outgoing {
            name,
            vcpus: wanted.guest.vcpus,
            ram: memory,
            log: &mut *log,
            guest: &mut guest.clone(),
            policy: wanted.policy.build().map_err(Failure::bad_input)?,
            connect: Arc::from(connect),
            store: &mut store,
        };
        // Not before everything is ready: what is forecast begins with its start.
        guest.clone().resume().map_err(Failure::failed)?;
        let mut observer = Written { scribe: scribe.as_mut(), then: &mut seen };
        let moved = meddling(stop, &wanted.policy.changes, &orders.remote(), || {
            source::send(outgoing, settings, &orders, &mut observer)
        });
        let moved = moved.map_err(|error| refused(error, &destination.says()))?;
        let _ = store.erase(id);
        let (encoded, cpu, found_dirty) = (moved.encoded, moved.cpu, moved.tracking.found);
        let (report, Seen { began, slowed }) = (moved.report, seen);
        let began = began.unwrap_or(Timestamp::ZERO);
        if report.outcome == Outcome::Cancelled && stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let (found, exact) = looked_at(moved.right, guest, destination)?;
        let missed = if found.is_some() { report.downtime.total() } else { report.paused_in_vain };
        let lost = slowed.lost(missed);
        scribe.map_or(Ok(()), Scribe::publish).map_err(Failure::failed)?;
        Ok(Some(Moved { report, encoded, cpu, found_dirty, began, lost, found, exact }))
    }
}

/// Nothing was moved. What the engine never takes is no matter of another try: it is for whoever wrote the matrix.
fn refused(error: SourceError, said: &str) -> Failure {
    let never = matches!(error, SourceError::Unsupported(_) | SourceError::Streams(_));
    let nothing =
        if said.is_empty() { "nothing was moved".to_owned() } else { format!("nothing was moved ({said})") };
    let error = anyhow::Error::new(error).context(nothing);
    if never { Failure::BadInput(error) } else { Failure::Failed(error) }
}

/// What the destination found if the guest is there, and whether the guest is what it must be where it is.
fn looked_at(right: Right, guest: Kept, destination: Destination) -> Result<(Option<Found>, bool), Failure> {
    let failed = |what: &str, detail: &str| Failure::Failed(anyhow!("{what}: {detail}"));
    match right {
        Right::Undecided => Err(failed("the destination was lost in the handover", &destination.says())),
        Right::Mine => Ok((None, guest.check().is_ok())),
        Right::Theirs => {
            // Its memory is not needed any more, and its threads would be in the way.
            drop(guest);
            let found = destination.end()?;
            if found.outcome != "running" {
                return Err(failed("the guest does not run at the destination", &found.outcome));
            }
            let exact = found.exact == Some(true);
            Ok((Some(found), exact))
        }
    }
}

/// While `act` goes on, cancels it if that is wanted, and changes the policy as the scenario says.
fn meddling<T>(stop: &AtomicBool, changes: &[PolicyChange], remote: &Remote, act: impl FnOnce() -> T) -> T {
    let meddle = |over: &AtomicBool| {
        let (begun, mut cancelled) = (Instant::now(), false);
        let mut changes = changes.iter().peekable();
        while !over.load(Ordering::Relaxed) {
            while let Some(change) = changes.next_if(|change| begun.elapsed() >= change.at) {
                let PolicyChange { parameter, value, .. } = change.clone();
                remote.give(Order::Change { parameter, value });
            }
            if !cancelled && stop.load(Ordering::Relaxed) {
                cancelled = remote.cancel();
            }
            std::thread::sleep(LOOK);
        }
    };
    beside(meddle, act)
}

/// Sees when the migration begins, and what the guest loses to the throttle.
struct Seen {
    began: Option<Timestamp>,
    slowed: Slowed,
}

impl Observer for Seen {
    fn on_event(&mut self, at: Timestamp, event: &Event<'_>) {
        self.began.get_or_insert(at);
        self.slowed.see(at, event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_never_taken_is_not_to_be_tried_again() {
        let message = |failure: &Failure| failure.message().unwrap_or_default();
        let never = refused(SourceError::Streams(65), "");
        assert!(matches!(never, Failure::BadInput(_)));
        assert_eq!(message(&never), "error: nothing was moved: 65 page streams: accepted are 1 to 64");
        let lost = refused(SourceError::Thread(std::io::Error::other("none left")), "out of memory");
        assert!(matches!(lost, Failure::Failed(_)));
        assert!(
            message(&lost).contains("nothing was moved (out of memory): no thread"),
            "{}",
            message(&lost)
        );
    }
}
