//! `whimbrel tune`: what it writes, that it goes on after an interruption, and what it refuses.

use crate::run::{Ended, Fresh, json};

/// Small guests that converge or not by the downtime limit.
const SCENARIO: &str = "
[guest]
memory = \"8MiB\"
writers = [{ working-set = \"4MiB\", rate = 2000 }]
[link]
bandwidth = \"8MiB/s\"
buffer = \"64KiB\"
queue = \"0B\"
[run]
time-limit = \"20s\"
";

const ARGS: &[&str] = &[
    "tune",
    "qemu-default",
    "--over",
    "small.toml",
    "--hold-out",
    "other.toml",
    "--population",
    "8",
    "--generations",
    "4",
    "--repeat",
    "2",
    "--check",
    "3",
    "--out",
    "out",
];

fn fresh() -> Fresh {
    let fresh = Fresh::new();
    fresh.write("small.toml", SCENARIO);
    fresh.write("other.toml", SCENARIO.replace("2000", "1500"));
    fresh
}

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [ARGS, more].concat()
}

#[test]
fn it_ends_in_a_front_a_picture_and_a_policy() {
    let fresh = fresh();
    let told = fresh.ok(ARGS);
    for words in
        ["qemu-default over 1 workload, 2 runs of each", "against the start", "downtime-limit", "held out"]
    {
        assert!(told.contains(words), "{words}: {told}");
    }
    let names = fresh.names();
    for name in ["out/policy.toml", "out/state.json", "out/tune.json", "out/tune.svg"] {
        assert!(names.contains(&name.to_owned()), "{names:?}");
    }
    assert_eq!(names.len(), 7, "nothing is left behind: {names:?}");
    let told = json(&fresh.read("out/tune.json"));
    assert_eq!(told["schema"], 1);
    assert_eq!(told["objectives"], serde_json::json!(["downtime", "total-time", "failures"]));
    assert!(told["front"].as_array().is_some_and(|front| !front.is_empty()));
    assert_eq!(told["held_out"], serde_json::json!(["other"]));
    assert!(fresh.read("out/tune.svg").contains("front, held out"));
}

#[test]
fn the_policy_runs_where_a_scenario_names_it() {
    let fresh = fresh();
    fresh.ok(&with(&["--name", "mine"]));
    let policy = fresh.read("out/policy.toml");
    assert!(policy.contains("name = \"mine\"") && policy.contains("[policy]"), "{policy}");
    let table = policy.split_once("[policy]").expect("a table").1;
    fresh.write("again.toml", format!("{SCENARIO}[policy]{table}"));
    let told = fresh.ok(&["simulate", "again.toml"]);
    assert!(told.contains("qemu-default"), "{told}");
}

#[test]
fn a_policy_file_that_it_wrote_is_compared_and_searched_on() {
    let fresh = fresh();
    fresh.ok(&with(&["--name", "mine"]));
    let args =
        ["compare", "small.toml", "--policy", "qemu-default", "--policy", "out/policy.toml", "--repeat", "2"];
    let told = fresh.ok(&args);
    assert!(told.contains("mine"), "{told}");
    let again: Vec<&str> = ARGS
        .iter()
        .map(|arg| match *arg {
            "out" => "again",
            "qemu-default" => "out/policy.toml",
            arg => arg,
        })
        .collect();
    fresh.ok(&again);
    let told = json(&fresh.read("again/tune.json"));
    let limit = told["start"]["parameters"]["downtime-limit"].as_str().expect("a text");
    assert!(fresh.read("out/policy.toml").contains(&format!("downtime-limit = \"{limit}\"")), "{limit}");
}

#[test]
fn the_same_bytes_on_one_thread_and_on_two_and_after_going_on() {
    let (one, two, parts) = (fresh(), fresh(), fresh());
    one.ok(&with(&["--jobs", "1"]));
    two.ok(&with(&["--jobs", "2"]));
    let short: Vec<&str> = ARGS.iter().map(|arg| if *arg == "4" { "2" } else { arg }).collect();
    parts.ok(&short);
    parts.ok(&with(&["--resume"]));
    for name in ["out/tune.json", "out/state.json", "out/policy.toml", "out/tune.svg"] {
        assert_eq!(one.read(name), two.read(name), "{name}");
        assert_eq!(one.read(name), parts.read(name), "{name}");
    }
}

#[test]
fn json_on_standard_output_is_the_file() {
    let fresh = fresh();
    assert_eq!(fresh.ok(&with(&["--format", "json"])), fresh.read("out/tune.json"));
}

fn refused(fresh: &Fresh, args: &[&str], told: &str) {
    let Ended { code, out, err } = fresh.run(args);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}: {err}");
    assert!(err.contains(told), "{args:?}: {err}");
}

#[test]
fn bad_input_is_refused_by_name_and_nothing_is_written() {
    let fresh = fresh();
    for (more, told) in [
        (&["--range", "downtime-limt=1s..2s"][..], "did you mean `downtime-limit`?"),
        (&["--range", "downtime-limit=2s..1s"], "cannot be searched through `2s..1s`: expected FROM..TO"),
        (&["--range", "downtime-limit=1s..1s"], "FROM less than TO"),
        (&["--fix", "downtime-limit=soon"], "`downtime-limit` cannot be `soon`"),
        (&["--fix", "downtime-limit"], "`qemu-default` has no parameter left to search"),
        (&["--minimise", "downtme"], "did you mean `downtime`?"),
        (
            &["--fix", "soft-factor", "--range", "soft-factor=1..2"],
            "`soft-factor` can be left at a value or be searched",
        ),
        (&["--over", "web", "--hold-out", "web"], "`web` is searched on and cannot be held out"),
        (&["--choose", "best"], "expected knee, better, a number from 1 or min:OBJECTIVE"),
        (&["--over", "nothing.toml"], "nothing.toml"),
        (&["--resume", "--force"], "cannot be used with"),
    ] {
        refused(&fresh, &with(more), told);
    }
    refused(&fresh, &["tune", "nova", "--population", "3"], "from 4 to 10000");
    refused(&fresh, &["tune", "kubevirt-stal"], "did you mean `kubevirt-stall`?");
    assert_eq!(fresh.names(), ["other.toml", "small.toml"]);
}

#[test]
fn a_state_is_neither_overwritten_nor_taken_for_another_search() {
    let fresh = fresh();
    fresh.ok(ARGS);
    let before = fresh.read("out/state.json");
    refused(&fresh, ARGS, "out holds the state of a search; --resume goes on with it, --force begins anew");
    refused(&fresh, &with(&["--resume", "--seed", "7"]), "is of another search: its seed is `0`, not `7`");
    refused(&fresh, &with(&["--resume", "--range", "downtime-limit=1s..2s"]), "its ranges is");
    assert_eq!(fresh.read("out/state.json"), before);
    fresh.write("out/state.json", &before[..before.len() / 2]);
    refused(&fresh, &with(&["--resume"]), "is not the state of a search");
    fresh.ok(&with(&["--force"]));
    assert_eq!(fresh.read("out/state.json"), before);
}

#[test]
fn a_file_that_no_search_wrote_is_not_overwritten() {
    let fresh = fresh();
    fresh.write("policy.toml", "mine");
    let here: Vec<&str> = ARGS.iter().map(|arg| if *arg == "out" { "." } else { arg }).collect();
    refused(&fresh, &here, ". holds `policy.toml`, and no search of which there is a state wrote it");
    assert_eq!(fresh.read("policy.toml"), "mine");
    assert_eq!(fresh.names(), ["other.toml", "policy.toml", "small.toml"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_the_finished_generations() {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    let fresh = fresh();
    let endless: Vec<&str> = ARGS.iter().map(|arg| if *arg == "4" { "900000" } else { arg }).collect();
    let child =
        fresh.command(&endless).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let started = Instant::now();
    while !fresh.path("out/state.json").exists() {
        assert!(started.elapsed() < Duration::from_mins(2), "no generation was finished");
        std::thread::sleep(Duration::from_millis(20));
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
    let ended = child.wait_with_output().expect("ends");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{told}");
    assert!(told.contains("of 900000 generations are kept in out/state.json; --resume goes on"), "{told}");
    let mut names = fresh.names();
    names.retain(|name| name.starts_with("out/"));
    assert_eq!(names, ["out/state.json"]);
}
