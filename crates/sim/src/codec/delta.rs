//! How long the difference of a page to its copy is.
//!
//! Asked by the codec for each page found in the cache. A pure function: expected values, no dice.
//!
//! # How many writes lie between the copy and now
//!
//! The copy was made when the page was last sent. What is known since: a harvest found the page dirty (the
//! last one, or the one before if the page was left over from it), so at least one write fell between that
//! harvest and the one before it. With `early` the mean number of writes between these two up to the copy,
//! `late` from the copy on, and `after` from the later one to now, all Poisson and independent, the number N
//! of writes since the copy has the generating function
//!
//! ```text
//! E[z^N] = (e^(−late·(1−z)) − e^(−early−late)) / (1 − e^(−early−late)) · e^(−after·(1−z))
//! ```
//!
//! exact for each page alone. E[0^N] is the chance that nothing changed: all writes of a dirty page may have
//! been sent with the copy. Sequential writers write a known number of times: a factor `z^n`.
//!
//! # How many bytes they change
//!
//! A write changes s neighbouring bytes of P, at a random place. A byte is spared by one write with the
//! chance 1 − s/P; k neighbouring bytes are with 1 − (s+k−1)/P (the page's end counts as joined to its
//! beginning). So
//!
//! ```text
//! bytes changed  = P·(1 − E[(1 − s/P)^N])
//! runs of them   = P·(E[(1 − s/P)^N] − E[(1 − (s+1)/P)^N])
//! long gaps      = P·(E[(1 − (s+127)/P)^N] − E[(1 − (s+128)/P)^N])      (128 bytes and more)
//! ```
//!
//! and a run takes its bytes, its length and that of the gap before it, each one byte if below 128 and two
//! else (`migration/xbzrle.c`). Writes at a fixed place make one run of s bytes.

/// Bytes before an encoded page beside the page's own header: a kind and a length of 16 bits.
pub(super) const HEADER: f64 = 3.0;
/// Lengths from here on take two bytes.
const LONG: f64 = 128.0;

/// With so many writes expected, the chance of none is below 10⁻¹³.
const MANY: f64 = 30.0;

/// Writes to a page around the time that its copy was made; means, and a count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Writes {
    /// From the harvest before the one that found the page, to the copy; none if the copy is older.
    pub(super) early: f64,
    /// From the copy (or the harvest before, if that is later) to the harvest that found the page.
    pub(super) late: f64,
    /// From the harvest that found the page to now, or from the copy if that is later.
    pub(super) after: f64,
    /// Writes of sequential writers since the copy.
    pub(super) counted: f64,
    /// One of these made the page dirty: nothing is known about the others.
    pub(super) dirty_anyway: bool,
}

/// What a write does to a page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Change {
    /// Bytes of the page.
    pub(super) page: f64,
    /// Bytes that it changes, at most all.
    pub(super) size: f64,
    /// Always the same bytes.
    pub(super) fixed: bool,
}

/// An encoded page, in the mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Delta {
    /// The chance that anything changed; else nothing is sent.
    pub(super) changed: f64,
    /// Bytes of the encoding, without headers; with the chance that nothing changed already in.
    pub(super) bytes: f64,
    /// Longer than the page: it is sent as it is.
    pub(super) overflow: bool,
}

impl Writes {
    /// `E[z^N]`.
    fn generate(&self, z: f64) -> f64 {
        let tail =
            (-self.after * (1.0 - z)).exp() * if self.counted > 0.0 { z.powf(self.counted) } else { 1.0 };
        let known = self.early + self.late;
        let between = if self.dirty_anyway {
            (-self.late * (1.0 - z)).exp()
        } else if known > 0.0 {
            let spared = self.late * (1.0 - z);
            // Written so that few expected writes lose no precision; of many there is surely one.
            if known < MANY { (known - spared).exp_m1() / known.exp_m1() } else { (-spared).exp() }
        } else if self.counted > 0.0 {
            1.0
        } else {
            // Left over from an earlier round: one write, then.
            z
        };
        (between * tail).clamp(0.0, 1.0)
    }
}

/// The bytes that a length takes.
fn length(value: f64) -> f64 {
    if value < LONG { 1.0 } else { 2.0 }
}

/// The difference that `writes` make.
pub(super) fn delta(writes: &Writes, change: Change) -> Delta {
    let Change { page, fixed, .. } = change;
    let size = change.size.clamp(0.0, page);
    let changed = 1.0 - writes.generate(0.0);
    if changed <= 0.0 || size <= 0.0 {
        return Delta { changed: 0.0, bytes: 0.0, overflow: false };
    }
    let bytes = if fixed {
        changed * (1.0 + length(size) + size)
    } else {
        // The chance that k neighbouring bytes are as they were.
        let spared = |k: f64| writes.generate((1.0 - (size + k - 1.0) / page).max(0.0));
        let differ = page * (1.0 - spared(1.0));
        // The page's end is its beginning here; in truth there is at least one run.
        let runs = (page * (spared(1.0) - spared(2.0))).max(changed);
        let long_gaps = (page * (spared(LONG) - spared(LONG + 1.0))).clamp(0.0, runs);
        differ + runs * (1.0 + length(differ / runs)) + long_gaps
    };
    Delta { changed, bytes, overflow: bytes > page * changed }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BYTE: Change = Change { page: 4096.0, size: 1.0, fixed: false };

    /// N writes exactly.
    fn exactly(count: f64) -> Writes {
        Writes { counted: count, ..Writes::default() }
    }

    /// The length of a real encoding of `changed` bytes, as `migration/xbzrle.c` does it.
    fn encode(changed: &[bool]) -> usize {
        let (mut at, mut length) = (0, 0);
        let size = |value: usize| if value < 128 { 1 } else { 2 };
        while at < changed.len() {
            let gap = changed[at..].iter().take_while(|changed| !**changed).count();
            if at + gap == changed.len() {
                break;
            }
            let run = changed[at + gap..].iter().take_while(|changed| **changed).count();
            length += size(gap) + size(run) + run;
            at += gap + run;
        }
        length
    }

    #[test]
    fn expected_lengths_are_those_of_pages_that_were_played() {
        let mut state = 1_u64;
        let mut below = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % limit
        };
        for (size, count) in
            [(1, 1), (1, 3), (1, 40), (1, 400), (8, 5), (64, 2), (64, 20), (1024, 1), (1024, 2)]
        {
            let (pages, mut total) = (2000, 0);
            for _ in 0..pages {
                let mut changed = [false; 4096];
                for _ in 0..count {
                    let at = below(4096 - size + 1) as usize;
                    changed[at..at + size as usize].fill(true);
                }
                total += encode(&changed);
            }
            let played = f64::from(total as u32) / f64::from(pages);
            let found = delta(&exactly(f64::from(count)), Change { size: size as f64, ..BYTE }).bytes;
            // The joined ends cost a few per cent where a write is a good part of a page.
            let tolerance = if size < 1024 { 0.02 } else { 0.06 };
            assert!((found / played - 1.0).abs() < tolerance, "{count} of {size}: {found} played {played}");
        }
    }

    #[test]
    fn the_chance_that_nothing_changed_is_that_of_writes_before_the_copy_alone() {
        // One write on average between the harvests, the copy made half-way.
        let writes = Writes { early: 0.5, late: 0.5, ..Writes::default() };
        let (early, late) = (1.0 - (-0.5_f64).exp(), (-0.5_f64).exp());
        let none = early * late / (1.0 - (-1.0_f64).exp());
        assert!((delta(&writes, BYTE).changed - (1.0 - none)).abs() < 1e-12);
        // An old copy: at least one write.
        let writes = Writes { late: 1e-9, ..Writes::default() };
        assert!((delta(&writes, BYTE).changed - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_page_that_changed_all_over_overflows_and_a_fixed_write_does_not() {
        assert!(delta(&exactly(1.0), Change { size: 4096.0, ..BYTE }).overflow);
        assert!(delta(&exactly(4000.0), BYTE).overflow);
        let fixed = delta(&exactly(4000.0), Change { fixed: true, ..BYTE });
        assert!((fixed.bytes - 3.0).abs() < 1e-9 && !fixed.overflow, "{fixed:?}");
    }

    proptest! {
        #[test]
        fn an_encoding_is_never_longer_than_the_page_or_it_is_an_overflow(
            early in 0.0..1e3f64, late in 0.0..1e3f64, after in 0.0..1e3f64, counted in 0u32..5000,
            dirty_anyway in any::<bool>(), size in 0u32..5000, fixed in any::<bool>(),
        ) {
            let writes = Writes { early, late, after, counted: f64::from(counted), dirty_anyway };
            let found = delta(&writes, Change { page: 4096.0, size: f64::from(size), fixed });
            prop_assert!((0.0..=1.0).contains(&found.changed), "{found:?}");
            prop_assert!(found.bytes >= 0.0 && (found.overflow || found.bytes <= 4096.0), "{found:?}");
        }

        #[test]
        fn more_writes_never_change_less(early in 0.0..5.0f64, late in 0.0..5.0f64, more in 0.0..5.0f64) {
            let few = Writes { early, late, ..Writes::default() };
            let many = Writes { after: more, ..few };
            prop_assert!(delta(&many, BYTE).changed >= delta(&few, BYTE).changed - 1e-12);
        }
    }
}
