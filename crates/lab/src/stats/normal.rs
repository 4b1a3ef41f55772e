//! The tail of the normal distribution.

use std::f64::consts::PI;

/// The chance that a standard normal value is at least `z` away from zero, to a relative error below 10⁻⁹.
pub(super) fn two_sided(z: f64) -> f64 {
    let z = z.abs();
    if z < 3.0 { 1.0 - within(z) } else { 2.0 * upper_tail(z) }
}

/// The chance to lie within `z` of zero: the series of Abramowitz and Stegun (1964), 26.2.11.
fn within(z: f64) -> f64 {
    let (mut term, mut sum) = (z, z);
    let mut odd = 1.0;
    while term > 1e-17 * sum && odd < 200.0 {
        odd += 2.0;
        term *= z * z / odd;
        sum += term;
    }
    2.0 * density(z) * sum
}

/// The chance to lie above `z`, for `z` of at least 3: the continued fraction of Abramowitz and Stegun, 26.2.14.
fn upper_tail(z: f64) -> f64 {
    let fraction = (1..=60).rev().fold(z, |below, k| z + f64::from(k) / below);
    density(z) / fraction
}

fn density(z: f64) -> f64 {
    (-z * z / 2.0).exp() / (2.0 * PI).sqrt()
}
