use std::time::Duration;

use super::Link;
use crate::units::{ByteCount, Timestamp};

/// Time in milliseconds.
fn at(milliseconds: u64) -> Timestamp {
    Timestamp::ZERO.saturating_add(Duration::from_millis(milliseconds))
}

/// A sender that hands over what a link takes, in stretches of 100 ms.
struct Sender {
    link: Link,
    sent: u64,
    now: u64,
}

impl Sender {
    fn new() -> Self {
        let mut link = Link::default();
        link.mark(ByteCount(0), at(0));
        Self { link, sent: 0, now: 0 }
    }

    /// So many stretches at so many bytes per second.
    fn sends(&mut self, stretches: u32, rate: u64) {
        for _ in 0..stretches {
            self.now += 100;
            self.sent += rate / 10;
            self.link.sent(ByteCount(self.sent), at(self.now));
        }
    }

    fn rate(&self) -> f64 {
        self.link.bandwidth().expect("seen").as_f64()
    }
}

#[test]
fn a_gap_in_a_steady_link_is_no_change_of_its_rate() {
    let mut sender = Sender::new();
    sender.sends(20, 100_000_000);
    sender.now += 2_000;
    sender.sends(1, 100_000_000);
    assert!((sender.rate() / 1e8 - 1.0).abs() < 0.01, "{}", sender.rate());
    sender.sends(1, 100_000_000);
    assert!((sender.rate() / 1e8 - 1.0).abs() < 0.01, "{}", sender.rate());
}

#[test]
fn a_lasting_change_of_the_rate_is_followed_after_two_stretches() {
    for after in [20_000_000, 400_000_000] {
        let mut sender = Sender::new();
        sender.sends(50, 100_000_000);
        sender.sends(1, after);
        assert!((sender.rate() / 1e8 - 1.0).abs() < 0.01, "one stretch tells nothing: {}", sender.rate());
        sender.sends(1, after);
        assert!((sender.rate() / after as f64 - 1.0).abs() < 0.01, "{}", sender.rate());
    }
}

#[test]
fn the_buffers_are_as_large_as_the_first_acknowledgement_says() {
    let mut sender = Sender::new();
    sender.link.answered(Duration::from_millis(30));
    sender.sends(50, 100_000_000);
    // 30 ms for the way there and back, and 40 ms for what lay before it.
    sender.link.closed(at(sender.now));
    sender.link.acknowledged(at(sender.now + 70));
    assert!((sender.link.buffer() / 4e6 - 1.0).abs() < 0.01, "{}", sender.link.buffer());
    assert_eq!(sender.link.round_trip(), Duration::from_millis(30));
}

#[test]
fn buffers_run_dry_when_nothing_is_handed_over() {
    let mut sender = Sender::new();
    sender.sends(10, 100_000_000);
    let full = sender.link.queued(at(sender.now)).expect("a rate is known");
    let later = sender.link.queued(at(sender.now + 10)).expect("a rate is known");
    assert!((full - later - 1e6).abs() < 1e4, "10 ms at 100 MB/s: {full} and {later}");
    assert_eq!(sender.link.queued(at(sender.now + 1_000)), Some(0.0));
}
