//! Sending pages at the source: what a slice of sending takes, costs and leaves.
//!
//! Walks the backlog word by word (64 pages), which is about a send batch, so that a slice costs what
//! it sends and not what it could have sent.

use whimbrel_core::controller::Transmitted;
use whimbrel_core::dirty::{Backlog, Block, LineTake, PageSet, Take};
use whimbrel_core::machine::Transmit;
use whimbrel_core::policy::RateLimit;
use whimbrel_core::units::{ByteCount, Pages, Share};

use crate::codec::{Codec, Cost, Encoding, Pass};
use crate::config::{HostConfig, LinkConfig};
use crate::guest::Guest;
use crate::link::{Link, Nanos, timestamp};
use crate::witness::Witness;

/// Pages of 4 KiB in a packet of several streams: QEMU's `MULTIFD_PACKET_SIZE`, 512 KiB.
const PACKET_PAGES: f64 = 128.0;

/// The sending half of the source host.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    page_bytes: f64,
    /// Of these, what neighbours can share.
    page_overhead: f64,
    zero_bytes: f64,
    /// CPU time of a page, whichever stream it takes.
    page_cost: Nanos,
    zero_cost: Nanos,
    batch: u32,
    skip_redirtied: bool,
    /// Bytes a nanosecond that the destination takes into memory it has, and into memory it has not.
    receive: [f64; 2],
    limiter: Limiter,
    /// Pages left out of this round so far.
    skipped: u64,
    /// Words that the scan has passed at least once: the destination has touched their memory. The scan
    /// starts at the first word and goes round, so this is all of them from the first wrap on.
    touched: usize,
    /// The part (0 to 1) of the first slice that has passed when the first page leaves.
    begun: f64,
    /// Slices end in time, see [`Setup::punctual`](crate::Setup::punctual).
    punctual: bool,
    /// Pages are encoded behind the link's queue, see [`Setup::drained`](crate::Setup::drained).
    behind_queue: bool,
    /// What pages become, if not sent as they are.
    codec: Option<Box<Codec>>,
    /// Bytes of the streams' syncs at the end of a round, and how much of that is due.
    sync: f64,
    sync_due: f64,
}

/// What pages cost to send, as hosts and link are configured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Costs {
    /// Bytes of a page and of a zero page.
    pub(crate) page_bytes: f64,
    pub(crate) zero_bytes: f64,
    /// CPU time of a page, whichever stream it takes, and of a zero page.
    pub(crate) page: Nanos,
    pub(crate) zero: Nanos,
    /// Bytes a nanosecond that the destination takes into memory it has, and into memory it has not.
    pub(crate) receive: [f64; 2],
    /// Bytes of the streams' syncs at the end of a round.
    pub(crate) sync: f64,
}

impl Costs {
    pub(crate) fn new(host: &HostConfig, link: &LinkConfig, page_size: u64) -> Self {
        let page = page_size as f64;
        let streams = f64::from(host.streams);
        let packet = if host.streams > 1 { link.packet_overhead.as_f64() } else { 0.0 };
        // Costs are given for pages of 4 KiB and go with the bytes.
        let scale = page / 4096.0;
        let nanos = |duration: std::time::Duration| duration.as_nanos() as u64 as f64 * scale;
        // The destination's time goes with pages, and a compressed page has fewer bytes. First touches are
        // the kernel's work in one address space: they gain little from threads, see `HostConfig::streams`.
        let left = host.compression.ratio.map_or(1.0, Share::as_f64);
        let later = if host.xbzrle.cache.is_some() { 1.0 } else { left };
        Self {
            page_bytes: page + link.page_overhead.as_f64() + packet / PACKET_PAGES * scale,
            zero_bytes: link.zero_page_size.as_f64(),
            page: nanos(host.page_cost),
            zero: nanos(host.zero_page_cost),
            receive: [
                page * streams * later / nanos(host.receive_cost),
                page * left / nanos(host.first_touch_cost),
            ],
            sync: packet * streams,
        }
    }
}

/// At most a window's share of bytes in a window; then a rest until it ends.
#[derive(Clone, Debug)]
struct Limiter {
    window: Nanos,
    quota: f64,
    used: f64,
    since: Nanos,
}

impl Sender {
    /// `begun` (0 to 1) is the part of the first slice that has passed when the first page leaves: where
    /// in its loop a sender is then depends on its threads' start, and so on chance.
    ///
    /// The guest has `pages` page numbers.
    pub(crate) fn new(
        host: &HostConfig,
        link: &LinkConfig,
        (page_size, pages): (u64, u64),
        begun: f64,
    ) -> Self {
        let Costs { page_bytes, zero_bytes, page, zero, receive, sync } = Costs::new(host, link, page_size);
        let codec = Codec::new(host, link, (page_size, pages), Self::speed(host, link), page_bytes);
        Self {
            page_bytes,
            page_overhead: link.page_overhead.as_f64(),
            zero_bytes,
            page_cost: page,
            zero_cost: zero,
            batch: host.send_batch,
            skip_redirtied: host.skip_redirtied,
            receive,
            limiter: Limiter {
                window: host.limit_window.as_nanos() as f64,
                quota: f64::INFINITY,
                used: 0.0,
                since: 0.0,
            },
            skipped: 0,
            touched: 0,
            begun,
            punctual: false,
            behind_queue: false,
            codec: codec.map(Box::new),
            sync,
            sync_due: 0.0,
        }
    }

    /// The same whose slices end in time, what it waits for then being waited for in the next; and that has pages encoded
    /// behind the link's queue.
    pub(crate) fn with_threads(self, punctual: bool, behind_queue: bool) -> Self {
        Self { punctual, behind_queue, ..self }
    }

    /// Bytes a nanosecond that it copies into the socket, all streams together.
    pub(crate) fn speed(host: &HostConfig, link: &LinkConfig) -> f64 {
        (4096.0 + link.page_overhead.as_f64()) * f64::from(host.streams)
            / host.page_cost.as_nanos() as u64 as f64
    }

    /// Obeys a limit from now on.
    pub(crate) fn limit(&mut self, limit: RateLimit) {
        self.limiter.quota = match limit {
            RateLimit::Unlimited => f64::INFINITY,
            RateLimit::AtMost(rate) => rate.as_f64() * self.limiter.window / 1e9,
        };
    }

    /// Starts the limiter's first window.
    pub(crate) fn begin(&mut self, now: Nanos) {
        self.limiter.since = now;
        self.limiter.used = 0.0;
    }

    /// Sends what `transmit` asks for; gives what was sent and the time at which it was.
    pub(crate) fn send(
        &mut self,
        now: Nanos,
        transmit: Transmit,
        mut parts: Parts<'_>,
    ) -> (Nanos, Transmitted) {
        let left = 1.0 - std::mem::take(&mut self.begun);
        let end = transmit.slice.map_or(f64::INFINITY, |slice| now + left * slice.as_nanos() as f64);
        let mut slice = Slice {
            sender: self,
            clock: now,
            end,
            unlooked: 0,
            sent: Transmitted::default(),
            bytes: 0.0,
            skipping: !transmit.last,
            behind: parts.behind.is_some(),
        };
        let Parts { backlog, guest, link, witness, behind } = &mut parts;
        slice.send_syncs(link);
        // Most sending is plain, and then a word costs a few nanoseconds.
        let plain = !(slice.sender.skip_redirtied && slice.skipping)
            && slice.sender.limiter.quota == f64::INFINITY
            && slice.sender.codec.is_none()
            && !slice.sender.behind_queue
            && behind.is_none();
        let taken = if plain {
            backlog.take_lines_with(|first, pending| {
                let answer = slice.visit_line(first, pending, guest, link);
                if let Some(witness) = witness.as_deref_mut() {
                    witness.line_sent(first, &answer.taken, guest, timestamp(slice.clock));
                }
                answer
            })
        } else {
            backlog.take_with(|block| {
                let mask = behind.as_ref().map_or(block.mask, |behind| behind.wanted(block));
                if mask == 0 {
                    return Take::Continue(0);
                }
                let from = link.drained(slice.clock);
                let take = slice.visit(block.word, mask, guest, link, witness.as_deref_mut());
                if let (Some(behind), Take::Continue(taken) | Take::Stop(taken)) = (behind.as_mut(), take) {
                    behind.sent.push(SentWord {
                        word: block.word,
                        mask: taken,
                        from,
                        to: link.drained(from),
                    });
                }
                take
            })
        };
        debug_assert_eq!(taken.taken, slice.sent.pages, "what was taken is what was paid for");
        let Slice { clock, mut sent, bytes, .. } = slice;
        let clock = if self.punctual && taken.stopped { clock.min(end) } else { clock };
        let clock = self.limiter.rest(clock);
        sent.bytes = ByteCount(bytes as u64);
        sent.in_flight = Some(parts.link.in_flight(clock));
        let pending = parts.backlog.pending();
        // A full circle has shown every page; before, what was skipped is not meant for this round.
        let at_least = u64::from(taken.stopped);
        sent.skipped = match (transmit.last, taken.stopped) {
            (true, _) => Pages(0),
            (false, true) => Pages(self.skipped.min(pending.0.saturating_sub(at_least))),
            (false, false) => pending,
        };
        sent.pending = pending.saturating_sub(sent.skipped);
        (clock, sent)
    }

    /// Sends one page that the guest waits for; the caller has taken it. Past what is queued with `shared`
    /// bytes of the queue before it, or in its turn. Gives what was sent and when it has left the wire.
    pub(crate) fn send_urgent(
        &mut self,
        now: Nanos,
        zero: bool,
        shared: Option<f64>,
        link: &mut Link,
    ) -> (Nanos, Transmitted) {
        let bytes = if zero { self.zero_bytes } else { self.page_bytes };
        let out = if let Some(shared) = shared {
            link.overtake(now, bytes, shared)
        } else {
            let accepted = link.push(now, bytes);
            link.drained(accepted)
        };
        let sent = Transmitted {
            pages: Pages(1),
            zero: Pages(u64::from(zero)),
            bytes: ByteCount(bytes as u64),
            ..Transmitted::default()
        };
        (out, sent)
    }

    /// A round begins with a harvest, before which `left_over` was pending: nothing is skipped in it yet.
    pub(crate) fn begin_round(&mut self, left_over: &PageSet) {
        self.skipped = 0;
        self.sync_due += self.sync;
        if let Some(codec) = &mut self.codec {
            codec.begin_round(left_over);
        }
    }

    /// What encoding came to, with the CPU seconds of handing over `full` pages and `zero` zero pages.
    pub(crate) fn encoding(&self, full: Pages, zero: Pages) -> Encoding {
        let mut encoding = self.codec.as_ref().map_or_else(Encoding::default, |codec| codec.encoding());
        let nanos = full.0 as f64 * self.page_cost + zero.0 as f64 * self.zero_cost;
        encoding.source_cpu_s += nanos * 1e-9;
        encoding
    }
}

/// What sending works on.
pub(crate) struct Parts<'a> {
    pub(crate) backlog: &'a mut Backlog,
    pub(crate) guest: &'a mut Guest,
    pub(crate) link: &'a mut Link,
    pub(crate) witness: Option<&'a mut Witness>,
    /// In post-copy.
    pub(crate) behind: Option<Behind<'a>>,
}

/// Sending after the handover.
pub(crate) struct Behind<'a> {
    /// Only these pages; none: all.
    pub(crate) only: Option<&'a PageSet>,
    /// What was sent, for the guest that waits for it.
    pub(crate) sent: &'a mut Vec<SentWord>,
}

/// Pages of a word that were sent together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SentWord {
    pub(crate) word: usize,
    pub(crate) mask: u64,
    /// When the wire began to carry them, and when it had.
    pub(crate) from: Nanos,
    pub(crate) to: Nanos,
}

impl Behind<'_> {
    fn wanted(&self, block: Block) -> u64 {
        let only = self.only.map_or(u64::MAX, |only| only.words().get(block.word).copied().unwrap_or(0));
        block.mask & only
    }
}

/// One slice of sending in progress.
struct Slice<'a> {
    sender: &'a mut Sender,
    clock: Nanos,
    end: Nanos,
    /// Pages since the last look at the clock.
    unlooked: u32,
    sent: Transmitted,
    bytes: f64,
    /// Pages that are dirty again are left out, if the host does that at all.
    skipping: bool,
    /// Sending behind the guest, where pages are not encoded (QEMU's post-copy takes neither xbzrle nor
    /// compression).
    behind: bool,
}

impl Slice<'_> {
    /// Sends the pages of eight words, and says whether to go on.
    #[inline]
    fn visit_line(&mut self, first: usize, pending: &[u64; 8], guest: &Guest, link: &mut Link) -> LineTake {
        let touched = self.sender.touched;
        let alike = touched <= first || touched >= first + pending.len();
        if alike && !guest.has_zero_pages(first) && self.send_full_pages(first, pending, link) {
            return LineTake { taken: *pending, stopped_at: None };
        }
        let stopped_at = self.send_each_word(first, pending, guest, link);
        let mut taken = *pending;
        if let Some(offset) = stopped_at {
            taken[offset + 1..].fill(0);
        }
        LineTake { taken, stopped_at }
    }

    fn send_each_word(
        &mut self,
        first: usize,
        pending: &[u64; 8],
        guest: &Guest,
        link: &mut Link,
    ) -> Option<usize> {
        pending.iter().enumerate().filter(|(_, mask)| **mask != 0).find_map(|(offset, &mask)| {
            let load = self.sender.load_of(mask, guest.zero_mask(first + offset));
            self.hand_over(first + offset, &load, link);
            (self.unlooked >= self.sender.batch && self.looks_at_the_clock()).then_some(offset)
        })
    }

    /// Sends eight words at once, if none of their pages is zero, the destination has touched all of
    /// their memory or none, and the slice does not end among them. Else it does nothing and says so.
    #[inline]
    fn send_full_pages(&mut self, first: usize, pending: &[u64; 8], link: &mut Link) -> bool {
        let sender = &mut *self.sender;
        let pages: u32 = pending.iter().map(|mask| mask.count_ones()).sum();
        let bytes = f64::from(pages) * sender.page_bytes;
        link.receive_at(sender.receive[usize::from(first >= sender.touched)]);
        if link.copied_by(self.clock, bytes) >= self.end {
            return false;
        }
        self.clock = link.copy(self.clock, bytes);
        // The clock was looked at in between and said that the slice is not over.
        let (unlooked, batch) = (self.unlooked + pages, sender.batch);
        // Mostly a power of two, and a division costs more than the rest.
        self.unlooked = if batch.is_power_of_two() { unlooked & (batch - 1) } else { unlooked % batch };
        sender.touched = sender.touched.max(first + pending.len());
        self.sent.pages.0 += u64::from(pages);
        self.bytes += bytes;
        sender.limiter.used += bytes;
        true
    }

    /// Sends a word where some pages may be left out: dirty again, or beyond the limiter's quota; and
    /// under the eyes of a witness.
    fn visit(
        &mut self,
        word: usize,
        mask: u64,
        guest: &mut Guest,
        link: &mut Link,
        witness: Option<&mut Witness>,
    ) -> Take {
        if self.sender.limiter.used > self.sender.limiter.quota {
            return Take::Stop(0);
        }
        let mut mask = mask;
        if self.sender.skip_redirtied && self.skipping {
            let again = mask & guest.dirtied_mask(word, timestamp(self.clock));
            self.sender.skipped += u64::from(again.count_ones());
            mask &= !again;
        }
        if self.sender.codec.is_some() && !self.behind {
            return self.visit_encoding(word, mask, guest, link, witness);
        }
        let load = self.sender.load_of(mask, guest.zero_mask(word));
        let load = if self.sender.limiter.used + load.bytes <= self.sender.limiter.quota {
            load
        } else {
            self.sender.within_quota(mask, guest.zero_mask(word))
        };
        if let Some(witness) = witness {
            witness.sent(word, load.mask, guest, timestamp(self.clock));
        }
        self.hand_over(word, &load, link);
        if load.mask != mask || (self.unlooked >= self.sender.batch && self.looks_at_the_clock()) {
            return Take::Stop(load.mask);
        }
        Take::Continue(mask)
    }

    /// The same where pages are encoded.
    fn visit_encoding(
        &mut self,
        word: usize,
        mask: u64,
        guest: &mut Guest,
        link: &mut Link,
        witness: Option<&mut Witness>,
    ) -> Take {
        let now = timestamp(self.clock);
        guest.advance(now);
        let sender = &mut *self.sender;
        let Some(codec) = &mut sender.codec else { return Take::Stop(0) };
        let pass = Pass { bulk: word >= sender.touched, last: !self.skipping };
        let zero = guest.zero_mask(word);
        let marker = Cost { bytes: sender.zero_bytes, nanos: sender.zero_cost };
        let room = sender.limiter.quota - sender.limiter.used;
        let (sent, cost) = codec.send_word(word, mask, (zero, marker), pass, room, guest);
        if let Some(witness) = witness {
            witness.sent(word, sent, guest, now);
        }
        let (pages, zeros) = (sent.count_ones(), (sent & zero).count_ones());
        let load = Load { mask: sent, pages, zeros, bytes: cost.bytes, scanning: cost.nanos };
        self.hand_over(word, &load, link);
        if sent != mask || (self.unlooked >= self.sender.batch && self.looks_at_the_clock()) {
            return Take::Stop(sent);
        }
        Take::Continue(mask)
    }

    /// Sends the syncs of rounds that are over.
    fn send_syncs(&mut self, link: &mut Link) {
        let bytes = std::mem::take(&mut self.sender.sync_due);
        if bytes > 0.0 {
            self.clock = link.copy(self.clock, bytes);
            self.bytes += bytes;
            self.sender.limiter.used += bytes;
        }
    }

    /// Pays for the pages of a word.
    fn hand_over(&mut self, word: usize, load: &Load, link: &mut Link) {
        let sender = &mut *self.sender;
        let first = word >= sender.touched;
        if first {
            sender.touched = word + 1;
        }
        if load.pages > load.zeros {
            link.receive_at(sender.receive[usize::from(first)]);
        }
        self.clock = if sender.behind_queue {
            link.work(self.clock, load.scanning, load.bytes)
        } else {
            link.copy(self.clock + load.scanning, load.bytes)
        };
        self.bytes += load.bytes;
        sender.limiter.used += load.bytes;
        self.sent.pages.0 += u64::from(load.pages);
        self.sent.zero.0 += u64::from(load.zeros);
        self.unlooked += load.pages;
    }

    /// Whether the slice is over.
    fn looks_at_the_clock(&mut self) -> bool {
        self.unlooked = 0;
        self.clock >= self.end
    }
}

/// Pages of one word, and what sending them takes.
#[derive(Clone, Copy, Debug)]
struct Load {
    mask: u64,
    pages: u32,
    zeros: u32,
    bytes: f64,
    /// The time that the zero pages take; copying the others is the link's affair.
    scanning: Nanos,
}

impl Sender {
    #[inline]
    fn load_of(&self, mask: u64, zero: u64) -> Load {
        let pages = mask.count_ones();
        let zeros = (mask & zero).count_ones();
        let bytes = self.plain_bytes(mask & !zero);
        let mut load = Load { mask, pages, zeros, bytes, scanning: 0.0 };
        if zeros != 0 {
            load.bytes += f64::from(zeros) * self.zero_bytes;
            load.scanning = f64::from(zeros) * self.zero_cost;
        }
        load
    }

    /// Bytes of pages that are sent as they are; behind the queue neighbours share an entry.
    #[inline]
    fn plain_bytes(&self, mask: u64) -> f64 {
        let all = f64::from(mask.count_ones()) * self.page_bytes;
        if !self.behind_queue {
            return all;
        }
        let shared = f64::from((mask & (mask << 1)).count_ones());
        all - shared * self.page_overhead
    }

    /// The pages of `mask`, lowest first, up to the one that uses the window's quota up.
    #[cold]
    fn within_quota(&self, mask: u64, zero: u64) -> Load {
        let Limiter { quota, mut used, .. } = self.limiter;
        let mut left = mask;
        while left != 0 && used <= quota {
            let page = left & left.wrapping_neg();
            used += if page & zero == 0 { self.page_bytes } else { self.zero_bytes };
            left ^= page;
        }
        self.load_of(mask & !left, zero)
    }
}

impl Limiter {
    /// The end of the rest that is due at `now`.
    fn rest(&mut self, now: Nanos) -> Nanos {
        let end = self.since + self.window;
        if now < end && self.used <= self.quota {
            return now;
        }
        let now = now.max(end);
        self.since = now;
        // The page that did not fit any more counts in the next window.
        self.used = (self.used - self.quota).max(0.0);
        now
    }
}
