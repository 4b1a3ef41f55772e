//! Post-copy in the simulator: what is sent behind the guest, and what the guest does meanwhile.
//!
//! The machines decide that and when pages are sent behind the guest, and that a page that it waits for is
//! urgent. Here is what a driver does about it: the order of the others (by address, from the page that
//! was asked for last on, as QEMU's; or what was dirtied last before the rest), a connection of its own
//! for urgent pages if the host has one (QEMU's `postcopy-preempt`), and the guest that touches pages and
//! stands still where they are missing ([`Resumed`]).

use std::time::Duration;

use whimbrel_core::controller::Transmitted;
use whimbrel_core::dirty::PageSet;
use whimbrel_core::layout::PageNumber;
use whimbrel_core::machine::{DestinationEvent, SourceEvent, Transmit};
use whimbrel_core::report::Ledger;
use whimbrel_core::units::{ByteCount, Pages, Timestamp, VcpuSeconds};

use super::simulation::{Event, Simulation, nanos};
use crate::guest::Resumed;
use crate::link::{Nanos, timestamp};
use crate::sender::{Behind, Parts, SentWord};

/// The source looks for requests at least this often. QEMU does before every page; in this time a link of
/// 10 Gbit/s carries 300 of them.
const LOOK: Duration = Duration::from_millis(1);

/// What a migration knows of its post-copy.
#[derive(Clone, Debug)]
pub(super) struct PostCopy {
    /// What the last harvest found, if that is sent first.
    hot: Option<PageSet>,
    /// What the destination lacks when the guest is handed over.
    missing: Option<PageSet>,
    guest: Option<Resumed>,
    /// When the guest is looked at next.
    next_look: Option<Timestamp>,
    /// Urgent pages that were sent and not reported yet.
    urgent: Transmitted,
    last_arrival: Nanos,
}

impl PostCopy {
    pub(super) fn new(hot_first: bool, numbers: u64) -> Self {
        Self {
            hot: hot_first.then(|| PageSet::new(numbers)),
            missing: None,
            guest: None,
            next_look: None,
            urgent: Transmitted::default(),
            last_arrival: 0.0,
        }
    }

    /// A harvest begins.
    pub(super) fn harvest_begins(&mut self) {
        if let Some(hot) = &mut self.hot {
            hot.clear();
        }
    }

    /// The harvest found these pages of a word dirty.
    #[inline]
    pub(super) fn found_dirty(&mut self, word: usize, mask: u64) {
        if let Some(hot) = &mut self.hot {
            hot.or_word(word, mask);
        }
    }

    /// When the last page that was asked for has left the wire.
    pub(super) fn last_arrival(&self) -> Nanos {
        self.last_arrival
    }

    /// Whether the guest is handed over before all of its pages.
    pub(super) fn is_used(&self) -> bool {
        self.missing.is_some() || self.guest.is_some()
    }

    /// vCPU time lost to waiting for pages up to `now`.
    pub(super) fn stalled(&self, now: Timestamp) -> VcpuSeconds {
        let stalled = self.guest.as_ref().map_or(0.0, |guest| guest.stalled(now.as_nanos()));
        VcpuSeconds::new(stalled * 1e-9).unwrap_or(VcpuSeconds::ZERO)
    }
}

impl Simulation<'_> {
    /// The destination is told which pages it lacks: a bit a page.
    pub(super) fn leave_behind(&mut self) -> ByteCount {
        let backlog = self.source.backlog_mut();
        let missing = backlog.pending_pages().clone();
        // QEMU begins anew, whatever was sent last (`ram_postcopy_send_discard_bitmap`).
        backlog.rewind();
        let bitmap = ByteCount(missing.numbers().div_ceil(8));
        self.post_copy.missing = Some(missing);
        bitmap
    }

    /// The guest runs at the destination from `resumed` on.
    pub(super) fn resume_without_pages(&mut self, resumed: Timestamp) {
        if let Some(missing) = self.post_copy.missing.take() {
            let guest = self.guest.resumed(resumed, missing, &self.setup.guest, self.setup.seed);
            self.post_copy.guest = Some(guest);
            self.look_again();
        }
    }

    /// Makes sure that the guest is looked at when something happens to it.
    fn look_again(&mut self) {
        let Some(next) = self.post_copy.guest.as_ref().and_then(Resumed::next) else { return };
        let next = Timestamp::from_nanos(next).max(self.now);
        if self.post_copy.next_look.is_none_or(|noted| next < noted) {
            self.post_copy.next_look = Some(next);
            self.queue.push(next, Event::Guest);
        }
    }

    /// The guest does what it does now, and asks for what it then lacks.
    pub(super) fn guest_goes_on(&mut self) {
        self.post_copy.next_look = None;
        let Some(guest) = &mut self.post_copy.guest else { return };
        let asked_at = self.now.saturating_add(self.setup.host.post_copy_fault);
        for page in guest.step(self.now.as_nanos()) {
            let missed = DestinationEvent::Missed(PageNumber(page));
            self.queue.push(asked_at, Event::Destination(missed));
        }
        self.look_again();
    }

    /// Sends pages behind the guest, for so short a time that nobody who asks waits for long.
    pub(super) fn transmit_behind(&mut self, transmit: Transmit) {
        let transmit =
            Transmit { slice: Some(transmit.slice.map_or(LOOK, |slice| slice.min(LOOK))), ..transmit };
        let mut words = Vec::new();
        let before = self.source.backlog().pending();
        let parts = Parts {
            backlog: self.source.backlog_mut(),
            guest: &mut self.guest,
            link: &mut self.link,
            witness: self.witness.as_mut(),
            behind: Some(Behind { only: self.post_copy.hot.as_ref(), sent: &mut words }),
        };
        let (end, mut sent) = self.sender.send(nanos(self.now), transmit, parts);
        if sent.pending == before && !self.hot_pages_are_left() {
            self.post_copy.hot = None;
        }
        for word in words {
            self.arrives(word);
        }
        let urgent = std::mem::take(&mut self.post_copy.urgent);
        sent.pages = sent.pages.saturating_add(urgent.pages);
        sent.zero = sent.zero.saturating_add(urgent.zero);
        sent.bytes = self.count.settle(sent.bytes.saturating_add(urgent.bytes));
        self.later(timestamp(end), SourceEvent::Transmitted(sent));
        self.look_again();
    }

    /// Whether any page that is to be sent first is still pending.
    fn hot_pages_are_left(&self) -> bool {
        let pending = self.source.backlog().pending_pages().words();
        let hot = self.post_copy.hot.as_ref();
        hot.is_some_and(|hot| hot.words().iter().zip(pending).any(|(hot, pending)| hot & pending != 0))
    }

    /// Pages will arrive.
    fn arrives(&mut self, SentWord { word, mask, from, to }: SentWord) {
        self.post_copy.last_arrival = self.post_copy.last_arrival.max(to);
        let way = self.one_way().as_nanos() as f64;
        if let Some(guest) = &mut self.post_copy.guest
            && self.connected
        {
            guest.comes(word, mask, from + way, to + way);
        }
    }

    /// The guest waits for a page.
    pub(super) fn send_urgent(&mut self, page: PageNumber) {
        let host = &self.setup.host;
        let backlog = self.source.backlog_mut();
        if !backlog.take_page(page) {
            return;
        }
        if !host.post_copy_preempt {
            backlog.seek(page);
        }
        let (word, mask) = ((page.0 / 64) as usize, 1 << (page.0 % 64));
        let zero = self.guest.zero_mask(word) & mask != 0;
        let shared = host.post_copy_preempt.then(|| self.setup.link.queue.as_f64());
        let now = nanos(self.now);
        let (out, sent) = self.sender.send_urgent(now, zero, shared, &mut self.link);
        if let Some(witness) = &mut self.witness {
            witness.sent(word, mask, &mut self.guest, self.now);
        }
        let urgent = &mut self.post_copy.urgent;
        urgent.pages = urgent.pages.saturating_add(Pages(1));
        urgent.zero = urgent.zero.saturating_add(sent.zero);
        urgent.bytes = urgent.bytes.saturating_add(sent.bytes);
        self.arrives(SentWord { word, mask, from: out, to: out });
        self.look_again();
    }

    /// Adds to `ledger` what passed between the guest's first instruction at the destination and the first
    /// that brought it on. Every page has arrived.
    pub(super) fn count_first_pages(&mut self, ledger: &mut Ledger) {
        let (Some(guest), Some(resumed)) = (&mut self.post_copy.guest, self.runs_there) else { return };
        while guest.seen().is_none()
            && let Some(next) = guest.next()
        {
            guest.step(next);
        }
        let seen = guest.seen().map_or(self.now, Timestamp::from_nanos);
        ledger.first_pages = seen.since(resumed);
    }
}
