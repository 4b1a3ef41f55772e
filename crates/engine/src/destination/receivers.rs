//! Page streams as they arrive: one thread each, that puts pages into the replica.
//!
//! Nothing that comes is believed: `wire` checks every number of a frame before a byte of its payload is read. Raw pages go from
//! the connection into guest memory without a copy where both can.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded, never};
use whimbrel_core::embed::{GuestRam, RamError, RamRange};
use whimbrel_core::layout::Gpa;
use whimbrel_core::units::ByteCount;
use whimbrel_wire::frame::{FrameHeader, FrameKind};
use whimbrel_wire::pages::{ApplyError, Decoder, Encoding, Entry};
use whimbrel_wire::{Limits, WireError};

use super::admission::Agreed;
use crate::link::{LinkError, in_words, read_exact, read_header};
use crate::transport::Stream;

/// What a page stream says.
#[derive(Debug)]
pub(super) enum Said {
    /// All of this round was put into the replica.
    Gate { stream: u16, round: u32 },
    /// It is of no more use. `ended`: between two frames, as one that has nothing more to send.
    Lost { stream: u16, ended: bool, why: String },
}

/// The page streams of a migration. Dropped, they end at once.
pub(super) struct Receivers {
    streams: Vec<(Arc<dyn Stream>, JoinHandle<()>)>,
    ram: Arc<dyn GuestRam>,
    agreed: Agreed,
    tell: Sender<Said>,
    said: Option<Receiver<Said>>,
}

impl Receivers {
    /// None yet, for this replica.
    pub(super) fn new(ram: Arc<dyn GuestRam>, agreed: Agreed) -> Self {
        let (tell, said) = bounded(2 * usize::from(agreed.streams) + 2);
        Self { streams: Vec::new(), ram, agreed, tell, said: Some(said) }
    }

    /// Where what they say arrives.
    pub(super) fn said(&self) -> Receiver<Said> {
        self.said.clone().unwrap_or_else(never)
    }

    /// Begins to receive from one more.
    pub(super) fn add(&mut self, number: u16, stream: Arc<dyn Stream>) -> io::Result<()> {
        let work = Work {
            number,
            stream: Arc::clone(&stream),
            decoder: self.agreed.decoder(self.ram.layout().page_size()),
            agreed: self.agreed.clone(),
            ram: Arc::clone(&self.ram),
            tell: self.tell.clone(),
            table: Vec::new(),
            payload: Vec::new(),
        };
        let name = format!("pages-{number}");
        let thread = thread::Builder::new().name(name).spawn(move || work.until_the_end())?;
        self.streams.push((stream, thread));
        Ok(())
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        // A stream that waits to be heard waits for nobody.
        self.said = None;
        for (stream, _) in &self.streams {
            stream.shutdown();
        }
        for (_, thread) in self.streams.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum ReceiveError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the peer broke the protocol")]
    Wire(#[from] WireError),
    #[error("a page cannot be put into the replica")]
    Apply(#[from] ApplyError),
    #[error("the replica's memory cannot be written")]
    Ram(#[from] RamError),
}

impl From<io::Error> for ReceiveError {
    fn from(error: io::Error) -> Self {
        Self::Link(LinkError::Io(error))
    }
}

struct Work {
    number: u16,
    stream: Arc<dyn Stream>,
    decoder: Decoder,
    agreed: Agreed,
    ram: Arc<dyn GuestRam>,
    tell: Sender<Said>,
    table: Vec<u8>,
    payload: Vec<u8>,
}

impl Work {
    fn until_the_end(mut self) {
        let limits = Limits::default();
        let stream = self.number;
        loop {
            let said = match self.frame(&limits) {
                Ok(None) => continue,
                Ok(Some(round)) => Said::Gate { stream, round },
                Err(error) => Said::Lost { stream, ended: is_end(&error), why: in_words(&error) },
            };
            let lost = matches!(said, Said::Lost { .. });
            if self.tell.send(said).is_err() || lost {
                return;
            }
        }
    }

    /// Takes one frame; gives the round that it ends, if it is a gate.
    fn frame(&mut self, limits: &Limits) -> Result<Option<u32>, ReceiveError> {
        let header = read_header(&*self.stream, limits)?;
        match header.kind {
            FrameKind::Pages => self.pages(&header).map(|()| None),
            FrameKind::Gate => {
                let mut body = vec![0; header.length as usize];
                read_exact(&*self.stream, &mut body)?;
                header.verify(&body)?;
                Ok(Some(whimbrel_wire::control::gate_round(&body)?))
            }
            FrameKind::Ping => Ok(None),
            kind => Err(LinkError::Kind(kind).into()),
        }
    }
}

/// Whether a stream ended where it may.
fn is_end(error: &ReceiveError) -> bool {
    matches!(error, ReceiveError::Link(LinkError::Ended))
}
