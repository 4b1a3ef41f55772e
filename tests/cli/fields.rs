//! Every field of the JSON of moves and of the tables of a bench is explained in `docs`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::live::process::{receive, send};
use crate::live::with_guest;
use crate::run::{Fresh, json, rows};

/// Maps whose keys are the user's, or of which there is a page of its own.
const OTHERS: [&str; 5] = ["axes", "axis_numbers", "outcomes", "policy", "scenario"];

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    std::fs::read_to_string(path).expect("the page")
}

/// What stands between the first and the second back-tick, between the third and the fourth, …
fn names_in(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Names in the rows of a page's tables whose second column says `of` among others, or `all`.
fn explained(name: &str, of: &str) -> BTreeSet<String> {
    let text = page(name);
    let mut names = BTreeSet::new();
    for row in text.lines().filter_map(|line| line.strip_prefix("| ")) {
        let places = row.split(" | ").nth(1).unwrap_or_default();
        if places.split(", ").any(|one| one == of || one == "all") {
            names.extend(names_in(row).map(str::to_owned));
        }
    }
    names
}

/// Columns of `fidelity`, each with all that it lies in. A name that ends in `.…` has those beside it under it.
fn explained_of_fidelity() -> BTreeSet<String> {
    let text = page("bench.md");
    let table = text.split_once("\n| column | what |\n").expect("its table").1;
    let mut names = BTreeSet::new();
    for row in table.lines().map_while(|line| line.strip_prefix('|')) {
        let (columns, what) = row.split_once(" | ").unwrap_or_default();
        for name in names_in(columns) {
            match name.strip_suffix(".…") {
                Some(above) => names.extend(names_in(what).map(|name| format!("{above}.{name}"))),
                None => _ = names.insert(name.to_owned()),
            }
        }
    }
    names
}

/// The columns of a row of `fidelity`.
fn columns(row: &Value, before: &str, all: &mut BTreeSet<String>) {
    for (name, value) in row.as_object().expect("a row") {
        let name = format!("{before}{name}");
        match value {
            Value::Object(_) if name == "axes" => _ = all.insert("axes.KEY".to_owned()),
            Value::Object(_) => columns(value, &format!("{name}."), all),
            _ => _ = all.insert(name),
        }
    }
}

/// Each field is `known`: one of the outermost after `before`, those in it by their name.
fn look(value: &Value, before: &str, known: &BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = format!("{before}{name}");
                assert!(known.contains(&name), "`{name}` is not explained");
                if !OTHERS.contains(&name.as_str()) {
                    look(value, "", known);
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| look(value, before, known)),
        _ => {}
    }
}

#[test]
fn every_column_of_a_bench_is_explained() {
    let fresh = Fresh::new();
    let guest = "[guest]\nmemory = \"16MiB\"\n[[guest.writers]]\nworking-set = \"4MiB\"\n[run]\nrepeat = 2\n";
    fresh.write("matrix.toml", format!("{guest}[sweep]\n\"host.streams\" = [1, 2]\n"));
    // Those of a bench: another test says that they are the same.
    fresh.ok(&["sweep", "matrix.toml", "--out", "results", "--rounds"]);
    for table in ["migrations", "cells", "rounds"] {
        let known = explained("bench.md", table);
        for row in rows(&fresh.read(&format!("results/{table}.jsonl"))) {
            look(&row, "", &known);
        }
    }
}

#[test]
fn every_column_beside_a_forecast_is_explained_and_no_other() {
    let fresh = Fresh::new();
    fresh.write("matrix.toml", "[guest]\nmemory = \"16MiB\"\n[sweep]\n\"host.streams\" = [1]\n");
    fresh.ok(&["bench", "matrix.toml", "--out", "results"]);
    let mut all = BTreeSet::new();
    columns(&rows(&fresh.read("results/fidelity.jsonl"))[0], "", &mut all);
    assert_eq!(all, explained_of_fidelity());
}

#[test]
fn every_field_of_send_and_receive_is_explained() {
    let fresh = with_guest();
    let there = receive(&fresh, &["--listen", "tcp:127.0.0.1:0", "--for", "100ms", "--format", "json"]);
    let here = send(&fresh, &there, &["--format", "json", "--warm-up", "100ms"]);
    let (sent, received) = (here.end(), there.end());
    let Value::Object(mut sent) = json(&sent.out) else { panic!("{}", sent.out) };
    look(&sent.remove("live").expect("what is not simulated"), "live.", &explained("live.md", "`send`"));
    look(&json(&received.out), "", &explained("live.md", "`receive`"));
    // The rest is a row of migrations, with its rounds and what it was made of.
    let rounds = sent.remove("round").expect("rounds");
    look(&rounds, "", &explained("bench.md", "rounds"));
    let page = page("live.md");
    for name in ["policy", "policy_approximate", "scenario"] {
        assert!(page.contains(&format!("`{name}`")), "`{name}`");
        sent.remove(name);
    }
    look(&Value::Object(sent), "", &explained("bench.md", "migrations"));
}
