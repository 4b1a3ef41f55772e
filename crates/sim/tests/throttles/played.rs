//! The same sleeps, played on a clock of fine steps by an oracle of its own.

use super::*;

/// The writes of `seconds`, made one by one on a clock of half microseconds, and the seconds slept: by no
/// formula of the guest's.
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
