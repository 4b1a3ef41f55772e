//! `whimbrel trace`, and a trace as a guest.

use crate::run::{Fresh, SMALL, json};

fn recorded() -> Fresh {
    let fresh = Fresh::new();
    fresh.write("guest.toml", SMALL);
    fresh.ok(&["trace", "record", "guest.toml", "--length", "5s", "--out", "guest.csv"]);
    fresh
}

/// A scenario whose guest is this trace.
fn scenario(trace: &str) -> String {
    SMALL.replace("working-set = \"8MiB\"\nrate = 500", &format!("pattern = \"trace\"\ntrace = \"{trace}\""))
}

#[test]
fn a_recorded_guest_migrates_as_the_model_and_the_same_seed_gives_the_same_trace() {
    let fresh = recorded();
    fresh.ok(&["trace", "record", "guest.toml", "--length", "5s", "--out", "again.csv"]);
    assert!(fresh.read("guest.csv") == fresh.read("again.csv"));
    fresh.ok(&["trace", "record", "guest.toml", "--length", "5s", "--seed", "1", "--out", "other.csv"]);
    assert!(fresh.read("guest.csv") != fresh.read("other.csv"));
    fresh.write("traced.toml", scenario("guest.csv"));
    let total = |scenario: &str| -> f64 {
        let text = fresh.ok(&["simulate", scenario, "--set", "link.bandwidth=50Mbit/s", "--format", "json"]);
        let run = json(&text);
        assert_eq!(run["outcome"], "completed");
        run["total_ms"].as_f64().expect("a number")
    };
    let (model, traced) = (total("guest.toml"), total("traced.toml"));
    assert!((traced / model - 1.0).abs() < 0.02, "{model} {traced}");
}

#[test]
fn a_sweep_over_traces_can_be_run_again_from_its_results() {
    let fresh = recorded();
    fresh.ok(&["trace", "record", "guest.toml", "--length", "5s", "--seed", "1", "--out", "other.jsonl"]);
    let sweep = "\n[sweep]\n\"guest.writers.0.trace\" = [\"guest.csv\", \"other.jsonl\"]\n";
    fresh.write("traced.toml", scenario("guest.csv") + sweep);
    fresh.ok(&["sweep", "traced.toml", "--out", "first"]);
    fresh.ok(&["sweep", "first/scenario.toml", "--out", "again"]);
    for file in ["migrations.jsonl", "cells.jsonl", "report.html", "scenario.toml"] {
        assert!(fresh.read(&format!("first/{file}")) == fresh.read(&format!("again/{file}")), "{file}");
    }
    assert_eq!(fresh.read("first/migrations.jsonl").lines().count(), 2);
}

#[test]
fn statistics_are_told_as_text_and_json_and_drawn() {
    let fresh = recorded();
    let text = fresh.ok(&["trace", "stats", "guest.csv", "--plot", "plots"]);
    for words in [
        "100 of 50 ms",
        "different pages",
        "lag-1 correlation",
        "dirtied again within",
        "windows that overlap",
    ] {
        assert!(text.contains(words), "no `{words}` in {text}");
    }
    for name in ["working-set", "dirty-rate", "re-dirty", "hits"] {
        let drawing = fresh.read(&format!("plots/{name}.svg"));
        assert!(drawing.starts_with("<?xml") && drawing.trim_end().ends_with("</svg>"), "{name}");
    }
    fresh.ok(&["trace", "stats", "guest.csv", "--plot", "all.svg"]);
    assert_eq!(fresh.read("all.svg").matches("<svg ").count(), 5);
    let curves = concat!(env!("CARGO_MANIFEST_DIR"), "/reference/qemu/programs/curves.jsonl");
    let stats = json(&fresh.ok(&["trace", "stats", "guest.csv", curves, "--format", "json"]));
    let names: Vec<_> =
        stats.as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names[..3], ["guest.csv", "sqlite, 50 ms", "sqlite, 500 ms"]);
    // 500 writes a second on 2048 pages: in 50 ms about 25 different ones.
    let mean = stats[0]["curve"][0]["mean"].as_f64().expect("a number");
    assert!((mean - 24.8).abs() < 1.0, "{mean}");
    assert_eq!(stats[1]["curve"][0]["mean"].as_f64(), Some(1653.5));
}

#[test]
fn tables_of_other_origin_become_traces() {
    let fresh = Fresh::new();
    let header =
        "# whimbrel-trace schema=1 page_size=4KiB memory=32KiB\nstart_ns,length_ns,first_page,pages\n";
    // Writes at addresses; the clock is an epoch.
    fresh.write(
        "log.csv",
        "cpu;when;gpa;len\n0;1700000000123456.9;0x101000;1\n1;1700000000160000;0x101fff;2\n0;1700000000260000;0x107000;1\n",
    );
    let columns =
        ["--time-column", "when", "--time-unit", "us", "--address-column", "gpa", "--bytes-column", "len"];
    let mut args =
        vec!["trace", "import", "log.csv", "--separator", ";", "--base", "0x100000", "--interval", "50ms"];
    args.extend(columns);
    let expected = "0,50000000,1,2\n50000000,50000000,0,0\n100000000,50000000,7,1\n";
    assert_eq!(fresh.ok(&args), format!("{header}{expected}"));
    // Harvests with their time; the last lasts as long as the one before.
    fresh.write("harvests.csv", "time,page,n\n2,\"1\",1\n0.5,1,2\n0.5,4,1\n");
    let text = fresh.ok(&["trace", "import", "harvests.csv", "--count-column", "n"]);
    assert_eq!(text, format!("{header}0,1500000000,1,2\n0,1500000000,4,1\n1500000000,1500000000,1,1\n"));
    // Intervals with their length.
    fresh.write("lengths.csv", "t,d,page\n0,10,1\n20,5,3\n");
    let args =
        ["trace", "import", "lengths.csv", "--time-column", "t", "--time-unit", "ms", "--length-column", "d"];
    let text = fresh.ok(&args);
    assert!(
        text.ends_with("\n0,10000000,1,1\n20000000,5000000,3,1\n") && text.contains("memory=16KiB"),
        "{text}"
    );
}

#[test]
fn what_is_no_trace_is_refused_with_its_line_and_nothing_is_written() {
    let fresh = recorded();
    fresh.write("bad.csv", fresh.read("guest.csv") + "5,5,5\n");
    let lines = fresh.read("bad.csv").lines().count();
    fresh.write("t.csv", "time,page\n0,1\nx,2\n");
    fresh.write("one.csv", "time,page\n0,1\n0,2\n");
    fresh.write("traced.toml", scenario("bad.csv"));
    for (args, expected) in [
        (&["trace", "stats", "bad.csv"][..], format!("bad.csv:{lines}: `5,5,5` is no row")),
        (&["trace", "stats", "guest.toml"], "guest.toml:1: no trace begins with `[guest]`".to_owned()),
        (&["trace", "stats", "."], "it is a directory".to_owned()),
        (
            &["trace", "import", "t.csv", "--out", "o.csv"],
            "t.csv:3: column `time`: `x` is not accepted as a time".to_owned(),
        ),
        (&["trace", "import", "one.csv", "--out", "o.csv"], "all rows have the same time".to_owned()),
        (
            &["trace", "import", "t.csv", "--page-column", "p"],
            "no column `p`: there are `time`, `page`".to_owned(),
        ),
        (&["trace", "record", "guest.toml", "--interval", "0s", "--out", "o.csv"], "more than 0s".to_owned()),
        (&["trace", "record", "traced.toml"], "`guest.writers.0.trace`".to_owned()),
        (&["simulate", "traced.toml"], format!("bad.csv:{lines}: ")),
    ] {
        let ended = fresh.run(args);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{args:?}: {}", ended.err);
        assert!(ended.err.contains(&expected), "{args:?}: {}", ended.err);
    }
    assert!(!fresh.names().contains(&"o.csv".to_owned()));
    for (table, told) in [
        ("time,page\n0,1\n1e30,2\n", "line.csv:3: column `time`: `1e30` is too far from 0"),
        (
            "time,page\n0,99999999999999999999\n",
            "line.csv:2: column `page`: `99999999999999999999` is too large",
        ),
        ("time,page\n0,x\n", "line.csv:2: column `page`: `x` is not accepted: write a whole number"),
        ("time,page\n0,1,5\n", "line.csv:2: `5` stands behind the 2 columns"),
        ("time,page\n0\n", "line.csv:2: the row ends before column `page`"),
    ] {
        fresh.write("line.csv", table);
        let ended = fresh.run(&["trace", "import", "line.csv", "--interval", "1s"]);
        assert_eq!(ended.code, Some(2));
        assert!(ended.err.contains(told), "{}", ended.err);
    }
    fresh.write("empty.csv", fresh.read("guest.csv").lines().take(2).collect::<Vec<_>>().join("\n"));
    let ended = fresh.run(&["trace", "stats", "empty.csv"]);
    assert!(ended.code == Some(2) && ended.err.contains("the trace is empty"), "{}", ended.err);
    fresh.write("fluid.toml", format!("{SMALL}fidelity = \"fluid\"\n"));
    let ended = fresh.run(&["trace", "record", "fluid.toml", "--length", "1s", "--out", "fluid.csv"]);
    assert!(
        ended.code == Some(0) && ended.err.contains("note: a trace is recorded page by page"),
        "{}",
        ended.err
    );
}
