//! The phases of both sides, and which event may lead where.
//!
//! The two `after` functions are the law: a machine takes an event only if the table names a phase
//! after it, and moves only to a phase that is named. The drawings in `docs/phases.md` are made from
//! the same tables ([`source_diagram`], [`destination_diagram`]), so they cannot be stale.

use serde::{Deserialize, Serialize};

/// Where the source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourcePhase {
    /// Nothing was done yet.
    Idle,
    /// The configuration was sent; the destination builds the replica or refuses.
    Connecting,
    /// The dirty log is being started.
    StartingTracking,
    /// Pages of a round are being sent.
    Sending,
    /// A round was sent; the source waits for its acknowledgement.
    Gating,
    /// The dirty log is being harvested.
    Harvesting,
    /// The guest is being paused.
    Pausing,
    /// The dirty log is being harvested for the last time; the guest is paused.
    LastHarvest,
    /// The last pages are being sent; the guest is paused.
    SendingLast,
    /// The CPU and device state is being saved.
    Saving,
    /// Everything is sent; the destination restores it.
    AwaitingReady,
    /// *Go* is being written to stable storage.
    Committing,
    /// *Go* was sent; the destination resumes the guest.
    AwaitingRunning,
    /// The guest runs at the destination, which still lacks pages: they are sent.
    PostCopy,
    /// The peer was lost after *go* was written: only its answer, or fencing, ends the doubt.
    InDoubt,
    /// The guest stays here: it is resumed, and everything set up for the migration is undone.
    Returning,
    /// The guest runs at the destination: everything held here is released.
    Releasing,
    /// Nothing of the migration is left.
    Done,
}

/// What can happen to the source, without the details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceEventKind {
    /// Somebody wants the migration.
    Start,
    /// The destination accepts.
    Accepted,
    /// The destination refuses.
    Refused,
    /// The dirty log runs.
    TrackingStarted,
    /// Pages were sent.
    Transmitted,
    /// The destination has a round.
    Acknowledged,
    /// The guest waits for a page at the destination.
    Requested,
    /// The guest that lacked pages is lost at the destination.
    Lost,
    /// The dirty log was harvested.
    Harvested,
    /// The guest is paused.
    Paused,
    /// The state is saved.
    Saved,
    /// The destination has restored everything.
    Ready,
    /// *Go* is in stable storage.
    Persisted,
    /// *Go* could not be written, and no restart can find it.
    NotPersisted,
    /// The destination runs the guest.
    Running,
    /// The destination answers what it has.
    Answer,
    /// The destination gives up.
    Withdrawn,
    /// The guest runs here again.
    Resumed,
    /// The dirty log is off.
    TrackingStopped,
    /// The time asked for has come.
    Wake,
    /// Somebody changes a parameter of the policy.
    Changed,
    /// Somebody bounds the rate of sending.
    Limited,
    /// Somebody wants it undone.
    Cancel,
    /// Something here failed.
    Failed,
    /// There is a connection to the destination again.
    Connected,
    /// The connection is lost.
    Disconnected,
    /// The destination is dead, guaranteed.
    Fenced,
}

impl SourceEventKind {
    /// Every kind.
    pub const ALL: [Self; 27] = [
        Self::Start,
        Self::Accepted,
        Self::Refused,
        Self::TrackingStarted,
        Self::Transmitted,
        Self::Acknowledged,
        Self::Requested,
        Self::Lost,
        Self::Harvested,
        Self::Paused,
        Self::Saved,
        Self::Ready,
        Self::Persisted,
        Self::NotPersisted,
        Self::Running,
        Self::Answer,
        Self::Withdrawn,
        Self::Resumed,
        Self::TrackingStopped,
        Self::Wake,
        Self::Changed,
        Self::Limited,
        Self::Cancel,
        Self::Failed,
        Self::Connected,
        Self::Disconnected,
        Self::Fenced,
    ];
}

impl SourcePhase {
    /// Every phase.
    pub const ALL: [Self; 18] = [
        Self::Idle,
        Self::Connecting,
        Self::StartingTracking,
        Self::Sending,
        Self::Gating,
        Self::Harvesting,
        Self::Pausing,
        Self::LastHarvest,
        Self::SendingLast,
        Self::Saving,
        Self::AwaitingReady,
        Self::Committing,
        Self::AwaitingRunning,
        Self::PostCopy,
        Self::InDoubt,
        Self::Returning,
        Self::Releasing,
        Self::Done,
    ];

    /// Where `event` may lead; empty if it does not fit this phase.
    #[inline(always)]
    pub const fn after(self, event: SourceEventKind) -> &'static [Self] {
        use SourceEventKind as E;
        use SourcePhase as P;
        match (self, event) {
            // A policy may refuse before anything is done.
            (P::Idle, E::Start) => &[P::Connecting, P::Done],
            (P::Idle, E::Cancel) => &[P::Done],

            (P::Connecting, E::Accepted) => &[P::StartingTracking],
            (P::StartingTracking, E::TrackingStarted) => {
                &[P::Sending, P::Harvesting, P::Pausing, P::Returning]
            }
            (P::Sending | P::Harvesting, E::Transmitted | E::Harvested) => self.in_round(event),
            (P::Gating, E::Acknowledged) => {
                &[P::Gating, P::Harvesting, P::Pausing, P::LastHarvest, P::Returning]
            }

            // A guest that its policy paused early is harvested as before.
            (P::Pausing, E::Paused) => &[P::LastHarvest, P::Harvesting],
            (P::LastHarvest, E::Harvested) => &[P::SendingLast, P::Saving],
            (P::SendingLast, E::Transmitted) => &[P::SendingLast, P::Saving],
            (P::Saving, E::Saved) => &[P::AwaitingReady],
            (P::AwaitingReady, E::Ready) => &[P::Committing],
            (P::Committing, E::Persisted) => &[P::AwaitingRunning, P::InDoubt],
            // The writing can't be taken back: a lost connection is dealt with when it has ended.
            (P::Committing, E::Disconnected | E::Connected) => &[P::Committing],
            (P::Committing, E::NotPersisted) => &[P::Returning, P::Done],
            (P::AwaitingRunning, E::Running) => &[P::PostCopy, P::Releasing, P::Done],
            (P::AwaitingRunning, E::Answer) => {
                &[P::AwaitingRunning, P::PostCopy, P::Releasing, P::Returning, P::Done]
            }
            (P::AwaitingRunning, E::Wake) => &[P::AwaitingRunning, P::InDoubt],
            (P::AwaitingRunning, E::Disconnected) => &[P::InDoubt],
            (P::InDoubt, E::Connected) => &[P::AwaitingRunning],
            (P::InDoubt, E::Fenced) => &[P::Returning],

            (P::PostCopy, _) => Self::in_post_copy(event),
            // Whoever runs the guest may ask before *running* arrives, and once more when all is done.
            (P::AwaitingRunning | P::Releasing | P::Done, E::Requested | E::Lost) => self.stay(),

            (_, E::Changed | E::Limited) if self.is_adjusted_by(event) => self.stay(),

            // Acknowledgements arrive when they arrive; a wake-up may have become pointless.
            (
                P::Sending
                | P::Harvesting
                | P::Pausing
                | P::LastHarvest
                | P::SendingLast
                | P::Saving
                | P::AwaitingReady
                | P::Returning
                | P::Releasing
                | P::Done,
                E::Acknowledged,
            )
            | (
                P::StartingTracking
                | P::Sending
                | P::Harvesting
                | P::Pausing
                | P::LastHarvest
                | P::SendingLast
                | P::Saving
                | P::Committing
                | P::InDoubt
                | P::Returning
                | P::Releasing
                | P::Done,
                E::Wake,
            ) => self.stay(),

            // Until *go* is being written, whatever goes wrong leaves the guest here.
            (P::Connecting, E::Refused) => &[P::Done],
            (P::Connecting, E::Wake) => &[P::Connecting, P::Done],
            (P::Gating, E::Wake) => &[P::Gating, P::Returning],
            (P::AwaitingReady, E::Wake) => &[P::AwaitingReady, P::Returning],
            (P::Connecting, E::Cancel | E::Failed | E::Disconnected | E::Withdrawn) => &[P::Done],
            (
                P::StartingTracking
                | P::Sending
                | P::Gating
                | P::Harvesting
                | P::Pausing
                | P::LastHarvest
                | P::SendingLast
                | P::Saving
                | P::AwaitingReady,
                E::Cancel | E::Failed | E::Disconnected | E::Withdrawn,
            ) => &[P::Returning],

            // What was asked for before it was known to be in vain still answers.
            (P::Releasing, E::Transmitted) => &[P::Releasing, P::Done],
            (
                P::Returning | P::Releasing | P::Done,
                E::TrackingStarted | E::Transmitted | E::Harvested | E::Paused | E::Saved,
            ) => self.stay(),
            (P::Returning, E::Resumed | E::TrackingStopped | E::Failed) => &[P::Returning, P::Done],
            (P::Releasing, E::TrackingStopped | E::Failed) => &[P::Releasing, P::Done],
            // A destination that could not be told yet is told to drop the replica, and says so.
            (
                P::Returning | P::Done,
                E::Connected
                | E::Disconnected
                | E::Accepted
                | E::Refused
                | E::Ready
                | E::Withdrawn
                | E::Answer,
            )
            | (P::Releasing, E::Connected | E::Disconnected | E::Running | E::Answer)
            | (P::Done, E::Running) => self.stay(),
            _ => &[],
        }
    }

    const fn in_round(self, event: SourceEventKind) -> &'static [Self] {
        match (self, event) {
            (Self::Sending, SourceEventKind::Transmitted) => &[
                Self::Sending,
                Self::Gating,
                Self::Harvesting,
                Self::Pausing,
                Self::LastHarvest,
                Self::Returning,
            ],
            (Self::Harvesting, SourceEventKind::Harvested) => {
                &[Self::Sending, Self::Harvesting, Self::Pausing, Self::LastHarvest, Self::Returning]
            }
            _ => &[],
        }
    }

    /// Whether somebody may change the policy, or how fast it sends, for there is still something to decide, or to send.
    const fn is_adjusted_by(self, event: SourceEventKind) -> bool {
        match event {
            SourceEventKind::Limited => {
                self.has_a_policy() || matches!(self, Self::LastHarvest | Self::SendingLast)
            }
            _ => self.has_a_policy(),
        }
    }

    /// Whether the policy is still asked, or will be.
    pub(super) const fn has_a_policy(self) -> bool {
        use SourcePhase as P;
        matches!(
            self,
            P::Idle
                | P::Connecting
                | P::StartingTracking
                | P::Sending
                | P::Gating
                | P::Harvesting
                | P::Pausing
        )
    }

    const fn in_post_copy(event: SourceEventKind) -> &'static [Self] {
        use SourceEventKind as E;
        match event {
            E::Acknowledged => &[Self::PostCopy, Self::Releasing, Self::Done],
            // Without the pages that only this side has, the guest is lost.
            E::Failed | E::Fenced | E::Lost => &[Self::PostCopy, Self::Releasing, Self::Done],
            E::Transmitted
            | E::Requested
            | E::TrackingStopped
            | E::Running
            | E::Answer
            | E::Connected
            | E::Disconnected
            | E::Wake => Self::PostCopy.stay(),
            _ => &[],
        }
    }

    const fn stay(self) -> &'static [Self] {
        // A constant slice for each phase, so that the table above reads as prose.
        const EACH: [&[SourcePhase]; 18] = [
            &[SourcePhase::Idle],
            &[SourcePhase::Connecting],
            &[SourcePhase::StartingTracking],
            &[SourcePhase::Sending],
            &[SourcePhase::Gating],
            &[SourcePhase::Harvesting],
            &[SourcePhase::Pausing],
            &[SourcePhase::LastHarvest],
            &[SourcePhase::SendingLast],
            &[SourcePhase::Saving],
            &[SourcePhase::AwaitingReady],
            &[SourcePhase::Committing],
            &[SourcePhase::AwaitingRunning],
            &[SourcePhase::PostCopy],
            &[SourcePhase::InDoubt],
            &[SourcePhase::Returning],
            &[SourcePhase::Releasing],
            &[SourcePhase::Done],
        ];
        EACH[self as usize]
    }
}

/// Where the destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DestinationPhase {
    /// Nobody has asked for anything.
    Listening,
    /// The replica is being built and its memory reserved.
    Building,
    /// Pages arrive.
    Loading,
    /// The CPU and device state is being restored.
    Restoring,
    /// *Ready* was sent; the replica is kept, paused, until somebody says what to do with it.
    Prepared,
    /// *Running* is being written to stable storage.
    Committing,
    /// The guest is being resumed.
    Resuming,
    /// The guest runs here, and pages that it lacks arrive.
    Filling,
    /// The guest runs here.
    Running,
    /// There is no replica.
    Gone,
}

/// What can happen to the destination, without the details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DestinationEventKind {
    /// The source sends the configuration.
    Configure,
    /// The replica is built.
    Built,
    /// The guest can't be taken.
    Refused,
    /// The source has sent a round.
    RoundEnd,
    /// The source hands over before all pages are sent.
    PostCopy,
    /// The guest waits for a page that is not here.
    Missed,
    /// The source sends the state.
    State,
    /// The state is restored and verified.
    Restored,
    /// The source says *go*.
    Go,
    /// *Running* is in stable storage.
    Persisted,
    /// *Running* could not be written.
    NotPersisted,
    /// The guest runs.
    Resumed,
    /// The source keeps the guest.
    Cancelled,
    /// The source asks how things stand.
    Asked,
    /// Somebody here does not want the guest.
    Withdraw,
    /// Something here failed.
    Failed,
    /// There is a connection again.
    Connected,
    /// The connection is lost.
    Disconnected,
    /// The source is out of the game, guaranteed.
    Fenced,
    /// Somebody gives the replica up.
    Discard,
}

impl DestinationEventKind {
    /// Every kind.
    pub const ALL: [Self; 20] = [
        Self::Configure,
        Self::Built,
        Self::Refused,
        Self::RoundEnd,
        Self::PostCopy,
        Self::Missed,
        Self::State,
        Self::Restored,
        Self::Go,
        Self::Persisted,
        Self::NotPersisted,
        Self::Resumed,
        Self::Cancelled,
        Self::Asked,
        Self::Withdraw,
        Self::Failed,
        Self::Connected,
        Self::Disconnected,
        Self::Fenced,
        Self::Discard,
    ];
}

impl DestinationPhase {
    /// Every phase.
    pub const ALL: [Self; 10] = [
        Self::Listening,
        Self::Building,
        Self::Loading,
        Self::Restoring,
        Self::Prepared,
        Self::Committing,
        Self::Resuming,
        Self::Filling,
        Self::Running,
        Self::Gone,
    ];

    /// Where `event` may lead; empty if it does not fit this phase.
    #[inline(always)]
    pub const fn after(self, event: DestinationEventKind) -> &'static [Self] {
        use DestinationEventKind as E;
        use DestinationPhase as P;
        match (self, event) {
            (P::Listening, E::Configure) => &[P::Building],
            (P::Listening, E::Disconnected | E::Withdraw) => &[P::Gone],
            (P::Building, E::Built) => &[P::Loading],
            (P::Building, E::Refused) => &[P::Gone],
            (P::Loading, E::RoundEnd | E::PostCopy) => &[P::Loading],
            (P::Loading, E::State) => &[P::Restoring],
            (P::Restoring, E::Restored) => &[P::Prepared],
            (P::Prepared, E::Go) => &[P::Committing],
            (P::Prepared, E::Asked | E::Connected | E::Disconnected) => &[P::Prepared],
            (P::Prepared | P::Gone, E::Fenced) => &[P::Committing],
            (P::Prepared, E::Discard | E::Cancelled) => &[P::Gone],
            (P::Committing, E::Persisted) => &[P::Resuming, P::Running],
            (P::Committing, E::NotPersisted) => &[P::Prepared, P::Gone],
            (P::Committing, E::Go | E::Asked | E::Connected | E::Disconnected) => &[P::Committing],
            (P::Resuming, E::Resumed) => &[P::Filling, P::Running],
            (P::Resuming, E::Missed | E::Go | E::Asked | E::Connected | E::Disconnected) => &[P::Resuming],
            (P::Filling, E::Missed | E::Go | E::Asked | E::Connected | E::Disconnected) => &[P::Filling],
            (P::Filling, E::RoundEnd) => &[P::Running],
            // Without the pages that only the source has, the guest is lost.
            (P::Filling, E::Failed | E::Fenced | E::Discard) => &[P::Running],
            // An acknowledgement that was lost is asked for again; a page may have come meanwhile.
            (P::Running, E::RoundEnd | E::Missed | E::Go | E::Asked | E::Connected | E::Disconnected) => {
                &[P::Running]
            }
            (
                P::Building | P::Loading | P::Restoring,
                E::Cancelled | E::Withdraw | E::Failed | E::Disconnected,
            ) => &[P::Gone],
            // What was asked for before it was known to be in vain still answers; and whoever asks is
            // told that there is nothing.
            (
                P::Gone,
                E::Built
                | E::Refused
                | E::Restored
                | E::Failed
                | E::RoundEnd
                | E::PostCopy
                | E::State
                | E::Go
                | E::Asked
                | E::Cancelled
                | E::Connected
                | E::Disconnected,
            ) => &[P::Gone],
            _ => &[],
        }
    }
}

/// The source's phases as a Mermaid state diagram.
pub fn source_diagram() -> String {
    diagram(&SourcePhase::ALL, &SourceEventKind::ALL, SourcePhase::after, &[SourcePhase::Done])
}

/// The destination's phases as a Mermaid state diagram.
pub fn destination_diagram() -> String {
    diagram(
        &DestinationPhase::ALL,
        &DestinationEventKind::ALL,
        DestinationPhase::after,
        &[DestinationPhase::Running, DestinationPhase::Gone],
    )
}

/// Arrows between different phases; the events of parallel arrows share one label.
fn diagram<P, E>(phases: &[P], events: &[E], after: impl Fn(P, E) -> &'static [P], ends: &[P]) -> String
where
    P: Copy + PartialEq + std::fmt::Debug + 'static,
    E: Copy + std::fmt::Debug,
{
    use std::fmt::Write as _;
    let mut text = String::from("stateDiagram-v2\n");
    let mut line = |line: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "    {line}");
    };
    if let Some(first) = phases.first() {
        line(format_args!("[*] --> {first:?}"));
    }
    for &from in phases {
        for &to in phases.iter().filter(|&&to| to != from) {
            let labels: Vec<String> = events
                .iter()
                .filter(|&&event| after(from, event).contains(&to))
                .map(|event| format!("{event:?}"))
                .collect();
            if !labels.is_empty() {
                line(format_args!("{from:?} --> {to:?}: {}", labels.join(", ")));
            }
        }
    }
    for end in ends {
        line(format_args!("{end:?} --> [*]"));
    }
    text
}
