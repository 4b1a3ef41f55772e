//! Every preset on every workload of `scenarios/`, the published ones among them. The built-in sets are left
//! out: page by page and without optimisation they take ten minutes (they passed; `whimbrel compare` runs them all).
//!
//! What a policy with a deadline promises is that it ends by it; what all promise is that a run comes to an
//! end that is named, whatever the guest does, and leaves nothing behind.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use whimbrel_core::policy::presets::PRESETS;
use whimbrel_core::report::Outcome;
use whimbrel_lab::scenario::Scenario;
use whimbrel_lab::sweep::simulation;
use whimbrel_lab::workloads::Set;
use whimbrel_sim::{GuestAt, Run};

fn scenarios(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let sets = |folder: &&PathBuf| Set::ALL.iter().any(|set| folder.ends_with(set.name()));
    let below = folders.iter().filter(|folder| !sets(folder)).flat_map(|folder| scenarios(folder));
    below.chain(files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "toml"))).collect()
}

/// The workload of `file` under `preset`. A guest of many GiB is cut off early: a policy that never ends
/// would take the test minutes.
fn run(file: &Path, preset: &str) -> Run {
    let mut scenario = Scenario::load(file).unwrap();
    let name = format!("policy.preset={preset}");
    scenario.apply_overrides(&["sweep={}".to_owned(), name]).unwrap();
    let big = scenario.setup().guest.memory.0 > 8 << 30;
    let limit = if big { "run.time-limit=5min" } else { "run.time-limit=20min" };
    scenario.apply_overrides(&[limit]).unwrap();
    let setup = scenario.setup();
    let mut simulation = simulation(setup, setup.run.seed).unwrap();
    simulation.journal = false;
    whimbrel_sim::simulate(&simulation)
        .unwrap_or_else(|error| panic!("{preset} on {}: {error}", file.display()))
}

#[test]
fn every_preset_runs_on_every_workload_and_comes_to_a_clean_end() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios"));
    let files = scenarios(&folder);
    assert!(files.len() >= 13, "{files:?}");
    let pairs: Vec<_> =
        files.iter().flat_map(|file| PRESETS.iter().map(move |preset| (file, preset))).collect();
    let completed: usize = pairs
        .par_iter()
        .map(|(file, preset)| {
            let run = run(file, preset.name);
            let what = format!("{} on {}: {}", preset.name, file.display(), run.report.why);
            assert!(run.clean, "{what}: tracking or a throttle was left");
            let expected = match run.report.outcome {
                Outcome::Completed => GuestAt::Destination,
                Outcome::Aborted | Outcome::TimedOut | Outcome::Cancelled => GuestAt::Source,
                outcome => panic!("{what}: {outcome}"),
            };
            assert_eq!(run.guest_at, expected, "{what}");
            assert!(!run.report.why.is_empty(), "{what}");
            usize::from(run.report.outcome == Outcome::Completed)
        })
        .sum();
    assert!(completed * 10 > pairs.len() * 6, "only {completed} of {} completed", pairs.len());
}

/// `scenarios/every-preset.toml` promises to compare the whole field.
#[test]
fn the_comparison_of_every_preset_has_every_preset() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios/every-preset.toml");
    let scenario = Scenario::load(file).unwrap();
    let axis = scenario.axes().iter().find(|axis| &*axis.key == "policy.preset").unwrap();
    let swept: Vec<_> = axis.values.iter().map(|value| value.text.trim_matches('"')).collect();
    let known: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
    assert_eq!(swept, known);
}
