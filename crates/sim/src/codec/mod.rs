//! What a page becomes before it is sent: a difference, something compressed, or itself.
//!
//! Owned by the sender, which asks for the bytes and the time of the pages of a word as it hands them over.
//! There is none where nothing is encoded, so that the plain path pays nothing. Pages are models here: how
//! long an encoding is follows from how the guest writes, see `delta`, or from a given ratio. A codec never
//! decides which pages are sent, only what they cost.
//!
//! ```text
//! zero page                        its marker, as without a codec
//! bulk round, or no xbzrle         compressed if that is on, else as it is
//! later, the page is in the cache  a difference; nothing if nothing changed; as it is if that is shorter
//! later, it is not                 as it is, and into the cache unless the guest is paused (a miss)
//! ```
//!
//! As QEMU 7.2 does it (`migration/ram.c`): xbzrle begins when the scan of memory has come round once, and
//! the bulk pass fills no cache; compression gives way to xbzrle then; the last copy adds nothing to the
//! cache.
//!
//! Expected values throughout: the same pages at the same times cost the same bytes, asked word by word
//! or page by page.

mod cache;
mod delta;
#[cfg(test)]
mod tests;

use whimbrel_core::dirty::PageSet;
use whimbrel_core::units::{ByteCount, Pages};

use self::cache::Cache;
use self::delta::{Change, Delta, Writes, delta};
use crate::config::{HostConfig, LinkConfig};
use crate::guest::{Guest, History, Wear};
use crate::link::Nanos;

/// What encoding came to in a migration.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Encoding {
    /// Pages compressed, and pages found in the cache: sent as a difference, not at all because nothing
    /// had changed, or as they are because the difference was longer.
    pub encoded_pages: Pages,
    /// Bytes of compressed pages and of differences with their own headers, not those of the pages.
    pub encoded_bytes: ByteCount,
    /// Pages not found in the cache.
    pub cache_misses: Pages,
    /// Pages whose difference was longer than they are.
    pub overflow_pages: Pages,
    /// CPU seconds that finding, reading, encoding and handing over pages took at the source, all threads.
    pub source_cpu_s: f64,
}

/// The same while it is counted: expected values are not whole.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    pages: u64,
    bytes: f64,
    misses: u64,
    overflow: f64,
    cpu: Nanos,
}

/// Where in a migration pages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// The scan has not come round yet.
    pub(crate) bulk: bool,
    /// The last copy, of a guest that is paused.
    pub(crate) last: bool,
}

/// What one or more pages take.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cost {
    pub(crate) bytes: f64,
    /// Time of the sending thread beyond that of copying the bytes into the socket.
    pub(crate) nanos: Nanos,
}

/// Pages of fixed ratio.
#[derive(Clone, Copy, Debug)]
struct Compression {
    /// A page on the stream.
    cost: Cost,
    /// Without the page's header.
    bytes: f64,
    /// CPU time of all threads for a page.
    cpu: Nanos,
}

#[derive(Clone, Debug)]
struct Xbzrle {
    cache: Cache,
    /// Time to compare or to copy a page.
    nanos: Nanos,
    /// The number of the round, the first being 1: the age of the cache's entries.
    round: u32,
    /// Neighbouring pages are often in the same state: the last difference.
    last: Option<(Writes, Change, Delta)>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Codec {
    page: f64,
    header: f64,
    compression: Option<Compression>,
    xbzrle: Option<Xbzrle>,
    /// Pages that were pending before the last harvest.
    left_over: Option<PageSet>,
    counts: Counts,
    /// What a page costs that is sent as it is.
    raw: Cost,
    /// What the sending thread needs for a page, and for each byte that it copies.
    page_nanos: Nanos,
    byte_nanos: Nanos,
}

/// Bytes before the data of a compressed page: their number.
const COMPRESSED_HEADER: f64 = 4.0;

impl Codec {
    /// The codec of these hosts for a guest with `pages` page numbers of `page` bytes, and a sender that
    /// copies `speed` bytes a nanosecond; `raw` are the bytes of a page that is sent as it is. None if nothing
    /// is encoded.
    pub(crate) fn new(
        host: &HostConfig,
        link: &LinkConfig,
        (page, pages): (u64, u64),
        speed: f64,
        raw: f64,
    ) -> Option<Self> {
        if host.xbzrle.cache.is_none() && host.compression.ratio.is_none() {
            return None;
        }
        let size = page as f64;
        let header = raw - size;
        let mut codec = Self {
            page: size,
            header: link.page_overhead.as_f64(),
            compression: None,
            xbzrle: host.xbzrle.cache.map(|cache| Xbzrle {
                cache: Cache::new(cache.0 / page, pages),
                nanos: size * 1e9 / host.xbzrle.speed.as_f64(),
                round: 1,
                last: None,
            }),
            left_over: None,
            counts: Counts::default(),
            raw: Cost { bytes: raw, nanos: 0.0 },
            page_nanos: raw / speed,
            byte_nanos: 1.0 / speed,
        };
        codec.compression = host.compression.ratio.map(|ratio| {
            let bytes = (size * ratio.as_f64() + COMPRESSED_HEADER).min(size);
            let cpu = size * 1e9 / host.compression.speed.as_f64();
            // The threads work beside the sending one; the slower of the two sets the pace.
            let nanos = codec.page_nanos.max(cpu / f64::from(host.compression.threads.max(1)));
            Compression { cost: codec.cost(bytes + header, nanos), bytes, cpu }
        });
        Some(codec)
    }

    /// A page of `bytes` on the stream for which the sending thread needs `nanos`.
    fn cost(&self, bytes: f64, nanos: Nanos) -> Cost {
        Cost { bytes, nanos: (nanos - bytes * self.byte_nanos).max(0.0) }
    }

    /// A harvest, with these pages still pending from before: entries of the cache grow older.
    pub(crate) fn begin_round(&mut self, left_over: &PageSet) {
        if let Some(xbzrle) = &mut self.xbzrle {
            xbzrle.round = xbzrle.round.saturating_add(1);
            self.left_over = Some(left_over.clone());
        }
    }

    /// What sending `page`, which is not zero, costs now; afterwards it counts as sent. `history` is asked
    /// only where it matters.
    pub(crate) fn send(&mut self, page: u64, pass: Pass, history: impl FnOnce() -> History) -> Cost {
        match &mut self.xbzrle {
            Some(xbzrle) if !pass.bulk => {
                let history = history();
                self.counts.cpu += xbzrle.nanos;
                if let Some(copied) = xbzrle.cache.renew(page, xbzrle.round, history.now) {
                    let found = xbzrle.delta(&history, copied, self.page);
                    self.found(found, history.changing)
                } else {
                    self.counts.misses += 1;
                    if !pass.last {
                        xbzrle.cache.insert(page, xbzrle.round, history.now);
                    }
                    Cost { nanos: xbzrle.nanos, ..self.raw }
                }
            }
            _ => {
                let Some(compression) = self.compression else { return self.raw };
                self.counts.pages += 1;
                self.counts.bytes += compression.bytes;
                self.counts.cpu += compression.cpu;
                compression.cost
            }
        }
    }

    /// A page that was in the cache; `changing` is the share of written pages that changed at all.
    fn found(&mut self, delta: Delta, changing: f64) -> Cost {
        self.counts.pages += 1;
        let changed = delta.changed * changing;
        let nanos = self.page_nanos + self.xbzrle.as_ref().map_or(0.0, |xbzrle| xbzrle.nanos);
        if delta.overflow {
            self.counts.overflow += changed;
            return self.cost(changed * self.raw.bytes, nanos);
        }
        let encoded = delta.bytes * changing + changed * delta::HEADER;
        self.counts.bytes += encoded;
        self.cost(encoded + changed * self.header, nanos)
    }

    /// What it came to; the CPU seconds are those of encoding alone.
    pub(crate) fn encoding(&self) -> Encoding {
        let whole = |value: f64| value.round().max(0.0) as u64;
        let Counts { pages, bytes, misses, overflow, cpu } = self.counts;
        Encoding {
            encoded_pages: Pages(pages),
            encoded_bytes: ByteCount(whole(bytes)),
            cache_misses: Pages(misses),
            overflow_pages: Pages(whole(overflow)),
            source_cpu_s: cpu * 1e-9,
        }
    }

    /// Sends the pages of a word, lowest first, until more than `room` bytes are used; says which were sent
    /// and what they cost. `zero` are the zero pages, and what each of them costs.
    pub(crate) fn send_word(
        &mut self,
        word: usize,
        mask: u64,
        (zero, marker): (u64, Cost),
        pass: Pass,
        room: f64,
        guest: &mut Guest,
    ) -> (u64, Cost) {
        let left_over = self.left_over.as_ref().and_then(|set| set.words().get(word)).copied().unwrap_or(0);
        let (mut left, mut sum) = (mask, Cost::default());
        while left != 0 && sum.bytes <= room {
            let lane = left.trailing_zeros();
            let one = if zero >> lane & 1 != 0 {
                marker
            } else {
                let page = word as u64 * 64 + u64::from(lane);
                self.send(page, pass, || guest.history(page, left_over >> lane & 1 != 0))
            };
            sum.bytes += one.bytes;
            sum.nanos += one.nanos;
            left &= left - 1;
        }
        (mask & !left, sum)
    }
}

impl Xbzrle {
    /// The difference of a page to the copy made when it had been written `copied` times.
    fn delta(&mut self, history: &History, copied: Wear, page: f64) -> Delta {
        let History { before, found, now, .. } = *history;
        let span = |from: f64, to: f64| (to - from).max(0.0);
        let writes = Writes {
            early: span(before.mean, copied.mean.min(found.mean)),
            late: span(copied.mean.max(before.mean), found.mean),
            after: span(copied.mean.max(found.mean), now.mean),
            counted: span(copied.count, now.count),
            dirty_anyway: found.count > before.count,
        };
        let change = Change { page, size: history.size, fixed: history.fixed };
        match self.last {
            Some((same, alike, found)) if same == writes && alike == change => found,
            _ => {
                let found = delta(&writes, change);
                self.last = Some((writes, change, found));
                found
            }
        }
    }
}
