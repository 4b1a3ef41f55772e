//! What a number means and how people read it: `100 Mbit/s`, `300 ms`, `12.3 GiB`, `61 k pages/s`.

/// The meaning of an axis or a value, and with it how it is printed and where ticks fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    Number,
    /// How many there are: ticks fall on whole numbers.
    Count,
    /// Bytes a second; printed in bits a second, as links are named.
    Bandwidth,
    /// Pages a second.
    PageRate,
    /// Guest pages.
    Pages,
    /// Bytes; printed in powers of 1024.
    Bytes,
    /// Milliseconds; printed from nanoseconds to hours.
    Milliseconds,
    /// A share, 0 to 1; printed in per cent.
    Share,
    /// vCPU-seconds.
    VcpuSeconds,
}

const SMALL: f64 = 1e-3;

/// `value` in three significant figures, without trailing zeros.
pub(super) fn three_figures(value: f64) -> String {
    let size = value.abs();
    let decimals = if size >= 99.95 {
        0
    } else if size >= 9.995 {
        1
    } else if size >= 0.9995 {
        2
    } else if size >= SMALL {
        // 0.5 is 0.5, 0.0512 is 0.0512: three figures behind the leading zeros.
        (2.0 - size.log10().floor()) as usize
    } else if size < 1e-18 {
        return "0".to_owned();
    } else {
        return format!("{value:.1e}");
    };
    let text = format!("{value:.decimals$}");
    match text.split_once('.') {
        Some(_) => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        None => text,
    }
}

/// `value` with the prefix that leaves one to three digits before the point.
fn prefixed(value: f64, step: f64, names: &[&str]) -> (String, String) {
    let mut value = value;
    let mut name = 0;
    // 999.6 would be printed as 1000.
    while value.abs() >= step * 0.9995 && name + 1 < names.len() {
        value /= step;
        name += 1;
    }
    (three_figures(value), names[name].to_owned())
}

fn duration(milliseconds: f64) -> String {
    let seconds = milliseconds / 1e3;
    let size = seconds.abs();
    if size < 1e-18 {
        "0 s".to_owned()
    } else if size < 999.5e-9 {
        format!("{} ns", three_figures(seconds * 1e9))
    } else if size < 999.5e-6 {
        format!("{} µs", three_figures(seconds * 1e6))
    } else if size < 0.9995 {
        format!("{} ms", three_figures(seconds * 1e3))
    } else if size < 99.95 && (size - 60.0).abs() > 1e-9 {
        format!("{} s", three_figures(seconds))
    } else if size < 3599.5 {
        parts(seconds.round(), 60.0, "min", "s")
    } else if size < 360_000.0 {
        parts((seconds / 60.0).round(), 60.0, "h", "min")
    } else {
        let (number, prefix) = prefixed((seconds / 3600.0).round(), 1e3, &PREFIXES);
        format!("{} h", joined(&number, &prefix))
    }
}

/// `value` as so many of a large and so many of a small unit; a part of zero is left out.
fn parts(value: f64, per: f64, large: &str, small: &str) -> String {
    let (whole, rest) = ((value / per).trunc(), (value % per).abs());
    if rest == 0.0 { format!("{whole} {large}") } else { format!("{whole} {large} {rest} {small}") }
}

fn joined(number: &str, unit: &str) -> String {
    if unit.is_empty() { number.to_owned() } else { format!("{number} {unit}") }
}

const PREFIXES: [&str; 6] = ["", "k", "M", "G", "T", "P"];
const BYTES: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

impl Unit {
    /// The value as people read it; `–` if it is not finite.
    pub fn format(self, value: f64) -> String {
        let compact = self.compact(value);
        match self.base() {
            "" => compact,
            _ if !value.is_finite() => compact,
            // `Mbit/s` is one word, `k pages/s` is two.
            base @ "bit/s" if compact.contains(' ') => format!("{compact}{base}"),
            base => format!("{compact} {base}"),
        }
    }

    /// The same without the unit that [`base`](Self::base) names, for axes that name it once.
    pub fn compact(self, value: f64) -> String {
        if !value.is_finite() {
            return "–".to_owned();
        }
        let (number, name) = match self {
            Self::Bandwidth => prefixed(value * 8.0, 1e3, &PREFIXES),
            Self::Number | Self::Count | Self::PageRate | Self::Pages => prefixed(value, 1e3, &PREFIXES),
            Self::VcpuSeconds => (
                if value.abs() >= 1e6 { format!("{value:.1e}") } else { three_figures(value) },
                String::new(),
            ),
            Self::Bytes => prefixed(value, 1024.0, &BYTES),
            Self::Share => (three_figures(value * 100.0), "%".to_owned()),
            Self::Milliseconds => return duration(value),
        };
        joined(&number, &name)
    }

    /// The unit that [`compact`](Self::compact) leaves out; empty where it stands in each value.
    pub const fn base(self) -> &'static str {
        match self {
            Self::Bandwidth => "bit/s",
            Self::PageRate => "pages/s",
            Self::Pages => "pages",
            Self::VcpuSeconds => "vCPU s",
            Self::Number | Self::Count | Self::Bytes | Self::Milliseconds | Self::Share => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_people_write_them() {
        let cases = [
            (Unit::Bandwidth, 12_500_000.0, "100 Mbit/s"),
            (Unit::Bandwidth, 125_000_000.0, "1 Gbit/s"),
            (Unit::Bandwidth, 10.0, "80 bit/s"),
            (Unit::Milliseconds, 300.0, "300 ms"),
            (Unit::Milliseconds, 999.7, "1 s"),
            (Unit::Milliseconds, 60_000.0, "1 min"),
            (Unit::Milliseconds, 125_000.0, "2 min 5 s"),
            (Unit::Milliseconds, 3_600_000.0, "1 h"),
            (Unit::Milliseconds, 4_500_000.0, "1 h 15 min"),
            (Unit::Milliseconds, 0.0, "0 s"),
            (Unit::Bytes, 12.34 * 1024.0 * 1024.0 * 1024.0, "12.3 GiB"),
            (Unit::Bytes, 1024.0, "1 KiB"),
            (Unit::PageRate, 61_035.0, "61 k pages/s"),
            (Unit::PageRate, 999.7, "1 k pages/s"),
            (Unit::Share, 0.714, "71.4 %"),
            (Unit::VcpuSeconds, 0.25, "0.25 vCPU s"),
            (Unit::Number, f64::NAN, "–"),
            (Unit::Number, 0.05, "0.05"),
            (Unit::Pages, 0.0, "0 pages"),
        ];
        for (unit, value, text) in cases {
            assert_eq!(unit.format(value), text, "{unit:?} {value}");
        }
    }
}
