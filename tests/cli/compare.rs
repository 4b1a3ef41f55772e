//! `whimbrel compare`.

use crate::run::{Fresh, SMALL, json};

/// Two workloads of milliseconds.
fn workloads(fresh: &Fresh) {
    fresh.write("calm.toml", format!("# A calm guest. More.\n\n{SMALL}"));
    fresh.write("wild.toml", SMALL.replace("rate = 500", "rate = 200000"));
}

const POLICIES: [&str; 6] = ["--policy", "qemu-default", "--policy", "xen-5", "--policy", "mine.toml"];

fn mine(fresh: &Fresh) {
    fresh.write("mine.toml", "[policy]\nname = \"patient\"\npreset = \"xen-5\"\nmax-iterations = 29\n");
}

fn compare(fresh: &Fresh, more: &[&str]) -> String {
    fresh.ok(&[&["compare", "calm.toml", "wild.toml", "--repeat", "3"], &POLICIES[..], more].concat())
}

#[test]
fn a_policy_of_a_file_takes_part_like_any_preset() {
    let fresh = Fresh::new();
    workloads(&fresh);
    mine(&fresh);
    let out = compare(&fresh, &[]);
    assert!(out.contains("all 2 workloads, 6 runs a policy"), "{out}");
    for name in ["qemu-default", "xen-5", "patient", "calm: A calm guest."] {
        assert!(out.contains(name), "{name}: {out}");
    }
    // Nothing is written unless it is asked for.
    assert_eq!(fresh.names(), ["calm.toml", "mine.toml", "wild.toml"]);
}

#[test]
fn results_are_a_page_a_summary_and_a_row_a_run() {
    let fresh = Fresh::new();
    workloads(&fresh);
    mine(&fresh);
    let out = compare(&fresh, &["--out", "results", "--jobs", "2"]);
    assert!(out.contains("results/compare.html"), "{out}");
    let rows = fresh.read("results/runs.jsonl");
    assert_eq!(rows.lines().count(), 3 * 2 * 3);
    let row = json(rows.lines().nth(4).unwrap());
    assert_eq!(
        (&row["workload"], &row["policy"], &row["seed"]),
        (&"wild".into(), &"xen-5".into(), &0.into())
    );
    assert!(row["total_s"].as_f64().unwrap() > 0.1 && row["completed"].is_boolean(), "{row}");
    let summary = json(&fresh.read("results/summary.json"));
    assert_eq!(summary["overall"].as_array().unwrap().len(), 3);
    assert_eq!(summary["by_workload"].as_array().unwrap().len(), 6);
    assert_eq!(summary["overall"][2]["policy"], "patient");
    let page = fresh.read("results/compare.html");
    assert!(page.starts_with("<!doctype html>") && page.contains("patient"));
    assert!(page.contains("--policy mine.toml"), "the command is on the page");
    // Again, on one thread, over what is there: the same bytes.
    compare(&fresh, &["--out", "results", "--jobs", "1"]);
    assert_eq!(fresh.read("results/runs.jsonl"), rows);
    assert_eq!(fresh.read("results/compare.html"), page);
}

#[test]
fn the_summary_as_json_is_the_stored_one() {
    let fresh = Fresh::new();
    workloads(&fresh);
    mine(&fresh);
    let out = compare(&fresh, &["--out", "results", "--format", "json", "--seeds", "independent"]);
    assert_eq!(out, fresh.read("results/summary.json"));
    let summary = json(&out);
    assert_eq!(summary["seeds"], "independent");
}

#[test]
fn built_in_workloads_are_known_by_name() {
    let fresh = Fresh::new();
    let out =
        fresh.ok(&["compare", "idle", "--policy", "xen-5", "--repeat", "1", "--set", "guest.memory=64MiB"]);
    assert!(out.contains("idle: A guest at rest"), "{out}");
}

#[test]
fn bad_input_is_named_and_writes_nothing() {
    let fresh = Fresh::new();
    workloads(&fresh);
    for (args, expected) in [
        (vec!["--policy", "xen-6"], "`xen-5`"),
        (vec!["--policy", "xen-5:max-iterations=lots"], "lots"),
        (vec!["--policy", "xen-5:max-iterations"], "NAME=VALUE"),
        (vec!["--policy", "none.toml"], "none.toml"),
        (vec!["--policy", "xen-5", "--policy", "xen-5"], "two policies called `xen-5`"),
        (vec!["--policy", "xen-5", "calm.toml"], "two workloads called `calm`"),
        (vec!["--policy", "xen-5", "--fidelity", "rough"], "`exact`"),
        (vec!["--policy", "xen-5", "--set", "link.bandwith=1Gbit/s"], "link.bandwidth"),
        (vec!["--policy", "xen-5", "databse"], "did you mean `database`"),
        (vec!["--policy", "xen-5", "--repeat", "0"], "--repeat"),
        (vec!["--policy", "xen-5", "--seeds", "other"], "paired"),
    ] {
        let ended = fresh.run(&[&["compare", "calm.toml"], &args[..]].concat());
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.err);
        assert!(ended.err.contains(expected) && ended.out.is_empty(), "{args:?}: {}", ended.err);
    }
    assert_eq!(fresh.names(), ["calm.toml", "wild.toml"]);
}

#[test]
fn files_of_other_origin_are_not_overwritten() {
    let fresh = Fresh::new();
    workloads(&fresh);
    std::fs::create_dir(fresh.path("mine")).unwrap();
    fresh.write("mine/runs.jsonl", "precious");
    let args = ["compare", "calm.toml", "--policy", "xen-5", "--repeat", "1", "--out", "mine"];
    let ended = fresh.run(&args);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains("`runs.jsonl` was not written by a comparison"), "{}", ended.err);
    assert_eq!(fresh.read("mine/runs.jsonl"), "precious");
    fresh.ok(&[&args[..], &["--force"]].concat());
    assert_ne!(fresh.read("mine/runs.jsonl"), "precious");
}

#[test]
fn runs_that_are_all_the_same_are_not_counted_as_runs_that_agree() {
    let fresh = Fresh::new();
    workloads(&fresh);
    let args = ["compare", "calm.toml", "wild.toml", "--repeat", "3", "--fidelity", "fluid"];
    let ended = fresh.run(&[&args[..], &POLICIES[..4]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.starts_with("note: fluid runs"), "{}", ended.err);
    assert!(ended.out.contains("all 2 workloads, 2 runs a policy"), "{}", ended.out);
}
