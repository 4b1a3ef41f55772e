//! What a move says of itself when it ends badly, and when nobody can hear it.

use std::fs::{self, OpenOptions};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::process::{receive, send, sending};
use super::{SLOW, with_guest};

#[test]
fn the_exit_code_of_a_move_says_where_the_guest_is_whatever_becomes_of_telling_it() {
    let full = || OpenOptions::new().write(true).open("/dev/full").expect("it is there");
    let fresh = with_guest();
    // A report for which there is no room: the guest is moved, and the journal kept.
    let there = receive(&fresh, &["--listen", "tcp:127.0.0.1:0", "--for", "50ms"]);
    let args = sending(&there.address, &there.token, &["--journal", "move.journal"]);
    let sent = fresh.command(&args).stdout(full()).stderr(Stdio::piped()).output().expect("it runs");
    let said = String::from_utf8_lossy(&sent.stderr);
    assert_eq!(sent.status.code(), Some(4), "{said}");
    assert!(said.contains("all is done, and could not be told: cannot write to standard output"), "{said}");
    assert_eq!(there.end().code, Some(0));
    fresh.ok(&["replay", "move.journal"]);

    // A journal for which there is none.
    let there = receive(&fresh, &["--listen", "tcp:127.0.0.1:0", "--for", "50ms"]);
    let sent = send(&fresh, &there, &["--journal", "/dev/full"]).end();
    assert_eq!(sent.code, Some(4), "{}", sent.err);
    assert!(sent.err.contains("cannot write /dev/full"), "{}", sent.err);
    assert!(sent.out.contains("guest runs  at the destination"), "{}", sent.out);
    assert_eq!(there.end().code, Some(0));

    // A guest that stays is never told as one that was moved: nobody reads, and there is no room.
    for out in [None, Some(full())] {
        let there = receive(&fresh, &["--listen", "tcp:127.0.0.1:0"]);
        let mut here = fresh.command(&sending(&there.address, &there.token, &["--time-limit", "1ms"]));
        here.stdout(out.map_or_else(Stdio::piped, Stdio::from)).stderr(Stdio::piped());
        let mut here = here.spawn().expect("it starts");
        drop(here.stdout.take());
        let sent = here.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&sent.stderr);
        assert_eq!(sent.status.code(), Some(1), "{said}");
        assert!(said.contains("error: the guest was not moved: "), "{said}");
        assert_eq!(there.end().code, Some(1));
    }
}

#[test]
fn a_source_that_is_killed_leaves_the_journal_of_its_move_so_far() {
    let fresh = with_guest();
    let there = receive(&fresh, &["--listen", "tcp:127.0.0.1:0", "--for", "50ms"]);
    let mut here = send(&fresh, &there, &[&SLOW[..], &["--journal", "move.journal"]].concat());
    let name = format!(".move.journal.{}.tmp", here.id());
    // Its first lines come while pages are sent.
    let begun = Instant::now();
    while fs::read_to_string(fresh.path(&name)).map_or(0, |text| text.lines().count()) < 2 {
        assert!(begun.elapsed() < Duration::from_mins(1), "nothing is written");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!here.has_ended(), "it was moved meanwhile");
    here.kill();
    assert!(!fresh.path("move.journal").exists());
    let told = fresh.ok(&["replay", &name]);
    assert!(told.contains("all the same"), "{told}");
    assert_eq!(there.end().code, Some(1));
}
