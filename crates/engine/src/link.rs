//! Frames over a stream: what both sides need of a connection, below what they mean by it.
//!
//! Whoever reads a frame believes its numbers only after `wire` has checked them. Nothing here waits longer than the stream's own
//! patience for a single call, so a peer that stalls in the middle of a frame is noticed.

use std::borrow::Cow;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use whimbrel_core::machine::message::Message;
use whimbrel_core::units::ByteCount;
use whimbrel_wire::control;
use whimbrel_wire::frame::{self, FrameHeader, FrameKind, HEADER_LEN};
use whimbrel_wire::{Limits, WireError};

use crate::clock::Deadline;
use crate::pace::Pace;
use crate::transport::Stream;

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// It ended between two frames, as one on which nothing more is to be said.
    #[error("the connection was closed")]
    Ended,
    /// Nothing came between two frames for as long as the stream's patience is.
    #[error("the connection was lost: nothing came for too long")]
    Silent,
    /// It ended elsewhere, or nothing came or went for too long.
    #[error("the connection was lost")]
    Io(#[from] io::Error),
    /// The peer says what nobody may say.
    #[error("the peer broke the protocol")]
    Wire(#[from] WireError),
    /// A frame of a kind that has no place here.
    #[error("the peer broke the protocol: a frame of kind `{0:?}` on this connection")]
    Kind(FrameKind),
}

impl LinkError {
    /// Whether it ended as one that is not needed any more.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Ended)
    }

    /// With its causes, for people.
    pub(crate) fn in_words(&self) -> String {
        in_words(self)
    }
}

/// An error with its causes.
pub(crate) fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

/// Fills `into`.
pub(crate) fn read_exact(stream: &dyn Stream, mut into: &mut [u8]) -> io::Result<()> {
    while !into.is_empty() {
        match stream.read(into) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => into = into.get_mut(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of `bytes`.
pub(crate) fn write_all(stream: &dyn Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(&[IoSlice::new(bytes)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The next frame's header, for which the peer may take as long as it likes: the stream's patience is for what comes behind its
/// first byte.
pub(crate) fn await_header(stream: &dyn Stream, limits: &Limits) -> Result<FrameHeader, LinkError> {
    loop {
        match read_header(stream, limits) {
            Err(LinkError::Silent) => {}
            header => return header,
        }
    }
}

/// The next frame's header.
pub(crate) fn read_header(stream: &dyn Stream, limits: &Limits) -> Result<FrameHeader, LinkError> {
    let mut bytes = [0; HEADER_LEN];
    let first = loop {
        match stream.read(&mut bytes) {
            Ok(0) => return Err(LinkError::Ended),
            Ok(count) => break count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
                return Err(LinkError::Silent);
            }
            Err(error) => return Err(error.into()),
        }
    };
    read_exact(stream, bytes.get_mut(first..).unwrap_or_default())?;
    Ok(FrameHeader::decode(&bytes, limits)?)
}

/// What a control connection gives to whoever waits for it.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The peer said this.
    Message(Message),
    /// Nothing more will come.
    Lost(LinkError),
}

/// More than any message has that carries no state: a guest with as many regions as one may have takes 22 KiB.
const WITHOUT_STATE: ByteCount = ByteCount(64 << 10);

/// What a text ends with that goes on.
const CUT: &str = "…";

/// What is taken of a peer that has no state to send.
pub(crate) fn without_state(limits: Limits) -> Limits {
    Limits { control: limits.control.min(WITHOUT_STATE), ..limits }
}

/// A control connection and the thread that listens to it. Dropped, both end, and nothing of it is heard afterwards.
pub(crate) struct Link {
    /// What the peer takes.
    they_take: Limits,
    patience: Duration,
    stream: Arc<dyn Stream>,
    heard: Option<Receiver<Heard>>,
    /// Dropped to say that nobody hears any more, whoever still has the other end of `heard`.
    hearing: Option<Sender<()>>,
    pace: Arc<Pace>,
    reader: Option<JoinHandle<()>>,
}

impl Link {
    /// Begins to listen. A peer of which nothing is heard, or that takes nothing, for as long as `patience` is lost.
    ///
    /// Of what each takes of the other: the peer, and this side.
    pub(crate) fn new(
        stream: Arc<dyn Stream>,
        patience: Duration,
        they_take: Limits,
        we_take: Limits,
    ) -> io::Result<Self> {
        stream.set_patience(Some(patience), Some(patience))?;
        // None waits here but the one that was read last: the rest is in the peer's memory.
        let (tell, messages) = bounded(0);
        let (hearing, deaf) = bounded(0);
        let pace = Arc::new(Pace::default());
        let (from, of_reader) = (Arc::clone(&stream), Arc::clone(&pace));
        let reader = thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || listen((&*from, &of_reader), &we_take, (&tell, &deaf)))?;
        let (heard, hearing) = (Some(messages), Some(hearing));
        Ok(Self { they_take, patience, stream, heard, hearing, pace, reader: Some(reader) })
    }

    /// Where what the peer says arrives.
    pub(crate) fn heard(&self) -> Receiver<Heard> {
        self.heard.clone().unwrap_or_else(never)
    }

    /// How long the peer could take for what it has begun to say, if it takes longer.
    pub(crate) fn overdue(&self) -> Option<Duration> {
        self.pace.overdue(self.patience)
    }

    /// Says something. Texts for people are cut to what the peer takes: half a reason is better than a connection that is lost.
    pub(crate) fn say(&self, message: &Message) -> Result<(), LinkError> {
        let message = cut_to_fit(message, &self.they_take);
        Ok(self.write(&control::encode(&message, &self.they_take)?)?)
    }

    /// Says that somebody is here.
    pub(crate) fn ping(&self) -> Result<(), LinkError> {
        Ok(self.write(&frame::ping())?)
    }

    /// All of it within the patience, however slowly the peer takes it: whoever waits for this does nothing else.
    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        let deadline = Deadline::within(Some(self.patience));
        while !bytes.is_empty() {
            let left = deadline.left();
            if left.is_some_and(|left| left.is_zero()) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_patience(Some(self.patience), left)?;
            match self.stream.write(&[IoSlice::new(bytes)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The message with no longer a text than is taken; what else is too much of it is an error of who says it.
fn cut_to_fit<'a>(message: &'a Message, limits: &Limits) -> Cow<'a, Message> {
    let (Message::Refuse { reason } | Message::Lost { reason }) = message else {
        return Cow::Borrowed(message);
    };
    let most = limits.text as usize;
    if reason.len() <= most {
        return Cow::Borrowed(message);
    }
    let room = most.saturating_sub(CUT.len());
    let kept = reason.get(..reason.floor_char_boundary(room)).unwrap_or_default();
    let reason = if most < CUT.len() { String::new() } else { format!("{kept}{CUT}") };
    Cow::Owned(match message {
        Message::Lost { .. } => Message::Lost { reason },
        _ => Message::Refuse { reason },
    })
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stream.shutdown();
        // A reader that waits to be heard waits for nobody.
        self.heard = None;
        self.hearing = None;
        if let Some(reader) = self.reader.take() {
            // It has said what there was to say.
            let _ = reader.join();
        }
    }
}

fn listen(from: (&dyn Stream, &Pace), limits: &Limits, (tell, deaf): (&Sender<Heard>, &Receiver<()>)) {
    loop {
        let heard = next_message(from, limits).map_or_else(Heard::Lost, Heard::Message);
        let lost = matches!(heard, Heard::Lost(_));
        let taken = select! {
            send(tell, heard) -> sent => sent.is_ok(),
            recv(deaf) -> _ => false,
        };
        if !taken || lost {
            return;
        }
    }
}

fn next_message((stream, pace): (&dyn Stream, &Pace), limits: &Limits) -> Result<Message, LinkError> {
    loop {
        let header = read_header(stream, limits)?;
        match header.kind {
            FrameKind::Control => {
                let mut body = vec![0; header.length as usize];
                pace.begin(header.length);
                read_exact(stream, &mut body)?;
                pace.end();
                header.verify(&body)?;
                return Ok(control::decode(&body, limits)?);
            }
            FrameKind::Ping => {}
            kind => return Err(LinkError::Kind(kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use whimbrel_core::machine::message::Section;

    use super::*;
    use crate::transport::memory::pair;

    #[test]
    fn a_reason_that_is_too_long_arrives_as_far_as_it_is_taken() {
        let (near, far, _link) = pair();
        let (patience, limits) = (Duration::from_mins(1), Limits::default());
        let near = Link::new(Arc::new(near), patience, limits, limits).unwrap();
        let far = Link::new(Arc::new(far), patience, limits, limits).unwrap();
        let heard = |said: &Message| {
            near.say(said).unwrap();
            match far.heard().recv().unwrap() {
                Heard::Message(Message::Refuse { reason }) => ("refuse", reason),
                Heard::Message(Message::Lost { reason }) => ("lost", reason),
                other => panic!("{other:?}"),
            }
        };
        let (most, cut) = (limits.text as usize, limits.text as usize - CUT.len());
        let of = |first: &str, count| format!("{first}{}", "ü".repeat(count));
        // As much as is taken, more, and more with a letter across the place where it is cut.
        assert_eq!(heard(&Message::Refuse { reason: of("", most / 2) }), ("refuse", of("", most / 2)));
        for (reason, kept) in [(of("x", most / 2), of("x", cut / 2)), (of("", most), of("", cut / 2))] {
            let expected = format!("{kept}{CUT}");
            assert!(expected.len() <= most && expected.len() > most - 2, "{}", expected.len());
            assert_eq!(heard(&Message::Refuse { reason: reason.clone() }), ("refuse", expected.clone()));
            assert_eq!(heard(&Message::Lost { reason }), ("lost", expected));
        }
    }

    #[test]
    fn a_message_that_nobody_takes_holds_nobody_up() {
        let (near, far, _link) = pair();
        let limits = Limits::default();
        let link = Link::new(Arc::new(near), Duration::from_secs(20), limits, limits).unwrap();
        let heard = link.heard();
        write_all(&far, &control::encode(&Message::Accept, &limits).unwrap()).unwrap();
        drop(link);
        assert!(heard.recv().is_err());
    }

    #[test]
    fn a_peer_that_takes_a_message_drop_by_drop_holds_nobody_up() {
        let (near, far, _link) = pair();
        let patience = Duration::from_millis(200);
        let limits = Limits::default();
        let link = Link::new(Arc::new(near), patience, limits, limits).unwrap();
        let state = vec![Section { kind: "memory".to_owned(), version: 1, bytes: vec![7; 1 << 20] }];
        thread::scope(|scope| {
            scope.spawn(move || {
                // So slowly for some seconds, and then all of it.
                let (until, mut drop) = (Instant::now() + Duration::from_secs(3), [0; 4096]);
                while far.read(&mut drop).is_ok_and(|count| count > 0) {
                    if Instant::now() < until {
                        thread::sleep(patience / 8);
                    }
                }
            });
            assert!(link.say(&Message::State(state)).is_err());
            // Ends the other side.
            drop(link);
        });
    }
}
