use std::sync::mpsc;

use proptest::prelude::*;

use super::*;
use crate::clock::{ManualClock, SystemClock};

const MBIT: u64 = 1_000_000 / 8;

fn rate(bytes_per_second: u64) -> RateLimit {
    RateLimit::AtMost(Bandwidth::new(bytes_per_second).unwrap())
}

fn at(millis: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_millis(millis)
}

/// What streams did.
struct Run {
    /// When what was let through, of which stream.
    grants: Vec<(Timestamp, u64, usize)>,
}

impl Run {
    /// Streams that each take `batch` and send it in `sending`, for a second of time that passes by hand: each is woken
    /// as late as `late` says.
    fn of(
        streams: usize,
        limit: RateLimit,
        batch: u64,
        sending: Duration,
        mut late: impl FnMut() -> Duration,
    ) -> Self {
        let clock = ManualClock::default();
        let limiter = Limiter::new(Arc::new(clock.clone()), limit);
        let (sender, grants) = mpsc::channel();
        std::thread::scope(|scope| {
            for stream in 0..streams {
                let (limiter, clock, sender) = (&limiter, clock.clone(), sender.clone());
                scope.spawn(move || {
                    while limiter.acquire(ByteCount(batch)).is_ok() {
                        sender.send((clock.now(), batch, stream)).unwrap();
                        if !sending.is_zero() {
                            clock.sleep(sending);
                        }
                    }
                });
            }
            loop {
                let next = clock.when_waiting(streams) + late();
                if next > at(1000) {
                    break;
                }
                clock.set(next);
            }
            limiter.close();
            // For those that send.
            clock.set(Timestamp::MAX);
        });
        drop(sender);
        Self { grants: grants.into_iter().filter(|grant| grant.0 <= at(1000)).collect() }
    }

    /// Bytes a second until the last was let through.
    fn rate(&self) -> f64 {
        let last = self.grants.iter().map(|grant| grant.0).max().unwrap();
        self.grants.iter().map(|grant| grant.1).sum::<u64>() as f64 / last.as_secs_f64()
    }
}

#[test]
fn the_rate_is_kept_over_a_second_whatever_the_number_of_streams() {
    for (bytes_per_second, batch) in
        [(100 * MBIT, 64 << 10), (1000 * MBIT, 512 << 10), (10_000 * MBIT, 512 << 10)]
    {
        for streams in [1, 2, 8] {
            let mut turn = 0_u64;
            // On time, and late by up to 300 us: a batch at 10 Gbit/s takes 419.
            let mut late = || {
                turn += 1;
                Duration::from_micros(turn * 7919 % 300)
            };
            let sending = Duration::from_micros(50);
            let runs = [
                Run::of(streams, rate(bytes_per_second), batch, Duration::ZERO, || Duration::ZERO),
                Run::of(streams, rate(bytes_per_second), batch, sending, &mut late),
            ];
            for run in runs {
                let off = run.rate() / bytes_per_second as f64 - 1.0;
                eprintln!("{:5} Mbit/s, {streams} streams: {:+.4} %", bytes_per_second / MBIT, off * 100.0);
                assert!(off.abs() < 0.01, "{bytes_per_second} {streams}: {off}");
            }
        }
    }
}

#[test]
fn streams_take_turns() {
    let run = Run::of(8, rate(1000 * MBIT), 512 << 10, Duration::from_micros(10), || Duration::ZERO);
    let count = |stream| run.grants.iter().filter(|grant| grant.2 == stream).count();
    let counts: Vec<_> = (0..8).map(count).collect();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(most - least <= 1 && *least > 20, "{counts:?}");
    // Large ones do not wait behind small ones for ever, nor the other way round.
    let mut bucket = Bucket::new(rate(1000), at(0));
    let due: Vec<_> = [10, 5000, 1, 0].map(|bytes| bucket.enter(ByteCount(bytes), at(0))).into();
    let due: Vec<_> = due.into_iter().map(|ticket| bucket.due(ticket).unwrap()).collect();
    assert_eq!(due, [10, 5010, 5011, 5011].map(at));
}

#[test]
fn a_change_counts_from_now_on_and_for_those_who_wait() {
    let mut bucket = Bucket::new(rate(100), at(0));
    let (first, second) = (bucket.enter(ByteCount(1000), at(0)), bucket.enter(ByteCount(1000), at(1)));
    assert_eq!(bucket.due(first), Ok(at(10_000)));
    // Half of the first is paid for.
    bucket.set(rate(1000), at(5000));
    assert_eq!((bucket.due(first), bucket.due(second)), (Ok(at(5500)), Ok(at(6500))));
    bucket.set(rate(10), at(5500));
    assert_eq!((bucket.due(first), bucket.due(second)), (Ok(at(5500)), Ok(at(105_500))));
    bucket.set(RateLimit::Unlimited, at(5600));
    assert!(bucket.due(second).unwrap() <= at(5600));
    let third = bucket.enter(ByteCount(u64::MAX / 2), at(5600));
    assert!(bucket.due(third).unwrap() <= at(5600));
    // Nothing is saved while there is no limit, and who was let through is not called back.
    bucket.set(rate(1000), at(9000));
    assert!(bucket.due(third).unwrap() <= at(9000));
    let fourth = bucket.enter(ByteCount(1), at(9000));
    assert_eq!(bucket.due(fourth), Ok(at(9001)));
}

#[test]
fn silence_is_made_up_for_by_one_burst_at_most() {
    let mut bucket = Bucket::new(rate(1_000_000), at(0));
    let burst = BURST.as_millis() as u64 * 1000;
    let (now, after) = (at(60_000), 60_000);
    let ticket = bucket.enter(ByteCount(burst), now);
    assert!(bucket.due(ticket).unwrap() <= now);
    let ticket = bucket.enter(ByteCount(1000), now);
    assert_eq!(bucket.due(ticket), Ok(at(after + 1)));
    // Nor by a burst of a faster limit's.
    bucket.set(rate(1_000_000_000), at(after + 1));
    bucket.set(rate(1_000_000), at(after + 500));
    let ticket = bucket.enter(ByteCount(burst + 1000), at(after + 500));
    assert_eq!(bucket.due(ticket), Ok(at(after + 501)));
}

#[test]
fn who_waits_is_woken_at_once_by_another_limit_and_by_the_end() {
    for manual in [false, true] {
        let hands = ManualClock::default();
        let clock: Arc<dyn Clock> = if manual { Arc::new(hands) } else { Arc::new(SystemClock::start()) };
        let limiter = Limiter::new(clock, rate(1));
        assert_eq!(limiter.limit(), rate(1));
        std::thread::scope(|scope| {
            let (sender, done) = mpsc::channel();
            for stream in 0..8 {
                let (sender, limiter) = (sender.clone(), &limiter);
                scope.spawn(move || {
                    for _ in 0..2 {
                        sender.send((stream, limiter.acquire(ByteCount::gib(1)))).unwrap();
                    }
                });
            }
            let quiet = || done.recv_timeout(Duration::from_millis(20)).is_err();
            assert!(quiet(), "a GiB at a byte a second");
            // All sixteen, at once.
            limiter.set(RateLimit::Unlimited);
            let all: Vec<_> = (0..16).map(|_| done.recv().unwrap()).collect();
            assert!(all.iter().all(|(_, outcome)| outcome.is_ok()));
            limiter.set(rate(1));
            let last = &limiter;
            scope.spawn(move || sender.send((0, last.acquire(ByteCount(1 << 40)))).unwrap());
            assert!(quiet(), "a limit again");
            limiter.close();
            assert_eq!(done.recv().unwrap().1, Err(Closed));
        });
        assert_eq!(limiter.acquire(ByteCount(0)), Err(Closed));
        limiter.set(RateLimit::Unlimited);
        assert_eq!(limiter.acquire(ByteCount(0)), Err(Closed), "for ever");
    }
}

proptest! {
    /// Whatever is asked for and however the limit changes: no more than the rates of each time, and a burst.
    #[test]
    fn never_more_than_is_paid_for(
        steps in prop::collection::vec((0..3_u8, 1..200_000_u64, 0..50_000_000_u64), 1..60),
    ) {
        let mut bucket = Bucket::new(rate(1_000_000), at(0));
        let (mut now, mut line) = (at(0), 0_u64);
        // What could have been paid for, without rounding.
        let (mut paid, mut most_burst) = (0.0, 1_000_000.0 * BURST.as_secs_f64());
        for (step, value, nanos) in steps {
            let RateLimit::AtMost(before) = bucket.limit.map_or(RateLimit::Unlimited, RateLimit::AtMost) else {
                unreachable!()
            };
            now = now + Duration::from_nanos(nanos);
            paid += before.as_f64() * nanos as f64 / 1e9;
            if step == 0 {
                bucket.set(rate(value * 50), now);
                most_burst = f64::max(most_burst, value as f64 * 50.0 * BURST.as_secs_f64());
            } else {
                let ticket = bucket.enter(ByteCount(value), now);
                line += value;
                prop_assert_eq!(ticket.0, line);
                let due = bucket.due(ticket).unwrap();
                let after = bucket.limit.unwrap().as_f64() * due.since(now).as_secs_f64();
                prop_assert!(line as f64 <= paid + after + most_burst + 2.0, "{} > {} + {}", line, paid, after);
                // And no later than it must.
                let at_once = bucket.due(Ticket(line - value)).unwrap().max(now);
                let own = bucket.limit.unwrap().time_to_send(ByteCount(value));
                prop_assert!(due.since(at_once) <= own + Duration::from_nanos(1));
            }
        }
    }
}
