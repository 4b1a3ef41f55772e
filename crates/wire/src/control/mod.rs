//! Control messages: one message of the machines a frame.
//!
//! Which bytes a message becomes is a matter of the protocol's version: each has a module of its own with its own types,
//! so that the machines can change without the bytes, and a version that was released never does. Today there is one,
//! `v1`. What the machines are told here has been checked: texts are text and short, layouts are layouts and fit.

#[cfg(test)]
mod tests;
mod v1;

use whimbrel_core::machine::message::Message;

use crate::error::WireError;
use crate::frame::{FrameHeader, FrameKind, HEADER_LEN, checksum};
use crate::limits::{Limit, Limits};

/// A message as a whole frame, header and body.
///
/// # Errors
///
/// [`WireError::TooMuch`] if the peer would not take it: `limits` are to be those that it
/// [told](crate::hello::Welcome), or else this side's own. [`WireError::Unspeakable`] if this version has no such message.
pub fn encode(message: &Message, limits: &Limits) -> Result<Vec<u8>, WireError> {
    let mut frame = v1::encode(message, limits, vec![0; HEADER_LEN])?;
    let Some((header, body)) = frame.split_first_chunk_mut::<HEADER_LEN>() else {
        return Err(WireError::Truncated { what: "a control frame" });
    };
    limits.check(Limit::Control, body.len() as u64)?;
    let found = body.len() as u64;
    let length = u32::try_from(found).map_err(|_| WireError::TooMuch {
        limit: Limit::Control,
        found,
        most: u32::MAX.into(),
    })?;
    *header = FrameHeader {
        kind: FrameKind::Control,
        entries: 0,
        length,
        checksum: checksum(body),
        payload_checked: false,
    }
    .encode();
    Ok(frame)
}

/// The message that the body of a control frame is. The frame's checksum is to be
/// [verified](crate::frame::FrameHeader::verify) before.
///
/// # Errors
///
/// [`WireError`] that names the part of the message: one that is not known, ends too early, is beyond `limits` or no
/// layout; and bytes behind the message.
pub fn decode(body: &[u8], limits: &Limits) -> Result<Message, WireError> {
    limits.check(Limit::Control, body.len() as u64)?;
    v1::decode(body, limits)
}
