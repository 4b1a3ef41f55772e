//! The states of both sides as `docs/protocol.md` shows them: what the search saw, drawn and listed, and the test that the page is
//! true. `UPDATE_DOCS=1 cargo test -p whimbrel-core handoff` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write};

use super::super::table::holds;
use super::search::{ANYTHING_FAILS, Seen, destination_events, explore, source_events};
use super::*;

const BEGIN: &str = "<!-- begin: handoff, made by `UPDATE_DOCS=1 cargo test -p whimbrel-core handoff` -->\n";
const END: &str = "<!-- end: handoff -->\n";

/// The states of one side in the order in which they were met, and what leads from one to the other.
#[derive(Default)]
struct Drawing {
    states: Vec<&'static str>,
    facts: BTreeMap<&'static str, (Right, BTreeSet<Held>)>,
    arrows: BTreeMap<(usize, usize), Vec<String>>,
}

impl Drawing {
    fn of_source(seen: &Seen) -> Self {
        let mut drawing = Self::default();
        let order = [SourceHandoff::new()].into_iter().chain(seen.sources.iter().copied());
        for machine in order.clone() {
            drawing.state(machine.state(), machine.right(), machine.held());
        }
        for before in order {
            for event in source_events() {
                let mut after = before;
                if after.handle(event).is_ok() {
                    drawing.arrow(before.state(), after.state(), &event);
                }
            }
        }
        drawing
    }

    fn of_destination(seen: &Seen) -> Self {
        let mut drawing = Self::default();
        let order = [DestinationHandoff::new()].into_iter().chain(seen.destinations.iter().copied());
        for machine in order.clone() {
            drawing.state(machine.state(), machine.right(), machine.held());
        }
        for before in order {
            for event in destination_events() {
                let mut after = before;
                if after.handle(event).is_ok() {
                    drawing.arrow(before.state(), after.state(), &event);
                }
            }
        }
        drawing
    }

    fn state(&mut self, name: &'static str, right: Right, held: Held) {
        if !self.states.contains(&name) {
            self.states.push(name);
        }
        let fact = self.facts.entry(name).or_insert((right, BTreeSet::new()));
        assert_eq!(fact.0, right, "one state, two rights: {name}");
        fact.1.insert(held);
    }

    fn number(&self, name: &str) -> usize {
        self.states.iter().position(|state| *state == name).expect("the search met it")
    }

    fn arrow(&mut self, from: &str, to: &str, why: &dyn Display) {
        if from != to {
            let why = why.to_string();
            let arrow = self.arrows.entry((self.number(from), self.number(to))).or_default();
            if !arrow.contains(&why) {
                arrow.push(why);
            }
        }
    }

    /// As Mermaid draws it. `restarts`: where a crash leads, by what was written.
    fn drawn(&self, restarts: [(&str, &str); 2], out: &mut String) {
        out.push_str("```mermaid\nstateDiagram-v2\n");
        for (number, name) in self.states.iter().enumerate() {
            writeln!(out, "    state \"{name}\" as s{number}").unwrap();
        }
        out.push_str("    state \"(crashed)\" as crashed\n    [*] --> s0\n");
        for ((from, to), why) in &self.arrows {
            writeln!(out, "    s{from} --> s{to} : {}", why.join(" / ")).unwrap();
        }
        for (record, state) in restarts {
            writeln!(out, "    crashed --> s{} : {record}", self.number(state)).unwrap();
        }
        out.push_str("```\n");
    }

    fn listed(&self, whose: &str, out: &mut String) {
        for name in &self.states {
            let (right, held) = &self.facts[name];
            let held: Vec<String> = held.iter().map(Held::to_string).collect();
            writeln!(out, "| {whose} {name} | {right} | {} |", held.join(", or ")).unwrap();
        }
    }
}

fn made() -> String {
    let seen = explore(ANYTHING_FAILS, None).unwrap_or_else(|found| panic!("{found:?}"));
    let (source, destination) = (Drawing::of_source(&seen), Drawing::of_destination(&seen));
    let mut out = "\nThe source:\n\n".to_owned();
    let restarted = |record| SourceHandoff::restarted(record).unwrap().state();
    let restarts = [("nothing written", restarted(None)), ("go written", restarted(Some(StableRecord::Go)))];
    source.drawn(restarts, &mut out);
    out.push_str("\nThe destination:\n\n");
    let restarted = |record| DestinationHandoff::restarted(record).unwrap().state();
    let restarts =
        [("nothing written", restarted(None)), ("running written", restarted(Some(StableRecord::Running)))];
    destination.drawn(restarts, &mut out);
    out.push_str("\n| state | right to run | the guest's memory there |\n|---|---|---|\n");
    source.listed("source", &mut out);
    destination.listed("destination", &mut out);
    let Seen { worlds, steps, .. } = seen;
    let most = MOST_UNDER_WAY;
    writeln!(
        out,
        "\nReached: {worlds} states of both sides, both stable storages and what is under way between them, by {steps} steps; \
         no message is repeated while more than {most} are under way.\n"
    )
    .unwrap();
    out
}

#[test]
fn the_protocol_shows_the_states_that_the_search_saw() {
    holds("protocol.md", BEGIN, END, &made());
}
