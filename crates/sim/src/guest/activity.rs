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
    /// Of the busy and of the quiet phases.
    sums: [Sums; 2],
    /// Ticks in a block.
    block: f64,
    /// Where in the levels each block begins.
    starts: Vec<u32>,
}

/// Levels, added up.
#[derive(Clone, Debug)]
struct Sums {
    /// The sum before each tick, and that of all.
    levels: Vec<f64>,
    /// What was done before each block, and in all of them.
    blocks: Vec<f64>,
}

impl Path {
    /// Draws the blocks.
    pub(super) fn new(activity: &Activity, rng: &mut Generator) -> Self {
        let ticks = activity.busy.len().max(1) as u64;
        let starts: Vec<u32> = (0..BLOCKS).map(|_| below(rng, ticks) as u32).collect();
        let block = f64::from(activity.block.max(1));
        let sums = [&activity.busy, &activity.quiet].map(|levels| Sums::new(levels, &starts, block));
        Self { sums, block, starts }
    }

    /// What is done in `ticks` ticks from the beginning in busy and in quiet phases, in units of a tick at
    /// average activity.
    pub(super) fn done(&self, ticks: f64) -> [f64; 2] {
        let blocks = (ticks / self.block).floor();
        let inside = ticks - blocks * self.block;
        let rounds = (blocks / BLOCKS as f64).floor();
        // Below BLOCKS.
        let index = (blocks - rounds * BLOCKS as f64) as usize;
        let done = |sums: &Sums| {
            rounds * sums.blocks[BLOCKS] + sums.blocks[index] + sums.within(self.starts[index], inside)
        };
        [done(&self.sums[0]), done(&self.sums[1])]
    }
}

impl Sums {
    fn new(levels: &[f64], starts: &[u32], block: f64) -> Self {
        let running = |mut sum: f64, values: &mut dyn Iterator<Item = f64>| {
            let sums = std::iter::once(sum).chain(values.map(|value| {
                sum += value;
                sum
            }));
            sums.collect::<Vec<f64>>()
        };
        let mut sums = Self { levels: running(0.0, &mut levels.iter().copied()), blocks: Vec::new() };
        sums.blocks = running(0.0, &mut starts.iter().map(|&start| sums.within(start, block)));
        sums
    }

    /// What is done in the first `ticks` of a block that begins at `start`.
    fn within(&self, start: u32, ticks: f64) -> f64 {
        let start = f64::from(start);
        self.since_first(start + ticks) - self.since_first(start)
    }

    /// What is done in `ticks` from the first level on, round and round.
    fn since_first(&self, ticks: f64) -> f64 {
        let levels = self.levels.len() - 1;
        if levels == 0 {
            return ticks;
        }
        let rounds = (ticks / levels as f64).floor();
        let inside = ticks - rounds * levels as f64;
        let index = (inside as usize).min(levels - 1);
        let level = self.levels[index + 1] - self.levels[index];
        rounds * self.levels[levels] + self.levels[index] + level * (inside - index as f64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::rng::stream;
    use super::*;

    fn path(levels: &[f64], block: u32, seed: u64) -> Path {
        let quiet = levels.iter().rev().copied().collect();
        let activity = Activity { tick: Duration::from_millis(50), busy: levels.to_vec(), quiet, block };
        Path::new(&activity, &mut stream(seed, "path"))
    }

    #[test]
    fn an_even_activity_is_time() {
        for block in [1, 3, 100] {
            let path = path(&[1.0; 7], block, 1);
            for ticks in [0.0, 0.3, 1.0, 99.99, 1e4, 1e7] {
                assert!(path.done(ticks).iter().all(|done| (done - ticks).abs() < 1e-9 * (1.0 + ticks)));
            }
        }
    }

    #[test]
    fn every_tick_has_a_measured_level_and_within_a_block_the_next_one() {
        let levels = [0.0, 0.5, 1.0, 1.5, 2.0];
        let path = path(&levels, 4, 2);
        let level = |tick: f64| path.done(tick + 1.0)[0] - path.done(tick)[0];
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
            let done = one.done(f64::from(step) * 0.37)[0];
            assert!(done >= last - 1e-9, "{step}");
            last = done;
        }
        let same = |seed, at: f64| one.done(at)[0].to_bits() == path(&levels, 3, seed).done(at)[0].to_bits();
        assert!(same(3, 12.3));
        assert!((0..20).any(|tick| !same(4, f64::from(tick))));
    }
}
