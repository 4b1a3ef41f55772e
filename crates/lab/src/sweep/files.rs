//! The directory of a sweep's results: its tables, the report and the scenario, all there or none.

use std::fs;
use std::path::{Path, PathBuf};

use super::batch::{Batch, CellTexts, Cells};
use super::row::{Format, Names, cells_header, migrations_header, policies_table, rounds_header};
use super::tally::Tally;
use super::unfinished::{self, Begun, Identity, Unfinished};
use super::values::Values;
use super::{CellRecord, Finished, SweepError, page, pool};
use crate::output::{FinishedFile, OutputError, WholeFile};
use crate::scenario::{Grid, Scenario};

/// What the tables are called; a sweep writes some of them, and a bench `fidelity` beside them.
const TABLES: [&str; 5] = ["migrations", "rounds", "cells", "policies", "fidelity"];

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
    /// They are of real migrations, made by `whimbrel bench`.
    pub real: bool,
}

impl Tables {
    /// The command that they are made by.
    pub(super) const fn command(self) -> &'static str {
        if self.real { "bench" } else { "sweep" }
    }
}

/// Whether a row a cell is wanted: not of so many cells that are only to be summed up.
fn wants_cells(tables: Tables, grid: &Grid) -> bool {
    !tables.summary || grid.cells() <= MOST_CELLS_ON_A_PAGE
}

/// The line of names of a growing table.
fn header_of(table: &str, format: Format, levels: bool, grid: &Grid) -> String {
    match table {
        "migrations" => migrations_header(format, grid),
        "rounds" => rounds_header(format),
        _ => cells_header(format, grid, levels),
    }
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
    /// The tables that grow.
    growing: Vec<&'static str>,
    unfinished: Unfinished,
    made: MadeDirectories,
    /// Of the cells that are complete, if there will be a page.
    records: Vec<CellRecord>,
    /// It holds rows, so that it is worth keeping.
    worth: bool,
    /// Files of others that belong to these results.
    others: Vec<PathBuf>,
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

/// The growing tables: those with a row a migration, a row a round and a row a cell.
fn growing(tables: Tables, cells: bool) -> Vec<&'static str> {
    let wanted = [!tables.summary, !tables.summary && tables.rounds, cells];
    TABLES.into_iter().zip(wanted).filter_map(|(table, wanted)| wanted.then_some(table)).collect()
}

/// The name of a growing table's file.
fn growing_file(table: &str, format: Format) -> String {
    format!("{table}.{}", format.growing())
}

/// All names that such tables may have.
fn all_growing() -> Vec<String> {
    let names = ["migrations", "rounds", "cells"].into_iter();
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
            if tables.real { format!("# real\n{}", scenario.to_toml()) } else { scenario.to_toml() },
            grid.traces()?,
            tables.format.extension(),
            tables.rounds,
            tables.summary,
        );
        let growing = growing(tables, wants_cells(tables, grid));
        let files: Vec<String> = growing.iter().map(|table| growing_file(table, tables.format)).collect();
        if begin == Begin::Resume {
            let unfinished = Unfinished::resume(path, &identity, &files)?;
            return Self::begun_with(path, grid, tables, unfinished, MadeDirectories(Vec::new()), true);
        }
        unfinished::check_idle(path)?;
        let made = MadeDirectories::make(path)?;
        if begin == Begin::New {
            // First: what was finished of it may lie there under names of ours.
            if unfinished::is_there(path) {
                return Err(SweepError::Unfinished { path: path.to_owned() });
            }
            check_origin(path)?;
        }
        unfinished::remove(path, &all_growing())?;
        let unfinished = Unfinished::begin(path, &identity, &files)?;
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
        let growing = growing(tables, wants_cells(tables, grid));
        let (path, records) = (path.to_owned(), Vec::new());
        let mut results =
            Self { path, tables, growing, unfinished, made, records, worth, others: Vec::new() };
        if results.unfinished.is_new() {
            for (index, table) in results.growing.clone().into_iter().enumerate() {
                let header = header_of(table, tables.format, tables.summary, grid);
                results.unfinished.add(index, header.as_bytes())?;
            }
        } else if grid.cells() <= MOST_CELLS_ON_A_PAGE {
            results.records = results.unfinished.cells()?;
        }
        Ok(results)
    }

    /// Whether there are results in this directory that are not finished.
    pub fn is_unfinished(path: &Path) -> bool {
        unfinished::is_there(path)
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

    /// Whether a record a cell is wanted.
    pub(super) fn wants_cells(&self, grid: &Grid) -> bool {
        wants_cells(self.tables, grid)
    }

    /// How cells are told of.
    pub(super) fn texts<'a>(&self, grid: &Grid, names: &'a Names<'a>) -> CellTexts<'a> {
        let page = grid.cells() <= MOST_CELLS_ON_A_PAGE;
        CellTexts::new(grid, names, self.tables, self.wants_cells(grid), page)
    }

    /// Adds a batch, the next in the order of the grid.
    pub(super) fn add(
        &mut self,
        batch: &mut Batch,
        repeat: u64,
        tally: &mut Tally<'_>,
        texts: &CellTexts<'_>,
    ) -> Result<(), OutputError> {
        self.worth = true;
        self.made.keep();
        let whole = batch.whole.clone();
        let all = batch.values.len();
        // Cells of which the batch has a part lie at its ends.
        let part = |run: u64| (run.saturating_sub(batch.from) as usize).min(all);
        let (head, tail) = if whole.is_empty() {
            (all, all)
        } else {
            (part(whole.start * repeat), part(whole.end * repeat))
        };
        self.add_runs(batch.from, &batch.values[..head], repeat, tally, texts)?;
        if !whole.is_empty() {
            let last = tally.close();
            self.add_cell(last, texts)?;
            for (cell, values) in whole.zip(batch.values[head..tail].chunks(repeat as usize)) {
                tally.add_whole(cell, values);
            }
            self.add_cells(&mut batch.cells)?;
        }
        self.add_runs(batch.from + tail as u64, &batch.values[tail..], repeat, tally, texts)?;
        self.add_lines("migrations", &batch.rows.migrations)?;
        self.add_lines("rounds", batch.rows.rounds.as_bytes())?;
        self.unfinished.go_on(tally)
    }

    /// Adds runs of cells that may not be complete, the first one of this number.
    fn add_runs(
        &mut self,
        from: u64,
        values: &[Values],
        repeat: u64,
        tally: &mut Tally<'_>,
        texts: &CellTexts<'_>,
    ) -> Result<(), OutputError> {
        for (number, value) in (from..).zip(values) {
            let complete = tally.add(number / repeat, value);
            self.add_cell(complete, texts)?;
        }
        Ok(())
    }

    /// Adds a cell that is complete.
    pub(super) fn add_cell(
        &mut self,
        cell: Option<CellRecord>,
        texts: &CellTexts<'_>,
    ) -> Result<(), OutputError> {
        let Some(record) = cell else { return Ok(()) };
        let mut cells = Cells::default();
        texts.add(&mut cells, record);
        self.add_cells(&mut cells)
    }

    fn add_cells(&mut self, cells: &mut Cells) -> Result<(), OutputError> {
        self.add_lines("cells", &cells.rows)?;
        self.records.append(&mut cells.records);
        self.unfinished.keep_cells(&cells.kept)
    }

    /// Adds lines to a table, if it is one that grows.
    fn add_lines(&mut self, table: &str, lines: &[u8]) -> Result<(), OutputError> {
        let index = self.growing.iter().position(|known| *known == table);
        index.map_or(Ok(()), |index| self.unfinished.add(index, lines))
    }

    /// Begins to put everything on the disk and to note how far it is.
    pub(super) fn begin_note(&mut self, tally: &Tally<'_>) -> Result<(), OutputError> {
        self.unfinished.begin_note(tally)
    }

    /// Waits until the last note is on the disk.
    pub(super) fn settle(&mut self) -> Result<(), OutputError> {
        self.unfinished.settle()
    }

    /// The cells that are complete, if there will be a page. To be asked once.
    pub(super) fn cells(&mut self) -> Vec<CellRecord> {
        std::mem::take(&mut self.records)
    }

    /// The folder in which an unfinished sweep is kept.
    pub fn unfinished(&self) -> PathBuf {
        self.path.join(unfinished::FOLDER)
    }

    /// A file for what whoever makes the runs wants to keep beside them until all are made: it is there as long as the folder is, and
    /// goes with it.
    pub fn beside(&self) -> PathBuf {
        self.unfinished().join(unfinished::BESIDE)
    }

    /// A file that its maker has put there already belongs to these results, and is not taken for one of results before them.
    pub fn has_too(&mut self, file: PathBuf) {
        self.others.push(file);
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
            let page = || page::render(scenario, grid, &names_of_cells, finished, self.tables);
            let page = pool(finished.jobs)?.install(page);
            files.push(self.file("report.html", &page)?);
        }
        if self.tables.summary {
            files.push(self.policies_table(finished)?);
        }
        files.push(self.file("scenario.toml", &scenario_file(scenario, self.tables))?);
        let rows = self.row_tables();
        #[cfg(feature = "parquet")]
        if self.tables.format == Format::Parquet {
            files.append(&mut self.parquet_tables(grid)?);
        }
        // All must be on the disk before the first one takes its place. Tables that grew come first: a sweep that is
        // cut here fetches them back when it is resumed.
        let complete = files.into_iter().map(WholeFile::finish).collect::<Result<Vec<_>, _>>()?;
        self.unfinished.settle()?;
        self.made.keep();
        for (from, to) in &rows {
            put(from, to)?;
        }
        let mut files = complete.into_iter().map(FinishedFile::publish).collect::<Result<Vec<_>, _>>()?;
        files.extend(rows.into_iter().map(|(_, to)| to));
        // Named last: it is there to run the sweep again.
        files.sort_by_key(|file| file.file_name().is_some_and(|name| name == "scenario.toml"));
        for stale in names().map(|name| self.path.join(name)) {
            if !files.contains(&stale) && !self.others.contains(&stale) {
                remove(&stale)?;
            }
        }
        unfinished::remove(&self.path, &all_growing())?;
        self.worth = true;
        Ok(Published { report: files.first().filter(|_| with_page).cloned(), files })
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
        let tables = self.growing.iter().enumerate();
        let place = |table: &str| self.path.join(growing_file(table, self.tables.format));
        tables.map(|(index, table)| (self.unfinished.table(index).to_owned(), place(table))).collect()
    }

    /// The tables that are made of those that grew.
    #[cfg(feature = "parquet")]
    fn parquet_tables(&self, grid: &Grid) -> Result<Vec<WholeFile>, SweepError> {
        let made = self.growing.iter().enumerate().map(|(index, table)| {
            let header = header_of(table, Format::Csv, self.tables.summary, grid);
            let place = self.path.join(format!("{table}.parquet"));
            super::parquet::of_file(&place, table, &header, self.unfinished.table(index))
        });
        made.collect()
    }

    fn file(&self, name: &str, text: &str) -> Result<WholeFile, OutputError> {
        let mut file = WholeFile::create(&self.path.join(name))?;
        file.write(text)?;
        Ok(file)
    }
}

impl Drop for ResultDir {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = self.unfinished.settle();
        if !self.worth {
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
fn scenario_file(scenario: &Scenario, tables: Tables) -> String {
    format!(
        "{MARK} {}. Every default is written out; run it again with `whimbrel {} scenario.toml`.\n\n{}",
        env!("CARGO_PKG_VERSION"),
        tables.command(),
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
