use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::scenario::Scenario;

const SMALL: &str = "
[guest]
memory = \"8MiB\"
[[guest.writers]]
working-set = \"4MiB\"
rate = 100
[run]
repeat = 11
time-limit = \"30s\"
[sweep]
\"policy.preset\" = [\"qemu-default\", \"xen-5\"]
\"link.bandwidth\" = [\"10Mbit/s\", \"1Gbit/s\"]
\"guest.writers.0.rate\" = { from = 10, to = 100000, steps = 3, scale = \"log\" }
";

fn fresh(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("whimbrel-sweep-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    dir
}

fn sweep(dir: &Path, jobs: usize, format: Format, rounds: bool) -> Finished {
    let scenario = Scenario::parse(SMALL, "small.toml").expect("scenario");
    let grid = scenario.grid().expect("grid");
    let options = Options { jobs: NonZeroUsize::new(jobs), stop: &AtomicBool::new(false), after_run: &|| {} };
    let mut results = ResultDir::open(dir, &grid, format, rounds, false).expect("open");
    let finished = run(&grid, &options, &mut results).expect("run");
    results.publish(&scenario, &grid, &finished).expect("publish");
    finished
}

fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .expect("directory")
        .map(|entry| entry.expect("entry").path())
        .map(|path| {
            (path.file_name().expect("name").to_string_lossy().into_owned(), fs::read(&path).expect("read"))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn the_files_have_the_same_bytes_on_one_thread_and_on_many() {
    for format in [Format::JsonLines, Format::Csv] {
        let (one, many) = (fresh("one"), fresh("many"));
        sweep(&one, 1, format, true);
        sweep(&many, 5, format, true);
        assert_eq!(contents(&one).len(), 5);
        assert!(contents(&one) == contents(&many), "{format:?}");
    }
}

#[test]
fn a_row_can_be_run_again_alone() {
    let dir = fresh("again");
    sweep(&dir, 2, Format::JsonLines, false);
    let rows = fs::read_to_string(dir.join("migrations.jsonl")).expect("read");
    for line in rows.lines().step_by(17) {
        let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let mut scenario = Scenario::parse(SMALL, "small.toml").expect("scenario");
        let axes = row["axes"].as_object().expect("axes");
        let overrides: Vec<_> =
            axes.iter().map(|(key, value)| format!("{key}={}", value.as_str().expect("text"))).collect();
        scenario.apply_overrides(&overrides).expect("overrides");
        let seed = row["seed"].as_u64().expect("seed");
        let run = simulate(&simulation(scenario.setup(), seed).expect("policy")).expect("run");
        let record = MigrationRecord::of(&run, seed);
        assert_eq!(row["total_ms"].as_f64(), Some(record.total_ms), "{line}");
        assert_eq!(row["sent_bytes"].as_u64(), Some(record.sent_bytes), "{line}");
        assert_eq!(row["rounds"].as_u64(), Some(record.rounds as u64), "{line}");
    }
}

#[test]
fn every_row_of_a_csv_table_has_as_many_fields_as_its_header() {
    let dir = fresh("csv");
    sweep(&dir, 2, Format::Csv, true);
    for name in ["migrations.csv", "rounds.csv", "cells.csv"] {
        let text = fs::read_to_string(dir.join(name)).expect("read");
        // Outside of quotes.
        let fields =
            |line: &str| line.split('"').step_by(2).map(|part| part.matches(',').count()).sum::<usize>();
        let header = text.lines().next().expect("a header");
        assert!(text.lines().count() > 1, "{name}");
        for line in text.lines() {
            assert_eq!(fields(line), fields(header), "{name}: {line}");
        }
    }
}

#[test]
fn a_cell_sums_up_its_own_runs() {
    let dir = fresh("cells");
    let finished = sweep(&dir, 2, Format::JsonLines, false);
    assert_eq!((finished.runs, finished.planned), (132, 132));
    assert_eq!(finished.cells.iter().map(|cell| cell.cell).collect::<Vec<_>>(), (0..12).collect::<Vec<_>>());
    let rows: Vec<serde_json::Value> = fs::read_to_string(dir.join("migrations.jsonl"))
        .expect("read")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    for cell in &finished.cells {
        let mut sent: Vec<f64> = rows
            .iter()
            .filter(|row| row["cell"] == cell.cell)
            .filter_map(|row| row["sent_bytes"].as_f64())
            .collect();
        sent.sort_by(f64::total_cmp);
        assert_eq!(sent.len(), 11);
        // Of eleven, the sixth and the tenth.
        assert_eq!(cell.sent_bytes, Spread { median: Some(sent[5]), p90: Some(sent[9]) });
        assert_eq!(cell.outcomes.iter().map(|(_, count)| count).sum::<u32>(), cell.runs);
    }
    let policies: Vec<_> =
        finished.policies.iter().map(|policy| (policy.policy.as_str(), policy.runs)).collect();
    assert_eq!(policies, [("qemu-default", 66), ("xen-5", 66)]);
}

#[test]
fn a_stopped_sweep_keeps_the_runs_that_were_finished() {
    let dir = fresh("stopped");
    let scenario = Scenario::parse(SMALL, "small.toml").expect("scenario");
    let grid = scenario.grid().expect("grid");
    let (stop, runs) = (AtomicBool::new(false), AtomicU64::new(0));
    let after_run = || {
        if runs.fetch_add(1, Ordering::Relaxed) == 20 {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let options = Options { jobs: NonZeroUsize::new(3), stop: &stop, after_run: &after_run };
    let mut results = ResultDir::open(&dir, &grid, Format::JsonLines, false, false).expect("open");
    let finished = run(&grid, &options, &mut results).expect("run");
    results.publish(&scenario, &grid, &finished).expect("publish");
    assert_eq!(finished.runs, runs.load(Ordering::Relaxed));
    assert!(finished.runs < finished.planned);
    let rows = fs::read_to_string(dir.join("migrations.jsonl")).expect("read");
    assert_eq!(rows.lines().count() as u64, finished.runs);
}

#[test]
fn a_sweep_that_is_given_up_leaves_no_directory() {
    let dir = fresh("given-up");
    let grid = Scenario::parse(SMALL, "small.toml").expect("scenario").grid().expect("grid");
    let results = ResultDir::open(&dir.join("a/b"), &grid, Format::JsonLines, true, false).expect("open");
    assert!(dir.join("a/b").is_dir());
    drop(results);
    assert!(!dir.exists());
}

#[test]
fn files_of_other_origin_are_not_overwritten_unless_told() {
    let dir = fresh("foreign");
    fs::create_dir_all(&dir).expect("directory");
    fs::write(dir.join("scenario.toml"), "[guest]").expect("write");
    let grid = Scenario::parse(SMALL, "small.toml").expect("scenario").grid().expect("grid");
    let error = ResultDir::open(&dir, &grid, Format::JsonLines, false, false).expect_err("foreign");
    assert!(error.to_string().contains("`scenario.toml` was not written by a sweep"), "{error}");
    ResultDir::open(&dir, &grid, Format::JsonLines, false, true).expect("forced");
    assert_eq!(contents(&dir).len(), 1);
}

#[test]
fn an_earlier_sweep_is_replaced_as_a_whole() {
    let dir = fresh("replaced");
    sweep(&dir, 2, Format::Csv, true);
    fs::write(dir.join("notes.txt"), "mine").expect("write");
    sweep(&dir, 2, Format::JsonLines, false);
    let names: Vec<_> = contents(&dir).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["cells.jsonl", "migrations.jsonl", "notes.txt", "report.html", "scenario.toml"]);
}

#[test]
fn the_scenario_beside_the_results_makes_them_again() {
    let (first, second) = (fresh("first"), fresh("second"));
    sweep(&first, 2, Format::JsonLines, false);
    let scenario = Scenario::load(first.join("scenario.toml")).expect("scenario");
    let grid = scenario.grid().expect("grid");
    let options = Options { jobs: None, stop: &AtomicBool::new(false), after_run: &|| {} };
    let mut results = ResultDir::open(&second, &grid, Format::JsonLines, false, false).expect("open");
    let finished = run(&grid, &options, &mut results).expect("run");
    results.publish(&scenario, &grid, &finished).expect("publish");
    assert!(contents(&first) == contents(&second));
}

#[test]
fn percentiles_are_nearest_ranks() {
    let ten: Vec<f64> = (1..=10).map(f64::from).collect();
    assert_eq!(nearest_rank(&ten, 0.5), Some(5.0));
    assert_eq!(nearest_rank(&ten, 0.9), Some(9.0));
    assert_eq!(nearest_rank(&[3.0], 0.9), Some(3.0));
    assert_eq!(nearest_rank(&[], 0.5), None);
}
