//! Frames: everything that follows the hellos of a connection, in both directions.
//!
//! A header of [`HEADER_LEN`] bytes, little endian, then the body:
//!
//! ```text
//! kind             u8      1 control, 2 pages, 3 gate, 4 ping
//! flags            u8      bit 0: the checksum covers payloads too; pages only. Other bits: 0
//! entries          u16     of the table; pages only, otherwise 0
//! length           u32     bytes of the body
//! checksum         u32     CRC-32 of the body; of a pages frame the table alone, unless flagged
//! header checksum  u32     CRC-32 of the twelve bytes before
//! ```
//!
//! The header is checked alone, before its length is believed. A reader must never look at a body that it has not held
//! against the header's checksum, raw payloads that go straight to guest memory excepted: a replica of which a frame was damaged
//! never runs.

use crate::error::WireError;
use crate::limits::{Limit, Limits};

/// Bytes of a header.
pub const HEADER_LEN: usize = 16;

/// Bytes of an entry of the table in a pages frame.
pub const ENTRY_LEN: usize = 16;

/// Bytes of the body of a gate: the round.
pub const GATE_LEN: usize = 4;

/// The flag that says that the checksum of a pages frame covers its payloads.
const PAYLOAD_CHECKED: u8 = 1;

/// What the body of a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FrameKind {
    /// A message, see [`control`](crate::control). On control connections.
    Control,
    /// A batch of pages: a table, then payloads. On page connections, from source to destination.
    Pages,
    /// Everything of this round that travels on this page connection was sent before.
    Gate,
    /// Nothing but a sign of life. On control connections.
    Ping,
}

impl FrameKind {
    /// All kinds, by code.
    pub const ALL: [Self; 4] = [Self::Control, Self::Pages, Self::Gate, Self::Ping];

    /// As it stands in a header. Zero is none, so that zeroes are no frame.
    pub const fn code(self) -> u8 {
        match self {
            Self::Control => 1,
            Self::Pages => 2,
            Self::Gate => 3,
            Self::Ping => 4,
        }
    }

    /// The kind with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Its name, for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "a control frame",
            Self::Pages => "a pages frame",
            Self::Gate => "a gate",
            Self::Ping => "a ping",
        }
    }
}

/// What stands before a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the body is.
    pub kind: FrameKind,
    /// Entries of the table; zero unless it is a pages frame.
    pub entries: u16,
    /// Bytes of the body.
    pub length: u32,
    /// CRC-32 of what is [covered](FrameHeader::covered).
    pub checksum: u32,
    /// Whether the checksum covers the payloads of a pages frame, too; false for other kinds.
    pub payload_checked: bool,
}

/// CRC-32 as Ethernet, gzip and PNG have it: polynomial 0x04c11db7, reflected, begun with and inverted by ones.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// A [`checksum`] taken piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Checksum(crc32fast::Hasher);

impl Checksum {
    /// Of no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// These come next.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Goes on with the bytes of which `behind` was taken, as if they had come by [`update`](Self::update).
    pub fn append(&mut self, behind: &Self) {
        self.0.combine(&behind.0);
    }

    /// Of all that came.
    pub fn finish(self) -> u32 {
        self.0.finalize()
    }
}

impl FrameHeader {
    /// The header as bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = self.kind.code();
        bytes[1] = if self.payload_checked { PAYLOAD_CHECKED } else { 0 };
        bytes[2..4].copy_from_slice(&self.entries.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.checksum.to_le_bytes());
        let own = checksum(&bytes[..12]);
        bytes[12..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    /// Reads a header and checks everything that can be checked without the body.
    ///
    /// # Errors
    ///
    /// [`WireError`]: bytes that changed on their way, an unknown kind, a reserved bit, a length that the kind cannot have or
    /// that is beyond `limits`.
    pub fn decode(bytes: &[u8; HEADER_LEN], limits: &Limits) -> Result<Self, WireError> {
        let [kind, flags, e0, e1, l0, l1, l2, l3, c0, c1, c2, c3, h0, h1, h2, h3] = *bytes;
        let (found, expected) = (u32::from_le_bytes([h0, h1, h2, h3]), checksum(&bytes[..12]));
        if found != expected {
            return Err(WireError::Checksum { what: "a frame's header", found, expected });
        }
        let header = Self {
            kind: FrameKind::from_code(kind).ok_or(WireError::Code {
                what: "the kind of a frame",
                found: kind.into(),
                accepted: "1 (control), 2 (pages), 3 (gate) or 4 (ping)",
            })?,
            entries: u16::from_le_bytes([e0, e1]),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            checksum: u32::from_le_bytes([c0, c1, c2, c3]),
            payload_checked: flags & PAYLOAD_CHECKED != 0,
        };
        let accepted = if header.kind == FrameKind::Pages { PAYLOAD_CHECKED } else { 0 };
        if flags & !accepted != 0 {
            let (found, accepted) = (flags.into(), accepted.into());
            return Err(WireError::Bits { what: "flags of a frame", found, accepted });
        }
        header.check(limits)?;
        Ok(header)
    }

    /// Whether the lengths are some that the kind can have.
    fn check(&self, limits: &Limits) -> Result<(), WireError> {
        let length = u64::from(self.length);
        if self.kind == FrameKind::Pages {
            limits.check(Limit::Entries, self.entries.into())?;
            let table = self.table_len() as u64;
            let Some(payload) = length.checked_sub(table) else {
                return Err(WireError::Truncated { what: "the table of a pages frame" });
            };
            return limits.check(Limit::Payload, payload);
        }
        if self.entries != 0 {
            return Err(WireError::TooMuch { limit: Limit::Entries, found: self.entries.into(), most: 0 });
        }
        let accepted = match self.kind {
            FrameKind::Gate => GATE_LEN as u64,
            FrameKind::Ping => 0,
            FrameKind::Control | FrameKind::Pages => return limits.check(Limit::Control, length),
        };
        if length == accepted {
            Ok(())
        } else {
            Err(WireError::Length { what: self.kind.name(), found: length, accepted })
        }
    }

    /// Bytes of the table; zero unless it is a pages frame.
    pub fn table_len(&self) -> usize {
        usize::from(self.entries) * ENTRY_LEN
    }

    /// How many bytes of the body, from its beginning, the checksum covers.
    pub fn covered(&self) -> u32 {
        if self.kind == FrameKind::Pages && !self.payload_checked {
            // At most 2^16 entries of 16 bytes.
            self.table_len() as u32
        } else {
            self.length
        }
    }

    /// Holds the [covered](FrameHeader::covered) part of the body against the checksum.
    ///
    /// # Errors
    ///
    /// [`WireError::Length`] if `covered` is another number of bytes, [`WireError::Checksum`] if they are not those that were
    /// sent.
    pub fn verify(&self, covered: &[u8]) -> Result<(), WireError> {
        if covered.len() as u64 != u64::from(self.covered()) {
            return Err(WireError::Length {
                what: self.kind.name(),
                found: covered.len() as u64,
                accepted: self.covered().into(),
            });
        }
        self.verify_sum(checksum(covered))
    }

    /// The same for whoever took the [`checksum`] piece by piece.
    ///
    /// # Errors
    ///
    /// [`WireError::Checksum`].
    pub fn verify_sum(&self, expected: u32) -> Result<(), WireError> {
        if self.checksum == expected {
            Ok(())
        } else {
            Err(WireError::Checksum { what: self.kind.name(), found: self.checksum, expected })
        }
    }
}

/// A whole frame that says that everything of `round` was sent on this connection.
pub fn gate(round: u32) -> [u8; HEADER_LEN + GATE_LEN] {
    let body = round.to_le_bytes();
    let header = FrameHeader {
        kind: FrameKind::Gate,
        entries: 0,
        length: GATE_LEN as u32,
        checksum: checksum(&body),
        payload_checked: false,
    };
    let mut frame = [0; HEADER_LEN + GATE_LEN];
    frame[..HEADER_LEN].copy_from_slice(&header.encode());
    frame[HEADER_LEN..].copy_from_slice(&body);
    frame
}

/// The round that the body of a gate names.
pub fn gate_round(body: [u8; GATE_LEN]) -> u32 {
    u32::from_le_bytes(body)
}

/// A whole frame that says nothing.
pub fn ping() -> [u8; HEADER_LEN] {
    let header = FrameHeader {
        kind: FrameKind::Ping,
        entries: 0,
        length: 0,
        checksum: checksum(&[]),
        payload_checked: false,
    };
    header.encode()
}

#[cfg(test)]
mod tests;
