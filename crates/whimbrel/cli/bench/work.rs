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
}

impl Work {
    pub(super) fn begin(out: &Path) -> Result<Self, Failure> {
        remove_left(&std::env::temp_dir(), "whimbrel-bench-");
        remove_left(out, ".bench-");
        let id = std::process::id();
        let work = Self {
            sockets: std::env::temp_dir().join(format!("whimbrel-bench-{id}")),
            records: out.join(format!(".bench-{id}")),
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
    }
}
