//! `whimbrel adjust`: a move is changed under way, and who cannot be changed says why.

use std::time::{Duration, Instant};

use super::process::{receive, send};
use super::{json, with_guest};
use crate::run::Fresh;

/// At this rate the guest would be on its way for four minutes.
const CRAWLING: [&str; 2] = ["--limit", "1Mbit/s"];

fn refused(fresh: &Fresh, args: &[&str], code: i32, says: &str) {
    let ended = fresh.run(&[&["adjust"], args].concat());
    assert_eq!((ended.code, ended.out.as_str()), (Some(code), ""), "{args:?}: {}", ended.err);
    assert!(ended.err.contains(says), "{args:?}: {says}:\n{}", ended.err);
}

#[test]
fn a_move_that_crawls_is_let_go_and_whoever_comes_meanwhile_is_turned_away() {
    let fresh = with_guest();
    let mut there = receive(&fresh, &["--listen", "tcp:127.0.0.1:0", "--for", "50ms"]);
    let more = ["--policy", "qemu-default", "--journal", "move.journal"];
    let mut here = send(&fresh, &there, &[&CRAWLING[..], &more].concat());
    there.line_with("receiving the guest's memory");
    // One migration a token.
    let second = send(&fresh, &there, &[]).end();
    assert_eq!((second.code, second.out.as_str()), (Some(1), ""), "{}", second.err);
    for words in ["the guest ran on here", "takes one migration a token, and has one"] {
        assert!(second.err.contains(words), "{words}:\n{}", second.err);
    }

    // The only source is found; with two changes both are made.
    let told =
        fresh.ok(&["adjust", "--store", "store", "--set", "downtime-limit=400ms", "--limit", "2Mbit/s"]);
    assert!(told.contains("side       source") && told.contains("limit      2Mbit/s"), "{told}");
    let path = here.control();
    let says = "mood was not changed: it was not taken: parameter `mood` of policy `qemu-default`";
    refused(&fresh, &["--control", &path, "--set", "mood=better"], 1, says);
    let path_there = there.running.control();
    refused(&fresh, &["--control", &path_there, "--limit", "1MB/s"], 1, "only a source decides");
    let told = fresh.ok(&["adjust", "--control", &path, "--limit", "unlimited", "--format", "json"]);
    let told = json(&told);
    assert_eq!((&told["taken"], &told["limit"]), (&true.into(), &"unlimited".into()));

    let (sent, received) = (here.end(), there.end());
    assert_eq!((sent.code, received.code), (Some(0), Some(0)), "{}\n{}", sent.err, received.err);
    for words in ["changed: limit 2Mbit/s", "changed: downtime-limit 400ms", "changed: limit unlimited"] {
        assert!(sent.err.contains(words), "{words}:\n{}", sent.err);
    }
    let journal = fresh.read("move.journal");
    for words in [r#"{"limit":{"at-most":"2Mbit/s"}}"#, r#"{"limit":"unlimited"}"#] {
        assert!(journal.contains(words), "{words}");
    }
    assert!(fresh.ok(&["replay", "move.journal"]).contains("all the same"));
}

#[test]
fn who_has_nothing_to_change_says_so() {
    let fresh = with_guest();
    refused(&fresh, &["--control", "nowhere", "--limit", "1MB/s"], 1, "answers at nowhere");
    refused(
        &fresh,
        &["--store", "store", "--limit", "1MB/s"],
        1,
        "no `send` runs whose control socket is in store",
    );
    for (args, says) in [
        (&[][..], "--limit"),
        (&["--limit", "fast"], "or unlimited"),
        (&["--limit", "-1MB/s"], "-1MB/s"),
        (&["--set", "downtime-limit"], "accepted is PARAMETER=VALUE"),
        (&["--set", "=1s"], "accepted is PARAMETER=VALUE"),
        (&["--limit", "1MB/s", "--control", "a", "--store", "b"], "--store"),
    ] {
        refused(&fresh, args, 2, says);
    }
    // Its guest warms up, and nothing is sent yet.
    let there = receive(&fresh, &["--listen", "tcp:127.0.0.1:0"]);
    let here = send(&fresh, &there, &["--warm-up", "10min"]);
    let path = format!("store/send-{}.control", here.id());
    let begun = Instant::now();
    while !fresh.names().contains(&path) {
        assert!(begun.elapsed() < Duration::from_mins(2), "it does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    refused(&fresh, &["--control", &path, "--limit", "1MB/s"], 1, "nothing is moved yet");
}
