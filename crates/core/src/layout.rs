//! Where guest memory is, and how its pages are numbered.
//!
//! Whoever owns guest memory describes it once as a [`RamLayout`]; dirty sets, backlogs, the wire and
//! the simulators then speak of [`PageNumber`]s only. A layout may come from a peer: it must never be
//! built without the checks of [`RamLayout::new`], and never be so large that a bitmap over it could
//! not be allocated in sane memory.

use crate::units::{ByteCount, Pages, UnitError};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Every region begins at a page number that is a multiple of this, so that bitmaps of several
/// sources join word by word.
pub const NUMBERS_PER_WORD: u64 = 64;

/// The most page numbers a layout may have: 2⁴⁰, which is 4 PiB of 4 KiB pages.
///
/// A bitmap over so many takes 128 GiB; a layout beyond it is a mistake or an attack.
pub const MAX_PAGE_NUMBERS: u64 = 1 << 40;

/// The unit in which memory is tracked and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PageSize {
    /// 4 KiB, the base page of x86-64 and most other machines.
    #[default]
    Kib4,
    /// 2 MiB.
    Mib2,
    /// 1 GiB.
    Gib1,
}

impl PageSize {
    /// All sizes, smallest first.
    pub const ALL: [Self; 3] = [Self::Kib4, Self::Mib2, Self::Gib1];

    /// The size in bytes.
    #[inline]
    pub const fn bytes(self) -> ByteCount {
        ByteCount(1 << self.shift())
    }

    /// The size as a power of two: an address shifted right by this is a page.
    #[inline]
    pub const fn shift(self) -> u32 {
        match self {
            Self::Kib4 => 12,
            Self::Mib2 => 21,
            Self::Gib1 => 30,
        }
    }

    /// The page size of so many bytes, if there is one.
    pub fn from_bytes(bytes: ByteCount) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.bytes() == bytes)
    }
}

impl fmt::Display for PageSize {
    /// `4KiB`, `2MiB` or `1GiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().fmt(f)
    }
}

/// Why a text is not a page size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageSizeError {
    /// The text is not a size at all.
    #[error(transparent)]
    NotASize(#[from] UnitError),
    /// A size that pages do not have.
    #[error("no page size of {size}: accepted is `4KiB`, `2MiB` or `1GiB`")]
    Unsupported {
        /// The size as read.
        size: ByteCount,
    },
}

impl FromStr for PageSize {
    type Err = PageSizeError;

    fn from_str(text: &str) -> Result<Self, PageSizeError> {
        let size = text.parse()?;
        Self::from_bytes(size).ok_or(PageSizeError::Unsupported { size })
    }
}

impl Serialize for PageSize {
    /// As text; as the number of bytes where the format is not for people.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PageSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return deserializer.deserialize_str(PageSizeVisitor);
        }
        let size = ByteCount::deserialize(deserializer)?;
        Self::from_bytes(size).ok_or_else(|| de::Error::custom(PageSizeError::Unsupported { size }))
    }
}

struct PageSizeVisitor;

impl Visitor<'_> for PageSizeVisitor {
    type Value = PageSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a page size as `4KiB`, `2MiB` or `1GiB`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<PageSize, E> {
        text.parse().map_err(E::custom)
    }
}

/// A guest physical address. Stored as an integer, printed in hexadecimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Gpa(pub u64);

impl fmt::Display for Gpa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A page in the numbering of one [`RamLayout`]. Not an address and not a guest frame number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PageNumber(pub u64);

impl fmt::Display for PageNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Neighbouring pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PageRun {
    /// The first page.
    pub first: PageNumber,
    /// How many pages, the first included.
    pub count: Pages,
}

impl PageRun {
    /// The number behind the last page.
    #[inline]
    pub const fn end(self) -> PageNumber {
        PageNumber(self.first.0.saturating_add(self.count.0))
    }

    /// The page numbers as a range.
    #[inline]
    pub const fn range(self) -> Range<u64> {
        self.first.0..self.end().0
    }

    /// Whether `page` is in the run.
    #[inline]
    pub const fn contains(self, page: PageNumber) -> bool {
        self.first.0 <= page.0 && page.0 < self.end().0
    }
}

/// A range of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Its first address, a multiple of the page size.
    pub start: Gpa,
    /// Its length, whole pages and not zero.
    pub len: ByteCount,
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.len, self.start)
    }
}

/// Why memory regions make no layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// No memory at all.
    #[error("no memory regions: at least one is needed")]
    NoRegions,
    /// A region without memory.
    #[error("empty memory region at {start}")]
    EmptyRegion {
        /// Where it begins.
        start: Gpa,
    },
    /// A region begins within a page.
    #[error("memory region {region} does not begin at a multiple of the page size {page_size}")]
    Misaligned {
        /// The region.
        region: Region,
        /// The page size.
        page_size: PageSize,
    },
    /// A region ends within a page.
    #[error("memory region {region} is not a whole number of pages of {page_size}")]
    NotWholePages {
        /// The region.
        region: Region,
        /// The page size.
        page_size: PageSize,
    },
    /// A region reaches the end of the 64-bit address space.
    #[error("memory region {region} ends beyond the address space")]
    BeyondAddressSpace {
        /// The region.
        region: Region,
    },
    /// Two regions share memory.
    #[error("memory regions {first} and {second} overlap")]
    Overlap {
        /// The one that begins first.
        first: Region,
        /// The one that begins within it.
        second: Region,
    },
    /// More page numbers than [`MAX_PAGE_NUMBERS`].
    #[error("{numbers} page numbers are needed, the limit is {MAX_PAGE_NUMBERS}")]
    TooManyPages {
        /// How many the regions would need, padding included.
        numbers: u64,
    },
}

/// The memory of a guest: page size, regions, and the numbering of pages.
///
/// Regions are kept in the order of their addresses. Pages are numbered in that order, each region
/// from the next multiple of [`NUMBERS_PER_WORD`]; the numbers skipped are *padding* and belong to no
/// page. So two layouts with the same regions number alike on both sides of a migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct RamLayout {
    page_size: PageSize,
    regions: Vec<Region>,
    /// The pages of each region; as long as `regions`.
    runs: Vec<PageRun>,
    pages: Pages,
    numbers: u64,
}

/// A layout as files hold it, not checked yet.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    page_size: PageSize,
    regions: Vec<Region>,
}

impl TryFrom<Written> for RamLayout {
    type Error = LayoutError;

    fn try_from(written: Written) -> Result<Self, LayoutError> {
        Self::new(written.page_size, written.regions)
    }
}

impl From<RamLayout> for Written {
    fn from(layout: RamLayout) -> Self {
        Self { page_size: layout.page_size, regions: layout.regions }
    }
}

/// Checks one region by itself.
fn check(region: Region, page_size: PageSize) -> Result<(), LayoutError> {
    let page = page_size.bytes().0;
    if region.len.is_zero() {
        Err(LayoutError::EmptyRegion { start: region.start })
    } else if !region.start.0.is_multiple_of(page) {
        Err(LayoutError::Misaligned { region, page_size })
    } else if !region.len.0.is_multiple_of(page) {
        Err(LayoutError::NotWholePages { region, page_size })
    } else if region.start.0.checked_add(region.len.0).is_none() {
        Err(LayoutError::BeyondAddressSpace { region })
    } else {
        Ok(())
    }
}

impl RamLayout {
    /// Checks and numbers `regions`, in any order.
    ///
    /// # Errors
    ///
    /// [`LayoutError`] if there is no region, if one is empty, not made of whole pages or beyond the
    /// address space, if two overlap, or if there are more than [`MAX_PAGE_NUMBERS`].
    pub fn new(page_size: PageSize, mut regions: Vec<Region>) -> Result<Self, LayoutError> {
        if regions.is_empty() {
            return Err(LayoutError::NoRegions);
        }
        for &region in &regions {
            check(region, page_size)?;
        }
        regions.sort_unstable_by_key(|region| (region.start, region.len));
        for pair in regions.windows(2) {
            // Cannot overflow: checked above.
            if pair[0].start.0 + pair[0].len.0 > pair[1].start.0 {
                return Err(LayoutError::Overlap { first: pair[0], second: pair[1] });
            }
        }
        let mut runs = Vec::with_capacity(regions.len());
        let mut pages = Pages::ZERO;
        let mut numbers = 0_u64;
        for region in &regions {
            let count = region.len.pages(page_size);
            runs.push(PageRun { first: PageNumber(numbers), count });
            pages += count;
            // Disjoint regions hold at most 2^52 pages, and padding adds at most 63 to each.
            numbers = numbers.saturating_add(count.0.next_multiple_of(NUMBERS_PER_WORD));
        }
        if numbers > MAX_PAGE_NUMBERS {
            return Err(LayoutError::TooManyPages { numbers });
        }
        Ok(Self { page_size, regions, runs, pages, numbers })
    }

    /// One region from address zero.
    ///
    /// # Errors
    ///
    /// As [`RamLayout::new`]; `memory` must be whole pages and not zero.
    pub fn contiguous(memory: ByteCount, page_size: PageSize) -> Result<Self, LayoutError> {
        Self::new(page_size, vec![Region { start: Gpa(0), len: memory }])
    }

    /// Makes it what [`RamLayout::contiguous`] gives, in the memory that it has: for simulations by the million.
    ///
    /// # Errors
    ///
    /// As [`RamLayout::contiguous`]; it is unchanged then.
    pub fn lay_out_contiguous(&mut self, memory: ByteCount, page_size: PageSize) -> Result<(), LayoutError> {
        let region = Region { start: Gpa(0), len: memory };
        check(region, page_size)?;
        let pages = memory.pages(page_size);
        // At most 2^52 pages.
        let numbers = pages.0.next_multiple_of(NUMBERS_PER_WORD);
        if numbers > MAX_PAGE_NUMBERS {
            return Err(LayoutError::TooManyPages { numbers });
        }
        self.regions.clear();
        self.regions.push(region);
        self.runs.clear();
        self.runs.push(PageRun { first: PageNumber(0), count: pages });
        (self.page_size, self.pages, self.numbers) = (page_size, pages, numbers);
        Ok(())
    }

    /// The page size.
    #[inline]
    pub const fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// The pages that exist; padding is not counted.
    #[inline]
    pub const fn pages(&self) -> Pages {
        self.pages
    }

    /// The memory of all regions.
    #[inline]
    pub const fn bytes(&self) -> ByteCount {
        self.pages.bytes(self.page_size)
    }

    /// How many page numbers there are, padding included: the length of a bitmap over this memory.
    ///
    /// A multiple of [`NUMBERS_PER_WORD`] and at most [`MAX_PAGE_NUMBERS`].
    #[inline]
    pub const fn numbers(&self) -> u64 {
        self.numbers
    }

    /// The regions, by address.
    #[inline]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The pages of each region, by number: all numbers that are not padding.
    pub fn runs(&self) -> impl ExactSizeIterator<Item = PageRun> + DoubleEndedIterator + '_ {
        self.runs.iter().copied()
    }

    /// The page that holds `address`; `None` in a hole.
    pub fn page_at(&self, address: Gpa) -> Option<PageNumber> {
        let index = self.regions.partition_point(|region| region.start <= address).checked_sub(1)?;
        let offset = address.0 - self.regions[index].start.0;
        let page = offset >> self.page_size.shift();
        let run = self.runs[index];
        (page < run.count.0).then(|| PageNumber(run.first.0 + page))
    }

    /// The first address of `page`; `None` for padding and beyond the end.
    pub fn address_of(&self, page: PageNumber) -> Option<Gpa> {
        let index = self.runs.partition_point(|run| run.first <= page).checked_sub(1)?;
        let run = self.runs[index];
        let offset = page.0 - run.first.0;
        (offset < run.count.0).then(|| Gpa(self.regions[index].start.0 + (offset << self.page_size.shift())))
    }

    /// Whether `page` exists; padding and numbers beyond the end do not.
    #[inline]
    pub fn contains(&self, page: PageNumber) -> bool {
        self.address_of(page).is_some()
    }
}

#[cfg(test)]
mod tests;
