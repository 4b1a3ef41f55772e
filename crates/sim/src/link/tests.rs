// Exact numbers on purpose: nothing is nothing.
#![allow(clippy::float_cmp)]

use std::time::Duration;

use super::*;
use crate::config::{BandwidthChange, Outage};

const MS: f64 = 1e6;

fn config(megabytes_per_s: u64, buffer: u64) -> LinkConfig {
    LinkConfig {
        bandwidth: Bandwidth::new(megabytes_per_s * 1_000_000).unwrap(),
        payload: Share::ONE,
        buffer: ByteCount(buffer),
        changes: Vec::new(),
        outages: Vec::new(),
        ..LinkConfig::default()
    }
}

#[test]
fn times_are_rounded_up_wherever_they_are() {
    let whole = (1_u64 << 52) as f64;
    let some = [-0.0, -0.5, 0.0, 1e-300, 0.5, 1.0, 1.000_000_1, 1.5, 2.0, 7e14 + 0.5, 7e14 + 0.9375, 1e300];
    let near = [whole - 1.0, whole - 0.5, whole, whole + 1.0, 2.0 * whole + 2.0, f64::INFINITY, f64::NAN];
    for number in some.into_iter().chain(near) {
        assert_eq!(whole_up(number), number.ceil() as u64, "{number}");
    }
}

#[test]
fn what_fits_is_taken_at_once_and_leaves_at_the_bandwidth() {
    let mut link = Link::new(&config(100, 3_000_000), 1.35, 0.0);
    assert!(link.push(0.0, 1_000_000.0) < 1.0);
    assert!((link.drained(0.0) - 10.0 * MS).abs() < 1.0);
    assert!((link.queued(5.0 * MS) - 500_000.0).abs() < 1.0, "{}", link.queued(5.0 * MS));
}

#[test]
fn silence_is_made_up_for_by_the_burst_and_no_more() {
    for (burst, silence, carried) in [(0, 50.0, 70.0), (10, 50.0, 60.0), (10, 4.0, 20.0)] {
        let config = LinkConfig { burst: Duration::from_millis(burst), ..config(100, 3_000_000) };
        let mut link = Link::new(&config, 1.35, 0.0);
        link.push(silence * MS, 2_000_000.0);
        assert!((link.drained(0.0) - carried * MS).abs() < 1.0, "{burst} {silence}: {}", link.drained(0.0));
    }
}

#[test]
fn work_behind_the_queue_holds_the_wire_up_as_far_as_that_is_not_made_up_for() {
    for (burst, carried) in [(0, 32.0), (10, 22.0), (100, 20.0)] {
        let config = LinkConfig { burst: Duration::from_millis(burst), ..config(100, 3_000_000) };
        // A sender that copies in no time.
        let mut link = Link::new(&config, 1e9, 0.0);
        assert_eq!(link.work(0.0, 12.0 * MS, 0.0), 0.0, "who deals does not wait for the work");
        link.work(0.0, 0.0, 2_000_000.0);
        assert!((link.drained(0.0) - carried * MS).abs() < 1.0, "{burst}: {}", link.drained(0.0));
    }
}

#[test]
fn a_full_queue_wakes_the_writer_at_two_thirds() {
    let mut link = Link::new(&config(100, 3_000_000), 1.35, 0.0);
    link.push(0.0, 3_000_000.0);
    // Two thirds are 2 MB, and in whole segments 30 of 64 KiB; the writer waits until the rest has
    // been carried.
    let level = 30.0 * SEGMENT;
    let woken = link.push(0.0, 1.0);
    assert!((woken - (3_000_000.0 - level) * 10.0).abs() < 1.0, "{woken}");
    assert!((link.queued(woken) - level - 1.0).abs() < 1.0, "{}", link.queued(woken));
}

#[test]
fn in_the_long_run_it_carries_what_its_bandwidth_says() {
    for (buffer, piece) in [(3_000_000, 262_144.0), (1, 4104.0), (100_000, 1_000_000.0)] {
        let mut link = Link::new(&config(100, buffer), 1.35, 0.4);
        let mut now = 0.0;
        for _ in 0..1000 {
            now = link.push(now, piece);
        }
        let carried_at = link.drained(0.0);
        let expected = 1000.0 * piece / 0.1;
        assert!((carried_at / expected - 1.0).abs() < 1e-6, "{buffer}: {carried_at} {expected}");
    }
}

#[test]
fn nothing_passes_in_an_outage_and_nothing_is_lost() {
    let mut config = config(100, 1_000_000);
    config.outages = vec![Outage { at: Duration::from_millis(5), length: Duration::from_millis(20) }];
    let mut link = Link::new(&config, 1.35, 0.0);
    link.push(0.0, 1_000_000.0);
    assert!((link.drained(0.0) - 30.0 * MS).abs() < 1.0);
    assert!((link.queued(24.0 * MS) - 500_000.0).abs() < 1.0, "{}", link.queued(24.0 * MS));
}

#[test]
fn bandwidth_changes_when_it_is_said_to_also_within_an_outage() {
    let mut config = config(100, 10_000_000);
    config.changes = vec![
        BandwidthChange { at: Duration::from_millis(10), bandwidth: Bandwidth::new(50_000_000).unwrap() },
        BandwidthChange { at: Duration::from_millis(40), bandwidth: Bandwidth::new(200_000_000).unwrap() },
    ];
    config.outages = vec![Outage { at: Duration::from_millis(30), length: Duration::from_millis(20) }];
    let mut link = Link::new(&config, 1.35, 0.0);
    // 1 MB in 10 ms, 1 MB until 30 ms, nothing until 50 ms, then 200 MB/s: 2 MB in 10 ms.
    link.push(0.0, 4_000_000.0);
    assert!((link.drained(0.0) - 60.0 * MS).abs() < 1.0, "{}", link.drained(0.0));
}

#[test]
fn copying_at_once_is_copying_piece_by_piece() {
    for megabytes in [8, 100, 900] {
        for phase in [0.0, 0.5] {
            let (mut whole, mut pieces) = (
                Link::new(&config(megabytes, 4_194_304), 1.35, phase),
                Link::new(&config(megabytes, 4_194_304), 1.35, phase),
            );
            let (mut one, mut other) = (0.0, 0.0);
            for bytes in [1e6, 5e6, 262_144.0, 2e7, 4104.0, 3e6] {
                one = whole.copy(one, bytes);
                for _ in 0..1000 {
                    other = pieces.copy(other, bytes / 1000.0);
                }
                // A sleep more or less where the last piece fills the queue to the brim.
                let sleep = 1_441_792.0 / (megabytes as f64 / 1e3);
                assert!((one - other).abs() < 1e-3 * sleep, "{megabytes} {phase} {bytes}: {one} {other}");
                assert!((whole.drained(0.0) - pieces.drained(0.0)).abs() < 1.0);
            }
        }
    }
}
