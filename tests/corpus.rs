//! The committed inputs of all fuzz targets, replayed. What a fuzzer found once stays found: its input goes into the
//! target's folder in `fuzz/corpus`, under a name that says what it is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use whimbrel_core::fuzzing::{check_machines, check_peer};
use whimbrel_lab::{scenario, trace};
use whimbrel_wire::fuzzing;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn replay(target: &str, check: fn(&[u8])) {
    let folder = corpus().join(target);
    let mut replayed = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        // Shown only if the check panics.
        println!("{}", path.display());
        check(&std::fs::read(&path).unwrap());
        replayed += 1;
    }
    assert!(replayed >= 10, "only {replayed} inputs in {}", folder.display());
}

/// A target and what it checks, as in `fuzz/fuzz_targets`.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 8] = [
    ("control", fuzzing::control),
    ("frame", fuzzing::frame),
    ("hello", fuzzing::hello),
    ("machines", check_machines),
    ("pages", fuzzing::pages),
    ("peer", check_peer),
    ("scenario", scenario::check),
    ("trace", trace::check),
];

#[test]
fn no_committed_input_breaks_what_its_target_promises() {
    for (target, check) in TARGETS {
        replay(target, check);
    }
}

#[test]
fn every_target_is_replayed() {
    let named = |path: PathBuf| path.file_stem().map(|name| name.to_string_lossy().into_owned());
    let of = |folder: &Path| -> BTreeSet<String> {
        std::fs::read_dir(folder).unwrap().filter_map(|entry| named(entry.unwrap().path())).collect()
    };
    let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(of(&corpus()), known);
    assert_eq!(of(&corpus().join("../fuzz_targets")), known);
}
