//! Correction for many comparisons.

/// Holm's step-down correction: for each p the least level at which its claim holds while the chance that *any* claim
/// of the family is false stays below that level, however the tests depend on one another.
///
/// Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).
pub fn holm(ps: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..ps.len()).collect();
    order.sort_by(|a, b| ps[*a].total_cmp(&ps[*b]));
    let mut adjusted = vec![1.0; ps.len()];
    let mut most = 0.0_f64;
    for (place, at) in order.into_iter().enumerate() {
        most = most.max(ps[at] * (ps.len() - place) as f64);
        adjusted[at] = most.min(1.0);
    }
    adjusted
}
