//! The search, its budgets, and the proof that it looks.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// What a search saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) worlds: usize,
    pub(super) steps: usize,
    ends_at_source: usize,
    ends_at_destination: usize,
    ends_with_memory: usize,
    ends_without_memory: usize,
    pub(super) sources: BTreeSet<SourceHandoff>,
    pub(super) destinations: BTreeSet<DestinationHandoff>,
}

#[derive(Debug)]
pub(super) struct Found {
    violation: Violation,
    path: Vec<Step>,
}

/// Visits every world, nearest first, so that a violation comes with its shortest story.
pub(super) fn explore(start: Budget, broken: Option<Broken>) -> Result<Seen, Found> {
    let search = Search { broken };
    let mut index = BTreeMap::from([(World::new(start), 0_usize)]);
    let mut worlds = vec![World::new(start)];
    // By which step, from which world each was first reached; and where progress leads.
    let mut came_from: Vec<Option<(usize, Step)>> = vec![None];
    let mut onward: Vec<Vec<usize>> = Vec::new();
    let mut seen = Seen::default();
    let mut at = 0;
    while let Some(world) = worlds.get(at).cloned() {
        let found = |violation, last: Option<Step>| {
            let mut path: Vec<Step> = last.into_iter().collect();
            let mut back = at;
            while let Some((from, step)) = came_from[back] {
                path.push(step);
                back = from;
            }
            path.reverse();
            Found { violation, path }
        };
        world.check().map_err(|violation| found(violation, None))?;
        seen.sources.extend(world.source.machine);
        seen.destinations.extend(world.destination.machine);
        let progress = world.progress(search);
        if progress.is_empty() {
            world.check_end().map_err(|violation| found(violation, None))?;
            seen.count_end(&world);
        }
        let count = progress.len();
        let mut next = Vec::with_capacity(count);
        for (n, step) in progress.into_iter().chain(world.choices(search)).enumerate() {
            let mut after = world.clone();
            let taken = after.take(step, search);
            taken.map_err(|violation| found(violation, Some(step)))?;
            next.push((n < count, step, after));
        }
        let mut targets = Vec::with_capacity(count);
        for (is_progress, step, after) in next {
            seen.steps += 1;
            let target = match index.entry(after) {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(entry) => {
                    worlds.push(entry.key().clone());
                    came_from.push(Some((at, step)));
                    *entry.insert(worlds.len() - 1)
                }
            };
            if is_progress {
                targets.push(target);
            }
        }
        onward.push(targets);
        at += 1;
    }
    seen.worlds = worlds.len();
    if has_circle(&onward) {
        return Err(Found { violation: Violation::Circle, path: Vec::new() });
    }
    Ok(seen)
}

/// Whether progress can go on for ever (Kahn's algorithm: what is left over lies on a circle).
fn has_circle(onward: &[Vec<usize>]) -> bool {
    let mut into = vec![0_usize; onward.len()];
    for &target in onward.iter().flatten() {
        into[target] += 1;
    }
    let mut free: Vec<usize> = (0..onward.len()).filter(|&world| into[world] == 0).collect();
    let mut removed = 0;
    while let Some(world) = free.pop() {
        removed += 1;
        for &target in &onward[world] {
            into[target] -= 1;
            if into[target] == 0 {
                free.push(target);
            }
        }
    }
    removed < onward.len()
}

impl Seen {
    fn count_end(&mut self, world: &World) {
        let sides = [Side::Source, Side::Destination];
        let Some(owner) = sides.into_iter().find(|&side| world.right(side) == Right::Mine) else {
            return;
        };
        let memory = world.held(owner) != Held::Nothing;
        self.ends_at_source += usize::from(owner == Side::Source);
        self.ends_at_destination += usize::from(owner == Side::Destination);
        self.ends_with_memory += usize::from(memory);
        self.ends_without_memory += usize::from(!memory);
    }
}

/// Enough to show the harm of each broken rule.
const SOME_FAILS: Budget =
    Budget { losses: 1, source_crashes: 1, destination_crashes: 1, failed_writes: 1, repeats: 0, kills: 1 };

/// Whatever fails does so as often as it likes, but for the host that dies for ever: with both dead there is nobody to ask.
/// There are only so many worlds, so this is all of them.
pub(super) const ANYTHING_FAILS: Budget = Budget {
    losses: ALWAYS,
    source_crashes: ALWAYS,
    destination_crashes: ALWAYS,
    failed_writes: ALWAYS,
    repeats: ALWAYS,
    kills: 1,
};

const NOTHING_FAILS: Budget =
    Budget { losses: 0, source_crashes: 0, destination_crashes: 0, failed_writes: 0, repeats: 0, kills: 0 };

/// Each rule broken, and the first harm that comes of it.
const HARM: [(Broken, Violation); 20] = [
    (Broken::GoSentBeforeWritten, Violation::BothHoldTheRight),
    (Broken::RunsBeforeWritten, Violation::OldMemoryResumed),
    (Broken::DropsWhenDisconnected, Violation::LostThoughPrepared),
    (Broken::ResumesWhenDisconnectedAfterGo, Violation::OldMemoryResumed),
    (Broken::CancelsAfterGo, Violation::OldMemoryResumed),
    (Broken::ReleasesWhenGoIsSent, Violation::LostWithoutCrash),
    (Broken::ErasesGoWhenReleased, Violation::BothHoldTheRight),
    (Broken::ForgetsGoAtRestart, Violation::BothHoldTheRight),
    (Broken::ForgetsRunningAtRestart, Violation::OldMemoryResumed),
    (Broken::PreparedAnswersGone, Violation::StillUndecided),
    (Broken::LostCancelIsNotRepeated, Violation::StillUndecided),
    (Broken::ResumesOldMemoryAfterFence, Violation::OldMemoryResumed),
    (Broken::NeverAsksAgain, Violation::StillUndecided),
    (Broken::StorageForgetsWhatItSaidIsWritten, Violation::BothHoldTheRight),
    (Broken::NotWrittenIsSaidOfWhatIs, Violation::BothHoldTheRight),
    (Broken::WithdrawsAfterReady, Violation::LostThoughPrepared),
    (Broken::TakesOverWhenDisconnected, Violation::OldMemoryResumed),
    (Broken::IgnoresCancel, Violation::NotSettled),
    (Broken::RestartedAnswersPrepared, Violation::NotSettled),
    (Broken::TheLivingAreFenced, Violation::BothHoldTheRight),
];

#[test]
fn one_side_runs_the_guest_whatever_fails() {
    let seen = explore(ANYTHING_FAILS, None).unwrap_or_else(|found| panic!("{found:?}"));
    // A search that visits fewer has lost some of what can happen. The exact numbers stand in docs/protocol.md.
    assert!(seen.worlds > 10_000 && seen.steps > 65_000, "{seen:?}");
    assert_eq!((seen.sources.len(), seen.destinations.len()), (18, 14), "{seen:?}");
    assert!(seen.ends_at_source > 0 && seen.ends_at_destination > 0, "{seen:?}");
    assert!(seen.ends_without_memory > 0 && seen.ends_with_memory > 0, "{seen:?}");
}

#[test]
fn without_failures_only_a_cancel_or_a_withdrawal_keeps_the_guest() {
    let seen = explore(NOTHING_FAILS, None).unwrap_or_else(|found| panic!("{found:?}"));
    assert_eq!((seen.ends_at_source, seen.ends_at_destination), (4, 1), "{seen:?}");
    assert_eq!(seen.ends_without_memory, 0, "{seen:?}");
}

/// More than the driver owes: what was said on a lost connection may still be heard on the next.
#[test]
fn old_messages_do_no_harm() {
    let seen = explore(SOME_FAILS, Some(Broken::OldMessagesArriveLater));
    assert!(seen.unwrap_or_else(|found| panic!("{found:?}")).worlds > 20_000);
}

const MESSAGES: [HandoffMessage; 9] = [
    HandoffMessage::Ready,
    HandoffMessage::Go,
    HandoffMessage::Running,
    HandoffMessage::Cancel,
    HandoffMessage::Withdraw,
    HandoffMessage::Ask,
    HandoffMessage::Answer(Standing::Prepared),
    HandoffMessage::Answer(Standing::Running),
    HandoffMessage::Answer(Standing::Gone),
];

const FENCES: [Fence; 2] = [Fence::NeverRan, Fence::MayHaveRun];

/// All there are.
pub(super) fn source_events() -> impl Iterator<Item = SourceEvent> {
    use SourceEvent as E;
    let plain = [E::Pause, E::Cancel, E::Persisted, E::NotPersisted, E::Connected, E::Disconnected];
    plain.into_iter().chain(MESSAGES.map(E::Received)).chain(FENCES.map(E::Fenced))
}

/// All there are.
pub(super) fn destination_events() -> impl Iterator<Item = DestinationEvent> {
    use DestinationEvent as E;
    let plain = [E::Verified, E::Withdraw, E::Persisted, E::NotPersisted, E::Resumed];
    let rest = [E::Connected, E::Disconnected, E::Discard];
    plain.into_iter().chain(rest).chain(MESSAGES.map(E::Received)).chain(FENCES.map(E::Fenced))
}

#[test]
fn a_refused_event_changes_nothing_and_is_named() {
    let seen = explore(SOME_FAILS, None).unwrap_or_else(|found| panic!("{found:?}"));
    let mut refused = 0;
    for before in &seen.sources {
        for event in source_events() {
            let mut machine = *before;
            if let Err(error) = machine.handle(event) {
                assert_eq!(machine, *before, "{event} changed a source");
                assert_eq!(error, HandoffError::Source { event, state: before.state() });
                refused += 1;
            }
        }
    }
    for before in &seen.destinations {
        for event in destination_events() {
            let mut machine = *before;
            if let Err(error) = machine.handle(event) {
                assert_eq!(machine, *before, "{event} changed a destination");
                assert_eq!(error, HandoffError::Destination { event, state: before.state() });
                refused += 1;
            }
        }
    }
    assert!(refused > 250, "{refused}");
}

#[test]
fn the_search_finds_each_broken_rule() {
    for (broken, harm) in HARM {
        match explore(SOME_FAILS, Some(broken)) {
            Ok(seen) => panic!("{broken:?} does no harm: {seen:?}"),
            Err(found) => assert_eq!(found.violation, harm, "{broken:?} by {:?}", found.path),
        }
    }
}
