//! For monitors built of the crates of rust-vmm: their memory as [`GuestRam`], its bitmap as a
//! [`DirtyLog`](whimbrel_core::embed::DirtyLog).
//!
//! [`VmMemory`] is over any `GuestMemoryMmap`, whatever bitmap it has: the kernel's logs can watch it as they watch
//! [`GuestMemory`](crate::memory::GuestMemory). [`BitmapLog`] harvests the `AtomicBitmap` that `vm-memory` marks at each
//! write through its `Bytes` and volatile slices. It sees no write through a raw pointer, and none by a vCPU or by the
//! kernel: put it beside another log in a [`Union`](crate::log::Union).
//!
//! ```
//! use vm_memory::bitmap::AtomicBitmap;
//! use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
//! use whimbrel_core::dirty::PageSet;
//! use whimbrel_core::embed::{DirtyLog, GuestRam};
//! use whimbrel_core::layout::{PageNumber, PageSize};
//! use whimbrel_guest::rust_vmm::VmMemory;
//!
//! let ram = GuestMemoryMmap::<AtomicBitmap>::from_ranges(&[(GuestAddress(0), 16 << 20)])?;
//! let memory = VmMemory::new(ram.clone(), PageSize::Kib4)?;
//! let mut log = memory.log()?;
//! log.start()?;
//! ram.write_slice(b"by a device", GuestAddress(0x7000))?;
//! let mut dirty = PageSet::new(memory.layout().numbers());
//! log.harvest(&mut dirty)?;
//! assert!(dirty.pages().eq([PageNumber(7)]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bitmap_log;
#[cfg(test)]
pub(crate) mod tests;

use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU64;

use vm_memory::bitmap::{AtomicBitmap, Bitmap};
use vm_memory::{Address as _, GuestMemoryBackend as _, GuestMemoryMmap, GuestMemoryRegion as _};
use whimbrel_core::embed::{DirectRam, GuestRam, Piece, RamError, RamRange};
use whimbrel_core::layout::{Gpa, LayoutError, PageSize, RamLayout, Region};
use whimbrel_core::units::ByteCount;

pub use self::bitmap_log::BitmapLog;
use crate::memory::direct::{self, Span, Spans};
use crate::memory::words::{load, store};
use crate::memory::{HostRange, Mapped};

/// Why memory of `vm-memory` cannot be migrated as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmMemoryError {
    /// Its regions are not whole guest pages, which `vm-memory` does not ask for.
    #[error("the regions of this memory are not whole guest pages: map them larger")]
    Layout(#[from] LayoutError),
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
    /// A region that is not mapped readable and writable.
    #[error("region {region} is not mapped readable and writable: a migration has to do both")]
    Protected {
        /// Which region.
        region: Region,
    },
    /// A bitmap that does not know all of its region: `vm-memory` ignores marks beyond its end.
    #[error(
        "the bitmap of region {region} is over its first {known} only, writes to the rest are not recorded: make it with \
         `AtomicBitmap::new` over the whole length"
    )]
    ShortBitmap {
        /// Which region.
        region: Region,
        /// What it is over.
        known: ByteCount,
    },
}

/// Guest memory of `vm-memory`. Cheap to clone: regions are shared.
#[derive(Debug)]
pub struct VmMemory<B = AtomicBitmap> {
    memory: GuestMemoryMmap<B>,
    layout: RamLayout,
}

impl<B> Clone for VmMemory<B> {
    fn clone(&self) -> Self {
        Self { memory: self.memory.clone(), layout: self.layout.clone() }
    }
}

impl<B: Bitmap> VmMemory<B> {
    /// The memory of a guest with pages of `page_size`. Regions that are added to `memory` later are not part of it.
    ///
    /// # Errors
    ///
    /// A [`VmMemoryError`] that names the region.
    pub fn new(memory: GuestMemoryMmap<B>, page_size: PageSize) -> Result<Self, VmMemoryError> {
        let host = ByteCount(rustix::param::page_size() as u64);
        if !page_size.bytes().0.is_multiple_of(host.0) {
            return Err(VmMemoryError::PageSize { page_size: page_size.bytes(), host });
        }
        let of = |region: &vm_memory::GuestRegionMmap<B>| Region {
            start: Gpa(region.start_addr().raw_value()),
            len: ByteCount(region.len()),
        };
        let layout = RamLayout::new(page_size, memory.iter().map(of).collect())?;
        let both = libc::PROT_READ | libc::PROT_WRITE;
        if let Some(protected) = memory.iter().find(|region| region.prot() & both != both) {
            return Err(VmMemoryError::Protected { region: of(protected) });
        }
        Ok(Self { memory, layout })
    }

    /// The memory itself.
    pub fn memory(&self) -> &GuestMemoryMmap<B> {
        &self.memory
    }

    /// The words of the region that holds `len` bytes from `at` on, and at which byte of them these begin.
    fn find(&self, at: Gpa, len: u64) -> Result<(&[AtomicU64], usize), RamError> {
        let index = self.layout.regions().partition_point(|region| region.start <= at).checked_sub(1);
        let not_memory = || RamError::NotMemory { at, len: ByteCount(len) };
        let index = index.ok_or_else(not_memory)?;
        let region = self.layout.regions()[index];
        let offset = at.0 - region.start.0;
        if offset.checked_add(len).is_none_or(|end| end > region.len.0) {
            return Err(not_memory());
        }
        // Both are in the order of their addresses.
        let mapped = self.memory.iter().nth(index).ok_or_else(not_memory)?;
        Ok((words(mapped), offset as usize))
    }
}

impl VmMemory<AtomicBitmap> {
    /// A log over the bitmaps of this memory. Nobody else may harvest or reset them.
    ///
    /// # Errors
    ///
    /// [`VmMemoryError::ShortBitmap`].
    pub fn log(&self) -> Result<BitmapLog, VmMemoryError> {
        BitmapLog::new(self.clone())
    }
}

/// A region as words. They are read and written without telling its bitmap.
fn words<B: Bitmap>(region: &vm_memory::GuestRegionMmap<B>) -> &[AtomicU64] {
    // SAFETY: the region is mapped readable and writable (`new` has looked) for as long as it lives, from a whole host page
    // on and of whole guest pages. `vm-memory` gives out raw pointers and volatile slices, no references.
    unsafe { std::slice::from_raw_parts(region.as_ptr().cast(), region.size() / 8) }
}

impl<B: Bitmap + Send + Sync> GuestRam for VmMemory<B> {
    fn layout(&self) -> &RamLayout {
        &self.layout
    }

    fn read(&self, at: Gpa, out: &mut [u8]) -> Result<(), RamError> {
        let (words, offset) = self.find(at, out.len() as u64)?;
        load(words, offset, out);
        Ok(())
    }

    fn write(&self, at: Gpa, data: &[u8]) -> Result<(), RamError> {
        let (words, offset) = self.find(at, data.len() as u64)?;
        store(words, offset, data);
        Ok(())
    }

    fn prepare(&self, range: RamRange) -> Result<(), RamError> {
        self.span(range)?.populate().map_err(|cause| RamError::Failed { at: range.at, cause })
    }

    fn direct(&self) -> Option<&dyn DirectRam> {
        Some(self)
    }
}

impl<B: Bitmap> Spans for VmMemory<B> {
    fn span(&self, RamRange { at, len }: RamRange) -> Result<Span<'_>, RamError> {
        let (words, offset) = self.find(at, len.0)?;
        Span::new(words, offset, len.0 as usize).ok_or(RamError::NotMemory { at, len })
    }
}

/// As of [`GuestMemory`](crate::memory::GuestMemory). The bitmap is not told what was received.
impl<B: Bitmap + Send + Sync> DirectRam for VmMemory<B> {
    fn send(&self, pieces: &[Piece<'_>], to: BorrowedFd<'_>) -> Result<usize, RamError> {
        direct::send(self, pieces, to)
    }

    fn receive(&self, ranges: &[RamRange], from: BorrowedFd<'_>) -> Result<usize, RamError> {
        direct::receive(self, ranges, from)
    }
}

// SAFETY: regions are shared and live as long as this value; they are never moved, begin at a host page, are whole guest
// pages, readable and writable, all of which `new` has checked; and `vm-memory` gives out no plain references to them.
unsafe impl<B: Bitmap + Send + Sync> Mapped for VmMemory<B> {
    fn layout(&self) -> &RamLayout {
        &self.layout
    }

    fn ranges(&self) -> Vec<HostRange> {
        let range = |(region, pages): (&vm_memory::GuestRegionMmap<B>, _)| HostRange {
            address: region.as_ptr() as usize,
            len: region.size(),
            pages,
        };
        self.memory.iter().zip(self.layout.runs()).map(range).collect()
    }
}
