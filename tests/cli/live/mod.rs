//! `whimbrel send` and `whimbrel receive`: a lab guest moves between two processes, or stays where it was, and is exact.

mod adjust;
mod bad_input;
mod conversation;
mod doubt;
mod ending;
mod faults;
mod network;
pub(crate) mod process;
mod relay;
mod telling;
#[cfg(feature = "tls")]
mod tls;

use std::time::Duration;

use serde_json::Value;

use self::process::{Receive, Running, receive, send, send_to};
use crate::interrupt::signal;
use crate::run::{Fresh, json};

/// A guest that is moved in well under a second, and writes meanwhile.
pub(crate) const GUEST: &str = "\
[guest]
memory = \"32MiB\"
vcpus = 2

[[guest.writers]]
working-set = \"4MiB\"
rate = 2000

[[guest.writers]]
pattern = \"sequential\"
working-set = \"2MiB\"
rate = 500
";

/// What makes a move last for seconds.
const SLOW: [&str; 2] = ["--limit", "8MiB/s"];

pub(crate) fn with_guest() -> Fresh {
    let fresh = Fresh::new();
    fresh.write("guest.toml", GUEST);
    fresh
}

#[test]
fn a_guest_moves_over_every_kind_of_plain_connection_and_is_exact() {
    let fresh = with_guest();
    let unix = format!("unix:{}", fresh.path("w").display());
    for (listen, more) in [
        (unix.as_str(), &[][..]),
        ("tcp:127.0.0.1:0", &["--streams", "3", "--encoding", "adaptive", "--delta-cache", "1MiB"]),
        (
            "tcp:[::1]:0",
            &[
                "--encoding",
                "zstd",
                "--payload-checksums",
                "--verify",
                "--log",
                "software",
                "--memory",
                "memfd",
            ],
        ),
    ] {
        // Pages of several kinds, so that there are several encodings to tell of.
        let mixed =
            ["--set", "guest.zero-pages=0.25", "--set", "guest.random-content=0.25", "--format", "json"];
        let there = receive(&fresh, &[&["--listen", listen, "--for", "200ms"], &mixed[..]].concat());
        let here = send(&fresh, &there, &[&["--warm-up", "100ms"], &mixed[..], more].concat());
        let (sent, received) = (here.end(), there.end());
        assert_eq!((sent.code, received.code), (Some(0), Some(0)), "{}\n{}", sent.err, received.err);
        let (sent, received) = (json(&sent.out), json(&received.out));
        assert_eq!(
            (&sent["outcome"], &sent["live"]["guest_runs"]),
            (&"completed".into(), &"destination".into())
        );
        assert_eq!((&received["outcome"], &received["exact"]), (&"running".into(), &true.into()));
        assert_eq!(received["migration"], sent["live"]["migration"]);
        assert!(sent["round"].as_array().is_some_and(|rounds| rounds.len() > 1));
        // The guest has missed all that the ledger says, in which half of `transfer` at most is not measured.
        let milliseconds = |of: &Value| of.as_f64().unwrap_or_else(|| panic!("{sent}"));
        let gap = milliseconds(&received["heartbeat"]["move_gap_ms"]);
        assert!(
            gap > milliseconds(&sent["downtime_ms"])
                - milliseconds(&sent["downtime"]["transfer_ms"]) / 2.0
                - 1e-6,
            "{gap}: {sent}"
        );
        what_pages_became_and_tracking_took_is_told(&sent, &received);
    }
    // Nothing is left of it but what a source may still ask for.
    let listed = json(&fresh.ok(&["resolve", "--store", "store", "--format", "json"]));
    assert_eq!(listed["running"].as_array().map(Vec::len), Some(0));
    let records = listed["records"].as_array().expect("records");
    assert!(records.len() == 3 && records.iter().all(|one| one["record"] == "running"), "{listed}");
}

/// Of each encoding, by both sides alike, and all of it together.
fn what_pages_became_and_tracking_took_is_told(sent: &Value, received: &Value) {
    let live = &sent["live"];
    let encodings = live["encodings"].as_object().expect("by encoding");
    let number = |of: &Value| of.as_u64().unwrap_or_else(|| panic!("{live}"));
    assert_eq!(&received["encodings"], &live["encodings"], "{received}\n{live}");
    assert!(encodings.values().filter(|sent| number(&sent["pages"]) > 0).count() >= 2, "{live}");
    let pages: u64 = encodings.values().map(|sent| number(&sent["pages"])).sum();
    let rounds = sent["round"].as_array().expect("rounds").iter();
    let handed_over: u64 = rounds.map(|round| number(&round["sent_pages"])).sum();
    assert_eq!(pages + number(&sent["unchanged_pages"]), handed_over, "{live}");
    assert!(sent["encoding"]["source_cpu_s"].as_f64().is_some_and(|seconds| seconds > 0.0), "{sent}");
    let tracking = &live["tracking"];
    assert!(number(&tracking["harvests"]) >= 1 && number(&tracking["found_pages"]) > 0, "{tracking}");
    assert!(tracking["longest_harvest_ms"].as_f64() <= tracking["harvesting_ms"].as_f64(), "{tracking}");
}

#[test]
fn two_terminals_are_told_what_to_do_and_what_came_of_it() {
    let fresh = with_guest();
    let mut there = receive(&fresh, &["--listen", "tcp:127.0.0.1:0", "--for", "100ms"]);
    let invitation = there.line_with("to be typed elsewhere: ");
    let typed = invitation.split_once("whimbrel ").expect("a command").1;
    let mut typed: Vec<&str> = typed.split(' ').collect();
    assert_eq!(typed[0], "send");
    typed.extend(["--store", "store", "--warm-up", "0s", "--policy", "qemu-default:downtime-limit=50ms"]);
    let sent = fresh.run(&typed);
    assert_eq!(sent.code, Some(0), "{}", sent.err);
    for words in [
        "guest     32.0 MiB",
        "dirty log ",
        "downtime-limit 50ms",
        "round ",
        "downtime",
        "guest runs  at the destination, tcp:127.",
    ] {
        assert!(sent.out.contains(words), "{words}:\n{}", sent.out);
    }
    assert!(sent.err.contains("round 0: ") && !sent.err.contains('\r'), "{}", sent.err);
    let received = there.end();
    assert_eq!(received.code, Some(0), "{}", received.err);
    for words in [
        "may run it  this host",
        "holds what the guest's registers say",
        " without one in the move",
        "resumed in ",
        " raw in 3",
    ] {
        assert!(received.out.contains(words), "{words}:\n{}", received.out);
    }
}

#[test]
fn the_journal_of_a_move_replays_to_the_same_decisions() {
    let fresh = with_guest();
    let changes =
        "[policy]\nchanges = [{ at = \"50ms\", parameter = \"downtime-limit\", value = \"400ms\" }]\n";
    fresh.write("guest.toml", format!("{GUEST}\n{changes}"));
    let there = receive(&fresh, &["--listen", "tcp:127.0.0.1:0", "--for", "100ms"]);
    let here = send(&fresh, &there, &["--journal", "move.journal", "--limit", "64MiB/s"]);
    assert_eq!(here.end().code, Some(0));
    assert_eq!(there.end().code, Some(0));
    let text = fresh.ok(&["replay", "move.journal"]);
    assert!(text.contains("all the same") && text.contains("policy qemu-default"), "{text}");
    let journal = fresh.read("move.journal");
    assert!(journal.contains("downtime-limit") && journal.contains("400ms"), "the change was not made");
    // Another policy than the one that decided, from the beginning on.
    assert!(journal.contains("\"parameters\":{}"), "{}", &journal[..400]);
    let other = journal.replacen("\"parameters\":{}", "\"parameters\":{\"downtime-limit\":\"1ms\"}", 1);
    fresh.write("other", other.replace("400ms", "1ms"));
    let ended = fresh.run(&["replay", "other", "--format", "json"]);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains("the replay went another way: decision "), "{}", ended.err);
    assert_eq!(json(&ended.out)["same"], false);
}

#[test]
fn a_wrong_token_moves_nothing_and_keeps_nobody_out() {
    let fresh = with_guest();
    let there = receive(&fresh, &["--listen", "tcp:127.0.0.1:0", "--for", "50ms"]);
    let sent = send_to(&fresh, &there.address, "wrong", &[]).end();
    assert_eq!((sent.code, sent.out.as_str()), (Some(1), ""), "{}", sent.err);
    for words in ["the guest ran on here", "does not expect this token"] {
        assert!(sent.err.contains(words), "{words}:\n{}", sent.err);
    }
    assert_eq!(send(&fresh, &there, &[]).end().code, Some(0));
    let received = there.end();
    assert_eq!(received.code, Some(0));
    let away = "was turned away: the destination does not expect this token";
    assert!(received.err.contains(away), "{}", received.err);
}

#[test]
fn another_guest_is_refused_with_a_reason_and_stays() {
    for (change, says) in [
        ("guest.memory=16MiB", "the guest has 16MiB in pages of 4KiB, the one expected here 32MiB"),
        ("run.seed=7", "both sides must be told the same --guest and --set"),
    ] {
        let fresh = with_guest();
        let there = receive(&fresh, &["--listen", "tcp:127.0.0.1:0"]);
        let sent = send(&fresh, &there, &["--set", change, "--format", "json"]).end();
        assert_eq!(sent.code, Some(1), "{}", sent.err);
        assert!(sent.err.contains(says), "{}", sent.err);
        let told = json(&sent.out);
        assert_eq!((&told["outcome"], &told["live"]["exact"]), (&"refused".into(), &true.into()));
        let received = there.end();
        assert_eq!(received.code, Some(1));
        assert!(received.err.contains(says), "{}", received.err);
        let listed = fresh.ok(&["resolve", "--store", "store"]);
        assert!(listed.starts_with("no records in store"), "{listed}");
    }
}

#[test]
fn a_guest_that_is_too_large_is_not_waited_for() {
    let fresh = with_guest();
    let listen = ["receive", "--guest", "guest.toml", "--listen", "tcp:127.0.0.1:0", "--store", "store"];
    let ended = fresh.run(&[&listen[..], &["--most-memory", "16MiB"]].concat());
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("at most 16MiB are taken here"), "{}", ended.err);
    let ended = fresh.run(&[&listen[..], &["--wait", "50ms"]].concat());
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("nobody came within 50"), "{}", ended.err);
}

#[test]
fn what_the_peer_says_is_shown_and_not_obeyed() {
    let fresh = with_guest();
    let name = "\u{1b}]0;obeyed\u{7}.toml";
    fresh.write(name, GUEST);
    let there = receive(&fresh, &["--listen", "tcp:127.0.0.1:0", "--for", "50ms"]);
    let usual =
        ["send", "--store", "store", "--to", &there.address, "--token", &there.token, "--warm-up", "0s"];
    let sent = fresh.run(&[&usual[..], &["--guest", name]].concat());
    assert_eq!(sent.code, Some(0), "{}", sent.err);
    let received = there.end();
    assert!(received.out.contains("]0;obeyed"), "{}", received.out);
    let listed = fresh.ok(&["resolve", "--store", "store"]);
    assert!(listed.contains("]0;obeyed"), "{listed}");
    for text in [sent.out, sent.err, received.out, received.err, listed] {
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{text:?}");
    }
}

/// A move that is under way, and lasts.
fn under_way(fresh: &Fresh, more: &[&str]) -> (Running, Receive) {
    let mut there = receive(fresh, &["--listen", "tcp:127.0.0.1:0"]);
    let here = send(fresh, &there, &[&SLOW[..], more].concat());
    there.line_with("receiving the guest's memory");
    std::thread::sleep(Duration::from_millis(300));
    (here, there)
}

#[test]
fn ctrl_c_at_the_source_leaves_an_exact_guest_there() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let fresh = with_guest();
        let (here, there) = under_way(&fresh, &[]);
        signal(name, here.id());
        let sent = here.end();
        assert_eq!(sent.code, Some(code), "{}", sent.err);
        assert!(sent.err.contains("interrupted: the guest stays here, and its memory holds"), "{}", sent.err);
        assert!(
            sent.out.contains("outcome     cancelled") && sent.out.contains("guest runs  here"),
            "{}",
            sent.out
        );
        let received = there.end();
        assert_eq!(received.code, Some(1), "{}", received.err);
        assert!(received.out.contains("outcome     gone"), "{}", received.out);
    }
}

#[test]
fn ctrl_c_at_the_destination_leaves_an_exact_guest_at_the_source() {
    let fresh = with_guest();
    let (here, there) = under_way(&fresh, &["--format", "json"]);
    signal("INT", there.id());
    let received = there.end();
    assert_eq!(received.code, Some(130), "{}", received.err);
    let sent = here.end();
    assert_eq!(sent.code, Some(1), "{}", sent.err);
    assert_eq!(json(&sent.out)["live"]["exact"], true, "{}", sent.out);
    // Somebody who is alone is ended as well.
    let mut alone = receive(&fresh, &["--listen", "tcp:127.0.0.1:0"]);
    alone.line_with("to be typed elsewhere");
    signal("INT", alone.id());
    let ended = alone.end();
    assert_eq!(ended.code, Some(130));
    assert!(ended.err.contains("interrupted: nobody had come"), "{}", ended.err);
}

#[test]
fn ctrl_c_ends_a_guest_that_has_come_as_its_time_does() {
    let fresh = with_guest();
    let mut there = receive(&fresh, &["--listen", "tcp:127.0.0.1:0"]);
    assert_eq!(send(&fresh, &there, &[]).end().code, Some(0));
    there.line_with("the guest runs here");
    signal("INT", there.id());
    let received = there.end();
    assert_eq!(received.code, Some(0), "{}", received.err);
    assert!(received.out.contains("holds what the guest's registers say"), "{}", received.out);
}

#[test]
fn a_guest_whose_time_is_over_stays() {
    let fresh = with_guest();
    let there = receive(&fresh, &["--listen", "tcp:127.0.0.1:0"]);
    let sent =
        send(&fresh, &there, &[&SLOW[..], &["--time-limit", "300ms", "--format", "json"]].concat()).end();
    assert_eq!(sent.code, Some(1), "{}", sent.err);
    let told = json(&sent.out);
    assert_eq!(
        (&told["outcome"], &told["live"]["exact"]),
        (&"timed-out".into(), &true.into()),
        "{}",
        sent.out
    );
    assert_eq!(there.end().code, Some(1));
}

#[test]
fn a_destination_that_stands_still_is_given_up() {
    let fresh = with_guest();
    let (here, there) = under_way(&fresh, &["--patience", "1s", "--format", "json"]);
    signal("STOP", there.id());
    let sent = here.end();
    signal("CONT", there.id());
    assert_eq!(sent.code, Some(1), "{}", sent.err);
    assert_eq!(json(&sent.out)["live"]["exact"], true, "{}", sent.out);
    let received = there.end();
    assert_eq!(received.code, Some(1), "{}", received.err);
    assert!(received.out.contains("outcome     gone"), "{}", received.out);
}

#[test]
fn a_destination_that_is_killed_leaves_an_exact_guest_at_the_source() {
    let fresh = with_guest();
    let (here, mut there) = under_way(&fresh, &["--format", "json"]);
    there.kill();
    let sent = here.end();
    assert_eq!(sent.code, Some(1), "{}", sent.err);
    let told = json(&sent.out);
    assert_eq!((&told["outcome"], &told["live"]["exact"]), (&"failed".into(), &true.into()), "{}", sent.out);
    assert_eq!(told["live"]["guest_runs"], "source");
}

#[test]
fn what_a_killed_command_leaves_keeps_nobody_from_starting_again() {
    let fresh = with_guest();
    let listen = format!("unix:{}", fresh.path("w").display());
    let mut named = receive(&fresh, &["--listen", &listen, "--control", "there"]);
    let mut usual = receive(&fresh, &["--listen", "tcp:127.0.0.1:0"]);
    let left = format!("store/receive-{}.control", usual.id());
    named.kill();
    usual.kill();
    assert!(fresh.names().contains(&left), "{:?}", fresh.names());
    let again = receive(&fresh, &["--listen", &listen, "--control", "there", "--for", "50ms"]);
    let sent = send(&fresh, &again, &[]).end();
    assert_eq!((sent.code, again.end().code), (Some(0), Some(0)), "{}", sent.err);
    let sockets = fresh.names().into_iter().filter(|name| name.ends_with(".control"));
    assert_eq!(sockets.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn a_source_that_is_killed_before_its_guest_is_complete_leaves_nothing_to_run() {
    let fresh = with_guest();
    let (mut here, there) = under_way(&fresh, &[]);
    here.kill();
    let received = there.end();
    assert_eq!(received.code, Some(1), "{}", received.err);
    assert!(received.out.contains("outcome     gone"), "{}", received.out);
    assert!(received.err.contains("no guest runs here: the connection was lost"), "{}", received.err);
}
