//! The moves that only the peer, or a person, can end: nobody starts a guest who does not know, and who is told does.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use whimbrel::core::machine::handoff::{HandoffMessage, Standing};
use whimbrel::core::machine::message::{Message, MigrationId};
use whimbrel::core::units::ByteCount;
use whimbrel::wire::hello::{self, Capabilities, Direction, Hello, Role, Token, Versions};
use whimbrel::wire::{Limits, control};

use super::conversation::{first_words, next_frame};
use super::process::{Receive, Running, receive, send_to};
use super::relay::Relay;
use super::{json, with_guest};
use crate::interrupt::signal;
use crate::run::{Ended, Fresh};

/// A move of which the source is never told something, and what it was.
fn without(fresh: &Fresh, lost: HandoffMessage, more: &[&str]) -> (Running, Receive, Relay) {
    without_for(fresh, lost, "100ms", more)
}

/// The same, with a guest that runs for so long where it has come to.
fn without_for(
    fresh: &Fresh,
    lost: HandoffMessage,
    length: &str,
    more: &[&str],
) -> (Running, Receive, Relay) {
    let path: PathBuf = fresh.path("w");
    let listen = format!("unix:{}", path.display());
    let there = receive(fresh, &["--listen", &listen, "--token", "sesame", "--for", length]);
    let relay = Relay::start(path, lost);
    let here = send_to(fresh, &relay.address, "sesame", more);
    relay.wait();
    (here, there, relay)
}

#[test]
fn a_complete_replica_whose_source_was_killed_runs_only_when_somebody_says_so() {
    let fresh = with_guest();
    let (mut here, mut there, _relay) = without(&fresh, HandoffMessage::Ready, &[]);
    let path = there.running.control();
    // As long as the source is there, it is asked.
    let ended = fresh.run(&["resolve", "--control", &path, "--peer-never-ran"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("the peer is connected, and knows"), "{}", ended.err);
    here.kill();
    there.line_with("in doubt: the source was lost, and the replica here is complete");
    let listed = fresh.ok(&["resolve", "--store", "store"]);
    for words in ["the replica is complete, and waits to be told", "in doubt", &path] {
        assert!(listed.contains(words), "{words}:\n{listed}");
    }
    let told = fresh.ok(&["resolve", "--control", &path, "--peer-never-ran"]);
    assert!(told.contains("the guest runs here"), "{told}");
    let received = there.end();
    assert_eq!(received.code, Some(0), "{}", received.err);
    assert!(received.out.contains("holds what the guest's registers say"), "{}", received.out);
}

#[test]
fn a_complete_replica_is_given_up_when_somebody_says_so() {
    for (order, outcome, says) in [
        ("--discard", "outcome     gone", "no guest runs here"),
        (
            "--peer-may-have-run",
            "outcome     guest-lost",
            "its memory was given up: start it from its disks, here",
        ),
    ] {
        let fresh = with_guest();
        let (mut here, mut there, _relay) = without(&fresh, HandoffMessage::Ready, &["--id", "2a"]);
        here.kill();
        there.line_with("in doubt");
        let path = there.running.control();
        let told = fresh.ok(&["resolve", "--control", &path, order, "--format", "json"]);
        assert!(!told.contains("the guest runs here"), "{told}");
        if order == "--discard" {
            // It is still there for the source that may come back.
            assert_eq!(asked(&fresh.path("w"), 0x2a), HandoffMessage::Answer(Standing::Gone));
        }
        let received = there.end();
        assert_eq!(received.code, Some(1), "{}", received.err);
        assert!(received.out.contains(outcome), "{}", received.out);
        assert!(
            received.err.contains(says) && !received.err.contains("the guest runs here"),
            "{}",
            received.err
        );
    }
}

/// What a destination answers a source of this migration that comes back and asks.
fn asked(to: &Path, id: u64) -> HandoffMessage {
    let mut stream = UnixStream::connect(to).expect("somebody listens");
    let hello = Hello {
        versions: Versions::SPOKEN,
        role: Role::Again,
        migration: MigrationId(id),
        capabilities: Capabilities::from_bits(0),
        memory: ByteCount(0),
        token: Token::new(b"sesame").expect("short enough"),
    };
    stream.write_all(&hello.encode()).expect("a hello");
    let (prefix, rest) = first_words(&mut stream, Direction::FromDestination).expect("an answer");
    hello::decode_answer(&prefix, &rest).expect("an answer").expect("a welcome");
    let ask = Message::handoff(HandoffMessage::Ask);
    stream.write_all(&control::encode(&ask, &Limits::default()).expect("a question")).expect("a question");
    loop {
        match next_frame(&mut stream).expect("an answer").expect("an answer").message {
            Some(Message::Handoff { message, .. }) => return message,
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
}

#[test]
fn a_source_that_did_not_hear_that_its_guest_runs_asks_again_and_is_answered() {
    let fresh = with_guest();
    let (here, mut there, relay) = without_for(&fresh, HandoffMessage::Running, "10s", &[]);
    there.line_with("the guest runs here");
    relay.heal();
    let sent = here.end();
    assert_eq!(sent.code, Some(0), "{}", sent.err);
    for words in ["in doubt: ", "connected again"] {
        assert!(sent.err.contains(words), "{words}:\n{}", sent.err);
    }
    assert!(sent.out.contains("guest runs  at the destination"), "{}", sent.out);
    signal("INT", there.id());
    let received = there.end();
    assert_eq!(received.code, Some(0), "{}", received.err);
    assert!(received.out.contains("holds what the guest's registers say"), "{}", received.out);
}

#[test]
fn a_source_in_doubt_is_told_by_the_records_of_a_destination_that_was_killed() {
    let fresh = with_guest();
    let (mut here, mut there, relay) = without(&fresh, HandoffMessage::Running, &[]);
    there.line_with("the guest runs here");
    there.kill();
    here.line_with("in doubt: the destination was lost after the guest was handed to it");
    // Nothing is sent any more.
    let ended = fresh.run(&["adjust", "--store", "store", "--limit", "unlimited"]);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains("`limit` does not fit the phase `InDoubt`"), "{}", ended.err);
    // It has lost its guest with its process, but not the record of whose it is.
    drop(there);
    relay.heal();
    let again =
        ["--listen", &format!("unix:{}", fresh.path("w").display()), "--token", "sesame", "--wait", "1min"];
    let again = receive(&fresh, &again);
    let sent = here.end();
    assert_eq!(sent.code, Some(0), "{}", sent.err);
    assert!(sent.out.contains("guest runs  at the destination"), "{}", sent.out);
    signal("INT", again.id());
    assert_eq!(again.end().code, Some(130));
}

#[test]
fn a_source_in_doubt_has_its_guest_back_when_the_destination_never_ran_it() {
    let fresh = with_guest();
    // Ready comes, and *go* is answered by nothing that arrives.
    let (mut here, mut there, _relay) = without(&fresh, HandoffMessage::Running, &["--format", "json"]);
    there.kill();
    let doubt = here.line_with("--peer-never-ran");
    let path =
        doubt.split_once("--control ").expect("a command").1.split(' ').next().expect("a path").to_owned();
    let standing = json(&fresh.ok(&["resolve", "--control", &path, "--format", "json"]));
    assert_eq!((&standing["in_doubt"], &standing["side"]), (&true.into(), &"source".into()));
    let told = fresh.ok(&["resolve", "--control", &path, "--peer-never-ran"]);
    assert!(told.contains("source"), "{told}");
    let sent = here.end();
    // It was not moved.
    assert_eq!(sent.code, Some(1), "{}", sent.err);
    assert_eq!(json(&sent.out)["live"]["exact"], true, "{}", sent.out);
}

#[test]
fn who_leaves_a_doubt_keeps_the_record_of_it() {
    let fresh = with_guest();
    let (mut here, mut there, _relay) = without(&fresh, HandoffMessage::Running, &["--id", "2a"]);
    there.kill();
    here.line_with("in doubt");
    signal("INT", here.id());
    let sent = here.end();
    assert_eq!(sent.code, Some(3), "{}", sent.err);
    assert!(sent.out.contains("outcome     in-doubt"), "{}", sent.out);
    // It stands still all the while.
    assert!(!sent.out.contains("pause 0.000"), "{}", sent.out);
    let listed = json(&fresh.ok(&["resolve", "--store", "store", "--id", "2a", "--format", "json"]));
    let record = |side: &str| {
        let records = listed["records"].as_array().expect("records");
        records.iter().find(|one| one["side"] == side).map(|one| one["record"].clone())
    };
    assert_eq!((record("source"), record("destination")), (Some("go".into()), Some("running".into())));
    // The same name a second time could be taken for the first.
    let ended =
        fresh.run(&["send", "--to", "tcp:127.0.0.1:1", "--token", "x", "--store", "store", "--id", "2A"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("--id 000000000000002a: there was a migration of this name"), "{}", ended.err);
    let forget = |more: &[&str]| {
        fresh.run(&[&["resolve", "--store", "store", "--id", "2a", "--forget"], more].concat())
    };
    let ended = forget(&[]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("say which by --side"), "{}", ended.err);
    let ended = forget(&["--side", "source"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("says `go`") && ended.err.contains("--force"), "{}", ended.err);
    let ended = forget(&["--side", "source", "--force"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let ended = forget(&[]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.contains("Without this record a source that still asks"), "{}", ended.out);
    assert!(fresh.ok(&["resolve", "--store", "store"]).starts_with("no records"));
}

/// Asks about migration 2a by its record.
fn ask(fresh: &Fresh, relay: &Relay) -> Ended {
    let asking = ["resolve", "--store", "store", "--id", "2a", "--ask", &relay.address, "--token", "sesame"];
    fresh.run(&[&asking[..], &["--format", "json"]].concat())
}

#[test]
fn a_source_that_was_killed_is_told_by_its_record_that_its_guest_is_there() {
    let fresh = with_guest();
    let (mut here, mut there, relay) = without_for(&fresh, HandoffMessage::Running, "10s", &["--id", "2a"]);
    there.line_with("the guest runs here");
    let ended = ask(&fresh, &relay);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("its `whimbrel send` still runs, and asks by itself"), "{}", ended.err);
    here.kill();
    relay.heal();
    let ended = ask(&fresh, &relay);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let told = json(&ended.out);
    assert_eq!((&told["record"], &told["guest_runs"]), (&"go".into(), &"destination".into()));
    assert_eq!((&told["right"], &told["settled"]), (&"theirs".into(), &true.into()));
    // Nobody can tell one that is done with from one that never was.
    let ended = ask(&fresh, &relay);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.err.contains("no record of a source of migration 000000000000002a in store"),
        "{}",
        ended.err
    );
    signal("INT", there.id());
    assert_eq!(there.end().code, Some(0));
}

#[test]
fn a_source_that_was_killed_before_it_gave_its_guest_away_has_it_from_its_disks() {
    let fresh = with_guest();
    let (mut here, mut there, relay) = without(&fresh, HandoffMessage::Ready, &["--id", "2a"]);
    here.kill();
    there.line_with("in doubt");
    relay.heal();
    let ended = ask(&fresh, &relay);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let told = json(&ended.out);
    assert_eq!((&told["record"], &told["guest_runs"]), (&serde_json::Value::Null, &"nowhere".into()));
    assert_eq!((&told["right"], &told["settled"]), (&"mine".into(), &true.into()));
    let received = there.end();
    assert_eq!(received.code, Some(1), "{}", received.err);
    assert!(received.out.contains("outcome     gone"), "{}", received.out);
}
