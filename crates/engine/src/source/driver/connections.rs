//! The connections of a migration while it runs: taken up, spoken on, lost, and made again.
//!
//! Called by the loop in [`driver`](super) alone. The page streams have threads of their own (`pages`), as has who reconnects
//! (`reconnect`). Whether a loss matters the machine says: nothing here touches the guest, its log or its record.

use std::sync::Arc;
use std::time::Duration;

use whimbrel_core::machine::message::Message;
use whimbrel_core::machine::{SourceEvent, SourcePhase};
use whimbrel_wire::Limits;

use super::Driver;
use crate::clock::Clock as _;
use crate::link::Link;
use crate::observer::Event;
use crate::source::SourceError;
use crate::source::connecting::{Joined, encoders, we_take};
use crate::source::pages::PageStreams;
use crate::source::reconnect::Reconnecting;
use crate::transport::Stream;

/// How long a destination of which a page stream was lost may take to say why.
const LAST_WORDS: Duration = Duration::from_millis(100);

impl Driver<'_> {
    /// Each connection gets its thread.
    pub(super) fn take_up(&mut self, joined: Joined) -> Result<(), SourceError> {
        let encoders = encoders(&self.settings, &joined, self.ram.layout(), self.clock)?;
        let (patience, limits) = (self.settings.patience, joined.agreed.limits);
        let sent = (&self.ram, &limits);
        let pages =
            PageStreams::start(joined.pages, encoders, sent, (&self.limiter, &self.spent), self.clock);
        self.pages = Some(pages.map_err(SourceError::Thread)?);
        let link = Link::new(joined.control, patience, limits, we_take()).map_err(SourceError::Thread)?;
        self.link = Some(link);
        Ok(())
    }

    /// Sends a message; at the end of a round behind everything that the page streams were given.
    pub(super) fn say(&mut self, message: &Message) {
        if let Message::RoundEnd { round } = message {
            self.pages.iter_mut().for_each(|pages| pages.gate(*round));
        }
        let said = self.link.as_ref().map(|link| link.say(message));
        self.spoke = self.clock.now();
        if let Some(Err(error)) = said {
            self.lose(&format!("control: {}", error.in_words()));
        }
    }

    /// The connection is of no more use: all of it, for a round without some of its pages is none.
    pub(super) fn lose(&mut self, what: &str) {
        if self.link.is_none() {
            return;
        }
        let was_over = matches!(self.machine.phase(), SourcePhase::Returning | SourcePhase::Done);
        self.hang_up();
        self.show(&Event::Lost { what });
        self.tell_if_it_fits(SourceEvent::Disconnected);
        // A destination that may have missed that the guest stays here is told again.
        if was_over && !self.machine.handoff().is_settled() {
            self.reconnect();
        }
    }

    /// Ends all connections and their threads.
    pub(super) fn hang_up(&mut self) {
        self.doomed = None;
        self.pages = None;
        self.dealing.clear();
        self.link = None;
    }

    pub(super) fn reconnect(&mut self) {
        self.hang_up();
        self.to_reconnect = true;
        match Reconnecting::start(Arc::clone(&self.connect), self.introduction.clone()) {
            Ok(reconnecting) => self.reconnecting = Some(reconnecting),
            Err(error) => self.show(&Event::Lost { what: &format!("nobody reconnects: {error}") }),
        }
    }

    /// The connection is of no more use. A destination that does not want the guest any more says so on the control connection: it is
    /// listened to for a moment, because a reason is better than none.
    pub(super) fn doom(&mut self, what: &str) {
        let at = self.clock.now().saturating_add(LAST_WORDS);
        self.doomed.get_or_insert((at, what.to_owned()));
    }

    pub(super) fn connected_again(&mut self, (stream, limits): (Box<dyn Stream>, Limits)) {
        self.reconnecting = None;
        match Link::new(Arc::from(stream), self.settings.patience, limits, we_take()) {
            Ok(link) => {
                self.to_reconnect = false;
                self.link = Some(link);
                self.spoke = self.clock.now();
                self.show(&Event::Connected);
                self.tell_if_it_fits(SourceEvent::Connected);
            }
            Err(error) => {
                self.show(&Event::Lost { what: &format!("control: {error}") });
                self.reconnect();
            }
        }
    }
}
