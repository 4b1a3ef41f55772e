//! Intervals of shares.

use super::Interval;

/// Wilson's interval of a share of which `hits` of `of` were seen, at 95 %. None of none.
///
/// Also where all or none were seen, it has a width. Source: Wilson, Journal of the American Statistical Association
/// 22 (1927); recommended by Brown, Cai and others, Statistical Science 16 (2001).
pub fn wilson(hits: u64, of: u64) -> Option<Interval> {
    const Z: f64 = 1.959_964;
    if of == 0 {
        return None;
    }
    let (hits, of) = (hits as f64, of as f64);
    let (share, spread) = (hits / of, Z * Z / of);
    let middle = (share + spread / 2.0) / (1.0 + spread);
    let half = Z / (1.0 + spread) * (share * (1.0 - share) / of + spread / of / 4.0).sqrt();
    // Rounding must not say that what was seen is impossible.
    Some(Interval { low: (middle - half).clamp(0.0, share), high: (middle + half).clamp(share, 1.0) })
}
