//! The simulator against migrations that were measured on real QEMU.

use std::path::PathBuf;

use whimbrel_lab::validate::profile::{BUILTIN, HostProfile};
use whimbrel_lab::validate::{Validation, validate};

fn reference(names: &[&str]) -> Validation {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../reference/qemu"));
    let files: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    sampled(&files, 12)
}

fn sampled(files: &[PathBuf], samples: u32) -> Validation {
    validate(files, &HostProfile::load(BUILTIN.0).unwrap(), samples).unwrap()
}

fn within(name: &str, value: Option<f64>, goal: f64) {
    let value = value.unwrap();
    assert!(value <= goal, "{name}: {value} is beyond {goal}");
}

#[test]
fn plain_pre_copy_runs_are_predicted_within_the_goals() {
    let found = reference(&["precopy.jsonl", "repeats.jsonl"]);
    assert_eq!((found.runs, found.skipped.len()), (72, 0));
    within("total time, median", found.errors.total_time.median, 0.005);
    within("total time, p90", found.errors.total_time.p90, 0.02);
    within("sent bytes, median", found.errors.sent_bytes.median, 0.002);
    within("sent bytes, p90", found.errors.sent_bytes.p90, 0.015);
    within("downtime, median", found.errors.downtime.median, 0.055);
    assert!(found.downtime_near >= 0.93, "downtime near: {}", found.downtime_near);
    assert!(found.rounds_exact >= 0.65, "rounds exact: {}", found.rounds_exact);
    assert!(found.rounds_near >= 0.94, "rounds near: {}", found.rounds_near);
    assert!(found.verdict_wrong <= 1, "{} verdicts are wrong", found.verdict_wrong);
}

/// multifd, xbzrle, auto-converge, post-copy, return path, Unix sockets, prepared destinations.
#[test]
fn runs_with_features_are_predicted_within_the_goals() {
    let found = reference(&["features.jsonl", "extra.jsonl"]);
    assert_eq!((found.runs, found.skipped.len()), (33, 0));
    within("total time, median", found.errors.total_time.median, 0.06);
    within("sent bytes, median", found.errors.sent_bytes.median, 0.06);
    within("silence, median", found.errors.silence.median, 0.15);
    // Nearer than the goals, and to stay so.
    within("total time, median", found.errors.total_time.median, 0.02);
    within("sent bytes, p90", found.errors.sent_bytes.p90, 0.02);
    assert!(found.verdict_wrong <= 1, "{} verdicts are wrong", found.verdict_wrong);
}

/// QEMU's own figure says 1 ms; the heartbeat was away for one to two seconds.
#[test]
fn the_silence_of_post_copy_is_seconds_and_within_the_goal_in_every_run() {
    let found = reference(&["features.jsonl"]);
    let post_copy: Vec<_> = found.per_run.iter().filter(|run| run.name.contains("postcopy")).collect();
    assert_eq!(post_copy.len(), 4);
    for run in post_copy {
        let (measured, predicted) = (run.measured.silence_ms.unwrap(), run.predicted.silence_ms.unwrap());
        let off = predicted / measured - 1.0;
        assert!(off.abs() <= 0.15, "{}: {measured} ms measured, {predicted} ms predicted", run.name);
        let (measured, predicted) = (run.measured.total_ms.unwrap(), run.predicted.total_ms.unwrap());
        assert!((predicted / measured - 1.0).abs() < 0.01, "{}: {measured} {predicted}", run.name);
    }
}

/// Programs of which there is a curve: sampled outcomes, whose intervals hold what was measured about as often as
/// they say, and are no wider than that takes.
#[test]
fn runs_of_programs_are_sampled_and_their_intervals_hold_what_they_say() {
    let file =
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../reference/qemu/programs/results.jsonl"));
    let found = sampled(&[file], 40);
    assert_eq!((found.runs, found.skipped.len()), (0, 0));
    let programs = found.programs.expect("runs of programs");
    assert_eq!(programs.configurations.len(), 15);
    assert_eq!(programs.configurations.iter().map(|one| one.measured.len()).sum::<usize>(), 30);
    assert_eq!(programs.verdict_wrong, 0);
    assert!(programs.brier < 0.01, "{}", programs.brier);
    within("total time, median", programs.errors.total_time.median, 0.012);
    within("total time, p90", programs.errors.total_time.p90, 0.05);
    within("sent bytes, median", programs.errors.sent_bytes.median, 0.012);
    within("downtime, median", programs.errors.downtime.median, 0.1);
    within("silence, median", programs.errors.silence.median, 0.06);
    let (inside, wide) = (&programs.coverage, &programs.widths);
    // Of 24 runs: each figure by itself says little, all of them together more.
    for (name, inside, width, most) in [
        ("total time", inside.total_time, wide.total_time, 0.09),
        ("sent bytes", inside.sent_bytes, wide.sent_bytes, 0.09),
        ("downtime", inside.downtime, wide.downtime, 0.35),
        ("silence", inside.silence, wide.silence, 0.25),
    ] {
        assert!(inside >= 0.75, "{name}: {inside}");
        assert!(width > 0.02 && width < most, "{name}: {width}");
    }
    let all = (inside.total_time + inside.sent_bytes + inside.downtime + inside.silence) / 4.0;
    assert!((0.84..=0.96).contains(&all), "{all}");
    let never = programs.configurations.iter().filter(|one| !one.measured[0].converged);
    assert_eq!(never.filter(|one| one.convergence < 0.5).count(), 3);
}

/// No model of its writes, no prediction; the reason names the file that is missing.
#[test]
fn programs_without_a_curve_are_skipped_with_a_reason() {
    let folder = std::env::temp_dir().join(format!("whimbrel-no-curves-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../../reference/qemu/programs");
    let file = folder.join("results.jsonl");
    std::fs::copy(format!("{source}/results.jsonl"), &file).unwrap();
    let skipped = |reason: &str| {
        let found = validate(&[&file], &HostProfile::load(BUILTIN.0).unwrap(), 1).unwrap();
        assert!(found.programs.is_none());
        assert_eq!(found.skipped.len(), 30);
        assert!(
            found.skipped.iter().all(|skipped| skipped.reason.ends_with(reason)),
            "{:?}",
            found.skipped[0]
        );
    };
    skipped("of which `curves.jsonl` beside it has no curve");
    std::fs::copy(format!("{source}/curves.jsonl"), folder.join("curves.jsonl")).unwrap();
    skipped("what it had to send is not in `ready.jsonl` beside it");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Of a program's runs, only the configuration reaches the prediction.
#[test]
fn what_was_measured_of_a_program_does_not_reach_its_prediction() {
    let folder = std::env::temp_dir().join(format!("whimbrel-blind-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../../reference/qemu/programs");
    for name in ["curves.jsonl", "ready.jsonl"] {
        std::fs::copy(format!("{source}/{name}"), folder.join(name)).unwrap();
    }
    let text = std::fs::read_to_string(format!("{source}/results.jsonl")).unwrap();
    let mut runs: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    runs.retain(|run| run["cfg"]["name"].as_str().unwrap().contains("link64-dl1000"));
    let sampled = |blind: bool| {
        let line = |run: &serde_json::Value| {
            let told = serde_json::json!({ "cfg": run["cfg"], "result": { "converged": true } });
            (if blind { told } else { run.clone() }).to_string() + "\n"
        };
        let file = folder.join("results.jsonl");
        std::fs::write(&file, runs.iter().map(line).collect::<String>()).unwrap();
        validate(&[&file], &HostProfile::load(BUILTIN.0).unwrap(), 5)
            .unwrap()
            .programs
            .unwrap()
            .configurations
    };
    let (blind, seeing) = (sampled(true), sampled(false));
    assert_eq!(blind.len(), 2);
    for (one, other) in blind.iter().zip(&seeing) {
        assert_eq!(
            (one.total_ms, one.sent_bytes, one.rounds),
            (other.total_ms, other.sent_bytes, other.rounds)
        );
        assert!(one.total_ms.is_some());
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_was_measured_does_not_reach_the_prediction() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../reference/qemu/repeats.jsonl");
    let text = std::fs::read_to_string(folder).unwrap();
    let mut stripped = String::new();
    for line in text.lines() {
        let mut run: serde_json::Value = serde_json::from_str(line).unwrap();
        let cfg = run["cfg"].take();
        stripped += &serde_json::json!({ "cfg": cfg, "result": { "converged": true } }).to_string();
        stripped += "\n";
    }
    let file = std::env::temp_dir().join(format!("whimbrel-stripped-{}.jsonl", std::process::id()));
    std::fs::write(&file, stripped).unwrap();
    let blind = validate(&[&file], &HostProfile::load(BUILTIN.0).unwrap(), 12).unwrap();
    std::fs::remove_file(&file).unwrap();
    let seeing = reference(&["repeats.jsonl"]);
    assert_eq!(blind.runs, seeing.runs);
    for (one, other) in blind.per_run.iter().zip(&seeing.per_run) {
        assert_eq!(one.predicted, other.predicted);
    }
}
