//! Checks that a configuration describes something that can exist and be simulated.
//!
//! Called by whoever built the configuration, before the simulator is. Stops at the first fault and
//! names it by the key under which scenario files know it.

mod hosts;
#[cfg(test)]
mod tests;

use std::fmt::{self, Display};
use std::ops::Range;
use std::time::Duration;

use whimbrel_core::units::{ByteCount, Share, duration};

use crate::guest::trace_extent;
use crate::trace::NamedTrace;

use super::{GuestConfig, Pattern, PhaseConfig, WriterConfig};

/// A value that no simulation can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` cannot be {value}: accepted is {accepted}")]
#[non_exhaustive]
pub struct ConfigError {
    /// Where it stands, such as `guest.writers.0.rate`.
    pub key: String,
    /// The value.
    pub value: String,
    /// What is accepted there.
    pub accepted: String,
}

impl ConfigError {
    /// `key` holds `value`, accepted is `accepted`.
    pub fn new(key: impl Into<String>, value: impl Display, accepted: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.to_string(), accepted: accepted.into() }
    }
}

/// The most pages a guest may have: 2³², which is 16 TiB of 4 KiB pages and 512 MiB for each set of pages.
const MAX_PAGES: u64 = 1 << 32;
/// The most vCPUs, four times as many as KVM takes.
const MAX_VCPUS: u32 = 16_384;
/// The most writers, phases, changes and outages: far more than anyone writes by hand.
const MAX_ITEMS: usize = 10_000;
/// The longest a fixed cost may take.
const MAX_COST: Duration = Duration::from_hours(1);
/// The latest moment that may be named; far below the end of [`whimbrel_core::units::Timestamp`].
const MAX_TIME: Duration = Duration::from_hours(10 * 365 * 24);
/// The most page writes a second: a hundred times what a memory bus can do.
const MAX_RATE: f64 = 1e12;
/// The most pages of a resume set: 4 GiB of them.
const MAX_RESUME_PAGES: u32 = 1 << 20;
/// The most different pages of a trace that is played back: 1 TiB of 4 KiB pages, for which 2 GiB are needed.
const MAX_TRACED: u64 = 1 << 28;
/// The largest exponent of a Zipf distribution; beyond it one page gets all writes anyway.
const MAX_EXPONENT: f64 = 20.0;
/// The most that a buffer, the device state or an overhead may take.
const MAX_BYTES: ByteCount = ByteCount::gib(1_024);

/// A time as it is written down, if it ever is.
struct Time(Duration);

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&duration::format(self.0))
    }
}

/// Keys and values are put into words only if they are wrong: setups are checked by the million.
#[inline(always)]
pub(super) fn check(
    holds: bool,
    key: impl Display,
    value: impl Display,
    accepted: impl FnOnce() -> String,
) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(refusal(&key, &value, accepted())) }
}

#[cold]
#[inline(never)]
fn refusal(key: &dyn Display, value: &dyn Display, accepted: String) -> ConfigError {
    ConfigError::new(key.to_string(), value, accepted)
}

/// `value` is at most `limit`.
#[inline(always)]
fn within(key: impl Display, value: Duration, limit: Duration) -> Result<(), ConfigError> {
    check(value <= limit, key, Time(value), || format!("at most {}", duration::format(limit)))
}

#[inline(always)]
fn at_most(key: impl Display, value: ByteCount) -> Result<(), ConfigError> {
    check(value <= MAX_BYTES, key, value, || format!("at most {MAX_BYTES}"))
}

#[inline(always)]
fn few(key: impl Display, count: usize, what: &str) -> Result<(), ConfigError> {
    check(count <= MAX_ITEMS, key, format_args!("a list of {count} {what}"), || {
        format!("at most {MAX_ITEMS} of them")
    })
}

#[inline(always)]
fn rate(key: impl Display, value: f64) -> Result<(), ConfigError> {
    check((0.0..=MAX_RATE).contains(&value), key, Rate(value), || {
        format!("page writes a second from 0 to {MAX_RATE:e}")
    })
}

/// A rate as it is shown: not with three hundred digits.
struct Rate(f64);

impl Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.abs() > MAX_RATE { write!(f, "{:e}", self.0) } else { write!(f, "{}", self.0) }
    }
}

impl GuestConfig {
    /// Checks what a simulation in expected numbers of pages needs besides.
    ///
    /// # Errors
    ///
    /// If a writer's pages are known one by one, or its phases are chance.
    pub fn validate_for_fluid(&self) -> Result<(), ConfigError> {
        for (index, writer) in self.writers.iter().enumerate() {
            let name = match writer.pattern {
                Pattern::Trace => "trace",
                Pattern::Measured => "measured",
                _ => continue,
            };
            return Err(ConfigError::new(
                format!("guest.writers.{index}.pattern"),
                format!("`{name}` in a fluid simulation"),
                "another one, or `run.fidelity = \"exact\"`",
            ));
        }
        Ok(())
    }

    /// Checks the guest, keys as in scenario files (`guest.…`).
    ///
    /// # Errors
    ///
    /// The first value that cannot be, with what is accepted.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let (memory, page) = (self.memory.0, self.page_size.bytes().0);
        check(memory > 0 && memory.is_multiple_of(page), "guest.memory", self.memory, || {
            format!("a whole number of pages of {}, at least one", self.page_size)
        })?;
        check(memory / page <= MAX_PAGES, "guest.memory", self.memory, || {
            let most = ByteCount(MAX_PAGES.saturating_mul(page));
            format!("at most {most} with pages of {} (2^32 pages)", self.page_size)
        })?;
        check((1..=MAX_VCPUS).contains(&self.vcpus), "guest.vcpus", self.vcpus, || {
            format!("a whole number from 1 to {MAX_VCPUS}")
        })?;
        at_most("guest.state", self.state)?;
        at_most("guest.used-spread", self.used_spread)?;
        at_most("guest.resume-span", self.resume_span)?;
        at_most("guest.resume-top", self.resume_top)?;
        check(self.resume_pages <= MAX_RESUME_PAGES, "guest.resume-pages", self.resume_pages, || {
            format!("at most {MAX_RESUME_PAGES}")
        })?;
        few("guest.writers", self.writers.len(), "writers")?;
        for (index, writer) in self.writers.iter().enumerate() {
            writer.validate(format_args!("guest.writers.{index}"))?;
        }
        self.validate_extents()
    }

    /// The working set of each writer as a range of page numbers, in the order of the writers: where
    /// it says itself, else behind the one before it. That of an idle writer is empty.
    ///
    /// Meant for a configuration that was validated; of any other, the ranges may lie outside memory.
    pub fn working_sets(&self) -> Vec<Range<u64>> {
        let mut sets = Vec::with_capacity(self.writers.len());
        self.for_each_working_set(|_, set| sets.push(set));
        sets
    }

    /// Calls `visit` with each writer and its working set, in the order of the writers.
    #[inline]
    pub(crate) fn for_each_working_set(&self, mut visit: impl FnMut(&WriterConfig, Range<u64>)) {
        let shift = self.page_size.shift();
        let mut behind = 0;
        for writer in &self.writers {
            let set = if writer.pattern == Pattern::Trace {
                let trace = writer.trace.as_ref().and_then(NamedTrace::trace);
                trace.map_or(behind..behind, trace_extent)
            } else {
                let start = writer.offset.map_or(behind, |offset| offset.0 >> shift);
                let pages = if writer.pattern == Pattern::Idle { 0 } else { writer.working_set.0 >> shift };
                start..start.saturating_add(pages)
            };
            behind = set.end;
            visit(writer, set);
        }
    }

    /// The pages that writers write to, in the order of the writers: their working sets, but of a trace only
    /// what is in it.
    pub(crate) fn written(&self) -> Vec<Range<u64>> {
        let sets = self.working_sets().into_iter().zip(&self.writers);
        sets.flat_map(|(set, writer)| writer.written(set)).collect()
    }

    /// How many pages at least one writer writes to.
    pub fn written_pages(&self) -> u64 {
        if let Some(total) = self.written_in_order() {
            return total;
        }
        let mut sets = self.written();
        sets.sort_unstable_by_key(|set| set.start);
        let (mut total, mut covered) = (0_u64, 0_u64);
        for set in sets {
            total = total.saturating_add(set.end.saturating_sub(set.start.max(covered)));
            covered = covered.max(set.end);
        }
        total
    }

    /// The same where working sets lie one behind the other, without traces: most do.
    fn written_in_order(&self) -> Option<u64> {
        let (mut total, mut covered, mut in_order) = (0_u64, 0_u64, true);
        self.for_each_working_set(|writer, set| {
            in_order &= writer.pattern != Pattern::Trace && set.start >= covered;
            total = total.saturating_add(set.end.saturating_sub(set.start));
            covered = covered.max(set.end);
        });
        in_order.then_some(total)
    }

    fn validate_extents(&self) -> Result<(), ConfigError> {
        let page = self.page_size.bytes().0;
        let pages = self.memory.0 / page;
        let whole = || format!("a whole number of pages of {}", self.page_size);
        for (index, writer) in self.writers.iter().enumerate() {
            let key = format_args!("guest.writers.{index}");
            if writer.pattern == Pattern::Trace {
                writer.validate_trace(&key.to_string(), self)?;
                continue;
            }
            let idle = writer.pattern == Pattern::Idle;
            let size = writer.working_set;
            check(
                idle || (size.0 > 0 && size.0.is_multiple_of(page)),
                format_args!("{key}.working-set"),
                size,
                || format!("{}, at least one", whole()),
            )?;
            self.validate_measured(writer, key)?;
            if let Some(offset) = writer.offset {
                check(offset.0.is_multiple_of(page), format_args!("{key}.offset"), offset, whole)?;
            }
        }
        let mut inside = true;
        self.for_each_working_set(|writer, set| {
            inside &= writer.pattern == Pattern::Trace || set.end <= pages;
        });
        if !inside {
            self.blame_extents(pages)?;
        }
        if self.zero_pages == Share::ZERO {
            return Ok(());
        }
        let free = (pages - self.written_pages().min(pages)) as f64 / pages as f64;
        // A hair of room for shares that were rounded when they were written down.
        check(self.zero_pages.as_f64() <= free + 1e-9, "guest.zero-pages", self.zero_pages.as_f64(), || {
            format!("at most {free:.6}, the share of memory outside all working sets")
        })
    }

    /// Says which working set does not lie in memory.
    #[cold]
    fn blame_extents(&self, pages: u64) -> Result<(), ConfigError> {
        let page = self.page_size.bytes().0;
        for (index, set) in self.working_sets().into_iter().enumerate() {
            let writer = &self.writers[index];
            if writer.pattern == Pattern::Trace {
                continue;
            }
            // Blame the offset if there is one that lies outside on its own.
            let start = ByteCount(set.start.saturating_mul(page));
            if let Some(offset) = writer.offset {
                check(set.start <= pages, format_args!("guest.writers.{index}.offset"), offset, || {
                    format!("less than guest.memory ({})", self.memory)
                })?;
            }
            check(
                set.end <= pages,
                format_args!("guest.writers.{index}.working-set"),
                writer.working_set,
                || {
                    let room = ByteCount(self.memory.0.saturating_sub(start.0));
                    format!(
                        "at most {room}, which is what guest.memory ({}) has from {start} on",
                        self.memory
                    )
                },
            )?;
        }
        Ok(())
    }
}

impl GuestConfig {
    /// A measured program needs its model, and a working set that has room for its pages.
    fn validate_measured(&self, writer: &WriterConfig, key: fmt::Arguments<'_>) -> Result<(), ConfigError> {
        if writer.pattern != Pattern::Measured {
            return Ok(());
        }
        let curve = format!("{key}.curve");
        let Some(model) = &writer.measured else {
            let accepted = "the measured program (`FILE#PROGRAM`), or a trace, for the pattern `measured`";
            return Err(ConfigError::new(curve, writer.curve.as_deref().unwrap_or("none"), accepted));
        };
        model.validate(&curve)?;
        let least = ByteCount(model.pages().0.saturating_mul(self.page_size.bytes().0));
        check(writer.working_set >= least, format_args!("{key}.working-set"), writer.working_set, || {
            format!("at least {least}, the pages that the program was measured to write")
        })
    }
}

impl WriterConfig {
    /// Checks what can be checked without knowing the guest; `key` is where it stands, such as
    /// `guest.writers.0`.
    fn validate(&self, key: fmt::Arguments<'_>) -> Result<(), ConfigError> {
        rate(format_args!("{key}.rate"), self.rate)?;
        if self.pattern == Pattern::HotCold {
            self.validate_hot(key)?;
        }
        check(
            (0.0..=MAX_EXPONENT).contains(&self.exponent),
            format_args!("{key}.exponent"),
            self.exponent,
            || format!("a number from 0 to {MAX_EXPONENT}"),
        )?;
        within(format_args!("{key}.start"), self.start, MAX_TIME)?;
        within(format_args!("{key}.trace-from"), self.trace_from, MAX_TIME)?;
        if let Some(end) = self.end {
            let key = format_args!("{key}.end");
            within(key, end, MAX_TIME)?;
            check(end >= self.start, key, Time(end), || {
                format!("no earlier than its start ({})", duration::format(self.start))
            })?;
        }
        few(format_args!("{key}.phases"), self.phases.len(), "phases")?;
        for (index, phase) in self.phases.iter().enumerate() {
            phase.validate(format_args!("{key}.phases.{index}"))?;
        }
        let size = format_args!("{key}.write-size");
        check(self.write_size > ByteCount(0), size, self.write_size, || "at least 1B".to_owned())?;
        at_most(size, self.write_size)?;
        within(format_args!("{key}.write-cost"), self.write_cost, MAX_COST)?;
        within(format_args!("{key}.catch-up"), self.catch_up, MAX_COST)
    }

    /// Whether there is a trace, and it is one of this guest.
    fn validate_trace(&self, key: &str, guest: &GuestConfig) -> Result<(), ConfigError> {
        let name = self.trace.as_ref().map_or("none", NamedTrace::name);
        let key_of = |what: &str| format!("{key}.{what}");
        let Some(trace) = self.trace.as_ref().and_then(NamedTrace::trace) else {
            return Err(ConfigError::new(
                key_of("trace"),
                name,
                "a trace that was read, for the pattern `trace`",
            ));
        };
        let (page, ours) = (trace.page_size(), guest.page_size);
        check(page == ours, key_of("trace"), format!("{name}, whose pages are {page}"), || {
            format!("a trace with the guest's pages of {ours}")
        })?;
        let (end, pages) = (trace_extent(trace).end, guest.memory.0 / ours.bytes().0);
        check(
            end <= pages,
            key_of("trace"),
            format!("{name}, which goes up to page {}", end.max(1) - 1),
            || format!("a trace within guest.memory ({}, {pages} pages)", guest.memory),
        )?;
        let from = self.trace_from;
        check(from.is_zero() || from < trace.end(), key_of("trace-from"), Time(from), || {
            format!("less than the length of {name} ({})", duration::format(trace.end()))
        })?;
        let touched = trace.touched_pages().0;
        check(
            touched <= MAX_TRACED,
            key_of("trace"),
            format!("{name} with its {touched} different pages"),
            || format!("a trace of at most {MAX_TRACED} different pages"),
        )?;
        check(self.offset.is_none(), key_of("offset"), self.offset.unwrap_or_default(), || {
            "none for a trace, whose pages are the guest's".to_owned()
        })?;
        check(self.phases.is_empty(), key_of("phases"), "a list of phases", || {
            "none for a trace, which has its own".to_owned()
        })
    }

    /// Writes to a part of no size are impossible, whichever part it is.
    fn validate_hot(&self, key: fmt::Arguments<'_>) -> Result<(), ConfigError> {
        let (pages, writes) = (self.hot_pages, self.hot_writes);
        check(
            pages > Share::ZERO || writes == Share::ZERO,
            format_args!("{key}.hot-pages"),
            pages.as_f64(),
            || format!("more than 0, as hot-writes is {}", writes.as_f64()),
        )?;
        check(
            pages < Share::ONE || writes == Share::ONE,
            format_args!("{key}.hot-pages"),
            pages.as_f64(),
            || format!("less than 1, as hot-writes is {}", writes.as_f64()),
        )
    }
}

impl PhaseConfig {
    fn validate(&self, key: fmt::Arguments<'_>) -> Result<(), ConfigError> {
        let length = format_args!("{key}.length");
        check(self.length >= SHORTEST_PHASE, length, Time(self.length), || {
            format!("at least {}", duration::format(SHORTEST_PHASE))
        })?;
        within(length, self.length, MAX_TIME)?;
        rate(format_args!("{key}.rate"), self.rate)
    }
}

/// The shortest phase; shorter ones are a rate of their own, and would cost time at every change.
const SHORTEST_PHASE: Duration = Duration::from_millis(1);
