//! Ctrl-C during a sweep or a comparison.
#![cfg(unix)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::run::{Fresh, SMALL, SMALL_SWEEP, json};

/// Sends a signal as a person at another terminal does.
pub(crate) fn signal(name: &str, process: u32) {
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
    // A sweep keeps them in a folder; a comparison, whose file is written whole or not at all, beside their place.
    let grown = || {
        let folders = ["results/unfinished", "results"].map(|folder| std::fs::read_dir(fresh.path(folder)));
        let files = folders.into_iter().flatten().flatten().flatten();
        files
            .filter(|file| file.file_name().to_string_lossy().contains(".jsonl"))
            .any(|file| file.metadata().is_ok_and(|data| data.len() > 0))
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
    let rows = fresh.read("results/unfinished/migrations.jsonl");
    let count = rows.lines().count();
    assert!(count > 0 && rows.ends_with('\n'));
    assert!(rows.lines().all(|row| json(row).is_object()));
    assert!(
        told.contains(&format!(
            "{count} of 8000000 migrations were finished and are kept in results/unfinished; the same command with \
             --resume goes on"
        )),
        "{told}"
    );
    let mut names = fresh.names();
    names.retain(|name| name.starts_with("results/") && !name.starts_with("results/unfinished"));
    assert!(names.is_empty(), "nothing final: {names:?}");
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
    let summary = json(&fresh.read("results/summary.json"));
    let kept = summary["repeat"].as_u64().expect("repetitions");
    assert!((1..500_000).contains(&kept), "{kept}");
    assert!(told.contains(&format!("{kept} of 500000 repetitions")), "{told}");
    assert!(fresh.read("results/runs.jsonl").lines().count() as u64 >= 2 * kept);
    assert!(fresh.read("results/compare.html").contains("was stopped"));
}

#[test]
fn a_comparison_that_is_stopped_leaves_the_whole_one_that_was_there() {
    let fresh = Fresh::new();
    fresh.write("sweep.toml", SMALL);
    let args = ["compare", "sweep.toml", "--policy", "xen-5", "--policy", "quick", "--out", "results"];
    fresh.ok(&[&args[..], &["--repeat", "20"]].concat());
    let whole =
        ["summary.json", "runs.jsonl", "compare.html"].map(|name| fresh.read(&format!("results/{name}")));
    let longer = [&args[..], &["--repeat", "500000", "--jobs", "2"]].concat();
    let child = fresh.command(&longer).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let begun = fresh.path(&format!("results/.runs.jsonl.{}.tmp", child.id()));
    let started = Instant::now();
    while !std::fs::metadata(&begun).is_ok_and(|data| data.len() > 0) {
        assert!(started.elapsed() < Duration::from_mins(2), "no row was written");
        std::thread::sleep(Duration::from_millis(20));
    }
    signal("INT", child.id());
    let ended = child.wait_with_output().expect("ends");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{told}");
    assert!(told.contains("the earlier results in --out were left as they are"), "{told}");
    let now =
        ["summary.json", "runs.jsonl", "compare.html"].map(|name| fresh.read(&format!("results/{name}")));
    assert!(whole == now, "replaced");
    assert!(!begun.exists());
}

/// A sweep that takes some seconds.
const LONGER: [&str; 4] = ["--set", "run.repeat=300", "--jobs", "2"];

#[test]
fn a_sweep_that_is_killed_again_and_again_ends_with_the_bytes_of_one_that_was_not() {
    for kind in [&["--rounds", "--format", "csv"][..], &["--summary"]] {
        let fresh = Fresh::new();
        fresh.write("sweep.toml", SMALL_SWEEP);
        let args = |dir: &'static str| {
            let args = ["sweep", "sweep.toml", "--out", dir].into_iter().chain(LONGER);
            args.chain(kind.iter().copied()).collect::<Vec<_>>()
        };
        fresh.ok(&args("whole"));
        let mut kills = 0;
        for attempt in 0.. {
            let mut args = args("cut");
            // Before the first note there is something to go on with as soon as the folder is there.
            if fresh.path("cut/unfinished/sweep.json").exists() {
                args.push("--resume");
            }
            let mut child =
                fresh.command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
            if attempt < 4 {
                // Some time after the start, and once right after a note.
                std::thread::sleep(Duration::from_millis(300 + 450 * attempt));
                signal_if_running("KILL", &mut child);
            }
            let ended = child.wait_with_output().expect("ends");
            if ended.status.success() {
                break;
            }
            assert_eq!(ended.status.code(), None, "{}", String::from_utf8_lossy(&ended.stderr));
            // Nothing is in its place, but where it was killed while its results took it: then it is whole.
            for name in ["cells.csv", "report.html"].map(|name| format!("cut/{name}")) {
                let whole = name.replace("cut", "whole");
                assert!(
                    !fresh.path(&name).exists() || fresh.read(&name) == fresh.read(&whole),
                    "half of {name}"
                );
            }
            kills += 1;
        }
        assert!(kills > 0, "it was never killed");
        let of = |dir: &str| {
            let mut names = fresh.names();
            names.retain(|name| name.starts_with(&format!("{dir}/")));
            names.into_iter().map(|name| name[dir.len()..].to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(of("cut"), of("whole"));
        for name in of("whole") {
            assert!(
                fresh.read(&format!("cut{name}")) == fresh.read(&format!("whole{name}")),
                "{name} differs"
            );
        }
    }
}

fn signal_if_running(name: &str, child: &mut std::process::Child) {
    if child.try_wait().expect("its state").is_none() {
        let _ = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status();
    }
}

#[test]
fn a_forecast_is_stopped_with_a_word() {
    let fresh = Fresh::new();
    fresh.write("small.toml", SMALL);
    let args = ["forecast", "small.toml", "--samples", "1000000", "--policy", "xen-5"];
    let child = fresh.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    // Far longer than it takes to begin, far shorter than a million runs.
    std::thread::sleep(Duration::from_millis(700));
    signal("INT", child.id());
    let ended = child.wait_with_output().expect("ends");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{told}");
    assert!(told.starts_with("interrupted: there is no forecast yet") && ended.stdout.is_empty(), "{told}");
}

#[test]
fn another_sweep_is_not_gone_on_with() {
    let (fresh, _) = stopped_by("INT");
    let ended = fresh.run(&["explain", "results", "--cell", "0"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("is not finished; `whimbrel sweep` with --resume"), "{}", ended.err);
    let args = ["sweep", "sweep.toml", "--out", "results", "--set", "run.repeat=500000"];
    let ended = fresh.run(&args);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("go on with it by --resume"), "{}", ended.err);
    for (more, out, expected) in [
        (&["--format", "csv"][..], "results", "its format is jsonl, not csv"),
        (
            &["--set", "guest.writers.0.write-cost=7us"],
            "results",
            "`guest.writers.0.write-cost = \"200ns\"` was there, now `guest.writers.0.write-cost = \"7us\"`",
        ),
        (&["--set", "run.seed=1"], "results", "`run.seed = 0` was there, now `run.seed = 1`"),
        (&[], "nowhere", "nowhere holds no sweep that is not finished"),
    ] {
        let same = ["sweep", "sweep.toml", "--set", "run.repeat=500000", "--resume", "--out", out];
        let args: Vec<_> = same.iter().chain(more).copied().collect();
        let ended = fresh.run(&args);
        assert_eq!(ended.code, Some(2), "{}", ended.err);
        assert!(ended.err.contains(expected), "{}", ended.err);
    }
}
