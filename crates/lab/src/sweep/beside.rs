//! Puts files on the disk beside the work that goes on: waiting for a disk takes no processor.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::output::OutputError;

/// What is put on the disk: files up to what was handed to the system, and then a note of it.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) files: Vec<(PathBuf, Arc<File>)>,
    pub(super) note: Option<Note>,
}

/// A file that replaces the one before it in one step, once all others are on the disk.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) place: PathBuf,
    /// Its name until then.
    pub(super) next: PathBuf,
    pub(super) bytes: Vec<u8>,
}

/// Who does it: one load at a time.
#[derive(Debug, Default)]
pub(super) struct Beside(Option<JoinHandle<Result<(), OutputError>>>);

impl Beside {
    /// Whether a load is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.0.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Begins a load, after the one before it.
    pub(super) fn begin(&mut self, load: Load) -> Result<(), OutputError> {
        self.settle()?;
        let load = Arc::new(load);
        let here = Arc::clone(&load);
        match std::thread::Builder::new().spawn(move || load.put_down()) {
            Ok(thread) => self.0 = Some(thread),
            // Where there can be no further thread it is done by this one.
            Err(_) => here.put_down()?,
        }
        Ok(())
    }

    /// Waits for what was begun.
    pub(super) fn settle(&mut self) -> Result<(), OutputError> {
        match self.0.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = self.0.take().map(JoinHandle::join);
    }
}

impl Load {
    fn put_down(&self) -> Result<(), OutputError> {
        for (path, file) in &self.files {
            file.sync_data().map_err(fail(path))?;
        }
        self.note.as_ref().map_or(Ok(()), Note::put_down)
    }
}

impl Note {
    fn put_down(&self) -> Result<(), OutputError> {
        let written = File::create(&self.next).and_then(|mut file| {
            file.write_all(&self.bytes)?;
            file.sync_data()?;
            // If the power goes before this is on the disk, the note before it holds: files are longer then.
            fs::rename(&self.next, &self.place)
        });
        written.map_err(fail(&self.place))
    }
}

fn fail(path: &Path) -> impl Fn(std::io::Error) -> OutputError + '_ {
    |source| OutputError::Write { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_told_when_it_is_waited_for() {
        let dir = std::env::temp_dir().join(format!("whimbrel-beside-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("directory");
        let note =
            |dir: &Path| Note { place: dir.join("note"), next: dir.join("next"), bytes: b"so far".to_vec() };
        let mut beside = Beside::default();
        beside.begin(Load { files: Vec::new(), note: Some(note(&dir)) }).expect("begun");
        beside.settle().expect("put down");
        assert_eq!(fs::read(dir.join("note")).expect("read"), b"so far");
        beside.begin(Load { files: Vec::new(), note: Some(note(&dir.join("none"))) }).expect("begun");
        let error = beside.begin(Load { files: Vec::new(), note: None }).expect_err("no such directory");
        assert!(error.to_string().contains("note"), "{error}");
        assert!(beside.settle().is_ok(), "told once");
        fs::remove_dir_all(&dir).expect("removed");
    }
}
