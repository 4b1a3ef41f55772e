//! What is worth choosing when several things are wanted small.

/// Whether `one` is nowhere larger than `other` and somewhere smaller.
pub fn dominates(one: &[f64], other: &[f64]) -> bool {
    let no_larger = one.iter().zip(other).all(|(one, other)| one <= other);
    no_larger && one.iter().zip(other).any(|(one, other)| one < other)
}

/// For each point whether no other dominates it. Equal points are on the front together.
pub fn pareto_front<P: AsRef<[f64]>>(points: &[P]) -> Vec<bool> {
    let dominated = |point: &P| points.iter().any(|other| dominates(other.as_ref(), point.as_ref()));
    points.iter().map(|point| !dominated(point)).collect()
}
