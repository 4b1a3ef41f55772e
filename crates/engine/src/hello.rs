//! The first words on a connection, said and heard.
//!
//! What they mean is `wire`'s affair ([`whimbrel_wire::hello`]); here they go over a stream, and what the two sides agreed on is
//! put into the words of those who use it.

use std::io;
use std::time::Duration;

use whimbrel_core::machine::message::MigrationId;
use whimbrel_core::units::{ByteCount, duration};
use whimbrel_wire::hello::{
    self, Answer, Capabilities, Direction, Hello, PREFIX_LEN, Reject, Role, Token, Versions, Welcome,
};
use whimbrel_wire::pages::{EncoderConfig, Encodings};
use whimbrel_wire::{Limits, WireError};

use crate::clock::Deadline;
use crate::link::write_all;
use crate::transport::{Connect, Stream, TransportError};

/// How a connection did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelloError {
    #[error("no connection to the destination")]
    Connect(#[from] TransportError),
    #[error("the destination said nothing")]
    Lost(#[from] std::io::Error),
    #[error("the destination does not speak this protocol")]
    Wire(#[from] WireError),
    #[error(transparent)]
    Rejected(#[from] Reject),
}

/// What both sides of a migration do.
#[derive(Clone, Debug)]
pub(crate) struct Agreed {
    pub(crate) streams: u16,
    pub(crate) encodings: Encodings,
    pub(crate) payload_checksums: bool,
    pub(crate) digest: bool,
    /// What the peer takes, or what is taken of it.
    pub(crate) limits: Limits,
}

impl Agreed {
    fn new(capabilities: Capabilities, streams: u16, limits: Limits) -> Self {
        Self {
            streams,
            encodings: capabilities.encodings(),
            payload_checksums: capabilities.contains(Capabilities::PAYLOAD_CHECKSUMS),
            digest: capabilities.contains(Capabilities::DIGEST),
            limits,
        }
    }

    /// What is agreed on by a destination with this answer.
    pub(crate) fn by(hello: &Hello, welcome: &Welcome, limits: Limits) -> Self {
        let streams = if let Role::Control { streams } = hello.role { streams } else { 0 };
        Self::new(welcome.capabilities, streams, limits.for_hello(hello))
    }
}

/// What a source says of itself on each of its connections.
#[derive(Clone, Debug)]
pub(crate) struct Introduction {
    pub(crate) id: MigrationId,
    pub(crate) token: Token,
    pub(crate) memory: ByteCount,
    pub(crate) capabilities: Capabilities,
}

/// What encoders of this kind need of the destination.
pub(crate) fn wanted(encoding: &EncoderConfig, digest: bool) -> Capabilities {
    let mut wanted = Capabilities::from_bits(encoding.encodings.bits().into());
    if encoding.payload_checksums {
        wanted = wanted.with(Capabilities::PAYLOAD_CHECKSUMS);
    }
    if digest {
        wanted = wanted.with(Capabilities::DIGEST);
    }
    wanted
}

/// What every destination of this build can do.
pub(crate) fn offered() -> Capabilities {
    Capabilities::from_bits(Encodings::available().bits().into())
        .with(Capabilities::PAYLOAD_CHECKSUMS)
        .with(Capabilities::DIGEST)
}

impl Introduction {
    /// Makes a connection for this purpose, and is welcomed.
    pub(crate) fn connect(
        &self,
        connect: &dyn Connect,
        role: Role,
        within: Duration,
    ) -> Result<(Box<dyn Stream>, Agreed), HelloError> {
        let stream = connect.connect(within)?;
        stream.set_patience(Some(within), Some(within))?;
        let hello = Hello {
            versions: Versions::SPOKEN,
            role,
            migration: self.id,
            capabilities: self.capabilities,
            memory: self.memory,
            token: self.token.clone(),
        };
        write_all(&*stream, &hello.encode())?;
        let (prefix, rest) = read_first(&*stream, Direction::FromDestination, within)?;
        let welcome = hello.accept(hello::decode_answer(&prefix, &rest)?)??;
        let streams = if let Role::Control { streams } = role { streams } else { 0 };
        let limits = Limits::default().for_welcome(&welcome);
        Ok((stream, Agreed::new(welcome.capabilities, streams, limits)))
    }
}

/// Hears who is there.
pub(crate) fn hear(stream: &dyn Stream, within: Duration) -> Result<Hello, HelloError> {
    let (prefix, rest) = read_first(stream, Direction::FromSource, within)?;
    Ok(Hello::decode(&prefix, &rest)?)
}

/// Answers.
pub(crate) fn answer(stream: &dyn Stream, answer: &Answer) -> std::io::Result<()> {
    write_all(stream, &hello::encode_answer(answer))
}

/// All of it within this time, however it trickles in.
fn read_first(
    stream: &dyn Stream,
    direction: Direction,
    within: Duration,
) -> Result<([u8; PREFIX_LEN], Vec<u8>), HelloError> {
    let deadline = Deadline::within(Some(within));
    let mut prefix = [0; PREFIX_LEN];
    read_until(stream, &mut prefix, deadline).map_err(|error| silent(error, within))?;
    // Bounded by `hello::MOST_REST`.
    let mut rest = vec![0; hello::rest(&prefix, direction)?];
    read_until(stream, &mut rest, deadline).map_err(|error| silent(error, within))?;
    stream.set_patience(Some(within), Some(within))?;
    Ok((prefix, rest))
}

/// What it means that no first words came, where the connection does not say more itself.
fn silent(error: io::Error, within: Duration) -> io::Error {
    let what = match error.kind() {
        _ if error.get_ref().is_some() => return error,
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("the peer has not said its first words within {}", duration::human(within))
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            "the peer hung up before its first words, as one does that expects TLS where none comes, or has too many to hear".to_owned()
        }
        _ => return error,
    };
    io::Error::new(error.kind(), what)
}

fn read_until(stream: &dyn Stream, mut into: &mut [u8], deadline: Deadline) -> io::Result<()> {
    while !into.is_empty() {
        let left = deadline.left();
        if left.is_some_and(|left| left.is_zero()) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_patience(left, left)?;
        match stream.read(into) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => into = into.get_mut(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
