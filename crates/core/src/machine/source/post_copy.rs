//! Post-copy at the source: the guest runs at the destination, and the pages that it lacks follow.
//!
//! Called by the source's machine from the last harvest on. Pages that the guest waits for are sent
//! first, the others behind them; each is sent once, unless the connection breaks and nobody knows what
//! arrived. From the handover on this side has nothing to decide: it can't take the guest back, and
//! without its pages the guest can't go on.

use std::time::Duration;

use super::super::event::{Failure, PlainSourceAction, SourceAction, Step, Transmit};
use super::super::handoff::Right;
use super::super::phase::SourcePhase;
use super::Source;
use crate::controller::{Harvested, Transmitted};
use crate::dirty::Stock;
use crate::layout::PageNumber;
use crate::report::{Outcome, PostCopyReport};
use crate::units::{Pages, Timestamp};

/// The longest slice of sending in post-copy: nobody decides anything between two, but a page that is
/// asked for may have to wait for one (ours; QEMU looks at its queue of requests before each page).
const SLICE: Duration = Duration::from_millis(10);

/// What is known of a post-copy.
#[derive(Clone, Debug, Default)]
pub(super) struct PostCopy {
    /// Pages that the destination lacks when the guest is handed over.
    pub(super) missing: Pages,
    /// When the source knew that the guest runs there.
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    requests: u64,
    /// The driver was asked to transmit and has not answered.
    transmitting: bool,
    /// The connection broke since it was asked: nobody knows what arrived.
    broken: bool,
    /// What the guest has asked for since: it may be among that.
    asked_since: Vec<PageNumber>,
    /// The guest was lost before the source knew that it runs there: why.
    lost: Option<String>,
}

impl PostCopy {
    /// The report of it at `now`; none if nothing was missing.
    pub(super) fn report(&self, now: Timestamp) -> Option<PostCopyReport> {
        let started = self.started?;
        let length = self.ended.unwrap_or(now).since(started);
        Some(PostCopyReport { started, length, missing: self.missing, requests: self.requests })
    }
}

impl<S: Stock> Source<S> {
    /// In post-copy, notes what the last harvest left for after the handover; says whether that is anything.
    pub(super) fn leave_behind(&mut self, harvested: Harvested) -> bool {
        let Some(post_copy) = &mut self.post_copy else { return false };
        post_copy.missing = harvested.pending;
        harvested.pending > Pages(0)
    }

    /// Whether the destination lacks pages, or will once it runs the guest.
    pub(super) fn owes_pages(&self) -> bool {
        let owes = |post_copy: &PostCopy| post_copy.missing > Pages(0) && post_copy.ended.is_none();
        self.post_copy.as_ref().is_some_and(owes)
    }

    /// The guest runs at the destination.
    pub(super) fn send_what_is_missing(&mut self, now: Timestamp) {
        self.deadline = None;
        self.phase = SourcePhase::PostCopy;
        let Some(post_copy) = &mut self.post_copy else { return };
        post_copy.started = Some(now);
        if let Some(why) = post_copy.lost.take() {
            return self.abandon(now, &why);
        }
        self.lift_the_burden();
        self.transmit_behind();
    }

    /// The destination says that the guest is lost there.
    pub(super) fn lost_there(&mut self, now: Timestamp, why: &str) {
        let why = format!("lost at the destination: {why}");
        match (self.phase, &mut self.post_copy) {
            (SourcePhase::PostCopy, _) => self.abandon(now, &why),
            (SourcePhase::AwaitingRunning, Some(post_copy)) => post_copy.lost = Some(why),
            _ => {}
        }
    }

    fn transmit_behind(&mut self) {
        if let Some(post_copy) = &mut self.post_copy {
            post_copy.transmitting = true;
        }
        let transmit = Transmit { slice: Some(SLICE), last: true };
        self.actions.transmit(transmit);
    }

    /// The guest waits for a page. It may do so before the source knows that it runs.
    pub(super) fn requested(&mut self, page: PageNumber) {
        if !matches!(self.phase, SourcePhase::AwaitingRunning | SourcePhase::PostCopy) {
            return;
        }
        if let Some(post_copy) = &mut self.post_copy {
            post_copy.requests += 1;
            if post_copy.broken {
                post_copy.asked_since.push(page);
            }
            self.actions.push_any(SourceAction::Urgent(page));
        }
    }

    /// Some of the missing pages were sent.
    pub(super) fn pages_followed(&mut self, now: Timestamp, sent: Transmitted) {
        self.controller.account(now, sent);
        self.rounds.sent(&sent);
        let Some(post_copy) = &mut self.post_copy else { return };
        post_copy.transmitting = false;
        let broken = std::mem::take(&mut post_copy.broken);
        let asked = std::mem::take(&mut post_copy.asked_since);
        if broken {
            self.put_back();
            for page in asked {
                self.actions.push_any(SourceAction::Urgent(page));
            }
        }
        if !self.handoff.is_connected() {
            return;
        }
        if broken || sent.pending > Pages(0) {
            self.transmit_behind();
        } else {
            self.close_last_round(now);
        }
    }

    /// Everything is sent: the destination says when it has it.
    fn close_last_round(&mut self, now: Timestamp) {
        let round = self.last_numbered_round().saturating_add(1);
        self.actions.end_round(round);
        if let Ok(gate) = self.backlog.close_gate() {
            self.awaited = Some((gate, round));
        }
        self.await_answer(now);
    }

    /// Nobody knows what arrived of the pages in flight.
    pub(super) fn put_back(&mut self) {
        self.backlog.put_back();
        self.awaited = None;
    }

    pub(super) fn lost_the_connection(&mut self) {
        self.deadline = None;
        let Some(post_copy) = &mut self.post_copy else { return };
        post_copy.asked_since.clear();
        if post_copy.transmitting {
            // Put back when the driver has stopped.
            post_copy.broken = true;
        } else {
            self.put_back();
        }
        self.actions.push_any(SourceAction::Reconnect);
    }

    /// The destination asks again for what the guest waits for; the rest follows as before.
    pub(super) fn connected_again(&mut self) {
        if self.post_copy.as_ref().is_some_and(|post_copy| !post_copy.transmitting) {
            self.transmit_behind();
        }
    }

    /// The destination has every page.
    pub(super) fn nothing_is_missing(&mut self, now: Timestamp) {
        if let Some(post_copy) = &mut self.post_copy {
            post_copy.ended = Some(now);
        }
        self.rounds.close(now);
        self.release(now);
    }

    /// Something failed here while the destination lacks pages.
    pub(super) fn failed_behind(&mut self, now: Timestamp, failure: &Failure) {
        if failure.step == Step::Transmit
            && let Some(post_copy) = &mut self.post_copy
        {
            post_copy.transmitting = false;
        }
        if failure.step == Step::StopTracking {
            self.duties.tracking = false;
            self.clean_up_failures.push(failure.to_string());
        } else {
            self.abandon(now, &failure.to_string());
        }
    }

    /// The guest will never get the pages that it lacks.
    pub(super) fn abandon(&mut self, now: Timestamp, why: &str) {
        self.end(Outcome::GuestLost, format!("{why}: start the guest from its disks"));
        if let Some(post_copy) = &mut self.post_copy {
            post_copy.ended = Some(now);
        }
        self.release(now);
    }

    fn release(&mut self, now: Timestamp) {
        debug_assert_eq!(self.handoff.right(), Right::Theirs);
        self.phase = SourcePhase::Releasing;
        self.deadline = None;
        if self.post_copy.as_ref().is_some_and(|post_copy| post_copy.transmitting) {
            self.duties.releasing = true;
        } else {
            self.actions.push(PlainSourceAction::Release);
        }
        self.clean_up(now);
    }

    /// The driver does not read the guest's memory any more.
    pub(super) fn stopped_sending(&mut self, now: Timestamp) {
        self.duties.releasing = false;
        self.actions.push(PlainSourceAction::Release);
        self.settle(now);
    }
}
