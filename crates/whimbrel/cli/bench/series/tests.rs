//! The note of a series: what it says after a cut, and what it refuses.

use whimbrel_lab::scenario::Scenario;

use super::super::super::args::{GuestLog, Over, SweepFormat};
use super::super::diary::tests::made;
use super::*;

fn matrix(name: &str, rate: u32) -> Matrix {
    let text =
        format!("[guest]\nmemory = \"16MiB\"\n[[guest.writers]]\nworking-set = \"4MiB\"\nrate = {rate}\n");
    let file = PathBuf::from(format!("{name}.toml"));
    let scenario = Scenario::parse(&text, &file.display().to_string()).expect("a scenario");
    let grid = scenario.grid().expect("a grid");
    Matrix { name: name.to_owned(), file, scenario, grid }
}

fn args(out: &Path, resume: bool) -> BenchArgs {
    BenchArgs {
        matrices: Vec::new(),
        overrides: Vec::new(),
        runs: None,
        over: Over::Unix,
        log: GuestLog::default(),
        memory: "private".parse().expect("a kind"),
        out: out.to_owned(),
        format: SweepFormat::Jsonl,
        rounds: false,
        journals: false,
        resume,
        force: false,
    }
}

/// A directory that is not there yet.
fn place(name: &str) -> PathBuf {
    let out = std::env::temp_dir().join(format!("whimbrel-series-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&out);
    out
}

#[test]
fn a_note_is_gone_on_with_wherever_it_was_cut() {
    let (out, (_, _, row)) = (place("cut"), made());
    let matrices = [matrix("a", 1000), matrix("b", 1000), matrix("c", 1000)];
    let rows = |count| vec![row.clone(); count];
    let mut series = Series::open(&args(&out, false), &matrices).expect("a new one");
    series.complete("a", &rows(1)).expect("written");
    series.complete("b", &rows(2)).expect("written");
    drop(series);
    let whole = fs::read(out.join(NOTE)).expect("kept: there is something to go on with");
    let ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').map(|at| at + 1).collect();
    assert_eq!(ends.len(), 3);
    // Around the ends of lines at every byte, in them here and there: all bytes would take a minute.
    let near =
        |length: &usize| ends.iter().any(|end| end.abs_diff(*length) <= 2) || length.is_multiple_of(211);
    for length in (0..=whole.len()).filter(near) {
        fs::write(out.join(NOTE), &whole[..length]).expect("written");
        let mut series = Series::open(&args(&out, true), &matrices).expect("gone on with");
        let complete = |series: &Series, name| series.complete_before(name).map(|rows| rows.len());
        assert_eq!(complete(&series, "a"), (length >= ends[1]).then_some(1), "{length} bytes");
        assert_eq!(complete(&series, "b"), (length >= ends[2]).then_some(2), "{length} bytes");
        series.complete("c", &rows(3)).expect("written");
        drop(series);
        let series = Series::open(&args(&out, true), &matrices).expect("gone on with again");
        assert_eq!(complete(&series, "c"), Some(3), "{length} bytes: behind half a line");
    }
    Series::open(&args(&out, true), &matrices).and_then(Series::end).expect("all are complete");
    assert!(!out.exists());
}

#[test]
fn a_note_that_another_build_wrote_is_not_cut_off_behind_what_cannot_be_read() {
    let (out, (_, _, row)) = (place("damaged"), made());
    let matrices = [matrix("a", 1000), matrix("b", 1000), matrix("c", 1000)];
    let mut series = Series::open(&args(&out, false), &matrices).expect("a new one");
    for name in ["a", "b"] {
        series.complete(name, std::slice::from_ref(&row)).expect("written");
    }
    drop(series);
    let note = out.join(NOTE);
    let text = fs::read_to_string(&note).expect("kept").replacen("\"total_ms\"", "\"total\"", 1);
    fs::write(&note, &text).expect("written");
    let Err(Failure::Failed(error)) = Series::open(&args(&out, true), &matrices) else {
        panic!("it was gone on with");
    };
    let says = format!("{error:#}");
    assert!(says.contains(&*note.to_string_lossy()) && says.contains("line 2 is damaged"), "{says}");
    assert_eq!(fs::read_to_string(&note).expect("kept"), text);
    fs::remove_dir_all(&out).expect("removed");
}

#[test]
fn where_nothing_was_begun_there_is_nothing_left_and_nothing_to_go_on_with() {
    let (out, matrices) = (place("none"), [matrix("a", 1000), matrix("b", 1000)]);
    drop(Series::open(&args(&out, false), &matrices).expect("a new one"));
    assert!(!out.exists());
    let refused = Series::open(&args(&out, true), &matrices).expect_err("nothing is there");
    assert!(matches!(&refused, Failure::BadInput(error) if error.to_string().contains("holds no bench")));
}

#[test]
fn another_series_than_the_one_that_was_cut_is_refused() {
    let (out, matrices) = (place("other"), || vec![matrix("a", 1000), matrix("b", 1000)]);
    let mut series = Series::open(&args(&out, false), &matrices()).expect("a new one");
    series.complete("a", &[made().2]).expect("written");
    let running = Series::open(&args(&out, true), &matrices()).expect_err("it is running");
    assert!(matches!(&running, Failure::Failed(error) if error.to_string().contains("is running")));
    drop(series);
    let before = fs::read(out.join(NOTE)).expect("kept");
    let refused = |args: &BenchArgs, matrices: &[Matrix], says: &str| {
        match Series::open(args, matrices) {
            Err(Failure::BadInput(error) | Failure::Failed(error)) => {
                assert!(format!("{error:#}").contains(says), "{error:#}");
            }
            other => panic!("{says}: {other:?}"),
        }
        assert_eq!(fs::read(out.join(NOTE)).expect("kept"), before, "{says}");
    };
    // One whose turn has come, and one whose turn has not.
    for (rates, file) in [((700, 1000), "a.toml"), ((1000, 700), "b.toml")] {
        let says = format!(
            "{file} was another scenario when it was begun: `guest.writers.0.rate = 1000.0` was there, now \
             `guest.writers.0.rate = 700.0`"
        );
        refused(&args(&out, true), &[matrix("a", rates.0), matrix("b", rates.1)], &says);
    }
    let names = [matrix("a", 1000), matrix("c", 1000)];
    refused(&args(&out, true), &names, "begun with the matrices a, b, not a, c");
    let over = BenchArgs { over: Over::Tcp, ..args(&out, true) };
    refused(&over, &matrices(), "begun with --over unix --log best --memory private --format jsonl, not");
    let rounds = BenchArgs { rounds: true, ..args(&out, true) };
    refused(&rounds, &matrices(), "--format jsonl --rounds");
    refused(&args(&out, false), &matrices(), "go on with it by --resume");
    fs::remove_dir_all(&out).expect("removed");
}
