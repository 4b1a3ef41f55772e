//! For tests, benches and fuzzing: content of known kind, and both ends of a page connection without a connection.

use std::sync::Mutex;

use whimbrel_core::embed::{GuestRam, Piece, RamError};
use whimbrel_core::layout::{Gpa, PageSize, RamLayout, Region};
use whimbrel_core::units::ByteCount;

use super::{Decoder, Encodings, PageFrame, Table};
use crate::frame::{FrameHeader, FrameKind, HEADER_LEN};
use crate::limits::Limits;

/// A small generator (xorshift): content only has to be without order.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// Bytes that nothing packs.
pub fn random(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}

/// Bytes of which `share` per cent are random, in pieces of 8 to 64 bytes; the others are words of a vocabulary of 32, each 4 to 12
/// small letters. What a compressor leaves of them is measured where they are used.
pub fn compressible(len: usize, share: u64, seed: u64) -> Vec<u8> {
    let mut letters = Random::new(1);
    let vocabulary: Vec<Vec<u8>> = (0..32)
        .map(|_| (0..4 + letters.next() % 9).map(|_| b'a' + (letters.next() >> 32) as u8 % 26).collect())
        .collect();
    let mut random = Random::new(seed);
    let mut bytes = Vec::with_capacity(len + 64);
    while bytes.len() < len {
        let end = bytes.len() + 8 + (random.next() >> 32) as usize % 57;
        if (random.next() >> 32) % 100 < share {
            (bytes.len()..end).for_each(|_| bytes.push((random.next() >> 32) as u8));
        } else {
            while bytes.len() < end {
                bytes.extend_from_slice(&vocabulary[(random.next() >> 32) as usize % vocabulary.len()]);
            }
        }
    }
    bytes.truncate(len);
    bytes
}

/// Guest memory in a vector.
#[derive(Debug)]
pub struct VecRam {
    layout: RamLayout,
    /// The regions one behind the other.
    bytes: Mutex<Vec<u8>>,
}

impl VecRam {
    /// Memory that is laid out so, full of zeroes.
    pub fn new(layout: RamLayout) -> Self {
        let bytes = Mutex::new(vec![0; layout.bytes().0 as usize]);
        Self { layout, bytes }
    }

    /// Three regions of 4 KiB pages: two that are neighbours in address and number, 64 and 40 pages, and 7 behind a hole.
    pub fn small() -> Self {
        let regions = [(0, 64), (64, 40), (4096, 7)];
        let region =
            |(start, pages): (u64, u64)| Region { start: Gpa(start << 12), len: ByteCount(pages << 12) };
        // Such a layout there is.
        let layout = RamLayout::new(PageSize::Kib4, regions.map(region).to_vec());
        Self::new(layout.unwrap_or_else(|error| unreachable!("{error}")))
    }

    /// All of it.
    pub fn content(&self) -> Vec<u8> {
        self.bytes.lock().map(|bytes| bytes.clone()).unwrap_or_default()
    }

    fn with<T>(&self, at: Gpa, len: usize, then: impl FnOnce(&mut [u8]) -> T) -> Result<T, RamError> {
        let not_memory = RamError::NotMemory { at, len: ByteCount(len as u64) };
        let mut before = 0;
        for region in self.layout.regions() {
            let inside = at.0.checked_sub(region.start.0).filter(|offset| *offset < region.len.0);
            if let Some(offset) = inside {
                if region.len.0 - offset < len as u64 {
                    break;
                }
                let start = (before + offset) as usize;
                let Ok(mut bytes) = self.bytes.lock() else { break };
                return bytes.get_mut(start..start + len).map(then).ok_or(not_memory);
            }
            before += region.len.0;
        }
        Err(not_memory)
    }
}

impl GuestRam for VecRam {
    fn layout(&self) -> &RamLayout {
        &self.layout
    }

    fn read(&self, at: Gpa, out: &mut [u8]) -> Result<(), RamError> {
        self.with(at, out.len(), |bytes| out.copy_from_slice(bytes))
    }

    fn write(&self, at: Gpa, data: &[u8]) -> Result<(), RamError> {
        self.with(at, data.len(), |bytes| bytes.copy_from_slice(data))
    }
}

/// The frame as it goes over the wire: what guest memory holds now is in it.
///
/// # Errors
///
/// If a piece is not guest memory.
pub fn send(frame: &PageFrame, ram: &dyn GuestRam) -> Result<Vec<u8>, RamError> {
    let mut bytes = Vec::new();
    for piece in frame.pieces() {
        match piece {
            Piece::Bytes(piece) => bytes.extend_from_slice(piece),
            Piece::Ram(range) => {
                let start = bytes.len();
                bytes.resize(start + range.len.0 as usize, 0);
                ram.read(range.at, &mut bytes[start..])?;
            }
        }
    }
    Ok(bytes)
}

/// A frame that came, applied to `ram`. Gives the table for who wants to see it.
///
/// # Errors
///
/// Whatever is wrong with it, as a text with its causes.
pub fn receive(
    bytes: &[u8],
    accepted: Encodings,
    decoder: &mut Decoder,
    ram: &dyn GuestRam,
) -> Result<Table, String> {
    let limits = Limits::default().for_page_size(ram.layout().page_size());
    let (header, body) = bytes.split_first_chunk::<HEADER_LEN>().ok_or("no header")?;
    let header = FrameHeader::decode(header, &limits).map_err(|error| error.to_string())?;
    if header.kind != FrameKind::Pages || header.length as usize != body.len() {
        return Err(format!("{header:?} in front of {} bytes", body.len()));
    }
    header.verify(&body[..header.covered() as usize]).map_err(|error| error.to_string())?;
    let (table, payload) = body.split_at(header.table_len());
    apply(table, header.entries, payload, accepted, decoder, ram)
}

/// A table and its payloads, applied to `ram`.
fn apply(
    table: &[u8],
    entries: u16,
    mut payload: &[u8],
    accepted: Encodings,
    decoder: &mut Decoder,
    ram: &dyn GuestRam,
) -> Result<Table, String> {
    let mut found = Table::default();
    found
        .read(table, entries, payload.len() as u64, ram.layout(), accepted)
        .map_err(|error| error.to_string())?;
    for entry in found.entries() {
        let (own, rest) = payload.split_at(entry.payload().0 as usize);
        decoder.apply(entry, own, ram).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error}: {}", cause.unwrap_or_default())
        })?;
        payload = rest;
    }
    Ok(found)
}
