use std::time::Duration;

use proptest::prelude::*;
use whimbrel_core::units::{Bandwidth, Share, Timestamp};

use super::*;
use crate::config::{CompressionConfig, GuestConfig, Pattern, WriteAt, WriterConfig, XbzrleConfig};

const PAGE: u64 = 4096;
const LATER: Pass = Pass { bulk: false, last: false };
const SPEED: f64 = 4104.0 / 250.0;

fn codec(cache: Option<u64>, ratio: Option<f64>) -> Codec {
    let host = HostConfig {
        xbzrle: XbzrleConfig { cache: cache.map(|pages| ByteCount(pages * PAGE)), ..XbzrleConfig::default() },
        compression: CompressionConfig { ratio: ratio.map(Share::clamped), ..CompressionConfig::default() },
        ..HostConfig::default()
    };
    Codec::new(&host, &LinkConfig::default(), (PAGE, 1 << 20), SPEED, 4104.0).unwrap()
}

/// A guest that wrote for some rounds of 100 ms, found after each.
fn guest(writer: WriterConfig, rounds: u64) -> Guest {
    let config = GuestConfig { memory: ByteCount::mib(16), writers: vec![writer], ..GuestConfig::default() };
    let mut guest = Guest::new(&config, 1).unwrap();
    guest.start_tracking(Timestamp::ZERO, Duration::ZERO);
    for round in 1..=rounds {
        guest.harvest(Timestamp::from_nanos(round * 100_000_000), |_, _| {});
    }
    guest
}

fn writer(pattern: Pattern, size: u64, rate: f64) -> WriterConfig {
    let working_set = ByteCount::mib(4);
    WriterConfig { pattern, working_set, rate, write_size: ByteCount(size), ..WriterConfig::default() }
}

fn history(mean: [f64; 3], size: f64, fixed: bool) -> History {
    let wear = |mean| Wear { mean, count: 0.0 };
    let [before, found, now] = mean.map(wear);
    History { before, found, now, size, fixed, changing: 1.0 }
}

/// Equal but for rounding.
fn is(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
}

#[test]
fn without_an_encoding_there_is_no_codec() {
    let host = HostConfig::default();
    assert!(Codec::new(&host, &LinkConfig::default(), (PAGE, 1000), SPEED, 4104.0).is_none());
}

#[test]
fn a_page_is_a_miss_first_and_a_difference_then() {
    let mut codec = codec(Some(1024), None);
    let bulk = Pass { bulk: true, last: false };
    assert_eq!(codec.send(7, bulk, || unreachable!()), Cost { bytes: 4104.0, nanos: 0.0 });
    let first = codec.send(7, LATER, || history([0.0, 1.0, 1.0], 1.0, true));
    is(first.bytes, 4104.0);
    assert_eq!(codec.encoding().cache_misses, Pages(1));
    codec.begin_round(&PageSet::new(1 << 20));
    // One byte at its place: two lengths and the byte, a header of 3, the page's of 8.
    let second = codec.send(7, LATER, || history([1.0, 100.0, 100.0], 1.0, true));
    assert!((second.bytes - 14.0).abs() < 1e-9, "{second:?}");
    let encoding = codec.encoding();
    assert_eq!((encoding.encoded_pages, encoding.encoded_bytes), (Pages(1), ByteCount(6)));
    // A page that costs few bytes costs the time of a page, and that of comparing.
    assert!((second.nanos + second.bytes / SPEED - 250.0 - 409.6).abs() < 1e-6, "{second:?}");
}

#[test]
fn the_last_copy_puts_nothing_into_the_cache() {
    let mut codec = codec(Some(1024), None);
    let last = Pass { bulk: false, last: true };
    for _ in 0..3 {
        is(codec.send(7, last, || history([0.0, 1.0, 1.0], 1.0, true)).bytes, 4104.0);
    }
    assert_eq!(codec.encoding().cache_misses, Pages(3));
}

#[test]
fn a_page_that_did_not_change_since_it_was_sent_costs_nothing_but_time() {
    let mut codec = codec(Some(1024), None);
    // All writes of the last round were sent with the copy.
    codec.send(7, LATER, || history([0.0, 1.0, 5.0], 64.0, false));
    codec.begin_round(&PageSet::new(1 << 20));
    let again = codec.send(7, LATER, || history([1.0, 5.0, 5.0], 64.0, false));
    is(again.bytes, 0.0);
    assert!(again.nanos > 0.0);
    assert_eq!(codec.encoding().encoded_pages, Pages(1));
}

#[test]
fn a_page_changed_all_over_is_sent_as_it_is_and_counts_as_overflow() {
    let mut codec = codec(Some(1024), None);
    codec.send(7, LATER, || history([0.0, 1.0, 1.0], 4096.0, false));
    codec.begin_round(&PageSet::new(1 << 20));
    let again = codec.send(7, LATER, || history([1.0, 90.0, 90.0], 4096.0, false));
    assert!((again.bytes - 4104.0).abs() < 1e-6, "{again:?}");
    assert_eq!(codec.encoding().overflow_pages, Pages(1));
}

#[test]
fn compression_gives_way_to_xbzrle_after_the_bulk_pass() {
    let mut codec = codec(Some(1024), Some(0.5));
    let bulk = codec.send(7, Pass { bulk: true, last: false }, || unreachable!());
    is(bulk.bytes, 2048.0 + COMPRESSED_HEADER + 8.0);
    is(codec.send(7, LATER, || history([0.0; 3], 64.0, false)).bytes, 4104.0);
}

#[test]
fn compressing_threads_set_the_pace_only_where_they_are_slower() {
    let time = |threads: u32, speed: u64| {
        let compression = CompressionConfig {
            ratio: Some(Share::clamped(0.5)),
            threads,
            speed: Bandwidth::new(speed).unwrap(),
            ..CompressionConfig::default()
        };
        let host = HostConfig { compression, ..HostConfig::default() };
        let mut codec = Codec::new(&host, &LinkConfig::default(), (PAGE, 1000), SPEED, 4104.0).unwrap();
        let cost = codec.send(1, LATER, || unreachable!());
        cost.nanos + cost.bytes / SPEED
    };
    // 4096 bytes at 1 GB/s in each of two threads.
    assert!((time(2, 1_000_000_000) - 2048.0).abs() < 1e-6);
    assert!((time(100, 1_000_000_000) - 250.0).abs() < 1e-6);
}

/// Every write of a uniform writer, played.
struct Played {
    state: u64,
    rate: f64,
    next: f64,
    versions: Vec<u32>,
    dirty: Vec<bool>,
}

impl Played {
    fn unit(&mut self) -> f64 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn until(&mut self, seconds: f64) {
        while self.next < seconds {
            let page = (self.unit() * self.versions.len() as f64) as usize;
            self.versions[page] += 1;
            self.dirty[page] = true;
            self.next += -(1.0 - self.unit()).ln() / self.rate;
        }
    }
}

/// What is expected of the writes since a page's copy was made, with pages sent all through a round and a
/// third of them left over in every second one, is what playing every write gives.
#[test]
fn the_pages_that_changed_since_their_copy_are_as_many_as_when_every_write_is_played() {
    const PAGES: usize = 8192;
    const ROUND: f64 = 0.1;
    for writes_a_round in [0.3, 1.0, 2.5] {
        let rate = writes_a_round * PAGES as f64 / ROUND;
        let writer = WriterConfig {
            rate,
            working_set: ByteCount(PAGES as u64 * PAGE),
            write_cost: Duration::ZERO,
            write_at: WriteAt::Fixed,
            write_size: ByteCount(1),
            ..WriterConfig::default()
        };
        let config =
            GuestConfig { memory: ByteCount::mib(64), writers: vec![writer], ..GuestConfig::default() };
        let mut guest = Guest::new(&config, 1).unwrap();
        guest.start_tracking(Timestamp::ZERO, Duration::ZERO);
        let mut played =
            Played { state: 7, rate, next: 0.0, versions: vec![0; PAGES], dirty: vec![false; PAGES] };
        let (mut codec, mut pending) = (codec(Some(PAGES as u64), None), vec![false; PAGES]);
        let (mut copies, mut found, mut changed) = (vec![None; PAGES], 0_u32, 0_u32);
        for round in 1..=30_u32 {
            let at = |part: f64| (f64::from(round) + part) * ROUND;
            let left_over = pending.clone();
            played.until(at(0.0));
            guest.harvest(Timestamp::from_nanos((at(0.0) * 1e9) as u64), |_, _| {});
            codec.begin_round(&PageSet::new(1 << 20));
            for (page, dirty) in std::mem::replace(&mut played.dirty, vec![false; PAGES]).iter().enumerate() {
                pending[page] |= dirty;
            }
            for page in (0..PAGES).filter(|page| round % 2 == 0 || page % 3 != 0) {
                if !std::mem::take(&mut pending[page]) {
                    continue;
                }
                let now = at(page as f64 / PAGES as f64);
                played.until(now);
                guest.advance(Timestamp::from_nanos((now * 1e9) as u64));
                codec.send(page as u64, LATER, || guest.history(page as u64, left_over[page]));
                let version = played.versions[page];
                if let Some(copy) = copies[page].replace(version) {
                    found += 1;
                    changed += u32::from(copy != version);
                }
            }
        }
        assert_eq!(codec.encoding().encoded_pages, Pages(found.into()));
        // Each that changed takes 6 bytes: a header of 3, two lengths and the byte.
        let (expected, changed) = (codec.counts.bytes / 6.0, f64::from(changed));
        let deviation = (changed * (1.0 - changed / f64::from(found))).sqrt();
        assert!(
            (expected - changed).abs() < 4.0 * deviation,
            "{writes_a_round}: {expected}, played {changed} of {found}"
        );
    }
}

proptest! {
    #[test]
    fn a_page_never_exceeds_its_size_and_the_headers(
        cache in prop::option::of(1u64..64), ratio in prop::option::of(0.001..=1.0f64),
        size in 1.0..5000.0f64, fixed in any::<bool>(),
        sends in prop::collection::vec((0u64..100, 0.0..50.0f64, any::<bool>(), any::<bool>()), 1..60),
    ) {
        prop_assume!(cache.is_some() || ratio.is_some());
        let mut codec = codec(cache, ratio);
        let mut wear = [0.0; 3];
        for (page, more, bulk, last) in sends {
            wear = [wear[1], wear[2], wear[2] + more];
            let cost = codec.send(page, Pass { bulk, last }, || history(wear, size, fixed));
            prop_assert!((0.0..=4096.0 + 8.0 + delta::HEADER).contains(&cost.bytes), "{cost:?}");
            prop_assert!(cost.nanos.is_finite() && cost.nanos >= 0.0);
            codec.begin_round(&PageSet::new(1 << 20));
        }
    }

    #[test]
    fn compressed_bytes_are_the_ratio_within_headers(ratio in 0.001..=1.0f64, pages in 1u64..200) {
        let mut codec = codec(None, Some(ratio));
        let bytes: f64 = (0..pages).map(|page| codec.send(page, LATER, || unreachable!()).bytes).sum();
        let raw = (pages * PAGE) as f64;
        prop_assert!(bytes > raw * ratio - 1e-3 && bytes < raw * ratio + pages as f64 * 12.0 + 1e-3);
        prop_assert!(bytes < raw + pages as f64 * 8.0 + 1e-3);
        prop_assert_eq!(codec.encoding().encoded_pages, Pages(pages));
    }

    #[test]
    fn asking_page_by_page_is_asking_word_by_word(
        pattern in prop::sample::select(vec![
            Pattern::Uniform, Pattern::Sequential, Pattern::HotCold, Pattern::Zipf,
        ]),
        size in 1u64..4096, rate in 100.0..100_000.0f64, fixed in any::<bool>(),
        places in 4u32..12, rounds in 1u64..6, room in 0.0..20_000.0f64,
    ) {
        let places = Some(1u64 << places);
        let (mut whole, mut pieces) = (codec(places, None), codec(places, None));
        let write_at = if fixed { WriteAt::Fixed } else { WriteAt::Random };
        let writer = WriterConfig { write_at, ..writer(pattern, size, rate) };
        let marker = (0, Cost::default());
        for round in 1..=rounds {
            let mut guest = guest(writer.clone(), round);
            for word in 0..16 {
                let (all, cost) =
                    whole.send_word(word, u64::MAX, marker, LATER, f64::INFINITY, &mut guest);
                prop_assert_eq!(all, u64::MAX);
                let (mut left, mut bytes, mut nanos) = (u64::MAX, 0.0, 0.0);
                while left != 0 {
                    let (sent, cost) = pieces.send_word(word, left, marker, LATER, room, &mut guest);
                    prop_assert!(sent != 0 && sent & !left == 0);
                    left &= !sent;
                    bytes += cost.bytes;
                    nanos += cost.nanos;
                }
                prop_assert!((bytes - cost.bytes).abs() < 1e-6 && (nanos - cost.nanos).abs() < 1e-6);
            }
            whole.begin_round(&PageSet::new(1 << 20));
            pieces.begin_round(&PageSet::new(1 << 20));
        }
        let (one, other) = (whole.counts, pieces.counts);
        prop_assert_eq!((one.pages, one.misses), (other.pages, other.misses));
        prop_assert!((one.bytes - other.bytes).abs() < 1e-3);
    }
}
