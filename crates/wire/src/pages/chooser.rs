//! Which compressor, if any: from what it was seen to save and to cost, and from how fast the link is.
//!
//! Owned by the encoder, which asks before each batch and tells what each compressed group came to. It has no clock and
//! no dice: told the same, it decides the same.
//!
//! # The rule
//!
//! A byte of guest memory sent in encoding e takes the stream
//!
//! ```text
//! time(e) = ratio(e) / bandwidth + cost(e)          time(raw) = 1 / bandwidth
//! ```
//!
//! with ratio(e) bytes sent for one of memory and cost(e) seconds of one core; the least wins. So an encoding is worth it
//! exactly if what it saves, times what a byte takes on the link, is more than what it costs. That is the whole time of a page that
//! is packed first and sent then, by one thread, as a page stream does; nothing is fitted. Where packing and sending
//! overlap, the slower of both sets the pace, and the sum is at most twice that: then it packs too little rather than too much.
//! What unpacking costs the destination is not counted: LZ4 and Zstandard unpack three times as fast as they pack
//! (`docs/benchmarks.md`).
//!
//! The ratio is the mean of what was seen, each new group counting one eighth; the cost is the median of the last [`RECENT`] groups, because
//! an interruption only ever adds to it, and may add twenty times what the group took. The first group of a compressor tells no cost: it
//! makes the compressor's memory as well. They are of pages that are not
//! zero and whose sample shows some order (`sample.rs`). Before anything was seen they are the assumptions below.
//!
//! # Trying
//!
//! What is not used is not measured. So in every [`EVERY`]th batch one small group ([`TRY_BYTES`]) is packed by a compressor
//! whose turn it is, whatever the rule says; in the first batches each has two turns at once: the first tells no
//! cost. At 64 batches of 512 KiB and 16 KiB in 50 us, that is 1 % of the time of a link of 6 GiB/s.
//!
//! # Differences
//!
//! A delta cache costs the copy and the comparison of every page, those too that it does not have. A round in which any page was
//! found is judged at its end: if the bytes saved, times what a byte takes on the link, are less than the time that all its
//! pages took, the next [`REST`] rounds do without; then two rounds fill the cache and are judged anew. Saved is what the
//! page would have been packed, less its delta. Where pages are copied anyway that time is counted as well, so it gives up a
//! little early.
//!
//! # How it degrades
//!
//! * Without a bandwidth, or with an enormous one: raw, but for the tries.
//! * Without a clock: costs stay as assumed; ratios are measured; differences are always kept.
//! * Interrupted in every second group, or by a clock that runs on while another thread has the processor: what is packed looks dear, is
//!   left, and is then measured by tries alone.
//! * A bandwidth that contains the time of packing makes the link look slow and packing cheap. The driver must measure
//!   bytes against the time spent in sending alone.
//! * Content that changes from batch to batch is judged by its mean; what a group really came to decides whether it is
//!   sent packed.

use std::time::Duration;

use whimbrel_core::units::Bandwidth;

use super::{Encoding, Encodings};

/// One batch in so many has a group that is only tried.
const EVERY: u64 = 64;
/// Bytes of a group that is only tried.
pub(super) const TRY_BYTES: usize = 16 << 10;
/// Rounds without differences after one in which they did not pay.
const REST: u32 = 6;
/// The weight of a new ratio.
const WEIGHT: f64 = 0.125;
/// Groups of which the cost in the middle counts.
const RECENT: usize = 8;

/// A compressor as it was seen so far.
#[derive(Clone, Copy, Debug)]
struct Arm {
    encoding: Encoding,
    /// Bytes out for one in.
    ratio: f64,
    /// Nanoseconds a byte in.
    cost: f64,
    /// What the last groups cost.
    recent: [f64; RECENT],
    /// Groups whose cost was seen.
    timed: usize,
    /// Groups that were packed.
    seen: usize,
}

impl Arm {
    const fn assumed(encoding: Encoding, ratio: f64, cost: f64) -> Self {
        Self { encoding, ratio, cost, recent: [0.0; RECENT], timed: 0, seen: 0 }
    }

    /// A group cost so many nanoseconds a byte.
    fn took(&mut self, cost: f64) {
        self.recent[self.timed % RECENT] = cost;
        self.timed += 1;
        let mut sorted = self.recent;
        let known = &mut sorted[..self.timed.min(RECENT)];
        known.sort_unstable_by(f64::total_cmp);
        // Of two in the middle, the one with less of what interrupted it.
        self.cost = known[(known.len() - 1) / 2];
    }

    /// Whether it is known from more than its first group.
    fn is_known(&self) -> bool {
        self.seen > 1
    }
}

/// Assumed until seen: half the bytes at 500 MB/s, and what QEMU's documentation measured of zstd on the Silesia corpus
/// (`docs/mechanisms.md`): 0.373 at 355 MB/s a thread.
const ASSUMED: [Arm; 2] = [Arm::assumed(Encoding::Lz4, 0.5, 2.0), Arm::assumed(Encoding::Zstd, 0.373, 2.82)];

/// What to do with the pages of a batch that are neither zero nor known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// What the rule says: raw, lz4 or zstd.
    pub(super) encoding: Encoding,
    /// One group is packed in this way whatever the rule says.
    pub(super) attempt: Option<Encoding>,
    /// Pages whose sample shows no order are not packed.
    pub(super) sample: bool,
}

/// What differences saved and took in the round that is under way.
#[derive(Clone, Copy, Debug, Default)]
struct Differences {
    found: u64,
    /// Bytes.
    saved: f64,
    /// Nanoseconds; none if nobody measured them.
    took: Option<f64>,
    /// Rounds still to come without.
    rest: u32,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Chooser {
    arms: Vec<Arm>,
    /// Nanoseconds a byte on the link.
    byte: Option<f64>,
    batches: u64,
    tries: usize,
    differences: Differences,
}

impl Chooser {
    /// One that may choose of `encodings`.
    pub(super) fn new(encodings: Encodings) -> Self {
        let arms = ASSUMED.into_iter().filter(|arm| encodings.contains(arm.encoding)).collect();
        Self { arms, byte: None, batches: 0, tries: 0, differences: Differences::default() }
    }

    /// What the stream carries while it is not kept waiting for bytes.
    pub(super) fn set_bandwidth(&mut self, bandwidth: Option<Bandwidth>) {
        self.byte = bandwidth.map(|bandwidth| 1e9 / bandwidth.as_f64());
    }

    /// For the next batch.
    pub(super) fn plan(&mut self) -> Plan {
        let best = self.best();
        let first = self.arms.iter().position(|arm| !arm.is_known());
        let due = self.batches.is_multiple_of(EVERY).then_some(self.tries).or(first);
        let attempt =
            due.and_then(|turn| self.arms.get(turn % self.arms.len().max(1))).map(|arm| arm.encoding);
        self.batches += 1;
        if self.batches % EVERY == 1 {
            self.tries = self.tries.wrapping_add(1);
        }
        // What is used anyway is measured anyway.
        Plan { encoding: best, attempt: attempt.filter(|attempt| *attempt != best), sample: true }
    }

    fn best(&self) -> Encoding {
        let Some(byte) = self.byte else { return Encoding::Raw };
        let time = |arm: &Arm| arm.ratio * byte + arm.cost;
        let least = self.arms.iter().min_by(|one, other| time(one).total_cmp(&time(other)));
        least.filter(|arm| time(arm) < byte).map_or(Encoding::Raw, |arm| arm.encoding)
    }

    /// A round begins: says whether it is one with differences.
    pub(super) fn begin_round(&mut self) -> bool {
        let Differences { found, saved, took, rest } = std::mem::take(&mut self.differences);
        let paid = self.byte.zip(took).is_none_or(|(byte, took)| saved * byte >= took);
        self.differences.rest = if found > 0 && !paid { REST } else { rest.saturating_sub(1) };
        self.differences.rest == 0
    }

    /// Pages of which `found` were found, `saved` bytes in all, took so much time.
    pub(super) fn learn_differences(&mut self, found: u64, saved: f64, took: Option<Duration>) {
        let now = &mut self.differences;
        now.found += found;
        now.saved += saved;
        now.took = took.map(|took| now.took.unwrap_or(0.0) + took.as_nanos() as f64).or(now.took);
    }

    /// The most bytes for one of memory at which something else than `encoding` is better: what it saved so far.
    pub(super) fn ratio(&self, encoding: Encoding) -> f64 {
        self.arms.iter().find(|arm| arm.encoding == encoding).map_or(1.0, |arm| arm.ratio)
    }

    /// A group of `memory` bytes became `packed`, in so much time if somebody measured it.
    pub(super) fn learn(&mut self, encoding: Encoding, memory: usize, packed: usize, took: Option<Duration>) {
        let Some(arm) = self.arms.iter_mut().find(|arm| arm.encoding == encoding && memory > 0) else {
            return;
        };
        let weight = if arm.seen > 0 { WEIGHT } else { 1.0 };
        arm.ratio += weight * (packed.min(memory) as f64 / memory as f64 - arm.ratio);
        if let Some(took) = took.filter(|_| arm.seen > 0) {
            arm.took(took.as_nanos() as f64 / memory as f64);
        }
        arm.seen += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chooser() -> Chooser {
        Chooser::new(Encodings::PLAIN.with(Encoding::Lz4).with(Encoding::Zstd))
    }

    fn see(chooser: &mut Chooser, encoding: Encoding, ratio: f64, nanos_a_byte: f64) {
        for _ in 0..100 {
            let took = Duration::from_nanos((nanos_a_byte * 1e6) as u64);
            chooser.learn(encoding, 1_000_000, (ratio * 1e6) as usize, Some(took));
        }
    }

    fn at(chooser: &mut Chooser, mb_per_second: u64) -> Encoding {
        chooser.set_bandwidth(Bandwidth::new(mb_per_second * 1_000_000));
        chooser.plan().encoding
    }

    #[test]
    fn the_slower_the_link_the_harder_it_packs() {
        let mut chooser = chooser();
        see(&mut chooser, Encoding::Lz4, 0.5, 2.0);
        see(&mut chooser, Encoding::Zstd, 0.4, 4.0);
        // lz4 is worth it from 0.5/B > 2 ns on, zstd before it from 0.1/B > 2 ns on.
        assert_eq!(at(&mut chooser, 260), Encoding::Raw);
        assert_eq!(at(&mut chooser, 240), Encoding::Lz4);
        assert_eq!(at(&mut chooser, 55), Encoding::Lz4);
        assert_eq!(at(&mut chooser, 45), Encoding::Zstd);
    }

    #[test]
    fn what_does_not_pack_is_sent_as_it_is_and_tried_again() {
        let mut chooser = chooser();
        see(&mut chooser, Encoding::Lz4, 1.0, 1.0);
        see(&mut chooser, Encoding::Zstd, 1.0, 1.0);
        assert_eq!(at(&mut chooser, 10), Encoding::Raw);
        let tried: Vec<_> = (0..4 * EVERY).filter_map(|_| chooser.plan().attempt).collect();
        assert_eq!(tried.len(), 4);
        assert!(tried.contains(&Encoding::Lz4) && tried.contains(&Encoding::Zstd), "{tried:?}");
        see(&mut chooser, Encoding::Lz4, 0.1, 1.0);
        assert_eq!(at(&mut chooser, 10), Encoding::Lz4);
    }

    #[test]
    fn without_a_bandwidth_nothing_is_packed_but_each_is_tried_at_once() {
        let mut chooser = chooser();
        let first = chooser.plan();
        assert_eq!((first.encoding, first.attempt), (Encoding::Raw, Some(Encoding::Lz4)));
        for _ in 0..2 {
            chooser.learn(Encoding::Lz4, 4096, 100, None);
        }
        assert_eq!(chooser.plan().attempt, Some(Encoding::Zstd));
        for _ in 0..2 {
            assert_eq!(chooser.plan().attempt, Some(Encoding::Zstd));
            chooser.learn(Encoding::Zstd, 4096, 100, None);
        }
        assert_eq!(chooser.plan().attempt, None);
    }

    #[test]
    fn neither_an_interruption_nor_the_first_group_makes_a_compressor_dear() {
        let mut chooser = chooser();
        let group = |chooser: &mut Chooser, encoding, nanos_a_byte: u64| {
            let ratio = if encoding == Encoding::Zstd { 0.5 } else { 0.6 };
            let packed = (ratio * 65_536.0) as usize;
            chooser.learn(encoding, 65_536, packed, Some(Duration::from_nanos(nanos_a_byte * 65_536)));
        };
        for first in [40, 1] {
            group(&mut chooser, Encoding::Lz4, first);
            group(&mut chooser, Encoding::Zstd, 2 * first);
        }
        assert_eq!(at(&mut chooser, 30), Encoding::Zstd, "33 ns a byte: 3.3 are saved, and 1 is paid");
        for took in [2, 2, 2, 30, 2, 45] {
            group(&mut chooser, Encoding::Zstd, took);
            assert_eq!(at(&mut chooser, 30), Encoding::Zstd, "after a group of {took} ns a byte");
        }
        for _ in 0..RECENT {
            group(&mut chooser, Encoding::Zstd, 6);
        }
        assert_eq!(at(&mut chooser, 30), Encoding::Lz4, "it is dear by now");
    }

    #[test]
    fn differences_that_do_not_pay_rest_and_are_tried_again() {
        let mut chooser = chooser();
        chooser.set_bandwidth(Bandwidth::new(1_000_000_000));
        // A nanosecond a byte: 1000 saved are worth 1 us.
        let mut round = |found, saved, micros| {
            chooser.learn_differences(found, saved, Some(Duration::from_micros(micros)));
            chooser.begin_round()
        };
        assert!(round(1, 1000.0, 1));
        assert!(round(0, 0.0, 100), "nothing was found: the cache fills");
        assert!(!round(1, 999.0, 1));
        let rested = (0..20).take_while(|_| !round(0, 0.0, 0)).count();
        assert_eq!(rested as u32, REST - 1);
        assert!(round(1, 2000.0, 1));
        chooser.set_bandwidth(None);
        chooser.learn_differences(1, 0.0, Some(Duration::from_secs(1)));
        assert!(chooser.begin_round(), "a link that nobody knows");
        chooser.set_bandwidth(Some(Bandwidth::FASTEST));
        chooser.learn_differences(1, 0.0, None);
        assert!(chooser.begin_round(), "a cost that nobody knows");
    }

    #[test]
    fn with_nothing_to_choose_from_it_is_raw() {
        let mut chooser = Chooser::new(Encodings::PLAIN);
        chooser.set_bandwidth(Some(Bandwidth::SLOWEST));
        for _ in 0..200 {
            let plan = chooser.plan();
            assert_eq!((plan.encoding, plan.attempt), (Encoding::Raw, None));
        }
    }
}
