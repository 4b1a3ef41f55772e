//! `whimbrel bench`: real moves between two processes, beside their forecasts.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::run::Fresh;

/// Two cells.
const TINY: &str = r#"
[guest]
memory = "16MiB"

[[guest.writers]]
pattern = "uniform"
working-set = "4MiB"

[link]
bandwidth = "200MB/s"

[policy]
preset = "qemu-default"

[run]
time-limit = "20s"

[sweep]
"guest.writers.0.rate" = [500, 2000]
"#;

fn rows(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn tiny() -> Fresh {
    let fresh = Fresh::new();
    fresh.write("matrix.toml", TINY);
    fresh
}

#[test]
fn each_move_has_the_row_of_a_sweep_and_one_beside_its_forecast() {
    let fresh = tiny();
    let told = fresh.ok(&["bench", "matrix.toml", "--runs", "2", "--out", "results"]);
    assert!(told.contains("4 migrations in 2 cells") && told.contains("total time"), "{told}");
    // The names that a sweep has.
    fresh.ok(&["sweep", "matrix.toml", "--out", "swept"]);
    let keys = |row: &Value| row.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let (moved, swept) =
        (rows(&fresh.read("results/migrations.jsonl")), rows(&fresh.read("swept/migrations.jsonl")));
    assert_eq!(keys(&moved[0]), keys(&swept[0]));
    assert_eq!(moved.len(), 4);
    for (index, row) in moved.iter().enumerate() {
        assert_eq!(
            (row["cell"].as_u64(), row["repetition"].as_u64()),
            (Some(index as u64 / 2), Some(index as u64 % 2))
        );
        assert_eq!(row["outcome"], "completed", "{row}");
        // All of memory went over, and took what the limit says.
        assert!(row["sent_bytes"].as_u64().is_some_and(|bytes| bytes >= 16 << 20), "{row}");
        assert!(row["total_ms"].as_f64().is_some_and(|ms| ms > 75.0), "16 MiB at 200 MB/s are 84 ms: {row}");
    }
    let beside = rows(&fresh.read("results/fidelity.jsonl"));
    assert_eq!(beside.len(), 4);
    for (row, moved) in beside.iter().zip(&moved) {
        assert_eq!(row["guest"]["exact"], true, "{row}");
        assert_eq!(row["measured"]["total_ms"], moved["total_ms"]);
        assert_eq!(row["axes"]["guest.writers.0.rate"], moved["axes"]["guest.writers.0.rate"]);
        let number = |of: &Value| of.as_f64().unwrap_or_else(|| panic!("{row}"));
        // Half is far from what is promised, and what a forecast of something else would miss.
        for name in ["total_ms", "sent_bytes"] {
            let ratio = number(&row["forecast"][name]) / number(&row["measured"][name]);
            assert!((0.5..2.0).contains(&ratio), "{name}: {row}");
        }
        // The guest cannot have missed less than it was paused for.
        assert!(number(&row["guest"]["gap_ms"]) > 0.9 * number(&row["measured"]["downtime_ms"]), "{row}");
    }
    let page = fresh.read("results/report.html");
    assert!(page.contains("real guests") && page.contains("whimbrel bench scenario.toml"));
    let again = fresh.read("results/scenario.toml");
    assert!(again.contains("whimbrel bench scenario.toml") && again.contains("repeat = 2"), "{again}");
    let host = fresh.read("results/host.toml");
    assert!(host.contains("host.page-cost") && host.contains("link.round-trip"), "{host}");
    assert!(!fresh.names().iter().any(|name| name.contains(".bench-")), "{:?}", fresh.names());
}

#[test]
fn of_several_matrices_each_has_its_directory_and_all_runs_are_summed_up() {
    let fresh = tiny();
    fresh.write("other.toml", TINY);
    let told = fresh.ok(&[
        "bench",
        "matrix.toml",
        "other.toml",
        "--set",
        "guest.writers.0.rate=700",
        "--out",
        "all",
    ]);
    assert!(told.contains("Forecasts of 1 run,") && told.contains("Forecasts of 2 runs,"), "{told}");
    for name in ["matrix", "other"] {
        let row = &rows(&fresh.read(&format!("all/{name}/fidelity.jsonl")))[0];
        assert_eq!((row["policy"].as_str(), row["encoding"].as_str()), (Some("qemu-default"), Some("plain")));
        let page = fresh.read(&format!("all/{name}/report.html"));
        assert!(page.contains("How far forecasts held") && !page.contains("Round trip"));
    }
    let ended = fresh.run(&["bench", "matrix.toml", "./matrix.toml", "--out", "none"]);
    assert!(ended.code == Some(2) && ended.err.contains("two matrices are called `matrix`"), "{}", ended.err);
    assert!(!fresh.path("none").exists());
}

#[test]
fn csv_has_the_same_columns_and_goes_over_tcp() {
    let fresh = tiny();
    let one = ["--set", "guest.writers.0.rate=700", "--over", "tcp", "--format", "csv", "--rounds"];
    fresh.ok(&[&["bench", "matrix.toml", "--out", "results"], &one[..]].concat());
    let table = fresh.read("results/fidelity.csv");
    let mut lines = table.lines();
    let names: Vec<&str> = lines.next().expect("names").split(',').collect();
    let values: Vec<&str> = lines.next().expect("a row").split(',').collect();
    assert_eq!(names.len(), values.len());
    let exact = names.iter().position(|name| *name == "guest.exact").expect("a column");
    assert_eq!(values[exact], "true");
    assert!(fresh.read("results/rounds.csv").lines().count() > 1);
}

#[test]
fn what_cannot_be_moved_is_refused_before_anything_is_written() {
    let fresh = tiny();
    for (args, words) in [
        (&["missing.toml"][..], "missing.toml"),
        (&["--set", "policy.preset=nobody"], "nobody"),
        (&["--set", "guest.writers.0.rate=-5"], "guest.writers.0.rate"),
        (&["--set", "guest.writers.0.pattern=trace"], "guest.writers.0"),
        (&["--set", "host.streams=65"], "host.streams = 65: the engine has 1 to 64"),
        (
            &["--set", "host.compression.method=gzip", "--set", "host.compression.ratio=0.5"],
            "none, lz4, zstd, adaptive",
        ),
        (&["--set", "link.lost-at=1s"], "only simulated"),
        (&["--set", "guest.memory=8TiB"], "free on this machine"),
        (&["--runs", "0"], "accepted is a whole number from 1"),
        (&["--over", "pigeon"], "pigeon"),
    ] {
        let matrix = if args[0] == "missing.toml" { &[][..] } else { &["matrix.toml"] };
        let ended = fresh.run(&[&["bench", "--out", "results"], matrix, args].concat());
        assert_eq!(ended.code, Some(2), "{args:?}: {}{}", ended.out, ended.err);
        assert!(ended.err.contains(words), "{args:?}: {}", ended.err);
        assert!(!fresh.path("results").exists(), "{args:?}");
    }
}

#[test]
fn ctrl_c_keeps_the_finished_rows() {
    let fresh = tiny();
    let args = ["bench", "matrix.toml", "--runs", "1000", "--out", "results"];
    let child = fresh.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let begun = Instant::now();
    let grown = || {
        std::fs::metadata(fresh.path("results/unfinished/migrations.jsonl")).is_ok_and(|data| data.len() > 0)
    };
    while !grown() {
        assert!(begun.elapsed() < Duration::from_mins(2), "no row was written");
        std::thread::sleep(Duration::from_millis(20));
    }
    let status = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.expect("kill").success());
    let ended = child.wait_with_output().expect("ends");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{told}");
    let count = rows(&fresh.read("results/unfinished/migrations.jsonl")).len();
    assert!(count > 0 && told.contains(&format!("{count} of 2000 moves were finished")), "{told}");
    assert_eq!(rows(&fresh.read("results/fidelity.jsonl")).len(), count);
    assert!(!fresh.names().iter().any(|name| name.contains(".bench-") || name.contains("report")));
}
