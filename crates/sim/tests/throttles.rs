//! What throttles of every form do to any guest.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::{Bandwidth, ByteCount, CpuShare, Share, Timestamp};
use whimbrel_sim::config::{GuestConfig, Pattern, PhaseConfig, WriterConfig};
use whimbrel_sim::guest::{Detail, Guest};

const MS: u64 = 1_000_000;
const SECOND: Duration = Duration::from_secs(1);

fn ms(millis: u64) -> Timestamp {
    Timestamp::from_nanos(millis * MS)
}

fn micros(micros: u64) -> Timestamp {
    Timestamp::from_nanos(micros * 1000)
}

fn cpu(share: f64) -> CpuShare {
    CpuShare::new(share).unwrap()
}

fn duty_cycle(percent: u8, run_us: u64) -> Throttle {
    Throttle::DutyCycle { share: CpuShare::percent(percent), run: Duration::from_micros(run_us) }
}

fn micro_sleeps(percent: u8, sleep_us: u64) -> Throttle {
    Throttle::MicroSleeps { share: CpuShare::percent(percent), sleep: Duration::from_micros(sleep_us) }
}

fn dirty_limit(mib: u64) -> Throttle {
    Throttle::DirtyLimit { quota: Bandwidth::new(mib << 20).unwrap(), period: SECOND }
}

prop_compose! {
    fn writer()(
        pattern in prop::sample::select(vec![
            Pattern::Uniform, Pattern::Sequential, Pattern::HotCold, Pattern::Zipf,
        ]),
        pages in prop_oneof![1_u64..500, 2000_u64..6000],
        rate in prop_oneof![Just(0.0), 1.0..2_000.0f64, 2_000.0..200_000.0f64],
        phases in prop::collection::vec((1_u64..200, 0.0..50_000.0f64), 0..3),
        cost_us in prop_oneof![Just(0_u64), 0_u64..30, 30_u64..400],
        catch_up_ms in prop_oneof![Just(50_u64), 0_u64..200],
    ) -> WriterConfig {
        WriterConfig {
            pattern,
            working_set: ByteCount(pages * 4096),
            rate,
            phases: phases
                .into_iter()
                .map(|(ms, rate)| PhaseConfig { length: Duration::from_millis(ms), rate })
                .collect(),
            write_cost: Duration::from_micros(cost_us),
            catch_up: Duration::from_millis(catch_up_ms),
            ..WriterConfig::default()
        }
    }
}

fn throttle() -> impl Strategy<Value = Throttle> {
    prop_oneof![
        (0_u8..=100, prop_oneof![Just(10_000_u64), 0_u64..50_000]).prop_map(|(p, run)| duty_cycle(p, run)),
        (0_u8..=100, 0_u64..5000).prop_map(|(p, sleep)| micro_sleeps(p, sleep)),
        (1_u64..200, 1_u64..1500).prop_map(|(mib, period)| Throttle::DirtyLimit {
            quota: Bandwidth::new(mib << 20).unwrap(),
            period: Duration::from_millis(period),
        }),
    ]
}

/// A guest of these writers, tracked from the beginning, with the smallest rings.
fn guest(writers: &[WriterConfig], vcpus: u32, fault_us: u64) -> Guest {
    let config = GuestConfig {
        memory: ByteCount::mib(128),
        vcpus,
        writers: writers.to_vec(),
        ..GuestConfig::default()
    };
    let mut guest = Guest::new(&config, 7).unwrap().with_detail(Detail::Rounds).with_dirty_ring(1024);
    guest.start_tracking(Timestamp::ZERO, Duration::from_micros(fault_us));
    guest
}

/// What happens to a guest.
#[derive(Clone, Debug)]
enum Event {
    Harvest,
    Set(Throttle),
    Off,
    Pause,
    Resume,
}

/// Events, each with the time since the one before it in microseconds.
fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let event = prop_oneof![
        4 => Just(Event::Harvest),
        4 => throttle().prop_map(Event::Set),
        1 => Just(Event::Off),
        1 => Just(Event::Pause),
        2 => Just(Event::Resume),
    ];
    prop::collection::vec((0_u64..1_500_000, event), 1..8)
}

/// Lets `event` happen; gives what a harvest found.
fn happen(guest: &mut Guest, now: Timestamp, event: &Event) -> Vec<(usize, u64)> {
    let mut found = Vec::new();
    match event {
        Event::Harvest => {
            guest.harvest(now, |word, mask| found.push((word, mask)));
        }
        Event::Set(throttle) => guest.set_throttle(now, *throttle),
        Event::Off => guest.set_throttle(now, Throttle::Off),
        Event::Pause => guest.pause(now),
        Event::Resume => guest.resume(now),
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    /// Asking at any moments in between changes nothing, to the last bit.
    #[test]
    fn asking_more_often_changes_nothing_at_all(
        writers in prop::collection::vec(writer(), 1..3),
        vcpus in 1_u32..3,
        fault_us in 0_u64..100,
        events in events(),
        asks in prop::collection::vec(0_u64..1_500_000, 0..20),
    ) {
        let run = |asks: &[u64]| {
            let mut guest = guest(&writers, vcpus, fault_us);
            let (mut now, mut told) = (0, Vec::new());
            for (after, event) in &events {
                let mut asks: Vec<u64> = asks.iter().copied().filter(|ask| ask < after).collect();
                asks.sort_unstable();
                for ask in asks {
                    guest.advance(micros(now + ask));
                    let _ = (guest.lost(), guest.writes(micros(now + ask)));
                    let _ = guest.expected_dirty(micros(now + ask));
                }
                now += after;
                told.push(happen(&mut guest, micros(now), event));
            }
            let end = micros(now + 100_000);
            (told, guest.writes(end).to_bits(), format!("{:?}", guest.lost()))
        };
        prop_assert_eq!(run(&[]), run(&asks));
    }

    /// The closed forms over many sleeps are what comes of going through them one by one.
    #[test]
    fn many_sleeps_at_once_are_as_many_single_ones(
        writer in writer(),
        fault_us in 0_u64..100,
        throttle in throttle(),
        rounds in prop::collection::vec(1_u64..1000, 1..4),
        step_us in 50_u64..3000,
    ) {
        let mut whole = guest(std::slice::from_ref(&writer), 1, fault_us);
        let mut steps = whole.clone();
        let (mut now, start) = (0, micros(1234));
        whole.set_throttle(start, throttle);
        steps.set_throttle(start, throttle);
        for round in rounds {
            let end = now + round * 1000;
            while now < end {
                now = end.min(now + step_us);
                // A guest that runs runs on; but the account is settled.
                steps.resume(micros(now));
            }
            let (one, other) = (whole.writes(micros(now)), steps.writes(micros(now)));
            prop_assert!((one - other).abs() <= 1e-6 * other + 1e-3, "{one} at once, {other} in steps");
            let lost = |guest: &Guest| guest.lost().throttle.as_f64();
            prop_assert!((lost(&whole) - lost(&steps)).abs() < 1e-6, "{:?}, {:?}", whole.lost(), steps.lost());
            whole.harvest(micros(now), |_, _| {});
            steps.harvest(micros(now), |_, _| {});
        }
    }

    /// A throttled guest never made more writes than one that is not, at any time. (Faults of first writes
    /// blur that a little.)
    #[test]
    fn a_throttled_guest_never_writes_more(
        writers in prop::collection::vec(writer(), 1..3),
        vcpus in 1_u32..3,
        fault_us in prop_oneof![Just(0), 0_u64..100],
        throttles in prop::collection::vec(throttle(), 1..4),
        harvests in 1_u64..800,
    ) {
        let (mut free, mut slowed) = (guest(&writers, vcpus, fault_us), guest(&writers, vcpus, fault_us));
        for step in 1..=300_u64 {
            let now = ms(step * 11);
            if step % 100 == 3 {
                slowed.set_throttle(now, throttles[(step / 100) as usize % throttles.len()]);
            }
            let (most, writes) = (free.writes(now), slowed.writes(now));
            // One that catches up after a harvest takes faults early that the other takes when it is busy.
            let ahead = if fault_us == 0 { 1e-9 * most + 1e-6 } else { 1e-3 * most + 1.0 };
            prop_assert!(writes <= most + ahead, "{writes} of {most} at {step}");
            if step % harvests == 0 {
                free.harvest(now, |_, _| {});
                slowed.harvest(now, |_, _| {});
            }
        }
    }

    /// The stronger of two throttles never lets more through in the long run.
    #[test]
    fn a_stronger_throttle_never_lets_more_through_on_average(
        writer in writer(),
        shares in (1_u8..99, 1_u8..99),
        length in 10_u64..30_000,
        micro in any::<bool>(),
        quotas in (30_u64..100, 60_u64..200),
    ) {
        let (weak, strong) = (shares.0.min(shares.1), shares.0.max(shares.1));
        let form = |share| if micro { micro_sleeps(share, length) } else { duty_cycle(share, length) };
        let limits = (dirty_limit(quotas.0 + quotas.1), dirty_limit(quotas.0));
        for (weak, strong) in [(form(weak), form(strong)), limits] {
            // Without phases: a rhythm of its own may meet the runs of one throttle and not of the other.
            let even = WriterConfig { phases: Vec::new(), ..writer.clone() };
            let writes = |throttle| {
                let mut guest = guest(std::slice::from_ref(&even), 1, 0);
                guest.set_throttle(Timestamp::ZERO, throttle);
                // The longest period is three seconds.
                guest.writes(ms(600_000))
            };
            let (more, less) = (writes(weak), writes(strong));
            prop_assert!(less <= more * 1.006 + 10_000.0, "{less} with {strong:?}, {more} with {weak:?}");
        }
    }

    /// What is lost is the share of the time, to within a sleep.
    #[test]
    fn a_share_of_the_time_is_lost(
        percent in 1_u8..100,
        length_us in 1_u64..50_000,
        micro in any::<bool>(),
        vcpus in 1_u32..9,
        millis in 1_u64..100_000,
    ) {
        let throttle = if micro { micro_sleeps(percent, length_us) } else { duty_cycle(percent, length_us) };
        let mut guest = guest(&[], vcpus, 0);
        guest.set_throttle(ms(77), throttle);
        guest.advance(ms(77 + millis));
        let share = f64::from(percent) / 100.0;
        let sleep = length_us as f64 * 1e-6 * if micro { 1.0 } else { share / (1.0 - share) };
        let over = guest.lost().throttle.as_f64() / f64::from(vcpus) - share * millis as f64 * 1e-3;
        // A period begins with its sleep.
        prop_assert!(over >= -1e-9 && over <= sleep + 1e-9, "{over} s over, a sleep is {sleep} s");
    }

    /// A limited vCPU that writes evenly comes to dirty its quota, give or take QEMU's 25 MiB/s, if its
    /// ring is small enough to be filled more than once in a control period.
    #[test]
    fn a_dirty_limit_holds_a_uniform_writer(
        quota in 20_u64..300,
        times in 2_u64..6,
        ring in prop::sample::select(vec![1024_u32, 2048, 4096]),
        fault_us in prop::sample::select(vec![0_u64, 2]),
    ) {
        let rate = quota * times;
        let uniform = WriterConfig {
            working_set: ByteCount::gib(4),
            rate: (rate << 8) as f64,
            ..WriterConfig::default()
        };
        let config =
            GuestConfig { memory: ByteCount::gib(4), writers: vec![uniform], ..GuestConfig::default() };
        let mut guest = Guest::new(&config, 7).unwrap().with_dirty_ring(ring);
        guest.start_tracking(Timestamp::ZERO, Duration::from_micros(fault_us));
        guest.set_throttle(Timestamp::ZERO, dirty_limit(quota));
        let before = guest.writes(ms(60_000));
        let mib = (guest.writes(ms(160_000)) - before) / 256.0 / 100.0;
        // Rates are rounded down to whole MiB/s before they are compared.
        prop_assert!((mib - quota as f64).abs() <= 26.5, "{mib} MiB/s for {quota}, {rate} wanted, ring {ring}");
    }

    /// Once it is lifted, the guest is as fast as if there had been none.
    #[test]
    fn without_a_throttle_the_pace_is_back(
        writer in writer(),
        throttle in throttle(),
        length in 1_u64..5_000,
    ) {
        let (mut free, mut slowed) = (guest(std::slice::from_ref(&writer), 1, 0), guest(&[writer], 1, 0));
        slowed.set_throttle(ms(10), throttle);
        slowed.set_throttle(ms(10 + length), Throttle::Off);
        prop_assert!(slowed.throttle().is_off());
        // The sleep under way has ended, the longest under a dirty limit too, and what was owed is made up for.
        let later = ms(1_000_000);
        let lost = { slowed.advance(later); slowed.lost() };
        let since = (free.writes(later), slowed.writes(later));
        let now = ms(1_010_000);
        let (all, writes) = (free.writes(now) - since.0, slowed.writes(now) - since.1);
        prop_assert!((writes - all).abs() <= 1e-6 * all + 1e-3, "{writes} of {all}");
        prop_assert_eq!(slowed.lost(), lost);
    }
}

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
    // The first second is free; then every ring costs 40·74/26 = 114 ms, of which 50 are caught up, which is more
    // than fills the next one.
    assert!((mib[0] - 400.0).abs() < 1e-6);
    assert!(mib[1..].iter().all(|mib| (110.0..=124.0).contains(mib)), "{mib:?}");
    let lost = guest.lost().throttle.as_f64();
    assert!(lost > 3.8 && lost < 4.0, "{lost}");
}

#[test]
fn a_ring_that_takes_longer_than_a_period_to_fill_defeats_a_dirty_limit() {
    // QEMU's authors say so in `dirtylimit.c`. 57 MiB of ring and 39 MiB/s: a second of silence, taken for
    // a vCPU that stopped writing, ends its sleep.
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

/// The writes of `seconds`, made one by one on a clock of half microseconds, and the seconds slept: by no formula
/// of the guest's.
fn played(
    writer: &WriterConfig,
    fault: f64,
    throttle: Throttle,
    toll: Option<(f64, f64)>,
    seconds: f64,
) -> (f64, f64) {
    const STEP: f64 = 0.5e-6;
    let pages = writer.working_set.0 as f64 / 4096.0;
    let (cost, most) = (writer.write_cost.as_secs_f64(), writer.rate * writer.catch_up.as_secs_f64());
    let (sleep, run) = match throttle {
        Throttle::DutyCycle { share, run } => {
            let run = run.as_secs_f64();
            (run * share.as_f64() / (1.0 - share.as_f64()), run)
        }
        Throttle::MicroSleeps { share, sleep } => {
            let sleep = sleep.as_secs_f64();
            (sleep, sleep * (1.0 - share.as_f64()) / share.as_f64())
        }
        _ => (0.0, 1.0),
    };
    let (mut writes, mut owed, mut clean, mut in_ring, mut nap) = (0.0, 0.0_f64, 1.0, 0.0, 0.0);
    let mut slept = 0.0;
    for step in 0..(seconds / STEP) as u64 {
        owed = (owed + writer.rate * STEP).min(most + writer.rate * STEP);
        let asleep = (step as f64 * STEP) % (sleep + run) < sleep;
        if asleep || nap > 0.0 {
            nap -= STEP;
            slept += STEP;
            owed = owed.min(most);
            continue;
        }
        let done = owed.min(STEP / (cost + fault * clean));
        (writes, owed) = (writes + done, (owed - done).min(most));
        clean *= 1.0 - done / pages;
        if let Some((ring, price)) = toll {
            in_ring += done * (1.0 - in_ring / pages);
            if in_ring >= ring {
                (in_ring, nap) = (0.0, price);
            }
        }
    }
    (writes, slept)
}

#[test]
fn the_closed_forms_are_what_comes_of_playing_the_sleeps() {
    let writer = |rate: f64, cost_us: u64| WriterConfig {
        working_set: ByteCount(20_000 * 4096),
        rate,
        write_cost: Duration::from_micros(cost_us),
        ..WriterConfig::default()
    };
    // Keeps up; loses what it may not owe; is behind all the time; is behind at first; is behind for faults.
    for (rate, cost_us, fault_us) in
        [(20_000.0, 5, 0), (20_000.0, 20, 0), (60_000.0, 15, 0), (30_000.0, 5, 30), (45_000.0, 10, 60)]
    {
        let writer = writer(rate, cost_us);
        for throttle in [
            duty_cycle(30, 10_000),
            duty_cycle(90, 10_000),
            micro_sleeps(45, 700),
            duty_cycle(50, 3),
            Throttle::Off,
        ] {
            let mut guest = guest(std::slice::from_ref(&writer), 1, fault_us);
            guest.set_throttle(Timestamp::ZERO, throttle);
            let (played, slept) = played(&writer, fault_us as f64 * 1e-6, throttle, None, 1.637);
            let writes = guest.writes(ms(1637));
            assert!((writes / played - 1.0).abs() < 2e-3, "{rate} {throttle}: {writes}, played {played}");
            let lost = guest.lost().throttle.as_f64();
            assert!((lost - slept).abs() < 2e-2 * slept + 1e-9, "{throttle}: {lost} s lost, played {slept}");
        }
    }
}

#[test]
fn naps_at_full_rings_are_what_comes_of_playing_them() {
    // The ring has room for 448 pages; in the first second it costs nothing.
    for (rate, cost_us, fault_us) in
        [(40_000.0, 2, 0), (40_000.0, 20, 0), (30_000.0, 5, 20), (90_000.0, 15, 0)]
    {
        let writer = WriterConfig {
            working_set: ByteCount(20_000 * 4096),
            rate,
            write_cost: Duration::from_micros(cost_us),
            ..WriterConfig::default()
        };
        let mut guest = guest(std::slice::from_ref(&writer), 1, fault_us);
        guest.set_throttle(Timestamp::ZERO, dirty_limit(30));
        let first = guest.writes(ms(1000));
        // What was measured: every ring full at 448 pages, from empty.
        let per_ring = -20_000.0 * (1.0 - 448.0 / 20_000.0_f64).ln();
        let rings = (first / per_ring).floor();
        let rest = 20_000.0 * (1.0 - (-(first - rings * per_ring) / 20_000.0).exp());
        let mib = ((rings * 448.0 + rest) / 256.0).floor();
        let distance = ((mib - 30.0) * 100.0 / mib).floor();
        let price = ((4e6 / mib).floor() * distance / (100.0 - distance)).floor() * 1e-6;
        let since_harvest = guest.harvest(ms(1000), |_, _| {});
        assert!(since_harvest.dirty.0 > 0);
        // One period more, in which nothing is corrected.
        let (played, slept) =
            played(&writer, fault_us as f64 * 1e-6, Throttle::Off, Some((448.0, price)), 0.9);
        let writes = guest.writes(ms(1900)) - first;
        assert!((writes - played).abs() < 2e-3 * played + 1.0, "{rate} {cost_us}: {writes}, played {played}");
        let lost = guest.lost().throttle.as_f64();
        assert!(slept > 0.5 && (lost - slept).abs() < 5e-3, "{lost} s lost, played {slept}");
    }
}
