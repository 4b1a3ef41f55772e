//! QEMU's dirty limit: how long a vCPU must sleep each time its ring of dirty pages is full.
//!
//! A ground that can limit dirtying owns one [`DirtyLimit`]. Once a control period it tells what each vCPU
//! dirtied, and makes the vCPU sleep for the answer at every ring-full exit until the next correction.
//! Nothing here sleeps, measures or knows the time.
//!
//! ```text
//! each period, for each vCPU (rates in whole MiB/s):
//!     if |rate − quota| ≤ 25: leave alone
//!     if rate = 0: sleep = 0, done
//!     fastest = max(fastest, rate) ; full = time to fill the ring at `fastest`
//!     distance = |rate − quota| in % of the larger
//!     step = distance > 50 ?  full·distance/(100 − distance)  :  full/10
//!     sleep = sleep ± step, from 0 to 99·full
//! ```
//!
//! Faithfulness, to `system/dirtylimit.c` and `migration/dirtyrate.c` of QEMU 8.1 and later:
//!
//! - All numbers are whole: rates in MiB/s and percents are rounded down, the sleep is in microseconds. What
//!   QEMU calls MB/s is MiB/s. (A quota is rounded to the nearest MiB/s, at least 1, as QEMU takes whole
//!   ones only: `1MB/s` and `1MiB/s` are the same.)
//! - `fastest` is one for all vCPUs, changes only in a correction, and never falls. QEMU keeps it as long as
//!   the process lives; here it lives as long as the limit.
//! - The band of 25 MiB/s is wider than many quotas: with QEMU's default quota of 1 MB/s, a vCPU that was
//!   brought to 26 MiB/s is left there.
//! - The step near the quota can be wider than the band for quotas beyond about 500 MiB/s; there QEMU swings
//!   around the quota, and so does this.
//! - A ring smaller than 1 MiB counts as nothing and never makes anyone sleep.

use std::time::Duration;

use crate::units::{Bandwidth, ByteCount};

/// A rate as near to the quota as this is left alone, in MiB/s (`DIRTYLIMIT_TOLERANCE_RANGE`).
const TOLERANCE: u64 = 25;
/// Beyond this distance, in percent, steps are in proportion (`DIRTYLIMIT_LINEAR_ADJUSTMENT_PCT`).
const FAR: u64 = 50;
/// The longest sleep in times of filling the ring (`DIRTYLIMIT_THROTTLE_PCT_MAX`).
const LONGEST: u64 = 99;

const MIB: u64 = 1 << 20;

/// The control loop of [`Throttle::DirtyLimit`](super::Throttle::DirtyLimit); see the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirtyLimit {
    /// MiB/s, at least one.
    quota: u64,
    /// Memory that a full ring stands for, in MiB.
    ring: u64,
    /// MiB/s.
    fastest: u64,
    /// Of each vCPU, in microseconds.
    sleeps: Vec<u64>,
}

fn mib_per_second(rate: Bandwidth) -> u64 {
    (rate.bytes_per_second().saturating_add(MIB / 2) / MIB).max(1)
}

impl DirtyLimit {
    /// Holds each of `vcpus` to `quota`; nobody sleeps yet. `ring` is the memory that a full ring stands
    /// for: entries times the size of a page.
    pub fn new(quota: Bandwidth, ring: ByteCount, vcpus: usize) -> Self {
        Self { quota: mib_per_second(quota), ring: ring.0 / MIB, fastest: 0, sleeps: vec![0; vcpus] }
    }

    /// Another quota from the next correction on; nobody's sleep changes before.
    pub fn set_quota(&mut self, quota: Bandwidth) {
        self.quota = mib_per_second(quota);
    }

    /// How long vCPU number `vcpu` sleeps at each ring-full exit; not at all if there is no such vCPU.
    pub fn sleep(&self, vcpu: usize) -> Duration {
        Duration::from_micros(self.sleeps.get(vcpu).copied().unwrap_or(0))
    }

    /// Corrects the sleep of vCPU number `vcpu`, which pushed pages of `dirtied` bytes in all into its ring
    /// in the last `period`, and gives it. Nothing changes if the period is shorter than a millisecond.
    pub fn correct(&mut self, vcpu: usize, dirtied: ByteCount, period: Duration) -> Duration {
        let millis = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
        let rate = (dirtied.0 / MIB).saturating_mul(1000).checked_div(millis);
        if let (Some(rate), Some(&sleep)) = (rate, self.sleeps.get(vcpu))
            && rate.abs_diff(self.quota) > TOLERANCE
        {
            self.sleeps[vcpu] = self.corrected(sleep, rate);
        }
        self.sleep(vcpu)
    }

    /// The new sleep of a vCPU that is off the quota.
    fn corrected(&mut self, sleep: u64, rate: u64) -> u64 {
        if rate == 0 {
            return 0;
        }
        self.fastest = self.fastest.max(rate);
        let full = self.ring.saturating_mul(1_000_000) / self.fastest;
        // More than TOLERANCE apart, so the larger is not zero.
        let distance = rate.abs_diff(self.quota).saturating_mul(100) / rate.max(self.quota);
        let step = if distance > FAR {
            // Neither is zero: below 100.
            full.saturating_mul(distance) / 100_u64.saturating_sub(distance).max(1)
        } else {
            full / 10
        };
        let sleep = if self.quota < rate { sleep.saturating_add(step) } else { sleep.saturating_sub(step) };
        sleep.min(full.saturating_mul(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    /// 4096 entries of 4 KiB.
    const RING: ByteCount = ByteCount::mib(16);

    fn mib(rate: u64) -> Bandwidth {
        Bandwidth::new(rate.max(1) * MIB).unwrap()
    }

    fn limit(quota: u64) -> DirtyLimit {
        DirtyLimit::new(mib(quota), RING, 2)
    }

    /// The sleep of vCPU 0 after a second at each of `rates`, in microseconds.
    fn sleeps(quota: u64, rates: &[u64]) -> Vec<u128> {
        let mut limit = limit(quota);
        rates.iter().map(|rate| limit.correct(0, ByteCount::mib(*rate), SECOND).as_micros()).collect()
    }

    #[test]
    fn far_from_the_quota_a_step_is_in_proportion() {
        // At 200 MiB/s the ring is full after 80 ms; 70 % too much: 80·70/30.
        assert_eq!(sleeps(60, &[200]), [186_666]);
        // Much too slow: back by 80·70/30, and no further than to nothing.
        assert_eq!(sleeps(200, &[400, 60, 60]), [4000, 0, 0]);
        assert_eq!(sleeps(60, &[200, 200, 20]), [186_666, 373_332, 373_332 - 160_000 / 2 * 66 / 34]);
    }

    #[test]
    fn near_the_quota_a_step_is_a_tenth_of_the_time_to_fill_the_ring() {
        assert_eq!(sleeps(100, &[200, 200, 150, 60]), [8000, 16_000, 24_000, 16_000]);
    }

    #[test]
    fn within_25_mib_per_second_of_the_quota_nothing_changes() {
        assert_eq!(sleeps(100, &[126, 125, 75, 100, 74]), [12_698, 12_698, 12_698, 12_698, 0]);
        assert_eq!(sleeps(1, &[26, 0, 13]), [0, 0, 0]);
    }

    #[test]
    fn the_sleep_is_at_most_99_times_the_time_to_fill_the_ring() {
        assert_eq!(sleeps(1, &[100, 100, 100]), [15_840_000; 3]);
    }

    #[test]
    fn a_vcpu_that_stops_writing_sleeps_no_more_if_the_quota_is_beyond_the_band() {
        assert_eq!(sleeps(30, &[100, 0])[1], 0);
        // Else a silent vCPU is near enough to its quota.
        assert_eq!(sleeps(20, &[100, 0]), [640_000; 2]);
    }

    #[test]
    fn the_fastest_rate_of_any_vcpu_counts_for_all() {
        let mut limit = limit(100);
        limit.correct(1, ByteCount::mib(1600), SECOND);
        assert_eq!(limit.correct(0, ByteCount::mib(200), SECOND).as_micros(), 1000);
    }

    #[test]
    fn a_quota_is_rounded_to_a_whole_number_of_mib_and_never_to_nothing() {
        let limit = |quota| DirtyLimit::new(Bandwidth::new(quota).unwrap(), RING, 1);
        assert_eq!(limit(1), limit(MIB));
        assert_eq!(limit(1_000_000), limit(MIB));
        assert_eq!(limit(100 * MIB + 7), limit(100 * MIB));
    }

    /// What a vCPU dirties in a second that fills its ring at `rate` and then sleeps, on average.
    fn slowed(rate: u64, sleep: Duration) -> ByteCount {
        let full = RING.as_f64() / (rate * MIB) as f64;
        ByteCount((RING.as_f64() / (full + sleep.as_secs_f64())) as u64)
    }

    proptest! {
        /// A vCPU that dirties evenly comes within 25 MiB/s of its quota and stays there.
        #[test]
        fn a_steady_writer_comes_within_the_band(quota in 1_u64..500, times in 1_u64..40, extra in 0_u64..500) {
            let rate = quota * times + extra;
            let mut limit = limit(quota);
            let dirtied: Vec<u64> = (0..300)
                .map(|_| {
                    let dirtied = slowed(rate, limit.sleep(0));
                    limit.correct(0, dirtied, SECOND);
                    dirtied.0 / MIB
                })
                .collect();
            prop_assert!(
                dirtied[280..].iter().all(|rate| rate.abs_diff(quota) <= TOLERANCE),
                "{rate} to {quota}: {dirtied:?}"
            );
        }

        /// Whatever the others do, a vCPU that only reads never sleeps, and no sleep is beyond its bound.
        #[test]
        fn a_reader_never_sleeps(
            quota in any::<u64>(),
            ring in any::<u64>(),
            steps in prop::collection::vec((0_usize..4, any::<u64>(), 0_u64..5000), 0..40),
        ) {
            let quota = Bandwidth::new(quota.max(1)).unwrap();
            let mut limit = DirtyLimit::new(quota, ByteCount(ring), 3);
            for (vcpu, dirtied, period) in steps {
                let dirtied = ByteCount(if vcpu == 1 { 0 } else { dirtied });
                let sleep = limit.correct(vcpu, dirtied, Duration::from_millis(period));
                prop_assert!(limit.sleep(1) == Duration::ZERO);
                prop_assert!(vcpu < 3 || sleep == Duration::ZERO);
            }
        }
    }
}
