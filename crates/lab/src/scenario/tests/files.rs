//! Scenarios that name files.

use std::fs;
use std::path::PathBuf;

use super::*;

const TRACE: &str = "\
# whimbrel-trace schema=1 page_size=4KiB memory=1MiB
start_ns,length_ns,first_page,pages
0,50000000,3,2
";

const SCENARIO: &str = "\
[guest]
memory = \"1MiB\"

[[guest.writers]]
pattern = \"trace\"
trace = \"of/guest.csv\"
";

fn folder(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("whimbrel-files-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(dir.join("of")).unwrap();
    fs::write(dir.join("of/guest.csv"), TRACE).unwrap();
    fs::write(dir.join("of/other.csv"), TRACE.replace("3,2", "7,1")).unwrap();
    dir
}

fn touched(setup: &Setup) -> Vec<u64> {
    let trace = setup.guest.writers[0].trace.as_ref().unwrap().trace().unwrap();
    trace.touched().flat_map(whimbrel_core::layout::PageRun::range).collect()
}

#[test]
fn a_trace_is_found_from_the_folder_of_the_scenario_wherever_that_is_printed() {
    let dir = folder("found");
    fs::write(dir.join("scenario.toml"), SCENARIO).unwrap();
    let scenario = Scenario::load(dir.join("scenario.toml")).unwrap();
    assert_eq!(touched(scenario.setup()), [3, 4]);
    fs::create_dir_all(dir.join("elsewhere")).unwrap();
    fs::write(dir.join("elsewhere/scenario.toml"), scenario.to_toml()).unwrap();
    let again = Scenario::load(dir.join("elsewhere/scenario.toml")).unwrap();
    assert_eq!(again.setup(), scenario.setup());
    assert_eq!(again.to_toml(), scenario.to_toml());
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn traces_are_swept_as_other_keys_and_a_cell_runs_alone() {
    let dir = folder("swept");
    let sweep = "[sweep]\n\"guest.writers.0.trace\" = [\"of/guest.csv\", \"of/other.csv\"]\n";
    fs::write(dir.join("scenario.toml"), format!("{SCENARIO}\n{sweep}")).unwrap();
    let grid = Scenario::load(dir.join("scenario.toml")).unwrap().grid().unwrap();
    let cell = grid.cell(1).unwrap();
    assert_eq!((touched(&grid.cell(0).unwrap().setup), touched(&cell.setup)), (vec![3, 4], vec![7]));
    let mut alone = Scenario::load(dir.join("scenario.toml")).unwrap();
    alone.apply_overrides(&cell.overrides()).unwrap();
    assert_eq!(*alone.setup(), cell.setup);
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_trace_that_cannot_be_read_is_named_with_its_key() {
    let dir = folder("missing");
    let chain = |text: &str| {
        fs::write(dir.join("scenario.toml"), text).unwrap();
        let error = Scenario::load(dir.join("scenario.toml")).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        (error.to_string(), source)
    };
    let (error, source) = chain(&SCENARIO.replace("guest.csv", "none.csv"));
    assert!(error.ends_with("scenario.toml:6: `guest.writers.0.trace`"), "{error}");
    assert!(source.starts_with("cannot read ") && source.ends_with("of/none.csv"), "{source}");
    let (_, source) = chain(&SCENARIO.replace("of/guest.csv", "of"));
    assert!(source.ends_with("it is a directory, accepted is a file"), "{source}");
    let (_, source) = chain(&SCENARIO.replace("of/guest.csv", "scenario.toml"));
    assert!(source.contains("scenario.toml:1: no trace begins with `[guest]`"), "{source}");
    let (error, _) = chain(&SCENARIO.replace("1MiB", "16KiB"));
    assert!(
        error.contains("`guest.writers.0.trace` cannot be ") && error.contains("within guest.memory"),
        "{error}"
    );
    let (error, _) = chain(&SCENARIO.replace("trace = \"of/guest.csv\"", ""));
    assert!(error.contains("`guest.writers.0.trace` cannot be none"), "{error}");
    // Of another pattern it is not even looked for.
    let (error, _) = chain(&SCENARIO.replace("\"trace\"", "\"uniform\"").replace("of/guest.csv", "none"));
    assert!(error.contains("working-set"), "{error}");
    fs::remove_dir_all(dir).unwrap();
}
