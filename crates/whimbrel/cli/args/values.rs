//! Values that several commands take, and how the whole definition is completed.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, Command, CommandFactory as _};
#[cfg(target_os = "linux")]
use whimbrel_core::policy::RateLimit;
use whimbrel_core::units::duration;
#[cfg(target_os = "linux")]
use whimbrel_core::units::{Bandwidth, ByteCount};

use super::Args;

/// What values are called that begin with a number.
const NUMBERS: [&str; 7] = ["N", "TIME", "SPREAD", "SIZE", "ADDRESS", "RATE", "RATE|unlimited"];

/// The definition of all commands. What takes a number takes one below zero too, to be told what is accepted.
pub(in crate::cli) fn command() -> Command {
    fn complete(command: Command) -> Command {
        command.mut_args(numbers).mut_subcommands(complete)
    }
    complete(Args::command())
}

fn numbers(arg: Arg) -> Arg {
    let names = arg.get_value_names().unwrap_or_default();
    let number = names.iter().any(|name| NUMBERS.contains(&name.as_str()));
    if number { arg.allow_hyphen_values(true) } else { arg }
}

/// Reads a whole number within a range.
pub(super) fn whole<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.trim().parse().ok().filter(|number| range.contains(number));
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("accepted is a whole number from {} to {}", range.start(), range.end()))
    }
}

/// Reads the seed of random choices, or another number without a bound of its own.
pub(super) fn any<T: TryFrom<u64>>() -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    whole(0..=u64::MAX >> (64 - 8 * size_of::<T>().min(8)))
}

/// Reads a time above zero.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let time = duration::parse(text).map_err(|error| error.to_string())?;
    match time {
        Duration::ZERO => Err("must be more than 0s".to_owned()),
        time if time > LONGEST => Err(format!("must be at most {}", duration::format(LONGEST))),
        time => Ok(time),
    }
}

/// Reads a time, which may be none.
#[cfg(target_os = "linux")]
pub(super) fn time_or_none(text: &str) -> Result<Duration, String> {
    if duration::parse(text).is_ok_and(|time| time.is_zero()) { Ok(Duration::ZERO) } else { time(text) }
}

/// Reads a size above zero.
#[cfg(target_os = "linux")]
pub(super) fn size(text: &str) -> Result<ByteCount, String> {
    match text.parse() {
        Ok(ByteCount(0)) => Err("must be more than 0B".to_owned()),
        Ok(size) => Ok(size),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads a rate of sending.
#[cfg(target_os = "linux")]
pub(super) fn rate(text: &str) -> Result<Bandwidth, String> {
    text.parse().map_err(|error: whimbrel_core::units::UnitError| error.to_string())
}

/// Reads a limit of the rate, or that there is none.
#[cfg(target_os = "linux")]
pub(super) fn rate_or_unlimited(text: &str) -> Result<RateLimit, String> {
    if text == "unlimited" {
        return Ok(RateLimit::Unlimited);
    }
    rate(text).map(RateLimit::AtMost).map_err(|error| format!("{error}, or unlimited"))
}

/// A year, which no migration takes.
const LONGEST: Duration = Duration::from_hours(365 * 24);

/// Reads the name of a drawing's file.
pub(super) fn drawing(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    // A device has no ending.
    let other = path.extension().is_some_and(|end| !end.eq_ignore_ascii_case("svg"));
    if other { Err("drawings are SVG; accepted is a name that ends in .svg".to_owned()) } else { Ok(path) }
}
