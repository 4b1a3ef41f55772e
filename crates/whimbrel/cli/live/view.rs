//! What `send` and `receive` show while they run: a line on a terminal that changes in place, plain lines elsewhere.
//!
//! Called on the driver's thread, which waits for it. What a person must act on is shown in any case; the rest only to people.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use whimbrel_core::controller::Outlook;
use whimbrel_core::machine::{DestinationPhase, SourcePhase};
use whimbrel_core::progress::Progress;
use whimbrel_core::report::RoundReport;
use whimbrel_core::units::{Bandwidth, ByteCount, Timestamp, duration};
use whimbrel_engine::observer::{Event, Observer};
use whimbrel_engine::orders::Order;
use whimbrel_sim::Lost;

use super::super::args::TextFormat;
use super::super::tell;
use super::control::{Desk, limit_words};
use super::shown;
use super::slowed::Slowed;

/// Time between two pictures of the line.
const FRAME: Duration = Duration::from_millis(100);

/// Shows.
pub(super) struct View {
    how: How,
    drawn: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// A line in place.
    Terminal,
    /// Line by line.
    Lines,
    /// Only what a person must act on.
    Silent,
}

impl View {
    pub(super) fn new(format: TextFormat) -> Self {
        let how = match format {
            TextFormat::Json => How::Silent,
            TextFormat::Table if console::user_attended_stderr() => How::Terminal,
            TextFormat::Table => How::Lines,
        };
        Self { how, drawn: None }
    }

    /// Whether somebody looks at a line in place.
    pub(super) fn is_live(&self) -> bool {
        self.how == How::Terminal
    }

    /// Something that happened, for people.
    pub(super) fn say(&mut self, line: &str) {
        if self.how != How::Silent {
            self.warn(line);
        }
    }

    /// Something that a person must know.
    pub(super) fn warn(&mut self, line: &str) {
        self.clear();
        tell(line);
    }

    /// Takes the line in place away.
    pub(super) fn clear(&mut self) {
        if self.drawn.take().is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    fn draw(&mut self, at: Timestamp, line: &str) {
        let early = self.drawn.is_some_and(|drawn| at.since(drawn) < FRAME);
        if self.how != How::Terminal || early {
            return;
        }
        self.drawn = Some(at);
        // A line that is broken cannot be taken away again.
        let room = usize::from(console::Term::stderr().size().1).saturating_sub(1);
        let shown: String = line.chars().take(room).collect();
        let _ = write!(std::io::stderr(), "\r\x1b[K{shown}");
    }
}

/// What the source's driver does, in words.
pub(super) const fn source_words(phase: SourcePhase) -> &'static str {
    match phase {
        SourcePhase::Idle => "the guest runs, and is about to be moved",
        SourcePhase::Connecting => "asking the destination for room",
        SourcePhase::StartingTracking => "starting the dirty log",
        SourcePhase::Sending => "sending",
        SourcePhase::Gating => "waiting for the destination to have the round",
        SourcePhase::Harvesting => "harvesting the dirty log",
        SourcePhase::Pausing => "pausing the guest",
        SourcePhase::LastHarvest => "harvesting for the last time",
        SourcePhase::SendingLast => "sending the last pages",
        SourcePhase::Saving => "saving the guest's state",
        SourcePhase::AwaitingReady => "waiting for the destination to be ready",
        SourcePhase::Committing => "writing down that the guest is handed over",
        SourcePhase::AwaitingRunning => "handed over, waiting to hear that the guest runs",
        SourcePhase::PostCopy => "the guest runs at the destination, and its last pages are sent",
        SourcePhase::InDoubt => "in doubt: the destination was lost after the guest was handed over",
        SourcePhase::Returning => "the guest stays here",
        SourcePhase::Releasing => "the guest runs at the destination",
        SourcePhase::Done => "done",
    }
}

/// What the destination's does.
pub(super) const fn destination_words(phase: DestinationPhase) -> &'static str {
    match phase {
        DestinationPhase::Listening => "waiting for a guest",
        DestinationPhase::Building => "making room for the guest",
        DestinationPhase::Loading => "receiving the guest's memory",
        DestinationPhase::Restoring => "restoring the guest's state",
        DestinationPhase::Prepared => "the replica is complete, and waits to be told that it may run",
        DestinationPhase::Committing => "writing down that the guest belongs here",
        DestinationPhase::Resuming => "letting the guest run",
        DestinationPhase::Filling => "the guest runs here, and its last pages arrive",
        DestinationPhase::Running => "the guest runs here",
        DestinationPhase::Gone => "there is no replica here",
    }
}

/// Of an order to cancel that comes too late at a source, where nothing else shows that.
const TOO_LATE: &str = "\
too late to cancel: the guest is handed over, and the destination is waited for, at most as long as --patience says. To end this \
program before, as a second Ctrl-C does, gives up the guest's memory here and leaves open who has the guest (exit code 3)";

/// The same at a destination.
const TOO_LATE_HERE: &str = "\
too late to cancel: the replica here is complete, and the guest may be handed over to it. The source is waited for, at most as long as \
--patience says. To end this program before, as a second Ctrl-C does, gives up the replica and leaves open who has the guest (exit code 3)";

/// The same at either side, a moment before or after.
const TOO_LATE_TO_WRITE: &str = "\
too late to cancel: a record of the handover is being written. To end this program before, as a second Ctrl-C does, leaves open who has \
the guest (exit code 3)";

/// What to say at a source to whoever cancels too late, if nothing else shows it.
const fn too_late(phase: SourcePhase) -> Option<&'static str> {
    match phase {
        SourcePhase::Committing => Some(TOO_LATE_TO_WRITE),
        SourcePhase::AwaitingRunning | SourcePhase::PostCopy => Some(TOO_LATE),
        _ => None,
    }
}

/// The same at a destination.
const fn too_late_here(phase: DestinationPhase) -> Option<&'static str> {
    match phase {
        DestinationPhase::Prepared => Some(TOO_LATE_HERE),
        DestinationPhase::Committing => Some(TOO_LATE_TO_WRITE),
        _ => None,
    }
}

/// Of a guest that a promise has given up.
const LOST: &str = "the guest belongs here, and its memory is thrown away: start it from its disks, here";

/// Sees a source's migration: shows it, keeps the desk up to date, and adds up what the guest loses to the throttle.
pub(super) struct SourceView {
    pub(super) view: View,
    desk: Arc<Desk>,
    /// What to tell somebody when there is doubt.
    doubt: String,
    outlook: Option<Outlook>,
    slowed: Slowed,
    phase: SourcePhase,
    /// When the last pause began.
    paused: Option<Instant>,
    /// The guest's memory is thrown away.
    lost: bool,
}

impl SourceView {
    pub(super) fn new(view: View, desk: Arc<Desk>, doubt: String, vcpus: u32) -> Self {
        Self {
            view,
            desk,
            doubt,
            outlook: None,
            slowed: Slowed::new(vcpus),
            phase: SourcePhase::Idle,
            paused: None,
            lost: false,
        }
    }

    /// What the guest lost to the throttle, and to standing still for so long.
    pub(super) fn lost(&self, paused: Duration) -> Lost {
        self.slowed.lost(paused)
    }

    /// For how long a guest that was paused, and did not run since, stands still.
    pub(super) fn paused(&self) -> Duration {
        self.paused.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn phase(&mut self, phase: SourcePhase) {
        self.phase = phase;
        self.desk.begun();
        if phase == SourcePhase::Pausing {
            self.paused = Some(Instant::now());
        }
        let in_doubt = phase == SourcePhase::InDoubt;
        let words = if self.lost { LOST } else { source_words(phase) };
        self.desk.note(|standing| {
            standing.phase = words.into();
            standing.in_doubt = in_doubt;
        });
        match phase {
            SourcePhase::InDoubt => {
                let doubt = std::mem::take(&mut self.doubt);
                if !doubt.is_empty() {
                    self.view.warn(&doubt);
                }
            }
            SourcePhase::Returning if self.lost => self.view.warn(LOST),
            SourcePhase::Returning => self.view.say("the guest stays here"),
            _ => {}
        }
    }

    fn progress(&mut self, at: Timestamp, progress: &Progress) {
        let line = line(self.phase, progress, self.outlook.as_ref());
        self.view.draw(at, &line);
    }
}

impl Observer for SourceView {
    fn on_event(&mut self, at: Timestamp, event: &Event<'_>) {
        self.slowed.see(at, event);
        match event {
            Event::Source(phase) => self.phase(*phase),
            Event::Progress(progress) => self.progress(at, progress),
            Event::Round(round) => {
                let line = round_line(round);
                self.view.say(&line);
            }
            Event::Outlook(outlook) => self.outlook = Some(**outlook),
            Event::Connected => {
                self.desk.note(|standing| standing.connected = true);
                self.view.say("connected again");
            }
            Event::Lost { what } => {
                self.desk.note(|standing| standing.connected = false);
                self.view.say(&format!("the connection was lost: {what}"));
            }
            Event::StorageFails { what } => {
                self.view.warn(&format!("a record cannot be written, and is tried again: {what}"));
            }
            Event::Limit(limit) => self.desk.note(|standing| standing.limit = Some(limit_words(*limit))),
            Event::Taken { order } => {
                self.desk.decided(order, Ok(()));
                if let Some(words) = adjusted(order) {
                    self.view.say(&words);
                }
            }
            Event::Ignored { order, why } => {
                self.desk.decided(order, Err(why));
                if let (Order::Cancel(_), Some(words)) = (order, too_late(self.phase)) {
                    self.view.warn(words);
                }
            }
            Event::GuestLost => self.lost = true,
            _ => {}
        }
    }
}

/// What somebody has changed.
fn adjusted(order: &Order) -> Option<String> {
    match order {
        Order::Limit(limit) => Some(format!("changed: limit {}", limit_words(*limit))),
        Order::Change { parameter, value } => Some(format!("changed: {parameter} {value}")),
        _ => None,
    }
}

/// The line in place.
fn line(phase: SourcePhase, progress: &Progress, outlook: Option<&Outlook>) -> String {
    let mut parts = Vec::new();
    match outlook {
        Some(outlook) => parts.push(left(outlook, progress)),
        None if progress.round == 0 => parts.extend(left_of_bulk_round(progress)),
        None => {}
    }
    parts.push(format!("{} pending", progress.pending_bytes().human()));
    if let Some(rate) = progress.dirty_rate {
        parts.push(format!("{:.0} pages/s dirtied", rate.per_second()));
    }
    if let Some(bandwidth) = progress.bandwidth {
        parts.push(by_second(bandwidth));
    }
    if !progress.throttle.is_off() {
        parts.push(format!("throttle {}", progress.throttle));
    }
    // What is cut off where the terminal is narrow is what is said again and again.
    format!("round {}: {}; {}", progress.round, parts.join(", "), source_words(phase))
}

/// From this class on a forecast says that the time limit will be reached.
const REACHES_LIMIT: u8 = 6;

/// How much is done, and what is left.
fn left(outlook: &Outlook, progress: &Progress) -> String {
    // It was made when the round began.
    let since = progress.now.since(progress.round_started);
    let Some(left) = outlook.remaining.map(|remaining| duration::human(remaining.saturating_sub(since)))
    else {
        return "no end in sight".to_owned();
    };
    if outlook.class >= REACHES_LIMIT {
        return format!("no end in sight, given up in {left}");
    }
    format!("{:.0} % done, about {left} left", 100.0 * outlook.progress.as_f64())
}

/// The same of a round that no other can be forecast from, once something was sent.
fn left_of_bulk_round(progress: &Progress) -> Option<String> {
    let since = progress.now.since(progress.round_started);
    let (sent, pending) = (progress.round_sent_pages.as_f64(), progress.pending.as_f64());
    let share = sent / (sent + pending).max(1.0);
    let left = Duration::try_from_secs_f64(since.as_secs_f64() * pending / sent).ok()?;
    Some(format!("{:.0} % of the round done, about {} of it left", 100.0 * share, duration::human(left)))
}

/// As the tables have it.
fn by_second(bandwidth: Bandwidth) -> String {
    format!("{}/s", ByteCount(bandwidth.bytes_per_second()).human())
}

/// A round that is over.
fn round_line(round: &RoundReport) -> String {
    let rate = round.bandwidth.map(|rate| format!(", {}", by_second(rate))).unwrap_or_default();
    let decision = round.decision.as_ref().map(|decided| format!("; {}", decided.reason)).unwrap_or_default();
    format!(
        "round {}: {} pages sent in {}{rate}{decision}",
        round.round,
        round.sent_pages.0,
        duration::human(round.length)
    )
}

/// Sees a destination's.
pub(super) struct DestinationView {
    pub(super) view: View,
    desk: Arc<Desk>,
    doubt: String,
    phase: DestinationPhase,
    /// The source was lost when the replica was complete.
    pub(super) doubted: bool,
    /// The guest's memory is thrown away.
    lost: bool,
}

impl DestinationView {
    pub(super) fn new(view: View, desk: Arc<Desk>, doubt: String) -> Self {
        Self { view, desk, doubt, phase: DestinationPhase::Listening, doubted: false, lost: false }
    }

    /// A replica that is complete and whose source was lost: nobody here can know.
    fn judge(&mut self) {
        let mut doubtful = false;
        self.desk.note(|standing| {
            let complete = standing.phase == destination_words(DestinationPhase::Prepared);
            standing.in_doubt = complete && !standing.connected;
            doubtful = standing.in_doubt;
        });
        if doubtful {
            self.doubted = true;
            self.view.warn(&self.doubt);
        }
    }
}

impl Observer for DestinationView {
    fn on_event(&mut self, _at: Timestamp, event: &Event<'_>) {
        match event {
            Event::Destination(phase) => {
                self.phase = *phase;
                let words = if self.lost { LOST } else { destination_words(*phase) };
                self.desk.note(|standing| standing.phase = words.into());
                self.judge();
                self.view.say(words);
            }
            Event::Connected => {
                self.desk.note(|standing| standing.connected = true);
                self.judge();
                self.view.say("a source is connected");
            }
            Event::Lost { what } => {
                self.desk.note(|standing| standing.connected = false);
                self.view.say(&format!("the connection was lost: {what}"));
                self.judge();
            }
            Event::StorageFails { what } => {
                self.view.warn(&format!("a record cannot be written, and is tried again: {what}"));
            }
            Event::Taken { order } => self.desk.decided(order, Ok(())),
            Event::Ignored { order, why } => {
                self.desk.decided(order, Err(why));
                // In doubt it was said already what ends that.
                if let (Order::Cancel(_), Some(words), false) =
                    (order, too_late_here(self.phase), self.desk.now().in_doubt)
                {
                    self.view.warn(words);
                }
            }
            Event::TurnedAway { peer, why } => self.view.say(&format!("{peer} was turned away: {why}")),
            Event::GuestLost => self.lost = true,
            Event::Answered { id, record } => {
                let told = match record {
                    Some(_) => "that its guest was here",
                    None => "that its guest never ran here",
                };
                self.view.say(&format!("the source of migration {} asks, and is told {told}", shown(*id)));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_core::layout::PageSize;
    use whimbrel_core::progress::Capabilities;
    use whimbrel_core::units::{Pages, Share};

    use super::*;

    fn at(seconds: u64, sent: u64) -> Progress {
        let mut progress = Progress::at_start(PageSize::Kib4, Pages(1000), Capabilities::default());
        progress.now = Timestamp::ZERO + Duration::from_secs(seconds);
        (progress.round_sent_pages, progress.pending) = (Pages(sent), Pages(1000 - sent));
        progress
    }

    #[test]
    fn the_bulk_round_says_how_far_it_is_once_something_was_sent() {
        let line = |progress: &Progress| line(SourcePhase::Sending, progress, None);
        assert_eq!(line(&at(0, 0)), "round 0: 3.9 MiB pending; sending");
        let begun = line(&at(2, 250));
        assert!(
            begun.contains("25 % of the round done, about 6.00 s of it left, 2.9 MiB pending"),
            "{begun}"
        );
    }

    #[test]
    fn who_will_be_given_up_is_not_said_to_come_to_an_end() {
        let remaining = Some(Duration::from_mins(10));
        let outlook = |remaining, class| Outlook {
            at: Timestamp::ZERO,
            progress: Share::percent(40),
            remaining,
            low: Duration::ZERO,
            high: None,
            class,
        };
        for (remaining, class, says) in [
            (remaining, 0, "40 % done, about 9 min 58 s left"),
            (remaining, 6, "no end in sight, given up in 9 min 58 s"),
            (None, 4, "no end in sight, "),
        ] {
            let line = line(SourcePhase::Sending, &at(2, 250), Some(&outlook(remaining, class)));
            assert!(line.contains(says), "{line}");
        }
    }
}
