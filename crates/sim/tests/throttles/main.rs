//! What throttles of every form do to any guest.

#![allow(clippy::similar_names)] // A writer and its writes.

mod cases;
mod played;

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::{Bandwidth, ByteCount, CpuShare, Timestamp};
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
    /// blur that by some percent.)
    #[test]
    fn a_throttled_guest_never_writes_more(
        writers in prop::collection::vec(writer(), 1..3),
        vcpus in 1_u32..3,
        fault_us in prop_oneof![Just(0), 0_u64..30],
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
            let ahead = if fault_us == 0 { 1e-9 * most + 1e-6 } else { 0.05 * most + 1.0 };
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
        // One that is nearly overloaded makes up for it slowly, and so may still be faster.
        prop_assert!(writes >= all * (1.0 - 1e-6) - 1e-3, "{writes} of {all}");
        prop_assert!(slowed.writes(now) <= free.writes(now) * (1.0 + 1e-9) + 1e-6);
        prop_assert_eq!(slowed.lost(), lost);
    }
}
