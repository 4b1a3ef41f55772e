//! Where a bench keeps what it needs while it runs; all of it is gone when it ends.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::super::failure::Failure;

/// Directories that are removed at the end.
pub(super) struct Work {
    /// For sockets, whose paths must be short. Nobody else may enter.
    sockets: PathBuf,
    /// For what must be on the disk of the results: records of migrations.
    records: PathBuf,
    /// Of the results.
    out: PathBuf,
}

impl Work {
    pub(super) fn begin(out: &Path) -> Result<Self, Failure> {
        remove_all_left(out);
        let id = std::process::id();
        let work = Self {
            sockets: std::env::temp_dir().join(format!("whimbrel-bench-{id}")),
            records: out.join(format!(".bench-{id}")),
            out: out.to_owned(),
        };
        for path in [&work.sockets, &work.records] {
            DirBuilder::new()
                .mode(0o700)
                .create(path)
                .with_context(|| format!("cannot make the directory {}", path.display()))
                .map_err(Failure::Failed)?;
        }
        Ok(work)
    }

    /// A path for a socket, a token or a scenario.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.sockets.join(name)
    }

    /// A directory of records, which need not exist.
    pub(super) fn records(&self, side: &str) -> PathBuf {
        self.records.join(side)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.path(name);
        let written = fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()));
        written.map_err(Failure::Failed)?;
        Ok(path)
    }
}

/// Removes what benches that were killed have left.
fn remove_all_left(out: &Path) {
    remove_left(&std::env::temp_dir(), "whimbrel-bench-");
    remove_left(out, ".bench-");
}

/// Removes what a bench that was killed has left: its process is gone.
fn remove_left(place: &Path, prefix: &str) {
    let left = |name: &str| {
        let id = name.strip_prefix(prefix).and_then(|id| id.parse::<u32>().ok());
        id.is_some_and(|id| !Path::new("/proc").join(id.to_string()).exists())
    };
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(left) {
            // It is in nobody's way.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = fs::remove_dir_all(&self.sockets);
        let _ = fs::remove_dir_all(&self.records);
        // A destination that had just been started when its bench was killed makes its directory after that was removed.
        remove_all_left(&self.out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_bench_leaves_late_is_gone_at_the_end_too() {
        let out = std::env::temp_dir().join(format!("whimbrel-work-{}", std::process::id()));
        let _ = fs::remove_dir_all(&out);
        // More than any process is called.
        let left = out.join(".bench-4294967295").join("destination");
        let theirs = out.join(".bench-notes");
        for path in [&left, &theirs] {
            fs::create_dir_all(path).expect("made");
        }
        let work = Work::begin(&out).expect("there is room");
        assert!(!left.exists());
        fs::create_dir_all(&left).expect("made");
        drop(work);
        let names = fs::read_dir(&out).expect("there").map(|entry| entry.expect("an entry").file_name());
        assert_eq!(names.collect::<Vec<_>>(), [".bench-notes"]);
        fs::remove_dir_all(&out).expect("removed");
    }
}
