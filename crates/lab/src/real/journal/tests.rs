//! A journal that is written and read replays to itself, and says where it does not.

use whimbrel_core::controller::Transmitted;
use whimbrel_core::layout::{PageSize, RamLayout};
use whimbrel_core::machine::SourceEvent;
use whimbrel_core::machine::message::{Message, MigrationId};
use whimbrel_core::units::{ByteCount, Pages};

use super::*;

fn header() -> RealJournal {
    let layout = RamLayout::contiguous(ByteCount::mib(1), PageSize::Kib4).unwrap();
    RealJournal {
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
        journal: Journal::recording(),
    }
}

/// Half a migration: enough for decisions.
fn recorded() -> RealJournal {
    let mut header = header();
    let mut source = header.fresh().unwrap();
    let at = |ms: u64| Timestamp::ZERO + Duration::from_millis(ms);
    source.handle(at(0), SourceEvent::Start).unwrap();
    source.handle(at(1), SourceEvent::Received(Message::Accept)).unwrap();
    source.handle(at(2), SourceEvent::TrackingStarted).unwrap();
    let pages = source.backlog().pending();
    while source.poll().is_some() {}
    while source.backlog_mut().take_run(Pages(256)).is_some() {}
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
    header.journal = source.into_journal();
    header
}

#[test]
fn what_was_written_replays_to_itself() {
    let written = recorded();
    let read = RealJournal::from_json(&written.to_json().unwrap()).unwrap();
    assert_eq!(read, written);
    let replayed = read.replay().unwrap();
    assert_eq!(replayed.difference, None);
    assert!(replayed.events == 5 && replayed.decisions > 0, "{replayed:?}");
}

#[test]
fn a_journal_that_was_changed_is_found_out() {
    let mut other = recorded();
    other.policy.parameters.insert("downtime-limit".to_owned(), "7ms".to_owned());
    let difference = other.replay().unwrap().difference.unwrap();
    assert!(matches!(difference, Difference::Decision { index: 0, .. }), "{difference}");
    assert!(difference.to_string().contains("7.00 ms"), "{difference}");
    // An event that does not fit, though all is decided as it was.
    let text = recorded().to_json().unwrap().replacen("\"tracking-started\"", "\"paused\"", 1);
    let replayed = RealJournal::from_json(&text).unwrap().replay().unwrap();
    assert!(matches!(replayed.difference, Some(Difference::Machine(_))), "{replayed:?}");
}

#[test]
fn what_is_no_journal_is_refused() {
    let text = recorded().to_json().unwrap();
    for (text, says) in [
        ("{}", "not a journal"),
        ("{\"kind\":\"whimbrel-journal\",\"schema\":2}", "of version 2"),
        (&text.replacen("qemu-default", "qemu-defualt", 1), ""),
    ] {
        let read = RealJournal::from_json(text);
        let error = read.and_then(|journal| journal.replay().map(drop)).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}
