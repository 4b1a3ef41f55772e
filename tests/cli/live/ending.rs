//! How a move is ended by whoever has started it: twice by Ctrl-C, too early, or by being killed itself.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use whimbrel::core::machine::handoff::HandoffMessage;

use super::process::{Receive, Running, receive, receive_as, receiving, send, send_to};
use super::relay::Relay;
use super::{json, with_guest};
use crate::interrupt::signal;
use crate::run::Fresh;

/// A move of which the source is never told something, over a connection that stays.
fn stalled(fresh: &Fresh, lost: HandoffMessage) -> (Running, Receive) {
    let path = fresh.path("w");
    let listen = format!("unix:{}", path.display());
    let there = receive(fresh, &["--listen", &listen, "--token", "sesame", "--for", "10s"]);
    let relay = Relay::start(path, lost);
    // The source must not lose its patience before it is asked twice, on a machine that has much else to do.
    let here = send_to(fresh, &relay.address, "sesame", &["--id", "2a", "--patience", "2min"]);
    relay.wait();
    (here, there)
}

#[test]
fn a_second_ctrl_c_never_says_that_a_guest_ran_on_that_is_handed_over() {
    for name in ["INT", "TERM"] {
        let fresh = with_guest();
        let (mut here, _there) = stalled(&fresh, HandoffMessage::Running);
        signal(name, here.id());
        // Whoever presses it again knows what it means.
        here.line_with("too late to cancel: the guest is handed over");
        assert!(!here.has_ended());
        signal(name, here.id());
        let sent = here.end();
        assert_eq!(sent.code, Some(3), "{}", sent.err);
        let listed = ["resolve", "--store", "store", "--id", "2a", "--side", "source", "--format", "json"];
        let listed = json(&fresh.ok(&listed));
        assert_eq!(listed["records"][0]["record"], "go", "{listed}");
    }
}

#[test]
fn a_second_ctrl_c_at_a_destination_never_says_that_a_guest_did_not_come_that_may_be_its() {
    let fresh = with_guest();
    let (_here, mut there) = stalled(&fresh, HandoffMessage::Ready);
    there.line_with("the replica is complete, and waits");
    signal("INT", there.id());
    there.line_with("too late to cancel: the replica here is complete");
    assert!(!there.running.has_ended());
    signal("INT", there.id());
    let received = there.end();
    assert_eq!(received.code, Some(3), "{}", received.err);
}

#[test]
fn a_policy_that_no_lab_guest_can_have_is_refused_before_there_is_a_guest() {
    let fresh = with_guest();
    let args =
        ["send", "--guest", "guest.toml", "--store", "store", "--to", "tcp:127.0.0.1:1", "--token", "x"];
    let ended = fresh.run(&[&args[..], &["--policy", "qemu-postcopy", "--warm-up", "0s"]].concat());
    assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{}", ended.err);
    for words in [
        "policy.preset = \"qemu-postcopy\" needs `post-copy`",
        "accepted are policies that need no more than",
    ] {
        assert!(ended.err.contains(words), "{words}: {}", ended.err);
    }
    assert!(!fresh.path("store").exists());
}

#[test]
fn what_was_changed_before_something_was_not_is_said() {
    let fresh = with_guest();
    let mut there = receive(&fresh, &["--listen", "tcp:127.0.0.1:0"]);
    let mut here = send(&fresh, &there, &["--policy", "qemu-default", "--limit", "1Mbit/s"]);
    there.line_with("receiving the guest's memory");
    let adjust = ["adjust", "--store", "store", "--limit", "2Mbit/s", "--set", "downtime-limit=400ms"];
    let ended = fresh.run(&[&adjust[..], &["--set", "mood=better"]].concat());
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{}", ended.err);
    for words in ["mood was not changed: ", "; before that the limit, downtime-limit were changed"] {
        assert!(ended.err.contains(words), "{words}: {}", ended.err);
    }
    here.line_with("changed: limit 2Mbit/s");
    here.kill();
}

#[test]
fn resolve_takes_nothing_about_a_connection_that_it_does_not_make() {
    let fresh = with_guest();
    for way in [&["--token", "x"][..], &["--token-file", "x"], &["--patience", "1s"], &["--insecure"]] {
        let ended = fresh.run(&[&["resolve", "--store", "store"], way].concat());
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{way:?}: {}", ended.err);
        assert!(ended.err.contains("--ask <ADDRESS>"), "{way:?}: {}", ended.err);
    }
}

#[test]
fn a_destination_ends_with_the_pipe_of_whoever_has_started_it() {
    let fresh = with_guest();
    let (read, write) = std::io::pipe().expect("a pipe");
    let mut command = fresh.command(&receiving(&["--listen", "tcp:127.0.0.1:0", "--until-eof"]));
    command.stdin(read);
    let mut there = receive_as(command);
    std::thread::sleep(Duration::from_millis(100));
    assert!(!there.running.has_ended(), "it waits as long as there is a pipe");
    drop(write);
    let ended = there.end();
    assert_eq!(ended.code, Some(130), "{}", ended.err);
    assert!(ended.err.contains("interrupted: nobody had come"), "{}", ended.err);
}

/// The process that this one has started, if there is one.
fn child_of(parent: u32) -> Option<u32> {
    let processes = fs::read_dir("/proc").expect("it is there").flatten();
    let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.find(|id| stat(*id).is_some_and(|(_, of)| of == parent))
}

/// Its state and its parent.
fn stat(id: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(Path::new("/proc").join(id.to_string()).join("stat")).ok()?;
    // Behind its name, which may hold anything.
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

#[test]
fn a_bench_that_is_killed_takes_its_destination_along() {
    let fresh = with_guest();
    let args = ["bench", "guest.toml", "--out", "results"];
    let mut bench = Running::start(&fresh, &args);
    let begun = Instant::now();
    let child = loop {
        assert!(!bench.has_ended() && begun.elapsed() < Duration::from_mins(1), "no destination was started");
        if let Some(child) = child_of(bench.id()) {
            break child;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    // Most likely nobody has come to it yet: it would wait for a minute.
    bench.kill();
    let killed = Instant::now();
    // Nobody may be there who reaps it.
    while stat(child).is_some_and(|(state, _)| state != "Z") {
        assert!(killed.elapsed() < Duration::from_secs(40), "process {child} is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}
