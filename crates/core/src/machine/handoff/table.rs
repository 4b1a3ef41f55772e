//! The tables of `docs/handoff.md`, made by asking the machines, and the test that the page is true.
//!
//! `UPDATE_DOCS=1 cargo test -p whimbrel-core handoff::table` writes them into the page.

use std::collections::VecDeque;
use std::fmt::Write;

use super::*;

const BEGIN: &str = "<!-- begin: made by `UPDATE_DOCS=1 cargo test -p whimbrel-core handoff::table` -->\n";
const END: &str = "<!-- end -->\n";

fn listed(effects: Effects) -> String {
    let list: Vec<String> = effects.iter().map(|effect| effect.to_string()).collect();
    if list.is_empty() { "–".to_owned() } else { list.join(", ") }
}

fn outcome(result: Result<Effects, HandoffError>) -> String {
    result.map_or_else(|_| "refused".to_owned(), listed)
}

fn row(out: &mut String, cells: &[String]) {
    writeln!(out, "| {} |", cells.join(" | ")).unwrap();
}

fn heading(out: &mut String, cells: &[&str]) {
    let cells: Vec<String> = cells.iter().map(ToString::to_string).collect();
    row(out, &cells);
    row(out, &vec!["---".to_owned(); cells.len()]);
}

// ---- one side, one event ---------------------------------------------------------------------

fn source_after(events: &[SourceEvent]) -> SourceHandoff {
    let mut machine = SourceHandoff::new();
    for &event in events {
        machine.handle(event).unwrap();
    }
    machine
}

fn destination_after(events: &[DestinationEvent]) -> DestinationHandoff {
    let mut machine = DestinationHandoff::new();
    for &event in events {
        machine.handle(event).unwrap();
    }
    machine
}

fn sources() -> Vec<(String, SourceHandoff)> {
    use HandoffMessage::{Ready, Running, Withdraw};
    use SourceEvent::{Cancel, Pause, Persisted, Received};
    let lives: [&[SourceEvent]; 7] = [
        &[],
        &[Pause],
        &[Pause, Received(Ready)],
        &[Pause, Received(Ready), Persisted],
        &[Pause, Cancel],
        &[Pause, Received(Withdraw)],
        &[Pause, Received(Ready), Persisted, Received(Running)],
    ];
    let mut all: Vec<_> =
        lives.into_iter().map(source_after).map(|machine| (machine.state().to_owned(), machine)).collect();
    for record in [None, Some(StableRecord::Go)] {
        let machine = SourceHandoff::restarted(record).unwrap();
        all.push((restarted(record), machine));
    }
    all
}

fn destinations() -> Vec<(String, DestinationHandoff)> {
    use DestinationEvent::{Persisted, Received, Resumed, Verified, Withdraw};
    let go = Received(HandoffMessage::Go);
    let lives: [&[DestinationEvent]; 6] = [
        &[],
        &[Verified],
        &[Verified, go],
        &[Verified, go, Persisted],
        &[Verified, go, Persisted, Resumed],
        &[Withdraw],
    ];
    let mut all: Vec<_> = lives
        .into_iter()
        .map(destination_after)
        .map(|machine| (machine.state().to_owned(), machine))
        .collect();
    for record in [None, Some(StableRecord::Running)] {
        let machine = DestinationHandoff::restarted(record).unwrap();
        all.push((restarted(record), machine));
    }
    all
}

fn restarted(record: Option<StableRecord>) -> String {
    match record {
        None => "restarted, nothing written".to_owned(),
        Some(record) => format!("restarted, *{record}* written"),
    }
}

fn source_table(out: &mut String) {
    let answer = |standing| SourceEvent::Received(HandoffMessage::Answer(standing));
    heading(
        out,
        &[
            "the source is",
            "right to run",
            "a cancel",
            "connection lost",
            "connected again",
            "then *prepared*",
            "then *running*",
            "then *gone*",
            "instead: fence, never ran",
            "instead: fence, may have run",
        ],
    );
    for (name, machine) in sources() {
        let mut cells = vec![name, machine.right().to_string()];
        cells.push(outcome({ machine }.handle(SourceEvent::Cancel)));
        let mut alone = machine;
        cells.push(if machine.is_connected() {
            outcome(alone.handle(SourceEvent::Disconnected))
        } else {
            "(down)".to_owned()
        });
        let mut again = alone;
        cells.push(outcome(again.handle(SourceEvent::Connected)));
        for standing in [Standing::Prepared, Standing::Running, Standing::Gone] {
            cells.push(outcome({ again }.handle(answer(standing))));
        }
        for fence in [Fence::NeverRan, Fence::MayHaveRun] {
            cells.push(outcome({ alone }.handle(SourceEvent::Fenced(fence))));
        }
        row(out, &cells);
    }
}

fn destination_table(out: &mut String) {
    heading(
        out,
        &[
            "the destination is",
            "right to run",
            "a withdrawal",
            "connection lost",
            "connected again, *ask*",
            "or *go*",
            "or *cancel*",
            "instead: fence, never ran",
            "instead: fence, may have run",
            "instead: discard",
        ],
    );
    for (name, machine) in destinations() {
        let mut cells = vec![name, machine.right().to_string()];
        cells.push(outcome({ machine }.handle(DestinationEvent::Withdraw)));
        let mut alone = machine;
        cells.push(if machine.is_connected() {
            outcome(alone.handle(DestinationEvent::Disconnected))
        } else {
            "(down)".to_owned()
        });
        let mut again = alone;
        again.handle(DestinationEvent::Connected).unwrap();
        for message in [HandoffMessage::Ask, HandoffMessage::Go, HandoffMessage::Cancel] {
            cells.push(outcome({ again }.handle(DestinationEvent::Received(message))));
        }
        for fence in [Fence::NeverRan, Fence::MayHaveRun] {
            cells.push(outcome({ alone }.handle(DestinationEvent::Fenced(fence))));
        }
        cells.push(outcome({ alone }.handle(DestinationEvent::Discard)));
        row(out, &cells);
    }
}

// ---- both sides, one message lost ------------------------------------------------------------

#[derive(Clone, Copy, PartialEq, Eq)]
enum Restarts {
    Nobody,
    Source,
    Destination,
}

/// A migration in which everything goes well but for the messages in `losses`, each lost with its
/// connection; with the last of them, a host may go down and come back.
struct Story {
    source: SourceHandoff,
    destination: DestinationHandoff,
    go_written: bool,
    running_written: bool,
    losses: VecDeque<HandoffMessage>,
    restarts: Restarts,
    under_way: VecDeque<HandoffMessage>,
    /// What was done after the last loss.
    told: Vec<String>,
}

impl Story {
    fn of(start: HandoffMessage, losses: &[HandoffMessage], restarts: Restarts) -> String {
        let mut story = Self {
            source: SourceHandoff::new(),
            destination: DestinationHandoff::new(),
            go_written: false,
            running_written: false,
            losses: losses.iter().copied().collect(),
            restarts,
            under_way: VecDeque::new(),
            told: Vec::new(),
        };
        story.source(SourceEvent::Pause);
        match start {
            HandoffMessage::Cancel => story.source(SourceEvent::Cancel),
            HandoffMessage::Withdraw => story.destination(DestinationEvent::Withdraw),
            _ => story.destination(DestinationEvent::Verified),
        }
        while let Some(message) = story.under_way.pop_front() {
            story.deliver(message);
        }
        assert!(story.losses.is_empty(), "{losses:?} never came up");
        story.end()
    }

    fn deliver(&mut self, message: HandoffMessage) {
        use HandoffMessage::{Ask, Cancel, Go};
        if self.losses.front() == Some(&message) {
            self.losses.pop_front();
            self.lose();
        } else if matches!(message, Go | Ask | Cancel) {
            self.destination(DestinationEvent::Received(message));
        } else {
            self.source(SourceEvent::Received(message));
        }
    }

    fn lose(&mut self) {
        self.under_way.clear();
        self.told.clear();
        let last = self.losses.is_empty();
        if last && self.restarts == Restarts::Source {
            let record = self.go_written.then_some(StableRecord::Go);
            self.source = SourceHandoff::restarted(record).unwrap();
        } else {
            self.source(SourceEvent::Disconnected);
        }
        if last && self.restarts == Restarts::Destination {
            let record = self.running_written.then_some(StableRecord::Running);
            self.destination = DestinationHandoff::restarted(record).unwrap();
        } else {
            self.destination(DestinationEvent::Disconnected);
        }
        self.destination(DestinationEvent::Connected);
        self.source(SourceEvent::Connected);
    }

    fn source(&mut self, event: SourceEvent) {
        let effects = self.source.handle(event).unwrap();
        self.tell("S", effects);
        for effect in effects {
            match effect {
                Effect::Send(message) => self.under_way.push_back(message),
                Effect::Persist(_) => {
                    self.go_written = true;
                    self.source(SourceEvent::Persisted);
                }
                _ => {}
            }
        }
    }

    fn destination(&mut self, event: DestinationEvent) {
        let effects = self.destination.handle(event).unwrap();
        self.tell("D", effects);
        for effect in effects {
            match effect {
                Effect::Send(message) => self.under_way.push_back(message),
                Effect::Persist(_) => {
                    self.running_written = true;
                    self.destination(DestinationEvent::Persisted);
                }
                Effect::ResumeGuest => self.destination(DestinationEvent::Resumed),
                _ => {}
            }
        }
    }

    fn tell(&mut self, who: &str, effects: Effects) {
        self.told.extend(effects.iter().map(|effect| format!("{who}: {effect}")));
    }

    fn end(self) -> String {
        let (place, held) = match (self.source.right(), self.destination.right()) {
            (Right::Mine, Right::Theirs) => ("source", self.source.held()),
            (Right::Theirs, Right::Mine) => ("destination", self.destination.held()),
            rights => panic!("nobody, or both, own the guest: {rights:?}"),
        };
        let how = if held == Held::Running { "runs" } else { "starts from its disks" };
        format!("{}. **The guest {how} at the {place}.**", self.told.join("; "))
    }
}

fn story_table(out: &mut String) {
    use HandoffMessage::{Answer, Ask, Cancel, Go, Ready, Running, Withdraw};
    heading(
        out,
        &[
            "lost with its connection",
            "both hosts stay up",
            "the source restarts",
            "the destination restarts",
        ],
    );
    let cases: [(HandoffMessage, &[HandoffMessage], &str); 9] = [
        (Ready, &[Ready], "*ready*"),
        (Ready, &[Go], "*go*"),
        (Ready, &[Running], "*running*"),
        (Ready, &[Go, Ask], "*ask*, after *go* was lost"),
        (Ready, &[Go, Answer(Standing::Prepared)], "*answer prepared*, after *go* was lost"),
        (Ready, &[Running, Answer(Standing::Running)], "*answer running*, after *running* was lost"),
        (Cancel, &[Cancel], "*cancel*"),
        (Cancel, &[Answer(Standing::Gone)], "*answer gone*, to a cancel"),
        (Withdraw, &[Withdraw], "*withdraw*"),
    ];
    for (start, losses, name) in cases {
        let restarts = [Restarts::Nobody, Restarts::Source, Restarts::Destination];
        let mut cells = vec![name.to_owned()];
        cells.extend(restarts.map(|restarts| Story::of(start, losses, restarts)));
        row(out, &cells);
    }
}

fn tables() -> String {
    let mut out = String::new();
    out.push_str("### A message is lost\n\n");
    story_table(&mut out);
    out.push_str("\n### The source\n\n");
    source_table(&mut out);
    out.push_str("\n### The destination\n\n");
    destination_table(&mut out);
    out
}

#[test]
fn the_page_says_what_the_machines_do() {
    holds("handoff.md", BEGIN, END, &format!("\n{}\n", tables()));
}

/// That what stands between the markers of a page in `docs` is what was made, or with `UPDATE_DOCS` that it becomes so.
pub(super) fn holds(page: &str, begin: &str, end: &str, made: &str) {
    let path = format!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/{}"), page);
    let text = std::fs::read_to_string(&path).unwrap();
    let (above, rest) = text.split_once(begin).expect("the page has the begin marker");
    let (found, below) = rest.split_once(end).expect("the page has the end marker");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{above}{begin}{made}{end}{below}")).unwrap();
        return;
    }
    for (found, made) in found.lines().zip(made.lines()) {
        assert_eq!(found, made, "docs/{page} is not what the machines do; UPDATE_DOCS=1 writes it anew");
    }
    assert_eq!(found.lines().count(), made.lines().count(), "docs/{page} has lines too many or few");
}
