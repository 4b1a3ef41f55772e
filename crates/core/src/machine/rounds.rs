//! The list of rounds as it grows during a migration.

use std::sync::Arc;

use crate::controller::{Harvested, Outlook, Transmitted};
use crate::policy::Verdict;
use crate::report::{Decided, RoundReport};
use crate::throttle::Throttle;
use crate::units::{Bandwidth, ByteCount, PageRate, Pages, Timestamp};

/// So many rounds are put away together. A simulation may be copied in every round, and a run may have thousands:
/// copies have those in common that are put away.
const TOGETHER: usize = 64;

/// Rounds so far; the last may be open.
#[derive(Clone, Debug, Default)]
pub(super) struct Rounds {
    /// The first ones, [`TOGETHER`] in each.
    put_away: Vec<Arc<Vec<RoundReport>>>,
    /// Those after them.
    closed: Vec<RoundReport>,
    open: Option<RoundReport>,
    /// Where only their number is wanted.
    count: Option<Count>,
}

/// Rounds that are counted and not kept.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    closed: u32,
    /// Nothing was sent in the last one.
    idle: bool,
    /// Pages sent in the one that is open.
    open: Option<Pages>,
}

impl Count {
    #[inline]
    fn sent(&mut self, pages: Pages) {
        if let Some(sent) = &mut self.open {
            *sent = sent.saturating_add(pages);
        }
    }

    #[inline]
    fn close(&mut self) {
        if let Some(sent) = self.open.take() {
            self.closed += 1;
            self.idle = sent == Pages(0);
        }
    }

    /// A round that was no pass over memory is forgotten.
    #[inline]
    fn begin(&mut self) {
        self.close();
        self.closed -= u32::from(std::mem::take(&mut self.idle));
        self.open = Some(Pages(0));
    }
}

impl Rounds {
    /// From now on only counts them.
    pub(super) fn only_count(&mut self) {
        self.count = Some(Count::default());
    }

    /// Forgets them, for another migration.
    pub(super) fn begin_anew(&mut self) {
        self.put_away.clear();
        self.closed.clear();
        self.open = None;
        if let Some(count) = &mut self.count {
            *count = Count::default();
        }
    }

    #[inline]
    pub(super) fn only_counts(&self) -> bool {
        self.count.is_some()
    }

    /// How many there are, an open one counted.
    pub(super) fn count(&self) -> u32 {
        match &self.count {
            Some(count) => count.closed + u32::from(count.open.is_some()),
            None => self.closed_count() + u32::from(self.open.is_some()),
        }
    }

    fn closed_count(&self) -> u32 {
        (self.put_away.len() * TOGETHER + self.closed.len()) as u32
    }

    /// A round starts.
    #[inline]
    pub(super) fn begin(&mut self, now: Timestamp, harvested: &Harvested, rate: Option<PageRate>) {
        match &mut self.count {
            Some(count) => count.begin(),
            None => self.begin_kept(now, harvested, rate),
        }
    }

    fn begin_kept(&mut self, now: Timestamp, harvested: &Harvested, rate: Option<PageRate>) {
        self.close(now);
        // Nothing was sent in it: it was no pass over memory.
        self.closed.pop_if(|round| round.sent_pages == Pages(0));
        self.open = Some(RoundReport {
            round: self.closed_count(),
            paused: false,
            post_copy: false,
            started: now,
            length: std::time::Duration::ZERO,
            dirtied: harvested.dirtied,
            left_over: harvested.left_over,
            pending: harvested.pending,
            sent_pages: Pages(0),
            zero_pages: Pages(0),
            sent: ByteCount(0),
            dirty_rate: rate,
            bandwidth: None,
            throttle: Throttle::Off,
            outlook: None,
            decision: None,
        });
    }

    /// What was left when the open round began.
    #[inline]
    pub(super) fn foreseen(&mut self, outlook: Option<Outlook>) {
        if let Some(open) = &mut self.open {
            open.outlook = outlook;
        }
    }

    /// A round starts of a guest that is held paused by its policy.
    pub(super) fn begin_held(&mut self, now: Timestamp, harvested: &Harvested, rate: Option<PageRate>) {
        self.begin(now, harvested, rate);
        if let Some(open) = &mut self.open {
            open.paused = true;
        }
    }

    /// The last round starts, which is sent after the handover.
    pub(super) fn post_copy(&mut self, now: Timestamp, harvested: &Harvested) {
        self.pause(now, harvested);
        if let Some(open) = &mut self.open {
            (open.paused, open.post_copy) = (false, true);
        }
    }

    /// The last round starts, with the guest paused. A live round in which nothing was sent was no
    /// pass over memory: what its harvest found is sent now.
    pub(super) fn pause(&mut self, now: Timestamp, harvested: &Harvested) {
        if let Some(count) = &mut self.count {
            return count.begin();
        }
        let unsent = self.closed.pop_if(|round| round.sent_pages == Pages(0));
        self.begin(now, harvested, None);
        if let (Some(open), Some(unsent)) = (&mut self.open, unsent) {
            open.dirtied = unsent.dirtied.saturating_add(harvested.dirtied);
            open.left_over = unsent.left_over;
            open.dirty_rate = unsent.dirty_rate;
            open.throttle = unsent.throttle;
            open.outlook = unsent.outlook;
            open.decision = unsent.decision;
        }
        if let Some(open) = &mut self.open {
            open.paused = true;
        }
    }

    #[inline]
    pub(super) fn sent(&mut self, sent: &Transmitted) {
        if let Some(count) = &mut self.count {
            count.sent(sent.pages);
            return;
        }
        if let Some(open) = &mut self.open {
            open.sent_pages = open.sent_pages.saturating_add(sent.pages);
            open.zero_pages = open.zero_pages.saturating_add(sent.zero);
            open.sent = open.sent.saturating_add(sent.bytes);
        }
    }

    pub(super) fn decided(&mut self, now: Timestamp, throttle: Throttle, verdict: &Verdict) {
        if let (None, Some(open)) = (&self.count, &mut self.open) {
            open.throttle = throttle;
            let (decision, reason) = (verdict.decision, verdict.reason.clone());
            open.decision = Some(Decided { at: now, decision, reason });
        }
    }

    /// The open round, if there is one, ends.
    #[inline]
    pub(super) fn close(&mut self, now: Timestamp) {
        match &mut self.count {
            Some(count) => count.close(),
            None => self.close_kept(now),
        }
    }

    fn close_kept(&mut self, now: Timestamp) {
        if let Some(mut open) = self.open.take() {
            open.length = now.since(open.started);
            open.bandwidth = Bandwidth::measured(open.sent, open.length);
            // The last one may have to be forgotten, those before it not.
            if self.closed.len() == TOGETHER {
                self.put_away.push(Arc::new(std::mem::take(&mut self.closed)));
            }
            self.closed.push(open);
        }
    }

    /// All rounds in which something was sent, and the paused one. An open round is given as it stands.
    pub(super) fn finished(&self) -> Vec<RoundReport> {
        self.all().cloned().collect()
    }

    /// The last but one of these.
    pub(super) fn last_but_one(&self) -> Option<&RoundReport> {
        self.all().nth_back(1)
    }

    fn all(&self) -> impl DoubleEndedIterator<Item = &RoundReport> {
        let put_away = self.put_away.iter().flat_map(|rounds| rounds.iter());
        put_away.chain(&self.closed).chain(&self.open)
    }
}
