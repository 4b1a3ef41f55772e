//! What people and programs may order while a migration runs.
//!
//! An [`Orders`] is given to the driver, its [`Remote`]s to whoever wants a say: a signal handler, a control plane, a person. A
//! driver looks at them wherever it waits, which it does between any two calls into the embedder's code. The observer is told
//! whether an order was [taken](crate::observer::Event::Taken), or has come too late or is none for this side and is
//! [not](crate::observer::Event::Ignored).
//!
//! ```
//! use whimbrel_core::policy::RateLimit;
//! use whimbrel_core::units::Bandwidth;
//! use whimbrel_engine::orders::{Order, Orders};
//!
//! let orders = Orders::new();
//! let remote = orders.remote();
//! // On another thread, while `source::send` has the orders:
//! let limit = Bandwidth::new(100 << 20).ok_or("a rate")?;
//! assert!(remote.give(Order::Limit(RateLimit::AtMost(limit))));
//! assert!(remote.cancel());
//! # Ok::<(), &str>(())
//! ```

use crossbeam_channel::{Receiver, Sender, bounded};
use whimbrel_core::machine::CancelReason;
use whimbrel_core::machine::handoff::Fence;
use whimbrel_core::policy::RateLimit;

/// One order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// The guest is to stay at the source; taken until *go* is written. At the destination: the replica is not wanted; taken
    /// until it is ready.
    Cancel(CancelReason),
    /// Source: change a parameter of the policy.
    Change {
        /// Which, by the name that the policy gives it, as `downtime-limit`.
        parameter: String,
        /// To what, as it is written, as `100ms`.
        value: String,
    },
    /// Source: send pages no faster than this, from now on and in place of [`limit`](crate::source::SourceSettings::limit), nor
    /// faster than the policy wants. Taken until the last page was sent, also while the guest is paused for it. Pages that wait
    /// for the old limit go as the new one says. The policy sees what it comes to in what is sent.
    Limit(RateLimit),
    /// Somebody guarantees that the other side is out of the game, and ends a doubt by it. A host that does not answer is not
    /// fenced: read what [`Fence`] demands.
    Fence(Fence),
    /// Destination: give up a replica whose source does not come back. Always safe; if the source lost the guest too, it is lost.
    Discard,
    /// Stop waiting for a peer that does not come back, and leave things as they are; before the handover there is nothing to
    /// leave, and it is as [`Order::Cancel`]. A guest whose
    /// [`Right`](whimbrel_core::machine::handoff::Right) is undecided stays so, and paused.
    Leave,
}

/// More than anybody gives in a migration.
const WAITING: usize = 64;

/// Where a driver takes orders from. Made for one migration; dozens may wait in it.
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
    /// Gives an order and does not wait for it to be carried out; false if the [`Orders`] are gone, or dozens wait in them.
    pub fn give(&self, order: Order) -> bool {
        self.0.try_send(order).is_ok()
    }

    /// Has the guest stay where it is.
    pub fn cancel(&self) -> bool {
        self.give(Order::Cancel(CancelReason::Requested))
    }
}
