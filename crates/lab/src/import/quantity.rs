//! Quantities as Kubernetes writes them: `64Mi`, `1.5G`, `100M`, `1e9`, `500m`.
//!
//! A decimal number and a suffix: a binary one (`Ki` to `Ei`), a decimal one (`n`, `u`, `m`, `k` to `E`), or
//! an exponent of ten. Exact: what does not fit is refused, never rounded on the way.

/// The most that a quantity's digits and powers may come to.
const MOST_DIGITS: usize = 30;

/// A quantity as a fraction of whole numbers; none if it is none, or negative.
fn ratio(text: &str) -> Option<(u128, u128)> {
    let text = text.trim();
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    if decimals.contains('.') || whole.len() + decimals.len() == 0 || number.len() > MOST_DIGITS {
        return None;
    }
    let digits: u128 = format!("0{whole}{decimals}").parse().ok()?;
    let (times, over) = scale(suffix)?;
    let over = 10u128.checked_pow(u32::try_from(decimals.len()).ok()?)?.checked_mul(over)?;
    Some((digits.checked_mul(times)?, over))
}

/// A suffix as a fraction.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    let power = |base: u128, power| Some((base.checked_pow(power)?, 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1_000)),
        "k" => power(1_000, 1),
        "M" => power(1_000, 2),
        "G" => power(1_000, 3),
        "T" => power(1_000, 4),
        "P" => power(1_000, 5),
        "E" => power(1_000, 6),
        "Ki" => power(1_024, 1),
        "Mi" => power(1_024, 2),
        "Gi" => power(1_024, 3),
        "Ti" => power(1_024, 4),
        "Pi" => power(1_024, 5),
        "Ei" => power(1_024, 6),
        exponent => {
            let exponent: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let ten = 10u128.checked_pow(exponent.unsigned_abs())?;
            Some(if exponent < 0 { (1, ten) } else { (ten, 1) })
        }
    }
}

/// A quantity as a whole number, rounded up as Kubernetes rounds.
pub(super) fn whole(text: &str) -> Option<u64> {
    let (times, over) = ratio(text)?;
    u64::try_from(times.div_ceil(over)).ok()
}

/// A quantity as a number.
pub(super) fn number(text: &str) -> Option<f64> {
    ratio(text).map(|(times, over)| times as f64 / over as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_what_kubernetes_takes_them_for() {
        for (text, value) in [
            ("0", 0),
            ("64Mi", 64 << 20),
            ("1Gi", 1 << 30),
            ("100M", 100_000_000),
            ("1.5G", 1_500_000_000),
            (".5k", 500),
            ("+2k", 2_000),
            ("5.", 5),
            ("1500m", 2),
            ("1n", 1),
            ("12e6", 12_000_000),
            ("2E3", 2_000),
            ("3e-1", 1),
            ("2E", 2_000_000_000_000_000_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(whole(text), Some(value), "{text}");
        }
        assert_eq!((number("0.4"), number("1.5"), number("500m")), (Some(0.4), Some(1.5), Some(0.5)));
        for text in [
            "", "Mi", "-1", "1.2.3", "1 Mi", "1mi", "64MB", "64 MiB/s", "e5", "1e", "1e99", "32Ei", "nan",
            "9E99Gi",
        ] {
            assert_eq!(whole(text), None, "{text}");
        }
    }
}
