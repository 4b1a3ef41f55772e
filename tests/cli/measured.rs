//! Guests by measurement: in a scenario, and in `whimbrel validate`.

use crate::run::{Fresh, json};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/reference/qemu/programs");

/// A scenario in a folder of its own, with the curves beside that.
fn fresh() -> Fresh {
    let fresh = Fresh::new();
    for name in ["curves.jsonl", "ready.jsonl"] {
        fresh.write(name, std::fs::read(format!("{FOLDER}/{name}")).expect("the reference"));
    }
    std::fs::create_dir(fresh.path("of")).expect("a folder");
    fresh.write("of/idle.toml", scenario("../curves.jsonl#idle"));
    fresh
}

fn scenario(curve: &str) -> String {
    format!(
        "[guest]\nmemory = \"64MiB\"\n\n[[guest.writers]]\npattern = \"measured\"\ncurve = \"{curve}\"\nworking-set = \
         \"4MiB\"\n\n[link]\nbandwidth = \"4MiB/s\"\n\n[policy]\ndowntime-limit = \"40ms\"\n"
    )
}

#[test]
fn a_measured_guest_is_found_beside_its_scenario_and_a_seed_repeats_its_run() {
    let fresh = fresh();
    let run = |seed: &str| fresh.ok(&["simulate", "of/idle.toml", "--set", seed, "--format", "json"]);
    let told = json(&run("run.seed=1"));
    assert_eq!((told["outcome"].as_str(), told["converged"].as_bool()), (Some("completed"), Some(true)));
    // 64 MiB and what a few rounds find of the 87 pages that it writes.
    let sent = told["sent_bytes"].as_f64().expect("a count") / f64::from(1 << 20);
    assert!((64.1..65.5).contains(&sent), "{sent} MiB");
    assert_eq!(run("run.seed=1"), run("run.seed=1"));
    assert_ne!(run("run.seed=1"), run("run.seed=2"));
}

#[test]
fn a_program_that_is_not_there_is_named_with_the_key_and_those_that_are() {
    let fresh = fresh();
    for (curve, words) in [
        (
            "../curves.jsonl#mysql",
            vec!["idle.toml:6", "guest.writers.0.curve", "`mysql`", "`sqlite`, `redis`, `idle`"],
        ),
        ("../none.jsonl#idle", vec!["idle.toml:6", "none.jsonl", "No such file"]),
        ("../curves.jsonl", vec!["idle.toml:6", "names no program", "FILE#PROGRAM"]),
        ("idle.toml#idle", vec!["idle.toml:1", "not a measured program"]),
        ("none", vec!["guest.writers.0.curve", "cannot be none", "FILE#PROGRAM"]),
    ] {
        fresh.write("of/idle.toml", scenario(curve));
        let ended = fresh.run(&["simulate", "of/idle.toml"]);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{curve}");
        for word in words {
            assert!(ended.err.contains(word), "{curve}: no `{word}` in {}", ended.err);
        }
    }
}

#[test]
fn validate_samples_runs_of_programs_and_tells_what_is_likely_beside_what_was_measured() {
    let fresh = fresh();
    let lines = std::fs::read_to_string(format!("{FOLDER}/results.jsonl")).expect("the reference");
    let idle: Vec<&str> = lines.lines().filter(|line| line.contains("\"name\":\"P-idle-link128")).collect();
    assert_eq!(idle.len(), 2);
    fresh.write("results.jsonl", idle.join("\n"));
    let told = json(&fresh.ok(&["validate", "results.jsonl", "--repeat", "20", "--format", "json"]));
    assert_eq!((told["runs"].as_u64(), told["skipped"].as_array().map(Vec::len)), (Some(0), Some(0)));
    let programs = &told["programs"];
    assert_eq!((programs["samples"].as_u64(), programs["verdict_wrong"].as_u64()), (Some(20), Some(0)));
    assert!(programs["brier"].as_f64().is_some_and(|score| score < 0.01), "{programs}");
    let [one] = programs["configurations"].as_array().expect("a list").as_slice() else {
        panic!("{programs}")
    };
    assert_eq!((one["name"].as_str(), one["program"].as_str()), (Some("P-idle-link128-dl300"), Some("idle")));
    assert_eq!((one["measured"].as_array().map(Vec::len), one["convergence"].as_f64()), (Some(2), Some(1.0)));
    for name in ["total_ms", "sent_bytes", "downtime_ms", "silence_ms", "rounds"] {
        let at = |place: &str| one[name][place].as_f64().unwrap_or_else(|| panic!("{name}.{place}: {one}"));
        assert!(at("p5") <= at("median") && at("median") <= at("p95"), "{name}");
        assert!(programs["coverage"].as_object().is_some_and(|coverage| coverage.len() == 5));
    }
    assert!((one["total_ms"]["median"].as_f64().expect("a number") / 594.0 - 1.0).abs() < 0.03);

    let table = fresh.ok(&["validate", "results.jsonl", "--repeat", "20"]);
    for word in ["P-idle-link128-dl300", "2 of 2", "100.0 %", "95 %", "Brier score", "program runs"] {
        assert!(table.contains(word), "no `{word}` in\n{table}");
    }
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
}
