//! What encodings, streams and the gate do to whole migrations.

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel_core::policy::presets;
use whimbrel_core::report::Outcome;
use whimbrel_core::units::{Bandwidth, ByteCount, Share};
use whimbrel_sim::config::{GuestConfig, Pattern, WriteAt, WriterConfig};
use whimbrel_sim::{Run, Setup, simulate};

fn setup(pattern: Pattern, rate: f64) -> Setup {
    let writer = WriterConfig {
        pattern,
        rate,
        working_set: ByteCount::mib(64),
        write_size: ByteCount(16),
        ..WriterConfig::default()
    };
    let guest = GuestConfig { memory: ByteCount::mib(256), writers: vec![writer], ..GuestConfig::default() };
    Setup::new(guest, presets::build("qemu-default", &BTreeMap::new()).unwrap())
}

fn run(change: impl FnOnce(&mut Setup)) -> Run {
    let mut setup = setup(Pattern::Uniform, 40_000.0);
    change(&mut setup);
    simulate(&setup).unwrap()
}

#[test]
fn constants_of_encodings_that_are_off_change_nothing() {
    let plain = run(|_| {});
    let other = run(|setup| {
        setup.host.xbzrle.speed = Bandwidth::SLOWEST;
        setup.host.compression.speed = Bandwidth::SLOWEST;
        setup.host.compression.threads = 1;
        setup.link.packet_overhead = ByteCount::mib(1);
        setup.guest.writers[0].write_size = ByteCount(1);
        setup.guest.writers[0].write_at = WriteAt::Fixed;
    });
    assert_eq!(format!("{plain:?}"), format!("{other:?}"));
    assert_eq!((plain.encoding.encoded_pages.0, plain.encoding.cache_misses.0), (0, 0));
    // Pages of 250 ns each.
    let pages: u64 = plain.report.rounds.iter().map(|round| round.sent_pages.0).sum();
    assert!((plain.encoding.source_cpu_s - pages as f64 * 250e-9).abs() < 1e-9);
}

#[test]
fn differences_let_a_guest_converge_that_writes_faster_than_the_link() {
    let slow_link = |setup: &mut Setup| {
        setup.link.bandwidth = "200Mbit/s".parse().unwrap();
        setup.time_limit = Duration::from_mins(1);
    };
    let plain = run(slow_link);
    let xbzrle = run(|setup| {
        slow_link(setup);
        setup.host.xbzrle.cache = Some(ByteCount::mib(64));
    });
    assert_ne!(plain.report.outcome, Outcome::Completed);
    assert_eq!(xbzrle.report.outcome, Outcome::Completed);
    assert!(xbzrle.report.sent.0 < plain.report.sent.0);
    // Every page of the working set is missed once.
    assert!(xbzrle.encoding.cache_misses.0 <= 16_384);
    assert!(xbzrle.encoding.encoded_bytes.0 < xbzrle.encoding.encoded_pages.0 * 400);
}

#[test]
fn a_cache_smaller_than_a_sweep_saves_less() {
    let sent = |mib: u64| {
        let mut setup = setup(Pattern::Sequential, 40_000.0);
        setup.host.xbzrle.cache = Some(ByteCount::mib(mib));
        setup.link.bandwidth = "200Mbit/s".parse().unwrap();
        setup.time_limit = Duration::from_secs(30);
        let run = simulate(&setup).unwrap();
        (run.report.outcome == Outcome::Completed, run.encoding.cache_misses)
    };
    let (small, fitting, big) = (sent(16), sent(64), sent(256));
    assert!(!small.0 && fitting.0 && big.0);
    assert!(small.1 > fitting.1 && fitting.1 >= big.1);
}

#[test]
fn a_slow_comparison_binds_the_sending_thread() {
    let cached = |setup: &mut Setup| {
        setup.host.xbzrle.cache = Some(ByteCount::mib(64));
        setup.time_limit = Duration::from_secs(20);
    };
    let fast = run(cached);
    let slow = run(|setup| {
        cached(setup);
        setup.host.xbzrle.speed = "50MB/s".parse().unwrap();
    });
    assert!(slow.report.total > fast.report.total);
    assert!(slow.encoding.source_cpu_s > fast.encoding.source_cpu_s + 1.0);
}

#[test]
fn compression_sends_its_ratio_unless_the_cpu_binds() {
    let idle = |change: fn(&mut Setup)| {
        run(|setup| {
            setup.guest.writers.clear();
            change(setup);
        })
    };
    let plain = idle(|_| {});
    let half = |setup: &mut Setup| setup.host.compression.ratio = Some(Share::clamped(0.5));
    let compressed = idle(half);
    let share = compressed.report.sent.as_f64() / plain.report.sent.as_f64();
    assert!((share - 0.5).abs() < 0.01, "{share}");
    let faster = plain.report.total.as_secs_f64() / compressed.report.total.as_secs_f64();
    assert!((faster - 2.0).abs() < 0.1, "{faster}");
    let slow = idle(|setup| {
        setup.host.compression.ratio = Some(Share::clamped(0.5));
        setup.host.compression.speed = "10MB/s".parse().unwrap();
        setup.host.compression.threads = 2;
    });
    // 256 MiB at 20 MB/s.
    assert!((slow.report.total.as_secs_f64() / 13.42 - 1.0).abs() < 0.03, "{:?}", slow.report.total);
    assert!(slow.encoding.source_cpu_s > 26.0);
}

#[test]
fn streams_multiply_what_the_cpu_binds_and_nothing_that_the_link_binds() {
    let total = |streams: u32, bandwidth: &str| {
        let run = run(|setup| {
            setup.guest.writers.clear();
            setup.guest.memory = ByteCount::gib(2);
            setup.host.page_cost = Duration::from_micros(2);
            setup.host.harvest_cost = Duration::ZERO;
            setup.host.first_touch_cost = Duration::ZERO;
            setup.host.streams = streams;
            setup.link.bandwidth = bandwidth.parse().unwrap();
        });
        run.report.total.as_secs_f64()
    };
    let free = total(1, "1000Gbit/s") / total(4, "1000Gbit/s");
    assert!((3.7..=4.0).contains(&free), "{free}");
    let capped = total(1, "1Gbit/s") / total(4, "1Gbit/s");
    assert!((capped - 1.0).abs() < 0.005, "{capped}");
}

#[test]
fn zero_pages_are_found_by_one_thread_however_many_streams_there_are() {
    let total = |streams: u32| {
        let run = run(|setup| {
            setup.guest.writers.clear();
            setup.guest.zero_pages = Share::ONE;
            setup.host.zero_page_cost = Duration::from_micros(10);
            setup.host.streams = streams;
        });
        run.report.total.as_secs_f64()
    };
    assert!((total(8) / total(1) - 1.0).abs() < 1e-3);
}

#[test]
fn the_gate_is_part_of_the_pause_and_of_nothing_else() {
    let none = run(|setup| setup.guest.writers[0].rate = 1000.0);
    let gate = run(|setup| {
        setup.guest.writers[0].rate = 1000.0;
        setup.host.switchover_gate = Duration::from_millis(70);
    });
    let (before, after) = (none.report.downtime, gate.report.downtime);
    assert_eq!(after.pause, before.pause + Duration::from_millis(70));
    assert_eq!(gate.silence.unwrap(), after.total());
    // While the gate is shut, the link carries what is in the socket: at most 3 MiB, 26 ms.
    let longer = gate.silence.unwrap().saturating_sub(none.silence.unwrap());
    assert!((Duration::from_millis(44)..=Duration::from_millis(70)).contains(&longer), "{longer:?}");
}
