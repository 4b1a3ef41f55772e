use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::scenario::PolicySpec;

fn memory(set: Set) -> BTreeSet<u64> {
    set.workloads().unwrap().iter().map(|workload| workload.scenario.setup().guest.memory.0).collect()
}

/// The working set and the rates of every writer.
fn writers(set: Set) -> BTreeSet<(u64, Vec<u64>)> {
    let mut found = BTreeSet::new();
    for workload in set.workloads().unwrap() {
        for writer in &workload.scenario.setup().guest.writers {
            let rates: Vec<u64> = if writer.phases.is_empty() {
                vec![writer.rate as u64]
            } else {
                writer.phases.iter().map(|phase| phase.rate as u64).collect()
            };
            found.insert((writer.working_set.0, rates));
        }
    }
    found
}

#[test]
fn the_sets_are_as_large_as_they_should_be() {
    assert!(comparison().unwrap().len() >= 12);
    assert!(held_out().unwrap().len() >= 8);
    assert!(design().unwrap().len() >= 10);
}

#[test]
fn no_two_sets_share_a_size_of_guest_or_a_writer() {
    for (one, other) in
        [(Set::Comparison, Set::HeldOut), (Set::Comparison, Set::Design), (Set::HeldOut, Set::Design)]
    {
        let shared: Vec<_> = memory(one).intersection(&memory(other)).copied().collect();
        assert!(shared.is_empty(), "{one:?}, {other:?}: guests of {shared:?} bytes");
        let shared: Vec<_> = writers(one).intersection(&writers(other)).cloned().collect();
        assert!(shared.is_empty(), "{one:?}, {other:?}: writers {shared:?}");
    }
}

#[test]
fn names_are_unique_and_every_file_is_built_in() {
    let mut seen = BTreeSet::new();
    assert!(names().all(|(_, name)| seen.insert(name)), "{seen:?}");
    assert!(names().all(|(_, name)| Set::named(name).is_none()));
    for set in Set::ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios").join(set.name());
        let files: BTreeSet<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        let built_in: BTreeSet<_> =
            set.workloads().unwrap().into_iter().map(|workload| workload.name).collect();
        assert_eq!(files, built_in, "{set:?}");
    }
}

#[test]
fn every_workload_says_what_it_is_and_has_a_time_limit_of_its_own() {
    for set in Set::ALL {
        for workload in set.workloads().unwrap() {
            let name = &workload.name;
            assert!(workload.about.len() > 20 && workload.about.ends_with('.'), "{name}: {}", workload.about);
            let limit = workload.scenario.setup().run.time_limit;
            assert!(limit <= std::time::Duration::from_mins(20), "{name}: {limit:?}");
            assert!(workload.scenario.axes().is_empty(), "{name}");
            assert_eq!(workload.scenario.setup().policy, PolicySpec::default(), "{name}");
        }
    }
}

#[test]
fn a_file_goes_before_a_name() {
    assert_eq!(open(Path::new("web")).unwrap().name(), "scenarios/comparison/web.toml");
    assert_eq!(open_all(Path::new("held-out")).unwrap().len(), held_out().unwrap().len());
    let error = open(Path::new("wbe")).unwrap_err();
    assert!(error.to_string().contains("`web`"), "{error}");
}

#[test]
fn the_first_sentence_is_what_it_is_about() {
    assert_eq!(about("# A guest of\n# 1.5 GiB. More\n\n[guest]"), "A guest of 1.5 GiB.");
    assert_eq!(about("# One line\n#\n# more"), "One line");
    assert_eq!(about("[guest]"), "");
}

#[test]
fn a_word_that_is_neither_file_nor_workload_is_told_what_there_is() {
    let error = open(Path::new("nosuch")).unwrap_err().to_string();
    assert!(
        error.contains("`nosuch`") && error.contains("idle, web") && error.contains("held-out"),
        "{error}"
    );
    // A path is a file that is missing, not a name.
    for path in ["some/nosuch", "nosuch.toml"] {
        let error = open(Path::new(path)).unwrap_err().to_string();
        assert!(error.contains("cannot read"), "{error}");
    }
}
