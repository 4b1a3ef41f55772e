//! The directory of a comparison's results: rows, summary and page, all there or none.

use std::fs;
use std::path::{Path, PathBuf};

use super::record::{MARK, RunRow, json};
use super::summary::Summary;
use super::{CompareError, Comparison, page};
use crate::output::{FinishedFile, WholeFile};

/// Every name that a comparison writes.
const NAMES: [&str; 3] = ["compare.html", "summary.json", "runs.jsonl"];

/// Where the results of a comparison will be. Dropped before [`ResultDir::publish`], it leaves nothing of them.
#[derive(Debug)]
pub struct ResultDir {
    path: PathBuf,
    runs: WholeFile,
    replaces: bool,
}

/// The files that were written, in the order in which they should be named to people.
pub type Published = Vec<PathBuf>;

impl ResultDir {
    /// Makes or takes the directory and begins the rows, so that a place that can't be written to is known before
    /// the first run. Results of an earlier comparison stay until the new ones are complete.
    ///
    /// # Errors
    ///
    /// If the place can't be written to, or holds files of other origin that would be overwritten, unless `force` is
    /// set.
    pub fn open(path: &Path, force: bool) -> Result<Self, CompareError> {
        fs::create_dir_all(path)
            .map_err(|source| CompareError::Directory { path: path.to_owned(), source })?;
        let ours = fs::read_to_string(path.join("summary.json")).is_ok_and(|text| text.contains(MARK));
        let there = |name: &&str| path.join(name).symlink_metadata().is_ok();
        if let Some(name) = NAMES.into_iter().find(|name| !ours && !force && there(name)) {
            return Err(CompareError::Foreign { path: path.to_owned(), name });
        }
        let replaces = NAMES.iter().any(there);
        Ok(Self { path: path.to_owned(), runs: WholeFile::create(&path.join("runs.jsonl"))?, replaces })
    }

    /// Whether results of an earlier comparison are there, which [`ResultDir::publish`] replaces.
    pub fn replaces(&self) -> bool {
        self.replaces
    }

    /// Adds a run.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub fn add(&mut self, row: &RunRow<'_>) -> Result<(), CompareError> {
        Ok(self.runs.write(&row.line())?)
    }

    /// Writes what sums the rows up, and puts all files in their place. `command` is what makes the same again.
    ///
    /// # Errors
    ///
    /// If something could not be written; nothing is in its place then.
    pub fn publish(
        self,
        comparison: &Comparison,
        summary: &Summary,
        command: &str,
    ) -> Result<Published, CompareError> {
        let whole = |name: &str, text: &str| -> Result<WholeFile, CompareError> {
            let mut file = WholeFile::create(&self.path.join(name))?;
            file.write(text)?;
            Ok(file)
        };
        let page = whole("compare.html", &page::render(comparison, summary, command))?;
        let stored = whole("summary.json", &json(comparison, summary))?;
        let files = [page, stored, self.runs].map(WholeFile::finish);
        let files = files.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(files.into_iter().map(FinishedFile::publish).collect::<Result<Vec<_>, _>>()?)
    }
}
