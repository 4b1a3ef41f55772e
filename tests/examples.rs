//! The examples that move a guest do what they say: each is run as whoever reads it would run it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where the build has put the example of this source: beside the folder of tests.
fn built(source: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let example = source.file_stem().expect("a name");
    let test = std::env::current_exe().expect("this program");
    let folder = test.parent().and_then(Path::parent).expect("target/PROFILE/deps");
    let program = folder.join("examples").join(example);
    let changed = |path: &Path| path.metadata().and_then(|data| data.modified());
    let (source, built) = (changed(&source).expect("it is there"), changed(&program).ok());
    // `cargo test` builds them; with a choice of tests it does not.
    assert!(built >= Some(source), "{} is old or missing: cargo build --examples", program.display());
    program
}

fn run(source: &str) -> (Output, String) {
    let output = Command::new(built(source)).output().expect("it can be run");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{source}: {}\n{said}", output.status);
    (output, said)
}

#[test]
fn memory_of_ones_own_is_moved_and_no_write_is_lost() {
    let (_, said) = run("examples/embed_memory.rs");
    assert!(said.contains("completed") && said.contains("Theirs") && said.contains("none lost"), "{said}");
}

#[cfg(all(feature = "kvm", target_arch = "x86_64", target_os = "linux"))]
#[test]
fn a_vmm_on_kvm_is_moved_with_its_registers_and_no_write_is_lost() {
    let (output, said) = run("crates/guest/examples/embed_kvm.rs");
    if String::from_utf8_lossy(&output.stderr).contains("SKIPPED") {
        return whimbrel_guest::conformance::skip("kvm", &said.trim());
    }
    assert!(said.contains("completed") && said.contains("none lost"), "{said}");
}
