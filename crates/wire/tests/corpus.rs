//! The committed inputs of the fuzz targets of the same names, replayed. What a fuzzer found once stays found: its input
//! goes into the target's folder in `fuzz/corpus`, under a name that says what it is.

use std::path::Path;

use whimbrel_wire::fuzzing;

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
fn every_committed_first_message_is_read_or_refused() {
    replay("hello", fuzzing::hello);
}

#[test]
fn every_committed_frame_is_read_or_refused() {
    replay("frame", fuzzing::frame);
}

#[test]
fn every_committed_control_message_is_read_or_refused() {
    replay("control", fuzzing::control);
}

#[test]
fn every_committed_batch_of_pages_is_applied_or_refused_and_every_guest_moved() {
    replay("pages", fuzzing::pages);
}

#[test]
fn every_committed_batch_of_pages_is_read_or_refused() {
    replay("pages", fuzzing::pages);
}
