//! Ctrl-C during a sweep or a comparison.
#![cfg(unix)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::run::{Fresh, SMALL, SMALL_SWEEP};

/// Sends a signal as a person at another terminal does.
fn signal(name: &str, process: u32) {
    let status = Command::new("kill").args([format!("-{name}"), process.to_string()]).status().expect("kill");
    assert!(status.success());
}

/// A sweep of hours is stopped after a moment.
fn stopped_by(name: &str) -> (Fresh, std::process::Output) {
    let args = ["sweep", "sweep.toml", "--out", "results", "--set", "run.repeat=500000", "--jobs", "2"];
    stopped(name, SMALL_SWEEP, &args)
}

/// A command that takes hours over `sweep.toml` and writes into `results` is stopped after a moment.
fn stopped(name: &str, scenario: &str, args: &[&str]) -> (Fresh, std::process::Output) {
    let fresh = Fresh::new();
    fresh.write("sweep.toml", scenario);
    let child = fresh.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
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

#[test]
fn ctrl_c_ends_a_comparison_and_keeps_whole_repetitions() {
    let args = ["compare", "sweep.toml", "--policy", "xen-5", "--policy", "quick", "--out", "results"];
    let (fresh, ended) = stopped("INT", SMALL, &[&args[..], &["--repeat", "500000", "--jobs", "2"]].concat());
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{told}");
    let summary: serde_json::Value = serde_json::from_str(&fresh.read("results/summary.json")).expect("JSON");
    let kept = summary["repeat"].as_u64().expect("repetitions");
    assert!((1..500_000).contains(&kept), "{kept}");
    assert!(told.contains(&format!("{kept} of 500000 repetitions")), "{told}");
    assert!(fresh.read("results/runs.jsonl").lines().count() as u64 >= 2 * kept);
    assert!(fresh.read("results/compare.html").contains("was stopped"));
}
