//! `whimbrel explain`: what is told of a run, wherever it was noted, and what is refused.

use serde_json::Value;

use crate::run::{Fresh, SMALL, SMALL_SWEEP, json};

/// Written to faster than the link carries: it stops getting smaller and runs into its time limit.
const NEVER: &str = "\
[guest]
memory = \"32MiB\"

[[guest.writers]]
working-set = \"16MiB\"
rate = 100000

[policy]
downtime-limit = \"10ms\"

[run]
time-limit = \"10s\"
";

#[test]
fn the_default_run_is_explained_with_every_decision_rule_and_alternative() {
    let told = Fresh::new().ok(&["explain"]);
    for words in [
        "policy    qemu-default",
        "what happened",
        "It completed and converged after",
        "came nearest to the handover in round",
        "would hand over at",
        "pending with threshold",
        "where it came nearest to the handover and went on",
        "where its end was decided",
        "It handed the guest over, because pending",
        "had another policy than qemu-default taken over here",
        "kubevirt-stall",
        "verdict",
        "Best for the guest",
    ] {
        assert!(told.contains(words), "no `{words}` in\n{told}");
    }
    // Sentences are broken; a table is as wide as it has to be.
    assert!(told.lines().all(|line| line.chars().count() <= 110), "{told}");
}

#[test]
fn json_has_the_same_run_as_simulate_and_every_preset_as_an_alternative() {
    let fresh = Fresh::new();
    fresh.write("never.toml", NEVER);
    let run = json(&fresh.ok(&["simulate", "never.toml", "--seed", "3", "--format", "json"]));
    let told = json(&fresh.ok(&["explain", "never.toml", "--seed", "3", "--format", "json"]));
    for name in ["seed", "outcome", "total_ms", "sent_bytes", "disruption_vcpu_s"] {
        assert_eq!(told["run"][name], run[name], "{name}");
    }
    assert_eq!((&told["schema"], &told["policy"]), (&Value::from(1), &Value::from("qemu-default")));
    assert!(told["stopped_shrinking"]["rounds_after"].as_u64().is_some_and(|rounds| rounds > 3));
    let presets = json(&fresh.ok(&["policies", "--format", "json"])).as_array().expect("a list").len();
    let moment = &told["moments"][0];
    assert_eq!(moment["lessons"], Value::from(vec!["stopped-shrinking"]));
    let branches = moment["branches"].as_array().expect("branches");
    assert_eq!(branches.len(), presets - 1);
    for branch in branches {
        let total = branch["run"]["total_ms"].as_f64().expect("a total");
        let difference = branch["total_ms"].as_f64().expect("a difference");
        assert!((total - run["total_ms"].as_f64().expect("a total") - difference).abs() < 1e-6, "{branch}");
        assert!(branch["sentence"].as_str().is_some_and(|sentence| sentence.ends_with('.')), "{branch}");
    }
    let decisions = told["decisions"].as_array().expect("decisions").iter();
    let decision = decisions.clone().find(|one| one["round"] == 1 && one["moment"] == "round-start");
    let decision = decision.expect("a round");
    assert!(decision["would_end_at_bytes"].is_u64() && decision["reason"]["left"].is_object(), "{decision}");
}

#[test]
fn moments_and_policies_can_be_chosen_and_a_file_is_a_policy_too() {
    let fresh = Fresh::new();
    fresh.write("never.toml", NEVER);
    fresh.write("mine.toml", "[policy]\npreset = \"fixed-rounds\"\nrounds = 5\n");
    let args = ["explain", "never.toml", "--at", "2s", "--at", "1.5s", "--against", "mine.toml"];
    let args = [&args[..], &["--against", "xen-5", "--format", "json"]].concat();
    let told = json(&fresh.ok(&args));
    let at = |index: usize| told["moments"][index]["at_ms"].as_f64();
    assert_eq!((at(0), at(1)), (Some(1500.0), Some(2000.0)));
    let names = |branches: &Value| {
        let branches = branches.as_array().expect("branches").iter();
        let mut names: Vec<_> =
            branches.map(|branch| branch["policy"].as_str().unwrap_or("").to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&told["moments"][0]["branches"]), ["mine", "xen-5"]);
    // Five rounds were over by then, so it hands over at once; under another policy it never would.
    let branches = told["moments"][0]["branches"].as_array().expect("branches");
    assert!(branches.iter().all(|branch| branch["verdict"] == "completes"), "{branches:?}");
    let text =
        fresh.ok(&["explain", "never.toml", "--at", "0.5s", "--against", "mine.toml", "--policy", "xen-5"]);
    assert!(text.contains("had another policy than xen-5 taken over"), "{text}");
}

#[test]
fn a_run_that_simulate_printed_is_explained_without_its_scenario() {
    let fresh = Fresh::new();
    fresh.write("small.toml", SMALL);
    let printed = fresh.ok(&[
        "simulate",
        "small.toml",
        "--set",
        "link.bandwidth=50Mbit/s",
        "--seed",
        "9",
        "--format",
        "json",
    ]);
    fresh.write("run.json", &printed);
    let told = json(&fresh.ok(&["explain", "run.json", "--format", "json"]));
    assert_eq!(told["run"]["total_ms"], json(&printed)["total_ms"]);
    assert_eq!(told["run"]["seed"], 9);
    // What was noted and what is made anew are compared.
    let mut forged = json(&printed);
    forged["sent_bytes"] = Value::from(12);
    fresh.write("forged.json", forged.to_string());
    let ended = fresh.run(&["explain", "forged.json"]);
    assert_eq!(ended.code, Some(0));
    assert!(ended.err.contains("not what was noted"), "{}", ended.err);
    // What is changed on purpose is not.
    fresh.ok(&["explain", "forged.json", "--seed", "2"]);
}

#[test]
fn a_row_of_a_sweep_is_explained_by_its_cell_and_repetition() {
    let fresh = Fresh::new();
    fresh.write("sweep.toml", SMALL_SWEEP);
    fresh.ok(&["sweep", "sweep.toml", "--out", "results"]);
    let rows: Vec<Value> = fresh.read("results/migrations.jsonl").lines().map(json).collect();
    let row = rows.iter().find(|row| row["cell"] == 11 && row["repetition"] == 2).expect("a row");
    let cell = ["--cell", "11", "--repetition", "2", "--format", "json"];
    for run in ["results", "sweep.toml"] {
        let told = json(&fresh.ok(&[&["explain", run][..], &cell].concat()));
        for name in ["seed", "outcome", "total_ms", "sent_bytes"] {
            assert_eq!(told["run"][name], row[name], "{run}: {name}");
        }
        assert_eq!(told["policy"], row["policy"]);
    }
}

#[test]
fn a_run_in_the_mean_is_explained_page_by_page_and_a_note_says_so() {
    let fresh = Fresh::new();
    fresh.write("small.toml", SMALL);
    let printed = fresh.run(&["simulate", "small.toml", "--set", "run.fidelity=fluid", "--format", "json"]);
    assert_eq!(printed.code, Some(0), "{}", printed.err);
    fresh.write("run.json", printed.out);
    let ended = fresh.run(&["explain", "run.json"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("page by page") && !ended.err.contains("not what was noted"), "{}", ended.err);
}

#[test]
fn the_same_run_gives_the_same_words_on_any_number_of_threads() {
    let fresh = Fresh::new();
    fresh.write("never.toml", NEVER);
    let told = |threads: &str| {
        let mut command = fresh.command(&["explain", "never.toml", "--plot", "why.svg"]);
        let output = command.env("RAYON_NUM_THREADS", threads).output().expect("the program starts");
        (output.stdout, fresh.read("why.svg"))
    };
    assert_eq!(told("1"), told("3"));
}

#[test]
fn the_plot_is_a_drawing_with_a_mark_for_every_part() {
    let fresh = Fresh::new();
    fresh.write("never.toml", NEVER);
    fresh.ok(&["explain", "never.toml", "--plot", "why.svg"]);
    let svg = fresh.read("why.svg");
    assert!(svg.starts_with("<?xml") && svg.trim_end().ends_with("</svg>"));
    for words in
        ["rounds stopped getting smaller", "under other policies", "as it was", "brings it over", "downtime"]
    {
        assert!(svg.contains(words), "no `{words}`");
    }
    assert_eq!(fresh.names(), ["never.toml", "why.svg"]);
}

#[test]
fn after_the_decision_nothing_could_have_changed_it_and_that_is_no_error() {
    let fresh = Fresh::new();
    let told = json(&fresh.ok(&["simulate", "--format", "json"]));
    let total = told["total_ms"].as_f64().expect("a total");
    let late = format!("{}ms", (total - 1.0) as u64);
    let text = fresh.ok(&["explain", "--at", &late]);
    assert!(text.contains("was decided by then"), "{text}");
    assert!(!text.contains("taken over here"), "{text}");
    let ended = fresh.run(&["explain", "--at", "1h", "--plot", "why.svg"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("1 h") && ended.err.contains("ended after 28."), "{}", ended.err);
    assert!(fresh.names().is_empty());
}

#[test]
fn of_many_runs_it_is_said_whether_they_are_a_sweeps_or_a_benchs() {
    let fresh = Fresh::new();
    fresh.write("sweep.toml", SMALL_SWEEP);
    fresh.ok(&["sweep", "sweep.toml", "--out", "results", "--set", "run.repeat=1"]);
    for what in ["a sweep", "a bench"] {
        let ended = fresh.run(&["explain", "results"]);
        assert_eq!(ended.code, Some(2), "{}", ended.err);
        assert!(ended.err.contains(&format!("{what} has many runs: --cell says which")), "{}", ended.err);
        // What a bench alone leaves.
        fresh.write("results/host.toml", "");
    }
}
