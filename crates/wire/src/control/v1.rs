//! Control messages of version 1. What is written here was released and never changes.
//!
//! Serialised with [postcard's format](https://postcard.jamesmunns.com/wire-format): an enum is its variant's place (varint),
//! unsigned integers of more than 8 bits are varints, texts and bytes have their length before them, fields follow each
//! other. Lists stand last, behind their count, so that the count can be checked before anything is made for it; the
//! bytes are those of a postcard list.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use whimbrel_core::layout::{Gpa, PageNumber, PageSize, RamLayout, Region};
use whimbrel_core::machine::handoff::{HandoffMessage, Standing};
use whimbrel_core::machine::message::{Configuration, Message, MigrationId, Section};
use whimbrel_core::units::{ByteCount, Pages};

use crate::error::WireError;
use crate::limits::{Limit, Limits};

/// This version.
const VERSION: u16 = 1;

/// A message without its list. The order is the code.
#[derive(Serialize, Deserialize)]
enum Head<'a> {
    /// Followed by the regions, as [`Span`]s.
    Configure {
        id: u64,
        name: &'a str,
        vcpus: u32,
        /// Log₂ of the bytes of a page.
        page_shift: u8,
        regions: u32,
    },
    Accept,
    Refuse {
        reason: &'a str,
    },
    RoundEnd {
        round: u32,
    },
    Acknowledge {
        round: u32,
    },
    PostCopy {
        missing: u64,
    },
    Request {
        page: u64,
    },
    Lost {
        reason: &'a str,
    },
    /// Followed by the sections, as [`Part`]s.
    State {
        sections: u32,
    },
    Handoff {
        said: Said,
        /// Nanoseconds.
        took: u64,
    },
}

/// A message of the handoff.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Said {
    Ready,
    Go,
    Running,
    Cancel,
    Withdraw,
    Ask,
    AnswerPrepared,
    AnswerRunning,
    AnswerGone,
}

/// A region of memory.
#[derive(Serialize, Deserialize)]
struct Span {
    start: u64,
    len: u64,
}

/// A section of state.
#[derive(Serialize, Deserialize)]
struct Part<'a> {
    kind: &'a str,
    version: u32,
    #[serde(borrow)]
    bytes: Bytes<'a>,
}

/// Bytes that are neither copied nor looked at one by one.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Self)
    }
}

/// Appends the message to `frame`.
pub(super) fn encode(message: &Message, limits: &Limits, frame: Vec<u8>) -> Result<Vec<u8>, WireError> {
    let reason = |reason| text(reason, limits);
    let head = match message {
        Message::Configure(configuration) => return encode_configuration(configuration, limits, frame),
        Message::State(sections) => return encode_state(sections, limits, frame),
        Message::Accept => Head::Accept,
        Message::Refuse { reason: why } => Head::Refuse { reason: reason(why)? },
        Message::RoundEnd { round } => Head::RoundEnd { round: *round },
        Message::Acknowledge { round } => Head::Acknowledge { round: *round },
        Message::PostCopy { missing } => Head::PostCopy { missing: missing.0 },
        Message::Request { page } => Head::Request { page: page.0 },
        Message::Lost { reason: why } => Head::Lost { reason: reason(why)? },
        Message::Handoff { message, took } => Head::Handoff {
            said: (*message).into(),
            // 584 years are enough.
            took: u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
        },
        // What later machines may say.
        other => return Err(WireError::Unspeakable { message: other.name(), version: VERSION }),
    };
    put("a control message", &head, frame)
}

fn encode_configuration(
    configuration: &Configuration,
    limits: &Limits,
    frame: Vec<u8>,
) -> Result<Vec<u8>, WireError> {
    let Configuration { id, name, layout, vcpus } = configuration;
    limits.check(Limit::Name, name.len() as u64)?;
    limits.check(Limit::Vcpus, (*vcpus).into())?;
    limits.check(Limit::Memory, layout.bytes().0)?;
    let head = Head::Configure {
        id: id.0,
        name,
        vcpus: *vcpus,
        page_shift: layout.page_size().shift() as u8,
        regions: count(Limit::Regions, layout.regions().len(), limits)?,
    };
    let frame = put("message configure", &head, frame)?;
    layout.regions().iter().try_fold(frame, |frame, region| {
        put("a region of memory", &Span { start: region.start.0, len: region.len.0 }, frame)
    })
}

fn encode_state(sections: &[Section], limits: &Limits, frame: Vec<u8>) -> Result<Vec<u8>, WireError> {
    let head = Head::State { sections: count(Limit::Sections, sections.len(), limits)? };
    let frame = put("message state", &head, frame)?;
    sections.iter().try_fold(frame, |frame, Section { kind, version, bytes }| {
        limits.check(Limit::Name, kind.len() as u64)?;
        limits.check(Limit::Section, bytes.len() as u64)?;
        put("a section of state", &Part { kind, version: *version, bytes: Bytes(bytes) }, frame)
    })
}

/// The message that `body` is, all of it.
pub(super) fn decode(body: &[u8], limits: &Limits) -> Result<Message, WireError> {
    let (head, rest) = take("a control message", body)?;
    let (message, rest) = match head {
        Head::Configure { id, name, vcpus, page_shift, regions } => {
            limits.check(Limit::Name, name.len() as u64)?;
            limits.check(Limit::Vcpus, vcpus.into())?;
            let (layout, rest) = decode_layout(page_shift, regions, rest, limits)?;
            let configuration = Configuration { id: MigrationId(id), name: name.to_owned(), layout, vcpus };
            (Message::Configure(Arc::new(configuration)), rest)
        }
        Head::State { sections } => decode_state(sections, rest, limits)?,
        Head::Accept => (Message::Accept, rest),
        Head::Refuse { reason } => (Message::Refuse { reason: text(reason, limits)?.to_owned() }, rest),
        Head::RoundEnd { round } => (Message::RoundEnd { round }, rest),
        Head::Acknowledge { round } => (Message::Acknowledge { round }, rest),
        Head::PostCopy { missing } => (Message::PostCopy { missing: Pages(missing) }, rest),
        Head::Request { page } => (Message::Request { page: PageNumber(page) }, rest),
        Head::Lost { reason } => (Message::Lost { reason: text(reason, limits)?.to_owned() }, rest),
        Head::Handoff { said, took } => {
            (Message::Handoff { message: said.into(), took: Duration::from_nanos(took) }, rest)
        }
    };
    if rest.is_empty() {
        Ok(message)
    } else {
        Err(WireError::Trailing { what: message.name(), count: rest.len() })
    }
}

fn decode_layout<'a>(
    page_shift: u8,
    regions: u32,
    mut rest: &'a [u8],
    limits: &Limits,
) -> Result<(RamLayout, &'a [u8]), WireError> {
    limits.check(Limit::Regions, regions.into())?;
    let page_size = PageSize::ALL.into_iter().find(|size| size.shift() == u32::from(page_shift)).ok_or(
        WireError::Code {
            what: "the page size, as a power of two,",
            found: page_shift.into(),
            accepted: "12, 21 or 30",
        },
    )?;
    // Checked above.
    let mut list = Vec::with_capacity(regions as usize);
    for _ in 0..regions {
        let (Span { start, len }, behind) = take("a region of memory", rest)?;
        list.push(Region { start: Gpa(start), len: ByteCount(len) });
        rest = behind;
    }
    let layout = RamLayout::new(page_size, list)?;
    limits.check(Limit::Memory, layout.bytes().0)?;
    Ok((layout, rest))
}

fn decode_state<'a>(
    sections: u32,
    mut rest: &'a [u8],
    limits: &Limits,
) -> Result<(Message, &'a [u8]), WireError> {
    limits.check(Limit::Sections, sections.into())?;
    // Checked above.
    let mut list = Vec::with_capacity(sections as usize);
    for _ in 0..sections {
        let (Part { kind, version, bytes: Bytes(bytes) }, behind) = take("a section of state", rest)?;
        limits.check(Limit::Name, kind.len() as u64)?;
        limits.check(Limit::Section, bytes.len() as u64)?;
        list.push(Section { kind: kind.to_owned(), version, bytes: bytes.to_owned() });
        rest = behind;
    }
    Ok((Message::State(list), rest))
}

/// A text for people that is not too long.
fn text<'a>(text: &'a str, limits: &Limits) -> Result<&'a str, WireError> {
    limits.check(Limit::Text, text.len() as u64)?;
    Ok(text)
}

/// The length of a list that is not too long.
fn count(limit: Limit, length: usize, limits: &Limits) -> Result<u32, WireError> {
    limits.check(limit, length as u64)?;
    // All limits of lists are 32-bit numbers.
    Ok(length as u32)
}

/// Appends one value.
fn put<T: Serialize>(what: &'static str, value: &T, frame: Vec<u8>) -> Result<Vec<u8>, WireError> {
    postcard::to_extend(value, frame).map_err(|error| malformed(what, &error))
}

/// Takes one value from the front.
fn take<'a, T: Deserialize<'a>>(what: &'static str, bytes: &'a [u8]) -> Result<(T, &'a [u8]), WireError> {
    postcard::take_from_bytes(bytes).map_err(|error| malformed(what, &error))
}

fn malformed(what: &'static str, error: &postcard::Error) -> WireError {
    use postcard::Error as E;
    let fault = match error {
        E::DeserializeUnexpectedEnd => "ends too early",
        E::DeserializeBadVarint => "has a number that is too large",
        E::DeserializeBadUtf8 => "has a text that is not UTF-8",
        // The one thing that the types here can find wrong.
        E::SerdeDeCustom => "has a code without a meaning",
        _ => "is damaged",
    };
    WireError::Malformed { what, fault }
}

impl From<HandoffMessage> for Said {
    fn from(message: HandoffMessage) -> Self {
        match message {
            HandoffMessage::Ready => Self::Ready,
            HandoffMessage::Go => Self::Go,
            HandoffMessage::Running => Self::Running,
            HandoffMessage::Cancel => Self::Cancel,
            HandoffMessage::Withdraw => Self::Withdraw,
            HandoffMessage::Ask => Self::Ask,
            HandoffMessage::Answer(Standing::Prepared) => Self::AnswerPrepared,
            HandoffMessage::Answer(Standing::Running) => Self::AnswerRunning,
            HandoffMessage::Answer(Standing::Gone) => Self::AnswerGone,
        }
    }
}

impl From<Said> for HandoffMessage {
    fn from(said: Said) -> Self {
        match said {
            Said::Ready => Self::Ready,
            Said::Go => Self::Go,
            Said::Running => Self::Running,
            Said::Cancel => Self::Cancel,
            Said::Withdraw => Self::Withdraw,
            Said::Ask => Self::Ask,
            Said::AnswerPrepared => Self::Answer(Standing::Prepared),
            Said::AnswerRunning => Self::Answer(Standing::Running),
            Said::AnswerGone => Self::Answer(Standing::Gone),
        }
    }
}
