use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use whimbrel_sim::simulate;

use super::batch::Batches;
use super::values::Values;
use super::variants::Variants;
use super::*;
use crate::result::MigrationRecord;
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
    let options =
        Options { jobs: NonZeroUsize::new(jobs), stop: &AtomicBool::new(false), after_runs: &|_| {} };
    let tables = Tables { format, rounds, ..Tables::default() };
    let mut results = ResultDir::open(dir, &scenario, &grid, tables, Begin::New).expect("open");
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
        assert_eq!(cell.sent_bytes, Spread { median: Some(sent[5]), p90: Some(sent[9]), levels: None });
        assert_eq!(cell.outcomes.iter().map(|(_, count)| count).sum::<u32>(), cell.runs);
    }
    let policies: Vec<_> =
        finished.policies.iter().map(|policy| (policy.policy.as_str(), policy.runs)).collect();
    assert_eq!(policies, [("qemu-default", 66), ("xen-5", 66)]);
}

/// Runs a sweep until so many runs were begun, from wherever it is; none: to its end, and publishes it.
fn part(dir: &Path, begin: Begin, tables: Tables, jobs: usize, until: Option<u64>) -> Finished {
    part_of(SMALL, dir, begin, tables, jobs, until)
}

fn part_of(
    text: &str,
    dir: &Path,
    begin: Begin,
    tables: Tables,
    jobs: usize,
    until: Option<u64>,
) -> Finished {
    let scenario = Scenario::parse(text, "small.toml").expect("scenario");
    let grid = scenario.grid().expect("grid");
    let (stop, runs) = (AtomicBool::new(false), AtomicU64::new(0));
    let after_runs = |made| {
        let made = runs.fetch_add(made, Ordering::Relaxed) + made;
        stop.fetch_or(until.is_some_and(|until| made >= until), Ordering::Relaxed);
    };
    let options = Options { jobs: NonZeroUsize::new(jobs), stop: &stop, after_runs: &after_runs };
    let mut results = ResultDir::open(dir, &scenario, &grid, tables, begin).expect("open");
    let finished = run(&grid, &options, &mut results).expect("run");
    match until {
        None => drop(results.publish(&scenario, &grid, &finished).expect("publish")),
        Some(_) => drop(results.publish(&scenario, &grid, &finished).expect_err("not complete")),
    }
    finished
}

#[test]
fn a_stopped_sweep_keeps_its_runs_and_ends_as_if_it_had_not_been_stopped() {
    let all = [
        Tables::default(),
        Tables { rounds: true, format: Format::Csv, ..Tables::default() },
        Tables { summary: true, ..Tables::default() },
    ];
    for (index, tables) in all.into_iter().enumerate() {
        let (whole, cut) = (fresh(&format!("whole-{index}")), fresh(&format!("cut-{index}")));
        let uncut = part(&whole, Begin::New, tables, 3, None);
        let first = part(&cut, Begin::New, tables, 3, Some(20));
        assert!((20..132).contains(&first.runs), "{}", first.runs);
        assert!(cut.join("unfinished").is_dir() && !cut.join("cells.jsonl").exists());
        // Within a cell, at its last run, and without a run more.
        let mut runs = first.runs;
        for until in [1, 1, 7, 2, 30] {
            let next = part(&cut, Begin::Resume, tables, 2, Some(until));
            assert!(next.runs >= runs + until, "{} after {runs}", next.runs);
            runs = next.runs;
        }
        let last = part(&cut, Begin::Resume, tables, 1, None);
        assert_eq!((last.runs, last.cells, last.policies), (uncut.runs, uncut.cells, uncut.policies));
        assert!(contents(&cut) == contents(&whole), "{tables:?}");
        assert!(contents(&cut).len() >= 4);
    }
}

/// Batches of fluid runs hold several cells, or a part of one.
#[test]
fn cells_are_whole_wherever_batches_begin_and_a_sweep_is_cut() {
    for (repeat, until) in [(1, 9), (3, 20), (300, 1), (300, 700)] {
        let text = SMALL.replace("repeat = 11", &format!("repeat = {repeat}\nfidelity = \"fluid\""));
        let text = text.replace("steps = 3", "steps = 5");
        for tables in [Tables::default(), Tables { summary: true, ..Tables::default() }] {
            let (whole, cut) = (fresh("whole-cells"), fresh("cut-cells"));
            let uncut = part_of(&text, &whole, Begin::New, tables, 1, None);
            assert_eq!((uncut.runs, uncut.cells.len()), (20 * repeat, 20));
            assert!(uncut.cells.iter().zip(0..).all(|(cell, number)| cell.cell == number));
            assert!(uncut.cells.iter().all(|cell| u64::from(cell.runs) == repeat));
            let first = part_of(&text, &cut, Begin::New, tables, 2, Some(until));
            assert!((until..uncut.runs).contains(&first.runs), "{}", first.runs);
            let last = part_of(&text, &cut, Begin::Resume, tables, 3, None);
            assert_eq!((last.runs, last.cells, last.policies), (uncut.runs, uncut.cells, uncut.policies));
            assert!(contents(&cut) == contents(&whole), "{repeat} {tables:?}");
        }
    }
}

#[test]
fn what_was_written_after_the_last_note_is_made_again() {
    let (whole, cut) = (fresh("noted"), fresh("torn"));
    let tables = Tables { rounds: true, ..Tables::default() };
    part(&whole, Begin::New, tables, 2, None);
    part(&cut, Begin::New, tables, 2, Some(30));
    // Rows that were half on their way when the power went.
    for file in ["migrations.jsonl", "rounds.jsonl", "cells", "open-cell"] {
        let path = cut.join("unfinished").join(file);
        let mut bytes = fs::read(&path).expect("read");
        bytes.extend_from_slice(b"{\"schema\":1,\"cel");
        fs::write(&path, bytes).expect("write");
    }
    part(&cut, Begin::Resume, tables, 2, None);
    assert!(contents(&cut) == contents(&whole));
}

#[test]
fn a_sweep_that_was_cut_while_its_results_took_their_place_is_completed() {
    let (whole, cut) = (fresh("placed"), fresh("placing"));
    part(&whole, Begin::New, Tables::default(), 2, None);
    let scenario = Scenario::parse(SMALL, "small.toml").expect("scenario");
    let grid = scenario.grid().expect("grid");
    let mut results = ResultDir::open(&cut, &scenario, &grid, Tables::default(), Begin::New).expect("open");
    let options = Options { jobs: None, stop: &AtomicBool::new(false), after_runs: &|_| {} };
    run(&grid, &options, &mut results).expect("run");
    drop(results);
    fs::rename(cut.join("unfinished/migrations.jsonl"), cut.join("migrations.jsonl")).expect("rename");
    part(&cut, Begin::Resume, Tables::default(), 2, None);
    assert!(contents(&cut) == contents(&whole));
}

#[test]
fn only_the_same_sweep_is_gone_on_with() {
    let dir = fresh("same");
    let refused = |text: &str, tables, begin| {
        let scenario = Scenario::parse(text, "small.toml").expect("scenario");
        let grid = scenario.grid().expect("grid");
        ResultDir::open(&dir, &scenario, &grid, tables, begin).expect_err("refused").to_string()
    };
    let tables = Tables::default();
    assert!(refused(SMALL, tables, Begin::Resume).contains("holds no sweep that is not finished"));
    part(&dir, Begin::New, tables, 2, Some(5));
    assert!(refused(SMALL, tables, Begin::New).contains("go on with it by --resume"));
    let other = refused(&SMALL.replace("8MiB", "16MiB"), tables, Begin::Resume);
    assert!(
        other.contains(
            "another scenario: `guest.memory = \"8MiB\"` was there, now `guest.memory = \"16MiB\"`"
        ),
        "{other}"
    );
    let seed = refused(&SMALL.replace("[run]", "[run]\nseed = 7"), tables, Begin::Resume);
    assert!(seed.contains("`run.seed = 0` was there, now `run.seed = 7`"), "{seed}");
    let csv = Tables { format: Format::Csv, ..tables };
    assert!(refused(SMALL, csv, Begin::Resume).contains("its format is jsonl, not csv"));
    assert!(
        refused(SMALL, Tables { rounds: true, ..tables }, Begin::Resume).contains("begun without --rounds")
    );
    assert!(
        refused(SMALL, Tables { summary: true, ..tables }, Begin::Resume).contains("begun without --summary")
    );
    let path = dir.join("unfinished/sweep.json");
    let text = fs::read_to_string(&path).expect("read");
    fs::write(&path, text.replace(env!("CARGO_PKG_VERSION"), "0.0.1")).expect("write");
    assert!(refused(SMALL, tables, Begin::Resume).contains("begun by version 0.0.1, this is"));
    fs::write(&path, &text).expect("write");
    let rows = dir.join("unfinished/migrations.jsonl");
    fs::write(&rows, "").expect("write");
    assert!(
        refused(SMALL, tables, Begin::Resume)
            .contains("migrations.jsonl is damaged, 0 bytes long in place of")
    );
    // Given up.
    part(&dir, Begin::Anyway, tables, 2, None);
    assert!(!dir.join("unfinished").exists());
}

#[test]
fn a_sweep_that_runs_is_not_gone_on_with() {
    let dir = fresh("running");
    let scenario = Scenario::parse(SMALL, "small.toml").expect("scenario");
    let grid = scenario.grid().expect("grid");
    let running = ResultDir::open(&dir, &scenario, &grid, Tables::default(), Begin::New).expect("open");
    let error =
        ResultDir::open(&dir, &scenario, &grid, Tables::default(), Begin::Resume).expect_err("running");
    assert!(error.to_string().contains("is running"), "{error}");
    drop(running);
}

#[test]
fn a_cell_put_together_from_parts_is_the_cell_of_the_scenario() {
    let text = SMALL.replace("[sweep]", "[sweep]\n\"run.time-limit\" = [\"20s\", \"30s\"]\n\"host.page-cost\" = [\"1us\", \"2us\"]\n\"run.seed\" = [3, 9]");
    let text =
        text + "\"policy.downtime-limit\" = [\"100ms\", \"1s\"]\n\"guest.memory\" = [\"8MiB\", \"16MiB\"]\n";
    let grid =
        Scenario::parse(&text.replace("xen-5", "cloud-hypervisor"), "parts.toml").and_then(|one| one.grid());
    let grid = grid.expect("grid");
    let variants = Variants::of(&grid);
    let mut bench = None;
    // Forwards, and again in an order in which each part changes against each other.
    let there = 0..grid.cells();
    let back = (0..grid.cells()).map(|cell| cell * 37 % grid.cells());
    for cell in there.chain(back) {
        variants.set_up(cell, &mut bench).expect("a cell");
        let setup = grid.cell(cell).expect("a cell").setup;
        let bench = bench.as_ref().expect("a bench");
        assert_eq!(bench.seed_of(5), setup.run.seed_of(5));
        let mut made = simulation(&setup, 0).expect("policy");
        made.seed = bench.simulation.seed;
        assert_eq!(format!("{:?}", bench.simulation), format!("{made:?}"), "cell {cell}");
    }
}

#[test]
fn numbers_of_a_run_are_those_of_its_record() {
    let scenario = Scenario::parse(SMALL, "small.toml").expect("scenario");
    let run = simulate(&simulation(scenario.setup(), 3).expect("policy")).expect("run");
    let (values, record) = (Values::of(&run), MigrationRecord::of(&run, 3));
    assert_eq!(values.outcome.as_str(), record.outcome);
    assert_eq!(
        [values.total_ms, values.downtime_ms, values.sent_bytes, values.rounds, values.disruption_vcpu_s]
            .map(f64::to_bits),
        [
            record.total_ms,
            record.downtime_ms,
            record.sent_bytes as f64,
            record.rounds as f64,
            record.disruption_vcpu_s
        ]
        .map(f64::to_bits)
    );
}

#[test]
fn a_summary_keeps_percentiles_by_cell_and_by_policy_and_no_rows() {
    let dir = fresh("summary");
    let tables = Tables { summary: true, ..Tables::default() };
    let finished = part(&dir, Begin::New, tables, 2, None);
    let names: Vec<_> = contents(&dir).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["cells.jsonl", "policies.jsonl", "report.html", "scenario.toml"]);
    let rows = |name: &str| -> Vec<serde_json::Value> {
        let text = fs::read_to_string(dir.join(name)).expect("read");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let (cells, policies) = (rows("cells.jsonl"), rows("policies.jsonl"));
    assert_eq!((cells.len(), policies.len()), (12, 2));
    for row in cells.iter().chain(&policies) {
        let sent = &row["sent_bytes"];
        let levels: Vec<f64> = ["p5", "p25", "median", "p75", "p90", "p95", "p99"]
            .iter()
            .map(|name| sent[*name].as_f64().expect("a number"))
            .collect();
        assert!(levels.windows(2).all(|pair| pair[0] <= pair[1]), "{row}");
    }
    assert_eq!(policies[0]["total_ms"]["median"].as_f64(), finished.policies[0].total_ms);
}

#[test]
fn a_sweep_that_is_given_up_leaves_no_directory() {
    let dir = fresh("given-up");
    let scenario = Scenario::parse(SMALL, "small.toml").expect("scenario");
    let grid = scenario.grid().expect("grid");
    let tables = Tables { rounds: true, ..Tables::default() };
    let results = ResultDir::open(&dir.join("a/b"), &scenario, &grid, tables, Begin::New).expect("open");
    assert!(dir.join("a/b").is_dir());
    drop(results);
    assert!(!dir.exists());
}

#[test]
fn files_of_other_origin_are_not_overwritten_unless_told() {
    let dir = fresh("foreign");
    fs::create_dir_all(&dir).expect("directory");
    fs::write(dir.join("scenario.toml"), "[guest]").expect("write");
    let scenario = Scenario::parse(SMALL, "small.toml").expect("scenario");
    let grid = scenario.grid().expect("grid");
    let error = ResultDir::open(&dir, &scenario, &grid, Tables::default(), Begin::New).expect_err("foreign");
    assert!(error.to_string().contains("`scenario.toml` was not written by a sweep"), "{error}");
    ResultDir::open(&dir, &scenario, &grid, Tables::default(), Begin::Anyway).expect("forced");
    // Nothing was run, so nothing is kept.
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
    let options = Options { jobs: None, stop: &AtomicBool::new(false), after_runs: &|_| {} };
    let mut results =
        ResultDir::open(&second, &scenario, &grid, Tables::default(), Begin::New).expect("open");
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

#[test]
fn a_summary_of_fluid_runs_has_the_figures_that_their_rows_have() {
    let text = SMALL
        .replace("8MiB", "64MiB")
        .replace("4MiB", "32MiB")
        .replace("[run]\nrepeat = 11", "[run]\nfidelity = \"fluid\"");
    let scenario = Scenario::parse(&text, "fluid.toml").expect("scenario");
    let grid = scenario.grid().expect("grid");
    let variants = Variants::of(&grid);
    let (mut bench, mut rounds) = (None, 0.0);
    for cell in 0..grid.cells() {
        variants.set_up(cell, &mut bench).expect("set up");
        let bench = bench.as_mut().expect("set up");
        let row = Values::of(&simulate(&bench.simulation).expect("run"));
        assert_eq!(Batches::values(bench).expect("run"), row, "cell {cell}");
        rounds += row.rounds;
    }
    assert!(rounds > 2.0 * grid.cells() as f64, "{rounds}");
}
