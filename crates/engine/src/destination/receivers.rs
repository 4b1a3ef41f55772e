//! Page streams as they arrive: one thread each, that puts pages into the replica.
//!
//! Nothing that comes is believed: `wire` checks every number of a frame before a byte of its payload is read. Raw pages go from
//! the connection into guest memory without a copy where both can.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never};
use whimbrel_core::embed::{DirectRam, GuestRam, RamError, RamRange};
use whimbrel_core::layout::Gpa;
use whimbrel_core::units::{ByteCount, Pages};
use whimbrel_wire::frame::{Checksum, FrameHeader, FrameKind, GATE_LEN, gate_round};
use whimbrel_wire::pages::{ApplyError, Decoder, Encoding, Entry, Table, TableError, Tallies};
use whimbrel_wire::{Limits, WireError};

use super::nearing::Nearing;
use super::touched::Touched;
use crate::hello::Agreed;
use crate::link::{LinkError, await_header, in_words, read_exact};
use crate::pace::Pace;
use crate::transport::Stream;
use crate::verify::Written;

/// Bytes of guest memory that are summed up at once: what the first cache has room for.
const SUMMED: usize = 4096;

/// What a page stream says.
#[derive(Debug)]
pub(super) enum Said {
    /// All of this round was put into the replica.
    Gate { stream: u16, round: u32 },
    /// The bulk round is nearly over. Said once.
    Near,
    /// It is of no more use. `ended`: between two frames, as one that has nothing more to send.
    Lost { stream: u16, ended: bool, why: String },
}

/// What pages came as, of all streams; for whoever asks when they have ended.
pub(super) type Taken = Arc<Mutex<Tallies>>;

/// One stream.
struct Receiving {
    number: u16,
    stream: Arc<dyn Stream>,
    pace: Arc<Pace>,
    thread: JoinHandle<()>,
}

/// The page streams of a migration. Dropped, they end at once.
pub(super) struct Receivers {
    streams: Vec<Receiving>,
    ram: Arc<dyn GuestRam>,
    agreed: Agreed,
    touched: Arc<Touched>,
    nearing: Arc<Nearing>,
    /// Whoever keeps a digest is told what was written.
    written: Option<Written>,
    taken: Taken,
    tell: Sender<Said>,
    said: Option<Receiver<Said>>,
}

impl Receivers {
    /// None yet, for this replica; `fresh` if its memory was never written.
    pub(super) fn new(ram: Arc<dyn GuestRam>, agreed: Agreed, fresh: bool, written: Option<Written>) -> Self {
        let (tell, said) = bounded(2 * usize::from(agreed.streams) + 2);
        let touched = Arc::new(Touched::new(ram.layout(), fresh));
        let nearing = Arc::new(Nearing::new(ram.layout().pages()));
        let taken = Taken::default();
        Self { streams: Vec::new(), ram, agreed, touched, nearing, written, taken, tell, said: Some(said) }
    }

    /// What pages came as until now: of each frame that was put into the replica whole.
    pub(super) fn taken(&self) -> Taken {
        Arc::clone(&self.taken)
    }

    /// Where what they say arrives.
    pub(super) fn said(&self) -> Receiver<Said> {
        self.said.clone().unwrap_or_else(never)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.streams.len()
    }

    /// One that takes longer than this to give a frame that it has begun.
    pub(super) fn overdue(&self, patience: Duration) -> Option<(u16, Duration)> {
        self.streams.iter().find_map(|stream| Some((stream.number, stream.pace.overdue(patience)?)))
    }

    /// Begins to receive from one more.
    ///
    /// Between frames it may be silent for as long as it likes, within one for `patience`.
    pub(super) fn add(&mut self, number: u16, stream: Arc<dyn Stream>, patience: Duration) -> io::Result<()> {
        stream.set_patience(Some(patience), Some(patience))?;
        let pace = Arc::new(Pace::default());
        let work = Work {
            number,
            stream: Arc::clone(&stream),
            pace: Arc::clone(&pace),
            decoder: Decoder::new(self.ram.layout().page_size()),
            touched: Arc::clone(&self.touched),
            nearing: Arc::clone(&self.nearing),
            written: self.written.clone(),
            taken: Arc::clone(&self.taken),
            agreed: self.agreed.clone(),
            ram: Arc::clone(&self.ram),
            tell: self.tell.clone(),
            table: Table::default(),
            body: Vec::new(),
            payload: Vec::new(),
        };
        let name = format!("pages-{number}");
        let thread = thread::Builder::new().name(name).spawn(move || work.until_the_end())?;
        self.streams.push(Receiving { number, stream, pace, thread });
        Ok(())
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        // A stream that waits to be heard waits for nobody.
        self.said = None;
        for receiving in &self.streams {
            receiving.stream.shutdown();
        }
        for receiving in self.streams.drain(..) {
            let _ = receiving.thread.join();
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
    #[error(
        "the peer broke the protocol: payloads with a checksum where none was agreed on, or the other way round"
    )]
    Unchecked,
    #[error("the peer broke the protocol")]
    Table(#[from] TableError),
    #[error("a page cannot be put into the replica")]
    Apply(#[from] ApplyError),
    #[error("the replica's memory cannot be written")]
    Ram(#[source] RamError),
}

impl From<RamError> for ReceiveError {
    fn from(error: RamError) -> Self {
        match error {
            // Memory and connection meet in one call.
            RamError::Descriptor(error) => error.into(),
            error => Self::Ram(error),
        }
    }
}

impl From<io::Error> for ReceiveError {
    fn from(error: io::Error) -> Self {
        Self::Link(LinkError::Io(error))
    }
}

struct Work {
    number: u16,
    stream: Arc<dyn Stream>,
    pace: Arc<Pace>,
    decoder: Decoder,
    touched: Arc<Touched>,
    nearing: Arc<Nearing>,
    written: Option<Written>,
    taken: Taken,
    agreed: Agreed,
    ram: Arc<dyn GuestRam>,
    tell: Sender<Said>,
    table: Table,
    /// What of a body the checksum covers.
    body: Vec<u8>,
    payload: Vec<u8>,
}

impl Work {
    fn until_the_end(mut self) {
        let limits = self.agreed.limits.for_page_size(self.ram.layout().page_size());
        let stream = self.number;
        loop {
            let said = match self.frame(&limits) {
                Ok(None) => continue,
                Ok(Some(said)) => said,
                Err(error) => Said::Lost { stream, ended: is_end(&error), why: in_words(&error) },
            };
            let lost = matches!(said, Said::Lost { .. });
            if lost {
                // So that a peer that still writes learns it.
                self.stream.shutdown();
            }
            if self.tell.send(said).is_err() || lost {
                return;
            }
        }
    }

    /// Takes one frame; gives what the driver is to know of it.
    fn frame(&mut self, limits: &Limits) -> Result<Option<Said>, ReceiveError> {
        let header = await_header(&*self.stream, limits)?;
        self.pace.begin(header.length);
        let taken = self.body_of(&header);
        self.pace.end();
        taken
    }

    fn body_of(&mut self, header: &FrameHeader) -> Result<Option<Said>, ReceiveError> {
        match header.kind {
            FrameKind::Pages => {
                let done = self.pages(header);
                // What a frame that failed has written is written, too.
                if let Some(written) = &self.written {
                    self.table.entries().iter().for_each(|entry| written.run(entry.run()));
                }
                done?;
                let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
                self.table.entries().iter().for_each(|entry| taken.count(entry));
                drop(taken);
                let pages = self.table.entries().iter().map(|entry| entry.run().count.0).sum();
                Ok(self.nearing.count(Pages(pages)).then_some(Said::Near))
            }
            FrameKind::Gate => {
                let mut body = [0; GATE_LEN];
                read_exact(&*self.stream, &mut body)?;
                header.verify(&body)?;
                Ok(Some(Said::Gate { stream: self.number, round: gate_round(body) }))
            }
            kind => Err(LinkError::Kind(kind).into()),
        }
    }

    /// Puts the pages of a frame into the replica.
    fn pages(&mut self, header: &FrameHeader) -> Result<(), ReceiveError> {
        if header.payload_checked != self.agreed.payload_checksums {
            return Err(ReceiveError::Unchecked);
        }
        // Bounded by the limits.
        let table = header.table_len();
        fill(&mut self.body, table, &*self.stream)?;
        if !header.payload_checked {
            header.verify(&self.body)?;
        }
        let payload = u64::from(header.length) - table as u64;
        let read =
            self.table.read(&self.body, header.entries, payload, self.ram.layout(), self.agreed.encodings);
        if !header.payload_checked {
            read?;
            return self.take_payloads(None);
        }
        let plain = |entry: &Entry| matches!(entry.encoding(), Encoding::Raw | Encoding::Zero);
        let direct = self.ram.direct().is_some() && self.stream.descriptor().is_some();
        if direct && read.is_ok() && self.table.entries().iter().all(plain) {
            let mut sum = Checksum::new();
            sum.update(&self.body);
            self.take_payloads(Some(&mut sum))?;
            return Ok(header.verify_sum(sum.finish())?);
        }
        // What is to be unpacked is not looked at before it is known to be what was sent.
        self.body.resize(header.length as usize, 0);
        read_exact(&*self.stream, self.body.get_mut(table..).unwrap_or_default())?;
        header.verify(&self.body)?;
        read?;
        self.apply(table)
    }

    /// The payloads of the table, which lie in the body from here on.
    fn apply(&mut self, payloads: usize) -> Result<(), ReceiveError> {
        let mut rest = self.body.get(payloads..).unwrap_or_default();
        for entry in self.table.entries() {
            let (payload, behind) = rest.split_at_checked(entry.payload().0 as usize).unwrap_or_default();
            touch(entry, &self.touched, &mut self.decoder);
            self.decoder.apply(entry, payload, &*self.ram)?;
            rest = behind;
        }
        Ok(())
    }

    /// The payloads of the table, as they come; those that go straight to guest memory are summed up there.
    fn take_payloads(&mut self, sum: Option<&mut Checksum>) -> Result<(), ReceiveError> {
        let direct = self.ram.direct().zip(self.stream.descriptor());
        let mut filling = Filling { ram: &*self.ram, ranges: Vec::new(), sum };
        for entry in self.table.entries() {
            touch(entry, &self.touched, &mut self.decoder);
            match (entry.encoding(), direct) {
                (Encoding::Raw, Some(_)) => {
                    filling.ranges.push(RamRange { at: entry.at(), len: entry.payload() });
                }
                (Encoding::Zero, _) => self.decoder.apply(entry, &[], &*self.ram)?,
                _ => {
                    if let Some((direct, descriptor)) = direct {
                        filling.receive(direct, descriptor)?;
                    }
                    fill(&mut self.payload, entry.payload().0 as usize, &*self.stream)?;
                    self.decoder.apply(entry, &self.payload, &*self.ram)?;
                }
            }
        }
        match direct {
            Some((direct, descriptor)) => filling.receive(direct, descriptor),
            None => Ok(()),
        }
    }
}

/// Tells the decoder whether pages still hold zeroes, and remembers which do not any more.
fn touch(entry: &Entry, touched: &Touched, decoder: &mut Decoder) {
    if entry.encoding() == Encoding::Zero {
        decoder.set_untouched(!touched.any(entry.run()));
    } else {
        touched.mark(entry.run());
    }
}

/// Reads `len` bytes, in the memory that `buffer` has already.
fn fill(buffer: &mut Vec<u8>, len: usize, stream: &dyn Stream) -> io::Result<()> {
    buffer.resize(len, 0);
    read_exact(stream, buffer)
}

/// Guest memory that the system is to fill with what comes.
struct Filling<'a> {
    ram: &'a dyn GuestRam,
    /// What is to come, in order.
    ranges: Vec<RamRange>,
    /// Of what came, where somebody wants it.
    sum: Option<&'a mut Checksum>,
}

impl Filling<'_> {
    /// All of the ranges; none is left.
    fn receive(&mut self, direct: &dyn DirectRam, from: BorrowedFd<'_>) -> Result<(), ReceiveError> {
        let mut first = 0;
        while let Some(rest) = self.ranges.get_mut(first..).filter(|rest| !rest.is_empty()) {
            let mut came = direct.receive(rest, from)? as u64;
            if came == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            while came > 0
                && let Some(range) = self.ranges.get_mut(first)
            {
                let len = came.min(range.len.0);
                let filled = RamRange { at: range.at, len: ByteCount(len) };
                *range = RamRange { at: Gpa(range.at.0 + len), len: ByteCount(range.len.0 - len) };
                first += usize::from(range.len.0 == 0);
                came -= len;
                if let Some(sum) = &mut self.sum {
                    add(sum, self.ram, filled)?;
                }
            }
        }
        self.ranges.clear();
        Ok(())
    }
}

/// Adds guest memory that was just written, and is still in a cache, to the sum.
fn add(sum: &mut Checksum, ram: &dyn GuestRam, range: RamRange) -> Result<(), RamError> {
    let mut part = [0; SUMMED];
    for done in (0..range.len.0).step_by(SUMMED) {
        let part = part.get_mut(..(range.len.0 - done).min(SUMMED as u64) as usize).unwrap_or_default();
        ram.read(Gpa(range.at.0 + done), part)?;
        sum.update(part);
    }
    Ok(())
}

/// Whether a stream ended where it may.
fn is_end(error: &ReceiveError) -> bool {
    matches!(error, ReceiveError::Link(LinkError::Ended))
}

#[cfg(all(test, target_os = "linux", target_pointer_width = "64"))]
mod tests {
    use whimbrel_core::layout::{PageSize, RamLayout};
    use whimbrel_guest::memory::{Backing, GuestMemory};
    use whimbrel_wire::frame::checksum;
    use whimbrel_wire::pages::Encodings;

    use super::*;
    use crate::link::write_all;
    use crate::transport::memory::pair;
    use crate::transport::open;

    #[test]
    fn who_is_silent_between_frames_stays_and_who_stalls_within_one_is_lost() {
        let layout = RamLayout::contiguous(ByteCount::mib(1), PageSize::Kib4).unwrap();
        let ram = Arc::new(GuestMemory::new(layout, Backing::Private).unwrap());
        let limits = Limits::default();
        let agreed = Agreed {
            streams: 1,
            encodings: Encodings::PLAIN,
            payload_checksums: false,
            digest: false,
            limits,
        };
        let mut receivers = Receivers::new(ram, agreed, true, None);
        let (near, far, _link) = pair();
        let patience = Duration::from_millis(50);
        near.set_patience(None, Some(patience)).unwrap();
        receivers.add(0, Arc::new(near), patience).unwrap();
        let said = receivers.said();
        assert!(said.recv_timeout(4 * patience).is_err(), "it was silent, and that is all");
        let header = FrameHeader {
            kind: FrameKind::Pages,
            entries: 1,
            length: 16 + 4096,
            checksum: checksum(&[0; 16]),
            payload_checked: false,
        };
        write_all(&far, &header.encode()).unwrap();
        let said = said.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(matches!(said, Said::Lost { ended: false, .. }), "{said:?}");
    }

    #[test]
    fn it_is_said_when_the_bulk_round_is_nearly_over() {
        let layout = RamLayout::contiguous(ByteCount(4 * 4096), PageSize::Kib4).unwrap();
        let ram = Arc::new(GuestMemory::new(layout, Backing::Private).unwrap());
        let limits = Limits::default();
        let (streams, encodings) = (1, Encodings::PLAIN);
        let agreed = Agreed { streams, encodings, payload_checksums: false, digest: false, limits };
        let mut receivers = Receivers::new(ram, agreed, true, None);
        let (near, far, _link) = pair();
        let patience = Duration::from_secs(10);
        far.set_patience(None, Some(patience)).unwrap();
        receivers.add(0, Arc::new(near), patience).unwrap();
        // All four pages, of zeroes: nothing is left that could take time.
        let mut body = vec![0; 16];
        (body[8], body[10]) = (4, Encoding::Zero.code());
        let (length, checksum) = (body.len() as u32, checksum(&body));
        let header =
            FrameHeader { kind: FrameKind::Pages, entries: 1, length, checksum, payload_checked: false };
        let frame = [&header.encode()[..], &body].concat();
        write_all(&far, &frame).unwrap();
        write_all(&far, &frame).unwrap();
        write_all(&far, &whimbrel_wire::frame::gate(0)).unwrap();
        let said = receivers.said();
        let [first, second] = [(); 2].map(|()| said.recv_timeout(patience).unwrap());
        // Once, before the round's end.
        assert!(matches!((&first, &second), (Said::Near, Said::Gate { .. })), "{first:?} {second:?}");
    }

    /// A frame of a page with a checksum over its payload, sent through a socket; `damage` is done to it on its way.
    fn said_of_a_checked_page(damage: impl FnOnce(&mut Vec<u8>)) -> (Said, Vec<u8>) {
        let layout = RamLayout::contiguous(ByteCount::mib(1), PageSize::Kib4).unwrap();
        let ram = Arc::new(GuestMemory::new(layout, Backing::Private).unwrap());
        let limits = Limits::default();
        let (streams, encodings) = (1, Encodings::PLAIN);
        let agreed = Agreed { streams, encodings, payload_checksums: true, digest: false, limits };
        let mut receivers = Receivers::new(Arc::clone(&ram) as _, agreed, true, None);
        let listen = open::listener(&"tcp:127.0.0.1:0".parse().unwrap(), &open::Options::default()).unwrap();
        let address = listen.address().parse().unwrap();
        let connect = open::connector(&address, &open::Options::default()).unwrap();
        let patience = Duration::from_secs(10);
        let near = connect.connect(patience).unwrap();
        let far = listen.accept(patience).unwrap().unwrap();
        receivers.add(0, Arc::from(far), patience).unwrap();
        // Page 3, raw.
        let mut body = vec![3, 0, 0, 0, 0, 0, 0, 0, 1, 0, Encoding::Raw.code(), 0, 0, 16, 0, 0];
        body.resize(16 + 4096, 0x5a);
        let (length, checksum) = (body.len() as u32, checksum(&body));
        let header =
            FrameHeader { kind: FrameKind::Pages, entries: 1, length, checksum, payload_checked: true };
        damage(&mut body);
        write_all(&*near, &header.encode()).unwrap();
        write_all(&*near, &body).unwrap();
        write_all(&*near, &whimbrel_wire::frame::gate(0)).unwrap();
        let all = receivers.said();
        let mut said = all.recv_timeout(patience).unwrap();
        if matches!(said, Said::Near) {
            // It went that quickly.
            said = all.recv_timeout(patience).unwrap();
        }
        let mut page = vec![0; 4096];
        ram.read(Gpa(3 * 4096), &mut page).unwrap();
        (said, page)
    }

    #[test]
    fn a_checksum_is_held_against_what_lies_in_memory() {
        let (said, page) = said_of_a_checked_page(|_| {});
        assert!(matches!(said, Said::Gate { stream: 0, round: 0 }), "{said:?}");
        assert!(page.iter().all(|byte| *byte == 0x5a));
        // In the payload, in the table so that it still is one, and so that it is none.
        for (byte, bit) in [(16 + 77, 4), (0, 1), (8, 1)] {
            let (said, _) = said_of_a_checked_page(|body| body[byte] ^= bit);
            assert!(matches!(&said, Said::Lost { why, .. } if why.contains("checksum")), "{said:?}");
        }
    }
}
