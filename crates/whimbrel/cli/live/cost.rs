//! What pages became and what tracking took, as records have it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use whimbrel_core::report::Report;
use whimbrel_engine::source::Tracking;
use whimbrel_lab::result::{EncodingRecord, MigrationRecord, milliseconds};
use whimbrel_sim::Lost;
use whimbrel_wire::pages::{Encoded, Encoding, Tallies};

/// The record of a move, with what its pages became.
pub(in crate::cli) fn record(
    report: &Report,
    (encoded, cpu): (&Encoded, Option<Duration>),
    lost: &Lost,
    seed: u64,
) -> MigrationRecord {
    let all = [Encoding::Lz4, Encoding::Zstd, Encoding::Delta];
    let packed =
        [Encoding::Lz4, Encoding::Zstd].iter().map(|encoding| encoded.of(*encoding).pages.0).sum::<u64>();
    // A page whose difference was too long was packed, if pages are.
    let overflowed = if packed > 0 { 0 } else { encoded.overflows.0 };
    let pages = all.map(|encoding| encoded.of(encoding).pages.0).iter().sum::<u64>();
    let encoding = EncodingRecord {
        encoded_pages: pages + encoded.unchanged.0 + overflowed,
        encoded_bytes: all.map(|encoding| encoded.of(encoding).bytes.0).iter().sum(),
        cache_misses: encoded.misses.0,
        overflow_pages: encoded.overflows.0,
        source_cpu_s: cpu.map(|cpu| cpu.as_secs_f64()),
    };
    MigrationRecord {
        encoding,
        unchanged_pages: encoded.unchanged.0,
        ..MigrationRecord::of_report(report, lost, seed)
    }
}

/// Pages, and bytes of their payloads.
#[derive(Debug, Serialize)]
pub(super) struct As {
    pub(super) pages: u64,
    pub(super) bytes: u64,
}

/// By encoding; those in which nothing was sent, too.
pub(super) fn encodings(tallies: &Tallies) -> BTreeMap<&'static str, As> {
    let of = |encoding: Encoding| {
        let tally = tallies.of(encoding);
        (encoding.name(), As { pages: tally.pages.0, bytes: tally.bytes.0 })
    };
    Encoding::ALL.into_iter().map(of).collect()
}

/// What the dirty log took and found.
#[derive(Debug, Serialize)]
pub(super) struct TrackingRecord {
    start_ms: f64,
    harvests: u32,
    harvesting_ms: f64,
    longest_harvest_ms: f64,
    found_pages: u64,
    stop_ms: f64,
}

impl TrackingRecord {
    pub(super) fn of(tracking: &Tracking) -> Self {
        Self {
            start_ms: milliseconds(tracking.start),
            harvests: tracking.harvests,
            harvesting_ms: milliseconds(tracking.harvesting),
            longest_harvest_ms: milliseconds(tracking.longest),
            found_pages: tracking.found.0,
            stop_ms: milliseconds(tracking.stop),
        }
    }
}
