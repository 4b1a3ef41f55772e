//! The same of the hosts and of the link between them.

use std::ops::RangeInclusive;
use std::time::Duration;

use whimbrel_core::layout::PageSize;
use whimbrel_core::units::{ByteCount, Share, duration};

use super::{ConfigError, MAX_COST, MAX_TIME, Time, at_most, check, few, within};
use crate::config::{HostConfig, LinkConfig};

/// The entries that a dirty ring may have: from what QEMU accepts to what KVM does
/// (`KVM_DIRTY_RING_MAX_ENTRIES`).
const DIRTY_RINGS: RangeInclusive<u32> = 1024..=65_536;
/// The shortest window of the rate limiter.
const SHORTEST_WINDOW: Duration = Duration::from_micros(100);

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
        within("link.burst", self.burst, MAX_COST)?;
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
