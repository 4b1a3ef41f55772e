//! A source that was started anew: what its crash left open is settled with the destination.
//!
//! The guest's memory is gone with the old process; what is left is the record. The handoff says what may be made of it
//! ([`SourceHandoff::restarted`]), and this is what it asks for: a connection, a few messages, the record's end. It must never give
//! [`Right::Mine`] where *go* was written, unless the destination or a fence says so.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{never, select};
use whimbrel_core::machine::PATIENCE;
use whimbrel_core::machine::handoff::{
    Effect, Effects, HandoffError, HandoffMessage, Right, SourceEvent, SourceHandoff,
};
use whimbrel_core::machine::message::{Message, MigrationId};
use whimbrel_core::units::ByteCount;
use whimbrel_wire::hello::{Capabilities, Token};

use super::connecting::we_take;
use super::reconnect::{Made, Reconnecting};
use crate::clock::Deadline;
use crate::hello::Introduction;
use crate::link::{Heard, Link};
use crate::orders::{Order, Orders};
use crate::stable::{StableStore, StoreError};
use crate::transport::Connect;

/// Between a connection that was lost and the next.
const PAUSE: Duration = Duration::from_millis(50);

/// A migration of which the source was started anew.
pub struct Restarted<'a> {
    /// Which. [`list`](crate::stable::list()) finds those of which there are records.
    pub id: MigrationId,
    /// What the destination wants to hear. It may be that of a destination that waits for another guest: it answers from its records.
    pub token: Token,
    /// The way to the destination.
    pub connect: Arc<dyn Connect>,
    /// Where the old process kept its record.
    pub store: &'a mut dyn StableStore,
    /// How long the destination may say nothing before it is asked on another connection.
    pub patience: Duration,
}

/// What is known of it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Who may run the guest.
    ///
    /// * [`Right::Mine`]: start it here, from its disks.
    /// * [`Right::Theirs`]: it is there. Drop it from the inventory, then erase the record.
    /// * [`Right::Undecided`]: *go* was written, and nobody has answered. Start nothing.
    pub right: Right,
    /// The destination knows it too, and keeps no replica for this source.
    pub settled: bool,
}

/// Why nothing is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// It cannot be read what was written. That must not be taken for nothing.
    #[error("the record of this migration cannot be read")]
    Store(#[from] StoreError),
    /// The record is not a source's.
    #[error(transparent)]
    Handoff(#[from] HandoffError),
    /// The system gives no thread.
    #[error("no thread to ask the destination")]
    Thread(#[source] io::Error),
}

/// Asks a destination what became of a guest, after a crash of the source, and tells it how that stands. To be called before the
/// guest is started from its disks.
///
/// With the record *go* only the destination knows: a replica that is ready there is told to run, one that runs is left to it, and
/// if there is none the record is erased and the guest is here. Without a record the guest is here in any case, and the
/// destination is told to drop its replica; whoever wants that replica instead, since it has the only copy of the guest's memory,
/// fences this host there ([`Order::Fence`]) and does not call this.
///
/// Ends when the destination has answered, somebody orders [`Order::Fence`] or [`Order::Leave`], or `within` is over; with none
/// it asks for ever.
///
/// # Errors
///
/// A [`SettleError`]: nothing was asked and nothing may be started.
pub fn settle(
    restarted: Restarted<'_>,
    within: Option<Duration>,
    orders: &Orders,
) -> Result<Settled, SettleError> {
    let Restarted { id, token, connect, store, patience } = restarted;
    let handoff = SourceHandoff::restarted(store.load(id)?)?;
    let introduction =
        Introduction { id, token, memory: ByteCount(0), capabilities: Capabilities::from_bits(0) };
    let (link, reconnecting) = (None, None);
    let settling = Settling { handoff, id, store, connect, introduction, patience, link, reconnecting };
    settling.run(Deadline::within(within), orders)
}

struct Settling<'a> {
    handoff: SourceHandoff,
    id: MigrationId,
    store: &'a mut dyn StableStore,
    connect: Arc<dyn Connect>,
    introduction: Introduction,
    patience: Duration,
    link: Option<Link>,
    reconnecting: Option<Reconnecting>,
}

impl Settling<'_> {
    fn run(mut self, deadline: Deadline, orders: &Orders) -> Result<Settled, SettleError> {
        while !self.handoff.is_settled() {
            if self.link.is_none() && self.reconnecting.is_none() {
                let started = Reconnecting::start(Arc::clone(&self.connect), self.introduction.clone());
                self.reconnecting = Some(started.map_err(SettleError::Thread)?);
            }
            let left = deadline.left().unwrap_or(PATIENCE);
            if left.is_zero() {
                break;
            }
            let heard = self.link.as_ref().map_or_else(never, Link::heard);
            let made = self.reconnecting.as_ref().map_or_else(never, Reconnecting::made);
            select! {
                recv(heard) -> heard => match heard {
                    Ok(Heard::Message(Message::Handoff { message, .. })) => self.hear(message),
                    // A peer that says anything else is of no use.
                    Ok(_) | Err(_) => self.lose(),
                },
                recv(made) -> made => match made {
                    Ok(made) => self.talk(made),
                    // Its thread has ended without a word: another is begun.
                    Err(_) => self.reconnecting = None,
                },
                recv(orders.taken) -> order => match order {
                    Ok(Order::Fence(fence)) => {
                        // Whoever guarantees that the destination is out of the game need not wait for its connection to be lost.
                        self.lose();
                        self.tell(SourceEvent::Fenced(fence));
                    }
                    Ok(Order::Leave) => break,
                    _ => {}
                },
                default(left) => {}
            }
        }
        Ok(Settled { right: self.handoff.right(), settled: self.handoff.is_settled() })
    }

    fn talk(&mut self, (stream, limits): Made) {
        self.reconnecting = None;
        // Without a thread to listen it is tried again.
        if let Ok(link) = Link::new(Arc::from(stream), self.patience, limits, we_take()) {
            self.link = Some(link);
            self.tell(SourceEvent::Connected);
        }
    }

    fn hear(&mut self, message: HandoffMessage) {
        match self.handoff.handle(SourceEvent::Received(message)) {
            Ok(effects) => self.carry_out(effects),
            // It broke the protocol; asked again it may know better.
            Err(_) => self.lose(),
        }
    }

    fn lose(&mut self) {
        if self.link.take().is_some() {
            self.tell(SourceEvent::Disconnected);
            // Nobody is called again and again without a pause.
            thread::sleep(PAUSE);
        }
    }

    /// What does not fit has come too late.
    fn tell(&mut self, event: SourceEvent) {
        if let Ok(effects) = self.handoff.handle(event) {
            self.carry_out(effects);
        }
    }

    fn carry_out(&mut self, effects: Effects) {
        for effect in effects {
            match effect {
                Effect::Send(message) => {
                    let said = self.link.as_ref().map(|link| link.say(&Message::handoff(message)));
                    if !matches!(said, Some(Ok(()))) {
                        self.lose();
                    }
                }
                // One that stays behind does no harm.
                Effect::Erase => drop(self.store.erase(self.id)),
                // There is no guest in memory; the caller is told.
                _ => {}
            }
        }
    }
}
