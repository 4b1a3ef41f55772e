//! Which page a write goes to, and what it leaves there.
//!
//! Both are functions of the registers alone, so that whoever has these can tell what memory must hold. The guest writes by them
//! and [`Expected`](super::Expected) plays them back: they are here once. They never change without a new version of the registers.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use rand_core::TryRng;
use rand_distr::{Distribution as _, Zipf};
use whimbrel_core::units::{Pages, Share};

use super::config::{Pattern, Writer};

/// Words of a line; a vCPU has one in every page.
pub(super) const LINE: usize = 8;

/// 2⁶⁴ divided by the golden ratio: the step of `SplitMix64` (Steele, Lea and Flood 2014).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of `SplitMix64`: a bijection that spreads every bit.
pub(super) fn spread(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// `SplitMix64`: its state is one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generator(pub(super) u64);

impl Generator {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        spread(self.0)
    }

    /// A number below `bound`, which is not zero. Even to within `bound` in 2⁶⁴.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from 0 to 1, in steps of 2⁻⁵³.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 * (-53_f64).exp2()
    }
}

impl TryRng for Generator {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.next() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.next())
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// The key of what part `part` of the guest with this seed writes.
pub(super) fn key(seed: u64, part: u64) -> u64 {
    spread(spread(seed).wrapping_add(part.wrapping_mul(STEP)))
}

/// Chooses pages as a pattern wants.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    set: Range<u64>,
    law: Law,
}

#[derive(Clone, Debug)]
enum Law {
    Uniform,
    Sequential,
    /// Pages from the beginning on that are hot, and the chance that a write goes there.
    HotCold(u64, f64),
    /// The law of ranks, and what scatters them: rank r is page `r·scatter` modulo the number of pages.
    Zipf(Zipf<f64>, u64),
}

impl Choice {
    /// For a writer whose configuration was checked.
    pub(super) fn new(writer: &Writer) -> Self {
        let pages = writer.pages.end - writer.pages.start;
        let law = match writer.pattern {
            Pattern::Uniform => Law::Uniform,
            Pattern::Sequential => Law::Sequential,
            Pattern::HotCold { hot_pages, hot_writes } => {
                let hot = hot_pages.of(Pages(pages)).0;
                // Both parts have a page, if their shares say so at all and there are two.
                let least = u64::from(hot_pages.as_f64() > 0.0);
                let most = if hot_pages.as_f64() < 1.0 { (pages - 1).max(1) } else { pages };
                let hot = hot.clamp(least, most);
                let chance = if hot == 0 {
                    0.0
                } else if hot == pages {
                    1.0
                } else {
                    hot_writes.as_f64()
                };
                Law::HotCold(hot, chance)
            }
            Pattern::Zipf { exponent } => match Zipf::new(pages as f64, exponent) {
                Ok(law) => Law::Zipf(law, scatter(pages)),
                // Not a number of pages or an exponent that the check lets through.
                Err(_) => Law::Uniform,
            },
        };
        Self { set: writer.pages.clone(), law }
    }

    /// The page of write number `number`, counted from zero.
    pub(super) fn page(&self, number: u64, generator: &mut Generator) -> u64 {
        let pages = self.set.end - self.set.start;
        self.set.start
            + match &self.law {
                Law::Uniform => generator.below(pages),
                Law::Sequential => number % pages,
                Law::HotCold(hot, chance) => {
                    if generator.unit() < *chance {
                        generator.below(*hot)
                    } else {
                        hot + generator.below(pages - hot)
                    }
                }
                Law::Zipf(law, scatter) => {
                    let rank = (law.sample(generator) as u64).clamp(1, pages) - 1;
                    (u128::from(rank) * u128::from(*scatter) % u128::from(pages)) as u64
                }
            }
    }
}

/// A number without a common divisor with `pages`, near its golden section: neighbouring ranks come to lie far apart.
fn scatter(pages: u64) -> u64 {
    let common = |mut one: u64, mut other: u64| {
        while other != 0 {
            (one, other) = (other, one % other);
        }
        one
    };
    let near = ((u128::from(pages) * u128::from(STEP)) >> 64) as u64;
    (near.max(1)..pages.max(2)).find(|&candidate| common(candidate, pages) == 1).unwrap_or(1)
}

/// What write number `number` of the part with this key leaves in its line.
pub(super) fn line(key: u64, number: u64) -> [u64; LINE] {
    let first = spread(key.wrapping_add(number.wrapping_mul(STEP)));
    std::array::from_fn(|index| first.wrapping_add(STEP.wrapping_mul(index as u64)))
}

/// Leaves it in `words`.
pub(super) fn leave(words: &[AtomicU64], line: [u64; LINE]) {
    for (word, value) in words.iter().zip(line) {
        word.store(value, Ordering::Relaxed);
    }
}

/// What memory holds before it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Untouched {
    key: u64,
    /// Words of each line that are random.
    random: usize,
}

impl Untouched {
    /// With this share of it random.
    pub(super) fn new(key: u64, random: Share) -> Self {
        Self { key, random: (random.as_f64() * LINE as f64).round() as usize }
    }

    /// Word `index` of a page.
    pub(super) fn word(self, page: u64, index: usize) -> u64 {
        if index % LINE < self.random {
            spread(self.key ^ page).wrapping_add(STEP.wrapping_mul(index as u64))
        } else {
            self.filling()
        }
    }

    /// What is not random. Zero pages are said elsewhere: where no word is random, this one is not zero.
    fn filling(self) -> u64 {
        let least = u64::from(self.random == 0);
        spread(self.key).max(least)
    }
}
