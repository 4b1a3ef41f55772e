//! How a real program writes to its memory, as far as it was measured: classes of pages by how often they
//! recur, and how busy the program is over time.
//!
//! A value: fitted by the laboratory to a working-set curve or to a trace, read by the guest whose
//! pattern is `measured`. Nothing here reads a file or fits anything.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use whimbrel_core::units::{ByteCount, Pages, Share, duration};

use super::WriteAt;
use super::validate::{ConfigError, check};

/// A program's writes, as the module says.
///
/// Time is the program's own: it stands still while the guest is paused, and runs slower while that is
/// throttled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MeasuredWrites {
    /// Pages that are written at random times, by their rates.
    pub classes: Vec<PageClass>,
    /// Pages that are written in turn, by the length of the turn.
    pub cycles: Vec<PageCycle>,
    /// How busy the program is over time.
    pub activity: Activity,
    /// Part of a vCPU that it needs while it is as busy as on average: a program that needs all of one
    /// loses what a throttle takes.
    pub busy: Share,
    /// How fast it is in one run and another, and how well that is known: the standard deviation of the logarithm
    /// of its speed.
    pub speed_spread: f64,
    /// How well it is known how much a write changes: the standard deviation of the logarithm of that, for all
    /// classes alike; matters where differences are sent.
    pub change_spread: f64,
}

/// In which phases of a program pages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Follows {
    /// The more the busier it is.
    Busy,
    /// While it is not busy: what it does instead has its own pages.
    Quiet,
    /// All alike.
    Always,
}

/// Pages that are written independently of each other, each at the times of a Poisson process.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PageClass {
    /// How many.
    pub pages: Pages,
    /// Writes to each, a second, at average activity.
    pub rate: f64,
    /// In which phases of the program.
    pub follows: Follows,
    /// Bytes that a write changes; matters where differences are sent.
    pub change: ByteCount,
    /// Where in the page.
    pub write_at: WriteAt,
}

/// Pages that are written one after another, round and round: a log, a ring of buffers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PageCycle {
    /// How many.
    pub pages: Pages,
    /// Time of a whole turn at average activity.
    #[serde(with = "duration")]
    pub period: Duration,
    /// In which phases of the program.
    pub follows: Follows,
    /// Bytes that a write changes.
    pub change: ByteCount,
    /// Where in the page.
    pub write_at: WriteAt,
}

/// How busy a program is over time: random blocks of what was measured, one behind another.
///
/// The circular block bootstrap of Politis and Romano (1992): within a block everything that was
/// measured stays as it was (bursts, their lengths, correlations of either sign), and no two runs are the
/// same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Activity {
    /// What a level lasts.
    #[serde(with = "duration")]
    pub tick: Duration,
    /// How many times as fast as on average pages are written that follow the busy phases; their mean is one.
    pub busy: Vec<f64>,
    /// The same of pages that follow the quiet phases; as many.
    pub quiet: Vec<f64>,
    /// Ticks in a block.
    pub block: u32,
}

/// The most classes, cycles and levels.
const MOST: usize = 100_000;

impl MeasuredWrites {
    /// How many pages are written at all.
    pub fn pages(&self) -> Pages {
        let classes = self.classes.iter().map(|class| class.pages);
        classes.chain(self.cycles.iter().map(|cycle| cycle.pages)).fold(Pages::ZERO, Pages::saturating_add)
    }

    /// Page writes a second at average activity.
    pub fn rate(&self) -> f64 {
        let classes = self.classes.iter().map(|class| class.pages.0 as f64 * class.rate);
        classes.sum::<f64>() + self.cycles.iter().map(PageCycle::rate).sum::<f64>()
    }

    /// Expected distinct pages written while the program did the work of `time` at average activity.
    pub fn distinct(&self, time: Duration) -> f64 {
        let time = time.as_secs_f64();
        let classes = self.classes.iter().map(|class| class.pages.0 as f64 * -(-class.rate * time).exp_m1());
        let cycles = self.cycles.iter().map(|cycle| (cycle.rate() * time).min(cycle.pages.0 as f64));
        classes.sum::<f64>() + cycles.sum::<f64>()
    }

    /// Checks the values; `key` is the writer's.
    pub(super) fn validate(&self, key: &str) -> Result<(), ConfigError> {
        let Activity { busy, quiet, .. } = &self.activity;
        let sizes = [self.classes.len(), self.cycles.len(), busy.len(), quiet.len()];
        let most = sizes.into_iter().max().unwrap_or(0);
        check(most <= MOST, key, format!("a model of {most} items"), || format!("at most {MOST}"))?;
        let rates = self.classes.iter().map(|class| class.rate);
        let rates = rates.chain(busy.iter().chain(quiet).copied());
        for rate in rates {
            check((0.0..=1e9).contains(&rate), key, rate, || "rates from 0 to 1e9".to_owned())?;
        }
        let periods = self.cycles.iter().map(|cycle| cycle.period).chain([self.activity.tick]);
        let shortest = periods.min().unwrap_or(Duration::ZERO);
        check(shortest >= SHORTEST, key, duration::format(shortest), || {
            format!("ticks and turns of at least {}", duration::format(SHORTEST))
        })?;
        check((0.0..=1.0).contains(&self.speed_spread), key, self.speed_spread, || {
            "a spread of speeds from 0 to 1".to_owned()
        })?;
        check((0.0..=1.0).contains(&self.change_spread), key, self.change_spread, || {
            "a spread of changes from 0 to 1".to_owned()
        })?;
        let whole = !busy.is_empty() && busy.len() == quiet.len() && self.activity.block > 0;
        check(whole, key, "no activity", || {
            "as many levels of both phases, at least one, in blocks of at least one tick".to_owned()
        })
    }
}

/// The shortest tick or turn.
const SHORTEST: Duration = Duration::from_micros(100);

impl PageCycle {
    /// Page writes a second at average activity.
    pub fn rate(&self) -> f64 {
        self.pages.0 as f64 / self.period.as_secs_f64()
    }
}
