//! Answers about migrations that this process knows nothing of but what stable storage says.
//!
//! A destination that was started anew, after a crash, is asked by a source that is in doubt. It answers as the handoff says
//! for one that has restarted: the guest is here, or never was and never will be. It has no replica to offer.

use std::sync::Arc;
use std::time::Duration;

use whimbrel_core::machine::handoff::{DestinationEvent, DestinationHandoff, Effect, StableRecord};
use whimbrel_core::machine::message::Message;
use whimbrel_wire::Limits;

use crate::link::{Heard, Link};
use crate::transport::Stream;

/// How long somebody may take to ask.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most that is said to somebody.
const QUESTIONS: usize = 16;

/// Answers until the source is content, by this record.
pub(super) fn answer(stream: Box<dyn Stream>, record: Option<StableRecord>) {
    // A record of a source's says nothing of what was here.
    let Ok(mut handoff) = DestinationHandoff::restarted(record) else { return };
    let Ok(link) = Link::new(Arc::from(stream), PATIENCE, Limits::default()) else { return };
    if handoff.handle(DestinationEvent::Connected).is_err() {
        return;
    }
    for _ in 0..QUESTIONS {
        let Ok(Heard::Message(Message::Handoff { message, .. })) = link.heard().recv_timeout(PATIENCE) else {
            return;
        };
        let Ok(effects) = handoff.handle(DestinationEvent::Received(message)) else { return };
        for effect in effects {
            // Nothing else can be asked for: there is no replica.
            if let Effect::Send(message) = effect
                && link.say(&Message::handoff(message)).is_err()
            {
                return;
            }
        }
    }
}
