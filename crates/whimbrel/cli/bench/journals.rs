//! What a bench keeps of each run where it is asked to: the journal of the move, for `whimbrel replay`, and what was forecast of it.
//!
//! Both are called by their row's cell and repetition. They are with what is not finished until all is, so that a bench that is cut loses
//! none of them, and results that are there keep theirs.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use whimbrel_lab::output::{FinishedFile, WholeFile};
use whimbrel_lab::result::MigrationRecord;
use whimbrel_lab::scenario::Grid;

use super::super::failure::Failure;

/// Their folder in that of the results.
const FOLDER: &str = "journals";

/// The ends of their names.
const JOURNAL: &str = "journal";
const FORECAST: &str = "forecast.json";

/// The files of a bench's runs.
pub(super) struct Journals {
    /// Where they are until all is finished.
    begun: PathBuf,
    /// Where they belong.
    place: PathBuf,
    /// They are wanted.
    wanted: bool,
}

impl Journals {
    /// Of the results in `out`, of which `unfinished` keeps what is not finished. What a bench has left there that is given up goes.
    pub(super) fn begin(
        (out, unfinished): (&Path, &Path),
        wanted: bool,
        resume: bool,
    ) -> Result<Self, Failure> {
        let journals = Self { begun: unfinished.join(FOLDER), place: out.join(FOLDER), wanted };
        remove_half(&journals.begun);
        if !resume {
            remove(&journals.begun, |_, _| false)?;
        }
        if wanted {
            fs::create_dir_all(&journals.begun)
                .with_context(|| format!("cannot make the directory {}", journals.begun.display()))
                .map_err(Failure::Failed)?;
        }
        Ok(journals)
    }

    /// Where the journal of a run is written, if that is wanted.
    pub(super) fn of(&self, cell: u64, repetition: u32) -> Option<PathBuf> {
        self.wanted.then(|| self.begun.join(format!("{cell}-{repetition}.{JOURNAL}")))
    }

    /// Writes what was forecast of a run.
    pub(super) fn forecast(
        &self,
        (cell, repetition): (u64, u32),
        forecast: &MigrationRecord,
    ) -> Result<(), Failure> {
        if !self.wanted {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(forecast).map_err(Failure::failed)? + "\n";
        let path = self.begun.join(format!("{cell}-{repetition}.{FORECAST}"));
        let mut file = WholeFile::create(&path).map_err(Failure::failed)?;
        let written = file.write(&text).and_then(|()| file.finish()).and_then(FinishedFile::publish);
        written.map(drop).map_err(Failure::failed)
    }

    /// Puts them in their place, now that every run of the grid was made, and removes those of results before these. Gives their folder.
    pub(super) fn publish(&self, grid: &Grid) -> Result<Option<PathBuf>, Failure> {
        let failed = |path: &Path| format!("cannot write {}", path.display());
        for name in names(&self.begun) {
            let place = self.place.join(&name);
            fs::create_dir_all(&self.place)
                .and_then(|()| fs::rename(self.begun.join(&name), &place))
                .with_context(|| failed(&place))
                .map_err(Failure::Failed)?;
        }
        let _ = fs::remove_dir(&self.begun);
        remove(&self.place, |cell, repetition| {
            self.wanted && cell < grid.cells() && repetition < u64::from(grid.repeat())
        })?;
        Ok(self.wanted.then(|| self.place.clone()))
    }
}

impl Drop for Journals {
    fn drop(&mut self) {
        // Only if nothing is in it.
        let _ = fs::remove_dir(&self.begun);
    }
}

/// The cell and the repetition of such a file.
fn run_of(name: &str) -> Option<(u64, u64)> {
    let (run, end) = name.split_once('.')?;
    let (cell, repetition) = run.split_once('-')?;
    let known = [JOURNAL, FORECAST].contains(&end);
    known.then_some(())?;
    Some((cell.parse().ok()?, repetition.parse().ok()?))
}

/// The names of such files in a folder, which need not be there.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| run_of(name).is_some()).collect()
}

/// Removes halves of such files, which a bench that was killed has left: nobody else has the folder.
fn remove_half(folder: &Path) {
    let half = |name: &str| {
        let name = name.strip_prefix('.')?.strip_suffix(".tmp")?;
        let (name, id) = name.rsplit_once('.')?;
        id.parse::<u32>().ok().and_then(|_| run_of(name))
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().and_then(half).is_some() {
            // It is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Removes such files but those that are to stay, and the folder if nothing is left in it.
fn remove(folder: &Path, stays: impl Fn(u64, u64) -> bool) -> Result<(), Failure> {
    for name in names(folder) {
        if run_of(&name).is_some_and(|(cell, repetition)| stays(cell, repetition)) {
            continue;
        }
        let path = folder.join(&name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let what = format!("cannot remove {}", path.display());
                return Err(Failure::Failed(anyhow::Error::new(error).context(what)));
            }
            _ => {}
        }
    }
    // Not empty: somebody else uses it.
    let _ = fs::remove_dir(folder);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_a_killed_bench_go_and_what_is_whole_or_somebody_elses_stays() {
        let out = std::env::temp_dir().join(format!("whimbrel-journals-{}", std::process::id()));
        let _ = fs::remove_dir_all(&out);
        let (unfinished, begun) = (out.join("unfinished"), out.join("unfinished").join(FOLDER));
        fs::create_dir_all(&begun).expect("made");
        let stay = [".notes.7.tmp", "0-0.journal"];
        for name in [".0-1.forecast.json.6781.tmp", ".0-1.journal.6781.tmp"].iter().chain(&stay) {
            fs::write(begun.join(name), "").expect("written");
        }
        drop(Journals::begin((&out, &unfinished), true, true).expect("gone on with"));
        let names = fs::read_dir(&begun).expect("there").map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        assert_eq!(names, stay);
        fs::remove_dir_all(&out).expect("removed");
    }
}
