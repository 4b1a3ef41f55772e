//! Checks that a configuration describes something that can exist and be simulated.
//!
//! Called by whoever built the configuration, before the simulator is. Stops at the first fault and
//! names it by the key under which scenario files know it.

use std::fmt::{self, Display};
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use whimbrel_core::layout::PageSize;
use whimbrel_core::units::{ByteCount, Share, duration};

use crate::guest::trace_extent;
use crate::trace::NamedTrace;

use super::{GuestConfig, HostConfig, LinkConfig, Pattern, PhaseConfig, WriterConfig};

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
/// The entries that a dirty ring may have: from what QEMU accepts to what KVM does
/// (`KVM_DIRTY_RING_MAX_ENTRIES`).
const DIRTY_RINGS: RangeInclusive<u32> = 1024..=65_536;
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
/// The shortest window of the rate limiter.
const SHORTEST_WINDOW: Duration = Duration::from_micros(100);
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

impl HostConfig {
    /// Checks the hosts, keys as in scenario files (`host.…`).
    ///
    /// # Errors
    ///
    /// The first value that cannot be, with what is accepted.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let costs = [
            ("page-cost", self.page_cost),
            ("zero-page-cost", self.zero_page_cost),
            ("receive-cost", self.receive_cost),
            ("first-touch-cost", self.first_touch_cost),
            ("harvest-cost", self.harvest_cost),
            ("start-tracking-cost", self.start_tracking_cost),
            ("tracking-fault", self.tracking_fault),
            ("post-copy-fault", self.post_copy_fault),
            ("limit-window", self.limit_window),
            ("pause", self.pause),
            ("switchover-gate", self.switchover_gate),
            ("save-state", self.save_state),
            ("restore-state", self.restore_state),
            ("resume", self.resume),
            ("count-jitter", self.count_jitter),
            ("announce", self.announce),
            ("persist", self.persist),
        ];
        for (key, cost) in costs {
            within(format_args!("host.{key}"), cost, MAX_COST)?;
        }
        let window = self.limit_window;
        check(window >= SHORTEST_WINDOW, "host.limit-window", Time(window), || {
            format!("at least {}", duration::format(SHORTEST_WINDOW))
        })?;
        check((1..=1_000_000).contains(&self.send_batch), "host.send-batch", self.send_batch, || {
            "a whole number from 1 to 1000000".to_owned()
        })?;
        self.validate_encodings()?;
        let ring = self.dirty_ring;
        check(ring.is_power_of_two() && DIRTY_RINGS.contains(&ring), "host.dirty-ring", ring, || {
            format!("a power of two from {} to {}", DIRTY_RINGS.start(), DIRTY_RINGS.end())
        })
    }

    fn validate_encodings(&self) -> Result<(), ConfigError> {
        check((1..=MAX_STREAMS).contains(&self.streams), "host.streams", self.streams, || {
            format!("a whole number from 1 to {MAX_STREAMS}")
        })?;
        if let Some(cache) = self.xbzrle.cache {
            let key = "host.xbzrle.cache";
            check(cache >= SMALLEST_CACHE && cache.0.is_power_of_two(), key, cache, || {
                format!("`none`, or a power of two from {SMALLEST_CACHE} on, such as `64MiB`")
            })?;
            at_most(key, cache)?;
            check(self.streams == 1, key, cache, || {
                format!(
                    "`none` with several streams (host.streams is {}), which send whole pages",
                    self.streams
                )
            })?;
        }
        let compression = &self.compression;
        if let Some(ratio) = compression.ratio {
            check(ratio > Share::ZERO, "host.compression.ratio", ratio.as_f64(), || {
                "`none`, or a share above 0, up to 1: what is left of a page".to_owned()
            })?;
        }
        let threads = compression.threads;
        check((1..=MAX_STREAMS).contains(&threads), "host.compression.threads", threads, || {
            format!("a whole number from 1 to {MAX_STREAMS}")
        })
    }

    /// Checks that a fluid simulation covers it: whether a page can be encoded depends on what became of that
    /// very page, and which ones are left out hangs on when each is reached.
    ///
    /// # Errors
    ///
    /// The first key that it does not cover.
    pub fn validate_for_fluid(&self) -> Result<(), ConfigError> {
        let other = "leaving it out, or `run.fidelity = \"exact\"`";
        let used = [
            (self.xbzrle.cache.is_some(), "host.xbzrle.cache"),
            (self.compression.ratio.is_some(), "host.compression.ratio"),
            (self.skip_redirtied, "host.skip-redirtied"),
        ];
        match used.iter().find(|(used, _)| *used) {
            Some(&(_, key)) => Err(ConfigError::new(key, "set in a fluid simulation", other)),
            None => Ok(()),
        }
    }

    /// Checks what depends on the size of a page.
    ///
    /// # Errors
    ///
    /// If the cache of xbzrle holds not a single page.
    pub fn validate_for(&self, page_size: PageSize) -> Result<(), ConfigError> {
        self.xbzrle.cache.map_or(Ok(()), |cache| {
            check(cache >= page_size.bytes(), "host.xbzrle.cache", cache, || {
                format!("`none`, or at least a page of the guest ({page_size})")
            })
        })
    }
}

/// The most streams and threads: QEMU takes 255 of each.
const MAX_STREAMS: u32 = 255;
/// The smallest cache: the smallest page.
const SMALLEST_CACHE: ByteCount = ByteCount::kib(4);

impl LinkConfig {
    /// Checks the link, keys as in scenario files (`link.…`).
    ///
    /// # Errors
    ///
    /// The first value that cannot be, with what is accepted.
    pub fn validate(&self) -> Result<(), ConfigError> {
        within("link.round-trip", self.round_trip, MAX_COST)?;
        check(self.payload > Share::ZERO, "link.payload", self.payload.as_f64(), || {
            "a share above 0, up to 1".to_owned()
        })?;
        check(self.buffer >= SMALLEST_BUFFER, "link.buffer", self.buffer, || {
            format!("at least {SMALLEST_BUFFER}")
        })?;
        at_most("link.buffer", self.buffer)?;
        at_most("link.queue", self.queue)?;
        at_most("link.page-overhead", self.page_overhead)?;
        at_most("link.packet-overhead", self.packet_overhead)?;
        at_most("link.zero-page-size", self.zero_page_size)?;
        at_most("link.message-overhead", self.message_overhead)?;
        self.validate_changes()?;
        self.validate_outages()?;
        self.lost_at.map_or(Ok(()), |at| within("link.lost-at", at, MAX_TIME))
    }

    fn validate_changes(&self) -> Result<(), ConfigError> {
        few("link.changes", self.changes.len(), "changes")?;
        let mut before = None;
        for (index, change) in self.changes.iter().enumerate() {
            let key = format_args!("link.changes.{index}.at");
            within(key, change.at, MAX_TIME)?;
            if let Some(before) = before {
                check(change.at > before, key, Time(change.at), || {
                    format!("later than the change before it ({})", duration::format(before))
                })?;
            }
            before = Some(change.at);
        }
        Ok(())
    }

    fn validate_outages(&self) -> Result<(), ConfigError> {
        few("link.outages", self.outages.len(), "outages")?;
        let mut over = None;
        for (index, outage) in self.outages.iter().enumerate() {
            let key = format_args!("link.outages.{index}");
            within(format_args!("{key}.at"), outage.at, MAX_TIME)?;
            within(format_args!("{key}.length"), outage.length, MAX_TIME)?;
            check(!outage.length.is_zero(), format_args!("{key}.length"), "0s", || {
                "more than 0s".to_owned()
            })?;
            if let Some(over) = over {
                check(outage.at > over, format_args!("{key}.at"), Time(outage.at), || {
                    format!("later than the end of the outage before it ({})", duration::format(over))
                })?;
            }
            over = Some(outage.at.saturating_add(outage.length));
        }
        Ok(())
    }
}

/// The smallest buffer: less than a page would never let one pass.
const SMALLEST_BUFFER: ByteCount = ByteCount::kib(4);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BandwidthChange, Outage};
    use whimbrel_core::units::Bandwidth;

    fn guest(change: impl FnOnce(&mut GuestConfig)) -> Result<(), String> {
        let mut guest = GuestConfig { writers: vec![WriterConfig::default()], ..GuestConfig::default() };
        change(&mut guest);
        guest.validate().map_err(|error| error.to_string())
    }

    fn link(change: impl FnOnce(&mut LinkConfig)) -> Result<(), String> {
        let mut link = LinkConfig::default();
        change(&mut link);
        link.validate().map_err(|error| error.to_string())
    }

    fn refused(text: &str) -> Result<(), String> {
        Err(text.to_owned())
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(guest(|_| {}), Ok(()));
        assert_eq!(link(|_| {}), Ok(()));
        assert_eq!(HostConfig::default().validate(), Ok(()));
    }

    #[test]
    fn a_guest_that_cannot_be_is_refused_by_name() {
        assert_eq!(
            guest(|g| g.memory = ByteCount(0)),
            refused("`guest.memory` cannot be 0B: accepted is a whole number of pages of 4KiB, at least one")
        );
        assert_eq!(
            guest(|g| g.memory = ByteCount::gib(1 << 20)),
            refused(
                "`guest.memory` cannot be 1PiB: accepted is at most 16TiB with pages of 4KiB (2^32 pages)"
            )
        );
        assert_eq!(
            guest(|g| g.vcpus = 0),
            refused("`guest.vcpus` cannot be 0: accepted is a whole number from 1 to 16384")
        );
        assert_eq!(
            guest(|g| g.memory = ByteCount::mib(256)),
            refused(
                "`guest.writers.0.working-set` cannot be 512MiB: accepted is at most 256MiB, which is what \
                 guest.memory (256MiB) has from 0B on"
            )
        );
        assert_eq!(
            guest(|g| g.zero_pages = Share::percent(90)),
            refused(
                "`guest.zero-pages` cannot be 0.9: accepted is at most 0.875000, the share of memory outside all \
                 working sets"
            )
        );
        assert_eq!(
            guest(|g| g.writers[0].rate = f64::NAN),
            refused("`guest.writers.0.rate` cannot be NaN: accepted is page writes a second from 0 to 1e12")
        );
        assert_eq!(
            guest(|g| {
                g.writers[0].pattern = Pattern::HotCold;
                g.writers[0].hot_pages = Share::ZERO;
            }),
            refused("`guest.writers.0.hot-pages` cannot be 0: accepted is more than 0, as hot-writes is 0.9")
        );
    }

    #[test]
    fn encodings_that_cannot_be_are_refused_by_name() {
        let host = |change: fn(&mut HostConfig)| {
            let mut host = HostConfig::default();
            change(&mut host);
            let checked = host.validate().and_then(|()| host.validate_for(PageSize::Mib2));
            checked.map_err(|error| error.to_string())
        };
        assert_eq!(
            host(|h| h.xbzrle.cache = Some(ByteCount::mib(48))),
            refused(
                "`host.xbzrle.cache` cannot be 48MiB: accepted is `none`, or a power of two from 4KiB on, such as \
                 `64MiB`"
            )
        );
        assert_eq!(
            host(|h| h.xbzrle.cache = Some(ByteCount::mib(1))),
            refused(
                "`host.xbzrle.cache` cannot be 1MiB: accepted is `none`, or at least a page of the guest (2MiB)"
            )
        );
        assert_eq!(
            host(|h| {
                h.xbzrle.cache = Some(ByteCount::mib(64));
                h.streams = 4;
            }),
            refused(
                "`host.xbzrle.cache` cannot be 64MiB: accepted is `none` with several streams (host.streams is 4), \
                 which send whole pages"
            )
        );
        assert_eq!(
            host(|h| h.compression.ratio = Some(Share::ZERO)),
            refused(
                "`host.compression.ratio` cannot be 0: accepted is `none`, or a share above 0, up to 1: what is left \
                 of a page"
            )
        );
        assert_eq!(
            host(|h| h.streams = 0),
            refused("`host.streams` cannot be 0: accepted is a whole number from 1 to 255")
        );
        assert_eq!(host(|h| h.xbzrle.cache = Some(ByteCount::mib(64))), Ok(()));
    }

    #[test]
    fn working_sets_lie_behind_each_other_unless_they_say_where() {
        let writer = |mib, offset: Option<u64>| WriterConfig {
            working_set: ByteCount::mib(mib),
            offset: offset.map(ByteCount::mib),
            ..WriterConfig::default()
        };
        let writers = vec![writer(1, None), writer(2, None), writer(1, Some(2)), writer(1, None)];
        let mut config = GuestConfig { writers, ..GuestConfig::default() };
        assert_eq!(config.working_sets(), [0..256, 256..768, 512..768, 768..1024]);
        assert_eq!(config.written_pages(), 1024);
        config.writers[1].pattern = Pattern::Idle;
        assert_eq!(config.working_sets(), [0..256, 256..256, 512..768, 768..1024]);
        assert_eq!(config.written_pages(), 768);
    }

    #[test]
    fn a_link_whose_events_are_out_of_order_is_refused() {
        let second = Duration::from_secs;
        let change = |at| BandwidthChange { at: second(at), bandwidth: Bandwidth::SLOWEST };
        assert_eq!(
            link(|l| l.changes = vec![change(5), change(5)]),
            refused("`link.changes.1.at` cannot be 5s: accepted is later than the change before it (5s)")
        );
        let outage = |at, length| Outage { at: second(at), length: second(length) };
        assert_eq!(
            link(|l| l.outages = vec![outage(5, 2), outage(6, 1)]),
            refused(
                "`link.outages.1.at` cannot be 6s: accepted is later than the end of the outage before it (7s)"
            )
        );
        assert_eq!(
            link(|l| l.payload = Share::ZERO),
            refused("`link.payload` cannot be 0: accepted is a share above 0, up to 1")
        );
    }
}
