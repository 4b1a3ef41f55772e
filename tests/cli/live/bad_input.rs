//! Wrong command lines and places: each ends in an error that names what is wrong, and nothing is moved.

use super::with_guest;
use crate::run::Fresh;

fn refused(fresh: &Fresh, args: &[&str], says: &str) {
    let ended = fresh.run(args);
    assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{args:?}: {}", ended.err);
    assert!(ended.err.contains(says), "{args:?}: {says}:\n{}", ended.err);
}

#[test]
fn plain_tcp_does_not_leave_the_machine_unasked() {
    let fresh = with_guest();
    let receive = ["receive", "--guest", "guest.toml", "--store", "store", "--listen", "tcp:0.0.0.0:0"];
    refused(&fresh, &receive, "--insecure");
    // An address of the documentation's: nobody is there.
    let send =
        ["send", "--guest", "guest.toml", "--store", "store", "--to", "tcp:192.0.2.1:4444", "--token", "x"];
    refused(&fresh, &[&send[..], &["--warm-up", "0s"]].concat(), "--insecure");
}

#[test]
fn wrong_arguments_of_send_are_refused() {
    let fresh = with_guest();
    let usual = ["send", "--store", "store", "--to", "tcp:127.0.0.1:1"];
    for (more, says) in [
        (&["--guest", "missing.toml", "--token", "x"][..], "missing.toml"),
        (&["--guest", "guest.toml"], "--token or --token-file"),
        (&["--guest", "guest.toml", "--token", ""], "accepted are 1 to 64 bytes"),
        (&["--guest", "guest.toml", "--token-file", "missing"], "--token-file missing"),
        (&["--guest", "guest.toml", "--token-file", "empty"], "its first line is empty"),
        (&["--guest", "guest.toml", "--token", "x", "--policy", "qemu-defualt"], "`qemu-default`"),
        (&["--guest", "guest.toml", "--token", "x", "--policy", "qemu-default:downtime-limit=fast"], "fast"),
        (&["--guest", "guest.toml", "--token", "x", "--limit", "-1MiB/s"], "-1MiB/s"),
        (&["--guest", "guest.toml", "--token", "x", "--limit", "100Mbps"], "bits or bytes"),
        (&["--guest", "guest.toml", "--token", "x", "--delta-cache", "12"], "12"),
        (&["--guest", "guest.toml", "--token", "x", "--streams", "65"], "from 1 to 64"),
        (&["--guest", "guest.toml", "--token", "x", "--streams", "-1"], "from 1 to 64"),
        (&["--guest", "guest.toml", "--token", "x", "--time-limit", "-3s"], "write a duration like"),
        (&["--guest", "guest.toml", "--token", "x", "--warm-up", "3"], "write a duration like"),
        (&["--guest", "guest.toml", "--token", "x", "--encoding", "gzip"], "adaptive"),
        (&["--guest", "guest.toml", "--token", "x", "--memory", "hugetlb"], "accepted is `private`"),
        (&["--guest", "guest.toml", "--token", "x", "--id", "guest"], "1 to 16 hexadecimal digits"),
        (
            &["--guest", "guest.toml", "--token", "x", "--id", "0123456789abcdef0"],
            "1 to 16 hexadecimal digits",
        ),
        (&["--guest", "guest.toml", "--token", "x", "--set", "guest.memory=5KiB"], "guest.memory"),
        (
            &["--guest", "guest.toml", "--token", "x", "--set", "guest.memory=16TiB"],
            "are free on this machine",
        ),
        (
            &["--guest", "guest.toml", "--token", "x", "--set", "guest.unchanged-pages=0.5"],
            "is only simulated",
        ),
    ] {
        fresh.write("empty", "\n");
        refused(&fresh, &[&usual[..], more].concat(), says);
    }
    refused(&fresh, &["send", "--to", "localhost:4444", "--token", "x"], "accepted are tcp:HOST:PORT");
}

#[test]
fn wrong_arguments_of_receive_resolve_and_replay_are_refused() {
    let fresh = with_guest();
    let usual = ["receive", "--guest", "guest.toml", "--store", "store", "--listen"];
    for (more, says) in [
        (&["tcp:127.0.0.1"][..], "the port is missing"),
        (&["unix:"], "the path is missing"),
        (&["tcp:127.0.0.1:0", "--most-memory", "-1GiB"], "-1GiB"),
        (&["tcp:127.0.0.1:0", "--for", "0s"], "must be more than 0s"),
        (&["tcp:127.0.0.1:0", "--wait", "1"], "write a duration like"),
        (&["tcp:127.0.0.1:0", "--patience", "-1s"], "write a duration like"),
        (&["tcp:127.0.0.1:0", "--token", "x", "--token-file", "y"], "cannot be used with"),
    ] {
        refused(&fresh, &[&usual[..], more].concat(), says);
    }
    refused(&fresh, &["resolve", "--store", "missing"], "missing");
    refused(
        &fresh,
        &["resolve", "--store", ".", "--id", "7", "--forget"],
        "there is no record of migration 0000000000000007",
    );
    refused(&fresh, &["resolve", "--forget"], "--id");
    refused(&fresh, &["resolve", "--peer-never-ran"], "--control");
    refused(&fresh, &["resolve", "--control", "x", "--discard", "--cancel"], "cannot be used with");
    refused(&fresh, &["replay", "missing"], "cannot replay missing");
    refused(&fresh, &["replay", "guest.toml"], "not a journal");
    let ended = fresh.run(&["resolve", "--control", "nowhere"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("no `send` or `receive` answers at nowhere"), "{}", ended.err);
}

#[test]
fn a_place_that_is_taken_is_not_taken_away() {
    let fresh = with_guest();
    let at = format!("unix:{}", fresh.path("guest.toml").display());
    let listen = ["receive", "--guest", "guest.toml", "--store", "store", "--listen"];
    let ended = fresh.run(&[&listen[..], &[&at]].concat());
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("it is left alone"), "{}", ended.err);
    let ended = fresh.run(&[&listen[..], &["tcp:127.0.0.1:0", "--control", "guest.toml"]].concat());
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("it is left alone"), "{}", ended.err);
    let send =
        ["send", "--guest", "guest.toml", "--store", "store", "--to", "tcp:127.0.0.1:1", "--token", "x"];
    let ended = fresh.run(&[&send[..], &["--journal", "guest.toml"]].concat());
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("guest.toml"), "{}", ended.err);
    let ended = fresh.run(&[&send[..], &["--store", "guest.toml"]].concat());
    assert_eq!(ended.code, Some(2), "twice the same option: {}", ended.err);
    // Nobody listens.
    let ended = fresh.run(&[&send[..], &["--warm-up", "0s"]].concat());
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains("the guest ran on here") && ended.err.contains("tcp:127.0.0.1:1"),
        "{}",
        ended.err
    );
    assert_eq!(fresh.read("guest.toml"), super::GUEST);
}
