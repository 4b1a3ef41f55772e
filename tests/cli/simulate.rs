//! `whimbrel simulate` and `whimbrel policies`, and what all commands have in common.

use serde_json::Value;

use crate::run::{Fresh, SMALL, json};

#[test]
fn the_default_scenario_is_told_round_by_round_and_converges() {
    let told = Fresh::new().ok(&["simulate"]);
    // Each decision stands with its reason behind a colon.
    for word in [
        "guest  ",
        "link  ",
        "policy    qemu-default",
        "round",
        "switchover: pending",
        "downtime",
        "last pages",
        "guest lost",
        "completed, converged",
    ] {
        assert!(told.contains(word), "no `{word}` in\n{told}");
    }
    assert!(told.lines().all(|line| line.chars().count() <= 100), "{told}");
}

#[test]
fn json_has_the_stable_names() {
    let told = json(&Fresh::new().ok(&["simulate", "--format", "json"]));
    assert_eq!(told["outcome"], "completed");
    assert_eq!(told["converged"], true);
    for name in ["total_ms", "downtime_ms", "disruption_vcpu_s"] {
        assert!(told[name].as_f64().is_some_and(|value| value > 0.0), "{name}: {told}");
    }
    assert!(told["sent_bytes"].as_u64().is_some_and(|sent| sent > 1 << 30));
    let rounds = told["round"].as_array().expect("a list of rounds");
    assert_eq!(told["rounds"].as_u64(), Some(rounds.len() as u64));
    assert!(rounds.len() > 1);
    let ledger = told["downtime"].as_object().expect("a ledger");
    assert!(ledger.keys().all(|name| name.ends_with("_ms")), "{ledger:?}");
    let sum: f64 = ledger.values().filter_map(Value::as_f64).sum();
    assert!((sum - told["downtime_ms"].as_f64().expect("a number")).abs() < 1e-6);
    let sent: u64 = rounds.iter().filter_map(|round| round["sent_bytes"].as_u64()).sum();
    assert!(sent <= told["sent_bytes"].as_u64().expect("a count"));
    assert!(rounds.iter().take(rounds.len() - 1).all(|round| round["reason"].is_string()));
}

#[test]
fn csv_has_a_line_a_round_and_the_names_of_the_json() {
    let fresh = Fresh::new();
    let csv = fresh.ok(&["simulate", "--format", "csv"]);
    let told = json(&fresh.ok(&["simulate", "--format", "json"]));
    let mut lines = csv.lines();
    let header: Vec<_> = lines.next().expect("a header").split(',').collect();
    // The first round has no forecast of the end.
    let round = &told["round"][1];
    let fields = |value: &serde_json::Value| value.as_object().expect("an object").len();
    assert_eq!(header.len(), fields(round) - 1 + fields(&round["eta"]));
    let named = |name: &str| round.pointer(&format!("/{}", name.replace('.', "/"))).is_some();
    assert!(header.iter().all(|name| named(name)), "{header:?}");
    assert_eq!(lines.count() as u64, told["rounds"].as_u64().expect("a count"));
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_one_others() {
    let fresh = Fresh::new();
    fresh.write("small.toml", SMALL);
    let run = |seed: &str| fresh.ok(&["simulate", "small.toml", "--format", "json", "--seed", seed]);
    assert_eq!(run("5"), run("5"));
    assert_ne!(json(&run("5"))["round"], json(&run("6"))["round"]);
    assert_eq!(json(&run("18446744073709551615"))["seed"], u64::MAX);
}

#[test]
fn set_and_seed_reach_the_migration() {
    let fresh = Fresh::new();
    fresh.write("small.toml", SMALL);
    let told = fresh.ok(&[
        "simulate",
        "small.toml",
        "--set",
        "policy.preset=xen-5",
        "--set",
        "link.bandwidth=20Mbit/s",
        "--seed",
        "9",
    ]);
    for word in ["policy    xen-5", "20.0 Mbit/s", "seed      9"] {
        assert!(told.contains(word), "no `{word}` in\n{told}");
    }
}

#[test]
fn a_migration_that_does_not_converge_is_a_result_and_no_failure() {
    let fresh = Fresh::new();
    fresh.write("small.toml", SMALL);
    let args = [
        "simulate",
        "small.toml",
        "--set",
        "guest.writers.0.rate=100000",
        "--set",
        "link.bandwidth=10Mbit/s",
        "--format",
        "json",
    ];
    let told = json(&fresh.ok(&args));
    assert_eq!(told["outcome"], "timed-out");
    assert_eq!(told["converged"], false);
    assert!(told["why"].as_str().is_some_and(|why| !why.is_empty()));
}

#[test]
fn a_scenario_with_a_sweep_is_simulated_without_it_and_that_is_said() {
    let fresh = Fresh::new();
    fresh.write("sweep.toml", crate::run::SMALL_SWEEP);
    let ended = fresh.run(&["simulate", "sweep.toml"]);
    assert_eq!(ended.code, Some(0));
    assert!(ended.err.contains("[sweep] is left out"), "{}", ended.err);
}

#[test]
fn a_plot_is_one_svg_file_that_needs_no_network() {
    let fresh = Fresh::new();
    fresh.write("small.toml", SMALL);
    fresh.ok(&["simulate", "small.toml", "--plot", "migration.svg"]);
    let plot = fresh.read("migration.svg");
    assert!(plot.starts_with("<svg") || plot.starts_with("<?xml"), "{}", &plot[..80]);
    assert!(plot.trim_end().ends_with("</svg>"));
    // The name of SVG itself is no address to be fetched.
    assert!(!plot.replace("http://www.w3.org/2000/svg", "").contains("http"));
    assert_eq!(fresh.names(), ["migration.svg", "small.toml"]);
}

#[test]
fn presets_are_listed_and_told_in_full() {
    let fresh = Fresh::new();
    let list = fresh.ok(&["policies"]);
    let presets = json(&fresh.ok(&["policies", "--format", "json"]));
    let presets = presets.as_array().expect("a list");
    for name in ["fixed-rounds", "qemu-default", "xen-5", "cloud-hypervisor", "hyperv-5", "hyperv-10"] {
        assert!(list.contains(name), "{list}");
        let preset = presets.iter().find(|preset| preset["name"] == name).expect("in the JSON");
        assert_eq!(preset["approximate"].is_string(), name.starts_with("hyperv"), "{name}");
        let told = fresh.ok(&["policies", name]);
        for parameter in preset["parameters"].as_array().expect("parameters") {
            let [name, default] = ["name", "default"].map(|key| parameter[key].as_str().expect("text"));
            assert!(told.contains(&format!("{name} = {default}")), "{told}");
            assert!(parameter["source"].as_str().is_some_and(|source| !source.is_empty()));
        }
    }
    assert_eq!(json(&fresh.ok(&["policies", "xen-5", "--format", "json"]))["name"], "xen-5");
}

#[test]
fn validate_tells_measured_beside_predicted_with_the_stable_names() {
    let fresh = Fresh::new();
    let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/reference/qemu/precopy.jsonl");
    let lines = std::fs::read_to_string(reference).expect("the reference");
    fresh.write("some.jsonl", lines.lines().take(2).collect::<Vec<_>>().join("\n"));
    let told = json(&fresh.ok(&["validate", "some.jsonl", "--format", "json"]));
    let skipped = told["skipped"].as_array().expect("a list").len() as u64;
    assert_eq!(told["runs"].as_u64(), Some(2 - skipped));
    for name in ["total_time", "sent_bytes", "downtime", "silence"] {
        let error = told["errors"][name].as_object().expect("an error");
        assert!(error.contains_key("median") && error.contains_key("p90"), "{name}");
    }
    for name in ["rounds_exact", "rounds_near", "verdict_wrong", "per_run"] {
        assert!(!told[name].is_null(), "no {name}");
    }
    for side in ["measured", "predicted"] {
        let figures = told["per_run"][0][side].as_object().expect("figures");
        for name in ["converged", "total_ms", "sent_bytes", "downtime_ms", "silence_ms", "rounds"] {
            assert!(figures.contains_key(name), "no {side} {name}");
        }
    }
    let table = fresh.ok(&["validate", "some.jsonl"]);
    assert!(table.contains(told["per_run"][0]["name"].as_str().expect("a name")), "{table}");
}

#[test]
fn help_has_examples_and_the_exit_codes() {
    let fresh = Fresh::new();
    let help = fresh.ok(&["--help"]);
    for word in ["simulate", "sweep", "policies", "Exit codes:", "130"] {
        assert!(help.contains(word), "no `{word}` in\n{help}");
    }
    for command in ["simulate", "sweep", "policies", "validate"] {
        let help = fresh.ok(&[command, "--help"]);
        assert!(help.contains("Examples:"), "{help}");
    }
    assert!(fresh.ok(&["--version"]).starts_with("whimbrel "));
}
