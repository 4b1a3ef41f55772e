//! What the two sides can do beyond what every version has.

use crate::pages::{Encoding, Encodings};

/// Capabilities, a bit each. Zero pages and raw pages are always among them.
///
/// In an offer there may be bits that are not known here; they are left out of what is common. In an answer there may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Zero pages (bit 0) and raw pages (bit 1).
    pub const PLAIN: Self = Self(Encodings::PLAIN.bits() as u64);
    /// Pages compressed with LZ4 (bit 2).
    pub const LZ4: Self = Self(1 << Encoding::Lz4.code());
    /// Pages compressed with Zstandard (bit 3).
    pub const ZSTD: Self = Self(1 << Encoding::Zstd.code());
    /// Pages as what changed since they were sent last (bit 4).
    pub const DELTA: Self = Self(1 << Encoding::Delta.code());
    /// The checksum of a pages frame covers its payloads (bit 8).
    pub const PAYLOAD_CHECKSUMS: Self = Self(1 << 8);
    /// The destination compares a digest of all memory before it says that it is ready (bit 9).
    pub const DIGEST: Self = Self(1 << 9);

    /// All that have a meaning in version 1.
    pub const KNOWN: Self = Self::PLAIN
        .with(Self::LZ4)
        .with(Self::ZSTD)
        .with(Self::DELTA)
        .with(Self::PAYLOAD_CHECKSUMS)
        .with(Self::DIGEST);

    /// These encodings of pages, and nothing else.
    pub const fn of(encodings: Encodings) -> Self {
        Self(encodings.bits() as u64)
    }

    /// The set with these bits, known or not.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// A bit for each, as they go over the wire.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The same, and what is always there.
    #[must_use]
    pub const fn with_plain(self) -> Self {
        self.with(Self::PLAIN)
    }

    /// Whether all of `other` are in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What both sides have, as far as it has a meaning.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0 & Self::KNOWN.0).with_plain()
    }

    /// The encodings of pages among them.
    pub const fn encodings(self) -> Encodings {
        Encodings::from_bits(self.0 as u8)
    }
}
