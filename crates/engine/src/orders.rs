//! What people and programs may order while a migration runs.
//!
//! An [`Orders`] is given to the driver, its [`Remote`]s to whoever wants a say: a signal handler, a control plane, a person. A
//! driver looks at them wherever it waits. An order that has come too late is ignored, as the machine says.

use crossbeam_channel::{Receiver, Sender, bounded};
use whimbrel_core::machine::CancelReason;
use whimbrel_core::machine::handoff::Fence;
use whimbrel_core::policy::RateLimit;

/// One order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// The guest is to stay at the source. At the destination: the replica is not wanted.
    Cancel(CancelReason),
    /// Change a parameter of the policy.
    Change {
        /// Which.
        parameter: String,
        /// To what.
        value: String,
    },
    /// Source: send pages no faster than this.
    Limit(RateLimit),
    /// Somebody guarantees that the other side is out of the game.
    Fence(Fence),
    /// Destination: give up a replica whose source does not come back.
    Discard,
    /// Stop waiting for a peer that does not come back, and leave things as they are.
    Leave,
}

/// More than anybody gives in a migration.
const WAITING: usize = 64;

/// Where a driver takes orders from.
#[derive(Debug)]
pub struct Orders {
    pub(crate) taken: Receiver<Order>,
    /// Kept, so that it never ends.
    given: Sender<Order>,
}

impl Default for Orders {
    fn default() -> Self {
        let (given, taken) = bounded(WAITING);
        Self { taken, given }
    }
}

impl Orders {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A way to give some, from any thread.
    pub fn remote(&self) -> Remote {
        Remote(self.given.clone())
    }

    /// The next, if there is one.
    pub(crate) fn next(&self) -> Option<Order> {
        self.taken.try_recv().ok()
    }
}

/// Gives orders to a driver.
#[derive(Clone, Debug)]
pub struct Remote(Sender<Order>);

impl Remote {
    /// Gives an order; false if the driver is gone, or has dozens waiting.
    pub fn give(&self, order: Order) -> bool {
        self.0.try_send(order).is_ok()
    }

    /// Has the guest stay where it is.
    pub fn cancel(&self) -> bool {
        self.give(Order::Cancel(CancelReason::Requested))
    }
}
