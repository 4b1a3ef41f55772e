//! Single cases, with numbers made by hand.

use super::*;
use whimbrel_core::units::Share;

#[test]
fn a_reader_and_a_writer_of_few_pages_are_not_slowed_by_a_dirty_limit() {
    // The ring of 1024 has room for 448 pages.
    for (pages, rate, slowed) in [(20_000, 0.0, false), (448, 100_000.0, false), (4000, 100_000.0, true)] {
        let writer = WriterConfig { working_set: ByteCount(pages * 4096), rate, ..WriterConfig::default() };
        let hog = WriterConfig {
            working_set: ByteCount(8000 * 4096),
            offset: Some(ByteCount(20_000 * 4096)),
            ..WriterConfig { rate: 500_000.0, ..writer.clone() }
        };
        let lost = |writers: &[WriterConfig]| {
            let mut guest = guest(writers, 2, 0);
            guest.set_throttle(Timestamp::ZERO, dirty_limit(1));
            guest.advance(ms(20_000));
            guest.lost().throttle.as_f64()
        };
        let (both, alone) = (lost(&[writer.clone(), hog.clone()]), lost(&[hog]));
        assert_eq!(
            both > alone + 0.1,
            slowed,
            "{pages} pages at {rate}: {both} s lost, {alone} s by the other"
        );
        assert!(alone > 10.0);
        assert_eq!(lost(&[writer]) > 0.1, slowed);
    }
}

#[test]
fn nothing_is_written_in_a_sleep_and_all_that_is_owed_right_after_it() {
    let even = WriterConfig { rate: 10_000.0, write_cost: Duration::ZERO, ..WriterConfig::default() };
    let config = GuestConfig { writers: vec![even], ..GuestConfig::default() };
    let mut guest = Guest::new(&config, 3).unwrap();
    guest.start_tracking(Timestamp::ZERO, Duration::ZERO);
    guest.set_throttle(ms(1000), Throttle::duty_cycle(cpu(0.8)));
    // 40 ms asleep, 10 ms awake; the first sleep begins at once.
    assert!(guest.harvest(ms(1000), |_, _| {}).dirty.0 > 9000);
    for period in 0..20 {
        let begin = 1000 + period * 50;
        let before = guest.writes(ms(begin));
        assert_eq!(guest.harvest(ms(begin + 39), |_, _| {}).dirty.0, 0, "period {period}");
        assert!((guest.writes(ms(begin + 40)) - before).abs() < 1e-6);
        assert!((guest.writes(micros((begin + 40) * 1000 + 1)) - before - 400.0).abs() < 0.1);
        assert!((guest.writes(ms(begin + 50)) - before - 500.0).abs() < 1e-6);
        assert!(guest.harvest(ms(begin + 50), |_, _| {}).dirty.0 > 400);
    }
}

/// vCPU seconds lost to the throttle up to `now`, by one vCPU.
fn lost(guest: &mut Guest, now: Timestamp) -> f64 {
    guest.advance(now);
    guest.lost().throttle.as_f64()
}

#[test]
fn a_change_of_the_share_takes_effect_at_the_next_period() {
    let mut guest = guest(&[], 1, 0);
    guest.set_throttle(ms(0), Throttle::duty_cycle(cpu(0.8)));
    guest.set_throttle(ms(20), Throttle::duty_cycle(cpu(0.5)));
    // 40 ms asleep and 10 awake still; then 10 and 10.
    for (now, wanted) in [(40, 0.040), (50, 0.040), (60, 0.050), (70, 0.050), (80, 0.060), (90, 0.060)] {
        assert!((lost(&mut guest, ms(now)) - wanted).abs() < 1e-12, "at {now} ms");
    }
    // Setting what is in force does not begin a period.
    guest.set_throttle(ms(95), Throttle::duty_cycle(cpu(0.5)));
    assert!((lost(&mut guest, ms(110)) - 0.070).abs() < 1e-12);
}

#[test]
fn a_throttle_that_is_lifted_leaves_the_sleep_under_way_to_end() {
    for (lifted, wanted) in [(20, 0.040), (45, 0.040), (50, 0.040), (55, 0.080)] {
        let mut guest = guest(&[], 1, 0);
        guest.set_throttle(ms(0), Throttle::duty_cycle(cpu(0.8)));
        guest.set_throttle(ms(lifted), Throttle::Off);
        let lost = lost(&mut guest, ms(500));
        // At 50 ms a sleep of no length has begun or all of one.
        assert!((lost - wanted).abs() < 1e-12 || lifted == 50, "lifted at {lifted}: {lost}");
    }
    // A paused guest is free at once.
    let mut guest = guest(&[], 1, 0);
    guest.set_throttle(ms(0), Throttle::duty_cycle(cpu(0.8)));
    guest.pause(ms(20));
    guest.set_throttle(ms(30), Throttle::Off);
    guest.resume(ms(30));
    assert!((lost(&mut guest, ms(500)) - 0.020).abs() < 1e-12);
}

#[test]
fn the_clock_of_the_sleeps_stands_still_in_a_pause() {
    let mut guest = guest(&[], 1, 0);
    guest.set_throttle(ms(0), Throttle::duty_cycle(cpu(0.8)));
    guest.pause(ms(60));
    guest.harvest(ms(70), |_, _| {});
    guest.resume(ms(1085));
    assert!((lost(&mut guest, ms(1085)) - 0.050).abs() < 1e-12);
    assert!((lost(&mut guest, ms(1115)) - 0.080).abs() < 1e-12);
    assert!((lost(&mut guest, ms(1125)) - 0.080).abs() < 1e-12);
}

#[test]
fn a_limited_writer_is_cut_short_by_sleeps_at_full_rings() {
    // 400 MiB/s into rings of 16 MiB, of which 13.75 MiB are used, allowed 100 MiB/s.
    let uniform = WriterConfig {
        working_set: ByteCount::gib(4),
        rate: 102_400.0,
        write_cost: Duration::ZERO,
        ..WriterConfig::default()
    };
    let config = GuestConfig { memory: ByteCount::gib(4), writers: vec![uniform], ..GuestConfig::default() };
    let mut guest = Guest::new(&config, 3).unwrap();
    guest.set_throttle(Timestamp::ZERO, dirty_limit(100));
    let mut writes = vec![0.0];
    for second in 1..=5_u64 {
        writes.push(guest.writes(ms(second * 1000)));
    }
    let mib: Vec<f64> = writes.windows(2).map(|pair| ((pair[1] - pair[0]) / 256.0).round()).collect();
    // The first second is free; then every ring costs 40·74/26 = 114 ms, of which 50 are caught up, which is
    // more than fills the next one.
    assert!((mib[0] - 400.0).abs() < 1e-6);
    assert!(mib[1..].iter().all(|mib| (110.0..=124.0).contains(mib)), "{mib:?}");
    let lost = guest.lost().throttle.as_f64();
    assert!(lost > 3.8 && lost < 4.0, "{lost}");
}

#[test]
fn a_ring_that_takes_longer_than_a_period_to_fill_defeats_a_dirty_limit() {
    // QEMU's authors say so in `dirtylimit.c`. 57 MiB of ring and 39 MiB/s: a second of silence, taken for a
    // vCPU that stopped writing, ends its sleep.
    let uniform =
        WriterConfig { working_set: ByteCount::gib(4), rate: 156.0 * 256.0, ..WriterConfig::default() };
    let config = GuestConfig { memory: ByteCount::gib(4), writers: vec![uniform], ..GuestConfig::default() };
    let mut guest = Guest::new(&config, 7).unwrap().with_dirty_ring(16_384);
    guest.set_throttle(Timestamp::ZERO, dirty_limit(39));
    let before = guest.writes(ms(60_000));
    let mib = (guest.writes(ms(160_000)) - before) / 256.0 / 100.0;
    assert!(mib > 39.0 + 25.0, "{mib} MiB/s");
}

#[test]
fn hours_of_tiny_sleeps_cost_no_time() {
    let busy = WriterConfig {
        rate: 200_000.0,
        write_cost: Duration::from_micros(4),
        pattern: Pattern::HotCold,
        hot_pages: Share::percent(1),
        ..WriterConfig::default()
    };
    let config = GuestConfig { writers: vec![busy], ..GuestConfig::default() };
    let begun = std::time::Instant::now();
    for throttle in [micro_sleeps(10, 1), micro_sleeps(60, 1), duty_cycle(50, 1)] {
        let mut guest = Guest::new(&config, 3).unwrap();
        guest.start_tracking(Timestamp::ZERO, Duration::from_nanos(2500));
        guest.set_throttle(Timestamp::ZERO, throttle);
        for hour in 1..=100_u64 {
            guest.writes(ms(hour * 3_600_000));
        }
        assert!(guest.lost().throttle.as_f64() > 30_000.0, "{throttle}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
