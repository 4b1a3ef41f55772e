//! The directory of a sweep's results: its tables, the report and the scenario, all there or none.

use std::fs;
use std::path::{Path, PathBuf};

use super::batch::Batch;
use super::row::{Format, Names, cell_row, cells_header, migrations_header, policies_table, rounds_header};
use super::tally::Tally;
use super::unfinished::{self, Begun, Identity, Unfinished};
use super::{CellRecord, Finished, SweepError, page};
use crate::output::{FinishedFile, OutputError, WholeFile};
use crate::scenario::{Grid, Scenario};

/// What the tables are called; a sweep writes some of them.
const TABLES: [&str; 4] = ["migrations", "rounds", "cells", "policies"];

/// The ends of their names.
const FORMATS: [&str; 3] = ["jsonl", "csv", "parquet"];

/// Every name that a sweep may write. Files of other names are left alone.
fn names() -> impl Iterator<Item = String> {
    let tables = TABLES.iter().flat_map(|table| FORMATS.map(|format| format!("{table}.{format}")));
    tables.chain(["report.html", "scenario.toml"].map(str::to_owned))
}

/// How `scenario.toml` begins: by it a directory is known to hold a sweep's results.
const MARK: &str = "# Swept by whimbrel";

/// The most cells of which a page is made; a browser would not open more.
pub(super) const MOST_CELLS_ON_A_PAGE: u64 = 100_000;

/// Which tables are written, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// How they are stored.
    pub format: Format,
    /// A table with one row a round, too.
    pub rounds: bool,
    /// Percentiles by cell and by policy in place of a row a migration.
    pub summary: bool,
}

/// How a sweep begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Anew; not where another sweep is not finished, and not over files that no sweep wrote.
    New,
    /// Anew, whatever is there.
    Anyway,
    /// Where it was cut.
    Resume,
}

/// Where the results of a sweep will be. What is not finished is kept in a folder of its own; dropped without a row,
/// it leaves nothing behind, not even a directory that it made.
#[derive(Debug)]
pub struct ResultDir {
    path: PathBuf,
    tables: Tables,
    unfinished: Unfinished,
    made: MadeDirectories,
    /// It holds rows, so that it is worth keeping.
    worth: bool,
}

/// What was written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Published {
    /// The files, in the order in which they should be named to people.
    pub files: Vec<PathBuf>,
    /// The report; none if the grid has more cells than a page can show.
    pub report: Option<PathBuf>,
}

/// The names of the growing tables, those with a row a migration and a row a round.
fn growing(tables: Tables) -> Vec<String> {
    let names = ["migrations", "rounds"].into_iter().take(match (tables.summary, tables.rounds) {
        (true, _) => 0,
        (false, rounds) => 1 + usize::from(rounds),
    });
    names.map(|name| format!("{name}.{}", tables.format.growing())).collect()
}

/// All names that such tables may have.
fn all_growing() -> Vec<String> {
    let names = ["migrations", "rounds"].into_iter();
    names.flat_map(|name| FORMATS.map(|format| format!("{name}.{format}"))).collect()
}

impl ResultDir {
    /// Makes or takes the directory and begins the tables, so that a place that cannot be written to is
    /// known before the first run. Results of an earlier sweep stay until the new ones are complete.
    ///
    /// # Errors
    ///
    /// If the place is no directory, cannot be written to, holds what may not be overwritten, or does not hold what
    /// is to be gone on with.
    pub fn open(
        path: &Path,
        scenario: &Scenario,
        grid: &Grid,
        tables: Tables,
        begin: Begin,
    ) -> Result<Self, SweepError> {
        let identity = Identity::new(
            scenario.to_toml(),
            grid.traces()?,
            tables.format.extension(),
            tables.rounds,
            tables.summary,
        );
        let growing = growing(tables);
        if begin == Begin::Resume {
            let unfinished = Unfinished::resume(path, &identity, &growing)?;
            return Self::begun_with(path, grid, tables, unfinished, MadeDirectories(Vec::new()), true);
        }
        unfinished::check_idle(path)?;
        let made = MadeDirectories::make(path)?;
        if begin == Begin::New {
            check_origin(path)?;
            if unfinished::is_there(path) {
                return Err(SweepError::Unfinished { path: path.to_owned() });
            }
        }
        unfinished::remove(path, &all_growing())?;
        let unfinished = Unfinished::begin(path, &identity, &growing)?;
        Self::begun_with(path, grid, tables, unfinished, made, false)
    }

    fn begun_with(
        path: &Path,
        grid: &Grid,
        tables: Tables,
        unfinished: Unfinished,
        made: MadeDirectories,
        worth: bool,
    ) -> Result<Self, SweepError> {
        clean_up(path);
        let mut results = Self { path: path.to_owned(), tables, unfinished, made, worth };
        // The lines of names, unless they are there.
        let headers = [migrations_header(tables.format, grid), rounds_header(tables.format)];
        if results.unfinished.is_new() {
            for (table, header) in headers.iter().enumerate().take(growing(tables).len()) {
                results.unfinished.add(table, header)?;
            }
        }
        Ok(results)
    }

    /// Which tables are written.
    pub fn tables(&self) -> Tables {
        self.tables
    }

    /// Runs that it holds before it goes on.
    pub fn runs(&self) -> u64 {
        self.unfinished.runs()
    }

    /// Where it goes on.
    pub(super) fn begun(&mut self) -> Begun {
        self.unfinished.begun()
    }

    /// Whether a record a cell is wanted: not of so many cells that are only to be summed up.
    pub(super) fn wants_cells(&self, grid: &Grid) -> bool {
        !self.tables.summary || grid.cells() <= MOST_CELLS_ON_A_PAGE
    }

    /// Adds a batch, the next in the order of the grid.
    pub(super) fn add(
        &mut self,
        batch: &Batch,
        repeat: u64,
        tally: &mut Tally<'_>,
    ) -> Result<(), OutputError> {
        self.worth = true;
        self.made.keep();
        for (number, value) in (batch.from..).zip(&batch.values) {
            if let Some(complete) = tally.add(number / repeat, value) {
                self.unfinished.add_cell(&complete)?;
            }
        }
        if !self.tables.summary {
            self.unfinished.add(0, &batch.rows.migrations)?;
        }
        if self.tables.rounds && !self.tables.summary {
            self.unfinished.add(1, &batch.rows.rounds)?;
        }
        if self.unfinished.is_due() { self.unfinished.note(tally) } else { Ok(()) }
    }

    /// Adds a cell that is complete.
    pub(super) fn add_cell(&mut self, cell: Option<&CellRecord>) -> Result<(), OutputError> {
        cell.map_or(Ok(()), |cell| self.unfinished.add_cell(cell))
    }

    /// Puts everything on the disk and notes how far it is.
    pub(super) fn note(&mut self, tally: &Tally<'_>) -> Result<(), OutputError> {
        self.unfinished.note(tally)
    }

    /// The cells that are complete.
    pub(super) fn cells(&mut self) -> Result<Vec<CellRecord>, OutputError> {
        self.unfinished.cells()?.collect()
    }

    /// The folder in which an unfinished sweep is kept.
    pub fn unfinished(&self) -> PathBuf {
        self.path.join(unfinished::FOLDER)
    }

    /// Writes what sums the rows up, and puts all files in their place. Tables that an earlier sweep
    /// left there and this one does not write are removed: they would belong to other rows.
    ///
    /// # Errors
    ///
    /// If the sweep was stopped, or something could not be written; nothing is in its place then, and the sweep can
    /// be resumed.
    pub fn publish(
        mut self,
        scenario: &Scenario,
        grid: &Grid,
        finished: &Finished,
    ) -> Result<Published, SweepError> {
        let Finished { runs, planned, .. } = *finished;
        if runs < planned {
            return Err(SweepError::Incomplete { runs, planned });
        }
        let names_of_cells = Names::of(grid)?;
        let with_page = grid.cells() <= MOST_CELLS_ON_A_PAGE;
        let mut files: Vec<WholeFile> = Vec::new();
        if with_page {
            let page = page::render(scenario, grid, &names_of_cells, finished, self.tables);
            files.push(self.file("report.html", &page)?);
        }
        if self.wants_cells(grid) {
            files.push(self.cells_table(grid, &names_of_cells)?);
        }
        if self.tables.summary {
            files.push(self.policies_table(finished)?);
        }
        files.push(self.file("scenario.toml", &scenario_file(scenario))?);
        let rows = self.row_tables();
        #[cfg(feature = "parquet")]
        if self.tables.format == Format::Parquet {
            files.append(&mut self.parquet_tables(grid)?);
        }
        // All must be on the disk before the first one takes its place. Tables that grew come first: a sweep that is
        // cut here fetches them back when it is resumed.
        let complete = files.into_iter().map(WholeFile::finish).collect::<Result<Vec<_>, _>>()?;
        self.made.keep();
        for (from, to) in &rows {
            put(from, to)?;
        }
        let mut files = complete.into_iter().map(FinishedFile::publish).collect::<Result<Vec<_>, _>>()?;
        files.extend(rows.into_iter().map(|(_, to)| to));
        // Named last: it is there to run the sweep again.
        files.sort_by_key(|file| file.file_name().is_some_and(|name| name == "scenario.toml"));
        for stale in names().map(|name| self.path.join(name)) {
            if !files.contains(&stale) {
                remove(&stale)?;
            }
        }
        unfinished::remove(&self.path, &all_growing())?;
        self.worth = true;
        Ok(Published { report: files.first().filter(|_| with_page).cloned(), files })
    }

    fn cells_table(&mut self, grid: &Grid, names: &Names<'_>) -> Result<WholeFile, SweepError> {
        let Tables { format, summary, .. } = self.tables;
        let header = cells_header(format, grid, summary);
        let cells = self.unfinished.cells()?;
        #[cfg(feature = "parquet")]
        if format == Format::Parquet {
            let header = cells_header(Format::Csv, grid, summary);
            let rows = cells.map(|cell| cell.map(|cell| cell_row(format, names, &cell, summary)));
            return super::parquet::table(&self.path.join("cells.parquet"), "cells", &header, rows);
        }
        let mut file = WholeFile::create(&self.path.join(format!("cells.{}", format.extension())))?;
        file.write(&header)?;
        for cell in cells {
            file.write(&cell_row(format, names, &cell?, summary))?;
        }
        Ok(file)
    }

    /// The table of policies.
    fn policies_table(&self, finished: &Finished) -> Result<WholeFile, SweepError> {
        let format = self.tables.format;
        let table = policies_table(format, &finished.policies);
        #[cfg(feature = "parquet")]
        if format == Format::Parquet {
            let header = policies_table(Format::Csv, &[]);
            let rows = table.lines().map(|line| Ok(line.to_owned()));
            return super::parquet::table(&self.path.join("policies.parquet"), "policies", &header, rows);
        }
        Ok(self.file(&format!("policies.{}", format.extension()), &table)?)
    }

    /// Where the tables that grew are and where they belong; none where others are made of them.
    fn row_tables(&self) -> Vec<(PathBuf, PathBuf)> {
        if self.tables.format.growing() != self.tables.format.extension() {
            return Vec::new();
        }
        let tables = growing(self.tables).into_iter().enumerate();
        tables.map(|(table, name)| (self.unfinished.table(table).to_owned(), self.path.join(name))).collect()
    }

    /// The tables that are made of those that grew.
    #[cfg(feature = "parquet")]
    fn parquet_tables(&self, grid: &Grid) -> Result<Vec<WholeFile>, SweepError> {
        let headers = [migrations_header(Format::Csv, grid), rounds_header(Format::Csv)];
        let tables = headers.iter().zip(TABLES).take(growing(self.tables).len()).enumerate();
        tables
            .map(|(table, (header, name))| {
                let place = self.path.join(format!("{name}.parquet"));
                super::parquet::of_file(&place, name, header, self.unfinished.table(table))
            })
            .collect()
    }

    fn file(&self, name: &str, text: &str) -> Result<WholeFile, OutputError> {
        let mut file = WholeFile::create(&self.path.join(name))?;
        file.write(text)?;
        Ok(file)
    }
}

impl Drop for ResultDir {
    fn drop(&mut self) {
        if !self.worth {
            // Nobody is left to tell.
            let _ = unfinished::remove(&self.path, &all_growing());
        }
    }
}

/// Removes what a sweep that was killed while its results took their place left beside them.
fn clean_up(results: &Path) {
    let left = |name: &str| {
        Path::new(name).extension().is_some_and(|end| end == "tmp")
            && names().any(|known| name.strip_prefix('.').is_some_and(|rest| rest.starts_with(&known)))
    };
    for entry in fs::read_dir(results).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(left) {
            // It is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Puts a file in its place; links that are there stay links.
fn put(from: &Path, to: &Path) -> Result<(), OutputError> {
    let place = fs::canonicalize(to).unwrap_or_else(|_| to.to_owned());
    fs::rename(from, place).map_err(|source| OutputError::Write { path: to.to_owned(), source })
}

fn remove(path: &Path) -> Result<(), OutputError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(OutputError::Write { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// The scenario as it is stored beside the results.
fn scenario_file(scenario: &Scenario) -> String {
    format!(
        "{MARK} {}. Every default is written out; run it again with `whimbrel sweep scenario.toml`.\n\n{}",
        env!("CARGO_PKG_VERSION"),
        scenario.to_toml()
    )
}

/// Refuses to overwrite what no sweep wrote.
fn check_origin(path: &Path) -> Result<(), SweepError> {
    let ours = fs::read(path.join("scenario.toml")).is_ok_and(|text| text.starts_with(MARK.as_bytes()));
    match names().find(|name| !ours && path.join(name).symlink_metadata().is_ok()) {
        Some(name) => Err(SweepError::Foreign { path: path.to_owned(), name }),
        None => Ok(()),
    }
}

/// Directories that were made; removed again unless they are kept. What others put there stays, and
/// with it the directory.
#[derive(Debug)]
struct MadeDirectories(Vec<PathBuf>);

impl MadeDirectories {
    fn make(path: &Path) -> Result<Self, SweepError> {
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => return Ok(Self(Vec::new())),
            Ok(_) => {
                return Err(SweepError::NotDirectory { path: path.to_owned() });
            }
            Err(_) => {}
        }
        let missing = path.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists());
        let made = Self(missing.map(Path::to_owned).collect());
        fs::create_dir_all(path).map_err(|source| OutputError::Write { path: path.to_owned(), source })?;
        Ok(made)
    }

    fn keep(&mut self) {
        self.0.clear();
    }
}

impl Drop for MadeDirectories {
    fn drop(&mut self) {
        for dir in &self.0 {
            // Not empty: somebody else uses it.
            let _ = fs::remove_dir(dir);
        }
    }
}
