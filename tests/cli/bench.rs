//! `whimbrel bench`: real moves between two processes, beside their forecasts.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::interrupt::signal;
use crate::run::{Fresh, json, rows};

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
        // Each page that was found dirty cost its guest something.
        assert!(row["disruption"]["tracking_faults_vcpu_s"].as_f64().is_some_and(|lost| lost > 0.0), "{row}");
        // Sending took a processor, which the system counts in nanoseconds.
        assert!(row["encoding"]["source_cpu_s"].as_f64().is_some_and(|seconds| seconds > 0.0), "{row}");
        // All of memory went over, and took what the limit says.
        assert!(row["sent_bytes"].as_u64().is_some_and(|bytes| bytes >= 16 << 20), "{row}");
        assert!(row["total_ms"].as_f64().is_some_and(|ms| ms > 75.0), "16 MiB at 200 MB/s are 84 ms: {row}");
    }
    let beside = rows(&fresh.read("results/fidelity.jsonl"));
    assert_eq!(beside.len(), 4);
    for (row, moved) in beside.iter().zip(&moved) {
        assert_eq!(row["guest"]["exact"], true, "{row}");
        assert_eq!(row["measured"]["total_ms"], moved["total_ms"]);
        assert_eq!(row["measured"]["source_cpu_s"], moved["encoding"]["source_cpu_s"]);
        assert!(row["forecast"]["source_cpu_s"].as_f64() > Some(0.0), "{row}");
        assert_eq!(row["error"]["source_cpu"].is_number(), row["error"]["total"].is_number(), "{row}");
        assert_eq!(row["axes"]["guest.writers.0.rate"], moved["axes"]["guest.writers.0.rate"]);
        let number = |of: &Value| of.as_f64().unwrap_or_else(|| panic!("{row}"));
        // Half is far from what is promised, and what a forecast of something else would miss. A busy machine moves slower than it is
        // forecast, but never faster than the limit says.
        let ratio = |name| number(&row["forecast"][name]) / number(&row["measured"][name]);
        assert!((0.5..2.0).contains(&ratio("sent_bytes")), "{row}");
        assert!(ratio("total_ms") < 2.0 && number(&row["forecast"]["total_ms"]) > 75.0, "{row}");
        // The guest has missed all that the ledger says; nobody has measured the way of *go*, half of `transfer` at most.
        let known = number(&moved["downtime_ms"]) - number(&moved["downtime"]["transfer_ms"]) / 2.0;
        assert!(number(&row["guest"]["gap_ms"]) > known - 1e-6, "{row}\n{moved}");
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
fn with_journals_each_move_is_replayed_and_lies_beside_what_was_forecast_of_it() {
    let fresh = tiny();
    let told = fresh.ok(&["bench", "matrix.toml", "--out", "results", "--journals"]);
    assert!(told.contains("results/journals"), "{told}");
    let beside = rows(&fresh.read("results/fidelity.jsonl"));
    assert_eq!(beside.len(), 2);
    for row in &beside {
        let name = format!("results/journals/{}-{}", row["cell"], row["repetition"]);
        let journal = format!("{name}.journal");
        let replayed = fresh.ok(&["replay", &journal, "--format", "json"]);
        let replayed = json(&replayed);
        assert_eq!(replayed["same"], true, "{replayed}");
        assert_eq!(replayed["policy"]["preset"], "qemu-default");
        assert!(replayed["decisions"].as_u64().is_some_and(|count| count > 1), "{replayed}");
        // Another policy than the one that decided would have been seen.
        let other = fresh.read(&journal).replacen(
            "\"parameters\":{}",
            "\"parameters\":{\"downtime-limit\":\"1ms\"}",
            1,
        );
        fresh.write("other", &other);
        assert_eq!(fresh.run(&["replay", "other"]).code, Some(1));
        let forecast = json(&fresh.read(&format!("{name}.forecast.json")));
        for figure in ["total_ms", "sent_bytes", "downtime_ms", "outcome"] {
            assert_eq!(forecast[figure], row["forecast"][figure], "{figure}");
        }
        assert!(
            forecast["round"].as_array().is_some_and(|rounds| rounds.iter().all(|one| one["round"].is_u64()))
        );
    }
    let explained = fresh.run(&["explain", "results", "--cell", "1"]);
    assert_eq!(explained.code, Some(0), "{}", explained.err);
    for words in ["results holds real moves", "the costs in host.toml"] {
        assert!(explained.err.contains(words), "{words}: {}", explained.err);
    }
    assert!(!explained.err.contains("another version"), "{}", explained.err);
    // Those of results before these would be of other rows.
    fresh.write("results/journals/notes", "mine");
    fresh.ok(&["bench", "matrix.toml", "--out", "results", "--set", "guest.writers.0.rate=700"]);
    let left: Vec<_> = fresh.names().into_iter().filter(|name| name.contains("/journals/")).collect();
    assert_eq!(left, ["results/journals/notes"]);
    assert_eq!(fresh.read("results/journals/notes"), "mine");
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
    // Deltas, so that there is something to tell of encodings.
    let deltas = ["--set", "host.xbzrle.cache=8MiB"];
    let one = ["--set", "guest.writers.0.rate=700", "--over", "tcp", "--format", "csv", "--rounds"];
    let one = [&one[..], &deltas[..]].concat();
    fresh.ok(&[&["bench", "matrix.toml", "--out", "results"], &one[..]].concat());
    let table = fresh.read("results/fidelity.csv");
    let mut lines = table.lines();
    let names: Vec<&str> = lines.next().expect("names").split(',').collect();
    let values: Vec<&str> = lines.next().expect("a row").split(',').collect();
    assert_eq!(names.len(), values.len());
    let exact = names.iter().position(|name| *name == "guest.exact").expect("a column");
    assert_eq!(values[exact], "true");
    assert!(fresh.read("results/rounds.csv").lines().count() > 1);
    let table = fresh.read("results/migrations.csv");
    let mut lines = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let (names, values) = (lines.next().expect("names"), lines.next().expect("a row"));
    let misses = names.iter().position(|name| *name == "encoding.cache_misses").expect("a column");
    // Commas stand in reasons before it, so it is counted from the end.
    let misses = values[values.len() - (names.len() - misses)].parse::<u64>().expect("a number");
    assert!(misses > 0, "{table}");
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

fn wait_for_a_row(fresh: &Fresh, results: &str) {
    let begun = Instant::now();
    // Noted, not only written: a kill loses nothing behind that.
    let noted = || std::fs::metadata(fresh.path(results).join("unfinished/progress.json")).is_ok();
    while !noted() {
        assert!(begun.elapsed() < Duration::from_mins(2), "no row was written");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_bench_that_is_killed_loses_no_finished_move_and_goes_on() {
    let fresh = tiny();
    let args = ["bench", "matrix.toml", "--runs", "4", "--out", "results", "--rounds", "--journals"];
    let mut child = fresh.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    wait_for_a_row(&fresh, "results");
    signal("KILL", child.id());
    child.wait().expect("ends");
    let lines = |name: &str| fresh.read(name).lines().map(str::to_owned).collect::<Vec<_>>();
    let (moved, beside) =
        (lines("results/unfinished/migrations.jsonl"), lines("results/unfinished/beside.jsonl"));
    assert!((1..8).contains(&moved.len()), "{}", moved.len());
    // Another bench is not gone on with, and neither is this one begun anew by mistake.
    for (other, code, says) in [
        (&["--resume", "--set", "guest.writers.0.rate=700"][..], 2, "another scenario"),
        (
            &["--resume", "--over", "tcp"],
            2,
            "begun with --over unix --log best --memory private --journals, not --over tcp",
        ),
        (&[], 1, "go on with it by --resume"),
    ] {
        let ended = fresh.run(&[&args[..], other].concat());
        assert_eq!(ended.code, Some(code), "{other:?}: {}", ended.err);
        assert!(ended.err.contains(says), "{other:?}: {}", ended.err);
    }
    let told = fresh.ok(&[&args[..], &["--resume"]].concat());
    assert!(told.contains("8 migrations in 2 cells") && told.contains("of them made before"), "{told}");
    let all = lines("results/migrations.jsonl");
    assert_eq!(all.len(), 8);
    assert_eq!(all[..moved.len()], moved, "what was made before is as it was");
    let fidelity = rows(&fresh.read("results/fidelity.jsonl"));
    assert_eq!(fidelity.len(), 8);
    for (row, moved) in fidelity.iter().zip(&all) {
        let moved = json(moved);
        assert_eq!(row["measured"]["total_ms"], moved["total_ms"]);
        assert_eq!((&row["cell"], &row["repetition"]), (&moved["cell"], &moved["repetition"]));
    }
    let journals = fresh.names().into_iter().filter(|name| name.ends_with(".journal")).collect::<Vec<_>>();
    assert_eq!(journals.len(), 8, "{journals:?}");
    fresh.ok(&["replay", "results/journals/0-0.journal"]);
    // What moving costs was measured once.
    let ground = beside.iter().find(|line| line.contains("\"Ground\"")).expect("it was measured before");
    let ground = json(ground);
    let nanos = ground["Ground"]["costs"]["page"]["nanos"].as_u64().expect("a time");
    assert!(fresh.read("results/host.toml").contains("page-cost"));
    assert!(nanos > 0);
    assert!(!fresh.names().iter().any(|name| name.contains("unfinished") || name.contains(".bench-")));
    // The page tells runs of before in full, too.
    assert!(fresh.read("results/report.html").contains("real guests"));
    let ended = fresh.run(&[&args[..], &["--resume"]].concat());
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("nothing") || ended.err.contains("holds no"), "{}", ended.err);
}

#[test]
fn a_bench_of_several_matrices_goes_on_where_it_was_killed() {
    let fresh = tiny();
    for name in ["a.toml", "b.toml", "c.toml"] {
        fresh.write(name, TINY);
    }
    let args = ["bench", "a.toml", "b.toml", "c.toml", "--set", "guest.writers.0.rate=700", "--out", "all"];
    let args = [&args[..], &["--runs", "4"]].concat();
    let mut child = fresh.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    wait_for_a_row(&fresh, "all/b");
    signal("KILL", child.id());
    child.wait().expect("ends");
    let complete = fresh.read("all/a/migrations.jsonl");
    assert_eq!(rows(&complete).len(), 4);
    let before = fresh.read("all/b/unfinished/migrations.jsonl");
    assert!((1..4).contains(&before.lines().count()), "{before}");
    let refused = |other: &[&str], code, says: &[&str]| {
        let ended = fresh.run(&[&args[..], other].concat());
        assert_eq!(ended.code, Some(code), "{other:?}: {}", ended.err);
        assert!(says.iter().all(|says| ended.err.contains(says)), "{other:?}: {}", ended.err);
    };
    refused(&[], 1, &["cannot write results to all", "go on with it by --resume"]);
    refused(&["d.toml", "--resume"], 2, &["d.toml"]);
    refused(&["matrix.toml", "--resume"], 2, &["begun with the matrices a, b, c, not a, b, c, matrix"]);
    refused(&["--resume", "--over", "tcp"], 2, &["begun with --over unix", "not --over tcp"]);
    // The turn of the first one has passed, that of the last has not come.
    for name in ["a.toml", "c.toml"] {
        fresh.write(name, TINY.replace("200MB/s", "100MB/s"));
        let says = format!("{name} was another scenario when it was begun: `link.bandwidth = ");
        refused(&["--resume"], 2, &[&says]);
        fresh.write(name, TINY);
    }
    assert!(!fresh.path("all/c").exists(), "nothing was moved");
    let told = fresh.ok(&[&args[..], &["--resume"]].concat());
    assert!(told.contains("a\n\ncomplete before: all/a\n"), "{told}");
    assert!(told.contains("Forecasts of 12 runs,"), "those of before are summed up, too: {told}");
    assert_eq!(fresh.read("all/a/migrations.jsonl"), complete);
    let all = fresh.read("all/b/migrations.jsonl");
    assert!(all.starts_with(&before) && rows(&all).len() == 4, "what was made before is as it was");
    assert_eq!(rows(&fresh.read("all/c/fidelity.jsonl")).len(), 4);
    assert!(!fresh.names().iter().any(|name| name.contains("unfinished") || name.contains(".bench-")));
    refused(&["--resume"], 2, &["all holds no bench that is not finished"]);
}

#[test]
fn ctrl_c_keeps_the_finished_rows() {
    let fresh = tiny();
    let args = ["bench", "matrix.toml", "--runs", "1000", "--out", "results"];
    let child = fresh.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    wait_for_a_row(&fresh, "results");
    signal("INT", child.id());
    let ended = child.wait_with_output().expect("ends");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{told}");
    let count = rows(&fresh.read("results/unfinished/migrations.jsonl")).len();
    let kept = format!(
        "{count} of 2000 moves were finished and are kept in results/unfinished; the same command with --resume goes on"
    );
    assert!(count > 0 && told.contains(&kept), "{told}");
    assert_eq!(rows(&fresh.read("results/fidelity.jsonl")).len(), count);
    assert!(!fresh.names().iter().any(|name| name.contains(".bench-") || name.contains("report")));
    // The table of forecasts that it has put there already is not taken for somebody else's.
    let again = fresh.run(&args);
    assert_eq!(again.code, Some(1), "{}", again.err);
    assert!(
        again.err.contains("go on with it by --resume") && !again.err.contains("fidelity"),
        "{}",
        again.err
    );
}

/// Whoever reads only the first line has seen enough; the moves are made all the same.
#[test]
fn a_bench_of_several_matrices_goes_on_when_nobody_reads_it_any_more() {
    let fresh = tiny();
    fresh.write("other.toml", TINY);
    let args = ["bench", "matrix.toml", "other.toml", "--set", "guest.writers.0.rate=700", "--out", "all"];
    let mut child =
        fresh.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    drop(child.stdout.take());
    let ended = child.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), &*said), (Some(0), ""));
    for name in ["matrix", "other"] {
        assert_eq!(rows(&fresh.read(&format!("all/{name}/fidelity.jsonl"))).len(), 1, "{name}");
    }
    assert!(!fresh.path("all/unfinished.jsonl").exists());
}
