//! The directory of a sweep's results: its tables, the report and the scenario, all there or none.

use std::fs;
use std::path::{Path, PathBuf};

use super::row::{Format, Names, Rows, cells_table, migrations_header, rounds_header};
use super::{Finished, SweepError, page};
use crate::output::{FinishedFile, OutputError, WholeFile};
use crate::scenario::{Grid, Scenario};

/// Every name that a sweep may write. Files of other names are left alone.
const NAMES: [&str; 8] = [
    "migrations.jsonl",
    "migrations.csv",
    "rounds.jsonl",
    "rounds.csv",
    "cells.jsonl",
    "cells.csv",
    "report.html",
    "scenario.toml",
];

/// How `scenario.toml` begins: by it a directory is known to hold a sweep's results.
const MARK: &str = "# Swept by whimbrel";

/// The most cells of which a page is made; a browser would not open more.
pub(super) const MOST_CELLS_ON_A_PAGE: u64 = 100_000;

/// Where the results of a sweep will be. Dropped before [`ResultDir::publish`], it leaves nothing
/// behind, not even a directory that it made.
#[derive(Debug)]
pub struct ResultDir {
    path: PathBuf,
    format: Format,
    /// None only while it is published.
    migrations: Option<WholeFile>,
    rounds: Option<WholeFile>,
    made: MadeDirectories,
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

impl ResultDir {
    /// Makes or takes the directory and begins the tables, so that a place that cannot be written to is
    /// known before the first run. Results of an earlier sweep stay until the new ones are complete.
    ///
    /// # Errors
    ///
    /// If the place is no directory, cannot be written to, or holds files of other origin that would be
    /// overwritten, unless `force` is set.
    pub fn open(
        path: &Path,
        grid: &Grid,
        format: Format,
        rounds: bool,
        force: bool,
    ) -> Result<Self, SweepError> {
        let made = MadeDirectories::make(path)?;
        if !force {
            check_origin(path)?;
        }
        let begin = |name: &str, header: String| -> Result<WholeFile, OutputError> {
            let mut file = WholeFile::create(&path.join(format!("{name}.{}", format.extension())))?;
            file.write(&header)?;
            Ok(file)
        };
        let migrations = Some(begin("migrations", migrations_header(format, grid))?);
        let rounds = if rounds { Some(begin("rounds", rounds_header(format))?) } else { None };
        Ok(Self { path: path.to_owned(), format, migrations, rounds, made })
    }

    /// How its tables are stored.
    pub fn format(&self) -> Format {
        self.format
    }

    pub(super) fn wants_rounds(&self) -> bool {
        self.rounds.is_some()
    }

    pub(super) fn add(&mut self, rows: &Rows) -> Result<(), OutputError> {
        if let Some(file) = &mut self.migrations {
            file.write(&rows.migrations)?;
        }
        if let Some(file) = &mut self.rounds {
            file.write(&rows.rounds)?;
        }
        Ok(())
    }

    /// Writes what sums the rows up, and puts all files in their place. Tables that an earlier sweep
    /// left there and this one does not write are removed: they would belong to other rows.
    ///
    /// # Errors
    ///
    /// If something could not be written; nothing is in its place then.
    pub fn publish(
        mut self,
        scenario: &Scenario,
        grid: &Grid,
        finished: &Finished,
    ) -> Result<Published, SweepError> {
        let names = Names::of(grid)?;
        let toml = scenario_file(scenario);
        let mut files: Vec<WholeFile> = Vec::new();
        let with_page = grid.cells() <= MOST_CELLS_ON_A_PAGE;
        if with_page {
            let page = page::render(scenario, grid, &names, finished, self.wants_rounds(), self.format);
            files.push(self.file("report.html", &page)?);
        }
        let cells = cells_table(self.format, grid, &names, &finished.cells);
        files.push(self.file(&format!("cells.{}", self.format.extension()), &cells)?);
        files.extend(self.migrations.take());
        files.extend(self.rounds.take());
        files.push(self.file("scenario.toml", &toml)?);
        // All must be on the disk before the first one takes its place.
        let complete = files.into_iter().map(WholeFile::finish).collect::<Result<Vec<_>, _>>()?;
        self.made.keep();
        let files = complete.into_iter().map(FinishedFile::publish).collect::<Result<Vec<_>, _>>()?;
        for stale in NAMES.map(|name| self.path.join(name)) {
            if !files.contains(&stale) {
                remove(&stale)?;
            }
        }
        Ok(Published { report: files.first().filter(|_| with_page).cloned(), files })
    }

    fn file(&self, name: &str, text: &str) -> Result<WholeFile, OutputError> {
        let mut file = WholeFile::create(&self.path.join(name))?;
        file.write(text)?;
        Ok(file)
    }
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
    match NAMES.into_iter().find(|name| !ours && path.join(name).symlink_metadata().is_ok()) {
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
