//! A file of JSON lines that is gone on with after a kill or a power cut: each line is on the disk before its writer does anything else.
//!
//! The [`diary`](super::diary) of a bench and the note of a [`series`](super::series) are such files. What a line says is theirs; here
//! is only that one counts when it is whole, that nothing is written behind half a line, and that one program at a time has the file.
//! Half a line is one without its end. One that has its end and says nothing is damage, and what is behind it is not thrown away.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde::Serialize;
use serde::de::DeserializeOwned;
use whimbrel_lab::output::lock_patiently;

use super::super::failure::Failure;

/// The file, open for more.
#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
    file: File,
    /// Of what was read.
    length: u64,
}

/// What is said of one that cannot be gone on with.
pub(super) fn damaged(path: &Path) -> String {
    format!("cannot resume: {} cannot be read; begin anew with --force", path.display())
}

impl Lines {
    /// Opens it, or makes it, for as long as this is there, and hands its lines to `take` until that wants no more or one is not whole.
    ///
    /// # Errors
    ///
    /// What `take` says, that somebody else has it open, or that it cannot be read.
    pub(super) fn open<T: DeserializeOwned>(
        path: &Path,
        mut take: impl FnMut(T) -> Result<bool, Failure>,
    ) -> Result<Self, Failure> {
        let damaged = || damaged(path);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = opened.with_context(damaged).map_err(Failure::Failed)?;
        // Before it is read.
        if !lock_patiently(&file) {
            let place = path.display();
            return Err(Failure::Failed(anyhow!(
                "{place} is in use: the bench that it belongs to is running"
            )));
        }
        let mut reader = BufReader::new(&file);
        let (mut text, mut length, mut number) = (Vec::new(), 0, 0);
        while reader.read_until(b'\n', &mut text).with_context(damaged).map_err(Failure::Failed)? > 0 {
            number += 1;
            // Without its end it may be whole by chance; what is written next would be of the same line.
            let Some(line) = text.strip_suffix(b"\n") else { break };
            let line = serde_json::from_slice(line)
                .with_context(|| format!("line {number} is damaged, or of another version of whimbrel"))
                .with_context(damaged)
                .map_err(Failure::Failed)?;
            if !take(line)? {
                break;
            }
            length += text.len() as u64;
            text.clear();
        }
        Ok(Self { path: path.to_owned(), file, length })
    }

    /// Cuts off what is behind the lines that were taken. To be called before anything is added.
    pub(super) fn cut(&mut self) -> Result<(), Failure> {
        let cut = self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::End(0)));
        cut.with_context(|| damaged(&self.path)).map_err(Failure::Failed).map(drop)
    }

    /// Whether no line was taken.
    pub(super) fn is_new(&self) -> bool {
        self.length == 0
    }

    /// Adds a line and puts it on the disk.
    pub(super) fn add(&mut self, line: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(line).map_err(Failure::failed)? + "\n";
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        written.with_context(|| format!("cannot write {}", self.path.display())).map_err(Failure::Failed)
    }
}
