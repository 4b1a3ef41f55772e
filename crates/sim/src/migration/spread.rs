//! What differs from one run to another, and from one slice to the next, beside the guest: drawn from the run's seed.
//!
//! Each part has a stream of random numbers of its own and draws nothing where its spread is zero, so that a
//! configuration without spreads has the results that it had before there were any.

use std::time::Duration;

use whimbrel_core::units::{ByteCount, Share};

use crate::guest::{Generator, normal, stream};

/// What the run with `seed` draws for a factor whose logarithm has the standard deviation `spread`; none without it.
pub(super) fn factor(spread: Share, seed: u64, component: &str) -> Option<f64> {
    let draw = || (spread.as_f64() * normal(&mut stream(seed, component))).exp();
    (spread > Share::ZERO).then(draw)
}

/// A count of bytes that is behind at each reading, more or less; it loses none and runs never ahead.
#[derive(Clone, Debug)]
pub(super) struct Count {
    /// Standard deviation, in nanoseconds of the link.
    jitter: f64,
    rng: Generator,
    /// Bytes that were sent and are not counted yet.
    held: u64,
}

/// How far behind a count is on average, in standard deviations: so far that it is hardly ever ahead.
const BEHIND: f64 = 3.0;

impl Count {
    pub(super) fn new(jitter: Duration, seed: u64) -> Self {
        Self { jitter: jitter.as_nanos() as f64, rng: stream(seed, "host.count"), held: 0 }
    }

    /// How much of `sent` further bytes and of those held back is counted at a reading, on a link that carries
    /// `rate` bytes a nanosecond.
    pub(super) fn read(&mut self, sent: ByteCount, rate: f64) -> ByteCount {
        if self.jitter <= 0.0 {
            return sent;
        }
        let behind = (BEHIND + normal(&mut self.rng)).max(0.0) * self.jitter * rate;
        let due = sent.0.saturating_add(self.held);
        // Saturates on a link that is faster than anything.
        self.held = (behind as u64).min(due);
        ByteCount(due - self.held)
    }

    /// All of them: a count at rest is exact.
    pub(super) fn settle(&mut self, sent: ByteCount) -> ByteCount {
        sent.saturating_add(ByteCount(std::mem::take(&mut self.held)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_of_zero_draws_nothing() {
        assert_eq!(factor(Share::ZERO, 1, "link.bandwidth"), None);
        let mut count = Count::new(Duration::ZERO, 1);
        assert_eq!(count.read(ByteCount(7), 1.0), ByteCount(7));
        assert_eq!(count.settle(ByteCount(7)), ByteCount(7));
    }

    #[test]
    fn factors_of_many_runs_have_the_spread_and_the_median_one() {
        let logs: Vec<f64> =
            (0..4000).map(|seed| factor(Share::percent(20), seed, "link.bandwidth").unwrap().ln()).collect();
        let mean = logs.iter().sum::<f64>() / 4000.0;
        let deviation = (logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / 4000.0).sqrt();
        assert!(mean.abs() < 0.012, "{mean}");
        assert!((deviation / 0.2 - 1.0).abs() < 0.04, "{deviation}");
    }

    #[test]
    fn a_count_is_more_and_less_behind_and_loses_nothing() {
        let mut count = Count::new(Duration::from_millis(2), 1);
        let (mut sent, mut told, mut behind) = (0, 0, Vec::new());
        for slice in 0..1000 {
            // Some slices send nearly nothing, and no count goes backwards.
            let bytes = if slice % 7 == 0 { 10 } else { 4_000_000 };
            sent += bytes;
            told += count.read(ByteCount(bytes), 0.067).0;
            assert!(told <= sent);
            if slice % 7 != 0 {
                behind.push((sent - told) as f64);
            }
        }
        told += count.settle(ByteCount(0)).0;
        assert_eq!(told, sent);
        let mean = behind.iter().sum::<f64>() / behind.len() as f64;
        let squares = behind.iter().map(|behind| (behind - mean).powi(2)).sum::<f64>();
        let deviation = (squares / behind.len() as f64).sqrt();
        assert!((mean / 402_000.0 - 1.0).abs() < 0.03, "{mean}");
        assert!((deviation / 134_000.0 - 1.0).abs() < 0.08, "{deviation}");
    }
}
