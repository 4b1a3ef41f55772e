//! `whimbrel sweep`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::run::{Fresh, SMALL_SWEEP, rows};

fn swept() -> Fresh {
    let fresh = Fresh::new();
    fresh.write("sweep.toml", SMALL_SWEEP);
    fresh
}

#[test]
fn the_same_bytes_on_one_thread_and_on_many() {
    let fresh = swept();
    for (dir, jobs) in [("one", "1"), ("two", "2"), ("seven", "7")] {
        fresh.ok(&["sweep", "sweep.toml", "--out", dir, "--jobs", jobs, "--rounds"]);
    }
    for file in ["migrations.jsonl", "rounds.jsonl", "cells.jsonl", "report.html", "scenario.toml"] {
        let one = fresh.read(&format!("one/{file}"));
        assert!(!one.is_empty(), "{file}");
        assert!(one == fresh.read(&format!("two/{file}")), "{file} differs on two threads");
        assert!(one == fresh.read(&format!("seven/{file}")), "{file} differs on seven threads");
    }
}

#[test]
fn every_run_has_a_row_with_its_place_its_seed_and_the_stable_names() {
    let fresh = swept();
    let told = fresh.ok(&["sweep", "sweep.toml", "--out", "results", "--rounds"]);
    assert!(told.contains("48 migrations in 16 cells"), "{told}");
    assert!(told.contains("qemu-default") && told.contains("xen-5"), "{told}");
    let migrations = rows(&fresh.read("results/migrations.jsonl"));
    assert_eq!(migrations.len(), 48);
    let mut rounds: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for round in rows(&fresh.read("results/rounds.jsonl")) {
        let key = ["cell", "repetition"].map(|name| round[name].as_u64().expect("a number"));
        *rounds.entry((key[0], key[1])).or_default() += 1;
    }
    for (index, row) in migrations.iter().enumerate() {
        let (cell, repetition) = (index as u64 / 3, index as u64 % 3);
        assert_eq!((row["cell"].as_u64(), row["repetition"].as_u64()), (Some(cell), Some(repetition)));
        assert_eq!(row["seed"].as_u64(), Some(repetition));
        assert_eq!(row["policy"], row["axes"]["policy.preset"]);
        assert!(row["axis_numbers"]["link.bandwidth"].is_number());
        assert_eq!(row["rounds"].as_u64(), rounds.get(&(cell, repetition)).copied());
        for name in
            ["outcome", "converged", "total_ms", "downtime_ms", "sent_bytes", "downtime", "disruption_vcpu_s"]
        {
            assert!(!row[name].is_null(), "no {name} in {row}");
        }
    }
    let cells = rows(&fresh.read("results/cells.jsonl"));
    assert_eq!(cells.len(), 16);
    assert!(cells.iter().all(|cell| cell["runs"] == 3));
}

#[test]
fn csv_tables_have_the_same_numbers() {
    let fresh = swept();
    fresh.ok(&["sweep", "sweep.toml", "--out", "json"]);
    fresh.ok(&["sweep", "sweep.toml", "--out", "csv", "--format", "csv"]);
    let csv = fresh.read("csv/migrations.csv");
    let header: Vec<_> = csv.lines().next().expect("a header").split(',').collect();
    // Before the first column that can hold a comma.
    let column = header.iter().position(|name| *name == "outcome").expect("outcome");
    let outcomes: Vec<_> = csv.lines().skip(1).filter_map(|line| line.split(',').nth(column)).collect();
    let rows = rows(&fresh.read("json/migrations.jsonl"));
    assert_eq!(outcomes, rows.iter().filter_map(|row| row["outcome"].as_str()).collect::<Vec<_>>());
    let names = |dir: &str| fresh.names().into_iter().filter(|name| name.starts_with(dir)).count();
    assert_eq!((names("csv/"), names("json/")), (4, 4));
}

#[test]
fn the_report_is_one_file_that_needs_no_network() {
    let fresh = swept();
    fresh.ok(&["sweep", "sweep.toml", "--out", "results"]);
    let page = fresh.read("results/report.html");
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    assert!(page.contains("default-src 'none'"), "its policy");
    for address in ["http:", "https:", "src=", "@import", "<link", "url("] {
        assert!(!page.contains(address), "`{address}` in the report");
    }
    assert_eq!(page.matches("href=").count(), page.matches("href=\"#").count());
    for word in ["whimbrel sweep scenario.toml", "qemu-default", "xen-5", "Mbit/s"] {
        assert!(page.contains(word), "no `{word}` in the report");
    }
}

#[test]
fn the_report_has_every_section_and_says_what_each_run_did() {
    let fresh = swept();
    fresh.ok(&["sweep", "sweep.toml", "--out", "results"]);
    let page = fresh.read("results/report.html");
    let sections: Vec<&str> =
        page.split("<section id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let expected = [
        "findings",
        "trade",
        "frontier",
        "maps",
        "map-total",
        "map-downtime",
        "curves",
        "spread",
        "rounds",
        "ledger",
        "numbers",
        "again",
        "words",
    ];
    assert_eq!(sections, expected);
    // A representative run is one of the rows: its seed, total time and rounds stand in the table of migrations.
    let rows = rows(&fresh.read("results/migrations.jsonl"));
    let rounds = page.split("<section id=\"rounds\">").nth(1).expect("a section").split("</section>").next();
    let endings: Vec<&str> = rounds
        .expect("its end")
        .split("<p class=\"note\">")
        .skip(1)
        .filter_map(|rest| rest.split("</p>").next())
        .collect();
    assert!(endings.len() == 4 || endings.len() == 2, "one or two places, two policies: {endings:?}");
    for ending in endings {
        let seed = ending.rsplit("seed ").next().and_then(|seed| seed.parse::<u64>().ok());
        let like = |row: &&Value| {
            let rounds = format!(", {} rounds, ", row["rounds"]);
            row["seed"].as_u64() == seed
                && ending.starts_with(row["outcome"].as_str().unwrap_or("?"))
                && ending.contains(&rounds)
        };
        assert!(rows.iter().any(|row| like(&row)), "no run did this: {ending}");
    }
}

#[test]
fn names_of_files_are_shown_in_the_report_and_not_obeyed() {
    let fresh = Fresh::new();
    let nasty = "<img src=x onerror=alert(1)>&'.csv";
    let trace = "# whimbrel-trace schema=1 page_size=4KiB memory=1MiB\nstart_ns,length_ns,first_page,pages\n0,50000000,3,2\n";
    for name in [nasty, "plain.csv"] {
        fresh.write(name, trace);
    }
    let scenario = format!(
        "[guest]\nmemory = \"16MiB\"\n[[guest.writers]]\npattern = \"trace\"\ntrace = \"plain.csv\"\n\
         [sweep]\n\"guest.writers.0.trace\" = [\"{nasty}\", \"plain.csv\"]\n\
         \"link.bandwidth\" = [\"100Mbit/s\", \"1Gbit/s\"]\n"
    );
    fresh.write("sweep.toml", scenario);
    fresh.ok(&["sweep", "sweep.toml", "--out", "results"]);
    let page = fresh.read("results/report.html");
    // As a row's name, in charts, in the scenario.
    assert!(page.matches("&lt;img src=x onerror=alert(1)&gt;&amp;&#39;.csv").count() > 5);
    assert!(!page.contains("<img"));
}

#[test]
fn the_downtime_is_drawn_where_two_axes_have_numbers() {
    let fresh = swept();
    fresh.ok(&["sweep", "sweep.toml", "--out", "results", "--plot", "map.svg"]);
    let map = fresh.read("map.svg");
    assert!(map.starts_with("<?xml") && map.trim_end().ends_with("</svg>"));
    assert!(map.contains(">qemu-default</text>") && map.contains(">xen-5</text>"));
    // A cell each, but for those hatched.
    assert!(map.matches("<title>").count() >= 16);
    fresh.write("line.toml", SMALL_SWEEP.replace("\"link.bandwidth\" =", "# "));
    let ended = fresh.run(&["sweep", "line.toml", "--out", "other", "--plot", "no.svg"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("two axes with numbers; this sweep has 1"), "{}", ended.err);
    assert!(!fresh.path("other").exists() && !fresh.path("no.svg").exists());
}

#[test]
fn the_scenario_beside_the_results_makes_them_again() {
    let fresh = swept();
    fresh.ok(&["sweep", "sweep.toml", "--out", "first", "--set", "policy.downtime-limit=50ms"]);
    fresh.ok(&["sweep", "first/scenario.toml", "--out", "again"]);
    for file in ["migrations.jsonl", "cells.jsonl", "report.html", "scenario.toml"] {
        assert!(fresh.read(&format!("first/{file}")) == fresh.read(&format!("again/{file}")), "{file}");
    }
}

#[test]
fn results_of_an_earlier_sweep_are_replaced_and_files_of_others_are_not() {
    let fresh = swept();
    fresh.ok(&["sweep", "sweep.toml", "--out", "results", "--format", "csv"]);
    fresh.ok(&["sweep", "sweep.toml", "--out", "results"]);
    let mut names = fresh.names();
    names.retain(|name| name.starts_with("results/"));
    assert_eq!(
        names,
        ["cells.jsonl", "migrations.jsonl", "report.html", "scenario.toml"]
            .map(|name| format!("results/{name}"))
    );

    let fresh = Fresh::new();
    fresh.write("scenario.toml", SMALL_SWEEP);
    let ended = fresh.run(&["sweep", "scenario.toml", "--out", "."]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("would replace the scenario that is read"), "{}", ended.err);
    let ended = fresh.run(&["sweep", "--set", "run.repeat=1", "--out", "."]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("`scenario.toml` was not written by a sweep"), "{}", ended.err);
    assert_eq!(fresh.names(), ["scenario.toml"]);
    assert_eq!(fresh.read("scenario.toml"), SMALL_SWEEP);
    fresh.ok(&["sweep", "scenario.toml", "--out", ".", "--force"]);
}

#[test]
fn without_a_terminal_there_is_no_progress_bar() {
    let fresh = swept();
    // `ok` refuses anything on standard error.
    assert!(!fresh.ok(&["sweep", "sweep.toml"]).contains('\u{1b}'));
    assert!(fresh.path("whimbrel-sweep/report.html").is_file());
}

#[test]
fn a_summary_has_no_row_a_migration() {
    let fresh = swept();
    let told = fresh.ok(&["sweep", "sweep.toml", "--out", "results", "--summary"]);
    assert!(told.contains("48 migrations in 16 cells"), "{told}");
    let mut names = fresh.names();
    names.retain(|name| name.starts_with("results/"));
    assert_eq!(
        names,
        ["cells.jsonl", "policies.jsonl", "report.html", "scenario.toml"]
            .map(|name| format!("results/{name}"))
    );
    assert_eq!(rows(&fresh.read("results/policies.jsonl")).len(), 2);
}

#[cfg(feature = "parquet")]
#[test]
fn tables_are_written_as_parquet() {
    let fresh = swept();
    fresh.ok(&["sweep", "sweep.toml", "--out", "results", "--rounds", "--format", "parquet"]);
    for name in ["migrations", "rounds", "cells"] {
        let bytes = std::fs::read(fresh.path(&format!("results/{name}.parquet"))).expect("read");
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"), "{name}");
    }
}
