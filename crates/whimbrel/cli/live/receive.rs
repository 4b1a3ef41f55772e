//! `whimbrel receive`: waits for a lab guest, takes it and looks whether it is what it must be.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use serde::Serialize;
use whimbrel_core::layout::RamLayout;
use whimbrel_core::machine::DestinationOutcome;
use whimbrel_core::machine::handoff::Right;
use whimbrel_core::machine::message::Configuration;
use whimbrel_core::units::{ByteCount, duration};
use whimbrel_engine::destination::{
    self, DestinationError, DestinationLedger, DestinationResult, DestinationSettings, Incoming, Replica,
};
use whimbrel_engine::orders::{Order, Orders};
use whimbrel_engine::stable::{DirectoryStore, Role, StableStore as _};
use whimbrel_engine::transport::Listen;
use whimbrel_engine::transport::open::listener;
use whimbrel_guest::lab::LabGuest;
use whimbrel_guest::memory::{Backing, GuestMemory, available};
use whimbrel_lab::real::here::Kept;
use whimbrel_lab::result::milliseconds;
use whimbrel_lab::table::{milliseconds as told_ms, named};

use super::super::args::{ReceiveArgs, TextFormat};
use super::super::beside::beside;
use super::super::failure::{Failure, IN_DOUBT};
use super::super::interrupt::Interrupt;
use super::super::{print, tell, visible, width};
use super::control::{Desk, Server, Side, usual};
use super::cost::{As, encodings};
use super::view::{DestinationView, View};
use super::{
    Chosen, MARK, and_told, directory, given_token, no_connection, open_store, options, quoted, random,
    same_guest, same_way, shown, token_of,
};

/// How often it is looked whether somebody has pressed Ctrl-C.
const LOOK: Duration = Duration::from_millis(10);

/// How long at once a source that asks again is waited for.
const ANSWERING: Duration = Duration::from_millis(50);

/// A destination that is ready to be connected to.
pub(in crate::cli) struct Receiving {
    chosen: Chosen,
    layout: RamLayout,
    backing: Backing,
    listen: Arc<dyn Listen>,
    settings: DestinationSettings,
    /// What to type in the other terminal.
    invitation: String,
    store: DirectoryStore,
    desk: Arc<Desk>,
    orders: Orders,
    control: Server,
    until_eof: bool,
    length: Option<Duration>,
    format: TextFormat,
    interrupt: Interrupt,
}

impl Receiving {
    /// Reads and opens everything, and listens.
    pub(in crate::cli) fn ready(args: &ReceiveArgs) -> Result<Self, Failure> {
        let chosen = Chosen::read(&args.guest, None)?;
        let guest = &chosen.setup.guest;
        let layout = RamLayout::contiguous(guest.memory, guest.page_size).map_err(Failure::bad_input)?;
        let most = args.most_memory.or_else(available).unwrap_or(ByteCount(u64::MAX));
        if guest.memory > most {
            let (memory, most) = (guest.memory, most);
            return Err(Failure::BadInput(anyhow!(
                "guest.memory = {memory}, and at most {most} are taken here"
            )));
        }
        let given = given_token(&args.peer.way)?;
        let token = match &given {
            Some(token) => token.clone(),
            None => format!("{:032x}", u128::from_le_bytes(random()?)),
        };
        let listen: Arc<dyn Listen> =
            Arc::from(listener(&args.listen, &options(&args.peer.way)?).map_err(no_connection)?);
        let directory = directory(args.peer.store.as_deref())?;
        let store = open_store(&directory, Role::Destination)?;
        let desk = Arc::new(Desk::new(Side::Destination, None, &chosen.name));
        let orders = Orders::new();
        let path = args.peer.control.clone().unwrap_or_else(|| usual(&directory, "receive"));
        let control = Server::start(&path, Arc::clone(&desk), orders.remote()).map_err(no_connection)?;
        let mut settings = DestinationSettings::new(token_of(&token)?, most);
        settings.patience = args.peer.way.patience;
        settings.largest_page = layout.page_size();
        settings.waiting = args.wait;
        settings.time_limit = args.time_limit;
        let token = match (&args.peer.way.token_file, &given) {
            (Some(file), _) => format!("--token-file {}", quoted(&file.to_string_lossy())),
            (None, _) => format!("--token {}", quoted(&token)),
        };
        let invitation = format!(
            "whimbrel send{} --to {}{} {token}",
            same_guest(&args.guest),
            quoted(&from_elsewhere(&listen.address())),
            same_way(&args.peer.way)?,
        );
        Ok(Self {
            chosen,
            layout,
            backing: args.memory,
            listen,
            settings,
            invitation,
            store,
            desk,
            orders,
            control,
            until_eof: args.until_eof,
            length: args.length,
            format: args.format,
            interrupt: Interrupt::listen_in_a_move(IN_DOUBT).map_err(Failure::failed)?,
        })
    }

    /// Takes a guest, runs it, and tells what it is like.
    pub(in crate::cli) fn run(mut self) -> Result<(), Failure> {
        if self.until_eof {
            self.interrupt.at_eof();
        }
        tell(&format!("listening at {}, control {}", self.listen.address(), self.control.path.display()));
        tell(&format!("to be typed elsewhere: {}", self.invitation));
        let guest = Mutex::new(None);
        let (taken, mut view) = self.take(&guest);
        view.view.clear();
        let mut result = taken.map_err(|error| self.nobody(error))?;
        let guest = guest.into_inner().unwrap_or_else(PoisonError::into_inner);
        if result.outcome == Some(DestinationOutcome::Gone) && view.doubted {
            self.tell_who_comes_back(&mut result);
        }
        let id = result.configuration.as_ref().map(|configuration| configuration.id);
        if let (Some(id), Some(DestinationOutcome::Gone)) = (id, result.outcome) {
            // The guest never ran here, which is what is said without a record, too.
            let _ = self.store.erase(id);
        }
        let runs = result.outcome == Some(DestinationOutcome::Running) && result.resume_failed.is_none();
        let ran = if runs { self.let_it_run(&mut result) } else { Duration::ZERO };
        let found = Found::new(&result, guest.as_ref().filter(|_| runs), ran);
        let text = match self.format {
            TextFormat::Table => Ok(visible(&found.table(&self.chosen.name))),
            TextFormat::Json => {
                serde_json::to_string_pretty(&found).map(|text| text + "\n").map_err(Failure::failed)
            }
        };
        and_told(found.outcome(&self.interrupt), [text.and_then(|text| print(&text))])
    }

    /// Waits for a guest until it runs here or never will.
    fn take(
        &mut self,
        guest: &Mutex<Option<Kept>>,
    ) -> (Result<DestinationResult, DestinationError>, DestinationView) {
        let view = View::new(self.format);
        let mut view = DestinationView::new(view, Arc::clone(&self.desk), doubt(&self.control));
        let (chosen, layout, backing, desk) = (&self.chosen, &self.layout, self.backing, &self.desk);
        let mut host = |configuration: &Configuration| {
            desk.note(|standing| standing.migration = Some(shown(configuration.id)));
            let (replica, kept) = build(configuration, chosen, layout, backing)?;
            *guest.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
            Ok(replica)
        };
        let incoming = Incoming { listen: Arc::clone(&self.listen), host: &mut host, store: &mut self.store };
        let (settings, orders, interrupt) = (self.settings.clone(), &self.orders, &self.interrupt);
        let taken = beside(
            |over| meddle(interrupt, desk, orders, over),
            || destination::receive(incoming, settings, orders, &mut view),
        );
        (taken, view)
    }

    /// Nobody came.
    fn nobody(&self, error: DestinationError) -> Failure {
        match (error, self.interrupt.exit_code()) {
            (DestinationError::Nobody(wait), _) => {
                Failure::Failed(anyhow!("nobody came within {}", duration::human(wait)))
            }
            (DestinationError::Cancelled, Some(code)) => {
                Failure::Interrupted { code, message: "nobody had come".to_owned() }
            }
            (error, _) => Failure::failed(error),
        }
    }

    /// A source that was lost, and whose guest never ran here, may be in doubt: if it asks for as long as it would count as lost, it
    /// is told at once.
    fn tell_who_comes_back(&self, result: &mut DestinationResult) {
        let until = Instant::now() + self.settings.patience;
        let waits = || Instant::now() < until && self.interrupt.exit_code().is_none();
        while waits() && !result.afterlife.answer(ANSWERING) {}
    }

    /// Until its time is over, or Ctrl-C; a source that did not hear of it is answered.
    fn let_it_run(&self, result: &mut DestinationResult) -> Duration {
        let begun = Instant::now();
        loop {
            let left = self.length.map_or(ANSWERING, |length| length.saturating_sub(begun.elapsed()));
            if left.is_zero() || self.interrupt.exit_code().is_some() {
                return begun.elapsed();
            }
            let until = Instant::now() + left.min(ANSWERING);
            result.afterlife.answer(left.min(ANSWERING));
            // A source that has hung up need not be waited for, and comes again perhaps.
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
        }
    }
}

/// The address as a source can use it: nobody connects to all addresses of a host.
fn from_elsewhere(address: &str) -> String {
    address.replace("0.0.0.0:", "HOST:").replace("[::]:", "HOST:")
}

/// The replica, if it is the guest that is expected here, and a way to ask it about itself.
fn build(
    configuration: &Configuration,
    chosen: &Chosen,
    layout: &RamLayout,
    backing: Backing,
) -> Result<(Replica, Kept), String> {
    let told = "both sides must be told the same --guest and --set";
    if configuration.layout != *layout {
        let memory = |layout: &RamLayout| format!("{} in pages of {}", layout.bytes(), layout.page_size());
        let (theirs, ours) = (memory(&configuration.layout), memory(layout));
        return Err(format!("the guest has {theirs}, the one expected here {ours}: {told}"));
    }
    let fingerprint = |name: &str| name.rsplit_once(MARK).map(|(_, fingerprint)| fingerprint.to_owned());
    if fingerprint(&configuration.name) != fingerprint(&chosen.name) {
        let (theirs, ours) = (&configuration.name, &chosen.name);
        return Err(format!("the guest is {theirs:?}, the one expected here {ours:?}: {told}"));
    }
    let ram = GuestMemory::new(layout.clone(), backing).map_err(|error| error.to_string())?;
    let ram = Arc::new(ram);
    let guest =
        LabGuest::new(Arc::clone(&ram), chosen.lab.clone(), None).map_err(|error| error.to_string())?;
    let kept = Kept::new(guest);
    Ok((Replica { ram, guest: Box::new(kept.clone()), fresh: true }, kept))
}

fn doubt(control: &Server) -> String {
    let control = quoted(&control.path.to_string_lossy());
    format!(
        "in doubt: the source was lost, and the replica here is complete. The guest may still run there, so the replica is kept, paused, \
         until the source comes back.\n\
         - If that host is out of the game for good, `whimbrel resolve --control {control} --peer-never-ran` starts the \
         replica; see `whimbrel resolve --help` for what that promises.\n\
         - `whimbrel resolve --control {control} --discard` gives it up.\n\
         - Ctrl-C gives it up, too, with this process."
    )
}

fn meddle(interrupt: &Interrupt, desk: &Desk, orders: &Orders, over: &AtomicBool) {
    let remote = orders.remote();
    let (mut cancelled, mut left) = (false, false);
    while !over.load(Ordering::Relaxed) {
        if interrupt.exit_code().is_some() {
            if !cancelled {
                cancelled = remote.cancel();
            }
            if !left && desk.now().in_doubt {
                left = remote.give(Order::Leave);
            }
        }
        std::thread::sleep(LOOK);
    }
}

/// How long the steps at the destination took, milliseconds.
#[derive(Serialize)]
#[allow(clippy::struct_field_names)] // They are those of the JSON.
struct LedgerFound {
    build_ms: f64,
    restore_ms: f64,
    persist_ms: f64,
    resume_ms: f64,
}

impl LedgerFound {
    fn of(ledger: &DestinationLedger) -> Self {
        Self {
            build_ms: milliseconds(ledger.build),
            restore_ms: milliseconds(ledger.restore),
            persist_ms: milliseconds(ledger.persist),
            resume_ms: milliseconds(ledger.resume),
        }
    }
}

/// What the guest's heart saw.
#[derive(Serialize)]
struct HeartFound {
    beats: u64,
    /// The longest time without a beat in all of the guest's life.
    longest_gap_ms: Option<f64>,
    /// That of the move: the downtime that the guest saw. By the clock of a machine that both sides share.
    move_gap_ms: Option<f64>,
}

/// What is known when all is over. Field names are stable.
#[derive(Serialize)]
struct Found {
    schema: u32,
    /// `running`, `gone`, `guest-lost` or `in-doubt`.
    outcome: &'static str,
    migration: Option<String>,
    guest: Option<String>,
    right: Right,
    why: Option<String>,
    ledger: LedgerFound,
    /// What pages came as, as `live.encodings` of `send` has it.
    encodings: BTreeMap<&'static str, As>,
    heartbeat: Option<HeartFound>,
    /// How long it ran here, seconds.
    ran_s: f64,
    /// Whether its memory is what its registers say; none if it did not run here.
    exact: Option<bool>,
    fault: Option<String>,
}

impl Found {
    /// Looks at the guest that ran here, if one did.
    fn new(result: &DestinationResult, guest: Option<&Kept>, ran: Duration) -> Self {
        let outcome = match result.outcome {
            None => "in-doubt",
            Some(DestinationOutcome::Running) => "running",
            Some(DestinationOutcome::Gone) => "gone",
            Some(DestinationOutcome::GuestLost) => "guest-lost",
        };
        let checked =
            guest.map(|guest| guest.check().map_err(|error| format!("{:#}", anyhow::Error::new(error))));
        let heartbeat = guest.map(|guest| {
            let heartbeat = guest.heartbeat();
            HeartFound {
                beats: heartbeat.beats,
                longest_gap_ms: heartbeat.longest.first().map(|gap| milliseconds(gap.length)),
                move_gap_ms: guest.gap_of_the_move().map(milliseconds),
            }
        });
        let configuration = result.configuration.as_ref();
        Self {
            schema: 1,
            outcome,
            migration: configuration.map(|configuration| shown(configuration.id)),
            guest: configuration.map(|configuration| configuration.name.clone()),
            right: result.right,
            why: result.resume_failed.clone().or_else(|| result.why.clone()),
            ledger: LedgerFound::of(&result.ledger),
            encodings: encodings(&result.taken),
            heartbeat,
            ran_s: ran.as_secs_f64(),
            exact: checked.as_ref().map(Result::is_ok),
            fault: checked.and_then(Result::err),
        }
    }

    fn table(&self, expected: &str) -> String {
        let ms = |ms| told_ms(Some(ms));
        let name = self.guest.as_deref().unwrap_or(expected);
        let mut rows = vec![("guest", name.to_owned())];
        rows.extend(self.migration.clone().map(|id| ("migration", id)));
        rows.push(("outcome", self.outcome.to_owned()));
        rows.extend(self.why.clone().map(|why| ("why", why)));
        let right = match self.right {
            Right::Mine => "this host",
            Right::Theirs => "the source",
            Right::Undecided => "nobody here knows who",
        };
        rows.push(("may run it", right.to_owned()));
        if self.exact.is_some() {
            let LedgerFound { build_ms, restore_ms, persist_ms, resume_ms } = self.ledger;
            let restored = format!("restored in {}, written down in {}", ms(restore_ms), ms(persist_ms));
            rows.push(("downtime", format!("{restored}, resumed in {}", ms(resume_ms))));
            rows.push(("built in", ms(build_ms)));
        }
        let came = self.encodings.iter().filter(|(_, came)| came.pages > 0);
        let came =
            came.map(|(name, came)| format!("{} {name} in {}", came.pages, ByteCount(came.bytes).human()));
        let came = came.collect::<Vec<_>>().join(", ");
        if !came.is_empty() {
            rows.push(("pages", came));
        }
        if let Some(heart) = &self.heartbeat {
            let (beats, longest) = (heart.beats, told_ms(heart.longest_gap_ms));
            let moved = heart.move_gap_ms.map(|gap| format!("{} without one in the move, ", ms(gap)));
            rows.push((
                "heartbeat",
                format!("{beats} beats, {}at most {longest} ever", moved.unwrap_or_default()),
            ));
        }
        if let Some(exact) = self.exact {
            rows.push(("ran here", ms(self.ran_s * 1e3)));
            let memory = if exact { "holds what the guest's registers say" } else { "is broken" };
            rows.push(("memory", memory.to_owned()));
        }
        named(&rows, "            ", width())
    }

    fn outcome(&self, interrupt: &Interrupt) -> Result<(), Failure> {
        if let Some(fault) = &self.fault {
            return Err(Failure::Failed(anyhow!("{fault}")));
        }
        let why = self.why.as_deref().unwrap_or("nobody said why");
        match (self.exact, interrupt.exit_code()) {
            (Some(_), _) => Ok(()),
            (None, _) if self.right == Right::Undecided => Err(Failure::InDoubt(anyhow!(
                "a complete replica was given up; nobody here knows whether the source has the guest"
            ))),
            (None, Some(code)) if self.right == Right::Theirs => {
                Err(Failure::Interrupted { code, message: "the guest did not come".to_owned() })
            }
            (None, _) if self.outcome == "running" => {
                Err(Failure::Failed(anyhow!("the guest belongs here and does not run: {why}")))
            }
            (None, _) if self.outcome == "guest-lost" => Err(Failure::Failed(anyhow!(
                "the guest belongs here, and its memory was given up: start it from its disks, here"
            ))),
            (None, _) => Err(Failure::Failed(anyhow!("no guest runs here: {why}"))),
        }
    }
}
