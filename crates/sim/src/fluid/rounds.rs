//! Rounds: what is done some fifty times in a migration, and by the million in a sweep.
//!
//! A round is two steps, sending and a harvest, and nothing happens meanwhile but what comes from outside.

use std::time::Duration;

use whimbrel_core::dirty::{Expected, Stock as _};
use whimbrel_core::machine::{RoundAction, SourcePhase, Transmit};
use whimbrel_core::policy::{BandwidthWindow, Decision, Until};
use whimbrel_core::units::{Bandwidth, Pages, Timestamp};

use super::aim::Ticks;
use super::field::Found;
use super::sending::{Goal, Sent};
use super::splits::{LEAST, SLICE, Split};
use super::steps::Ends;
use super::world::{Event, World, nanos};
use crate::link::{Nanos, float, larger, timestamp};

impl World {
    /// Does what the source wants after something else than a step's end of a round.
    #[inline(never)]
    pub(super) fn do_what_is_wanted_then(&mut self) -> Option<Box<Split>> {
        loop {
            while let Some(action) = self.source.poll_plain() {
                self.act_plainly_here(action);
            }
            match self.source.poll_round() {
                Some(RoundAction::EndRound(round)) => self.end_round(round),
                Some(RoundAction::Transmit(transmit)) => {
                    self.transmit(transmit);
                    return None;
                }
                Some(RoundAction::Harvest) => return self.harvest(),
                None if self.source.is_silent() => return None,
                None => {
                    let action = self.source.poll()?;
                    if let Some(split) = self.act_at_source(action) {
                        return Some(split);
                    }
                }
            }
        }
    }

    /// Does what the source wants.
    #[inline(always)]
    pub(super) fn do_what_is_wanted(&mut self) -> Option<Box<Split>> {
        loop {
            match self.source.poll_round() {
                Some(RoundAction::EndRound(round)) => self.end_round(round),
                // Nothing waits behind these.
                Some(RoundAction::Transmit(transmit)) => {
                    self.transmit_now(transmit);
                    return None;
                }
                Some(RoundAction::Harvest) => return self.harvest_now(),
                None if self.source.is_silent() => return None,
                None => return self.do_what_is_wanted_then(),
            }
        }
    }

    /// Tells the destination that the round is sent.
    #[inline(always)]
    pub(super) fn end_round(&mut self, round: u32) {
        let accepted = self.send_word();
        // An acknowledgement that nobody waits for changes nothing that is known here: the last one counts.
        let waited_for =
            matches!(self.source.phase(), SourcePhase::Gating | SourcePhase::Saving | SourcePhase::PostCopy);
        if waited_for {
            self.arrives_there(accepted, Ends::RoundEnd(round));
        }
    }

    #[inline]
    pub(super) fn look_after_sending(&mut self) {
        if let Some(variance) = self.luck_of_the_tick.take() {
            self.look_at_the_verdict(variance);
            self.look_where_it_stopped();
        }
    }

    #[inline]
    pub(super) fn look_after_harvest(&mut self) {
        if self.look_at_the_verdict(self.variance) {
            self.watch.see_a_threshold();
        }
        self.look_where_it_stopped();
    }

    /// Whether the decision on what is pending, a number with this variance, hung on chance.
    #[inline]
    fn look_at_the_verdict(&mut self, variance: f64) -> bool {
        let controller = self.source.controller();
        let progress = controller.progress();
        let distance = match controller.holds_until() {
            // It was not asked, or goes on until so many are pending.
            Some(Until { pending, .. }) if pending > Pages(0) && pending < Pages(u64::MAX) => {
                Some((progress.pending.as_f64() - pending.as_f64()).abs())
            }
            _ => controller.pages_apart(),
        };
        distance.is_some_and(|distance| self.watch.hangs_on(progress, distance, variance))
    }

    /// Whether the policy stopped at a tick whose place among all that may be was not averaged over.
    #[inline]
    fn look_where_it_stopped(&mut self) {
        let unsettled = std::mem::take(&mut self.unsettled);
        let controller = self.source.controller();
        if unsettled && controller.decision() != Decision::Continue {
            self.watch.hangs_on(controller.progress(), 0.0, self.variance);
        }
    }

    /// Sends as far as nothing can change.
    #[cold]
    pub(super) fn transmit(&mut self, transmit: Transmit) {
        self.transmit_now(transmit);
    }

    #[inline(always)]
    fn transmit_now(&mut self, transmit: Transmit) {
        if self.post_copy.is_some() {
            return self.transmit_behind();
        }
        let now = nanos(self.now);
        let limited = self.sending.is_limited(&self.link);
        if transmit.slice.is_none() && !limited {
            return self.transmit_all(now, transmit.last);
        }
        let goal = self.goal(now, transmit, limited);
        self.transmit_part(now, transmit, goal);
    }

    /// Sends everything that is pending: no tick comes, and no limit binds.
    #[inline(always)]
    fn transmit_all(&mut self, now: Nanos, last: bool) {
        let sent = self.sending.send_all(now, &mut self.field, &mut self.link);
        (self.checkpoint, self.ticks, self.crossing) = (None, Ticks::Anywhere, None);
        (self.unsettled, self.luck_of_the_tick, self.luck_of_the_round) = (false, None, 0.0);
        if sent.uneven && !last {
            self.watch.hangs_on(self.source.controller().progress(), 0.0, self.variance);
        }
        self.pages[0] += sent.pages;
        self.pages[1] += sent.zero;
        self.source.backlog_mut().take_all();
        sent.tell((Pages(0), self.link.in_flight(sent.at)), &mut self.step.sent);
        self.begin_step(Ends::Sending, timestamp(sent.at));
    }

    /// Sends as far as nothing can change.
    #[inline(never)]
    fn transmit_part(&mut self, now: Nanos, transmit: Transmit, goal: Goal) {
        let pending = self.source.backlog().expected().pages();
        self.checkpoint = None;
        let before = (self.sending.clone(), self.link.position(), self.field.scan());
        let sent = self.sending.send(now, pending, goal, &mut self.field, &mut self.link);
        if sent.crossing.is_some() {
            self.keep_checkpoint(before, now, transmit);
        }
        self.ticks = Ticks::Anywhere;
        self.crossing = sent.crossing;
        self.look_at_what_was_sent(now, goal, &sent, transmit.last);
        let pages = if sent.all { f64::INFINITY } else { sent.pages };
        let backlog = self.source.backlog_mut();
        backlog.take(Expected::new(pages));
        let left = backlog.pending();
        self.pages[0] += sent.pages;
        self.pages[1] += sent.zero;
        sent.tell((left, self.link.in_flight(sent.at)), &mut self.step.sent);
        self.begin_step(Ends::Sending, timestamp(sent.at));
    }

    /// What of the sending hangs on chance.
    fn look_at_what_was_sent(&mut self, now: Nanos, goal: Goal, sent: &Sent, last: bool) {
        // Before the bandwidth is settled ticks are taken one by one, where exact ones lie anywhere between.
        // So it is where time and not what is pending ended the slice.
        let single = match goal {
            Goal::Slice(_) => true,
            Goal::Until { until, .. } => until == Until::NEXT,
            Goal::Everything => false,
        };
        // Whether there is a tick at all before the round's end is chance then.
        // Ticks lie anywhere only if a slice has many sleeps in which it may end.
        let few = sent.crossing.is_some() && self.link.sleep() > SLICE / 5.0;
        if (sent.uneven || few || single && sent.all) && !last {
            self.watch.hangs_on(self.source.controller().progress(), 0.0, self.variance);
        }
        let single = single && !sent.all;
        self.unsettled = single;
        let ticks = ((sent.at - now) / (1.2 * SLICE)).max(1.0);
        let luck = (sent.pages / ticks).powi(2) / 12.0;
        self.luck_of_the_tick = single.then_some(luck);
        self.luck_of_the_round = if sent.all || sent.crossing.is_some() { 0.0 } else { luck };
        if let Some(distance) = sent.of_a_window {
            self.watch.hangs_on(self.source.controller().progress(), distance, self.variance);
        }
    }

    /// How far to send in one go.
    #[inline(always)]
    fn goal(&mut self, now: Nanos, transmit: Transmit, limited: bool) -> Goal {
        let slice = match transmit.slice {
            Some(slice) => length(slice),
            // A window that is full ends a slice too, and the policy is asked.
            None if limited && !transmit.last => 0.0,
            None => return Goal::Everything,
        };
        let controller = self.source.controller();
        // A policy that was asked with another bandwidth may have said too early or too late a time.
        let bandwidth = controller.progress().bandwidth;
        if !alike(bandwidth, self.asked_with.0) {
            self.asked_with = (bandwidth, now);
            self.source.ask_at_the_next_tick();
        }
        // What was measured once may be measured otherwise in the next window.
        if let BandwidthWindow::Time(window) = self.source.controller().cadence().bandwidth
            && now - self.asked_with.1 < length(window)
        {
            return Goal::Slice(slice);
        }
        match self.source.controller().holds_until() {
            Some(until) => {
                let before = self.interrupted_at().min(self.link.changes_at(now));
                Goal::Until { slice, until, before, ticks: self.ticks }
            }
            None => Goal::Slice(slice),
        }
    }

    /// When something happens next that is not the machines' doing.
    fn interrupted_at(&self) -> Nanos {
        let from_outside = |event: &Event| matches!(event, Event::Change(_) | Event::Lost | Event::TimeLimit);
        self.queue.first(from_outside).map_or(f64::INFINITY, nanos)
    }

    /// Fetches the dirty log.
    #[cold]
    pub(super) fn harvest(&mut self) -> Option<Box<Split>> {
        self.harvest_now()
    }

    #[inline(always)]
    fn harvest_now(&mut self) -> Option<Box<Split>> {
        let host = &self.terms.host;
        let begun = if host.harvest_waits { self.guest.awake_at(self.now) } else { self.now };
        // A guest that was paused early meets the gate when it is handed over.
        let held = self.source.controller().progress().paused && self.source.is_handing_over();
        let begun = if held { begun.saturating_add(host.switchover_gate) } else { begun };
        let done = Timestamp::from_nanos(begun.as_nanos().saturating_add(self.harvest_takes));
        self.sending.begin_round();
        self.guest.fetch(done, self.field.counts_mut());
        let mut found = self.field.harvest();
        if self.sending.dice.is_some() {
            self.add_luck(&mut found);
        }
        self.unchanged += self.guest.found(found.dirty);
        // What was pending by chance took as much longer to send, and in that time as much more was dirtied.
        let inherited = if self.variance > 0.0 && self.pending_before > 0.0 {
            let slope = found.growth / self.pending_before;
            slope * slope * self.variance
        } else {
            0.0
        };
        let spread =
            if self.variance > 0.0 { self.variance.sqrt() / larger(self.pending_before, 1.0) } else { 0.0 };
        self.pending_before = found.pending;
        let mut luck = std::mem::take(&mut self.luck_of_the_round);
        // What was left was few enough, wherever the tick was; it is not after so much more in so few cases only.
        if luck > 0.0 && found.dirty + 4.0 * found.variance.sqrt() < LEAST * (12.0 * luck).sqrt() {
            luck = 0.0;
        }
        self.variance = found.variance + inherited + luck;
        let backlog = self.source.backlog_mut();
        let left = backlog.expected().pages();
        // Mostly none.
        let left_over = if left > 0.0 { backlog.pending() } else { Pages(0) };
        backlog.harvest_to(Expected::new(found.pending));
        self.step.harvested.dirtied = Expected::new(found.dirty).count();
        self.step.harvested.left_over = left_over;
        self.step.harvested.in_flight = Some(self.link.in_flight(nanos(done)));
        self.step.harvested.pending = backlog.pending();
        self.begin_step(Ends::Harvest, done);
        let length = float(done.as_nanos().saturating_sub(self.harvested_at.as_nanos()));
        // A round is as much longer or shorter as its last sleep, and as what was pending by chance.
        let luck = 2.0 * self.link.sleep() / length + 2.0 * spread;
        if luck > 0.02 && self.field.just_gone_round(luck) {
            self.watch.hangs_on(self.source.controller().progress(), 0.0, self.variance);
        }
        self.harvested_before = Some(self.harvested_at);
        self.harvested_at = done;
        self.ticks = Ticks::Anywhere;
        self.split(found.pending - left, length)
    }
}

impl World {
    /// As many pages more as a member of an ensemble finds by chance.
    #[inline(never)]
    fn add_luck(&mut self, found: &mut Found) {
        let Some(dice) = &mut self.sending.dice else { return };
        let more = self.field.add(dice.normal() * found.variance.sqrt());
        found.pending += more;
        found.dirty = (found.dirty + more).max(0.0);
    }
}

/// A length of time in nanoseconds.
#[inline]
fn length(time: Duration) -> Nanos {
    u64::try_from(time.as_nanos()).map_or_else(|_| time.as_nanos() as f64, float)
}

/// Whether two bandwidths differ by less than half a percent.
fn alike(one: Option<Bandwidth>, other: Option<Bandwidth>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => (one.as_f64() - other.as_f64()).abs() <= 0.005 * other.as_f64(),
        (one, other) => one == other,
    }
}
