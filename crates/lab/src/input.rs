//! What somebody named to be read: a file, a pipe, or standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// What standard input is called on the command line.
pub(crate) const STANDARD: &str = "-";

/// At most `most` bytes of a file, a pipe, or of standard input; a directory is [`io::ErrorKind::IsADirectory`].
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path == Path::new(STANDARD) {
        io::stdin().lock().take(most).read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The same as text.
pub(crate) fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let bytes = read(path, most)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8 text"))
}

/// Says in the same words as everybody else what is a directory.
pub(crate) fn said(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::IsADirectory => io::Error::other("it is a directory, accepted is a file"),
        _ => error,
    }
}
