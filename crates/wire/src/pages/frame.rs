//! A frame of pages that is about to be sent.
//!
//! Filled by the encoder, batch after batch in the same memory, and given to the driver as pieces. Neighbouring pages of one
//! encoding become one entry. It must never hold more payload than its table says, or in another order.

use std::ops::Range;

use whimbrel_core::embed::{Piece, RamRange};
use whimbrel_core::layout::{Gpa, PageNumber};
use whimbrel_core::units::ByteCount;

use super::Encoding;
use super::table::Entry;
use crate::frame::{Checksum, FrameHeader, FrameKind, HEADER_LEN};

/// One frame: header, table, and payloads of which some may still be in guest memory.
#[derive(Debug, Default)]
pub struct PageFrame {
    /// Header and table, once sealed.
    head: Vec<u8>,
    entries: Vec<Entry>,
    parts: Vec<Part>,
    /// What was copied, up to `used`; what lies behind is of earlier frames.
    payload: Vec<u8>,
    used: usize,
    /// Bytes of all payloads.
    body: u64,
    /// Of the payloads, all of which are copied; none where the checksum does not cover them.
    sum: Option<Checksum>,
    /// The last entry may grow.
    open: bool,
    /// Bytes at the end of the last entry that its delta leaves as they were.
    trailing: usize,
}

/// Where payload is.
#[derive(Clone, Debug)]
enum Part {
    Copied(Range<usize>),
    Ram(RamRange),
}

impl PageFrame {
    /// Without memory yet.
    pub const fn new() -> Self {
        Self {
            head: Vec::new(),
            entries: Vec::new(),
            parts: Vec::new(),
            payload: Vec::new(),
            used: 0,
            body: 0,
            sum: None,
            open: false,
            trailing: 0,
        }
    }

    /// Nothing is to be sent: no page of the batch changed since it was sent last.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of the whole frame.
    pub fn len(&self) -> ByteCount {
        ByteCount(self.head.len() as u64 + self.body)
    }

    /// What is to be sent, in order: header and table, then the payloads. [`Piece::Ram`] only where the encoder was
    /// free not to copy.
    pub fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let payloads = self.parts.iter().map(|part| match part {
            Part::Copied(range) => Piece::Bytes(self.payload.get(range.clone()).unwrap_or_default()),
            Part::Ram(range) => Piece::Ram(*range),
        });
        std::iter::once(Piece::Bytes(&self.head)).chain(payloads)
    }

    /// Forgets what was in it, and keeps its memory. With `checked` the checksum is to cover the payloads, none of which may
    /// then be left in guest memory.
    pub(super) fn begin(&mut self, checked: bool) {
        self.head.clear();
        self.entries.clear();
        self.parts.clear();
        (self.used, self.body, self.open) = (0, 0, false);
        self.sum = checked.then(Checksum::new);
    }

    /// What comes next is not a neighbour of what is here.
    pub(super) fn close(&mut self) {
        self.open = false;
    }

    /// The last entry if `pages` more from `first` on can be part of it.
    fn joined(&mut self, first: PageNumber, pages: u16, encoding: Encoding) -> Option<&mut Entry> {
        let last = self.entries.last_mut().filter(|last| self.open && last.encoding == encoding)?;
        let joins = last.run().end() == first && last.pages.checked_add(pages).is_some();
        joins.then_some(last)
    }

    fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
        self.open = true;
    }

    /// Pages full of zeroes.
    pub(super) fn zero(&mut self, first: PageNumber, at: Gpa, pages: u16) {
        match self.joined(first, pages, Encoding::Zero) {
            Some(last) => last.pages += pages,
            None => self.push(Entry { first, pages, encoding: Encoding::Zero, length: 0, at }),
        }
    }

    /// Pages as they are in guest memory when they are sent.
    pub(super) fn ram(&mut self, first: PageNumber, pages: u16, range: RamRange) {
        self.body += range.len.0;
        // A payload is at most as long as the batch, which is bounded.
        let length = range.len.0 as u32;
        // A range must not go on into another region, nor does an entry.
        let joined = self.joined(first, pages, Encoding::Raw);
        let grows = joined.is_some();
        match joined {
            Some(last) => (last.pages, last.length) = (last.pages + pages, last.length + length),
            None => self.push(Entry { first, pages, encoding: Encoding::Raw, length, at: range.at }),
        }
        match self.parts.last_mut() {
            Some(Part::Ram(last)) if grows => last.len.0 += range.len.0,
            _ => self.parts.push(Part::Ram(range)),
        }
    }

    /// Room for so many bytes of payload, for whoever then calls [`PageFrame::copied`].
    pub(super) fn room(&mut self, bytes: usize) -> &mut [u8] {
        let end = self.used + bytes;
        if self.payload.len() < end {
            self.payload.resize(end, 0);
        }
        &mut self.payload[self.used..end]
    }

    /// Pages whose payload is the first `length` bytes of the room.
    pub(super) fn copied(
        &mut self,
        first: PageNumber,
        at: Gpa,
        pages: u16,
        encoding: Encoding,
        length: usize,
    ) {
        self.take(length);
        match self.joined(first, pages, encoding).filter(|_| encoding == Encoding::Raw) {
            Some(last) => (last.pages, last.length) = (last.pages + pages, last.length + length as u32),
            None => self.push(Entry { first, pages, encoding, length: length as u32, at }),
        }
    }

    /// The first `length` bytes of the room are payload.
    fn take(&mut self, length: usize) {
        let range = self.used..self.used + length;
        if let Some(sum) = &mut self.sum {
            // Now, while it is still in the first cache.
            sum.update(&self.payload[range.clone()]);
        }
        self.body += length as u64;
        self.used = range.end;
        match self.parts.last_mut() {
            Some(Part::Copied(last)) => last.end = range.end,
            _ => self.parts.push(Part::Copied(range)),
        }
    }

    /// Bytes of pages of `size` between the last change in the frame and `page`, if the difference of `page` can go on
    /// where the last entry ends; what lies between was found unchanged. An entry then has at most `most` pages.
    pub(super) fn gap(&self, page: PageNumber, size: usize, most: u64) -> Option<usize> {
        let last = self.entries.last().filter(|last| self.open && last.encoding == Encoding::Delta)?;
        let between = page.0.checked_sub(last.run().end().0)?;
        let pages = u64::from(last.pages) + between + 1;
        (pages <= most).then(|| self.trailing + between as usize * size)
    }

    /// A page with a difference that goes on where the last entry ends ([`PageFrame::gap`]), or in an entry of its own.
    pub(super) fn delta(&mut self, page: PageNumber, at: Gpa, joined: bool, delta: &[u8], trailing: usize) {
        self.room(delta.len()).copy_from_slice(delta);
        self.take(delta.len());
        let length = delta.len() as u32;
        self.trailing = trailing;
        match self.entries.last_mut().filter(|_| joined) {
            Some(last) => {
                // At most the limit of an entry.
                last.pages = (page.0 + 1 - last.first.0) as u16;
                last.length += length;
            }
            None => self.push(Entry { first: page, pages: 1, encoding: Encoding::Delta, length, at }),
        }
    }

    /// Writes the header and the table: the frame is whole.
    pub(super) fn seal(&mut self) {
        self.head.clear();
        if self.entries.is_empty() {
            return;
        }
        self.head.resize(HEADER_LEN, 0);
        for entry in &self.entries {
            self.head.extend_from_slice(&entry.encode());
        }
        let payloads = self.sum.take();
        let payload_checked = payloads.is_some();
        let mut checksum = Checksum::new();
        checksum.update(&self.head[HEADER_LEN..]);
        if let Some(payloads) = &payloads {
            checksum.append(payloads);
        }
        let header = FrameHeader {
            kind: FrameKind::Pages,
            // A batch has fewer pages, and an entry has one at least.
            entries: self.entries.len() as u16,
            length: (self.head.len() - HEADER_LEN) as u32 + self.body as u32,
            checksum: checksum.finish(),
            payload_checked,
        };
        self.head[..HEADER_LEN].copy_from_slice(&header.encode());
    }

    /// Its entries.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}
