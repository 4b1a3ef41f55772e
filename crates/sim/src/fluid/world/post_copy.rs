//! Post-copy in the mean: what is sent behind the guest, and what the guest waits for meanwhile.
//!
//! Every page that is missing at the handover is sent once, in whatever order: how long that takes and how
//! many bytes it is does not hang on what the guest asks for, and is one scan. What it waits for does, and is
//! the mean over guests that are drawn ([`Lacking`]): as many as make some thousand requests.

use std::time::Duration;

use whimbrel_core::dirty::Expected;
use whimbrel_core::machine::{DestinationPhase, SourcePhase};
use whimbrel_core::report::Outcome;
use whimbrel_core::units::{ByteCount, VcpuSeconds};

use super::{World, nanos};
use crate::config::{GuestConfig, LinkConfig};
use crate::fluid::dice::Dice;
use crate::fluid::ensemble;
use crate::fluid::sending::Goal;
use crate::fluid::steps::Ends;
use crate::guest::{Lacking, Missing, Push, Ranks, Waited};
use crate::link::timestamp;
use crate::migration::Setup;

/// Guests that are drawn at least and at most, and requests that are enough.
const GUESTS: [u64; 2] = [32, 256];
/// Groups of them whose means are compared.
const GROUPS: usize = 16;
const REQUESTS: f64 = 20_000.0;

/// What post-copy asks of a setup, if its policy may go over to it.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    guest: GuestConfig,
    /// Of the queue, what a connection of its own shares.
    shared: Option<f64>,
}

impl Terms {
    pub(super) fn of(setup: &Setup) -> Option<Box<Self>> {
        setup.policy.needs().post_copy.then(|| {
            let LinkConfig { queue, .. } = &setup.link;
            let shared = setup.host.post_copy_preempt.then(|| queue.as_f64());
            Box::new(Self { guest: setup.guest.clone(), shared })
        })
    }
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct PostCopy {
    /// What is missing when the guest is handed over.
    missing: Vec<Missing>,
    waited: Waited,
    pub(super) time_is_up: bool,
}

impl PostCopy {
    /// vCPU time lost to waiting for pages.
    pub(super) fn stalled(&self) -> VcpuSeconds {
        VcpuSeconds::new(self.waited.stalled * 1e-9).unwrap_or(VcpuSeconds::ZERO)
    }

    /// From the guest's first instruction at the destination to the first that brought it on.
    pub(super) fn first_pages(&self) -> Duration {
        Duration::from_nanos(self.waited.unseen.ceil() as u64)
    }

    pub(super) fn requests(&self) -> u64 {
        (self.waited.requests + 0.5) as u64
    }
}

/// What several guests waited for.
#[derive(Clone, Debug, Default)]
struct Sum {
    /// Of each the time until it was seen.
    unseen: Vec<f64>,
    /// Of those that ran on, and how many those are.
    stalled: f64,
    requests: f64,
    whole: f64,
}

impl Sum {
    fn mean(&self) -> Waited {
        let [stalled, requests] = [self.stalled, self.requests].map(|sum| sum / self.whole);
        Waited { stalled, unseen: mean(&self.unseen), requests }
    }

    /// Whether they lie so far apart that the mean of so many may be off by more than the bounds. (The error is that of
    /// the means of groups: places of writers in turn are evenly spread over each, so single ones differ by more.)
    fn is_wide(&self) -> bool {
        let size = self.unseen.len() / GROUPS;
        let groups: Vec<f64> = self.unseen.chunks_exact(size.max(1)).map(mean).collect();
        let (mean, count) = (mean(&groups), groups.len() as f64);
        let variance = groups.iter().map(|group| (group - mean).powi(2)).sum::<f64>() / count;
        let error = (variance / (count - 1.0)).sqrt();
        error > (ensemble::BOUNDS[1] * mean).max(ensemble::LEAST * 1e9)
    }
}

fn mean(of: &[f64]) -> f64 {
    of.iter().sum::<f64>() / of.len() as f64
}

impl World {
    /// The destination is told which pages it lacks: a bit a page.
    pub(in super::super) fn leave_behind(&mut self) -> ByteCount {
        let missing = self.field.missing();
        self.post_copy = Some(Box::new(PostCopy { missing, ..PostCopy::default() }));
        ByteCount(self.guest.layout().numbers().div_ceil(8))
    }

    /// Sends what is missing.
    #[cold]
    pub(in super::super) fn transmit_behind(&mut self) {
        let now = nanos(self.now);
        self.wait_for_pages();
        let pending = self.source.backlog().expected().pages();
        let sent = self.sending.send(now, pending, Goal::Everything, &mut self.field, &mut self.link);
        let backlog = self.source.backlog_mut();
        backlog.take(Expected::new(f64::INFINITY));
        self.pages[0] += sent.pages;
        self.pages[1] += sent.zero;
        sent.tell((backlog.pending(), self.link.in_flight(sent.at)), &mut self.step.sent);
        self.begin_step(Ends::Sending, timestamp(sent.at));
    }

    /// What the guest will wait for, on average.
    fn wait_for_pages(&mut self) {
        let (Some(resumed), Some(terms)) = (self.runs_there, &self.terms.post_copy) else { return };
        let Some(post_copy) = &mut self.post_copy else { return };
        let missing = std::mem::take(&mut post_copy.missing);
        let costs = self.sending.costs();
        let now = nanos(self.now);
        let push = Push {
            page_bytes: costs.page_bytes,
            zero_bytes: costs.zero_bytes,
            rate: self.link.rate().min(self.sending.quota_rate()),
            copying: self.sending.copying_rate(),
            scanning: costs.zero,
            levels: self.link.levels(),
            batch: self.sending.batch(),
            way: self.terms.one_way.as_nanos() as f64,
            fault: self.terms.host.post_copy_fault.as_nanos() as f64,
            shared: terms.shared,
            from: now,
            drained: self.link.drained(now),
        };
        let forms = self.field.forms();
        let made = self.field.made_since();
        let laws = (0..self.guest.writers()).map(|writer| Ranks::of(&self.guest, writer, (&missing, &made)));
        let laws: Vec<Option<Ranks>> = laws.collect();
        let mixes = self.field.mixes(&laws);
        let guest = |number| {
            let of = (&self.guest, &terms.guest);
            Lacking::new(of, (resumed, number), push, missing.clone(), (&forms, &laws, mixes.clone(), &made))
        };
        // Of an ensemble each member has one guest.
        let member = self.sending.dice.as_ref().map(Dice::member);
        let mut sum = Sum::default();
        for number in member.map_or(0..GUESTS[1], |member| member..member + 1) {
            if number % GUESTS[0] == 0 && number > 0 && member.is_none() && !sum.is_wide() {
                break;
            }
            let only_seen = sum.requests > REQUESTS;
            let Waited { stalled, unseen, requests } = guest(number).run(only_seen);
            sum.unseen.push(unseen);
            if !only_seen {
                (sum.stalled, sum.requests) = (sum.stalled + stalled, sum.requests + requests);
                sum.whole += 1.0;
            }
        }
        post_copy.waited = sum.mean();
        if member.is_none() && sum.is_wide() {
            self.watch.hangs_on(self.source.controller().progress(), 0.0, self.variance);
            self.watch.see_a_threshold();
        }
    }

    /// The time limit is over while the destination lacks pages.
    pub(super) fn is_out_of_time(&self) -> bool {
        let up = self.post_copy.as_ref().is_some_and(|post_copy| post_copy.time_is_up);
        up && self.source.phase() == SourcePhase::PostCopy
    }

    /// In post-copy the world knows better than the source how it ended.
    pub(super) fn end_in_post_copy(&self) -> Option<(Outcome, &'static str)> {
        let lacks_pages = self.source.phase() == SourcePhase::PostCopy
            && self.destination.phase() == DestinationPhase::Filling;
        if self.is_out_of_time() {
            let why =
                "the time limit was reached in post-copy: the guest runs at the destination and lacks pages";
            Some((Outcome::TimedOut, why))
        } else if lacks_pages && !self.connected {
            let why = "the connection was lost in post-copy: the guest lacks pages that only the source has";
            Some((Outcome::GuestLost, why))
        } else {
            None
        }
    }
}
