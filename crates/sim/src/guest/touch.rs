//! Which of the pages that are still missing a writer touches next, and after how many writes.
//!
//! Used for a guest that runs before all of its memory is there (post-copy). Exact: a write goes to page
//! i with the chance `w_i`, independently of all others, so the first write to a missing page is found by
//! drawing writes until one hits, or, where few pages are missing, by drawing how many miss (a Poisson
//! process thinned to the missing pages is one of the rate `Σ w_i` over them). Missing pages only ever
//! arrive, so what is skipped as present stays present; whoever uses an answer later looks again whether
//! that page has come meanwhile.

use whimbrel_core::dirty::PageSet;
use whimbrel_core::layout::PageNumber;

use super::replay::Place;
use super::rng::{Generator, Rng as _, below};
use super::shape::{Band, Shape};
use super::zipf::Draws;

/// After so many writes in vain the missing pages are listed.
const IN_VAIN: u32 = 64;

/// A write to a missing page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Miss {
    /// Writes until then, this one included; a real number, as times of a Poisson process are.
    pub(super) after: f64,
    pub(super) page: u64,
}

/// Draws touches.
#[derive(Clone, Debug)]
pub(super) enum Touches {
    /// From all pages of the working set.
    All(Draws),
    /// From pages that were missing when they were listed, with the sums of their weights so far.
    Listed(Vec<(u64, f64)>),
    /// One page after another; this one is next.
    Cycle(f64),
    /// As a trace has it; here it stands.
    Replay(Place),
}

impl Touches {
    /// For a writer of `shape` that has made `writes` writes.
    pub(super) fn new(shape: &Shape, writes: f64) -> Self {
        match shape {
            Shape::Bands(_) | Shape::Measured(_) => Self::All(Draws::default()),
            Shape::Zipf(zipf) => Self::All(zipf.draws()),
            Shape::Replay(replay) => Self::Replay(replay.place(writes)),
            Shape::Cycle(set, start) => Self::Cycle((writes + start) % (set.end - set.start).max(1) as f64),
        }
    }

    /// The next write to a page of `missing`; none if the writer touches none of them.
    pub(super) fn next(&mut self, shape: &Shape, missing: &PageSet, rng: &mut Generator) -> Option<Miss> {
        let mut after = 0.0;
        loop {
            match self {
                Self::Cycle(next) => return cycle(shape, next, missing),
                Self::Replay(place) => {
                    let Shape::Replay(replay) = shape else { return None };
                    let (page, after) = replay.next_touch(place, missing)?;
                    return Some(Miss { after, page });
                }
                Self::All(draws) => {
                    for _ in 0..IN_VAIN {
                        after += exponential(rng);
                        let page = draw(shape, draws, rng)?;
                        if missing.contains(PageNumber(page)) {
                            return Some(Miss { after, page });
                        }
                    }
                }
                Self::Listed(list) => {
                    let total = list.last().map_or(0.0, |&(_, sum)| sum);
                    if total <= 0.0 {
                        return None;
                    }
                    for _ in 0..IN_VAIN {
                        after += exponential(rng) / total;
                        let at = unit(rng) * total;
                        let index = list.partition_point(|&(_, sum)| sum <= at).min(list.len() - 1);
                        let page = list[index].0;
                        if missing.contains(PageNumber(page)) {
                            return Some(Miss { after, page });
                        }
                    }
                }
            }
            *self = Self::Listed(listed(shape, missing));
        }
    }
}

/// The missing pages that `shape` writes to, with the sums of their weights.
fn listed(shape: &Shape, missing: &PageSet) -> Vec<(u64, f64)> {
    let Some((first, end)) = shape.extent() else { return Vec::new() };
    let mut list = Vec::new();
    let (mut sum, mut from) = (0.0, first);
    while let Some(page) = missing.next_page(PageNumber(from)).filter(|page| page.0 < end) {
        let weight = shape.weight(page.0);
        if weight > 0.0 {
            sum += weight;
            list.push((page.0, sum));
        }
        from = page.0 + 1;
    }
    list
}

/// The page of one write.
fn draw(shape: &Shape, draws: &Draws, rng: &mut Generator) -> Option<u64> {
    match shape {
        Shape::Bands(bands) => {
            let mut at = unit(rng);
            let all = |band: &Band| (band.pages.end - band.pages.start) as f64 * band.weight;
            let band = bands.iter().find(|band| {
                at -= all(band);
                at < 0.0
            });
            let band = band.or_else(|| bands.iter().rev().find(|band| band.weight > 0.0))?;
            Some(band.pages.start + below(rng, band.pages.end - band.pages.start))
        }
        Shape::Zipf(zipf) => zipf.draw_page(draws, rng),
        Shape::Measured(measured) => measured.draw_page(rng),
        Shape::Cycle(..) | Shape::Replay(_) => None,
    }
}

/// The next missing page in the order of a cycle, and how far it is.
fn cycle(shape: &Shape, next: &mut f64, missing: &PageSet) -> Option<Miss> {
    let Shape::Cycle(set, _) = shape else { return None };
    let length = set.end - set.start;
    let at = set.start + (*next as u64).min(length - 1);
    let inside = |page: &PageNumber| page.0 < set.end;
    let ahead = missing.next_page(PageNumber(at)).filter(inside);
    let (page, distance) = if let Some(page) = ahead {
        (page.0, page.0 - at)
    } else {
        let page = missing.next_page(PageNumber(set.start)).filter(|page| page.0 < at)?;
        (page.0, length - (at - page.0))
    };
    *next = ((page - set.start) + 1) as f64 % length as f64;
    Some(Miss { after: distance as f64 + 1.0, page })
}

/// From 0 to below 1.
pub(super) fn unit(rng: &mut Generator) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// The time between two events of a Poisson process of rate one.
fn exponential(rng: &mut Generator) -> f64 {
    -(1.0 - unit(rng)).ln()
}

#[cfg(test)]
mod tests {
    use whimbrel_core::units::Share;

    use super::super::rng::stream;
    use super::*;
    use crate::config::{Pattern, WriterConfig};

    fn shape(pattern: Pattern) -> Shape {
        let config = WriterConfig { pattern, hot_pages: Share::percent(10), ..WriterConfig::default() };
        Shape::new(&config, &(100..1100), &mut stream(1, "shape")).unwrap()
    }

    fn set(pages: impl IntoIterator<Item = u64>) -> PageSet {
        let mut set = PageSet::new(1216);
        for page in pages {
            set.insert(PageNumber(page)).unwrap();
        }
        set
    }

    #[test]
    fn a_touch_comes_after_as_many_writes_as_the_missing_share_says() {
        for pattern in [Pattern::Uniform, Pattern::HotCold, Pattern::Zipf] {
            let shape = shape(pattern);
            for step in [2, 7, 333] {
                let missing = set((100..1100).step_by(step));
                let weight: f64 = missing.pages().map(|page| shape.weight(page.0)).sum();
                let mut touches = Touches::new(&shape, 0.0);
                let mut rng = stream(2, "touches");
                let runs = 20_000;
                let sum: f64 =
                    (0..runs).map(|_| touches.next(&shape, &missing, &mut rng).unwrap().after).sum();
                let mean = sum / f64::from(runs);
                assert!((mean * weight - 1.0).abs() < 0.04, "{pattern:?} {step}: {mean} {weight}");
            }
        }
    }

    #[test]
    fn missing_pages_are_touched_in_proportion_to_their_weight() {
        for pattern in [Pattern::Uniform, Pattern::HotCold, Pattern::Zipf] {
            let shape = shape(pattern);
            let missing = set([100, 150, 420, 777, 1099, 3]);
            let total: f64 = missing.pages().map(|page| shape.weight(page.0)).sum();
            let mut touches = Touches::new(&shape, 0.0);
            let mut rng = stream(3, "touches");
            let mut counts = std::collections::BTreeMap::new();
            for _ in 0..50_000 {
                *counts.entry(touches.next(&shape, &missing, &mut rng).unwrap().page).or_insert(0.0) += 1.0;
            }
            for page in missing.pages() {
                let expected = shape.weight(page.0) / total * 50_000.0;
                let count = counts.get(&page.0).copied().unwrap_or(0.0);
                assert!((count - expected).abs() <= 5.0 * expected.sqrt(), "{pattern:?} {page:?}: {count}");
            }
        }
    }

    #[test]
    fn weights_add_up_to_all_writes() {
        for pattern in [Pattern::Uniform, Pattern::HotCold, Pattern::Zipf] {
            let shape = shape(pattern);
            let sum: f64 = (0..1216).map(|page| shape.weight(page)).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{pattern:?}: {sum}");
        }
    }

    #[test]
    fn a_sequential_writer_meets_missing_pages_in_order_and_at_their_distance() {
        let shape = shape(Pattern::Sequential);
        let Shape::Cycle(_, start) = &shape else { unreachable!() };
        // The first write goes to page 200.
        let mut touches = Touches::new(&shape, (1100.0 - start) % 1000.0);
        let missing = set([150, 210, 900]);
        let mut rng = stream(4, "touches");
        let mut next = || touches.next(&shape, &missing, &mut rng).unwrap();
        assert_eq!(next(), Miss { after: 11.0, page: 210 });
        assert_eq!(next(), Miss { after: 690.0, page: 900 });
        assert_eq!(next(), Miss { after: 250.0, page: 150 });
    }

    #[test]
    fn nothing_missing_is_never_touched() {
        for pattern in [Pattern::Uniform, Pattern::HotCold, Pattern::Zipf, Pattern::Sequential] {
            let shape = shape(pattern);
            let missing = set([3, 1150]);
            let mut touches = Touches::new(&shape, 0.0);
            assert_eq!(touches.next(&shape, &missing, &mut stream(5, "touches")), None, "{pattern:?}");
        }
    }
}
