//! Test support: any bytes to every decoder, and what must hold of whatever is taken.
//!
//! Used by the fuzz targets of the same names, by property tests and by the test that replays the corpora; not part of the
//! interface. A panic is a finding. Nobody guesses a checksum, so bytes are also tried with the right ones.

use whimbrel_core::machine::message::Message;

use crate::error::WireError;
use crate::frame::{FrameHeader, FrameKind, HEADER_LEN, gate, gate_round, ping};
use crate::hello::{
    Answer, Capabilities, Direction, Hello, MAGIC, PREFIX_LEN, Reject, Terms, Token, Versions, decode_answer,
    encode_answer, rest,
};
use crate::limits::Limits;
use crate::{control, frame, hello};

/// Reads `data` as the first message of a source and of a destination. What is taken is written as it was read, and is
/// answered.
///
/// # Panics
///
/// If a promise is broken.
pub fn hello(data: &[u8]) {
    first_message(data);
    first_message(&sealed_first_message(data));
}

/// The same bytes as a first message of their length, with its checksum.
fn sealed_first_message(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_owned();
    if let Some((prefix, behind)) = data.split_first_chunk_mut::<PREFIX_LEN>() {
        prefix[..8].copy_from_slice(&MAGIC);
        prefix[10..12].copy_from_slice(&(behind.len() as u16).to_le_bytes());
        let sum = hello::checksum(prefix, behind);
        prefix[12..].copy_from_slice(&sum.to_le_bytes());
    }
    data
}

fn first_message(data: &[u8]) {
    let Some((prefix, behind)) = data.split_first_chunk::<PREFIX_LEN>() else { return };
    if let Some(bytes) = announced(prefix, behind, Direction::FromSource)
        && let Ok(hello) = Hello::decode(prefix, bytes)
    {
        check_hello(&hello, prefix, bytes);
    }
    if let Some(bytes) = announced(prefix, behind, Direction::FromDestination)
        && let Ok(answer) = decode_answer(prefix, bytes)
    {
        assert_eq!(reread_answer(&answer), Ok(answer), "an answer is written as another");
    }
}

/// As many bytes as the prefix announces.
fn announced<'a>(prefix: &[u8; PREFIX_LEN], behind: &'a [u8], direction: Direction) -> Option<&'a [u8]> {
    behind.get(..rest(prefix, direction).ok()?)
}

fn check_hello(hello: &Hello, prefix: &[u8; PREFIX_LEN], bytes: &[u8]) {
    let written = hello.encode();
    if hello.versions.newest <= Versions::SPOKEN.newest {
        assert_eq!(written, [prefix, bytes].concat(), "a hello is written otherwise than it was read");
    }
    let Ok(token) = Token::new(b"open sesame") else { panic!("this is a token") };
    let capabilities = Capabilities::KNOWN;
    let limits = Limits::default();
    let terms = Terms { token: token.clone(), versions: Versions::SPOKEN, capabilities, limits };
    let answer = terms.judge(hello);
    if hello.token != token {
        assert_eq!(answer, Err(Reject::Token), "a wrong token is answered otherwise");
    }
    let told = reread_answer(&answer);
    assert_eq!(told.as_ref(), Ok(&answer), "an answer does not arrive");
    assert_eq!(hello.accept(answer.clone()), Ok(answer), "an answer is not one to its hello");
}

/// An answer as it arrives.
fn reread_answer(answer: &Answer) -> Result<Answer, WireError> {
    let bytes = encode_answer(answer);
    let Some((prefix, behind)) = bytes.split_first_chunk::<PREFIX_LEN>() else { panic!("it has a prefix") };
    assert_eq!(rest(prefix, Direction::FromDestination), Ok(behind.len()));
    decode_answer(prefix, behind)
}

/// Reads `data` as a frame. One that is taken is written as it was read.
///
/// # Panics
///
/// If a promise is broken.
pub fn frame(data: &[u8]) {
    one_frame(data);
    one_frame(&sealed_frame(data));
}

/// The same bytes with the checksums that a frame of them has.
fn sealed_frame(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_owned();
    if let Some((header, behind)) = data.split_first_chunk_mut::<HEADER_LEN>() {
        let [kind, flags, e0, e1, l0, l1, l2, l3, ..] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let whole = FrameKind::from_code(kind) != Some(FrameKind::Pages) || flags & 1 == 1;
        let table = usize::from(u16::from_le_bytes([e0, e1])) * frame::ENTRY_LEN;
        let covered = if whole { length as usize } else { table };
        let sum = frame::checksum(behind.get(..covered).unwrap_or(behind));
        header[8..12].copy_from_slice(&sum.to_le_bytes());
        let own = frame::checksum(&header[..12]);
        header[12..].copy_from_slice(&own.to_le_bytes());
    }
    data
}

fn one_frame(data: &[u8]) {
    let Ok((header, body)) = read(data, &Limits::default()) else { return };
    assert_eq!(header.encode()[..], data[..HEADER_LEN], "a header is written otherwise than it was read");
    let covered = body.get(..header.covered() as usize);
    assert_eq!(covered.map(frame::checksum), Some(header.checksum));
    let whole = &data[..HEADER_LEN + body.len()];
    match header.kind {
        FrameKind::Ping => assert_eq!(whole, ping()),
        FrameKind::Gate => {
            let Ok(body) = body.try_into() else { panic!("a gate of {} bytes", body.len()) };
            assert_eq!(whole, gate(gate_round(body)));
        }
        FrameKind::Control => control(body),
        FrameKind::Pages => assert!(header.table_len() <= body.len()),
    }
}

/// Reads a frame as a driver does.
///
/// # Errors
///
/// As of [`FrameHeader::decode`] and [`FrameHeader::verify`]; [`WireError::Truncated`] if bytes are missing.
pub fn read<'a>(data: &'a [u8], limits: &Limits) -> Result<(FrameHeader, &'a [u8]), WireError> {
    let missing = WireError::Truncated { what: "a frame" };
    let (header, behind) = data.split_first_chunk::<HEADER_LEN>().ok_or(missing.clone())?;
    let header = FrameHeader::decode(header, limits)?;
    let body = behind.get(..header.length as usize).ok_or(missing.clone())?;
    header.verify(body.get(..header.covered() as usize).ok_or(missing)?)?;
    Ok((header, body))
}

/// Reads `data` as the body of a control frame. A message that is taken can be sent, and arrives.
///
/// # Panics
///
/// If a promise is broken.
pub fn control(data: &[u8]) {
    let limits = Limits::default();
    let Ok(message) = control::decode(data, &limits) else { return };
    assert_eq!(arrived(&message, &limits), Ok(message), "another message arrives");
}

/// Any bytes as the body of a pages frame, or as what a guest does while it is moved.
pub use crate::pages::testing::check as pages;

/// A message after it was sent.
///
/// # Errors
///
/// As of [`control::encode`], [`read`] and [`control::decode`].
pub fn arrived(message: &Message, limits: &Limits) -> Result<Message, WireError> {
    let bytes = control::encode(message, limits)?;
    let (header, body) = read(&bytes, limits)?;
    assert_eq!((header.kind, HEADER_LEN + body.len()), (FrameKind::Control, bytes.len()));
    control::decode(body, limits)
}
