//! How many writes are due.
//!
//! A writer wants so many writes by each moment of the guest's own time, which stands still in pauses. Held up by too little CPU
//! time, by faults or by a throttle, it falls behind, and catches up at most what it missed in `catch_up`: the rule of
//! the simulated writer.

use std::time::Duration;

use super::config::Writer;

/// Work that is done in one go each time the thread wakes counts as missed only beyond this time; so does what a
/// scheduler takes that has others to run.
const SLACK: Duration = Duration::from_millis(5);

/// When a writer wants how much.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    rate: f64,
    /// Where in the cycle each phase ends, in seconds, what was wanted by then, and its rate.
    phases: Vec<(f64, f64, f64)>,
    start: f64,
    end: f64,
    catch_up: f64,
}

impl Pace {
    pub(super) fn new(writer: &Writer) -> Self {
        let (mut at, mut wanted) = (0.0, 0.0);
        let mut phase = |&(length, rate): &(Duration, f64)| {
            at += length.as_secs_f64();
            wanted += rate * length.as_secs_f64();
            (at, wanted, rate)
        };
        Self {
            rate: writer.rate,
            phases: writer.phases.iter().map(&mut phase).collect(),
            start: writer.start.as_secs_f64(),
            end: writer.end.map_or(f64::INFINITY, |end| end.as_secs_f64()),
            catch_up: writer.catch_up.saturating_add(SLACK).as_secs_f64(),
        }
    }

    /// Page writes wanted by the guest's time `time`, all together.
    pub(super) fn wanted(&self, time: Duration) -> f64 {
        let active = (time.as_secs_f64().min(self.end) - self.start).max(0.0);
        let Some(&(cycle, each, _)) = self.phases.last() else { return self.rate * active };
        let into = active % cycle;
        let (end, by, rate) = self.phases[self.phase(into)];
        ((active - into) / cycle).round() * each + by - rate * (end - into)
    }

    /// The phase that is in force so far into a cycle.
    fn phase(&self, into: f64) -> usize {
        self.phases.partition_point(|&(end, ..)| end <= into).min(self.phases.len() - 1)
    }

    /// Page writes a second that it wants at `time`.
    fn rate(&self, time: f64) -> f64 {
        if time < self.start || time >= self.end {
            return 0.0;
        }
        let Some(&(cycle, ..)) = self.phases.last() else { return self.rate };
        self.phases[self.phase((time - self.start) % cycle)].2
    }

    /// What is behind at `time` after so many writes made or given up: writes that are due, and writes to give up.
    pub(super) fn due(&self, time: Duration, done: u64) -> (u64, u64) {
        let behind = self.wanted(time) - done as f64;
        if behind < 1.0 {
            return (0, 0);
        }
        let now = time.as_secs_f64();
        // What was missed just before a phase ended is still wanted.
        let rate = self.rate(now).max(self.rate((now - SLACK.as_secs_f64()).max(0.0)));
        let due = behind.min((rate * self.catch_up).max(1.0));
        (due as u64, (behind - due).max(0.0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(phases: &[(u64, f64)], catch_up: u64) -> Pace {
        let phases = phases.iter().map(|&(millis, rate)| (Duration::from_millis(millis), rate)).collect();
        Pace::new(&Writer {
            rate: 1000.0,
            phases,
            catch_up: Duration::from_millis(catch_up),
            ..Writer::default()
        })
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_steady_writer_wants_its_rate() {
        let pace = pace(&[], 50);
        assert!((pace.wanted(millis(2500)) - 2500.0).abs() < 1e-6);
        assert_eq!(pace.due(millis(10), 4), (6, 0));
        assert_eq!(pace.due(millis(10), 10), (0, 0));
    }

    #[test]
    fn phases_come_round_and_round() {
        let pace = pace(&[(100, 1000.0), (300, 0.0), (100, 5000.0)], 50);
        let wanted =
            [(0, 0.0), (50, 50.0), (100, 100.0), (400, 100.0), (450, 350.0), (500, 600.0), (5250, 6100.0)];
        for (time, expected) in wanted {
            let found = pace.wanted(millis(time));
            assert!((found - expected).abs() < 1e-6, "{time} ms: {found}, not {expected}");
        }
    }

    #[test]
    fn what_was_missed_for_too_long_is_given_up() {
        // 1 s missed: 50 ms and the slack are caught up.
        assert_eq!(pace(&[], 50).due(millis(1000), 0), (55, 945));
        // A phase that has just ended is not forgotten.
        assert_eq!(pace(&[(100, 1000.0), (100, 0.0)], 50).due(millis(101), 90), (10, 0));
        // One that ended long ago is, but for one write.
        assert_eq!(pace(&[(100, 1000.0), (100, 0.0)], 50).due(millis(150), 90), (1, 9));
    }

    #[test]
    fn a_writer_may_never_give_up() {
        let pace = Pace::new(&Writer { rate: 1000.0, catch_up: Duration::MAX, ..Writer::default() });
        assert_eq!(pace.due(millis(3_600_000), 0), (3_600_000, 0));
    }

    #[test]
    fn nothing_is_wanted_before_the_start_and_after_the_end() {
        let writer = Writer { rate: 1000.0, start: millis(100), end: Some(millis(300)), ..Writer::default() };
        let pace = Pace::new(&writer);
        assert_eq!(pace.due(millis(100), 0), (0, 0));
        assert!((pace.wanted(millis(1000)) - 200.0).abs() < 1e-6);
    }
}
