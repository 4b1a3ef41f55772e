//! The digest of guest memory that both ends compare (`--verify`).
//!
//! A driver makes a [`Digest`] of the layout, tells it what was written ([`Digest::stale`]), lets a thread hash in the background
//! while the guest runs ([`Digest::refresh`]), and asks for the [`Root`] when memory stands still: by then only what changed last is
//! left to hash. It finds mistakes of ours, of the network and of memory; it is no defence against a peer, who can send what he
//! likes. It must never give a root of which a part was hashed before that part's last write.
//!
//! # What is hashed
//!
//! blake3 over each *chunk* of 16 pages of 4 KiB (or one larger page), of which 64 bits are kept: damage to a chunk
//! goes unseen once in 2⁶⁴ times. Chunks are numbered as pages are and never reach from one region into the next; the last of a region
//! may be shorter. The root is blake3 over the layout and over the digests of groups of chunks, each of which is blake3 over
//! its chunks' digests; all of these in full. So equal layouts with equal memory give equal roots, whatever was hashed when.
//!
//! # What it costs
//!
//! * Memory: 8 bytes and a bit a chunk, 0.0124 % of guest memory in pages of 4 KiB (127 MiB a TiB), and 32 bytes a group.
//! * At the switchover: 64 KiB to hash for each chunk that changed, 16 times what changed if that is single pages far apart. (With
//!   chunks of 64 pages and digests of 32 bytes, which take as much memory, it would be 64 times.) Then 8 KiB for each group with
//!   such a chunk, and all groups' digests: 512 KiB a TiB.
//!
//! # Why nothing is missed
//!
//! A chunk is taken out of the set of stale ones *before* its memory is read. A write that the hash does not see is therefore in
//! some harvest that is told after that, and makes the chunk stale again. On the destination, who writes a page tells it after
//! the write.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use whimbrel_core::dirty::{PageSet, RangeError};
use whimbrel_core::embed::{GuestRam, RamError};
use whimbrel_core::layout::{Gpa, NUMBERS_PER_WORD, PageNumber, PageRun, RamLayout};
use whimbrel_core::units::ByteCount;

/// Pages in a chunk, unless they are larger than this together.
const PAGES: u64 = 16;
const CHUNK: u64 = 64 << 10;

/// Chunks in a group.
const GROUP: usize = 1024;

/// Memory that is hashed at a time: of large pages too.
const PIECE: usize = 64 << 10;

/// What is hashed is this and no other digest.
const NAME: &[u8; 24] = b"whimbrel memory digest 1";

/// The digest of all of a guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Root {
    /// Equal for equal memory of equal layouts, and else not.
    pub hash: [u8; 32],
    /// What had to be hashed for it now.
    pub hashed: Hashed,
}

/// What a call hashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hashed {
    /// How many chunks.
    pub chunks: u64,
    /// Guest memory in them.
    pub bytes: ByteCount,
    /// Nothing was stale when it ended.
    pub done: bool,
}

/// A digest that is kept while memory changes. Shared by whoever tells what was written and whoever hashes.
pub struct Digest {
    layout: RamLayout,
    /// Pages in a chunk, as a power of two; at most a word's.
    shift: u32,
    /// Bit `i` is set if chunk `i` changed since it was hashed.
    stale: Vec<AtomicU64>,
    /// All of memory was hashed once.
    whole: AtomicBool,
    table: Mutex<Table>,
    /// What a piece of zeroes gives.
    zeroes: u64,
}

/// What was hashed. One thread at a time has it, so that no older digest replaces a newer one.
struct Table {
    /// Of each chunk; those of no page stay zero.
    chunks: Vec<u64>,
    /// Of each group.
    groups: Vec<[u8; 32]>,
    /// The group has a chunk that was hashed since the group was.
    changed: Vec<bool>,
    /// Chunk at which the next refresh begins.
    next: usize,
    piece: Vec<u8>,
}

impl Digest {
    /// Of memory of which nothing is known yet: all of it is stale.
    pub fn new(layout: &RamLayout) -> Self {
        let most = (CHUNK >> layout.page_size().shift()).clamp(1, PAGES);
        let shift = most.ilog2();
        let chunks = (layout.numbers() >> shift) as usize;
        let digest = Self {
            layout: layout.clone(),
            shift,
            stale: (0..chunks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            whole: AtomicBool::new(false),
            table: Mutex::new(Table {
                chunks: vec![0; chunks],
                groups: vec![[0; 32]; chunks.div_ceil(GROUP)],
                changed: vec![true; chunks.div_ceil(GROUP)],
                next: 0,
                piece: vec![0; PIECE],
            }),
            zeroes: kept(&blake3::hash(&vec![0; PIECE])),
        };
        for run in layout.runs() {
            digest.mark(run);
        }
        digest
    }

    /// The pages of a harvest were written.
    ///
    /// # Errors
    ///
    /// [`RangeError::OtherGuest`] if they are another guest's; nothing was marked.
    pub fn stale(&self, pages: &PageSet) -> Result<(), RangeError> {
        if pages.numbers() != self.layout.numbers() {
            return Err(RangeError::OtherGuest { left: self.layout.numbers(), right: pages.numbers() });
        }
        let words = pages.words();
        let mut from = PageNumber(0);
        while let Some(page) = pages.next_page(from) {
            let index = (page.0 / NUMBERS_PER_WORD) as usize;
            self.mark_word(index, words[index]);
            from = PageNumber((index as u64 + 1) * NUMBERS_PER_WORD);
        }
        Ok(())
    }

    /// These pages were written.
    ///
    /// # Errors
    ///
    /// [`RangeError::BeyondEnd`]; nothing was marked.
    pub fn stale_run(&self, run: PageRun) -> Result<(), RangeError> {
        let numbers = self.layout.numbers();
        match run.first.0.checked_add(run.count.0) {
            Some(end) if end <= numbers => self.mark(run),
            _ => {
                let page = PageNumber(run.first.0.max(numbers));
                return Err(RangeError::BeyondEnd { page, numbers });
            }
        }
        Ok(())
    }

    /// How many chunks are stale.
    pub fn stale_chunks(&self) -> u64 {
        self.stale.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum()
    }

    /// Hashes stale chunks until `budget` of memory was read, or none is left. The guest may run.
    ///
    /// Goes round all of memory before it comes to the same place again, whatever is written meanwhile.
    ///
    /// # Errors
    ///
    /// What `ram` says, which is to be memory of this layout. What was not hashed is still stale.
    pub fn refresh(&self, ram: &dyn GuestRam, budget: ByteCount) -> Result<Hashed, RamError> {
        self.hash_stale(&mut self.table(), ram, budget)
    }

    /// The same, if nobody else is at it; none if somebody is: who keeps on refreshing may keep others out for long.
    ///
    /// # Errors
    ///
    /// As of [`refresh`](Self::refresh).
    pub fn try_refresh(&self, ram: &dyn GuestRam, budget: ByteCount) -> Result<Option<Hashed>, RamError> {
        let mut table = match self.table.try_lock() {
            Ok(table) => table,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        self.hash_stale(&mut table, ram, budget).map(Some)
    }

    /// Whether all of memory was hashed once, however much of it changed since.
    pub fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Relaxed)
    }

    /// The digest of all memory, which must not change from before this is called, and all changes of which were told.
    ///
    /// # Errors
    ///
    /// What `ram` says.
    pub fn root(&self, ram: &dyn GuestRam) -> Result<Root, RamError> {
        let mut table = self.table();
        let hashed = self.hash_stale(&mut table, ram, ByteCount(u64::MAX))?;
        let Table { chunks, groups, changed, .. } = &mut *table;
        let mut bytes = Vec::with_capacity(8 * GROUP);
        for ((chunks, group), changed) in chunks.chunks(GROUP).zip(groups.iter_mut()).zip(changed) {
            if std::mem::take(changed) {
                bytes.clear();
                bytes.extend(chunks.iter().flat_map(|chunk| chunk.to_le_bytes()));
                *group = *blake3::hash(&bytes).as_bytes();
            }
        }
        let mut whole = blake3::Hasher::new();
        whole.update(NAME);
        whole.update(&self.layout.page_size().bytes().0.to_le_bytes());
        whole.update(&(self.layout.regions().len() as u64).to_le_bytes());
        for region in self.layout.regions() {
            whole.update(&region.start.0.to_le_bytes());
            whole.update(&region.len.0.to_le_bytes());
        }
        whole.update(groups.as_flattened());
        Ok(Root { hash: *whole.finalize().as_bytes(), hashed })
    }

    /// A table that somebody had in hand when he panicked has only digests of chunks that are stale, or right.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self, run: PageRun) {
        let (first, end) = (run.first.0, run.first.0 + run.count.0);
        let mut at = first;
        while at < end {
            let (word, bit) = (at / NUMBERS_PER_WORD, at % NUMBERS_PER_WORD);
            let count = (NUMBERS_PER_WORD - bit).min(end - at);
            self.mark_word(word as usize, (u64::MAX >> (NUMBERS_PER_WORD - count)) << bit);
            at += count;
        }
    }

    /// Marks the chunks of the pages in a word of a bitmap.
    fn mark_word(&self, index: usize, pages: u64) {
        // A power of two of chunks to a word, so they are all in one word here.
        let per_word = NUMBERS_PER_WORD >> self.shift;
        let of_chunk = u64::MAX >> (NUMBERS_PER_WORD - (1 << self.shift));
        let mut chunks = 0;
        for chunk in 0..per_word {
            chunks |= u64::from(pages >> (chunk << self.shift) & of_chunk != 0) << chunk;
        }
        let first = index as u64 * per_word;
        if let Some(word) = self.stale.get((first / 64) as usize) {
            // The release pairs with the acquire of who takes the bit: he reads what was written before.
            word.fetch_or(chunks << (first % 64), Ordering::Release);
        }
    }

    fn hash_stale(
        &self,
        table: &mut Table,
        ram: &dyn GuestRam,
        budget: ByteCount,
    ) -> Result<Hashed, RamError> {
        let mut hashed = Hashed { done: true, ..Hashed::default() };
        let (words, begin) = (self.stale.len(), table.next);
        // Once round: what is before the beginning in its word comes last.
        for turn in 0..=words {
            let index = (begin / 64 + turn) % words;
            if begin / 64 + turn == words {
                self.whole.store(true, Ordering::Relaxed);
            }
            let behind = u64::MAX << (begin % 64);
            let mask = if turn == 0 { behind } else { u64::MAX };
            let mask = if turn == words { !behind } else { mask };
            let mut left = self.stale[index].load(Ordering::Relaxed) & mask;
            while left != 0 {
                let chunk = index * 64 + left.trailing_zeros() as usize;
                if hashed.bytes >= budget {
                    (table.next, hashed.done) = (chunk, false);
                    return Ok(hashed);
                }
                let bit = left & left.wrapping_neg();
                left ^= bit;
                // Before its memory is read, and seeing all that was written before it became stale.
                self.stale[index].fetch_and(!bit, Ordering::Acquire);
                hashed.bytes += self.hash_chunk(table, ram, chunk).inspect_err(|_| {
                    self.stale[index].fetch_or(bit, Ordering::Release);
                })?;
                hashed.chunks += 1;
            }
        }
        hashed.done = self.stale_chunks() == 0;
        Ok(hashed)
    }

    /// Hashes a chunk, and gives how much memory it is.
    fn hash_chunk(&self, table: &mut Table, ram: &dyn GuestRam, chunk: usize) -> Result<ByteCount, RamError> {
        let first = (chunk as u64) << self.shift;
        // What is beyond the end of its region is no part of it.
        let pages =
            (1..=1 << self.shift).rev().find(|pages| self.layout.contains(PageNumber(first + pages - 1)));
        let (Some(at), Some(pages)) = (self.layout.address_of(PageNumber(first)), pages) else {
            return Ok(ByteCount(0));
        };
        let len = pages * self.layout.page_size().bytes().0;
        table.changed[chunk / GROUP] = true;
        if len == PIECE as u64 {
            ram.read(at, &mut table.piece)?;
            // Much of most guests' memory is zeroes, which are seen much faster than they are hashed.
            table.chunks[chunk] =
                if is_zero(&table.piece) { self.zeroes } else { kept(&blake3::hash(&table.piece)) };
            return Ok(ByteCount(len));
        }
        let mut hasher = blake3::Hasher::new();
        for offset in (0..len).step_by(PIECE) {
            let piece = &mut table.piece[..PIECE.min((len - offset) as usize)];
            ram.read(Gpa(at.0 + offset), piece)?;
            hasher.update(piece);
        }
        table.chunks[chunk] = kept(&hasher.finalize());
        Ok(ByteCount(len))
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    let (lines, rest) = bytes.as_chunks::<64>();
    lines.iter().all(|line| line.iter().fold(0, |all, byte| all | byte) == 0)
        && rest.iter().all(|&byte| byte == 0)
}

/// The part of a chunk's digest that there is room for.
fn kept(hash: &blake3::Hash) -> u64 {
    hash.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Digest").field("stale_chunks", &self.stale_chunks()).finish_non_exhaustive()
    }
}

// On memory of real guests.
#[cfg(all(test, target_os = "linux", target_pointer_width = "64"))]
mod tests;
