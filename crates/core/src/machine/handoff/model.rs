//! Exhaustive search: both machines, the wire between them, their stable storage, and everything
//! that can go wrong, in every order.
//!
//! A [`World`] is one state of all of it. A [`Step`] is either *progress* (what happens by itself when
//! nothing fails: delivery, a finished write, a new connection, a restart) or a *choice* (a cancel, a
//! lost connection, a crash, a host that dies for ever). The search visits every world that choices
//! and progress reach and checks:
//!
//! * in every world, that at most one side runs the guest, that at most one side holds the right,
//!   and that nobody runs without it;
//! * in every step, the rules of the protocol (see `act.rs`) and that no machine refuses
//!   an event that the other side caused;
//! * that progress alone never goes round in circles, so that it always comes to an end; and at each
//!   end, that exactly one side runs the guest and the other has let it go, with nothing lost that
//!   need not be ([`World::check_end`]).
//!
//! Nothing is rationed but what a person would have to do by hand: connections are lost, hosts crash, writes fail and messages
//! repeat as often as they like ([`ALWAYS`]), and still there are only some ten thousand worlds. A smaller [`Budget`] serves where a
//! short story is wanted.
//!
//! So that the search is known to look, each rule is broken once ([`Broken`]), and the search must
//! then find the harm that the rule prevents: with the rules themselves not checked, only harm.

mod act;
mod page;
mod search;

use super::destination::State as DestinationState;
use super::source::State as SourceState;
use super::*;

/// A write to stable storage that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Write {
    Record(StableRecord),
    Erase,
}

/// One host: its machine while it is up, its stable storage, and the truth about its guest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Host<M> {
    machine: Option<M>,
    /// Never comes back.
    dead: bool,
    stable: Option<StableRecord>,
    writing: Option<Write>,
    running: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Source,
    Destination,
}

/// What travels to the destination: the last pages and the state go before any word of the handoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Parcel {
    LastState,
    Message(HandoffMessage),
}

/// How often each may still happen; [`ALWAYS`] never runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Budget {
    losses: u8,
    source_crashes: u8,
    destination_crashes: u8,
    failed_writes: u8,
    /// Messages that arrive twice.
    repeats: u8,
    /// Hosts that die for ever; whoever is left in doubt is then told by a fence.
    kills: u8,
}

/// With more messages under way none is repeated, or there would be no end of worlds.
const MOST_UNDER_WAY: usize = 4;

/// As often as one likes.
const ALWAYS: u8 = u8::MAX;

fn spend(budget: &mut u8) {
    if *budget != ALWAYS {
        *budget -= 1;
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    source: Host<SourceHandoff>,
    destination: Host<DestinationHandoff>,
    to_source: Vec<HandoffMessage>,
    to_destination: Vec<Parcel>,
    /// The destination has all that the source sent before it asks for *ready*.
    state_arrived: bool,
    left: Budget,
    past: Past,
}

/// What happened, as far as a check needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
struct Past {
    /// The destination was told *go*, or to take over.
    told_to_run: bool,
    destination_ran: bool,
    /// The source's guest ran after the pause.
    source_ran_again: bool,
    cancelled: bool,
    discarded: bool,
    /// A crash took the source's guest while *go* was written.
    lost_after_go: bool,
    source_crashed: bool,
    destination_crashed: bool,
    killed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    // Progress.
    Pause,
    Deliver(Side),
    Written(Side),
    Verify,
    Resumed,
    Notice(Side),
    Connect,
    Restart(Side),
    StartFromDisk(Side),
    Fence(Side, Fence),
    // Choices.
    Cancel,
    Withdraw,
    /// The connection is lost, and this side sees it first.
    Lose(Side),
    /// With whether a write in progress had happened.
    Crash(Side, Wrote),
    FailWrite(Side),
    /// The next message to this side arrives, and will arrive again.
    Repeat(Side),
    Kill(Side),
    Discard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrote {
    Yes,
    No,
}

/// One rule of the protocol, broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    GoSentBeforeWritten,
    RunsBeforeWritten,
    DropsWhenDisconnected,
    ResumesWhenDisconnectedAfterGo,
    CancelsAfterGo,
    ReleasesWhenGoIsSent,
    ErasesGoWhenReleased,
    ForgetsGoAtRestart,
    ForgetsRunningAtRestart,
    PreparedAnswersGone,
    LostCancelIsNotRepeated,
    ResumesOldMemoryAfterFence,
    NeverAsksAgain,
    StorageForgetsWhatItSaidIsWritten,
    NotWrittenIsSaidOfWhatIs,
    WithdrawsAfterReady,
    TakesOverWhenDisconnected,
    IgnoresCancel,
    RestartedAnswersPrepared,
    TheLivingAreFenced,
    OldMessagesArriveLater,
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Violation {
    // Harm.
    BothRun,
    BothHoldTheRight,
    RunsWithoutTheRight,
    OldMemoryResumed,
    NobodyOwns,
    StillUndecided,
    OwnerDoesNotRun,
    MemoryNotReleased,
    NotSettled,
    LostWithoutCrash,
    LostThoughPrepared,
    CancelDidNotKeepTheGuest,
    Circle,
    // A broken rule, which need not have done harm yet.
    Rule(&'static str),
    Refused(HandoffError),
}

type Check = Result<(), Violation>;

fn rule(holds: bool, name: &'static str) -> Check {
    if holds { Ok(()) } else { Err(Violation::Rule(name)) }
}

fn harm(happened: bool, what: Violation) -> Check {
    if happened { Err(what) } else { Ok(()) }
}

impl<M> Host<M> {
    fn new(machine: M, running: bool) -> Self {
        Self { machine: Some(machine), dead: false, stable: None, writing: None, running }
    }

    fn crash(&mut self, wrote: Wrote) {
        if wrote == Wrote::Yes {
            self.finish_write();
        }
        self.machine = None;
        self.writing = None;
        self.running = false;
    }

    fn finish_write(&mut self) {
        match self.writing.take() {
            Some(Write::Record(record)) => self.stable = Some(record),
            Some(Write::Erase) => self.stable = None,
            None => {}
        }
    }

    fn write(&mut self, write: Write, search: Search) -> Check {
        search.tolerate(rule(self.writing.is_none(), "one write at a time"))?;
        self.writing = Some(write);
        Ok(())
    }
}

/// The search's settings: what is broken on purpose, and whether rules are checked or only harm.
#[derive(Clone, Copy)]
struct Search {
    broken: Option<Broken>,
}

impl Search {
    fn is(self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    /// With a broken rule on purpose only harm counts, so that each rule is shown to be needed.
    fn tolerate(self, check: Check) -> Check {
        match check {
            Err(Violation::Rule(_) | Violation::Refused(_)) if self.broken.is_some() => Ok(()),
            other => other,
        }
    }
}

impl World {
    fn new(left: Budget) -> Self {
        Self {
            source: Host::new(SourceHandoff::new(), true),
            destination: Host::new(DestinationHandoff::new(), false),
            to_source: Vec::new(),
            to_destination: Vec::new(),
            state_arrived: false,
            left,
            past: Past::default(),
        }
    }

    fn connected(&self, side: Side) -> bool {
        match side {
            Side::Source => self.source.machine.is_some_and(|machine| machine.is_connected()),
            Side::Destination => self.destination.machine.is_some_and(|machine| machine.is_connected()),
        }
    }

    fn up(&self, side: Side) -> bool {
        match side {
            Side::Source => self.source.machine.is_some(),
            Side::Destination => self.destination.machine.is_some(),
        }
    }

    fn dead(&self, side: Side) -> bool {
        match side {
            Side::Source => self.source.dead,
            Side::Destination => self.destination.dead,
        }
    }

    /// The right as the side knows it, or would know it after a restart.
    fn right(&self, side: Side) -> Right {
        match side {
            _ if self.dead(side) => Right::Theirs,
            Side::Source => {
                let machine = self.source.machine;
                machine.unwrap_or_else(|| SourceHandoff::restarted(self.source.stable).unwrap()).right()
            }
            Side::Destination => {
                let machine = self.destination.machine;
                let restarted = || DestinationHandoff::restarted(self.destination.stable).unwrap();
                machine.unwrap_or_else(restarted).right()
            }
        }
    }

    fn held(&self, side: Side) -> Held {
        match side {
            Side::Source => self.source.machine.map_or(Held::Nothing, |machine| machine.held()),
            Side::Destination => self.destination.machine.map_or(Held::Nothing, |machine| machine.held()),
        }
    }

    fn running(&self, side: Side) -> bool {
        match side {
            Side::Source => self.source.running,
            Side::Destination => self.destination.running,
        }
    }

    fn writing(&self, side: Side) -> Option<Write> {
        match side {
            Side::Source => self.source.writing,
            Side::Destination => self.destination.writing,
        }
    }

    fn in_doubt(&self, side: Side) -> bool {
        match side {
            Side::Source => self.source.machine.is_some_and(|machine| machine.in_doubt()),
            Side::Destination => self.destination.machine.is_some_and(|machine| machine.in_doubt()),
        }
    }

    // ---- what can happen -------------------------------------------------------------------

    fn progress(&self, search: Search) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.held(Side::Source) == Held::Running
            && self.source.machine.is_some_and(|machine| machine.may_cancel())
        {
            steps.push(Step::Pause);
        }
        if !self.to_source.is_empty() {
            steps.push(Step::Deliver(Side::Source));
        }
        if !self.to_destination.is_empty() {
            steps.push(Step::Deliver(Side::Destination));
        }
        if let Some(machine) = self.destination.machine {
            if machine.may_withdraw() && self.state_arrived {
                steps.push(Step::Verify);
            }
            if machine.state == DestinationState::Resuming {
                steps.push(Step::Resumed);
            }
        }
        for side in [Side::Source, Side::Destination] {
            if self.writing(side).is_some() {
                steps.push(Step::Written(side));
            }
            if self.connected(side) && !self.connected(side.other()) {
                steps.push(Step::Notice(side));
            }
            if !self.up(side) && !self.dead(side) {
                steps.push(Step::Restart(side));
            }
            let lost = self.held(side) == Held::Nothing && !self.running(side);
            if self.up(side) && self.right(side) == Right::Mine && lost {
                steps.push(Step::StartFromDisk(side));
            }
            self.fences(side, search, &mut steps);
        }
        let both_up = self.up(Side::Source) && self.up(Side::Destination);
        if both_up && !self.connected(Side::Source) && !self.connected(Side::Destination) {
            steps.push(Step::Connect);
        }
        steps
    }

    /// The fences that may be told to `side`: only those whose guarantee is true.
    fn fences(&self, side: Side, search: Search, steps: &mut Vec<Step>) {
        let destination_gone = side == Side::Destination
            && self.destination.machine.is_some_and(|machine| machine.state == DestinationState::Gone)
            && !self.connected(side);
        let wrongly = search.is(Broken::TheLivingAreFenced);
        if !(wrongly || self.dead(side.other())) || !(self.in_doubt(side) || destination_gone) {
            return;
        }
        steps.push(Step::Fence(side, Fence::MayHaveRun));
        let other_ran = match side {
            Side::Source => self.past.destination_ran,
            Side::Destination => self.past.source_ran_again,
        };
        if !other_ran {
            steps.push(Step::Fence(side, Fence::NeverRan));
        }
    }

    fn choices(&self, search: Search) -> Vec<Step> {
        let mut steps = Vec::new();
        if let Some(machine) = self.source.machine {
            let too_late = search.is(Broken::CancelsAfterGo) && machine.state == SourceState::Committed;
            if machine.may_cancel() || too_late {
                steps.push(Step::Cancel);
            }
        }
        if let Some(machine) = self.destination.machine {
            let too_late =
                search.is(Broken::WithdrawsAfterReady) && machine.state == DestinationState::Prepared;
            if machine.may_withdraw() || too_late {
                steps.push(Step::Withdraw);
            }
            if machine.in_doubt() {
                steps.push(Step::Discard);
            }
        }
        if self.left.losses > 0 && self.connected(Side::Source) && self.connected(Side::Destination) {
            steps.extend([Step::Lose(Side::Source), Step::Lose(Side::Destination)]);
        }
        for side in [Side::Source, Side::Destination] {
            let crashes = match side {
                Side::Source => self.left.source_crashes,
                Side::Destination => self.left.destination_crashes,
            };
            if crashes > 0 && self.up(side) {
                steps.push(Step::Crash(side, Wrote::No));
                if self.writing(side).is_some() {
                    steps.push(Step::Crash(side, Wrote::Yes));
                }
            }
            if self.left.failed_writes > 0 && matches!(self.writing(side), Some(Write::Record(_))) {
                steps.push(Step::FailWrite(side));
            }
            if self.left.kills > 0 {
                steps.push(Step::Kill(side));
            }
            if self.left.repeats > 0 && self.repeatable(side) {
                steps.push(Step::Repeat(side));
            }
        }
        steps
    }

    /// Whether the next message to `side` is one that must be harmless when it comes twice. *Ready*
    /// is not: it is said once in a migration, so a second one is refused.
    fn repeatable(&self, side: Side) -> bool {
        self.to_source.len() + self.to_destination.len() <= MOST_UNDER_WAY
            && match side {
                Side::Source => self.to_source.first().is_some_and(|m| *m != HandoffMessage::Ready),
                Side::Destination => matches!(self.to_destination.first(), Some(Parcel::Message(_))),
            }
    }

    // ---- what must hold --------------------------------------------------------------------

    fn check(&self) -> Check {
        let sides = [Side::Source, Side::Destination];
        harm(sides.iter().all(|&side| self.running(side)), Violation::BothRun)?;
        let mine = |side: &Side| self.right(*side) == Right::Mine;
        harm(sides.iter().all(mine), Violation::BothHoldTheRight)?;
        for side in sides {
            let without = self.running(side) && self.right(side) != Right::Mine;
            harm(without, Violation::RunsWithoutTheRight)?;
        }
        Ok(())
    }

    /// What must hold where nothing more happens by itself.
    fn check_end(&self) -> Check {
        let sides = [Side::Source, Side::Destination];
        for side in sides {
            harm(self.right(side) == Right::Undecided, Violation::StillUndecided)?;
        }
        let Some(owner) = sides.into_iter().find(|&side| self.right(side) == Right::Mine) else {
            // The one way to end without an owner: the guest moved, and then its new host died.
            let released = self.source.machine.is_some_and(|m| m.state == SourceState::Released);
            return harm(!(released && self.destination.dead), Violation::NobodyOwns);
        };
        harm(!self.running(owner), Violation::OwnerDoesNotRun)?;
        harm(self.held(owner.other()) != Held::Nothing, Violation::MemoryNotReleased)?;
        let settled = self.source.machine.is_none_or(|machine| machine.is_settled())
            && self.destination.machine.is_none_or(|machine| machine.is_settled());
        // A source whose peer is dead for good stays ready to tell it.
        harm(!settled && !self.dead(Side::Destination), Violation::NotSettled)?;

        let alive = self.held(owner) == Held::Running;
        let Past { source_crashed, destination_crashed, killed, discarded, .. } = self.past;
        let any = source_crashed || destination_crashed || killed;
        harm(!any && !alive, Violation::LostWithoutCrash)?;
        let prepared = !destination_crashed && !killed && !discarded;
        harm(self.past.lost_after_go && prepared && !alive, Violation::LostThoughPrepared)?;
        let kept = owner == Side::Source || self.source.dead;
        harm(self.past.cancelled && !kept, Violation::CancelDidNotKeepTheGuest)
    }
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }
}
