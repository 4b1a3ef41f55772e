//! The lines of a text that may be hostile: each bounded, with its number.

use std::io::{BufRead, Read as _};

use super::TraceFileError;

/// The longest line: far more than a row of any trace.
pub(super) const LONGEST: usize = 1 << 16;

/// Lines, one at a time.
pub(super) struct Lines<'a, R> {
    input: R,
    file: &'a str,
    number: u64,
    buffer: Vec<u8>,
}

impl<'a, R: BufRead> Lines<'a, R> {
    pub(super) fn new(input: R, file: &'a str) -> Self {
        Self { input, file, number: 0, buffer: Vec::new() }
    }

    /// The next line without its end; none behind the last. A mark of UTF-8 before the first is left out.
    pub(super) fn next(&mut self) -> Result<Option<&str>, TraceFileError> {
        self.buffer.clear();
        let mut input = (&mut self.input).take(LONGEST as u64 + 1);
        let read = input.read_until(b'\n', &mut self.buffer);
        self.number += 1;
        match read {
            Err(source) => return Err(TraceFileError::Read { file: self.file.to_owned(), source }),
            Ok(0) => return Ok(None),
            Ok(length) if length > LONGEST => {
                return Err(self.refuse(format!("the line is longer than {LONGEST} bytes")));
            }
            Ok(_) => {}
        }
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
            if self.buffer.last() == Some(&b'\r') {
                self.buffer.pop();
            }
        }
        let Ok(line) = std::str::from_utf8(&self.buffer) else {
            return Err(self.refuse("not UTF-8 text".to_owned()));
        };
        Ok(Some(if self.number == 1 { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line }))
    }

    /// The number of the line that was read last, counted from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// A fault of the line that was read last.
    pub(super) fn refuse(&self, message: String) -> TraceFileError {
        TraceFileError::Line { file: self.file.to_owned(), line: self.number, message }
    }
}
