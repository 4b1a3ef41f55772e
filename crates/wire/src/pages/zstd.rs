//! Pages as Zstandard frames.

use std::io;

use zstd::bulk::{Compressor, Decompressor};

use super::decoder::Fault;

/// Compresses; keeps its context, which is larger than a page.
pub(super) struct Zstd(Compressor<'static>);

impl Zstd {
    pub(super) fn new(level: i32) -> io::Result<Self> {
        Compressor::new(level).map(Self)
    }

    /// Writes the frame to the beginning of `out` and gives its length; none if it does not fit.
    pub(super) fn pack(&mut self, input: &[u8], out: &mut [u8]) -> Option<usize> {
        self.0.compress_to_buffer(input, out).ok()
    }
}

/// Decompresses; keeps its context.
pub(super) struct Unzstd(Decompressor<'static>);

impl Unzstd {
    pub(super) fn new() -> io::Result<Self> {
        Decompressor::new().map(Self)
    }

    /// Fills `out` from `frame`, all of it and nothing more.
    pub(super) fn unpack(&mut self, frame: &[u8], out: &mut [u8]) -> Result<(), Fault> {
        // Writes into `out` alone, whatever size the frame says that it has; one that needs more is an error.
        let found = self.0.decompress_to_buffer(frame, out).map_err(|error| Fault::Damaged(error.into()))?;
        if found == out.len() { Ok(()) } else { Err(Fault::Short { found, expected: out.len() }) }
    }
}
