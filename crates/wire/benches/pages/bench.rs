//! What encoding and decoding pages costs, beside what cannot be had for less: reading memory, and the compressors alone.
//!
//! Real guest memory of this process, private and resident, in pages of 4 KiB; batches of 128 pages. Everything runs side by
//! side in one process. Times are CPU times of the thread, because machines do other work; at the end the fastest of all passes
//! is printed as the table that stands in `docs/benchmarks.md`. Content is made by `pages::testing`: random bytes, or words of a small vocabulary among which a share
//! of the bytes is random; what LZ4 and Zstandard leave of it is printed, too.
use std::cell::RefCell;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use rustix::time::{ClockId, clock_gettime};
use whimbrel_core::embed::GuestRam;
use whimbrel_core::layout::{Gpa, PageNumber, PageRun, PageSize, RamLayout};
use whimbrel_core::units::{Bandwidth, ByteCount, Pages, Timestamp};
use whimbrel_guest::memory::{Backing, GuestMemory};
use whimbrel_wire::Limits;
use whimbrel_wire::frame::{FrameHeader, HEADER_LEN};
use whimbrel_wire::pages::testing::{compressible, random, send};
use whimbrel_wire::pages::{
    Compression, Decoder, Encoder, EncoderConfig, Encoding, Encodings, PageFrame, Pass, Table,
};

/// Pages of a batch: 512 KiB.
const BATCH: u64 = 128;
const PAGE: usize = 4096;

/// The fastest pass of each line, in the order in which they were run.
#[derive(Default)]
struct Fastest(RefCell<Vec<(String, u64, Duration)>>);

impl Fastest {
    fn note(&self, name: &str, bytes: u64, took: Duration) {
        let mut all = self.0.borrow_mut();
        match all.iter_mut().find(|(known, ..)| known == name) {
            Some((.., fastest)) => *fastest = took.min(*fastest),
            None => all.push((name.to_owned(), bytes, took)),
        }
    }

    fn print(&self) {
        println!("\n| what | fastest pass | us a MiB |\n|---|---:|---:|");
        for (name, bytes, took) in self.0.borrow().iter() {
            let seconds = took.as_secs_f64();
            let (rate, each) = (*bytes as f64 / seconds / 1e9, seconds * 1e6 / (*bytes as f64 / 1_048_576.0));
            println!("| {name} | {rate:.2} GB/s | {each:.1} |");
        }
    }
}

/// What this thread had of a processor so far.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Times `pass`, which handles `bytes` of guest memory.
fn bench(criterion: &mut Criterion, fastest: &Fastest, name: &str, bytes: u64, mut pass: impl FnMut()) {
    let mut group = criterion.benchmark_group("pages");
    group.throughput(Throughput::Bytes(bytes));
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(700));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|times| {
            let mut total = Duration::ZERO;
            for _ in 0..times {
                let start = cpu_time();
                pass();
                let took = cpu_time().saturating_sub(start);
                fastest.note(name, bytes, took);
                total += took;
            }
            total
        });
    });
    group.finish();
}

/// A resident guest that holds what `content` gives for each page.
fn guest(mib: u64, content: impl Fn(u64) -> Vec<u8>) -> GuestMemory {
    backed(Backing::Private, mib, content)
}

fn backed(backing: Backing, mib: u64, content: impl Fn(u64) -> Vec<u8>) -> GuestMemory {
    let layout = RamLayout::contiguous(ByteCount::mib(mib), PageSize::Kib4).unwrap();
    let memory = GuestMemory::new(layout, backing).unwrap();
    for page in 0..mib << 8 {
        memory.write(Gpa(page << 12), &content(page)).unwrap();
    }
    memory
}

fn batches(memory: &GuestMemory) -> impl Iterator<Item = PageRun> + use<> {
    (0..memory.layout().pages().0 / BATCH)
        .map(|batch| PageRun { first: PageNumber(batch * BATCH), count: Pages(BATCH) })
}

fn encoder(config: &EncoderConfig) -> Encoder {
    Encoder::new(config, PageSize::Kib4).unwrap()
}

fn fixed(compression: Compression) -> EncoderConfig {
    let mut config = EncoderConfig::default();
    config.encodings = Encodings::available();
    config.compression = compression;
    config
}

/// One pass over all memory; gives the bytes that would be sent.
fn encode_all(encoder: &mut Encoder, memory: &GuestMemory, frame: &mut PageFrame) -> u64 {
    batches(memory).map(|run| black_box(encoder.encode(&[run], memory, frame).unwrap()).bytes.0).sum()
}

/// Every byte of memory is read into a buffer that stays in the first cache, by so many pages.
fn read_all(memory: &GuestMemory, buffer: &mut [u8], mut then: impl FnMut(&[u8])) {
    for at in (0..memory.layout().bytes().0).step_by(buffer.len()) {
        memory.read(Gpa(at), buffer).unwrap();
        then(buffer);
    }
}

fn zero(criterion: &mut Criterion, fastest: &Fastest) {
    let (memory, bytes) = (guest(128, |_| vec![0; PAGE]), 128 << 20);
    let (mut encoder, mut frame) = (encoder(&EncoderConfig::default()), PageFrame::new());
    bench(criterion, fastest, "zero pages: encoded", bytes, || {
        assert!(encode_all(&mut encoder, &memory, &mut frame) < bytes / 1000);
    });
    let mut page = vec![0; PAGE];
    bench(criterion, fastest, "zero pages: memory read, nothing else", bytes, || {
        read_all(&memory, &mut page, |page| {
            black_box(page);
        });
    });
    bench(criterion, fastest, "zero pages: read, then byte by byte (`iter().all`)", bytes, || {
        read_all(&memory, &mut page, |page| assert!(page.iter().all(|byte| *byte == 0)));
    });
    let huge = backed(Backing::PrivateHuge, 128, |_| vec![0; PAGE]);
    bench(criterion, fastest, "zero pages: encoded, memory in huge pages", bytes, || {
        encode_all(&mut encoder, &huge, &mut frame);
    });
    bench(criterion, fastest, "zero pages: memory in huge pages read, nothing else", bytes, || {
        read_all(&huge, &mut page, |page| {
            black_box(page);
        });
    });
    let small = guest(1, |_| vec![0; PAGE]);
    bench(criterion, fastest, "zero pages: encoded, 1 MiB that stays in the cache", 1 << 20, || {
        encode_all(&mut encoder, &small, &mut frame);
    });
    bench(criterion, fastest, "zero pages: memory read, 1 MiB that stays in the cache", 1 << 20, || {
        read_all(&small, &mut page, |page| {
            black_box(page);
        });
    });
    let zeroes = vec![0; PAGE];
    bench(criterion, fastest, "zero pages: read, then `memcmp` with a page of zeroes", bytes, || {
        read_all(&memory, &mut page, |page| assert!(page == zeroes));
    });
}

fn raw(criterion: &mut Criterion, fastest: &Fastest) {
    let (memory, bytes) = (guest(64, |page| random(PAGE, page)), 64 << 20);
    let mut frame = PageFrame::new();
    let mut config = EncoderConfig::default();
    for (name, zero_detection, copy, payload_checksums) in [
        ("raw pages: not looked at, not copied", false, false, false),
        ("raw pages: looked at, not copied", true, false, false),
        ("raw pages: looked at and copied", true, true, false),
        ("raw pages: looked at, copied, checksums", true, true, true),
    ] {
        (config.zero_detection, config.copy, config.payload_checksums) =
            (zero_detection, copy, payload_checksums);
        let mut encoder = encoder(&config);
        bench(criterion, fastest, name, bytes, || {
            encode_all(&mut encoder, &memory, &mut frame);
        });
    }
    let clock = || Timestamp::from_nanos(cpu_time().as_nanos() as u64);
    let mut adaptive = encoder(&fixed(Compression::Adaptive)).with_clock(Box::new(clock));
    adaptive.set_bandwidth(Bandwidth::new(3 << 30));
    bench(criterion, fastest, "raw pages: adaptive, link of 3 GiB/s", bytes, || {
        encode_all(&mut adaptive, &memory, &mut frame);
    });
    adaptive.set_bandwidth(Bandwidth::new(100 << 20));
    bench(criterion, fastest, "raw pages: adaptive, link of 100 MiB/s", bytes, || {
        encode_all(&mut adaptive, &memory, &mut frame);
    });
}

/// The compressors alone, on copies of the same bytes, in blocks of so many pages.
fn bare(criterion: &mut Criterion, fastest: &Fastest, memory: &GuestMemory) {
    let bytes = memory.layout().bytes().0;
    let mut content = vec![0; bytes as usize];
    memory.read(Gpa(0), &mut content).unwrap();
    for pages in [1, 4, 15, 16, 128] {
        let len = pages * PAGE;
        let mut out = vec![0; get_maximum_output_size(len)];
        let mut table = if len < 65535 { CompressTable::small() } else { CompressTable::large() };
        let mut packed = 0;
        bench(criterion, fastest, &format!("lz4_flex alone, {pages} pages a block"), bytes, || {
            packed = content
                .chunks(len)
                .map(|block| compress_into_with_table(block, &mut out, &mut table).unwrap())
                .sum::<usize>();
        });
        println!("  lz4, {pages} pages a block: {:.3} of the bytes", packed as f64 / bytes as f64);
    }
    for pages in [1, 16] {
        let mut zstd = zstd::bulk::Compressor::new(1).unwrap();
        let mut out = vec![0; zstd::zstd_safe::compress_bound(pages * PAGE)];
        let mut packed = 0;
        bench(criterion, fastest, &format!("zstd alone, level 1, {pages} pages a frame"), bytes, || {
            packed = content
                .chunks(pages * PAGE)
                .map(|block| zstd.compress_to_buffer(block, &mut out[..]).unwrap())
                .sum::<usize>();
        });
        println!("  zstd, {pages} pages a frame: {:.3} of the bytes", packed as f64 / bytes as f64);
    }
}

/// Unpacking LZ4 into guest memory beside the compressor alone, on the same bytes in the same blocks, in turns: what is set beside each
/// other must not meet different neighbours.
fn unpacked(fastest: &Fastest, memory: &GuestMemory, frames: &[Vec<u8>], replica: &GuestMemory) {
    let bytes = memory.layout().bytes().0;
    let mut content = vec![0; bytes as usize];
    memory.read(Gpa(0), &mut content).unwrap();
    let blocks: Vec<_> = content.chunks(15 * PAGE).map(lz4_flex::block::compress).collect();
    let mut out = vec![0; 16 * PAGE];
    let (mut decoder, mut table) = (Decoder::new(PageSize::Kib4), Table::default());
    let timed = |name: &str, pass: &mut dyn FnMut()| {
        let start = cpu_time();
        pass();
        fastest.note(name, bytes, cpu_time().saturating_sub(start));
    };
    for _ in 0..40 {
        timed("lz4_flex alone, unpacking, 15 pages a block", &mut || {
            for block in &blocks {
                black_box(decompress_into(block, &mut out).unwrap());
            }
        });
        timed("lz4_flex alone, unpacking, to memory", &mut || {
            for (block, out) in blocks.iter().zip(content.chunks_mut(15 * PAGE)) {
                black_box(decompress_into(block, out).unwrap());
            }
        });
        timed("lz4: applied", &mut || decode_all(frames, &mut decoder, &mut table, replica));
    }
}

/// Frames as they come.
fn frames(encoder: &mut Encoder, memory: &GuestMemory) -> Vec<Vec<u8>> {
    let mut frame = PageFrame::new();
    let batches = batches(memory);
    batches
        .map(|run| {
            encoder.encode(&[run], memory, &mut frame).unwrap();
            send(&frame, memory).unwrap()
        })
        .filter(|bytes| !bytes.is_empty())
        .collect()
}

/// All frames, applied as a driver does.
fn decode_all(frames: &[Vec<u8>], decoder: &mut Decoder, table: &mut Table, memory: &GuestMemory) {
    for bytes in frames {
        let (header, body) = bytes.split_first_chunk::<HEADER_LEN>().unwrap();
        let header = FrameHeader::decode(header, &Limits::default()).unwrap();
        header.verify(&body[..header.covered() as usize]).unwrap();
        let (entries, mut payload) = body.split_at(header.table_len());
        let left = payload.len() as u64;
        table.read(entries, header.entries, left, memory.layout(), Encodings::available()).unwrap();
        for entry in table.entries() {
            let (own, rest) = payload.split_at(entry.payload().0 as usize);
            decoder.apply(entry, own, memory).unwrap();
            payload = rest;
        }
    }
}

fn packed(criterion: &mut Criterion, fastest: &Fastest) {
    let (memory, bytes) = (guest(32, |page| compressible(PAGE, 30, page)), 32 << 20);
    let replica = guest(32, |_| vec![1; PAGE]);
    bare(criterion, fastest, &memory);
    let (mut frame, mut decoder, mut table) =
        (PageFrame::new(), Decoder::new(PageSize::Kib4), Table::default());
    for (compression, encoding) in [(Compression::Lz4, Encoding::Lz4), (Compression::Zstd, Encoding::Zstd)] {
        let mut encoder = encoder(&fixed(compression));
        let mut sent = 0;
        bench(criterion, fastest, &format!("{encoding}: encoded"), bytes, || {
            sent = encode_all(&mut encoder, &memory, &mut frame);
        });
        println!("  {encoding}: {:.3} of the bytes", sent as f64 / bytes as f64);
        let frames = frames(&mut encoder, &memory);
        if encoding == Encoding::Lz4 {
            unpacked(fastest, &memory, &frames, &replica);
            continue;
        }
        bench(criterion, fastest, &format!("{encoding}: applied"), bytes, || {
            decode_all(&frames, &mut decoder, &mut table, &replica);
        });
    }
    let mut raw = encoder(&EncoderConfig::default());
    let frames = frames(&mut raw, &memory);
    bench(criterion, fastest, "raw: applied", bytes, || {
        decode_all(&frames, &mut decoder, &mut table, &replica);
    });
}

fn delta(criterion: &mut Criterion, fastest: &Fastest) {
    let (memory, bytes) = (guest(32, |page| random(PAGE, page)), 32 << 20);
    let replica = guest(32, |page| random(PAGE, page));
    let (mut frame, mut decoder, mut table) =
        (PageFrame::new(), Decoder::new(PageSize::Kib4), Table::default());
    let mut config = fixed(Compression::Off);
    config.delta_cache = ByteCount::mib(64);
    let mut encoder = encoder(&config);
    encoder.begin_pass(Pass::Round);
    bench(criterion, fastest, "delta: missed, copied into the cache", bytes, || {
        encoder.forget();
        encode_all(&mut encoder, &memory, &mut frame);
    });
    bench(criterion, fastest, "delta: nothing changed", bytes, || {
        encode_all(&mut encoder, &memory, &mut frame);
    });
    let mut flip = 0_u8;
    for (name, writes, len) in [("1 byte", 1, 1), ("8 bytes at 32 places", 32, 8), ("1 KiB", 1, 1024)] {
        let mut change = || {
            flip = flip.wrapping_add(1);
            for page in 0..bytes >> 12 {
                for write in 0..writes {
                    memory.write(Gpa((page << 12) + write * 128 + 24), &vec![flip; len]).unwrap();
                }
            }
        };
        let mut took = Duration::MAX;
        for _ in 0..20 {
            change();
            let start = cpu_time();
            encode_all(&mut encoder, &memory, &mut frame);
            took = took.min(cpu_time().saturating_sub(start));
        }
        fastest.note(&format!("delta: {name} a page"), bytes, took);
        change();
        let frames = frames(&mut encoder, &memory);
        bench(criterion, fastest, &format!("delta: {name} a page, applied"), bytes, || {
            decode_all(&frames, &mut decoder, &mut table, &replica);
        });
    }
}

pub(super) fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let fastest = Fastest::default();
    zero(&mut criterion, &fastest);
    raw(&mut criterion, &fastest);
    packed(&mut criterion, &fastest);
    delta(&mut criterion, &fastest);
    criterion.final_summary();
    fastest.print();
}
