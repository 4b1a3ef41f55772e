//! The committed inputs of the fuzz target `scenario`, replayed. What a fuzzer found once stays found: its
//! input goes into `fuzz/corpus/scenario`, under a name that says what it is.

use std::path::Path;

use whimbrel_lab::scenario::check;

#[test]
fn every_committed_input_is_read_or_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/scenario");
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
