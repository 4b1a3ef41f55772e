//! Ctrl-C during a sweep.
#![cfg(unix)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::run::{Fresh, SMALL_SWEEP};

/// Sends a signal as a person at another terminal does.
fn signal(name: &str, process: u32) {
    let status = Command::new("kill").args([format!("-{name}"), process.to_string()]).status().expect("kill");
    assert!(status.success());
}

/// A sweep of hours is stopped after a moment.
fn stopped_by(name: &str) -> (Fresh, std::process::Output) {
    let fresh = Fresh::new();
    fresh.write("sweep.toml", SMALL_SWEEP);
    let args = ["sweep", "sweep.toml", "--out", "results", "--set", "run.repeat=500000", "--jobs", "2"];
    let child = fresh.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    // Rows reach the disk in blocks: once there is one, runs were made and more are going on.
    let started = Instant::now();
    let grown = || {
        let entries = std::fs::read_dir(fresh.path("results")).into_iter().flatten();
        entries.flatten().any(|entry| entry.metadata().is_ok_and(|data| data.len() > 0))
    };
    while !grown() {
        assert!(started.elapsed() < Duration::from_mins(2), "no row was written");
        std::thread::sleep(Duration::from_millis(20));
    }
    signal(name, child.id());
    let ended = child.wait_with_output().expect("ends");
    (fresh, ended)
}

fn check(name: &str, code: i32) {
    let (fresh, ended) = stopped_by(name);
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(code), "{told}");
    let rows = fresh.read("results/migrations.jsonl");
    let count = rows.lines().count();
    assert!(count > 0 && rows.ends_with('\n'));
    assert!(rows.lines().all(|row| serde_json::from_str::<serde_json::Value>(row).is_ok()));
    assert!(
        told.contains(&format!("{count} of 8000000 migrations were finished and are kept in results")),
        "{told}"
    );
    let mut names = fresh.names();
    names.retain(|name| name.starts_with("results/"));
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(fresh.read("results/report.html").contains("not complete"));
}

#[test]
fn ctrl_c_ends_a_sweep_and_keeps_the_finished_rows() {
    check("INT", 130);
}

#[test]
fn a_request_to_terminate_does_the_same_with_its_own_status() {
    check("TERM", 143);
}
