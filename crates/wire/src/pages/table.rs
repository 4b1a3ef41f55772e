//! The table in front of a frame's payloads.
//!
//! Written by [`PageFrame`](super::PageFrame), read by whoever receives pages. Nothing behind it checks an entry again, so
//! here every number is held against the guest's layout, against what was negotiated and against the length of the body.

use whimbrel_core::layout::{Gpa, PageNumber, PageRun, PageSize, RamLayout};
use whimbrel_core::units::{ByteCount, Pages};

use crate::frame::ENTRY_LEN;

use super::{ENCODED_BYTES, Encoding, Encodings, in_region};

/// Pages that are sent together, in one encoding. All of them exist and lie in one region, and the length is one that
/// the encoding can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub(super) first: PageNumber,
    pub(super) pages: u16,
    pub(super) encoding: Encoding,
    pub(super) length: u32,
    pub(super) at: Gpa,
}

impl Entry {
    /// Which pages.
    pub fn run(&self) -> PageRun {
        PageRun { first: self.first, count: Pages(self.pages.into()) }
    }

    /// What the payload is.
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Bytes of the payload.
    pub const fn payload(&self) -> ByteCount {
        ByteCount(self.length as u64)
    }

    /// Address of the first page.
    pub const fn at(&self) -> Gpa {
        self.at
    }

    pub(super) fn encode(&self) -> [u8; ENTRY_LEN] {
        let mut bytes = [0; ENTRY_LEN];
        bytes[..8].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.pages.to_le_bytes());
        bytes[10] = self.encoding.code();
        bytes[12..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }
}

/// What is wrong with the table of a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// Fewer or more bytes than the entries take.
    #[error("a table of {entries} entries has {} bytes, found {found}", *.entries as usize * ENTRY_LEN)]
    Length {
        /// Entries, as the header says.
        entries: u16,
        /// Bytes that are there.
        found: usize,
    },
    /// An entry without pages.
    #[error("entry {entry} at page {first} has no pages")]
    NoPages {
        /// Its place in the table, from 0.
        entry: usize,
        /// Its first page.
        first: PageNumber,
    },
    /// Pages that the guest does not have, or that are not neighbours in memory.
    #[error("entry {entry}: {pages} pages from {first} on are not all in one region of guest memory")]
    NotMemory {
        /// Its place in the table.
        entry: usize,
        /// Its first page.
        first: PageNumber,
        /// How many.
        pages: u16,
    },
    /// An encoding that nobody knows, or that was not agreed on.
    #[error("entry {entry} at page {first} has encoding {code}: accepted is {accepted:?}")]
    Encoding {
        /// Its place in the table.
        entry: usize,
        /// Its first page.
        first: PageNumber,
        /// The encoding's code.
        code: u8,
        /// What was agreed on.
        accepted: Encodings,
    },
    /// A byte that must be zero is not.
    #[error("entry {entry} at page {first} has {found:#04x} where 0 is reserved")]
    Reserved {
        /// Its place in the table.
        entry: usize,
        /// Its first page.
        first: PageNumber,
        /// What is there.
        found: u8,
    },
    /// More memory in one entry than is unpacked at once.
    #[error("entry {entry}: {pages} {encoding} pages from {first} on are more than {limit}")]
    TooMany {
        /// Its place in the table.
        entry: usize,
        /// Its first page.
        first: PageNumber,
        /// How many.
        pages: u16,
        /// Their encoding.
        encoding: Encoding,
        /// The most that there may be.
        limit: u64,
    },
    /// A payload that cannot be these pages.
    #[error(
        "entry {entry}: {length} bytes cannot be {pages} {encoding} pages of {page_size} from {first} on"
    )]
    Payload {
        /// Its place in the table.
        entry: usize,
        /// Its first page.
        first: PageNumber,
        /// How many.
        pages: u16,
        /// Their encoding.
        encoding: Encoding,
        /// Bytes of a page.
        page_size: PageSize,
        /// Bytes of the payload.
        length: u32,
    },
    /// The payloads are not what is left of the body.
    #[error("the payloads of a table have {found} bytes together, the body has {left} for them")]
    Body {
        /// Their sum.
        found: u64,
        /// Bytes of the body behind the table.
        left: u64,
    },
}

/// The entries of a frame, all checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    entries: Vec<Entry>,
}

/// The most pages in one entry of this encoding.
pub(super) fn most_pages(encoding: Encoding, page_size: PageSize) -> u64 {
    match (encoding, page_size) {
        (Encoding::Zero | Encoding::Raw, _) => u16::MAX.into(),
        // Nobody unpacks so much at once.
        (_, PageSize::Gib1) => 0,
        _ => (u64::from(ENCODED_BYTES) >> page_size.shift()).max(1),
    }
}

impl Table {
    /// Reads the `entries` entries that `bytes` are, in front of `payload` bytes of payloads, in the memory that this table
    /// has already.
    ///
    /// # Errors
    ///
    /// A [`TableError`] that names the entry. The table is then empty.
    pub fn read(
        &mut self,
        bytes: &[u8],
        entries: u16,
        payload: u64,
        layout: &RamLayout,
        accepted: Encodings,
    ) -> Result<(), TableError> {
        self.entries.clear();
        let read = self.read_entries(bytes, entries, payload, layout, accepted);
        if read.is_err() {
            self.entries.clear();
        }
        read
    }

    fn read_entries(
        &mut self,
        bytes: &[u8],
        entries: u16,
        payload: u64,
        layout: &RamLayout,
        accepted: Encodings,
    ) -> Result<(), TableError> {
        let (chunks, rest) = bytes.as_chunks::<ENTRY_LEN>();
        if chunks.len() != usize::from(entries) || !rest.is_empty() {
            return Err(TableError::Length { entries, found: bytes.len() });
        }
        let mut sum = 0_u64;
        for (index, bytes) in chunks.iter().enumerate() {
            let entry = check(index, bytes, layout, accepted)?;
            // At most 2^16 entries of 2^32 bytes.
            sum += u64::from(entry.length);
            self.entries.push(entry);
        }
        if sum != payload {
            return Err(TableError::Body { found: sum, left: payload });
        }
        Ok(())
    }

    /// Its entries, in the order of their payloads.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

/// Reads and checks one entry.
fn check(
    entry: usize,
    bytes: &[u8; ENTRY_LEN],
    layout: &RamLayout,
    accepted: Encodings,
) -> Result<Entry, TableError> {
    // Little endian throughout, so an entry is one number.
    let bits = u128::from_le_bytes(*bytes);
    let first = PageNumber(bits as u64);
    let (pages, code, reserved) = ((bits >> 64) as u16, (bits >> 80) as u8, (bits >> 88) as u8);
    let length = (bits >> 96) as u32;
    let page_size = layout.page_size();
    if pages == 0 {
        return Err(TableError::NoPages { entry, first });
    }
    let at = match in_region(layout, first, pages.into()) {
        Some((at, found)) if found == u64::from(pages) => at,
        _ => return Err(TableError::NotMemory { entry, first, pages }),
    };
    let encoding = Encoding::from_code(code)
        .filter(|encoding| accepted.contains(*encoding))
        .ok_or(TableError::Encoding { entry, first, code, accepted })?;
    if reserved != 0 {
        return Err(TableError::Reserved { entry, first, found: reserved });
    }
    let limit = most_pages(encoding, page_size);
    if u64::from(pages) > limit {
        return Err(TableError::TooMany { entry, first, pages, encoding, limit });
    }
    if !encoding.fits(length.into(), Pages(pages.into()).bytes(page_size).0) {
        return Err(TableError::Payload { entry, first, pages, encoding, page_size, length });
    }
    Ok(Entry { first, pages, encoding, length, at })
}

#[cfg(test)]
mod tests;
