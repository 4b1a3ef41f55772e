//! `whimbrel send`: runs a lab guest and moves it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde::Serialize;
use whimbrel_core::embed::Guest as _;
use whimbrel_core::layout::RamLayout;
use whimbrel_core::machine::handoff::Right;
use whimbrel_core::machine::message::Configuration;
use whimbrel_core::policy::RateLimit;
use whimbrel_core::report::Outcome;
use whimbrel_core::units::duration;
use whimbrel_engine::orders::{Order, Orders, Remote};
use whimbrel_engine::source::{self, Outgoing, SourceError, SourceResult, SourceSettings};
use whimbrel_engine::stable::{DirectoryStore, Role, StableStore as _};
use whimbrel_engine::transport::Connect;
use whimbrel_engine::transport::open::connector;
use whimbrel_guest::memory::Backing;
use whimbrel_lab::output::{Kind, WholeFile};
use whimbrel_lab::real::here::{Here, Kept, LogChoice};
use whimbrel_lab::result::{MigrationRecord, milliseconds};
use whimbrel_lab::scenario::{PolicyChange, Setup};
use whimbrel_lab::table::{named, real_migration};
use whimbrel_wire::pages::{Compression, EncoderConfig, Encoding as PageEncoding, Encodings};

use super::super::args::{Encoding, SendArgs, TextFormat};
use super::super::beside::beside;
use super::super::failure::{Failure, IN_DOUBT};
use super::super::interrupt::Interrupt;
use super::super::simulate;
use super::super::{print, tell, visible, width};
use super::control::{Desk, Server, Side, limit_words, usual};
use super::cost::{self, As, TrackingRecord, encodings};
use super::offered;
use super::scribe::{Scribe, Written};
use super::view::{SourceView, View};
use super::{
    Chosen, and_told, directory, given_token, new_id, no_connection, not_here, open_store, options, quoted,
    shown, token_of,
};

/// How often it is looked whether somebody has pressed Ctrl-C, or a change of the policy is due.
const LOOK: Duration = Duration::from_millis(10);

/// A move that is ready to begin.
pub(in crate::cli) struct Sending {
    chosen: Chosen,
    to: String,
    connect: Arc<dyn Connect>,
    settings: SourceSettings,
    backing: Backing,
    log: LogChoice,
    warm_up: Duration,
    how: String,
    store: DirectoryStore,
    desk: Arc<Desk>,
    orders: Orders,
    control: Server,
    journal: Option<WholeFile>,
    format: TextFormat,
    interrupt: Interrupt,
}

impl Sending {
    /// Reads and opens everything. Nothing is connected yet.
    pub(in crate::cli) fn ready(args: &SendArgs) -> Result<Self, Failure> {
        let chosen = Chosen::read(&args.guest, args.policy.as_deref())?;
        offered::suffices(&chosen.setup.policy).map_err(|why| Failure::BadInput(anyhow!("{why}")))?;
        let token = given_token(&args.peer.way)?;
        let token =
            token.context("which token does the destination expect? say it with --token or --token-file");
        let token = token_of(&token.map_err(Failure::BadInput)?)?;
        let connect = Arc::from(connector(&args.to, &options(&args.peer.way)?).map_err(no_connection)?);
        let id = args.id.map_or_else(new_id, Ok)?;
        let directory = directory(args.peer.store.as_deref())?;
        let store = open_store(&directory, Role::Source)?;
        if store.path(id).exists() {
            return Err(Failure::BadInput(anyhow!(
                "--id {}: there was a migration of this name, as {} says; no two may be alike",
                shown(id),
                store.path(id).display()
            )));
        }
        let journal = args.journal.as_deref().map(|path| WholeFile::create_as(path, Kind::JOURNAL));
        let journal = journal.transpose().map_err(Failure::failed)?;
        let desk = Arc::new(Desk::new(Side::Source, Some(id), &chosen.name));
        let orders = Orders::new();
        let path = args.peer.control.clone().unwrap_or_else(|| usual(&directory, "send"));
        let control = Server::start(&path, Arc::clone(&desk), orders.remote()).map_err(no_connection)?;
        let mut settings = SourceSettings::new(id, token);
        settings.streams = args.streams;
        settings.encoding = encoder(args);
        settings.verify = args.verify;
        settings.patience = args.peer.way.patience;
        settings.limit = args.limit.map_or(RateLimit::Unlimited, RateLimit::AtMost);
        settings.time_limit = Some(args.time_limit.unwrap_or(chosen.setup.run.time_limit));
        desk.note(|standing| standing.limit = Some(limit_words(settings.limit)));
        Ok(Self {
            chosen,
            to: args.to.to_string(),
            connect,
            settings,
            backing: args.memory,
            log: args.log.into(),
            warm_up: args.warm_up,
            how: how(args),
            store,
            desk,
            orders,
            control,
            journal,
            format: args.format,
            interrupt: Interrupt::listen_in_a_move(IN_DOUBT).map_err(Failure::failed)?,
        })
    }

    /// Runs the guest, moves it, and tells what came of it.
    pub(in crate::cli) fn run(mut self) -> Result<(), Failure> {
        let here = Here::new(&self.chosen.setup.guest, self.chosen.lab.clone(), self.backing, self.log);
        let Here { memory, mut log, guest, instead } = here.map_err(not_here)?;
        let log_words = match &instead {
            Some(why) => format!("{}, because {why}", log.name()),
            None => log.name().to_owned(),
        };
        let guest = Kept::new(guest);
        guest.clone().resume().map_err(Failure::failed)?;
        if let Some(code) = self.warm() {
            let message = "before the guest was moved".to_owned();
            return Err(Failure::Interrupted { code, message });
        }
        let mut view = View::new(self.format);
        self.settings.outlook = view.is_live();
        view.say(&format!("migration {}, control {}", shown(self.settings.id), self.control.path.display()));
        let vcpus = self.chosen.setup.guest.vcpus;
        let mut view = SourceView::new(view, Arc::clone(&self.desk), self.doubt(), vcpus);
        let layout = memory.layout().clone();
        let mut scribe = self.journal.take().map(|file| self.scribe(file, layout));
        let outgoing = Outgoing {
            name: self.chosen.name.clone(),
            vcpus,
            ram: Arc::clone(&memory) as Arc<_>,
            log: &mut *log,
            guest: &mut guest.clone(),
            policy: self.chosen.setup.policy.build().map_err(Failure::bad_input)?,
            connect: Arc::clone(&self.connect),
            store: &mut self.store,
        };
        let changes = &self.chosen.setup.policy.changes;
        let meddler = Meddler::new(&self.interrupt, &self.desk, self.orders.remote(), changes);
        let mut observer = Written { scribe: scribe.as_mut(), then: &mut view };
        let moved =
            meddler.during(|| source::send(outgoing, self.settings.clone(), &self.orders, &mut observer));
        view.view.clear();
        let moved = match moved {
            Ok(moved) => moved,
            Err(error) => return Err(self.not_begun(error, &guest)),
        };
        self.end(&Ended::new(moved, &view, &guest, log_words), scribe)
    }

    /// Lets the guest run for a while; gives the exit code if somebody does not want to wait.
    fn warm(&self) -> Option<u8> {
        let begun = Instant::now();
        while begun.elapsed() < self.warm_up && self.interrupt.exit_code().is_none() {
            std::thread::sleep(LOOK.min(self.warm_up.saturating_sub(begun.elapsed())));
        }
        self.interrupt.exit_code()
    }

    /// Nothing was done: the guest runs on, which is seen to.
    fn not_begun(&self, error: SourceError, guest: &Kept) -> Failure {
        if let Err(broken) = guest.check() {
            return Failure::failed(broken);
        }
        let bad_input = match &error {
            SourceError::Streams(_) | SourceError::Unsupported(_) | SourceError::Guest(_) => true,
            // Plain TCP that would have left the machine; a socket that is not ours is the system's affair.
            SourceError::Connect(error) => {
                self.to.starts_with("tcp:") && error.cause.kind() == ErrorKind::PermissionDenied
            }
            _ => false,
        };
        let error = anyhow::Error::new(error).context("nothing was moved, and the guest ran on here");
        if bad_input { Failure::BadInput(error) } else { Failure::Failed(error) }
    }

    /// What to do when nobody here can know who has the guest.
    fn doubt(&self) -> String {
        let control = quoted(&self.control.path.to_string_lossy());
        format!(
            "in doubt: the destination was lost after the guest was handed to it. It may run there, so it stays paused here, and the \
             destination is asked again and again.\n\
             - `whimbrel receive` started there again, with the same --listen, --token and --store, answers from its records.\n\
             - If that host is out of the game for good, end the doubt by `whimbrel resolve --control {control} \
             --peer-never-ran` or `--peer-may-have-run` (see `whimbrel resolve --help`).\n\
             - Ctrl-C leaves it undecided, and gives up the guest's memory here."
        )
    }

    fn end(mut self, ended: &Ended, scribe: Option<Scribe>) -> Result<(), Failure> {
        let known = match ended.result.right {
            // Nothing was handed over: there is only room for a record.
            Right::Mine => true,
            // The destination has it in writing, and nobody here will look for the guest.
            Right::Theirs => ended.result.settled,
            Right::Undecided => false,
        };
        if known {
            // One that stays does no harm.
            let _ = self.store.erase(self.settings.id);
        }
        let setup = &self.chosen.setup;
        let result = &ended.result;
        let record = cost::record(&result.report, (&result.encoded, result.cpu), &ended.lost, setup.run.seed);
        let kept = scribe.map_or(Ok(()), |scribe| scribe.publish().map_err(Failure::failed));
        let text = match self.format {
            TextFormat::Table => Ok(visible(&self.table(ended, &record))),
            TextFormat::Json => self.json(ended, &record),
        };
        let printed = text.and_then(|text| print(&text));
        and_told(ended.outcome(&self.interrupt), [kept, printed])
    }

    /// Begins the journal.
    fn scribe(&self, file: WholeFile, layout: RamLayout) -> Scribe {
        let Setup { guest, policy, .. } = &self.chosen.setup;
        let (name, vcpus) = (self.chosen.name.clone(), guest.vcpus);
        let configuration = Configuration { id: self.settings.id, name, layout, vcpus };
        Scribe::new(file, configuration, policy, self.settings.patience)
    }

    fn table(&self, ended: &Ended, record: &MigrationRecord) -> String {
        let head = [("to", self.to.clone()), ("sending", self.how.clone()), ("dirty log", ended.log.clone())];
        let width = width();
        let mut text = real_migration(&self.chosen.setup, &head, record, width);
        text.push_str(&named(&[("guest runs", ended.where_it_runs(&self.to))], "            ", width));
        text
    }

    fn json(&self, ended: &Ended, record: &MigrationRecord) -> Result<String, Failure> {
        let told = Told {
            migration: simulate::Told::of(&self.chosen.setup.policy, &self.chosen.scenario, record),
            live: Live {
                migration: shown(self.settings.id),
                guest: &self.chosen.name,
                to: &self.to,
                sending: &self.how,
                dirty_log: &ended.log,
                tracking: TrackingRecord::of(&ended.result.tracking),
                encodings: encodings(ended.result.encoded.tallies()),
                right: ended.result.right,
                guest_runs: ended.place(),
                settled: ended.result.settled,
                exact: ended.exact(),
                longest_gap_ms: ended.longest_gap.map(milliseconds),
                clean_up_failures: &ended.result.report.clean_up_failures,
            },
        };
        Ok(serde_json::to_string_pretty(&told).map_err(Failure::failed)? + "\n")
    }
}

/// The JSON of a move: what `simulate` says of one, and what only a real one has.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    migration: simulate::Told<'a>,
    live: Live<'a>,
}

#[derive(Serialize)]
struct Live<'a> {
    migration: String,
    guest: &'a str,
    to: &'a str,
    sending: &'a str,
    dirty_log: &'a str,
    /// What the dirty log took here. What it cost the guest is a first write for each page found.
    tracking: TrackingRecord,
    /// What pages were sent as.
    encodings: BTreeMap<&'static str, As>,
    right: Right,
    /// `source`, `destination`, `nowhere` (it is to be started from its disks, here) or `unknown`.
    guest_runs: &'static str,
    settled: bool,
    /// Whether the memory of a guest that stayed is what its registers say; none if it did not stay.
    exact: Option<bool>,
    /// The longest time without a beat of a guest that stayed.
    longest_gap_ms: Option<f64>,
    clean_up_failures: &'a [String],
}

/// What came of it, and what was found here afterwards.
struct Ended {
    result: SourceResult,
    lost: whimbrel_sim::Lost,
    log: String,
    /// What checking it came to, of a guest that stayed.
    checked: Option<Result<(), String>>,
    longest_gap: Option<Duration>,
}

/// How long a guest that stayed goes on before it is checked: nothing of the move holds it up any more.
const AFTERWARDS: Duration = Duration::from_millis(20);

impl Ended {
    fn new(result: SourceResult, view: &SourceView, guest: &Kept, log: String) -> Self {
        let report = &result.report;
        let paused = match result.right {
            Right::Mine => report.paused_in_vain,
            Right::Theirs => report.downtime.total(),
            // It stands still.
            Right::Undecided => view.paused(),
        };
        let stayed = result.right == Right::Mine && report.outcome != Outcome::GuestLost;
        let checked = stayed.then(|| {
            std::thread::sleep(AFTERWARDS);
            guest.check().map_err(|error| format!("{:#}", anyhow::Error::new(error)))
        });
        let longest = guest.heartbeat().longest.first().map(|gap| gap.length);
        let longest_gap = longest.filter(|_| stayed);
        Self { lost: view.lost(paused), result, log, checked, longest_gap }
    }

    fn exact(&self) -> Option<bool> {
        self.checked.as_ref().map(Result::is_ok)
    }

    fn place(&self) -> &'static str {
        match self.result.right {
            Right::Mine if self.checked.is_none() => "nowhere",
            Right::Mine => "source",
            Right::Theirs => "destination",
            Right::Undecided => "unknown",
        }
    }

    fn where_it_runs(&self, to: &str) -> String {
        match (self.result.right, &self.checked) {
            (Right::Theirs, _) => format!("at the destination, {to}"),
            (Right::Undecided, _) => {
                "nobody here knows where: it was handed over, and the destination was lost".to_owned()
            }
            (Right::Mine, None) => "nowhere: it is to be started from its disks, here".to_owned(),
            (Right::Mine, Some(Ok(()))) => {
                let gap = self.longest_gap.map(duration::human).unwrap_or_default();
                format!(
                    "here; paused for this report, its memory holds what its registers say. Its heart never paused for longer \
                     than {gap}"
                )
            }
            (Right::Mine, Some(Err(why))) => format!("here, and is broken: {why}"),
        }
    }

    /// As the exit code has it.
    fn outcome(&self, interrupt: &Interrupt) -> Result<(), Failure> {
        if let Some(Err(why)) = &self.checked {
            return Err(Failure::Failed(anyhow!("{why}")));
        }
        let report = &self.result.report;
        match (self.result.right, interrupt.exit_code()) {
            (Right::Theirs, None) => Ok(()),
            (Right::Theirs, Some(_)) => {
                tell("note: Ctrl-C came too late: the guest was handed over");
                Ok(())
            }
            (Right::Undecided, _) => Err(Failure::InDoubt(anyhow!(
                "nobody here knows who has the guest; its record is kept, see `whimbrel resolve`"
            ))),
            (Right::Mine, Some(code)) if report.outcome == Outcome::Cancelled => {
                let message = "the guest stays here, and its memory holds what its registers say".to_owned();
                Err(Failure::Interrupted { code, message })
            }
            (Right::Mine, _) => Err(Failure::Failed(anyhow!("the guest was not moved: {}", report.why))),
        }
    }
}

// ---- how pages are sent -------------------------------------------------------------------------------------------

fn encoder(args: &SendArgs) -> EncoderConfig {
    let mut config = EncoderConfig::default();
    let (encodings, compression) = match args.encoding {
        Encoding::Raw => (Encodings::PLAIN, Compression::Off),
        Encoding::Adaptive => (Encodings::available().without(PageEncoding::Delta), Compression::Adaptive),
        Encoding::Lz4 => (Encodings::PLAIN.with(PageEncoding::Lz4), Compression::Lz4),
        Encoding::Zstd => (Encodings::PLAIN.with(PageEncoding::Zstd), Compression::Zstd),
    };
    config.encodings = encodings;
    config.compression = compression;
    config.payload_checksums = args.payload_checksums;
    if let Some(cache) = args.delta_cache {
        config.encodings = config.encodings.with(PageEncoding::Delta);
        config.delta_cache = cache;
    }
    config
}

fn how(args: &SendArgs) -> String {
    let encoding = match args.encoding {
        Encoding::Raw => "pages as they are",
        Encoding::Adaptive => "compressed where that pays",
        Encoding::Lz4 => "lz4",
        Encoding::Zstd => "zstd",
    };
    let streams = if args.streams == 1 { "1 stream".to_owned() } else { format!("{} streams", args.streams) };
    let mut parts = vec![streams, encoding.to_owned()];
    if let Some(cache) = args.delta_cache {
        parts.push(format!("differences from a cache of {}", cache.human()));
    }
    if args.payload_checksums {
        parts.push("checksums over pages".to_owned());
    }
    if args.verify {
        parts.push("a digest of all memory".to_owned());
    }
    if let Some(limit) = args.limit {
        parts.push(format!("at most {}", limit.human()));
    }
    parts.join(", ")
}

// ---- who meddles --------------------------------------------------------------------------------------------------

/// Gives the driver orders while it runs: Ctrl-C, and what the scenario changes of the policy over time.
struct Meddler<'a> {
    interrupt: &'a Interrupt,
    desk: &'a Desk,
    remote: Remote,
    changes: &'a [PolicyChange],
}

impl<'a> Meddler<'a> {
    fn new(interrupt: &'a Interrupt, desk: &'a Desk, remote: Remote, changes: &'a [PolicyChange]) -> Self {
        Self { interrupt, desk, remote, changes }
    }

    /// Meddles for as long as `act` takes.
    fn during<T>(&self, act: impl FnOnce() -> T) -> T {
        beside(|over| self.meddle(over), act)
    }

    fn meddle(&self, over: &AtomicBool) {
        let (begun, mut cancelled, mut left) = (Instant::now(), false, false);
        let mut changes = self.changes.iter().peekable();
        while !over.load(Ordering::Relaxed) {
            if let Some(change) = changes.next_if(|change| begun.elapsed() >= change.at) {
                let PolicyChange { parameter, value, .. } = change.clone();
                self.remote.give(Order::Change { parameter, value });
                continue;
            }
            if self.interrupt.exit_code().is_some() {
                if !cancelled {
                    cancelled = self.remote.cancel();
                }
                // There is nothing left to cancel, and whoever does not want to wait need not.
                if !left && self.desk.now().in_doubt {
                    left = self.remote.give(Order::Leave);
                }
            }
            std::thread::sleep(LOOK);
        }
    }
}
