//! Encoder to decoder: whatever the guest does, the other side ends with its memory.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use whimbrel_core::embed::{GuestRam, Piece, RamError};
use whimbrel_core::layout::{Gpa, PageNumber, PageRun, PageSize, RamLayout};
use whimbrel_core::units::{Bandwidth, ByteCount, Pages, Timestamp};

use super::testing::{self, VecRam, compressible, random};
use super::*;

const PAGE: usize = 4096;

fn run(first: u64, count: u64) -> PageRun {
    PageRun { first: PageNumber(first), count: Pages(count) }
}

/// All runs of [`VecRam::small`], each a batch.
fn all() -> [PageRun; 3] {
    [run(0, 64), run(64, 40), run(128, 7)]
}

fn address(ram: &dyn GuestRam, page: u64) -> Gpa {
    ram.layout().address_of(PageNumber(page)).unwrap()
}

fn fill(ram: &dyn GuestRam, page: u64, content: &[u8]) {
    ram.write(address(ram, page), content).unwrap();
}

fn everything(cache: u64) -> EncoderConfig {
    EncoderConfig {
        encodings: Encodings::available(),
        delta_cache: ByteCount(cache),
        ..EncoderConfig::default()
    }
}

/// Both ends.
struct Both {
    source: VecRam,
    replica: VecRam,
    encoder: Encoder,
    decoder: Decoder,
    frame: PageFrame,
}

impl Both {
    fn new(config: &EncoderConfig) -> Self {
        Self {
            source: VecRam::small(),
            replica: VecRam::small(),
            encoder: Encoder::new(config, PageSize::Kib4).unwrap(),
            decoder: Decoder::new(PageSize::Kib4),
            frame: PageFrame::new(),
        }
    }

    /// Sends what `runs` hold now, all of it.
    fn send(&mut self, runs: &[PageRun]) -> Encoded {
        let encoded = self.encoder.encode(runs, &self.source, &mut self.frame).unwrap();
        if !self.frame.is_empty() {
            let bytes = testing::send(&self.frame, &self.source).unwrap();
            assert_eq!(bytes.len() as u64, encoded.bytes.0);
            testing::receive(&bytes, Encodings::available(), &mut self.decoder, &self.replica).unwrap();
        }
        encoded
    }

    fn assert_equal(&self) {
        assert!(self.source.content() == self.replica.content());
    }
}

#[test]
fn zero_and_raw_pages_are_joined_within_a_region_and_raw_ones_are_not_copied() {
    let mut both = Both::new(&EncoderConfig::default());
    for page in (3..10).chain(60..70) {
        fill(&both.source, page, &random(PAGE, page));
    }
    let encoded = both.send(&[run(0, 104)]);
    assert_eq!((encoded.of(Encoding::Zero).pages, encoded.of(Encoding::Raw).pages), (Pages(87), Pages(17)));
    let runs: Vec<_> = both.frame.entries().iter().map(|entry| (entry.run().first.0, entry.pages)).collect();
    // Page 64 is the first of the second region.
    assert_eq!(runs, [(0, 3), (3, 7), (10, 50), (60, 4), (64, 6), (70, 34)]);
    let copied: Vec<_> = both.frame.pieces().filter(|piece| matches!(piece, Piece::Bytes(_))).collect();
    assert_eq!(copied.len(), 1, "header and table");
    both.assert_equal();
}

#[test]
fn without_zero_detection_every_page_goes_with_its_bytes() {
    let mut both = Both::new(&EncoderConfig { zero_detection: false, ..EncoderConfig::default() });
    let encoded = both.send(&[run(0, 64)]);
    assert_eq!(encoded.of(Encoding::Raw).bytes, ByteCount::kib(256));
    assert_eq!(both.frame.pieces().count(), 2);
}

#[test]
fn checksums_cover_payloads_and_see_a_flipped_bit() {
    let mut both = Both::new(&EncoderConfig { payload_checksums: true, ..EncoderConfig::default() });
    fill(&both.source, 3, &random(PAGE, 3));
    both.encoder.encode(&[run(0, 8)], &both.source, &mut both.frame).unwrap();
    assert!(both.frame.pieces().all(|piece| matches!(piece, Piece::Bytes(_))));
    let mut bytes = testing::send(&both.frame, &both.source).unwrap();
    *bytes.last_mut().unwrap() ^= 4;
    let refused = testing::receive(&bytes, Encodings::PLAIN, &mut both.decoder, &both.replica).unwrap_err();
    assert!(refused.contains("checksum"), "{refused}");
}

#[cfg(all(feature = "lz4", feature = "zstd"))]
#[test]
fn each_compressor_packs_what_can_be_packed_and_leaves_what_cannot() {
    for (compression, encoding) in [(Compression::Lz4, Encoding::Lz4), (Compression::Zstd, Encoding::Zstd)] {
        let mut both = Both::new(&EncoderConfig { compression, ..everything(0) });
        // A zero page keeps those that can be packed from those that can't.
        for page in 0..15 {
            fill(&both.source, page, &compressible(PAGE, 30, page));
        }
        for page in 16..48 {
            fill(&both.source, page, &random(PAGE, page));
        }
        let encoded = both.send(&[run(0, 64)]);
        let packed = encoded.of(encoding);
        assert_eq!((packed.pages, encoded.of(Encoding::Raw).pages), (Pages(15), Pages(32)));
        assert!(packed.bytes.0 < 15 * 4096 * 6 / 10, "{encoded:?}");
        both.assert_equal();
    }
}

#[test]
fn an_encoding_that_the_peer_does_not_speak_is_not_used() {
    let plain =
        EncoderConfig { compression: Compression::Lz4, encodings: Encodings::PLAIN, ..everything(1 << 20) };
    let mut both = Both::new(&plain);
    both.encoder.begin_pass(Pass::Round);
    for _ in 0..3 {
        fill(&both.source, 0, &compressible(PAGE, 30, 1));
        let encoded = both.send(&[run(0, 1)]);
        assert_eq!(encoded.of(Encoding::Raw).pages, Pages(1));
    }
}

/// A clock that says what it is told.
fn clock(nanos_a_look: u64) -> Clock {
    let now = AtomicU64::new(0);
    Box::new(move || Timestamp::from_nanos(now.fetch_add(nanos_a_look, Ordering::Relaxed)))
}

#[cfg(all(feature = "lz4", feature = "zstd"))]
#[test]
fn a_slow_link_is_worth_packing_for_and_a_fast_one_is_not() {
    // 20 us a group of 64 KiB: 0.3 ns a byte; a tenth of the bytes is saved in any case.
    let cases = [(Some(10_000_000), true), (Some(100_000_000_000), false), (None, false)];
    for (bandwidth, packs) in cases {
        let mut both = Both::new(&everything(0));
        both.encoder = Encoder::new(&everything(0), PageSize::Kib4).unwrap().with_clock(clock(20_000));
        both.encoder.set_bandwidth(bandwidth.and_then(Bandwidth::new));
        for page in 0..64 {
            fill(&both.source, page, &compressible(PAGE, 30, page));
        }
        // Each compressor has its first two turns: what the first one took says nothing.
        for _ in 0..4 {
            both.send(&[run(0, 64)]);
        }
        let encoded = both.send(&[run(0, 64)]);
        let packed = encoded.of(Encoding::Lz4).pages + encoded.of(Encoding::Zstd).pages;
        assert_eq!(packed, Pages(if packs { 64 } else { 0 }), "{bandwidth:?}: {encoded:?}");
        both.assert_equal();
    }
}

#[test]
fn pages_without_order_are_not_even_copied_when_packing_pays() {
    let mut both = Both::new(&everything(0));
    both.encoder.set_bandwidth(Bandwidth::new(1_000_000));
    for page in 0..32 {
        fill(&both.source, page, &random(PAGE, page));
    }
    both.send(&[run(0, 32)]);
    assert!(both.frame.pieces().any(|piece| matches!(piece, Piece::Ram(_))));
    both.assert_equal();
}

#[test]
fn what_was_sent_before_costs_what_changed_in_it() {
    let mut both = Both::new(&EncoderConfig { compression: Compression::Off, ..everything(8 << 20) });
    for page in 0..32 {
        fill(&both.source, page, &random(PAGE, page));
    }
    both.send(&[run(0, 64)]);
    both.encoder.begin_pass(Pass::Round);
    let filled = both.send(&[run(0, 32)]);
    assert_eq!((filled.misses, filled.of(Encoding::Raw).pages), (Pages(32), Pages(32)));
    both.encoder.begin_pass(Pass::Round);
    // One changed, 2 unchanged, 3 and 5 changed, 4 unchanged, 6 wholly new, 7 zero.
    for (page, at) in [(1, 10), (3, 4095), (5, 0)] {
        let at = Gpa(address(&both.source, page).0 + at);
        let mut byte = [0];
        both.source.read(at, &mut byte).unwrap();
        both.source.write(at, &[!byte[0]]).unwrap();
    }
    fill(&both.source, 6, &random(PAGE, 77));
    fill(&both.source, 7, &[0; PAGE]);
    let encoded = both.send(&[run(1, 7)]);
    assert_eq!((encoded.unchanged, encoded.overflows, encoded.misses), (Pages(2), Pages(1), Pages(0)));
    // One entry from 1 to 5, in which the unchanged ones are gaps.
    let delta = encoded.of(Encoding::Delta);
    assert_eq!((delta.pages, delta.bytes), (Pages(5), ByteCount(3 + 4 + 4)));
    assert_eq!((encoded.of(Encoding::Raw).pages, encoded.of(Encoding::Zero).pages), (Pages(1), Pages(1)));
    both.assert_equal();
    // What was zero is known as zero.
    fill(&both.source, 7, &[[0; PAGE - 1].as_slice(), &[9]].concat());
    let encoded = both.send(&[run(7, 1)]);
    assert_eq!(encoded.of(Encoding::Delta).bytes, ByteCount(4));
    both.assert_equal();
    // And nothing at all if nothing changed.
    assert_eq!(both.send(&[run(0, 32)]).unchanged, Pages(32));
    assert!(both.frame.is_empty() && both.frame.len() == ByteCount(0));
}

#[test]
fn a_link_that_is_faster_than_comparing_pages_does_without_deltas() {
    for (bandwidth, kept) in [(1_000_000, true), (100_000_000_000, false)] {
        let mut both = Both::new(&everything(0));
        both.encoder = Encoder::new(&everything(8 << 20), PageSize::Kib4).unwrap().with_clock(clock(50_000));
        both.encoder.set_bandwidth(Bandwidth::new(bandwidth));
        let mut deltas = 0;
        for round in 0..6 {
            both.encoder.begin_pass(Pass::Round);
            for page in 0..20 {
                let content = [[round; 100].as_slice(), &random(PAGE - 100, page)].concat();
                fill(&both.source, page, &content);
            }
            deltas = both.send(&[run(0, 20)]).of(Encoding::Delta).pages.0;
        }
        assert_eq!(deltas, if kept { 20 } else { 0 });
        both.assert_equal();
    }
}

/// The bulk round sends without a copy: a page that was known before is not known any more.
#[test]
fn a_page_sent_without_a_copy_is_forgotten() {
    let mut both = Both::new(&EncoderConfig { compression: Compression::Off, ..everything(8 << 20) });
    both.encoder.begin_pass(Pass::Round);
    fill(&both.source, 0, &random(PAGE, 1));
    both.send(&[run(0, 1)]);
    both.encoder.begin_pass(Pass::Bulk);
    both.encoder.encode(&[run(0, 1)], &both.source, &mut both.frame).unwrap();
    // Written between look and send.
    fill(&both.source, 0, &random(PAGE, 2));
    let bytes = testing::send(&both.frame, &both.source).unwrap();
    testing::receive(&bytes, Encodings::PLAIN, &mut both.decoder, &both.replica).unwrap();
    both.encoder.begin_pass(Pass::Round);
    assert_eq!(both.send(&[run(0, 1)]).misses, Pages(1));
    both.assert_equal();
}

#[test]
fn a_batch_that_cannot_be_read_leaves_nothing_that_the_destination_lacks() {
    let mut both = Both::new(&EncoderConfig { compression: Compression::Off, ..everything(8 << 20) });
    both.encoder.begin_pass(Pass::Round);
    fill(&both.source, 0, &random(PAGE, 1));
    let error = both.encoder.encode(&[run(0, 1), run(120, 1)], &both.source, &mut both.frame).unwrap_err();
    assert_eq!(error.to_string(), "page 120 is no page of the guest");
    assert!(both.frame.is_empty());
    let encoded = both.send(&[run(0, 1)]);
    assert_eq!(encoded.misses, Pages(1));
    both.assert_equal();
    let error = both.encoder.encode(&[run(0, 129)], &both.source, &mut both.frame).unwrap_err();
    assert!(error.to_string().starts_with("129 pages of 4KiB in one batch, at most 128"), "{error}");
}

#[test]
fn zeroes_are_written_only_where_memory_is_not_zero() {
    /// Counts writes.
    struct Counting(VecRam, AtomicU64);
    impl GuestRam for Counting {
        fn layout(&self) -> &RamLayout {
            self.0.layout()
        }
        fn read(&self, at: Gpa, out: &mut [u8]) -> Result<(), RamError> {
            self.0.read(at, out)
        }
        fn write(&self, at: Gpa, data: &[u8]) -> Result<(), RamError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.write(at, data)
        }
    }
    let replica = Counting(VecRam::small(), AtomicU64::new(0));
    fill(&replica.0, 5, &[[0; PAGE - 1].as_slice(), &[1]].concat());
    let mut both = Both::new(&EncoderConfig::default());
    both.encoder.encode(&[run(0, 64)], &both.source, &mut both.frame).unwrap();
    let bytes = testing::send(&both.frame, &both.source).unwrap();
    both.decoder.set_untouched(true);
    testing::receive(&bytes, Encodings::PLAIN, &mut both.decoder, &replica).unwrap();
    assert_eq!(replica.1.load(Ordering::Relaxed), 0);
    both.decoder.set_untouched(false);
    testing::receive(&bytes, Encodings::PLAIN, &mut both.decoder, &replica).unwrap();
    assert_eq!(replica.1.load(Ordering::Relaxed), 1);
    assert!(replica.0.content() == both.source.content());
}

#[test]
fn huge_pages_go_the_same_ways() {
    let layout = RamLayout::contiguous(ByteCount::mib(6), PageSize::Mib2).unwrap();
    let (source, replica) = (VecRam::new(layout.clone()), VecRam::new(layout));
    let (mut decoder, mut frame) = (Decoder::new(PageSize::Mib2), PageFrame::new());
    for compression in [Compression::Off, Compression::Lz4, Compression::Zstd] {
        let config = EncoderConfig { compression, ..everything(16 << 20) };
        let mut encoder = Encoder::new(&config, PageSize::Mib2).unwrap();
        source.write(Gpa(0), &compressible(2 << 20, 30, 1)).unwrap();
        encoder.begin_pass(Pass::Round);
        for step in 0..3 {
            source.write(Gpa(5000 + step), &[7; 3]).unwrap();
            source.write(Gpa((4 << 20) + step * 4096), &[step as u8]).unwrap();
            for page in 0..3 {
                encoder.encode(&[run(page, 1)], &source, &mut frame).unwrap();
                if !frame.is_empty() {
                    let bytes = testing::send(&frame, &source).unwrap();
                    testing::receive(&bytes, Encodings::available(), &mut decoder, &replica).unwrap();
                }
            }
            assert!(source.content() == replica.content());
        }
    }
}

/// Memory that a guest writes whenever somebody reads it, as long as it has writes left.
struct Restless {
    ram: VecRam,
    /// What the guest writes, last first: page, where in it, what.
    writes: Mutex<Vec<(u64, usize, Vec<u8>)>>,
    dirty: Mutex<Vec<bool>>,
}

impl Restless {
    /// The guest makes its next write.
    fn step(&self) -> bool {
        let Some((page, at, bytes)) = self.writes.lock().unwrap().pop() else { return false };
        let end = (at + bytes.len()).min(PAGE);
        let start = Gpa(address(&self.ram, page).0 + at as u64);
        self.ram.write(start, &bytes[..end - at]).unwrap();
        self.dirty.lock().unwrap()[page as usize] = true;
        true
    }

    fn harvest(&self) -> Vec<PageRun> {
        let dirty = std::mem::replace(&mut *self.dirty.lock().unwrap(), vec![false; 135]);
        let pages = (0..135).filter(|page| dirty[*page]);
        pages
            .map(|page| run(page as u64, 1))
            .collect::<Vec<_>>()
            .chunk_by(|one, other| one.end() == other.first)
            .map(|pages| run(pages[0].first.0, pages.len() as u64))
            .collect()
    }
}

impl GuestRam for Restless {
    fn layout(&self) -> &RamLayout {
        self.ram.layout()
    }

    fn read(&self, at: Gpa, out: &mut [u8]) -> Result<(), RamError> {
        // Half of what is read is from before the write.
        let half = out.len() / 2;
        self.ram.read(at, &mut out[..half])?;
        self.step();
        self.ram.read(Gpa(at.0 + half as u64), &mut out[half..])
    }

    fn write(&self, at: Gpa, data: &[u8]) -> Result<(), RamError> {
        self.ram.write(at, data)
    }
}

fn writes() -> impl proptest::strategy::Strategy<Value = Vec<(u64, usize, Vec<u8>)>> {
    let page = prop_oneof![0u64..104, 128u64..135, 0u64..6];
    let bytes = prop_oneof![
        4 => (1usize..40, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
        1 => any::<u64>().prop_map(|seed| random(PAGE, seed)),
        1 => any::<u64>().prop_map(|seed| compressible(PAGE, 40, seed)),
        2 => Just(vec![0; PAGE]),
    ];
    let at = prop_oneof![Just(0), 0usize..PAGE];
    prop::collection::vec((page, at, bytes), 0..300)
}

fn configs() -> impl proptest::strategy::Strategy<Value = EncoderConfig> {
    let compression = prop::sample::select(vec![
        Compression::Adaptive,
        Compression::Off,
        Compression::Lz4,
        Compression::Zstd,
    ]);
    let cache = prop::sample::select(vec![0, 1 << 14, 1 << 17, 8 << 20]);
    (compression, cache, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(compression, cache, zero_detection, payload_checksums, copy)| EncoderConfig {
            zero_detection,
            payload_checksums,
            copy,
            compression,
            ..everything(cache)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// The replica ends with the guest's memory, whatever the guest writes and when: within a look, between look and
    /// send, between rounds.
    #[test]
    fn the_copy_is_exact(
        config in configs(),
        writes in writes(),
        pauses in prop::collection::vec(0usize..20, 1..40),
        mb_per_second in prop::option::of(1u64..10_000),
    ) {
        let source = Restless {
            ram: VecRam::small(),
            writes: Mutex::new(writes),
            dirty: Mutex::new(vec![false; 135]),
        };
        let replica = VecRam::small();
        let mut encoder = Encoder::new(&config, PageSize::Kib4).unwrap().with_clock(clock(3_000));
        encoder.set_bandwidth(mb_per_second.and_then(|rate| Bandwidth::new(rate * 1_000_000)));
        let (mut decoder, mut frame) = (Decoder::new(PageSize::Kib4), PageFrame::new());
        decoder.set_untouched(true);
        let mut pauses = pauses.into_iter().cycle();
        let mut pass = Pass::Bulk;
        let mut runs = all().to_vec();
        let mut rounds = 0;
        loop {
            encoder.begin_pass(pass);
            for batch in runs.chunks(2) {
                let encoded = encoder.encode(batch, &source, &mut frame).unwrap();
                let counted = Encoding::ALL.map(|encoding| encoded.of(encoding).pages.0).iter().sum::<u64>();
                // A delta's gaps may hide unchanged pages.
                prop_assert!(counted <= encoded.pages.0 && encoded.pages.0 <= counted + encoded.unchanged.0);
                // The guest runs on between look and send.
                for _ in 0..pauses.next().unwrap() {
                    source.step();
                }
                if !frame.is_empty() {
                    let bytes = testing::send(&frame, &source).unwrap();
                    prop_assert_eq!(bytes.len() as u64, encoded.bytes.0);
                    testing::receive(&bytes, Encodings::available(), &mut decoder, &replica).map_err(
                        TestCaseError::fail,
                    )?;
                }
            }
            decoder.set_untouched(false);
            if pass == Pass::Last {
                break;
            }
            runs = source.harvest();
            rounds += 1;
            pass = Pass::Round;
            if rounds > 6 {
                // Paused: what is left of the writes never happens.
                source.writes.lock().unwrap().clear();
                pass = Pass::Last;
            }
        }
        prop_assert!(source.ram.content() == replica.content(), "{config:?}");
    }

    #[test]
    fn any_bytes_are_a_table_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        entries in 0u16..10,
        payload in any::<u64>(),
    ) {
        let ram = VecRam::small();
        let mut table = Table::default();
        let read = table.read(&bytes, entries, payload, ram.layout(), Encodings::available());
        prop_assert_eq!(read.is_ok(), !table.entries().is_empty() || bytes.is_empty() && payload == 0 && entries == 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_keep_the_promises(kind in 0u8..4, bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        testing::check(&[&[kind], bytes.as_slice()].concat());
    }

    /// Moves, most of whose steps are writes and batches.
    #[test]
    fn any_guest_is_moved(
        config in any::<[u8; 2]>(),
        steps in prop::collection::vec((prop_oneof![0u8..44, 200u8..=255], any::<u8>()), 0..100),
    ) {
        let steps: Vec<u8> = steps.into_iter().flat_map(|(what, value)| [what, value]).collect();
        testing::check(&[&[2], config.as_slice(), &steps].concat());
    }
}
