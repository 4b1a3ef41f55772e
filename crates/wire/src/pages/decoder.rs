//! Payloads become guest memory again.
//!
//! Called by the destination's driver for every entry of a checked [`Table`](super::Table), in order. It must never write outside
//! the pages of an entry, unpack more than these pages have, or make memory resident that holds zeroes anyway.

use whimbrel_core::embed::{Cause, GuestRam, RamError};
use whimbrel_core::layout::{Gpa, PageNumber, PageSize};
use whimbrel_core::units::ByteCount;

use super::packer::Unpacker;
use super::table::Entry;
use super::zero::Look;
use super::{Encoding, delta};

/// Bytes of zeroes written at once: memory becomes resident by this much.
const PART: usize = 4096;

/// What is wrong with a payload.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It is not as long as its entry says.
    #[error("the payload has {found} bytes, its entry says {expected}")]
    Length {
        /// Bytes that are there.
        found: usize,
        /// Bytes that should be.
        expected: ByteCount,
    },
    /// It unpacks to fewer bytes than its pages have.
    #[error("{found} bytes were packed, the pages have {expected}")]
    Short {
        /// Bytes that came out.
        found: usize,
        /// Bytes of the pages.
        expected: usize,
    },
    /// It cannot be unpacked, or not into its pages.
    #[error("it cannot be unpacked")]
    Damaged(#[source] Cause),
    /// An encoding that this build lacks.
    #[error("this build cannot decode it")]
    NotHere,
    /// A number of a delta that is cut off, or beyond any page.
    #[error("no number where a delta has one")]
    Number,
    /// A change beyond the pages, or of no bytes.
    #[error("a delta has a change up to byte {end} or of nothing, the pages have {len}")]
    Outside {
        /// Where it would end.
        end: usize,
        /// Bytes of the pages.
        len: usize,
    },
    /// A change whose bytes are not all there.
    #[error("a delta has a change of {needed} bytes, {found} are left")]
    CutOff {
        /// Bytes of the change.
        needed: usize,
        /// Bytes left.
        found: usize,
    },
}

/// Why an entry did not become guest memory. Some of its pages may have been written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The payload is not what its entry says.
    #[error("{encoding} payload of {pages} pages from {first} on")]
    Payload {
        /// The first page.
        first: PageNumber,
        /// How many.
        pages: u16,
        /// Their encoding.
        encoding: Encoding,
        /// What is wrong.
        #[source]
        fault: Fault,
    },
    /// Guest memory failed.
    #[error("writing {pages} pages from {first} on, which came as {encoding}")]
    Ram {
        /// The first page.
        first: PageNumber,
        /// How many.
        pages: u16,
        /// Their encoding.
        encoding: Encoding,
        /// What failed.
        #[source]
        cause: RamError,
    },
}

/// Either, before it is known of which entry.
enum Why {
    Fault(Fault),
    Ram(RamError),
}

impl From<Fault> for Why {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<RamError> for Why {
    fn from(cause: RamError) -> Self {
        Self::Ram(cause)
    }
}

/// Applies what came on one connection.
pub struct Decoder {
    page_size: PageSize,
    unpacker: Unpacker,
    /// What was unpacked last; as long as the largest entry so far, which the table bounds.
    unpacked: Vec<u8>,
    look: Look,
    untouched: bool,
}

impl Decoder {
    /// For a guest with pages of this size.
    pub fn new(page_size: PageSize) -> Self {
        Self {
            page_size,
            unpacker: Unpacker::default(),
            unpacked: Vec::new(),
            look: Look::new(),
            untouched: false,
        }
    }

    /// Says whether pages that come are known to hold zeroes: the replica's memory is new, and no page was sent before. A
    /// driver says so for the bulk round; zero pages then cost nothing. Otherwise each is looked at, and written only where it
    /// isn't zero.
    pub fn set_untouched(&mut self, untouched: bool) {
        self.untouched = untouched;
    }

    /// Makes `payload` the pages of `entry`.
    ///
    /// # Errors
    ///
    /// [`ApplyError`], which names the pages and their encoding.
    pub fn apply(&mut self, entry: &Entry, payload: &[u8], ram: &dyn GuestRam) -> Result<(), ApplyError> {
        let Entry { first, pages, encoding, .. } = *entry;
        self.write(entry, payload, ram).map_err(|why| match why {
            Why::Fault(fault) => ApplyError::Payload { first, pages, encoding, fault },
            Why::Ram(cause) => ApplyError::Ram { first, pages, encoding, cause },
        })
    }

    fn write(&mut self, entry: &Entry, payload: &[u8], ram: &dyn GuestRam) -> Result<(), Why> {
        if payload.len() as u64 != entry.payload().0 {
            return Err(Fault::Length { found: payload.len(), expected: entry.payload() }.into());
        }
        let len = entry.run().count.bytes(self.page_size).0;
        match entry.encoding {
            Encoding::Zero => self.zero(entry.at, len, ram)?,
            Encoding::Raw => ram.write(entry.at, payload)?,
            Encoding::Lz4 | Encoding::Zstd => {
                // The table allows no more than `ENCODED_BYTES` or a page.
                let len = len as usize;
                if self.unpacked.len() < len {
                    self.unpacked.resize(len, 0);
                }
                let out = &mut self.unpacked[..len];
                self.unpacker.unpack(entry.encoding, payload, out)?;
                ram.write(entry.at, out)?;
            }
            Encoding::Delta => delta::decode(payload, len as usize, |at, bytes| {
                ram.write(Gpa(entry.at.0 + at as u64), bytes).map_err(Why::from)
            })?,
        }
        Ok(())
    }

    /// Zeroes where there is anything else.
    fn zero(&mut self, at: Gpa, len: u64, ram: &dyn GuestRam) -> Result<(), RamError> {
        if self.untouched {
            return Ok(());
        }
        // Pages are whole parts.
        for part in (0..len).step_by(PART) {
            let at = Gpa(at.0 + part);
            if !self.look.is_zero(ram, at, PART)? {
                ram.write(at, &[0; PART])?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
