//! Files that are written whole or not at all.
//!
//! A [`WholeFile`] is written beside its place under another name and takes its place in one step, once
//! everything is on the disk. Used for result tables, reports and plots. Dropped before that, it leaves
//! nothing behind: whoever opens a result file never finds half of one.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// A file could not be made, written or put in its place.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file as it was asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The place is a directory.
    #[error("cannot write {}: it is a directory", path.display())]
    Directory {
        /// The place.
        path: PathBuf,
    },
    /// What is there is of another kind, and somebody may want to keep it.
    #[error("cannot write {}: what is there is not {kind}; remove it, or choose another name", path.display())]
    Foreign {
        /// The place.
        path: PathBuf,
        /// What would have been replaced.
        kind: &'static str,
    },
}

/// What a file has to be for another of its kind to take its place: a name that was typed in haste, such as that of
/// the scenario, loses nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    name: &'static str,
    /// What it has in its first bytes.
    mark: &'static str,
}

impl Kind {
    /// A drawing as SVG.
    pub const DRAWING: Self = Self { name: "an SVG drawing", mark: "<svg" };
    /// A journal of a real migration.
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    pub const JOURNAL: Self = Self { name: "a journal", mark: crate::real::journal::NAME };
    /// A trace of dirtied pages.
    pub const TRACE: Self = Self { name: "a trace", mark: crate::trace::NAME };

    /// Whether it may take the place of what is at `place`: of nothing, of an empty file, of its like.
    fn may_replace(self, place: &Path) -> io::Result<bool> {
        let mut head = Vec::new();
        File::open(place)?.take(512).read_to_end(&mut head)?;
        let mark = self.mark.as_bytes();
        Ok(head.is_empty() || head.windows(mark.len()).any(|bytes| bytes == mark))
    }
}

/// A file on its way to its place.
#[derive(Debug)]
pub struct WholeFile {
    /// As asked for; for messages.
    path: PathBuf,
    /// Where it ends up: links resolved, so that they stay.
    place: PathBuf,
    /// Where it is now; none if the place is no regular file (a device, a pipe) and is written at once.
    beside: Option<PathBuf>,
    writer: Option<BufWriter<File>>,
}

/// Bytes gathered before they are handed to the system.
const BUFFER: usize = 1 << 16;

impl WholeFile {
    /// Begins a file that will be at `path`. Whether it can be made is known from here on; whether it
    /// fits is not.
    ///
    /// # Errors
    ///
    /// [`OutputError`] if the place is a directory or not writable.
    pub fn create(path: &Path) -> Result<Self, OutputError> {
        let fail = |source| OutputError::Write { path: path.to_owned(), source };
        let place = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let (beside, file) = match fs::metadata(&place) {
            Ok(there) if there.is_dir() => {
                return Err(OutputError::Directory { path: path.to_owned() });
            }
            // Renaming would replace the device by a file.
            Ok(there) if !there.is_file() => {
                (None, OpenOptions::new().write(true).open(&place).map_err(fail)?)
            }
            _ => {
                let beside =
                    name_beside(&place).ok_or_else(|| fail(io::ErrorKind::InvalidFilename.into()))?;
                // One that a process of the same number left behind when it was killed is in nobody's way.
                let file = File::create(&beside).map_err(fail)?;
                (Some(beside), file)
            }
        };
        let writer = Some(BufWriter::with_capacity(BUFFER, file));
        Ok(Self { path: path.to_owned(), place, beside, writer })
    }

    /// The same for a file that replaces one of its own kind alone.
    ///
    /// # Errors
    ///
    /// As [`WholeFile::create`], and if something else is there.
    pub fn create_as(path: &Path, kind: Kind) -> Result<Self, OutputError> {
        if path.is_file() {
            let ours = kind
                .may_replace(path)
                .map_err(|source| OutputError::Write { path: path.to_owned(), source })?;
            if !ours {
                return Err(OutputError::Foreign { path: path.to_owned(), kind: kind.name });
            }
        }
        Self::create(path)
    }

    /// Where it will be, as it was asked for.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds to it.
    ///
    /// # Errors
    ///
    /// [`OutputError::Write`], when the disk is full for example.
    pub fn write(&mut self, text: &str) -> Result<(), OutputError> {
        self.write_bytes(text.as_bytes())
    }

    /// The same for bytes.
    ///
    /// # Errors
    ///
    /// As [`WholeFile::write`].
    pub fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        match &mut self.writer {
            Some(writer) => writer.write_all(bytes).map_err(|source| self.failed(source)),
            None => Err(self.failed(io::ErrorKind::Other.into())),
        }
    }

    /// Hands what was gathered to the system: of a process that is killed it is left, beside its place.
    ///
    /// # Errors
    ///
    /// As [`WholeFile::write`].
    pub fn hand_on(&mut self) -> Result<(), OutputError> {
        self.flush().map_err(|source| self.failed(source))
    }

    /// Puts everything on the disk, still beside its place. After this only the rename is left to fail.
    ///
    /// # Errors
    ///
    /// [`OutputError::Write`]; the file is then gone.
    pub fn finish(mut self) -> Result<FinishedFile, OutputError> {
        if let Some(writer) = self.writer.take() {
            let synced = writer.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| {
                // A device or a pipe may have nothing to put on a disk.
                if self.beside.is_some() { file.sync_all() } else { Ok(()) }
            });
            synced.map_err(|source| self.failed(source))?;
        }
        Ok(FinishedFile(self))
    }

    fn failed(&self, source: io::Error) -> OutputError {
        OutputError::Write { path: self.path.clone(), source }
    }
}

/// For writers of formats; errors are the system's.
impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.as_mut().ok_or(io::ErrorKind::Other)?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.as_mut().ok_or(io::ErrorKind::Other)?.flush()
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if let Some(beside) = self.beside.take() {
            // Nobody is left to tell; the name says what it was.
            let _ = fs::remove_file(beside);
        }
    }
}

/// A file that is complete and on the disk, but not in its place yet.
#[derive(Debug)]
#[must_use = "dropping this deletes the file"]
pub struct FinishedFile(WholeFile);

impl FinishedFile {
    /// Puts it in its place, in one step, over what was there.
    ///
    /// # Errors
    ///
    /// [`OutputError::Write`]; what was there is then unchanged.
    pub fn publish(mut self) -> Result<PathBuf, OutputError> {
        if let Some(beside) = self.0.beside.take()
            && let Err(source) = fs::rename(&beside, &self.0.place)
        {
            self.0.beside = Some(beside);
            return Err(self.0.failed(source));
        }
        Ok(self.0.path.clone())
    }
}

/// Writes a whole file.
///
/// # Errors
///
/// As [`WholeFile::create`] and [`WholeFile::write`]; what was there is then unchanged.
pub fn write_whole(path: &Path, text: &str) -> Result<(), OutputError> {
    let mut file = WholeFile::create(path)?;
    file.write(text)?;
    file.finish()?.publish()?;
    Ok(())
}

/// `.NAME.PID.tmp` in the same directory: a rename works only within one file system.
fn name_beside(place: &Path) -> Option<PathBuf> {
    let mut name = OsString::from(".");
    name.push(place.file_name()?);
    name.push(format!(".{}.tmp", std::process::id()));
    Some(place.with_file_name(name))
}

/// How long a file that somebody has locked is waited for, and how often it is looked.
const LET_GO: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);

/// Locks a file for as long as it is open; false if somebody else has it locked.
///
/// Whoever was killed while it started another process leaves its locks in that one until it is a program of its own, which is a
/// moment: that is waited for.
pub fn lock_patiently(file: &File) -> bool {
    let begun = Instant::now();
    while let Err(TryLockError::WouldBlock) = file.try_lock() {
        if begun.elapsed() >= LET_GO {
            return false;
        }
        thread::sleep(LOOK);
    }
    // Where files can't be locked nobody is hindered.
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("whimbrel-output-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a temporary directory");
        dir
    }

    #[test]
    fn a_file_is_locked_by_one_and_whoever_lets_it_go_soon_is_waited_for() {
        let dir = fresh("keep");
        let open = || File::create(dir.join("kept")).expect("there is room");
        let (first, second) = (open(), open());
        assert!(lock_patiently(&first));
        assert!(!lock_patiently(&second));
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(100));
                first.unlock().expect("it was kept");
            });
            assert!(lock_patiently(&second));
        });
        let _ = fs::remove_dir_all(&dir);
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("directory");
        entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_file_that_is_given_up_leaves_what_was_there() {
        let dir = fresh("dropped");
        let path = dir.join("table.csv");
        fs::write(&path, "old").expect("write");
        let mut file = WholeFile::create(&path).expect("create");
        file.write("new, but").expect("write");
        drop(file);
        assert_eq!(fs::read_to_string(&path).expect("read"), "old");
        assert_eq!(names(&dir), ["table.csv"]);
    }

    #[test]
    fn a_published_file_is_whole_and_alone() {
        let dir = fresh("published");
        let path = dir.join("table.csv");
        write_whole(&path, "all of it").expect("write");
        write_whole(&path, "all of it again").expect("write");
        assert_eq!(fs::read_to_string(&path).expect("read"), "all of it again");
        assert_eq!(names(&dir), ["table.csv"]);
    }

    #[test]
    fn finished_files_can_still_be_given_up_together() {
        let dir = fresh("finished");
        let mut file = WholeFile::create(&dir.join("a")).expect("create");
        file.write("a").expect("write");
        drop(file.finish().expect("finish"));
        assert!(names(&dir).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link_and_its_target_is_written() {
        let dir = fresh("link");
        fs::write(dir.join("target"), "old").expect("write");
        std::os::unix::fs::symlink("target", dir.join("link")).expect("link");
        write_whole(&dir.join("link"), "new").expect("write");
        assert_eq!(fs::read_to_string(dir.join("target")).expect("read"), "new");
        assert!(fs::symlink_metadata(dir.join("link")).expect("link").is_symlink());
    }

    #[test]
    fn a_directory_is_refused_by_name() {
        let dir = fresh("directory");
        let error = WholeFile::create(&dir).expect_err("a directory");
        assert!(error.to_string().contains("is a directory"), "{error}");
    }

    #[test]
    fn a_drawing_takes_the_place_of_a_drawing_and_of_nothing_else() {
        let dir = fresh("kind");
        let place = dir.join("file");
        for (there, allowed) in [
            (None, true),
            (Some(""), true),
            (Some("<?xml version=\"1.0\"?>\n<svg/>"), true),
            (Some("<?xml version=\"1.0\"?>\n<domain/>"), false),
            (Some("[guest]\n"), false),
        ] {
            if let Some(there) = there {
                fs::write(&place, there).expect("written");
            }
            let opened = WholeFile::create_as(&place, Kind::DRAWING);
            assert_eq!(opened.is_ok(), allowed, "{there:?}");
            if let Err(error) = opened {
                assert!(error.to_string().contains("not an SVG drawing; remove it"), "{error}");
            }
            assert_eq!(fs::read_to_string(&place).ok().as_deref(), there, "left as it was");
        }
    }
}
