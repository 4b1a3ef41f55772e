//! How busy a measured program is over time, as a sum: how much it did up to any point of its own time.
//!
//! Owned by the shape of a measured writer. Made once from the run's seed and only read afterwards, so asking
//! changes nothing and costs the same whenever it is asked.

use super::rng::{Generator, below};
use crate::config::Activity;

/// Blocks that are drawn; behind the last one the first comes again.
const BLOCKS: usize = 512;

/// Random blocks of the measured levels, one behind another.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// Sums of the levels before each tick, and of all.
    sums: Vec<f64>,
    /// Ticks in a block.
    block: f64,
    /// Where in the levels each block begins.
    starts: Vec<u32>,
    /// What was done before each block, and in all of them.
    before: Vec<f64>,
}

impl Path {
    /// Draws the blocks.
    pub(super) fn new(activity: &Activity, rng: &mut Generator) -> Self {
        let mut sum = 0.0;
        let sums: Vec<f64> = std::iter::once(0.0)
            .chain(activity.levels.iter().map(|level| {
                sum += level;
                sum
            }))
            .collect();
        let ticks = activity.levels.len().max(1) as u64;
        let starts: Vec<u32> = (0..BLOCKS).map(|_| below(rng, ticks) as u32).collect();
        let block = f64::from(activity.block.max(1));
        let mut path = Self { sums, block, starts, before: vec![0.0] };
        let mut sum = 0.0;
        for index in 0..BLOCKS {
            sum += path.within(index, path.block);
            path.before.push(sum);
        }
        path
    }

    /// What is done in `ticks` ticks from the beginning, in units of a tick at average activity.
    pub(super) fn done(&self, ticks: f64) -> f64 {
        let blocks = (ticks / self.block).floor();
        let inside = ticks - blocks * self.block;
        let rounds = (blocks / BLOCKS as f64).floor();
        // Below BLOCKS.
        let index = (blocks - rounds * BLOCKS as f64) as usize;
        rounds * self.before[BLOCKS] + self.before[index] + self.within(index, inside)
    }

    /// What is done in the first `ticks` of a block.
    fn within(&self, index: usize, ticks: f64) -> f64 {
        let start = f64::from(self.starts[index]);
        self.since_first(start + ticks) - self.since_first(start)
    }

    /// What is done in `ticks` from the first level on, round and round.
    fn since_first(&self, ticks: f64) -> f64 {
        let levels = self.sums.len() - 1;
        if levels == 0 {
            return ticks;
        }
        let rounds = (ticks / levels as f64).floor();
        let inside = ticks - rounds * levels as f64;
        let index = (inside as usize).min(levels - 1);
        let level = self.sums[index + 1] - self.sums[index];
        rounds * self.sums[levels] + self.sums[index] + level * (inside - index as f64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::rng::stream;
    use super::*;

    fn path(levels: &[f64], block: u32, seed: u64) -> Path {
        let activity = Activity { tick: Duration::from_millis(50), levels: levels.to_vec(), block };
        Path::new(&activity, &mut stream(seed, "path"))
    }

    #[test]
    fn an_even_activity_is_time() {
        for block in [1, 3, 100] {
            let path = path(&[1.0; 7], block, 1);
            for ticks in [0.0, 0.3, 1.0, 99.99, 1e4, 1e7] {
                assert!((path.done(ticks) - ticks).abs() < 1e-9 * (1.0 + ticks), "{block} {ticks}");
            }
        }
    }

    #[test]
    fn every_tick_has_a_measured_level_and_within_a_block_the_next_one() {
        let levels = [0.0, 0.5, 1.0, 1.5, 2.0];
        let path = path(&levels, 4, 2);
        let level = |tick: f64| path.done(tick + 1.0) - path.done(tick);
        for block in 0..2000 {
            let at = |tick: u32| {
                let found = level(f64::from(block * 4 + tick));
                levels.iter().position(|level| (level - found).abs() < 1e-9).expect("a measured level")
            };
            for tick in 0..3 {
                assert_eq!(at(tick + 1), (at(tick) + 1) % 5, "block {block}");
            }
        }
    }

    #[test]
    fn the_sum_never_falls_and_blocks_differ_by_seed() {
        let levels = [0.1, 2.0, 0.9, 1.0];
        let one = path(&levels, 3, 3);
        let mut last = 0.0;
        for step in 0..20_000 {
            let done = one.done(f64::from(step) * 0.37);
            assert!(done >= last - 1e-9, "{step}");
            last = done;
        }
        assert_eq!(one.done(12.3).to_bits(), path(&levels, 3, 3).done(12.3).to_bits());
        assert!((0..20).any(|tick| (one.done(f64::from(tick)) - path(&levels, 3, 4).done(f64::from(tick))).abs() > 0.01));
    }
}
