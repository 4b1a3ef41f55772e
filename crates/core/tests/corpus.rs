//! The committed inputs of the fuzz targets `machines` and `peer`, replayed. What a fuzzer found once stays found: its
//! input goes into the target's folder in `fuzz/corpus`, under a name that says what happens.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)] // Tests may read files and print.

use std::path::Path;

use whimbrel_core::fuzzing::{check_machines, check_peer};

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
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

#[test]
fn every_committed_input_keeps_the_promises() {
    replay("machines", check_machines);
}

#[test]
fn no_committed_peer_makes_a_side_break_its_promises() {
    replay("peer", check_peer);
}
