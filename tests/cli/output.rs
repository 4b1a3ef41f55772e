//! Pipes that close, disks that are full, places that cannot be written to.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use crate::run::{Fresh, SMALL, SMALL_SWEEP};

#[test]
fn a_closed_pipe_is_no_error() {
    let fresh = Fresh::new();
    fresh.write("sweep.toml", SMALL_SWEEP);
    let commands: [&[&str]; 5] = [
        &["simulate"],
        &["simulate", "--format", "json"],
        &["policies", "--format", "json"],
        &["sweep", "sweep.toml", "--out", "results"],
        &["--help"],
    ];
    for args in commands {
        let mut child =
            fresh.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        drop(child.stdout.take());
        let ended = child.wait_with_output().expect("ends");
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{args:?}");
        assert_eq!(ended.status.code(), Some(0), "{args:?}");
    }
    // The files were asked for, whoever reads the summary.
    assert!(fresh.path("results/report.html").is_file());
}

#[test]
fn a_reader_may_leave_in_the_middle() {
    let fresh = Fresh::new();
    fresh.write("small.toml", SMALL);
    // Many rounds: far more than a pipe holds.
    let args = [
        "simulate",
        "small.toml",
        "--set",
        "guest.writers.0.rate=100000",
        "--set",
        "link.bandwidth=100Mbit/s",
        "--set",
        "run.time-limit=2h",
        "--set",
        "policy.preset=qemu-default",
        "--set",
        "policy.downtime-limit=1ms",
    ];
    let mut child =
        fresh.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut reader = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    assert!(line.starts_with("guest"), "{line}");
    drop(reader);
    let ended = child.wait_with_output().expect("ends");
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), b"".as_slice()));
}

/// Whether this system has the device that is always full; says so if not.
fn full_device() -> bool {
    let there = Path::new("/dev/full").exists();
    if !there {
        whimbrel_guest::conformance::skip("/dev/full", &"there is no such device");
    }
    there
}

#[test]
fn a_full_disk_is_a_clear_error() {
    if !full_device() {
        return;
    }
    let fresh = Fresh::new();
    fresh.write("small.toml", SMALL);
    let ended = fresh.run(&["simulate", "small.toml", "--plot", "/dev/full"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("cannot write /dev/full: No space left"), "{}", ended.err);
    assert_eq!(ended.out, "");
    assert!(!std::fs::metadata("/dev/full").expect("still there").is_file());

    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("open");
    let ended = fresh.command(&["simulate", "small.toml"]).stdout(full).output().expect("starts");
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("cannot write to standard output"));
    for asked in [&["simulate", "--help"][..], &["--version"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("open");
        let ended = fresh.command(asked).stdout(full).output().expect("starts");
        assert_eq!(ended.status.code(), Some(1), "{asked:?}");
        assert!(String::from_utf8_lossy(&ended.stderr).contains("cannot write to standard output"));
    }
}

/// A table of a sweep meets the full disk through a link.
#[cfg(unix)]
#[test]
fn a_disk_that_fills_during_a_sweep_leaves_no_half_written_file() {
    if !full_device() {
        return;
    }
    let fresh = Fresh::new();
    fresh.write("sweep.toml", SMALL_SWEEP);
    fresh.ok(&["sweep", "sweep.toml", "--out", "results"]);
    let before = fresh.read("results/cells.jsonl");
    std::fs::remove_file(fresh.path("results/migrations.jsonl")).expect("remove");
    std::os::unix::fs::symlink("/dev/full", fresh.path("results/migrations.jsonl")).expect("link");
    let ended = fresh.run(&["sweep", "sweep.toml", "--out", "results", "--set", "run.repeat=5"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("cannot write results/migrations.jsonl"), "{}", ended.err);
    assert!(ended.err.contains("with --resume goes on"), "{}", ended.err);
    // The other tables are those of the sweep before, and nothing is left over.
    assert_eq!(fresh.read("results/cells.jsonl"), before);
    assert!(fresh.names().iter().all(|name| !name.contains(".tmp")), "{:?}", fresh.names());
}

#[test]
fn an_output_place_that_is_no_directory_is_refused_before_the_work() {
    let fresh = Fresh::new();
    fresh.write("file", "mine");
    // This sweep would take far longer than the test may.
    let long = ["--set", "run.repeat=1000", "--set", "run.time-limit=24h"];
    for (out, message) in [("file", "not a directory"), ("file/below", "cannot write")] {
        let args: Vec<&str> = ["sweep", "--out", out].into_iter().chain(long).collect();
        let ended = fresh.run(&args);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains(out) && ended.err.contains(message), "{}", ended.err);
    }
    assert_eq!(fresh.names(), ["file"]);
    assert_eq!(fresh.read("file"), "mine");
}

#[test]
fn a_plot_that_cannot_be_made_is_refused_by_name() {
    let fresh = Fresh::new();
    std::fs::create_dir(fresh.path("dir")).expect("directory");
    for (plot, message) in [("dir", "is a directory"), ("missing/plot.svg", "No such file")] {
        let ended = fresh.run(&["simulate", "--plot", plot]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains(plot) && ended.err.contains(message), "{}", ended.err);
    }
    assert_eq!(fresh.names(), ["dir"]);
}
