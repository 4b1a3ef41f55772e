//! For tests, benches and fuzzing: content of known kind, and both ends of a page connection without a connection.

use std::sync::{LazyLock, Mutex};

use whimbrel_core::embed::{GuestRam, Piece, RamError};
use whimbrel_core::layout::{Gpa, PageNumber, PageRun, PageSize, RamLayout, Region};
use whimbrel_core::units::{Bandwidth, ByteCount, Pages};

use super::{Compression, Decoder, Encoder, EncoderConfig, Encodings, PageFrame, Pass, Table};
use crate::frame::{ENTRY_LEN, FrameHeader, FrameKind, HEADER_LEN};
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
        Self::of([(0, 64), (64, 40), (4096, 7)])
    }

    /// The same with so few pages that looking at all of them costs nothing: 6, 3 and 2, from page 0, 64 and 128 on.
    pub fn tiny() -> Self {
        Self::of([(0, 6), (6, 3), (4096, 2)])
    }

    /// Regions by first page and number of pages.
    fn of(regions: [(u64, u64); 3]) -> Self {
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

/// Any bytes as a frame's body, or as what a guest does while it is moved.
///
/// # Panics
///
/// If a promise is broken.
pub fn check(data: &[u8]) {
    match data.split_first() {
        Some((0, data)) => check_body(data),
        Some((1, data)) => check_repaired(data),
        Some((_, data)) => check_move(data),
        None => {}
    }
}

/// The first byte says how many entries: as they are.
fn check_body(data: &[u8]) {
    let Some((&entries, body)) = data.split_first() else { return };
    let (table, payload) = body.split_at((usize::from(entries) * ENTRY_LEN).min(body.len()));
    applied(table, entries.into(), payload);
}

/// The same, with each entry made one that is nearly always right: so payloads are reached.
fn check_repaired(data: &[u8]) {
    let Some((&entries, body)) = data.split_first() else { return };
    let (raw, mut payload) = body.split_at((usize::from(entries % 8) * ENTRY_LEN).min(body.len()));
    let (mut table, mut payloads) = (Vec::new(), Vec::new());
    for entry in raw.as_chunks::<ENTRY_LEN>().0 {
        let mut entry = *entry;
        entry[0] = [0, 1, 4, 64, 65, 128, 129, 6][usize::from(entry[0] % 8)];
        (entry[1..8]).fill(0);
        (entry[8], entry[9]) = (entry[8] % 4, 0);
        (entry[10], entry[11]) = (entry[10] % 5, 0);
        let memory = usize::from(entry[8]) << 12;
        let length = match entry[10] {
            0 => 0,
            1 => memory,
            _ => usize::from(u16::from_le_bytes([entry[12], entry[13]])).min(payload.len()),
        };
        entry[12..].copy_from_slice(&(length as u32).to_le_bytes());
        table.extend_from_slice(&entry);
        let (own, rest) = payload.split_at(length.min(payload.len()));
        payloads.extend_from_slice(own);
        payloads.resize(payloads.len() + length - own.len(), 7);
        payload = rest;
    }
    applied(&table, (table.len() / ENTRY_LEN) as u16, &payloads);
}

/// A body, applied to memory of which nothing but its pages may change.
fn applied(table: &[u8], entries: u16, payload: &[u8]) {
    static UNTOUCHED: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..11_u8).flat_map(|page| [page * 3; 1 << 12]).collect());
    let ram = VecRam::tiny();
    if let Ok(mut bytes) = ram.bytes.lock() {
        bytes.copy_from_slice(&UNTOUCHED);
    }
    let mut decoder = Decoder::new(PageSize::Kib4);
    let mut read = Table::default();
    let accepted = Encodings::available();
    let taken = read.read(table, entries, payload.len() as u64, &ram.layout, accepted).is_ok();
    assert_eq!(read.entries().len(), if taken { entries.into() } else { 0 });
    let _ = apply(table, entries, payload, accepted, &mut decoder, &ram);
    let content = ram.content();
    let pages = [0..6, 64..67, 128..130].into_iter().flatten();
    for ((page, before), after) in pages.zip(UNTOUCHED.chunks(1 << 12)).zip(content.chunks(1 << 12)) {
        let named = read.entries().iter().any(|entry| entry.run().contains(PageNumber(page)));
        assert!(named || before == after, "page {page} is in no entry and changed");
    }
}

/// Each two bytes are something that the guest or the migration does; at the end the replica is the guest.
fn check_move(data: &[u8]) {
    let Some(([kind, cache], data)) = data.split_first_chunk::<2>() else { return };
    let compression = [Compression::Adaptive, Compression::Off, Compression::Lz4, Compression::Zstd];
    let config = EncoderConfig {
        compression: compression[usize::from(kind % 4)],
        zero_detection: kind & 4 == 0,
        payload_checksums: kind & 8 != 0,
        copy: kind & 16 != 0,
        encodings: Encodings::available(),
        delta_cache: ByteCount(u64::from(*cache) << 10),
        ..EncoderConfig::default()
    };
    let Ok(mut encoder) = Encoder::new(&config, PageSize::Kib4) else { return };
    encoder.set_bandwidth(Bandwidth::new(u64::from(*cache) << 20));
    let (source, replica) = (VecRam::tiny(), VecRam::tiny());
    let (mut decoder, mut frame) = (Decoder::new(PageSize::Kib4), PageFrame::new());
    let mut dirty = [true; 11];
    let numbers: Vec<_> = [0..6, 64..67, 128..130].into_iter().flatten().map(PageNumber).collect();
    let mut batch =
        |dirty: &mut [bool; 11], encoder: &mut Encoder, write: &mut dyn FnMut(&mut [bool; 11])| {
            let taken = std::mem::take(dirty);
            let runs = numbers.iter().zip(taken).filter(|(_, dirty)| *dirty);
            let runs: Vec<_> = runs.map(|(first, _)| PageRun { first: *first, count: Pages(1) }).collect();
            let Ok(done) = encoder.encode(&runs, &source, &mut frame) else { panic!("these are pages") };
            // Between look and send.
            write(dirty);
            if frame.is_empty() {
                return assert_eq!(done.bytes, ByteCount(0));
            }
            let bytes = send(&frame, &source).unwrap_or_default();
            assert_eq!(bytes.len() as u64, done.bytes.0, "the frame has another length than it says");
            let received = receive(&bytes, Encodings::available(), &mut decoder, &replica);
            assert!(received.is_ok(), "{received:?}");
        };
    let write = |what: u8, value: u8, dirty: &mut [bool; 11]| {
        let page = usize::from(what >> 2) % 11;
        dirty[page] = true;
        let at = address_at(page);
        assert!(source.write(at, written(what, value)).is_ok());
    };
    for [what, value] in data.as_chunks::<2>().0 {
        match what {
            250..=255 => encoder.begin_pass([Pass::Bulk, Pass::Round, Pass::Last][usize::from(value % 3)]),
            200..=249 => batch(&mut dirty, &mut encoder, &mut |dirty| write(*what, *value, dirty)),
            _ => write(*what, *value, &mut dirty),
        }
    }
    batch(&mut dirty, &mut encoder, &mut |_| {});
    assert!(source.content() == replica.content(), "the replica is not the guest");
}

/// What the guest writes: a page without order, one of words, zeroes, or a few bytes.
fn written(what: u8, value: u8) -> &'static [u8] {
    /// All there are of a kind, one page behind the other. Made once: making them takes longer than moving them.
    fn all(page: impl Fn(u64) -> Vec<u8>) -> Vec<u8> {
        (0..256).flat_map(page).collect()
    }
    static RANDOM: LazyLock<Vec<u8>> = LazyLock::new(|| all(|value| random(1 << 12, value)));
    static WORDS: LazyLock<Vec<u8>> =
        LazyLock::new(|| all(|value| compressible(1 << 12, value % 100, value)));
    static SAME: LazyLock<Vec<u8>> = LazyLock::new(|| all(|value| vec![value as u8; 1 << 12]));
    let (all, len) = match what & 3 {
        0 => return &SAME[..1 << 12],
        1 => (&RANDOM, 1 << 12),
        2 => (&WORDS, 1 << 12),
        _ => (&SAME, 1 + usize::from(value) % 50),
    };
    let start = usize::from(value) << 12;
    &all[start..start + len]
}

/// Address of a page of [`VecRam::tiny`], by its place among all.
fn address_at(page: usize) -> Gpa {
    Gpa(if page < 9 { page as u64 } else { 4096 + page as u64 - 9 } << 12)
}
