//! The committed inputs of the fuzz target `pages`, replayed, and many more that are made here. What a fuzzer found once stays
//! found: its input goes into `fuzz/corpus/pages`, under a name that says what happens.

use std::path::Path;

use proptest::prelude::*;
use whimbrel_wire::fuzzing::pages;

#[test]
fn every_committed_input_keeps_the_promises() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/pages");
    let mut replayed = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        // Shown only if the check panics.
        println!("{}", path.display());
        pages(&std::fs::read(&path).unwrap());
        replayed += 1;
    }
    assert!(replayed >= 15, "only {replayed} inputs in {}", folder.display());
}

proptest! {
    #[test]
    fn any_bytes_keep_the_promises(kind in 0u8..4, bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        pages(&[&[kind], bytes.as_slice()].concat());
    }

    /// Moves, most of whose steps are writes and batches.
    #[test]
    fn any_guest_is_moved(
        config in any::<[u8; 2]>(),
        steps in prop::collection::vec((prop_oneof![0u8..44, 200u8..=255], any::<u8>()), 0..200),
    ) {
        let steps: Vec<u8> = steps.into_iter().flat_map(|(what, value)| [what, value]).collect();
        pages(&[&[2], config.as_slice(), &steps].concat());
    }
}
