//! The named generator, one stream for each component of a simulation.
//!
//! Every part that draws random numbers gets a stream of its own, derived from the run's seed and the
//! part's name. Adding a part therefore shifts no other, and a golden run stays what it was. Nothing here
//! may depend on the machine, the time or the order in which streams are made.

pub(super) use rand_core::Rng;
use rand_core::SeedableRng;

use super::touch::unit;

/// The generator of all simulations: xoshiro256++ of Blackman and Vigna (2019), 256 bits of state.
///
/// Named, because a generator that a library may exchange would change every result.
pub type Generator = rand_xoshiro::Xoshiro256PlusPlus;

/// 2⁶⁴ divided by the golden ratio: the step of `SplitMix64`.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of `SplitMix64` (Steele, Lea and Flood 2014): a bijection that spreads every bit.
pub(super) fn spread(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The stream of `component` in the run with `seed`.
///
/// The name is hashed with 64-bit FNV-1a, added to the spread seed, and the sum seeds a `SplitMix64`
/// whose first four outputs are the state. This derivation is part of every result: it never changes.
pub fn stream(seed: u64, component: &str) -> Generator {
    let name = component.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut state = spread(seed.wrapping_add(STEP)).wrapping_add(name);
    let mut bytes = [0; 32];
    for part in bytes.chunks_exact_mut(8) {
        state = state.wrapping_add(STEP);
        part.copy_from_slice(&spread(state).to_le_bytes());
    }
    Generator::from_seed(bytes)
}

/// A number below `bound`, all equally likely; `bound` must not be zero.
///
/// Lemire's multiplication with rejection (2019), so exactly even.
pub(super) fn below(rng: &mut Generator, bound: u64) -> u64 {
    let mut product = u128::from(rng.next_u64()) * u128::from(bound);
    if (product as u64) < bound {
        let least = bound.wrapping_neg() % bound;
        while (product as u64) < least {
            product = u128::from(rng.next_u64()) * u128::from(bound);
        }
    }
    (product >> 64) as u64
}

/// A normal number with mean zero and deviation one, by Box and Muller.
pub(crate) fn normal(rng: &mut Generator) -> f64 {
    let radius = (-2.0 * (1.0 - unit(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(rng)).cos()
}

/// Brings `items` into a random order, all orders equally likely.
pub(super) fn shuffle<T>(rng: &mut Generator, items: &mut [T]) {
    for index in (1..items.len()).rev() {
        items.swap(index, below(rng, index as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_same_for_ever() {
        let mut first = stream(0, "guest.writer.0");
        let drawn = [first.next_u64(), first.next_u64()];
        assert_eq!(drawn, [13_829_973_008_093_945_836, 6_593_484_179_618_242_184]);
    }

    #[test]
    fn neither_seeds_nor_names_share_a_stream() {
        let mut seen = Vec::new();
        for seed in 0..50 {
            for name in ["a", "b", "guest.writer.0", "guest.writer.1"] {
                seen.push(stream(seed, name).next_u64());
            }
        }
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }
}
