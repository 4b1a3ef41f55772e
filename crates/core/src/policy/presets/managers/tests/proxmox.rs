//! Proxmox VE's regressions, doublings and polls.
//!
//! Asked in the bulk round, in which QEMU's auto-converge harvests nothing by itself.

use super::{tick as tick_of_round_1, *};
use crate::policy::RateLimit;
use crate::units::Bandwidth;

fn tick(millis: u64, pending: u64) -> Situation {
    let mut asked = tick_of_round_1(millis, pending);
    asked.progress.round = 0;
    asked
}

/// A migration that is polled every second with what remains then.
struct Polled {
    policy: Box<dyn Policy>,
    second: u64,
}

impl Polled {
    fn new() -> Self {
        Self { policy: preset("proxmox", &[]), second: 0 }
    }

    /// The answer to the next poll, at which `pending` remain and something was sent.
    fn ask(&mut self, pending: u64) -> Verdict {
        self.second += 1;
        let mut asked = tick(self.second * 1_000, pending);
        asked.progress.sent = ByteCount(self.second);
        ask(&mut *self.policy, &asked)
    }

    /// The limit after polls at which this much remained.
    fn after(&mut self, remaining: impl IntoIterator<Item = u64>) -> u128 {
        remaining.into_iter().map(|pending| limit(&self.ask(pending))).last().expect("one poll")
    }
}

#[test]
fn the_limit_doubles_after_every_six_regressions() {
    let mut polled = Polled::new();
    // The first poll has nothing to compare with.
    assert_eq!(polled.after(MANY..=MANY + 5), 100);
    assert_eq!(polled.after([MANY + 6]), 200);
    assert_eq!(polled.after(MANY + 7..=MANY + 11), 200);
    assert_eq!(polled.after([MANY + 12]), 400);
}

#[test]
fn progress_does_not_reset_the_count() {
    let mut polled = Polled::new();
    let up_and_down = (0..11).map(|poll| if poll % 2 == 0 { MANY } else { MANY + 1 });
    assert_eq!(polled.after(up_and_down), 100, "five regressions");
    assert_eq!(polled.after([MANY - 1_000, MANY - 2_000, MANY - 3_000]), 100, "and progress");
    assert_eq!(polled.after([MANY]), 200, "the sixth");
}

#[test]
fn an_equal_remainder_is_no_regression() {
    assert_eq!(Polled::new().after([MANY; 50]), 100);
}

#[test]
fn nothing_remaining_counts_as_a_regression_and_is_never_compared_with() {
    let mut polled = Polled::new();
    for _ in 0..5 {
        polled.ask(0);
    }
    // More than nothing is no regression.
    assert_eq!(polled.after([MANY]), 100);
    assert_eq!(polled.after([MANY + 1]), 200);
}

#[test]
fn a_poll_that_finds_nothing_sent_counts_nothing() {
    let mut policy = preset("proxmox", &[]);
    for second in 1..=20 {
        assert_eq!(limit_at(&mut *policy, &tick(second * 1_000, MANY + second)), 100);
    }
}

#[test]
fn fifteen_doublings_reach_the_longest_limit_that_qemu_takes() {
    let mut polled = Polled::new();
    polled.ask(1);
    let grow = |polled: &mut Polled, regressions: u64| {
        // Never below even a limit of 2000 s.
        let from = (1 << 30) + polled.second;
        polled.after(from..from + regressions)
    };
    assert_eq!(grow(&mut polled, 6 * 14), 100 << 14);
    assert_eq!(grow(&mut polled, 6), 2_000_000);
    assert_eq!(grow(&mut polled, 60), 2_000_000);
}

#[test]
fn moments_between_two_polls_count_nothing() {
    let mut policy = preset("proxmox", &[]);
    for millis in 1_000..1_990 {
        let mut asked = tick(millis, MANY + millis);
        asked.progress.sent = ByteCount(millis);
        assert_eq!(limit_at(&mut *policy, &asked), 100);
    }
}

#[test]
fn polls_are_a_tenth_of_a_second_apart_once_less_remains_than_is_sent_between_two() {
    let mut policy = preset("proxmox", &[]);
    let mut next = |millis: u64, pending: u64, sent: u64| {
        let mut asked = tick(millis, pending);
        asked.progress.sent = ByteCount(sent * 4_096);
        ask(&mut *policy, &asked).until.at.as_nanos() / 1_000_000
    };
    assert_eq!(next(0, MANY, 0), 1_000);
    assert_eq!(next(1_000, 50_000, 100_000), 2_000, "no average yet");
    assert_eq!(next(2_000, 50_000, 200_000), 3_000, "100,000 by the poll before, over two polls");
    assert_eq!(next(3_000, 50_000, 300_000), 3_100, "200,000 over three");
    assert_eq!(next(3_100, MANY, 400_000), 3_200, "and it stays so");
}

#[test]
fn the_average_counts_polls_that_found_nothing_sent() {
    let mut policy = preset("proxmox", &[]);
    let mut next = |millis: u64, sent: u64| {
        let mut asked = tick(millis, 100_000);
        asked.progress.sent = ByteCount(sent * 4_096);
        ask(&mut *policy, &asked).until.at.as_nanos() / 1_000_000
    };
    assert_eq!(next(1_000, 300_000), 2_000);
    assert_eq!(next(2_000, 300_000), 3_000, "nothing sent");
    assert_eq!(next(3_000, 300_000), 4_000, "nothing sent");
    assert_eq!(next(4_000, 400_000), 5_000, "300,000 over four polls, not over two");
}

#[test]
fn it_never_gives_up() {
    let mut policy = preset("proxmox", &[("downtime", "0s")]);
    for day in 1..300 {
        assert_eq!(decision(&mut *policy, &tick(day * 86_400_000, MANY + day)), Decision::Continue);
    }
}

#[test]
fn the_guest_is_slowed_and_the_rate_capped() {
    let mut policy = preset("proxmox", &[]);
    assert!(policy.needs().throttle && !policy.needs().pause && !policy.needs().post_copy);
    let start = ask(&mut *policy, &moment(Moment::RoundStart, 0, MANY));
    let cap = Bandwidth::new(16 << 30).expect("not zero");
    assert_eq!(start.adjust.rate_limit, Some(RateLimit::AtMost(cap)));
}

#[test]
fn what_the_monitor_sets_holds_until_its_own_number_doubles() {
    let mut polled = Polled::new();
    polled.ask(MANY);
    polled.policy.set_parameter("downtime", "1s").expect("QEMU's own parameter");
    assert_eq!(polled.after(MANY + 1..=MANY + 5), 1_000);
    assert_eq!(polled.after([MANY + 6]), 200);
    polled.policy.set_parameter("max-bandwidth", "1Gbit/s").expect("QEMU's own parameter");
    let cap = RateLimit::AtMost("1Gbit/s".parse().expect("a bandwidth"));
    assert_eq!(polled.ask(MANY).adjust.rate_limit, Some(cap));
    polled.policy.set_parameter("downtime", "2001s").expect_err("more than QEMU takes");
}
