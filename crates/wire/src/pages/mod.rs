//! Pages on their way: what a batch of guest memory becomes on a page connection, and memory again at the other end.
//!
//! The source's driver gives an [`Encoder`] runs of pages and sends the [`PageFrame`] that it fills; the destination's driver
//! reads a frame's body, checks its [`Table`], and has a [`Decoder`] apply entry after entry. One encoder and one decoder
//! belong to one connection, and each page always travels on the same one ([`Sharding`]), so what is sent of a page
//! arrives in the order in which it was looked at.
//!
//! # The body
//!
//! A table of [`ENTRY_LEN`](crate::frame::ENTRY_LEN) bytes an entry, little endian, then the payloads in the order of the entries, without gaps:
//!
//! ```text
//! first page number   u64
//! pages               u16     1 and more, all in one region of guest memory
//! encoding            u8      [`Encoding`]
//! reserved            u8      0
//! payload length      u32
//! ```
//!
//! | encoding | code | payload | length |
//! |---|---|---|---|
//! | zero | 0 | none | 0 |
//! | raw | 1 | the pages | pages · page size |
//! | lz4 | 2 | one block in LZ4's block format | 1 and more, less than the pages |
//! | zstd | 3 | one Zstandard frame | 1 and more, less than the pages |
//! | delta | 4 | what changed since the pages were sent last | 3 and more, less than the pages |
//!
//! The pages of one entry of lz4, zstd or delta are at most [`ENCODED_BYTES`], or one page where pages are larger: so much and no
//! more does the destination unpack at once. Pages of 1 GiB are zero or raw. A delta is a series of *gap, length, bytes*: so many bytes are as they were, then
//! so many have these values; both numbers in LEB128. It runs on over the ends of pages; what is behind the
//! last bytes is as it was. That is QEMU's XBZRLE, which ends at each page.
//!
//! # Who decides what
//!
//! 1. A page full of zeroes is *zero*: a look at its first bytes finds nearly all others.
//! 2. A page that was sent before and is still known exactly becomes a *delta*, if that is shorter.
//! 3. The rest is compressed where that pays, as the chooser (`chooser.rs`) finds from measured times, neighbouring pages
//!    together.
//! 4. What is left is *raw*. Its bytes are not copied: the frame names the guest memory that is to be sent
//!    ([`Piece::Ram`](whimbrel_core::embed::Piece::Ram)), unless somebody has to see them before.
//!
//! # What must never happen
//!
//! * The destination patches what it holds. So the cache of pages as last sent holds what went into a frame, byte for
//!   byte, and never a page that was sent without a copy: that may have changed between the look and the sending.
//! * A frame that was encoded must be sent, whole and in order. [`Encoder::forget`] is for whoever cannot.
//! * No number of a peer's allocates or indexes before it is checked: all of that is in `table.rs`.

mod cache;
mod chooser;
mod config;
mod decoder;
mod delta;
mod encoder;
mod frame;
#[cfg(feature = "lz4")]
mod lz4;
mod packer;
mod sample;
mod sharding;
mod table;
mod tally;
mod zero;
#[cfg(feature = "zstd")]
mod zstd;

#[doc(hidden)]
pub mod testing;
#[cfg(test)]
mod tests;

use std::fmt;

use whimbrel_core::layout::{Gpa, PageNumber, PageSize, RamLayout};

pub use self::config::{Clock, Compression, EncoderConfig, Pass};
pub use self::decoder::{ApplyError, Decoder, Fault};
pub use self::encoder::{EncodeError, Encoded, Encoder};
pub use self::frame::PageFrame;
pub use self::sharding::{SHARD_PAGES, Sharding};
pub use self::table::{Entry, Table, TableError};
pub use self::tally::{Tallies, Tally};

/// The most bytes of guest memory in one entry that is not zero or raw, unless a single page is larger.
///
/// Sixteen pages of 4 KiB. LZ4 looks back no further than this.
pub const ENCODED_BYTES: u32 = 64 << 10;

/// What the payload of an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// Nothing: the pages are full of zeroes.
    Zero = 0,
    /// The pages themselves.
    Raw = 1,
    /// One block of LZ4.
    Lz4 = 2,
    /// One frame of Zstandard.
    Zstd = 3,
    /// The difference to what was sent last.
    Delta = 4,
}

impl Encoding {
    /// All of them, by code.
    pub const ALL: [Self; 5] = [Self::Zero, Self::Raw, Self::Lz4, Self::Zstd, Self::Delta];

    /// As it stands in a table.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The encoding with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Its name, as it is written in options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::Raw => "raw",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Delta => "delta",
        }
    }

    /// Whether a payload of `length` bytes can be `memory` bytes of pages in this encoding.
    const fn fits(self, length: u64, memory: u64) -> bool {
        match self {
            Self::Zero => length == 0,
            Self::Raw => length == memory,
            Self::Lz4 | Self::Zstd => 0 < length && length < memory,
            Self::Delta => 2 < length && length < memory,
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A set of encodings. Zero and raw are always in it: everybody speaks these.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Encodings(u8);

impl Encodings {
    /// Zero and raw.
    pub const PLAIN: Self = Self(1 << Encoding::Zero as u8 | 1 << Encoding::Raw as u8);

    /// What this build can encode and decode.
    pub const fn available() -> Self {
        let mut set = Self::PLAIN.with(Encoding::Delta);
        if cfg!(feature = "lz4") {
            set = set.with(Encoding::Lz4);
        }
        if cfg!(feature = "zstd") {
            set = set.with(Encoding::Zstd);
        }
        set
    }

    /// The same and `encoding`.
    #[must_use]
    pub const fn with(self, encoding: Encoding) -> Self {
        Self(self.0 | 1 << encoding as u8)
    }

    /// The same without `encoding`; zero and raw stay.
    #[must_use]
    pub const fn without(self, encoding: Encoding) -> Self {
        Self(self.0 & !(1 << encoding as u8) | Self::PLAIN.0)
    }

    /// What both have.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether `encoding` is one of them.
    pub const fn contains(self, encoding: Encoding) -> bool {
        self.0 >> encoding as u8 & 1 != 0
    }

    /// A bit for each, at its code: as it goes over the wire.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The set with these bits. A bit of an encoding that is not known here is left out: a later version offers more.
    pub const fn from_bits(bits: u8) -> Self {
        Self((bits | Self::PLAIN.0) & ((1 << Encoding::ALL.len()) - 1))
    }

    /// Those of it, by code.
    pub fn iter(self) -> impl Iterator<Item = Encoding> {
        Encoding::ALL.into_iter().filter(move |encoding| self.contains(*encoding))
    }
}

impl fmt::Debug for Encodings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Bytes of a page that fit into memory of this process: all page sizes do.
const fn page_bytes(size: PageSize) -> usize {
    size.bytes().0 as usize
}

/// Where the pages from `first` on are, and how many of `pages` lie in the same region; none if `first` is no page.
fn in_region(layout: &RamLayout, first: PageNumber, pages: u64) -> Option<(Gpa, u64)> {
    let at = layout.address_of(first)?;
    let index = layout.regions().partition_point(|region| region.start <= at).checked_sub(1)?;
    let region = layout.regions().get(index)?;
    // `at` is in the region, which ends within the address space.
    let left = (region.start.0 + region.len.0 - at.0) >> layout.page_size().shift();
    Some((at, left.min(pages)))
}
