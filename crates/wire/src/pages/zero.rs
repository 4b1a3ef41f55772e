//! Whether memory is full of zeroes.
//!
//! Asked of every page that is sent, so it must cost no more than reading memory once, and of a page that is not full of
//! zeroes next to nothing: nearly all others have something in their first bytes. The guest may write meanwhile; then the page is
//! dirty again, and what is found here need only have been true at some moment for each byte.

use whimbrel_core::embed::{GuestRam, RamError};
use whimbrel_core::layout::Gpa;

/// Read at once: large enough that calls cost nothing beside the bytes, small enough to stay in the first cache.
const PART: usize = 4096;
/// Looked at first.
const GLANCE: usize = 64;

/// Whether all of `bytes` are zero. Stops within 64 bytes of the first that is not.
#[inline]
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    // Or-ing whole chunks is what the compiler turns into vector instructions; a comparison of each byte is not.
    chunks.iter().all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
        && rest.iter().all(|byte| *byte == 0)
}

/// Looks at guest memory without copying more of it than it has to.
#[derive(Clone, Debug)]
pub(super) struct Look {
    part: Box<[u8; PART]>,
}

impl Look {
    pub(super) fn new() -> Self {
        Self { part: Box::new([0; PART]) }
    }

    /// Whether the `len` bytes of guest memory at `at` are all zero.
    pub(super) fn is_zero(&mut self, ram: &dyn GuestRam, at: Gpa, len: usize) -> Result<bool, RamError> {
        let mut done = 0;
        while done < len {
            // 64 bytes, then the rest of the part.
            let end = if done == 0 { GLANCE } else { (done / PART + 1) * PART };
            let part = &mut self.part[..end.min(len) - done];
            ram.read(Gpa(at.0 + done as u64), part)?;
            if !is_zero(part) {
                return Ok(false);
            }
            done += part.len();
        }
        Ok(true)
    }
}
