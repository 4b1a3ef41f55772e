//! The committed inputs of the fuzz target `machines`, replayed. What a fuzzer found once stays found: its
//! input goes into `fuzz/corpus/machines`, under a name that says what happens.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)] // Tests may read files and print.

use std::path::Path;

use whimbrel_core::fuzzing::check_machines;

#[test]
fn every_committed_input_keeps_the_promises() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/machines");
    let mut replayed = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        // Shown only if the check panics.
        println!("{}", path.display());
        check_machines(&std::fs::read(&path).unwrap());
        replayed += 1;
    }
    assert!(replayed >= 10, "only {replayed} inputs in {}", folder.display());
}
