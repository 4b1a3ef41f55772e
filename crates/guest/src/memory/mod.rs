//! Guest memory of this process.
//!
//! A [`GuestMemory`] is one map for each region of a [`RamLayout`]. vCPU threads, devices and the migration share it by
//! reference and see it as atomic words; a VMM gives its address to the kernel, a dirty log protects it. It must never
//! move, and never be unmapped while somebody has a reference.

pub(crate) mod direct;
mod help;
mod mapping;
#[cfg(test)]
mod tests;
pub(crate) mod words;

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::str::FromStr;
use std::sync::atomic::AtomicU64;

use whimbrel_core::embed::{DirectRam, GuestRam, Piece, RamError, RamRange};
use whimbrel_core::layout::{Gpa, PageNumber, PageRun, RamLayout, Region};
use whimbrel_core::units::ByteCount;

use self::direct::{Span, Spans};
use self::help::Refused;
use self::mapping::Mapping;
use self::words::{load, store};

/// What is behind the addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backing {
    /// Anonymous memory of this process alone.
    #[default]
    Private,
    /// The same, in huge pages where the kernel has any to give (`MADV_HUGEPAGE`).
    PrivateHuge,
    /// Anonymous memory that a child of this process would share.
    Shared,
    /// A file without a name (`memfd_create`), whose descriptor may go to other processes, as to a vhost-user back end.
    Memfd,
}

impl Backing {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Private, Self::PrivateHuge, Self::Shared, Self::Memfd];

    /// Its name, as it is written in options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::PrivateHuge => "private-huge",
            Self::Shared => "shared",
            Self::Memfd => "memfd",
        }
    }
}

impl fmt::Display for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that is no [`Backing`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory of kind `{0}`: accepted is `private`, `private-huge`, `shared` or `memfd`")]
pub struct BackingError(String);

impl FromStr for Backing {
    type Err = BackingError;

    fn from_str(text: &str) -> Result<Self, BackingError> {
        Self::ALL
            .into_iter()
            .find(|backing| backing.name() == text)
            .ok_or_else(|| BackingError(text.to_owned()))
    }
}

/// Why there is no such guest memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// Pages smaller than the host's, or of no whole number of them, cannot be tracked.
    #[error(
        "guest pages of {page_size} on a host with pages of {host}: accepted are whole pages of the host"
    )]
    PageSize {
        /// Of the guest.
        page_size: ByteCount,
        /// Of the host.
        host: ByteCount,
    },
    /// The system gives no memory.
    #[error("no {backing} memory for region {region}: {help}")]
    Map {
        /// Which region.
        region: Region,
        /// What it was to be made of.
        backing: Backing,
        /// What can be done about it.
        help: &'static str,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// Memory is there, but cannot be had as asked.
    #[error("cannot {what} {len} of guest memory: {help}")]
    Prepare {
        /// `populate` or `lock`.
        what: &'static str,
        /// How much.
        len: ByteCount,
        /// What can be done about it.
        help: &'static str,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
}

/// Memory that this machine could give without swapping, by `/proc/meminfo`; none if nobody knows. A control group may allow
/// less.
///
/// Whoever makes more than this resident does not get an error, but is ended by the system, or somebody else is.
pub fn available() -> Option<ByteCount> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024).map(ByteCount)
}

/// Where in this process a run of guest pages is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRange {
    /// Address of its first byte.
    pub address: usize,
    /// Its length in bytes.
    pub len: usize,
    /// Its pages.
    pub pages: PageRun,
}

/// Memory that is mapped in this process: what a dirty log of the kernel's can watch.
///
/// # Safety
///
/// All of [`Mapped::ranges`] is mapped, readable and writable, of whole host pages, and stays so at the same addresses for as
/// long as the value lives; nobody holds plain references to it.
///
/// What is not about safety: a page of the layout is a whole number of host pages, each range is as long as its `pages`, and ranges
/// are always the same.
pub unsafe trait Mapped: Send + Sync {
    /// How its pages are numbered.
    fn layout(&self) -> &RamLayout;

    /// Where each region is, in the order of the layout. Regions that are left out are not watched.
    fn ranges(&self) -> Vec<HostRange>;
}

/// Guest memory. See the [module](self).
#[derive(Debug)]
pub struct GuestMemory {
    layout: RamLayout,
    backing: Backing,
    /// One for each region of the layout.
    maps: Vec<Mapping>,
}

impl GuestMemory {
    /// Maps zeroes for all regions of `layout`. None is resident before it is used; see [`GuestMemory::populate`].
    ///
    /// # Errors
    ///
    /// [`MemoryError::PageSize`] or [`MemoryError::Map`].
    pub fn new(layout: RamLayout, backing: Backing) -> Result<Self, MemoryError> {
        let (page_size, host) = (layout.page_size().bytes(), ByteCount(rustix::param::page_size() as u64));
        if !page_size.0.is_multiple_of(host.0) {
            return Err(MemoryError::PageSize { page_size, host });
        }
        let map =
            |&region: &Region| {
                // Only 64-bit machines have this module.
                Mapping::new(region.len.0 as usize, backing)
                    .map_err(|Refused { help, cause }| MemoryError::Map { region, backing, help, cause })
            };
        let maps = layout.regions().iter().map(map).collect::<Result<_, _>>()?;
        Ok(Self { layout, backing, maps })
    }

    /// Where it is, and how its pages are numbered.
    #[inline]
    pub fn layout(&self) -> &RamLayout {
        &self.layout
    }

    /// What it is made of.
    pub fn backing(&self) -> Backing {
        self.backing
    }

    /// The words of region `index` of the layout; none if there is no such region. Everybody shares them.
    #[inline]
    pub fn region(&self, index: usize) -> Option<&[AtomicU64]> {
        self.maps.get(index).map(Mapping::words)
    }

    /// The words of `page`; none if there is no such page.
    #[inline]
    pub fn page(&self, page: PageNumber) -> Option<&[AtomicU64]> {
        let address = self.layout.address_of(page)?;
        let (map, offset) = self.find(address, self.layout.page_size().bytes().0)?;
        map.words().get(offset / 8..(offset + self.layout.page_size().bytes().0 as usize) / 8)
    }

    /// The word at `at`; none if there is no memory, or no word begins there.
    #[inline]
    pub fn word(&self, at: Gpa) -> Option<&AtomicU64> {
        let (map, offset) = self.find(at, 8)?;
        offset.is_multiple_of(8).then(|| &map.words()[offset / 8])
    }

    /// The file behind region `index`: of [`Backing::Memfd`] only.
    pub fn file(&self, index: usize) -> Option<BorrowedFd<'_>> {
        self.maps.get(index)?.file()
    }

    /// Makes all of it resident, so that no write meets memory that is not there yet, and none is missing later.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Prepare`] if there is not enough; what was made resident stays so.
    pub fn populate(&self) -> Result<(), MemoryError> {
        self.maps
            .iter()
            .try_for_each(|map| map.populate().map_err(|refused| prepare("populate", map, refused)))
    }

    /// Makes all of it resident and keeps it from being swapped out.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Prepare`], most often because `RLIMIT_MEMLOCK` is too low.
    pub fn lock(&self) -> Result<(), MemoryError> {
        self.maps.iter().try_for_each(|map| map.lock().map_err(|refused| prepare("lock", map, refused)))
    }

    /// Makes huge pages of it, as far as the kernel can.
    #[cfg(test)]
    pub(crate) fn collapse(&self) {
        self.maps.iter().for_each(Mapping::collapse);
    }

    /// Gives the memory of `run` back to the system: it reads as zeroes afterwards, as a balloon's does.
    ///
    /// No dirty log sees that. Whoever does it while a log records has to mark these pages itself, in a software log of
    /// a union.
    ///
    /// # Errors
    ///
    /// [`RamError::NotMemory`] unless all of it is in one region; [`RamError::Failed`] if memory is locked, which the kernel
    /// does not take back.
    pub fn discard(&self, run: PageRun) -> Result<(), RamError> {
        let len = ByteCount(run.count.0.saturating_mul(self.layout.page_size().bytes().0));
        let at = self.layout.address_of(run.first).unwrap_or(Gpa(u64::MAX));
        let (map, offset) = self.find(at, len.0).ok_or(RamError::NotMemory { at, len })?;
        map.discard(offset, len.0 as usize).map_err(|cause| RamError::Failed { at, cause })
    }

    /// Reads into guest memory from a file, as a device that does not go through the processor: the kernel
    /// writes. Gives how many bytes there were.
    ///
    /// # Errors
    ///
    /// [`RamError::NotMemory`] unless all of it is in one region; [`RamError::Failed`] if the file cannot be read.
    pub fn read_from(&self, at: Gpa, len: ByteCount, file: BorrowedFd<'_>) -> Result<ByteCount, RamError> {
        let (map, offset) = self.find(at, len.0).ok_or(RamError::NotMemory { at, len })?;
        let read = map.read_from(offset, len.0 as usize, file);
        read.map(|count| ByteCount(count as u64)).map_err(|cause| RamError::Failed { at, cause })
    }

    /// The map that holds `len` bytes from `at` on, and where in it they begin.
    #[inline]
    fn find(&self, at: Gpa, len: u64) -> Option<(&Mapping, usize)> {
        let regions = self.layout.regions();
        let index = regions.partition_point(|region| region.start <= at).checked_sub(1)?;
        let offset = at.0 - regions[index].start.0;
        let end = offset.checked_add(len)?;
        (end <= regions[index].len.0).then(|| (&self.maps[index], offset as usize))
    }
}

// SAFETY: the maps live as long as the value, are never moved, and are only given out as atomic words.
unsafe impl Mapped for GuestMemory {
    fn layout(&self) -> &RamLayout {
        &self.layout
    }

    fn ranges(&self) -> Vec<HostRange> {
        let range =
            |(map, pages): (&Mapping, PageRun)| HostRange { address: map.address(), len: map.len(), pages };
        self.maps.iter().zip(self.layout.runs()).map(range).collect()
    }
}

impl GuestRam for GuestMemory {
    fn layout(&self) -> &RamLayout {
        &self.layout
    }

    fn read(&self, at: Gpa, out: &mut [u8]) -> Result<(), RamError> {
        let len = out.len() as u64;
        let (map, offset) = self.find(at, len).ok_or(RamError::NotMemory { at, len: ByteCount(len) })?;
        load(map.words(), offset, out);
        Ok(())
    }

    fn read_firsts(&self, at: Gpa, step: ByteCount, out: &mut [[u8; 8]]) -> Result<(), RamError> {
        let stretches = (out.len() as u64).saturating_sub(1).saturating_mul(step.0);
        let len = if out.is_empty() { 0 } else { stretches.saturating_add(8) };
        let (map, offset) = self.find(at, len).ok_or(RamError::NotMemory { at, len: ByteCount(len) })?;
        let mut offset = offset;
        for first in out {
            load(map.words(), offset, first);
            offset += step.0 as usize;
        }
        Ok(())
    }

    fn write(&self, at: Gpa, data: &[u8]) -> Result<(), RamError> {
        let len = data.len() as u64;
        let (map, offset) = self.find(at, len).ok_or(RamError::NotMemory { at, len: ByteCount(len) })?;
        store(map.words(), offset, data);
        Ok(())
    }

    fn prepare(&self, range: RamRange) -> Result<(), RamError> {
        self.span(range)?.populate().map_err(|cause| RamError::Failed { at: range.at, cause })
    }

    fn direct(&self) -> Option<&dyn DirectRam> {
        Some(self)
    }
}

impl Spans for GuestMemory {
    fn span(&self, RamRange { at, len }: RamRange) -> Result<Span<'_>, RamError> {
        let span = self.find(at, len.0).and_then(|(map, at)| Span::new(map.words(), at, len.0 as usize));
        span.ok_or(RamError::NotMemory { at, len })
    }
}

/// To a pipe whose reader is gone it is a `writev(2)` like any other, signal included; sockets give an error only.
impl DirectRam for GuestMemory {
    fn send(&self, pieces: &[Piece<'_>], to: BorrowedFd<'_>) -> Result<usize, RamError> {
        direct::send(self, pieces, to)
    }

    fn receive(&self, ranges: &[RamRange], from: BorrowedFd<'_>) -> Result<usize, RamError> {
        direct::receive(self, ranges, from)
    }
}

fn prepare(what: &'static str, map: &Mapping, Refused { help, cause }: Refused) -> MemoryError {
    MemoryError::Prepare { what, len: ByteCount(map.len() as u64), help, cause }
}
