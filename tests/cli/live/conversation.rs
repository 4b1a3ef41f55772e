//! What the two sides say to one another, read whole: for whoever stands between them, or in the place of one of them.

use std::io::{self, Read};

use whimbrel::core::machine::message::Message;
use whimbrel::wire::frame::{FrameHeader, FrameKind, HEADER_LEN};
use whimbrel::wire::hello::{self, Direction, PREFIX_LEN};
use whimbrel::wire::{Limits, control};

/// The first words of a connection, from this side: those of the length that is always there, and the rest.
pub(crate) fn first_words(
    from: &mut dyn Read,
    direction: Direction,
) -> io::Result<([u8; PREFIX_LEN], Vec<u8>)> {
    let mut prefix = [0; PREFIX_LEN];
    from.read_exact(&mut prefix)?;
    let mut rest = vec![0; hello::rest(&prefix, direction).map_err(io::Error::other)?];
    from.read_exact(&mut rest)?;
    Ok((prefix, rest))
}

/// What follows them, one by one.
pub(crate) struct Frame {
    /// As it came, header and body.
    pub(crate) bytes: Vec<u8>,
    /// What it says, if it is not pages.
    pub(crate) message: Option<Message>,
}

/// None where the connection ends.
pub(crate) fn next_frame(from: &mut dyn Read) -> io::Result<Option<Frame>> {
    let limits = Limits::default();
    let mut header = [0; HEADER_LEN];
    match from.read(&mut header)? {
        0 => return Ok(None),
        count => from.read_exact(&mut header[count..])?,
    }
    let decoded = FrameHeader::decode(&header, &limits).map_err(io::Error::other)?;
    let mut body = vec![0; decoded.length as usize];
    from.read_exact(&mut body)?;
    let message = (decoded.kind == FrameKind::Control).then(|| control::decode(&body, &limits));
    let message = message.transpose().map_err(io::Error::other)?;
    Ok(Some(Frame { bytes: [&header[..], &body].concat(), message }))
}
