//! A journal that is written and read replays to itself, and says where it does not.

use whimbrel_core::controller::Transmitted;
use whimbrel_core::layout::{PageSize, RamLayout};
use whimbrel_core::machine::SourceEvent;
use whimbrel_core::machine::message::{Message, MigrationId};
use whimbrel_core::units::{ByteCount, Pages};

use super::*;

fn head() -> Head {
    let layout = RamLayout::contiguous(ByteCount::mib(1), PageSize::Kib4).unwrap();
    Head {
        kind: NAME.to_owned(),
        schema: SCHEMA,
        configuration: Configuration { id: MigrationId(7), name: "lab".to_owned(), layout, vcpus: 1 },
        policy: Policy { preset: "qemu-default".to_owned(), parameters: BTreeMap::new() },
        patience: Duration::from_secs(30),
        capabilities: Capabilities {
            throttle: true,
            harvest_on_demand: true,
            pause: true,
            ..Capabilities::default()
        },
    }
}

/// Half a migration: enough for decisions. Lines are written as they come, as a driver does.
fn recorded() -> String {
    let head = head();
    let mut text = head.to_line().unwrap();
    let mut source = head.fresh().unwrap();
    let at = |ms: u64| Timestamp::ZERO + Duration::from_millis(ms);
    source.handle(at(0), SourceEvent::Start).unwrap();
    source.handle(at(1), SourceEvent::Received(Message::Accept)).unwrap();
    source.handle(at(2), SourceEvent::TrackingStarted).unwrap();
    let pages = source.backlog().pending();
    while source.poll().is_some() {}
    while source.backlog_mut().take_run(Pages(256)).is_some() {}
    source.drain_journal().for_each(|line| text += &to_line(&line).unwrap());
    let sent = Transmitted {
        pages,
        zero: Pages(0),
        bytes: pages.bytes(PageSize::Kib4),
        pending: Pages(0),
        skipped: Pages(0),
        in_flight: None,
    };
    source.handle(at(10), SourceEvent::Transmitted(sent)).unwrap();
    source.handle(at(11), SourceEvent::Received(Message::Acknowledge { round: 0 })).unwrap();
    source.drain_journal().for_each(|line| text += &to_line(&line).unwrap());
    text
}

fn replay(text: &str) -> Result<Replayed, ReplayError> {
    let mut rest = text.as_bytes();
    Head::read(&mut rest)?.replay(rest)
}

#[test]
fn what_was_written_replays_to_itself() {
    let written = recorded();
    assert_eq!(Head::read(&mut written.as_bytes()).unwrap(), head());
    let replayed = replay(&written).unwrap();
    assert_eq!(replayed.difference, None);
    assert!(replayed.events == 5 && replayed.decisions > 0, "{replayed:?}");
    assert_eq!(replayed.events + replayed.decisions + 1, written.lines().count());
}

#[test]
fn a_journal_that_was_changed_is_found_out() {
    let other = recorded().replacen("\"parameters\":{}", "\"parameters\":{\"downtime-limit\":\"7ms\"}", 1);
    let difference = replay(&other).unwrap().difference.unwrap();
    assert!(matches!(difference, Difference::Decision { index: 0, .. }), "{difference}");
    assert!(difference.to_string().contains("7.00 ms"), "{difference}");
    // An event that does not fit, though all is decided as it was.
    let text = recorded().replacen("\"tracking-started\"", "\"paused\"", 1);
    let replayed = replay(&text).unwrap();
    assert!(matches!(replayed.difference, Some(Difference::Machine(_))), "{replayed:?}");
    assert_eq!(replayed.events, 5, "the rest was read");
    // A line that is missing, twice there, or not as it was.
    let whole = recorded();
    let lines: Vec<&str> = whole.lines().collect();
    for line in 1..lines.len() {
        let (before, after) = (&lines[..line], &lines[line + 1..]);
        let missing = [before, after].concat().join("\n");
        // Without its end, a journal is one of a migration that did not end; without what was decided last, it is not.
        let last_event = line == lines.len() - 1 && lines[line].contains("\"event\"");
        assert_eq!(replay(&missing).unwrap().difference.is_none(), last_event, "without line {}", line + 1);
        // The machine takes some events twice, no decision is made twice.
        if lines[line].contains("\"decision\"") {
            let twice = [before, &[lines[line]], &[lines[line]], after].concat().join("\n");
            assert!(replay(&twice).unwrap().difference.is_some(), "twice line {}", line + 1);
        }
    }
}

#[test]
fn what_is_no_journal_is_refused() {
    let text = recorded();
    let cut = &text[..text.len() - 20];
    let last = format!("line {} is no line", text.lines().count());
    for (text, says) in [
        ("", "not a journal"),
        ("{}", "not a journal"),
        ("{\"kind\":\"whimbrel-journal\",\"schema\":1}", "of version 1"),
        (&text.replacen("qemu-default", "qemu-defualt", 1), ""),
        (cut, &last),
    ] {
        let error = replay(text).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}
