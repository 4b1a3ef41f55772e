//! What stopping now, the next round and the rounds after it would come to.

use std::time::Duration;

use super::{DirtyCurve, Expected, HostPair};
use crate::units::Bandwidth;

/// The longest time that is reckoned with; arithmetic beyond it is of no use to anybody.
const LONGEST: f64 = 1e9;

/// Rounds that are followed.
pub(super) const MOST_ROUNDS: u32 = 64;
/// Rounds that leave more than this share of what the one before left lead nowhere.
pub(super) const CONVERGED: f64 = 0.995;

pub(super) fn seconds(time: f64) -> Duration {
    Duration::from_secs_f64(if time.is_finite() { time.clamp(0.0, LONGEST) } else { LONGEST })
}

/// Everything from which a forecast follows.
#[derive(Clone, Copy, Debug)]
pub struct Forecast<'a> {
    /// The writable working set.
    pub curve: &'a DirtyCurve,
    /// What the link carries.
    pub bandwidth: Bandwidth,
    /// Bytes that a pending page becomes.
    pub page_bytes: f64,
    /// Time of a harvest.
    pub harvest: Duration,
    /// What a round takes beside its bytes and the harvest: the way of its acknowledgement, if it is waited for.
    pub latency: Duration,
    /// What the last pages wait for: what is in flight when the guest is paused, less the harvest in which it goes
    /// on passing.
    pub behind: Duration,
    /// What a handover costs beside the pages.
    pub host: HostPair,
    /// The speed at which the guest writes, 1 if it is not slowed: windows are so much shorter for it.
    pub speed: f64,
}

/// Where going on leads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Path {
    /// The round at whose start the rest fits, counted from now; none if it never does.
    pub rounds: Option<u32>,
    /// Time until then, or as far as was looked.
    pub time: Duration,
    /// Pages pending there.
    pub pages: f64,
}

impl Forecast<'_> {
    pub(super) fn carry(&self, bytes: f64) -> f64 {
        bytes / self.bandwidth.as_f64()
    }

    /// The whole downtime if the guest were paused with so many pages pending.
    pub fn downtime(&self, pages: f64) -> Duration {
        let passing = self.carry(pages * self.page_bytes + self.host.state.as_f64());
        let fixed = self.host.fixed.saturating_add(self.harvest).saturating_add(self.behind);
        fixed.saturating_add(seconds(passing))
    }

    /// The pages that may be pending for the downtime to be `limit`; negative if not even none may.
    pub fn budget(&self, limit: Duration) -> f64 {
        let fixed = self.downtime(0.0).as_secs_f64();
        (limit.as_secs_f64() - fixed) * self.bandwidth.as_f64() / self.page_bytes
    }

    /// How long a round of so many pages takes, from its start to that of the next.
    pub fn round(&self, pages: f64) -> Duration {
        seconds(self.carry(pages * self.page_bytes)).saturating_add(self.harvest).saturating_add(self.latency)
    }

    /// What a round of so many pages will leave pending; none before anything is known of the guest.
    pub fn next(&self, pages: f64) -> Option<Expected> {
        self.curve.expect(seconds(self.round(pages).as_secs_f64() * self.speed))
    }

    /// Follows the rounds from `pages` on until what is pending is at most `budget`, or shrinks no more.
    pub fn path(&self, pages: f64, budget: f64) -> Path {
        self.follow(pages, budget, 0)
    }

    /// The same, but for a round at least.
    pub fn path_on(&self, pages: f64, budget: f64) -> Path {
        self.follow(pages, budget, 1)
    }

    fn follow(&self, pages: f64, budget: f64, least: u32) -> Path {
        let mut path = Path { rounds: None, time: Duration::ZERO, pages };
        for round in 0..MOST_ROUNDS {
            if round >= least && path.pages <= budget {
                path.rounds = Some(round);
                break;
            }
            let Some(next) = self.next(path.pages) else { break };
            path.time = path.time.saturating_add(self.round(path.pages));
            let shrinks = next.pages < path.pages * CONVERGED;
            path.pages = next.pages;
            if !shrinks && path.pages > budget {
                break;
            }
        }
        path
    }
}
