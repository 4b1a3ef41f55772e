//! One run, and what must be true after it.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use whimbrel::core::machine::handoff::StableRecord;

use super::super::json;
use super::between::Between;
use super::case::{Case, Fault, Verb};
use super::hosts::Hosts;
use crate::run::Ended;

/// Longer than anything takes, on a machine that has much else to do.
const LONG: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(5);

/// What a destination in doubt says of itself.
const COMPLETE: &str = "the replica is complete, and waits to be told that it may run";

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// It could not begin; the guest ran on.
    NotBegun,
    /// The guest runs on at the source.
    Stayed,
    /// The guest runs at the destination.
    Moved,
    /// The source was killed, and a complete replica was told to run.
    RunByOrder,
    /// The source was killed, and a complete replica given up.
    GivenUp,
    /// The source was killed before there was a complete replica.
    LostWithTheSource,
    /// The source was killed, and its record was asked about: the guest is there, and runs.
    MovedAndAsked,
    /// The same: it never ran there, and is to be started from its disks, at the source.
    BackAtTheSource,
    /// The same, and the destination was killed too, before it ran the guest: nobody can answer.
    NobodyAnswers,
    /// The guest ran at the destination, and was killed with it: it is to be started from its disks, there.
    LostWithTheDestination,
    /// The same, where somebody said so to the source and takes the guest back: from its disks.
    FromDisks,
}

/// Moves a guest while all that goes wrong, and judges what is left.
pub(super) fn go(case: &Case) -> (Fate, Vec<Fault>) {
    let hosts = Hosts::new(case);
    let between = Between::start(hosts.there(), Arc::clone(&hosts), case);
    hosts.send(&between.address);
    let mut run = Run { case, hosts: &hosts, ordered: None };
    run.settle();
    // What has not gone wrong by now does not any more; what has in this moment is settled too.
    between.calm();
    run.settle();
    let fate = run.judge();
    assert!(!between.was_betrayed(), "somebody has spoken with an impostor");
    assert!(!between.was_rash(), "something was said before it was written");
    if case.begins_with_an_impostor() {
        assert!(matches!(fate, Fate::NotBegun | Fate::LostWithTheSource), "{fate:?}, with an impostor");
    }
    (fate, hosts.done())
}

struct Run<'a> {
    case: &'a Case,
    hosts: &'a Hosts,
    /// What the destination was told by somebody outside.
    ordered: Option<Verb>,
}

impl Run<'_> {
    /// Until nobody is under way any more: what people have to end is ended, by what they can know.
    fn settle(&mut self) {
        let begun = Instant::now();
        while !self.is_settled() {
            assert!(begun.elapsed() < LONG, "it does not end: {:?}", self.standings());
            thread::sleep(LOOK);
        }
    }

    fn standings(&self) -> [Option<Value>; 2] {
        ["here", "there"].map(|control| self.hosts.ask(control, "status"))
    }

    fn is_settled(&mut self) -> bool {
        self.hosts.start_again_if_due();
        if !self.hosts.source.is_over() {
            if self.hosts.is_gone_for_good()
                && self.hosts.source.has_said("in doubt: the destination was lost")
            {
                self.end_the_doubt_of_the_source();
            }
            return false;
        }
        if !self.hosts.nobody_asks() {
            if self.hosts.is_gone_for_good() && self.hosts.asker.has_said("asking ") {
                self.hosts.asker.interrupt();
            }
            return false;
        }
        if self.hosts.destination.is_over() {
            return self.hosts.is_gone_for_good();
        }
        // It may stand still.
        let Some(standing) = self.hosts.ask("there", "status") else { return false };
        if standing["in_doubt"] == true {
            self.end_the_doubt_of_the_destination(&standing);
        }
        ["the guest runs here", "waiting for a guest"].iter().any(|phase| standing["phase"] == *phase)
    }

    /// The destination is dead, and its disk was looked at.
    fn end_the_doubt_of_the_source(&self) {
        let [_, there] = self.hosts.records();
        let order = if there.is_none() { "--peer-never-ran" } else { "--peer-may-have-run" };
        let told = self.hosts.resolve("here", order);
        // It may have heard in this moment, or not know yet that a connection it has is dead: then it is told again.
        let too_soon = [
            "the peer is connected, and knows",
            "the source knows who may run",
            "answers at here",
            "it was not taken",
        ];
        let refused = too_soon.iter().any(|words| told.err.contains(words));
        assert!(told.code == Some(0) || refused, "{order}: {}", told.err);
    }

    /// The source is dead, or has its guest and could not say so.
    fn end_the_doubt_of_the_destination(&mut self, standing: &Value) {
        assert_eq!((&standing["phase"], &standing["connected"]), (&COMPLETE.into(), &false.into()));
        self.hosts.look_at_the_destination();
        let [go, _] = self.hosts.records();
        let source = &self.hosts.source;
        // Nobody may promise what is not so: the source has not run its guest since it was paused.
        let never_ran =
            source.was_killed() && (go == Some(StableRecord::Go) || source.has_run() == Some(false));
        let (verb, order) = match self.case.verb {
            Verb::PeerNeverRan if never_ran => (Verb::PeerNeverRan, "--peer-never-ran"),
            Verb::PeerMayHaveRun if source.was_killed() => (Verb::PeerMayHaveRun, "--peer-may-have-run"),
            _ => (Verb::Discard, "--discard"),
        };
        let told = self.hosts.resolve("there", order);
        assert_eq!(told.code, Some(0), "{order}: {}", told.err);
        assert!(
            self.hosts
                .destination
                .has_said("in doubt: the source was lost, and the replica here is complete")
        );
        self.ordered = Some(verb);
    }

    // ---- judging ------------------------------------------------------------------------------------------------------

    fn judge(&self) -> Fate {
        let runs_there =
            self.hosts.ask("there", "status").is_some_and(|told| told["phase"] == "the guest runs here");
        if runs_there {
            self.see_it_run_there();
        }
        self.hosts.destination.interrupt();
        let killed = [&self.hosts.source, &self.hosts.destination].map(super::hosts::Host::was_killed);
        let (here, there) = (self.hosts.source.end(), self.hosts.destination.end());
        let (here, there) = (here.expect("it was started"), there.expect("it was started"));
        let ran = [&self.hosts.source, &self.hosts.destination].map(|host| host.has_run() == Some(true));
        let told = format!("{here:#?}\n{there:#?}\nran {ran:?}, records {:?}", self.hosts.records());
        assert_ne!(ran, [true, true], "two have run: {told}");
        // Nobody runs a guest there without having it in writing.
        assert!(!ran[1] || self.hosts.records()[1].is_some(), "{told}");
        let source = Claim::of_source(&here, killed[0]);
        let asked = self.asked();
        let told = format!("{told}\nasked: {asked:?}");
        let destination = Claim::of_destination(&there, killed[1] && !self.hosts.has_restarted());
        let fate = match asked {
            Some(asked) => self.fate_asked(asked, source, destination, &told),
            None => self.fate(source, destination, killed[1], &told),
        };
        match fate {
            Fate::NotBegun | Fate::Stayed => assert!(!ran[1], "{told}"),
            Fate::Moved | Fate::LostWithTheDestination | Fate::FromDisks => assert!(!ran[0], "{told}"),
            Fate::RunByOrder | Fate::MovedAndAsked => assert!(!ran[0] && ran[1], "{told}"),
            Fate::GivenUp | Fate::LostWithTheSource | Fate::BackAtTheSource | Fate::NobodyAnswers => {
                assert!(!ran[1], "{told}");
            }
        }
        fate
    }

    /// What both say, together with what is known from outside.
    fn fate(&self, source: Claim, destination: Claim, destination_killed: bool, told: &str) -> Fate {
        let [go, running] = self.hosts.records();
        match (source, destination) {
            (Claim::Untouched, Claim::Nothing | Claim::Killed) => Fate::NotBegun,
            (Claim::Runs, Claim::Nothing | Claim::Killed) => {
                assert_eq!((go, running), (None, None), "{told}");
                Fate::Stayed
            }
            (Claim::Theirs, Claim::Runs) => Fate::Moved,
            (Claim::Theirs, Claim::Nothing | Claim::Killed) if destination_killed => {
                assert_eq!(running, Some(StableRecord::Running), "{told}");
                Fate::LostWithTheDestination
            }
            (Claim::FromDisks, Claim::Killed) => {
                assert_eq!(running, Some(StableRecord::Running), "{told}");
                Fate::FromDisks
            }
            (Claim::Killed, Claim::Runs) if self.ordered == Some(Verb::PeerNeverRan) => Fate::RunByOrder,
            (Claim::Killed, Claim::Runs) => {
                assert!(go == Some(StableRecord::Go) || self.hosts.source_may_know(), "{told}");
                assert_eq!(self.ordered, None, "{told}");
                Fate::Moved
            }
            (Claim::Killed, Claim::FromDisks) => {
                assert_eq!(self.ordered, Some(Verb::PeerMayHaveRun), "{told}");
                Fate::GivenUp
            }
            (Claim::Killed, Claim::Nothing | Claim::Killed) => match (self.ordered, running) {
                (None, Some(_)) => Fate::LostWithTheDestination,
                (None, None) => Fate::LostWithTheSource,
                (ordered, _) => {
                    assert_eq!(ordered, Some(Verb::Discard), "{told}");
                    Fate::GivenUp
                }
            },
            (source, destination) => panic!("{source:?} and {destination:?}: {told}"),
        }
    }

    /// What came of asking about the record of a source that was killed; none if nobody asked to the end.
    fn asked(&self) -> Option<Asked> {
        let killed = self.hosts.asker.was_killed();
        let ended = self.hosts.asker.end().filter(|_| !killed)?;
        Some(Asked::of(&ended))
    }

    /// The same where somebody has asked about the record of the source.
    fn fate_asked(&self, asked: Asked, source: Claim, destination: Claim, told: &str) -> Fate {
        assert_eq!((source, self.ordered), (Claim::Killed, None), "{told}");
        let [go, running] = self.hosts.records();
        match (asked, destination) {
            (Asked::Theirs, Claim::Runs) => Fate::MovedAndAsked,
            (Asked::Theirs | Asked::Undecided, Claim::Nothing | Claim::Killed) if running.is_some() => {
                Fate::LostWithTheDestination
            }
            (Asked::Mine, Claim::Nothing | Claim::Killed) => {
                assert_eq!((go, running), (None, None), "{told}");
                Fate::BackAtTheSource
            }
            (Asked::Undecided, Claim::Killed) => {
                assert_eq!(go, Some(StableRecord::Go), "{told}");
                Fate::NobodyAnswers
            }
            (asked, destination) => panic!("{asked:?} and {destination:?}: {told}"),
        }
    }

    /// From outside.
    fn see_it_run_there(&self) {
        let begun = Instant::now();
        while self.hosts.destination.has_run() == Some(false) {
            assert!(begun.elapsed() < LONG, "it says that it runs the guest, and its memory stays as it is");
            thread::sleep(LOOK);
        }
    }
}

/// What is known of a source's record in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// The guest is to be started from its disks, here.
    Mine,
    /// The guest is at the destination.
    Theirs,
    /// Nobody has answered.
    Undecided,
}

impl Asked {
    fn of(ended: &Ended) -> Self {
        let told = json(&ended.out);
        match (ended.code, told["guest_runs"].as_str()) {
            (Some(0), Some("nowhere")) => Self::Mine,
            (Some(0), Some("destination")) => Self::Theirs,
            (Some(130), Some("unknown")) => Self::Undecided,
            _ => panic!("{ended:#?}"),
        }
    }
}

/// What a side says at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// It said nothing any more.
    Killed,
    /// Nothing was begun, and its guest ran on, exact.
    Untouched,
    /// The guest runs here, and its memory is what its registers say.
    Runs,
    /// The guest is the other side's.
    Theirs,
    /// Nothing is here.
    Nothing,
    /// The guest is this side's, and is to be started from its disks.
    FromDisks,
}

impl Claim {
    fn of_source(ended: &Ended, killed: bool) -> Self {
        if killed {
            return Self::Killed;
        }
        if ended.out.is_empty() {
            assert!(ended.err.contains("the guest ran on here"), "{ended:#?}");
            return Self::Untouched;
        }
        let told = json(&ended.out);
        match (told["live"]["guest_runs"].as_str(), &told["live"]["exact"]) {
            (Some("source"), exact) if *exact == true => Self::Runs,
            (Some("destination"), Value::Null) => Self::Theirs,
            (Some("nowhere"), Value::Null) => Self::FromDisks,
            _ => panic!("{ended:#?}"),
        }
    }

    fn of_destination(ended: &Ended, killed: bool) -> Self {
        if killed {
            return Self::Killed;
        }
        if ended.out.is_empty() {
            assert!(ended.err.contains("interrupted: nobody had come"), "{ended:#?}");
            return Self::Nothing;
        }
        let told = json(&ended.out);
        match (told["outcome"].as_str(), &told["exact"]) {
            (Some("running"), exact) if *exact == true => Self::Runs,
            (Some("gone"), Value::Null) => Self::Nothing,
            (Some("guest-lost"), Value::Null) => Self::FromDisks,
            _ => panic!("{ended:#?}"),
        }
    }
}
