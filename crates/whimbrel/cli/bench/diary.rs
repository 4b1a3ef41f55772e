//! What a bench keeps beside the rows of its tables until all moves are made: what moving costs here, and of each move its record and its
//! forecast. A line each, on the disk before the next move begins, so that whoever goes on with a bench that was cut loses no move and
//! measures nothing twice.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use whimbrel_lab::real::fidelity::Fidelity;
use whimbrel_lab::real::ground::Ground;
use whimbrel_lab::result::MigrationRecord;

use super::super::failure::Failure;
use super::lines::{self, Lines};
use super::plan::Key;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
enum Line {
    /// The first one: what the scenario does not say of how guests are moved.
    Begun {
        how: String,
    },
    Ground {
        of: Key,
        costs: Box<Ground>,
    },
    Move {
        record: Box<MigrationRecord>,
        beside: Box<Fidelity>,
    },
}

/// The file, open for more.
#[derive(Debug)]
pub(super) struct Diary {
    lines: Lines,
}

/// What a diary held.
#[derive(Debug, Default)]
pub(super) struct Before {
    pub(super) grounds: BTreeMap<Key, Ground>,
    pub(super) records: Vec<MigrationRecord>,
    pub(super) rows: Vec<Fidelity>,
}

impl Diary {
    /// Opens it, with the first `runs` moves: of so many the tables have rows. What was written behind these is cut off. `how` guests
    /// are moved must be as it was.
    pub(super) fn open(path: &Path, runs: u64, how: &str) -> Result<(Self, Before), Failure> {
        let mut before = Before::default();
        let mut lines = Lines::open(path, |line| {
            match line {
                Line::Begun { how: then } if then == how => {}
                Line::Begun { how: then } => {
                    return Err(Failure::BadInput(anyhow!(
                        "cannot resume: it was begun with {then}, not {how}"
                    )));
                }
                Line::Ground { of, costs } => drop(before.grounds.insert(of, *costs)),
                Line::Move { record, beside } if (before.rows.len() as u64) < runs => {
                    before.records.push(*record);
                    before.rows.push(*beside);
                }
                // Cut before its row was noted.
                Line::Move { .. } => return Ok(false),
            }
            Ok(true)
        })?;
        if before.rows.len() as u64 != runs {
            let found = before.rows.len();
            let why = anyhow!("it has {found} moves, the tables have {runs}");
            return Err(Failure::Failed(why.context(lines::damaged(path))));
        }
        lines.cut()?;
        if lines.is_new() {
            lines.add(&Line::Begun { how: how.to_owned() })?;
        }
        Ok((Self { lines }, before))
    }

    /// What moving guests of a kind costs.
    pub(super) fn ground(&mut self, of: &Key, costs: &Ground) -> Result<(), Failure> {
        self.lines.add(&Line::Ground { of: of.clone(), costs: Box::new(costs.clone()) })
    }

    /// A move that was made.
    pub(super) fn moved(&mut self, record: &MigrationRecord, beside: &Fidelity) -> Result<(), Failure> {
        self.lines.add(&Line::Move { record: Box::new(record.clone()), beside: Box::new(beside.clone()) })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use whimbrel_core::units::ByteCount;
    use whimbrel_lab::real::guest::lab_guest;
    use whimbrel_lab::scenario::Scenario;

    use super::super::plan::{Method, Sending};
    use super::*;

    fn ground() -> Ground {
        let us = Duration::from_micros;
        Ground {
            memory: ByteCount::mib(16),
            page: Duration::from_nanos(1_701),
            zero_page: Duration::from_nanos(280),
            harvest: us(250),
            begin: us(500),
            tracking_fault: us(3),
            pause: us(80),
            save: us(10),
            restore: us(20),
            resume: us(30),
            persist: us(900),
            round_trip: us(150),
            state: ByteCount(700),
            compression: None,
        }
    }

    /// A record with rounds, and a row: simulated, which both are as well.
    pub(in super::super) fn made() -> (Key, MigrationRecord, Fidelity) {
        let text = "[guest]\nmemory = \"16MiB\"\n[[guest.writers]]\nworking-set = \"4MiB\"\nrate = 20000.0\n";
        let scenario = Scenario::parse(text, "a.toml").expect("a scenario");
        let cell = scenario.grid().expect("a grid").cell(0).expect("one cell");
        lab_guest(&cell.setup.guest, 0).expect("a lab guest");
        let setup = whimbrel_lab::sweep::simulation(&cell.setup, 7).expect("a setup");
        let record = MigrationRecord::of(&whimbrel_sim::simulate(&setup).expect("a run"), 7);
        assert!(record.round.len() > 1 && record.round.iter().any(|round| round.decision.is_some()));
        let row = Fidelity::new(&cell, 0, "plain".to_owned(), &record, &record, (Some(1.25), true), None);
        let sending = Sending { streams: 2, method: Method::Lz4, delta_cache: 0 };
        (Key::of(&cell.setup, sending), record, row)
    }

    #[test]
    fn what_was_kept_is_read_back_exactly_and_what_has_no_row_is_cut_off() {
        let path = std::env::temp_dir().join(format!("whimbrel-diary-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let (key, record, row) = made();
        let (mut diary, before) = Diary::open(&path, 0, "over unix").expect("a new one");
        assert!(before.rows.is_empty());
        diary.ground(&key, &ground()).expect("written");
        for _ in 0..3 {
            diary.moved(&record, &row).expect("written");
        }
        drop(diary);
        // Killed in the middle of a line.
        let whole = std::fs::read(&path).expect("there");
        std::fs::write(&path, &whole[..whole.len() - 10]).expect("written");
        let (mut diary, before) = Diary::open(&path, 1, "over unix").expect("it holds one");
        assert_eq!(
            (before.rows.as_slice(), before.records.as_slice()),
            (&[row.clone()][..], &[record.clone()][..])
        );
        assert_eq!(before.grounds, BTreeMap::from([(key, ground())]));
        diary.moved(&record, &row).expect("written");
        let running = Diary::open(&path, 2, "over unix").expect_err("it is open");
        assert!(matches!(&running, Failure::Failed(error) if error.to_string().contains("is running")));
        drop(diary);
        let (_, before) = Diary::open(&path, 2, "over unix").expect("it holds two");
        assert_eq!(before.rows.len(), 2);
        assert!(Diary::open(&path, 3, "over unix").is_err(), "it does not hold three");
        assert!(matches!(Diary::open(&path, 2, "over tcp"), Err(Failure::BadInput(_))));
        std::fs::remove_file(&path).expect("removed");
    }

    /// Another build may have written a line that this one cannot read; a cut would take the moves behind it along.
    #[test]
    fn a_whole_line_that_says_nothing_is_damage_and_nothing_is_cut_off() {
        let path = std::env::temp_dir().join(format!("whimbrel-diary-damaged-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let (_, record, row) = made();
        let (mut diary, _) = Diary::open(&path, 0, "over unix").expect("a new one");
        for _ in 0..2 {
            diary.moved(&record, &row).expect("written");
        }
        drop(diary);
        let text = std::fs::read_to_string(&path).expect("there").replacen("\"total_ms\"", "\"total\"", 1);
        std::fs::write(&path, &text).expect("written");
        for runs in 0..=2 {
            let damaged = Diary::open(&path, runs, "over unix").expect_err("line 2 is damaged");
            let Failure::Failed(error) = damaged else { panic!("{damaged:?}") };
            let says = format!("{error:#}");
            for words in [path.to_string_lossy().as_ref(), "line 2 is damaged", "missing field", "--force"] {
                assert!(says.contains(words), "{words}: {says}");
            }
            assert_eq!(std::fs::read_to_string(&path).expect("there"), text, "nothing is cut off");
        }
        std::fs::remove_file(&path).expect("removed");
    }

    /// What the system was not asked stays so.
    #[test]
    fn a_move_whose_processor_time_is_not_known_is_read_back() {
        let path = std::env::temp_dir().join(format!("whimbrel-diary-cpu-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let (_, mut record, mut row) = made();
        (record.encoding.source_cpu_s, row.measured.source_cpu_s) = (None, None);
        let (mut diary, _) = Diary::open(&path, 0, "over unix").expect("a new one");
        diary.moved(&record, &row).expect("written");
        drop(diary);
        let (_, before) = Diary::open(&path, 1, "over unix").expect("it holds one");
        assert_eq!((before.records, before.rows), (vec![record], vec![row]));
        std::fs::remove_file(&path).expect("removed");
    }

    /// A kill leaves what was written so far, which may end anywhere; whatever else is said then is read back, too.
    #[test]
    fn a_diary_is_gone_on_with_wherever_it_was_cut() {
        let path = std::env::temp_dir().join(format!("whimbrel-diary-cut-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let (key, record, row) = made();
        let (mut diary, _) = Diary::open(&path, 0, "over unix").expect("a new one");
        diary.ground(&key, &ground()).expect("written");
        diary.moved(&record, &row).expect("written");
        drop(diary);
        let whole = std::fs::read(&path).expect("there");
        // Around the ends of lines at every byte, in them here and there: all bytes would take ten seconds.
        let near = |length: &usize| {
            length.is_multiple_of(61)
                || whole[length.saturating_sub(2)..].iter().take(4).any(|byte| *byte == b'\n')
        };
        for length in (0..=whole.len()).filter(near) {
            let runs = u64::from(length == whole.len());
            std::fs::write(&path, &whole[..length]).expect("written");
            let (mut diary, before) = Diary::open(&path, runs, "over unix").expect("gone on with");
            assert_eq!(before.rows.len() as u64, runs, "{length} bytes");
            if before.grounds.is_empty() {
                diary.ground(&key, &ground()).expect("written");
            }
            diary.moved(&record, &row).expect("written");
            drop(diary);
            let (_, before) = Diary::open(&path, runs + 1, "over unix").expect("read back");
            assert_eq!(before.grounds, BTreeMap::from([(key.clone(), ground())]), "{length} bytes");
        }
        std::fs::remove_file(&path).expect("removed");
    }
}
