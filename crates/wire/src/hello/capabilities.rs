//! What the two sides can do beyond what every version has.

/// Capabilities, a bit each. Zero pages and raw pages are always among them.
///
/// In an offer there may be bits that are not known here; they are left out of what is common. In an answer there may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Zero pages (bit 0) and raw pages (bit 1).
    pub const PLAIN: Self = Self(0b11);
    /// Pages compressed with LZ4.
    pub const LZ4: Self = Self(1 << 2);
    /// Pages compressed with Zstandard.
    pub const ZSTD: Self = Self(1 << 3);
    /// Pages as what changed since they were sent last.
    pub const DELTA: Self = Self(1 << 4);
    /// The checksum of a pages frame covers its payloads.
    pub const PAYLOAD_CHECKSUMS: Self = Self(1 << 8);
    /// The destination compares a digest of all memory before it says that it is ready.
    pub const DIGEST: Self = Self(1 << 9);

    /// All that have a meaning in version 1.
    pub const KNOWN: Self = Self(0x31f);

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

    /// The codes of encodings of pages, a bit each.
    pub const fn encodings(self) -> u8 {
        self.with_plain().0 as u8
    }
}
