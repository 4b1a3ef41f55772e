use std::path::Path;
use std::process::{Command, Output};

use super::{NOTES, REQUIRED, skip};

const TEST: &str =
    "conformance::skipping::tests::a_skip_is_heard_past_the_runner_noted_and_a_failure_where_required";
/// What tells the test that it is the one that skips itself.
const CHILD: &str = "WHIMBREL_TEST_THAT_SKIPS";

fn skipping(required: &str, notes: &Path) -> Output {
    let this = std::env::current_exe().expect("this program");
    // Captured by the runner, as it is for people.
    let mut child = Command::new(this);
    child.args(["--exact", TEST]).env(CHILD, "1").env(REQUIRED, required).env(NOTES, notes);
    child.output().expect("this program runs")
}

#[test]
fn a_skip_is_heard_past_the_runner_noted_and_a_failure_where_required() {
    if std::env::var_os(CHILD).is_some() {
        return skip("moon", &"it has not risen");
    }
    let notes = std::env::temp_dir().join(format!("whimbrel-skips-{}", std::process::id()));
    let line = "SKIPPED, no moon: it has not risen";
    for count in 1..=2 {
        let heard = skipping("uffd,sun", &notes);
        assert!(heard.status.success() && String::from_utf8_lossy(&heard.stderr).contains(line), "{heard:?}");
        let noted = std::fs::read_to_string(&notes).expect("a file of notes");
        assert_eq!(noted.lines().filter(|noted| noted.starts_with(line)).count(), count, "{noted}");
    }
    assert!(!skipping("uffd,moon", &notes).status.success());
    assert!(!skipping("moon kvm", &notes).status.success());
    std::fs::remove_file(&notes).expect("ours");
}
