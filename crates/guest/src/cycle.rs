//! A throttle as what real threads can do: run for a time, sleep for a time, and again.

use std::time::Duration;

use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::CpuShare;

/// Lengths of the two parts of a period. Neither is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cycle {
    pub(crate) run: Duration,
    pub(crate) sleep: Duration,
}

/// A throttle that is no cycle: it takes all there is, or is none of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoCycle;

/// The longest period. Nobody would notice a longer one, and sums with the time of day stay within bounds.
const LONGEST: Duration = Duration::from_hours(365 * 24);

impl Cycle {
    /// The cycle of `throttle`; `None` if that takes nothing away.
    pub(crate) fn of(throttle: Throttle) -> Result<Option<Self>, NoCycle> {
        let (run, sleep) = match throttle {
            Throttle::Off => return Ok(None),
            Throttle::DutyCycle { share: CpuShare::NONE, .. }
            | Throttle::MicroSleeps { share: CpuShare::NONE, .. } => return Ok(None),
            Throttle::DutyCycle { share, run } => {
                let share = share.as_f64();
                (run, times(run, share / (1.0 - share))?)
            }
            Throttle::MicroSleeps { share, sleep } => {
                let share = share.as_f64();
                (times(sleep, (1.0 - share) / share)?, sleep)
            }
            _ => return Err(NoCycle),
        };
        let fits = run.checked_add(sleep).is_some_and(|period| period <= LONGEST);
        if fits && !run.is_zero() && !sleep.is_zero() { Ok(Some(Self { run, sleep })) } else { Err(NoCycle) }
    }
}

/// `part` times `ratio`, which may be anything.
fn times(part: Duration, ratio: f64) -> Result<Duration, NoCycle> {
    Duration::try_from_secs_f64(part.as_secs_f64() * ratio).map_err(|_| NoCycle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use whimbrel_core::units::Bandwidth;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn duty(share: f64, run: Duration) -> Throttle {
        Throttle::DutyCycle { share: CpuShare::clamped(share), run }
    }

    #[test]
    fn a_share_is_kept_by_sleeping_for_its_part_of_the_period() {
        let cycle = |throttle| Cycle::of(throttle).map(|cycle| cycle.map(|cycle| (cycle.run, cycle.sleep)));
        assert_eq!(cycle(duty(0.75, ms(10))), Ok(Some((ms(10), ms(30)))));
        let sleeps = |share, sleep| Throttle::MicroSleeps { share: CpuShare::clamped(share), sleep };
        assert_eq!(cycle(sleeps(0.75, ms(3))), Ok(Some((ms(1), ms(3)))));
        // Nothing is taken away.
        for nothing in [Throttle::Off, duty(0.0, ms(10)), sleeps(0.0, ms(3))] {
            assert_eq!(cycle(nothing), Ok(None), "{nothing:?}");
        }
        // All of it, none at a time, for longer than anything runs, and by what is written.
        let limit = Throttle::DirtyLimit { quota: Bandwidth::new(1).unwrap(), period: ms(1000) };
        let none = [
            duty(1.0, ms(10)),
            duty(0.5, ms(0)),
            duty(0.5, Duration::MAX),
            sleeps(1.0, ms(3)),
            sleeps(0.5, ms(0)),
            sleeps(1e-300, Duration::MAX),
            limit,
        ];
        for none in none {
            assert_eq!(cycle(none), Err(NoCycle), "{none:?}");
        }
    }

    proptest! {
        /// Whoever asks may ask for anything.
        #[test]
        fn no_throttle_is_too_much_to_be_answered(share in any::<f64>(), secs: u64, nanos in 0..1_000_000_000_u32) {
            let time = Duration::new(secs, nanos);
            let _ = Cycle::of(duty(share, time));
            let _ = Cycle::of(Throttle::MicroSleeps { share: CpuShare::clamped(share), sleep: time });
        }
    }
}
