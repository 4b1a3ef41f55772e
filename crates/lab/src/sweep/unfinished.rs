//! A sweep that is not finished: its rows so far, and how far it is, in the folder `unfinished` of its results.
//!
//! Rows are appended in the order of the grid. Now and then everything is put on the disk, and then a note of how
//! long each file is and of all sums, which replaces the note before it in one step; the sweep goes on meanwhile.
//! Whatever cuts the sweep, what
//! the last note names is there: whoever resumes cuts the files to these lengths and goes on behind them. Rows are
//! the same on each run, so the results are the same bytes as if nothing had happened.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::beside::{Beside, Load, Note};
use super::cell::CellRecord;
use super::changes::changes;
use super::kept;
use super::tally::{Sums, Tally};
use super::values::{STORED, Values};
use super::{ResumeError, SweepError};
use crate::output::{OutputError, lock_patiently, write_whole};

/// The folder of what is not finished.
pub(super) const FOLDER: &str = "unfinished";
/// What is swept, and how.
const SWEEP: &str = "sweep.json";
/// How far it is.
const PROGRESS: &str = "progress.json";
/// The next note while it is written.
const NEXT: &str = "progress.new";
/// Records of the cells that are complete.
const CELLS: &str = "cells";
/// Numbers of the runs of the cell in progress.
const OPEN: &str = "open-cell";
/// What whoever makes the runs keeps beside them: see [`ResultDir::beside`](super::ResultDir::beside).
pub(super) const BESIDE: &str = "beside.jsonl";

/// The version of these files.
const SCHEMA: u32 = 3;
/// The least time between two notes.
const PAUSE: Duration = Duration::from_secs(1);
/// Of the time, at most this part is for gathering notes.
const SHARE: u32 = 20;
/// So many bytes are put on the disk without a note, so that the next one, and the end, need not wait for them.
const PUSH: u64 = 16 << 20;
/// Bytes gathered before they are handed to the system.
const BUFFER: usize = 1 << 16;
/// The largest note and description that are believed.
const LARGEST: u64 = 1 << 30;

/// What is swept: the same if the results are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) schema: u32,
    /// Of the program.
    pub(super) version: String,
    pub(super) format: String,
    pub(super) rounds: bool,
    pub(super) summary: bool,
    /// Of the traces that guests play back.
    pub(super) traces: Vec<String>,
    /// Every default written out.
    pub(super) scenario: String,
}

impl Identity {
    /// The schema of these files goes with the version.
    pub(super) fn new(
        scenario: String,
        traces: Vec<String>,
        format: &str,
        rounds: bool,
        summary: bool,
    ) -> Self {
        let (version, format) = (env!("CARGO_PKG_VERSION").to_owned(), format.to_owned());
        Self { schema: SCHEMA, version, format, rounds, summary, traces, scenario }
    }

    /// What is not the same in `other`, which is asked for now.
    fn differs(&self, other: &Self) -> Option<String> {
        let yes = |flag: bool| if flag { "with" } else { "without" };
        if self.schema != other.schema || self.version != other.version {
            return Some(format!("it was begun by version {}, this is {}", self.version, other.version));
        }
        if self.format != other.format {
            return Some(format!("its format is {}, not {}", self.format, other.format));
        }
        if self.rounds != other.rounds {
            return Some(format!("it was begun {} --rounds", yes(self.rounds)));
        }
        if self.summary != other.summary {
            return Some(format!("it was begun {} --summary", yes(self.summary)));
        }
        if self.scenario != other.scenario {
            let changes = changes(&self.scenario, &other.scenario);
            return Some(format!("it was begun with another scenario{changes}"));
        }
        (self.traces != other.traces).then(|| "a trace that its guest plays back has changed".to_owned())
    }
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Progress {
    /// Runs whose rows are there.
    runs: u64,
    /// Bytes of each file: the tables, the cells, the runs of cells in progress.
    bytes: Vec<u64>,
    /// Where in the last file the cell in progress begins.
    open_from: u64,
    sums: Sums,
}

/// A file that grows.
#[derive(Debug)]
struct Growing {
    path: PathBuf,
    writer: BufWriter<Arc<File>>,
    bytes: u64,
}

fn fail(path: &Path) -> impl Fn(io::Error) -> OutputError + '_ {
    |source| OutputError::Write { path: path.to_owned(), source }
}

impl Growing {
    /// Opens a file that is to be `bytes` long, and cuts what is behind.
    fn open(path: PathBuf, bytes: u64) -> Result<Self, SweepError> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(fail(&path))?;
        let length = file.metadata().map_err(fail(&path))?.len();
        if length < bytes {
            return Err(ResumeError::Damaged { path, length, bytes }.into());
        }
        file.set_len(bytes).and_then(|()| file.seek(SeekFrom::Start(bytes))).map_err(fail(&path))?;
        Ok(Self { path, writer: BufWriter::with_capacity(BUFFER, Arc::new(file)), bytes })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        self.bytes += bytes.len() as u64;
        self.writer.write_all(bytes).map_err(fail(&self.path))
    }

    /// Hands everything to the system.
    fn flush(&mut self) -> Result<(), OutputError> {
        self.writer.flush().map_err(fail(&self.path))
    }

    /// What is to be put on the disk.
    fn file(&self) -> (PathBuf, Arc<File>) {
        (self.path.clone(), Arc::clone(self.writer.get_ref()))
    }
}

/// The files of a sweep that is not finished.
#[derive(Debug)]
pub(super) struct Unfinished {
    folder: PathBuf,
    /// Held while the sweep runs, so that no other goes on with it.
    _lock: File,
    tables: Vec<Growing>,
    cells: Growing,
    open: Growing,
    /// Which cell was in progress at the last note, where in `open` it begins, and how many of its runs are there.
    open_cell: (u64, u64, usize),
    /// Puts all this on the disk.
    beside: Beside,
    /// Bytes since it last began to.
    held: u64,
    noted: Instant,
    took: Duration,
    /// Where it goes on.
    begun: Begun,
}

/// Where a sweep goes on.
#[derive(Clone, Debug, Default)]
pub(super) struct Begun {
    /// Runs that are done.
    pub(super) runs: u64,
    pub(super) sums: Sums,
    /// The runs of the cell in progress.
    pub(super) open: Vec<Values>,
}

/// Whether there is a sweep that is not finished in this folder of results.
pub(super) fn is_there(results: &Path) -> bool {
    results.join(FOLDER).join(SWEEP).symlink_metadata().is_ok()
}

/// Refuses to touch a sweep that is running.
pub(super) fn check_idle(results: &Path) -> Result<(), SweepError> {
    if is_there(results) { lock(&results.join(FOLDER)).map(drop) } else { Ok(()) }
}

/// Removes what is not finished; what others put there stays.
pub(super) fn remove(results: &Path, tables: &[String]) -> Result<(), OutputError> {
    let folder = results.join(FOLDER);
    let own = [CELLS, OPEN, BESIDE, NEXT, PROGRESS, SWEEP].map(str::to_owned);
    // What says what it is goes last.
    for name in tables.iter().chain(&own) {
        let path = folder.join(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(fail(&path)(source)),
            _ => {}
        }
    }
    // Not empty: somebody else uses it.
    let _ = fs::remove_dir(&folder);
    Ok(())
}

impl Unfinished {
    /// Begins a sweep with these tables.
    pub(super) fn begin(results: &Path, identity: &Identity, tables: &[String]) -> Result<Self, SweepError> {
        remove(results, tables)?;
        let folder = results.join(FOLDER);
        fs::create_dir_all(&folder).map_err(fail(&folder))?;
        let text = serde_json::to_string(identity).unwrap_or_default();
        write_whole(&folder.join(SWEEP), &text)?;
        let lock = lock(&folder)?;
        Self::open(folder, lock, tables, Progress::default())
    }

    /// Goes on with a sweep that was cut; it must be the same.
    pub(super) fn resume(results: &Path, identity: &Identity, tables: &[String]) -> Result<Self, SweepError> {
        let folder = results.join(FOLDER);
        if !is_there(results) {
            return Err(ResumeError::Nothing { path: results.to_owned() }.into());
        }
        let lock = lock(&folder)?;
        let begun: Identity = note(&folder.join(SWEEP))?;
        if let Some(fault) = begun.differs(identity) {
            return Err(ResumeError::Other { path: results.to_owned(), fault }.into());
        }
        let progress = folder.join(PROGRESS);
        // Cut before the first note.
        let progress = if progress.exists() { note(&progress)? } else { Progress::default() };
        fetch_back(results, tables, &progress)?;
        Self::open(folder, lock, tables, progress)
    }

    fn open(folder: PathBuf, lock: File, tables: &[String], progress: Progress) -> Result<Self, SweepError> {
        let Progress { runs, bytes, open_from, sums } = progress;
        let mut lengths = bytes.into_iter();
        let mut next = |name: &str| Growing::open(folder.join(name), lengths.next().unwrap_or(0));
        let tables = tables.iter().map(|name| next(name)).collect::<Result<_, _>>()?;
        let (cells, open) = (next(CELLS)?, next(OPEN)?);
        let begun = Begun { runs, sums, open: runs_of(&open.path, open_from)? };
        let (noted, took) = (Instant::now(), Duration::ZERO);
        // Of no cell: what is in progress at the next note is written anew.
        let open_cell = (u64::MAX, 0, 0);
        let (beside, held) = (Beside::default(), 0);
        Ok(Self { folder, _lock: lock, tables, cells, open, open_cell, beside, held, noted, took, begun })
    }

    /// Runs that it holds before it goes on.
    pub(super) fn runs(&self) -> u64 {
        self.begun.runs
    }

    /// Where it goes on. To be asked once.
    pub(super) fn begun(&mut self) -> Begun {
        std::mem::take(&mut self.begun)
    }

    /// Whether nothing was ever written to a table.
    pub(super) fn is_new(&self) -> bool {
        self.tables.iter().all(|table| table.bytes == 0)
    }

    /// Adds lines to a table.
    pub(super) fn add(&mut self, table: usize, lines: &[u8]) -> Result<(), OutputError> {
        self.held += lines.len() as u64;
        self.tables[table].write(lines)
    }

    /// Keeps the records of cells that are complete, as [`kept`] stores them.
    pub(super) fn keep_cells(&mut self, records: &[u8]) -> Result<(), OutputError> {
        self.cells.write(records)
    }

    /// Keeps the runs of the cell in progress.
    fn keep_open(&mut self, cell: u64, runs: &[Values]) -> Result<(), OutputError> {
        // The last one stays the same when it is complete.
        if self.open_cell.0 != cell || runs.is_empty() {
            self.open_cell = (cell, self.open.bytes, 0);
        }
        let (_, _, kept) = &mut self.open_cell;
        let mut bytes = Vec::new();
        for run in &runs[(*kept).min(runs.len())..] {
            run.store(&mut bytes);
        }
        *kept = runs.len();
        self.open.write(&bytes)
    }

    /// Begins to put everything on the disk if it is time to, and if nothing is on its way there.
    pub(super) fn go_on(&mut self, tally: &Tally<'_>) -> Result<(), OutputError> {
        if self.beside.is_busy() {
            return Ok(());
        }
        if self.noted.elapsed() >= PAUSE.max(self.took * SHARE) {
            self.begin_note(tally)
        } else if self.held >= PUSH {
            self.push(None)
        } else {
            Ok(())
        }
    }

    /// Begins to put everything on the disk and to note how far it is.
    pub(super) fn begin_note(&mut self, tally: &Tally<'_>) -> Result<(), OutputError> {
        let started = Instant::now();
        let (cell, open) = tally.open();
        self.keep_open(cell, open)?;
        let mut bytes = Vec::new();
        for file in self.tables.iter_mut().chain([&mut self.cells, &mut self.open]) {
            file.flush()?;
            bytes.push(file.bytes);
        }
        let (runs, open_from, sums) = (tally.runs(), self.open_cell.1, tally.sums.clone());
        let (next, place) = (self.folder.join(NEXT), self.folder.join(PROGRESS));
        let bytes = serde_json::to_vec(&Progress { runs, bytes, open_from, sums });
        let bytes = bytes.map_err(|error| fail(&place)(error.into()))?;
        self.noted = Instant::now();
        self.took = self.noted - started;
        self.push(Some(Note { place, next, bytes }))
    }

    /// Begins to put what was handed to the system on the disk.
    fn push(&mut self, note: Option<Note>) -> Result<(), OutputError> {
        self.held = 0;
        let files = self.tables.iter().chain([&self.cells, &self.open]).map(Growing::file).collect();
        self.beside.begin(Load { files, note })
    }

    /// Waits until what was begun to be put on the disk is there.
    pub(super) fn settle(&mut self) -> Result<(), OutputError> {
        self.beside.settle()
    }

    /// The records of the cells that are complete.
    pub(super) fn cells(&mut self) -> Result<Vec<CellRecord>, SweepError> {
        self.cells.flush()?;
        let path = self.cells.path.clone();
        let unreadable = |source| ResumeError::Unreadable { path: path.clone(), source };
        let mut file = BufReader::new(File::open(&path).map_err(unreadable)?);
        let mut records = Vec::new();
        while let Some(record) = kept::load(&mut file).map_err(unreadable)? {
            records.push(record);
        }
        Ok(records)
    }

    /// The path of a table.
    pub(super) fn table(&self, table: usize) -> &Path {
        &self.tables[table].path
    }
}

/// Tables that took their place before the sweep was cut are fetched back.
fn fetch_back(results: &Path, tables: &[String], progress: &Progress) -> Result<(), OutputError> {
    for (name, bytes) in tables.iter().zip(&progress.bytes) {
        let (here, there) = (results.join(FOLDER).join(name), results.join(name));
        let moved = fs::metadata(&there).is_ok_and(|about| about.is_file() && about.len() == *bytes);
        if !here.exists() && moved {
            fs::rename(&there, &here).map_err(fail(&there))?;
        }
    }
    Ok(())
}

/// Refuses to go on with a sweep that is running.
fn lock(folder: &Path) -> Result<File, SweepError> {
    let path = folder.join(SWEEP);
    let file = File::open(&path).map_err(fail(&path))?;
    if lock_patiently(&file) {
        Ok(file)
    } else {
        Err(ResumeError::Running { path: folder.to_owned() }.into())
    }
}

/// Reads a note.
fn note<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, SweepError> {
    let unreadable = |source| ResumeError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text).map_err(unreadable)?;
    Ok(serde_json::from_str(&text).map_err(|error| unreadable(error.into()))?)
}

/// The runs of the cell in progress, from `from` on.
fn runs_of(path: &Path, from: u64) -> Result<Vec<Values>, SweepError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(from))?;
        file.read_to_end(&mut bytes)
    });
    read.map_err(|source| ResumeError::Unreadable { path: path.to_owned(), source })?;
    let (runs, rest) = bytes.as_chunks::<STORED>();
    let loaded: Option<Vec<Values>> = runs.iter().map(Values::load).collect();
    loaded.filter(|_| rest.is_empty()).ok_or_else(|| {
        ResumeError::Unreadable { path: path.to_owned(), source: io::ErrorKind::InvalidData.into() }.into()
    })
}
