//! Every field of the JSON of moves and of the tables of a bench is explained in `docs`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::live::process::{receive, send};
use crate::live::with_guest;
use crate::run::Fresh;

/// Maps whose keys are the user's, or of which there is a page of its own.
const OTHERS: [&str; 5] = ["axes", "axis_numbers", "outcomes", "policy", "scenario"];

/// Names in the first column of a page's tables, of rows whose second one says `of`, or `all`.
fn explained(page: &str, of: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = std::fs::read_to_string(path).expect("the page");
    let mut names = BTreeSet::new();
    for row in text.lines().filter_map(|line| line.strip_prefix("| ")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        if cells.get(1).is_some_and(|place| place.contains(of) || *place == "all") {
            // Between the first and the second back-tick, between the third and the fourth, …
            names.extend(row.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    names
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
        for line in fresh.read(&format!("results/{table}.jsonl")).lines() {
            look(&serde_json::from_str(line).expect("JSON"), "", &known);
        }
    }
}

#[test]
fn every_field_of_send_and_receive_is_explained() {
    let fresh = with_guest();
    let there = receive(&fresh, &["--listen", "tcp:127.0.0.1:0", "--for", "100ms", "--format", "json"]);
    let here = send(&fresh, &there, &["--format", "json", "--warm-up", "100ms"]);
    let (sent, received) = (here.end(), there.end());
    let json = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let Value::Object(mut sent) = json(&sent.out) else { panic!("{}", sent.out) };
    look(&sent.remove("live").expect("what is not simulated"), "live.", &explained("live.md", "`send`"));
    look(&json(&received.out), "", &explained("live.md", "`receive`"));
    // The rest is a row of migrations, with its rounds and what it was made of.
    let rounds = sent.remove("round").expect("rounds");
    look(&rounds, "", &explained("bench.md", "rounds"));
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/live.md"));
    let page = page.expect("the page");
    for name in ["policy", "policy_approximate", "scenario"] {
        assert!(page.contains(&format!("`{name}`")), "`{name}`");
        sent.remove(name);
    }
    look(&Value::Object(sent), "", &explained("bench.md", "migrations"));
}
