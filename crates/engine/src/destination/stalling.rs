//! Sources that have a place here and do nothing with it.
//!
//! Whoever is silent is noticed by its connection, and whoever only pings is not. So each step that a source owes has its time: the
//! guest's configuration, its page connections, what is left of a frame that has begun, and the whole of it where the embedder has said
//! so. Called by the driver whenever it has waited. Behind *ready* only the connection is given up: then only the source knows who has
//! the guest.

use std::time::Duration;

use whimbrel_core::machine::{DestinationEvent, DestinationPhase};
use whimbrel_core::units::{Timestamp, duration};

use super::driver::Driver;
use super::receivers::Receivers;
use crate::clock::Clock as _;
use crate::link::Link;

impl Driver<'_> {
    /// Sends whoever stalls away.
    pub(super) fn watch(&mut self) {
        if let Some(what) = self.slow().or_else(|| self.owed()) {
            self.break_off(&what);
        } else if self.is_late() {
            let limit = self.settings.time_limit.unwrap_or_default();
            if self.tell_if_it_fits(DestinationEvent::Withdraw) {
                self.why.get_or_insert_with(|| {
                    format!(
                        "the replica was not complete within the time limit of {}",
                        duration::human(limit)
                    )
                });
            }
        }
    }

    fn within(&self) -> String {
        duration::human(self.core.patience)
    }

    /// A frame that comes drop by drop.
    fn slow(&self) -> Option<String> {
        let receivers = self.core.receivers.as_ref();
        if let Some((stream, had)) = receivers.and_then(|receivers| receivers.overdue(self.core.patience)) {
            return Some(format!(
                "page stream {stream}: a frame is not whole after {}",
                duration::human(had)
            ));
        }
        let had = self.core.link.as_ref().and_then(Link::overdue)?;
        Some(format!("control: a message is not whole after {}", duration::human(had)))
    }

    /// A step that the source has not made in time.
    fn owed(&self) -> Option<String> {
        let waited = self.core.clock.now().since(self.since);
        let late = self.core.link.is_some() && waited >= self.core.patience;
        let (came, streams) = (
            self.core.receivers.as_ref().map_or(0, Receivers::count),
            self.core.agreed.as_ref().map_or(0, |agreed| usize::from(agreed.streams)),
        );
        match self.core.machine.phase() {
            DestinationPhase::Listening if late => {
                Some(format!("no guest was configured within {}", self.within()))
            }
            DestinationPhase::Loading if late && came < streams => {
                Some(format!("{came} of {streams} page connections came within {}", self.within()))
            }
            _ => None,
        }
    }

    fn is_late(&self) -> bool {
        let taken = self.core.clock.now().since(self.admitted.unwrap_or(Timestamp::ZERO));
        self.admitted.is_some()
            && self.core.machine.handoff().may_withdraw()
            && self.settings.time_limit.is_some_and(|limit| taken >= limit)
    }

    /// How long is waited at once.
    pub(super) fn at_once(&self) -> Duration {
        let all = [Some(self.core.patience), self.settings.time_limit];
        all.into_iter().flatten().min().unwrap_or_default() / 4
    }
}
