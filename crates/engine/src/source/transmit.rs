//! Sending what is pending: pages are taken from the backlog and dealt to the page streams.
//!
//! A page goes by the stream that its number says, always: in order, whatever the others do. Pages of one stream are gathered
//! until they are worth a job. Events are looked at wherever streams are waited for, so that a cancel is not held up; if the
//! machine then wants something else, sending ends early, which it expects.

use std::ops::RangeInclusive;
use std::time::Duration;

use whimbrel_core::controller::Transmitted;
use whimbrel_core::dirty::Backlog;
use whimbrel_core::layout::{PageNumber, PageRun, PageSize};
use whimbrel_core::machine::{SourceEvent, SourcePhase, Transmit};
use whimbrel_core::policy::RateLimit;
use whimbrel_core::progress::Progress;
use whimbrel_core::units::{Bandwidth, ByteCount, Pages};
use whimbrel_wire::pages::{Encoded, Encoding, Pass, SHARD_PAGES, Sharding};

use super::driver::Driver;
use super::pages::{PageStreams, Passing};
use crate::stable::AHEAD;

/// The fewest pages that are worth a job of their own, and the most of one.
const JOB: RangeInclusive<u64> = 16..=2048;

/// Pages of a job while nobody knows what a stream carries.
const FIRST_JOB: u64 = 64;

/// How long a job should take. A few of them are dealt ahead: a guest that is paused waits for these, and no policy sees them.
const JOB_TIME: Duration = Duration::from_millis(2);

/// Pages on their way from the backlog to the streams.
#[derive(Debug)]
pub(super) struct Dealing {
    sharding: Sharding,
    /// For each stream what is not a job yet.
    gathered: Vec<Gathered>,
    /// The pass that pages now belong to.
    passing: Passing,
    /// What was handed over since the machine was told last.
    tally: Encoded,
    /// The same since the beginning.
    total: Encoded,
}

#[derive(Debug, Default)]
struct Gathered {
    runs: Vec<PageRun>,
    pages: u64,
    /// The pass that all of them belong to.
    passing: Passing,
}

/// How dealing went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dealt {
    /// There may be more.
    Some,
    /// A stream has to hand something over first.
    NoRoom,
    /// Nothing is pending, and all of it was dealt.
    All,
}

impl Dealing {
    pub(super) fn new(sharding: Sharding, streams: u16) -> Self {
        let gathered = (0..streams).map(|_| Gathered::default()).collect();
        Self {
            sharding,
            gathered,
            passing: Passing::default(),
            tally: Encoded::default(),
            total: Encoded::default(),
        }
    }

    /// Counts what a stream has handed over.
    pub(super) fn count(&mut self, tally: Encoded) {
        self.tally += tally;
        self.total += tally;
    }

    /// What was handed over since the beginning.
    pub(super) fn total(&self) -> Encoded {
        self.total
    }

    /// Forgets what was not dealt: there is nobody to send it.
    pub(super) fn clear(&mut self) {
        self.gathered.iter_mut().for_each(|gathered| *gathered = Gathered::default());
    }

    /// Takes a run from the backlog and deals out what has become a job.
    fn deal(&mut self, backlog: &mut Backlog, streams: &mut PageStreams, job: u64) -> Dealt {
        // What an earlier pass has left: a page must not come twice in one job.
        let earlier = |gathered: &Gathered| gathered.pages > 0 && gathered.passing != self.passing;
        if let Some(earlier) = self.gathered.iter().position(earlier) {
            return self.hand_over(earlier, streams);
        }
        if let Some(full) = self.gathered.iter().position(|gathered| gathered.pages >= job) {
            return self.hand_over(full, streams);
        }
        if let Some(run) = backlog.take_run(Pages(job)) {
            // One stream carries all: then what belongs together stays together.
            let shard = if self.gathered.len() == 1 { u64::MAX } else { SHARD_PAGES };
            for part in parts(run, shard) {
                let stream = usize::from(self.sharding.stream_of(part.first));
                if let Some(gathered) = self.gathered.get_mut(stream) {
                    gathered.passing = self.passing;
                    gathered.pages += part.count.0;
                    gathered.runs.push(part);
                }
            }
            return Dealt::Some;
        }
        match self.gathered.iter().position(|gathered| gathered.pages > 0) {
            Some(rest) => self.hand_over(rest, streams),
            None => Dealt::All,
        }
    }

    fn hand_over(&mut self, stream: usize, streams: &mut PageStreams) -> Dealt {
        if !streams.has_room(stream) {
            return Dealt::NoRoom;
        }
        if let Some(gathered) = self.gathered.get_mut(stream) {
            let Gathered { runs, passing, .. } = std::mem::take(gathered);
            streams.send(stream, runs, passing);
        }
        Dealt::Some
    }
}

/// A run in parts that each go by one stream: none reaches beyond a multiple of `shard`.
fn parts(run: PageRun, shard: u64) -> impl Iterator<Item = PageRun> {
    let (mut first, end) = (run.first.0, run.end().0);
    std::iter::from_fn(move || {
        let next = (first / shard + 1).saturating_mul(shard).min(end);
        let part = PageRun { first: PageNumber(first), count: Pages(next.saturating_sub(first)) };
        first = next;
        (part.count.0 > 0).then_some(part)
    })
}

/// What is carried, as far as that is known. `sent` is what went in this slice until now: in a bulk round nothing else is known.
fn carried(progress: &Progress, limit: RateLimit, sent: Option<Bandwidth>) -> Option<Bandwidth> {
    let limit = match limit {
        RateLimit::AtMost(limit) => Some(limit),
        RateLimit::Unlimited => None,
    };
    [progress.bandwidth.or(sent), limit].into_iter().flatten().min()
}

/// Pages of a job: what a stream carries in the time of one.
fn job(carried: Option<Bandwidth>, page_size: PageSize, streams: usize) -> u64 {
    let Some(rate) = carried else { return FIRST_JOB };
    let bytes = rate.as_f64() * JOB_TIME.as_secs_f64();
    let pages = bytes / streams.max(1) as f64 / page_size.bytes().0 as f64;
    (pages as u64).clamp(*JOB.start(), *JOB.end())
}

impl Driver<'_> {
    /// Sends pending pages until none is left or the slice is over.
    pub(super) fn transmit(&mut self, transmit: Transmit) {
        let mut counting = self.spent.count();
        let until = transmit.slice.map(|slice| self.clock_now().saturating_add(slice));
        let asked = self.machine.phase();
        let round = self.machine.round_count();
        let pass = match round {
            _ if transmit.last => Pass::Last,
            0 | 1 => Pass::Bulk,
            _ => Pass::Round,
        };
        self.dealing.passing = Passing { round, pass };
        let began = self.clock_now();
        let mut near = false;
        while self.machine.phase() == asked {
            let sent = Bandwidth::measured(self.dealing.tally.bytes, self.clock_now().since(began));
            let count = self.pages.as_ref().map_or(1, PageStreams::count);
            let progress = self.machine.controller().progress();
            let page_size = progress.page_size;
            let carried = carried(progress, self.limiter.limit(), sent);
            let job = job(carried, page_size, count);
            let Some(streams) = &mut self.pages else { break };
            let dealt = self.dealing.deal(self.machine.backlog_mut(), streams, job);
            let over = until.is_some_and(|until| self.clock_now() >= until);
            // When nothing is pending the machine takes it that everything was sent, and ends the round.
            let pending = self.machine.backlog().pending();
            let drained = pending == Pages(0);
            let left = page_size.bytes().0.saturating_mul(pending.0);
            let soon = carried.is_some_and(|rate| rate.time_to_send(ByteCount(left)) <= AHEAD);
            if (soon || dealt == Dealt::All) && !std::mem::replace(&mut near, true) {
                // When this is sent the guest may be paused.
                self.record_is_near();
            }
            match dealt {
                Dealt::Some if over && !drained => break,
                Dealt::Some => {}
                Dealt::All if self.pages.as_ref().is_none_or(PageStreams::are_idle) => break,
                Dealt::NoRoom if over && !drained => break,
                Dealt::All | Dealt::NoRoom => {
                    // Whatever is heard, and told to the observer, is not sending.
                    drop(counting);
                    self.wait(until.filter(|_| !drained));
                    counting = self.spent.count();
                }
            }
        }
        drop(counting);
        if self.machine.backlog().pending() == Pages(0) && !transmit.last {
            self.hash(asked);
        }
        self.transmitted();
    }

    /// A round is over when it is hashed, too, if a digest is kept: what the guest writes from here on is then all that is left to
    /// hash when it stands still.
    fn hash(&mut self, asked: SourcePhase) {
        while self.machine.phase() == asked && self.hash_some() {
            self.wait(Some(self.clock_now()));
        }
    }

    fn transmitted(&mut self) {
        let in_flight = self.in_flight();
        let tally = std::mem::take(&mut self.dealing.tally);
        let (pages, zero, bytes) = (tally.pages, tally.of(Encoding::Zero).pages, tally.bytes);
        let pending = self.machine.backlog().pending();
        let sent = Transmitted { pages, zero, bytes, pending, skipped: Pages(0), in_flight };
        self.tell(SourceEvent::Transmitted(sent));
        self.show_progress();
    }

    /// Bytes that the system has taken and not carried yet.
    pub(super) fn in_flight(&self) -> Option<ByteCount> {
        self.pages.as_ref().and_then(PageStreams::unsent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_split_where_another_stream_may_carry_on() {
        let run = |first, count| PageRun { first: PageNumber(first), count: Pages(count) };
        let shards = |run| parts(run, SHARD_PAGES).collect::<Vec<_>>();
        assert_eq!(shards(run(60, 80)), [run(60, 4), run(64, 64), run(128, 12)]);
        assert_eq!(shards(run(64, 64)), [run(64, 64)]);
        assert_eq!(parts(run(60, 80), u64::MAX).collect::<Vec<_>>(), [run(60, 80)]);
    }
}
