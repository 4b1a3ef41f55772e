//! Reading a number and its unit exactly, and printing the shortest exact form.
//!
//! Used by the parsers of `units` only. Numbers stay decimal digits until the unit is known, so that
//! `0.1GiB` or `33.3%` is rounded once and not twice.

use super::error::{Quantity, UnitError, excerpt};
use std::fmt::Write as _;

/// Exponents beyond this are as good as infinite; the limit keeps all places within `i64`.
const EXPONENT_LIMIT: i64 = 1_000_000;
/// Decimal places that are kept of a fraction.
const PLACES: i64 = 18;
/// 10 to the power of [`PLACES`].
const FRACTION_ONE: u128 = 1_000_000_000_000_000_000;

/// A number as written, cut into its parts, and the unit behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written<'a> {
    pub(super) quantity: Quantity,
    pub(super) text: &'a str,
    /// What follows the number; empty if nothing does.
    pub(super) unit: &'a str,
    whole: &'a str,
    fraction: &'a str,
    exponent: i64,
}

/// Cuts leading ASCII digits off `text`.
fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// Cuts an exponent off `text`; an `e` without digits behind it belongs to the unit.
fn exponent(text: &str) -> (i64, &str) {
    let Some(body) = text.strip_prefix(['e', 'E']) else {
        return (0, text);
    };
    let (sign, body) = match body.strip_prefix('-') {
        Some(body) => (-1, body),
        None => (1, body.strip_prefix('+').unwrap_or(body)),
    };
    let (figures, rest) = digits(body);
    if figures.is_empty() {
        return (0, text);
    }
    let value = figures.parse::<i64>().unwrap_or(EXPONENT_LIMIT).min(EXPONENT_LIMIT);
    (sign * value, rest)
}

impl<'a> Written<'a> {
    /// Takes `text` apart.
    pub(super) fn read(quantity: Quantity, text: &'a str) -> Result<Self, UnitError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(UnitError::Empty { quantity });
        }
        let (negative, body) = match text.strip_prefix(['-', '−']) {
            Some(body) => (true, body),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let head = body.get(..3).unwrap_or_default();
        if head.eq_ignore_ascii_case("inf") || head.eq_ignore_ascii_case("nan") {
            return Err(UnitError::NotFinite { quantity, text: excerpt(text) });
        }
        let (whole, rest) = digits(body);
        let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), digits);
        if whole.is_empty() && fraction.is_empty() {
            return Err(UnitError::NoNumber { quantity, text: excerpt(text) });
        }
        if negative {
            return Err(UnitError::Negative { quantity, text: excerpt(text) });
        }
        let (exponent, rest) = exponent(rest);
        Ok(Self { quantity, text, unit: rest.trim_start(), whole, fraction, exponent })
    }

    pub(super) fn missing_unit(&self) -> UnitError {
        UnitError::MissingUnit { quantity: self.quantity, text: excerpt(self.text) }
    }

    pub(super) fn unknown_unit(&self) -> UnitError {
        let unit = excerpt(self.unit);
        UnitError::UnknownUnit { quantity: self.quantity, text: excerpt(self.text), unit }
    }

    pub(super) fn bits_or_bytes(&self) -> UnitError {
        let unit = excerpt(self.unit);
        UnitError::BitsOrBytes { quantity: self.quantity, text: excerpt(self.text), unit }
    }

    pub(super) fn too_large(&self) -> UnitError {
        UnitError::TooLarge { quantity: self.quantity, text: excerpt(self.text) }
    }

    pub(super) fn zero(&self) -> UnitError {
        UnitError::Zero { quantity: self.quantity, text: excerpt(self.text) }
    }

    /// Every digit that is not zero, with its decimal place.
    fn places(&self) -> impl Iterator<Item = (u128, i64)> {
        let top = i64::try_from(self.whole.len()).unwrap_or(i64::MAX / 2) + self.exponent;
        let digits = self.whole.bytes().chain(self.fraction.bytes());
        digits
            .zip(1..)
            .map(move |(digit, behind): (u8, i64)| (u128::from(digit - b'0'), top - behind))
            .filter(|&(digit, _)| digit != 0)
    }

    /// The part before the decimal point, and the part behind it in units of 10⁻¹⁸.
    fn split(&self) -> Option<(u128, u128)> {
        let (mut whole, mut fraction) = (0_u128, 0_u128);
        for (digit, place) in self.places() {
            if place >= 0 {
                let weight = u32::try_from(place).ok().and_then(|place| 10_u128.checked_pow(place))?;
                whole = whole.checked_add(digit.checked_mul(weight)?)?;
            } else if let Ok(place) = u32::try_from(PLACES + place) {
                fraction += digit * 10_u128.pow(place);
            }
        }
        Some((whole, fraction))
    }

    /// The number times `unit / parts`, rounded to the nearest; halves go up.
    ///
    /// `unit` must be below 2⁶⁴ and `parts` below 100, which keeps every product within 128 bits.
    pub(super) fn scaled(&self, unit: u64, parts: u8) -> Result<u128, UnitError> {
        let (unit, parts) = (u128::from(unit), u128::from(parts));
        let (whole, fraction) = self.split().ok_or_else(|| self.too_large())?;
        let whole = whole.checked_mul(unit).ok_or_else(|| self.too_large())?;
        let rest = (whole % parts) * FRACTION_ONE + fraction * unit;
        let one = parts * FRACTION_ONE;
        let value = whole / parts + (rest + one / 2) / one;
        if value == 0 && self.places().next().is_some() {
            return Err(UnitError::TooSmall { quantity: self.quantity, text: excerpt(self.text) });
        }
        Ok(value)
    }

    /// The number as a whole count.
    pub(super) fn count(&self) -> Result<u64, UnitError> {
        if self.places().any(|(_, place)| place < 0) {
            return Err(UnitError::NotWhole { quantity: self.quantity, text: excerpt(self.text) });
        }
        let (whole, _) = self.split().ok_or_else(|| self.too_large())?;
        u64::try_from(whole).map_err(|_| self.too_large())
    }

    /// The number times 10 to the power of `shift`, as the nearest `f64`; infinite if too large.
    pub(super) fn float(&self, shift: i64) -> f64 {
        let text = format!("0{}.{}e{}", self.whole, self.fraction, self.exponent + shift);
        // The text is made of digits only, so this cannot fail; infinity would be refused anyway.
        text.parse().unwrap_or(f64::INFINITY)
    }
}

/// One way to print a quantity: how many base units it stands for, and its suffix.
pub(super) type Unit = (u128, &'static str);

/// `value` base units in the unit that gives the shortest exact text.
///
/// A decimal point counts as one more character, at most three decimals are used, and of equally
/// long texts the earlier unit wins. `plain` must divide `value`.
pub(super) fn shortest(value: u128, units: &[Unit], plain: Unit) -> String {
    let mut best = format!("{}{}", value / plain.0, plain.1);
    let mut best_cost = usize::MAX;
    for &(unit, suffix) in units.iter().chain([&plain]) {
        let (whole, rest) = (value / unit, value % unit);
        if whole == 0 || rest * 1000 % unit != 0 {
            continue;
        }
        let mut text = whole.to_string();
        let mut cost = suffix.len();
        if rest != 0 {
            let decimals = format!("{:03}", rest * 1000 / unit);
            // Writing to a String does not fail.
            let _ = write!(text, ".{}", decimals.trim_end_matches('0'));
            cost += 1;
        }
        cost += text.len();
        text.push_str(suffix);
        if cost < best_cost {
            (best, best_cost) = (text, cost);
        }
    }
    best
}

/// Three significant figures, as reports show them: `7.63`, `45.2`, `302`.
pub(super) fn three_figures(value: f64) -> String {
    if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// A non-negative finite `f64` so that it reads back as the same value, without endless zeros.
pub(super) fn float_text(value: f64) -> String {
    if value == 0.0 || (1e-7..1e16).contains(&value) { format!("{value}") } else { format!("{value:e}") }
}
