//! What the two sides say to each other. Pages travel beside these messages, in the same order.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::handoff::HandoffMessage;
use crate::layout::{PageNumber, RamLayout};
use crate::units::{ByteCount, Pages, duration};

/// Names one attempt to migrate one guest. Every connection of the attempt carries it, so that a
/// message of an earlier attempt can't be taken for one of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MigrationId(pub u64);

/// What the destination must know to build the replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Configuration {
    /// The attempt.
    pub id: MigrationId,
    /// The guest's name.
    pub name: String,
    /// Where its memory is.
    pub layout: RamLayout,
    /// Number of vCPUs.
    pub vcpus: u32,
}

impl Configuration {
    /// What [`Message::payload`] says of it.
    pub fn payload(&self) -> ByteCount {
        ByteCount(64 + self.name.len() as u64 + 16 * self.layout.regions().len() as u64)
    }
}

/// A part of the CPU and device state. A kind or version that the destination does not know is an
/// error there, and so is one that is left over.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Section {
    /// What it is the state of, such as `vcpu-0` or `serial`.
    pub kind: String,
    /// Version of its encoding.
    pub version: u32,
    /// The state, encoded.
    pub bytes: Vec<u8>,
}

impl Section {
    /// Its part of what [`Message::payload`] says.
    pub fn payload(&self) -> ByteCount {
        ByteCount(self.kind.len() as u64 + self.bytes.len() as u64 + 8)
    }
}

/// A message of either side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Message {
    /// Source: this is the guest.
    Configure(Arc<Configuration>),
    /// Destination: the replica is built and its memory reserved.
    Accept,
    /// Destination: I will not take it.
    Refuse {
        /// Why, for a person.
        reason: String,
    },
    /// Source: all pages of this round are sent.
    RoundEnd {
        /// Which.
        round: u32,
    },
    /// Destination: all pages of this round are in the replica.
    Acknowledge {
        /// Which.
        round: u32,
    },
    /// Source: the guest is handed over before these pages are sent. Which they are travels beside this
    /// message; what the replica holds of them is stale, and a page that arrives counts only once: the
    /// guest may have written to it since.
    PostCopy {
        /// How many.
        missing: Pages,
    },
    /// Destination: the guest waits for this page.
    Request {
        /// Which.
        page: PageNumber,
    },
    /// Destination: the guest that lacked pages is lost here; there is nothing left to send them to.
    Lost {
        /// Why, for a person.
        reason: String,
    },
    /// Source: the CPU and device state, after the last pages.
    State(Vec<Section>),
    /// Who may run the guest.
    Handoff {
        /// What is said.
        message: HandoffMessage,
        /// How long the destination took for what it reports: restoring for *ready*, writing down and
        /// resuming for *running*; zero otherwise. A duration, because the sides share no clock.
        #[serde(with = "duration")]
        took: Duration,
    },
}

impl Message {
    /// A message of the handoff that reports no duration.
    pub const fn handoff(message: HandoffMessage) -> Self {
        Self::Handoff { message, took: Duration::ZERO }
    }

    /// Its name, for messages to people.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Configure(_) => "message configure",
            Self::Accept => "message accept",
            Self::Refuse { .. } => "message refuse",
            Self::RoundEnd { .. } => "message round-end",
            Self::Acknowledge { .. } => "message acknowledge",
            Self::PostCopy { .. } => "message post-copy",
            Self::Request { .. } => "message request",
            Self::Lost { .. } => "message lost",
            Self::State(_) => "message state",
            Self::Handoff { message, .. } => match message {
                HandoffMessage::Ready => "message ready",
                HandoffMessage::Go => "message go",
                HandoffMessage::Running => "message running",
                HandoffMessage::Cancel => "message cancel",
                HandoffMessage::Withdraw => "message withdraw",
                HandoffMessage::Ask => "message ask",
                HandoffMessage::Answer(_) => "message answer",
            },
        }
    }

    /// Bytes of state or text that it carries, without framing: what a simulator charges for it.
    pub fn payload(&self) -> ByteCount {
        ByteCount(match self {
            Self::Configure(configuration) => return configuration.payload(),
            Self::Refuse { reason } | Self::Lost { reason } => reason.len() as u64,
            Self::State(sections) => sections.iter().map(|section| section.payload().0).sum(),
            Self::Accept
            | Self::RoundEnd { .. }
            | Self::Acknowledge { .. }
            | Self::PostCopy { .. }
            | Self::Request { .. }
            | Self::Handoff { .. } => 16,
        })
    }
}
