//! Page streams: one thread each, that encodes pages and hands them to its connection.
//!
//! The driver deals pages out in jobs and hears of each that was handed over. A page always goes by the same stream, so that
//! two versions of it never overtake one another. A stream that fails says so once and takes nothing more.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never};
use whimbrel_core::embed::{GuestRam, Piece, RamError};
use whimbrel_core::layout::{PageRun, PageSize};
use whimbrel_core::policy::RateLimit;
use whimbrel_core::units::{Bandwidth, ByteCount, Pages, Timestamp};
use whimbrel_wire::Limits;
use whimbrel_wire::frame;
use whimbrel_wire::pages::{EncodeError, Encoded, Encoder, PageFrame, Pass};

use super::spent::Spent;
use crate::clock::{Clock as _, SystemClock};
use crate::limiter::{BURST, Closed, Limiter};
use crate::link::{in_words, write_all};
use crate::transport::Stream;

/// Jobs that wait for a stream, beside the one that it works at: enough that it never waits for the driver.
const WAITING: usize = 3;

/// Guest memory of one frame, in bytes. Larger ones make nothing faster, smaller ones more calls.
const BATCH: u64 = 512 << 10;

/// Which pass over memory pages belong to: the encoder is told of each that begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Passing {
    pub(super) round: u32,
    pub(super) pass: Pass,
}

/// What a stream is to do.
#[derive(Debug)]
enum Job {
    /// Send these, which belong to this pass.
    Pages(Vec<PageRun>, Passing),
    /// Say that all of this round was sent.
    Gate(u32),
}

/// What a stream says.
#[derive(Debug)]
pub(super) enum Said {
    /// A job was handed over, and came to this.
    Sent { stream: usize, tally: Encoded },
    /// It is of no more use.
    Lost { stream: usize, why: String },
}

/// The page streams of a migration. Dropped, they end at once; what was handed over is still carried.
pub(super) struct PageStreams {
    streams: Vec<PageStream>,
    limiter: Arc<Limiter>,
    said: Option<Receiver<Said>>,
}

struct PageStream {
    connection: Arc<dyn Stream>,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Jobs that were dealt and not heard of.
    outstanding: usize,
}

impl PageStreams {
    /// Starts a thread for each connection.
    pub(super) fn start(
        connections: Vec<Arc<dyn Stream>>,
        encoders: Vec<Encoder>,
        (ram, limits): (&Arc<dyn GuestRam>, &Limits),
        (limiter, spent): (&Arc<Limiter>, &Spent),
        clock: SystemClock,
    ) -> io::Result<Self> {
        let most = batch(limits, ram.layout().page_size());
        let count = connections.len() as u64;
        // Each may say something of every job, and of its end.
        let (tell, said) = bounded(connections.len() * (WAITING + 3));
        let mut streams = Self { streams: Vec::new(), limiter: Arc::clone(limiter), said: Some(said) };
        for (number, (connection, encoder)) in connections.into_iter().zip(encoders).enumerate() {
            let (jobs, taken) = bounded(WAITING + 1);
            let work = Work {
                number,
                stream: Arc::clone(&connection),
                encoder,
                passing: Passing::default(),
                count,
                link: Throughput::new(clock),
                ram: Arc::clone(ram),
                most,
                limiter: Arc::clone(limiter),
                spent: spent.clone(),
                tell: tell.clone(),
                frame: PageFrame::default(),
            };
            let name = format!("pages-{number}");
            let thread = thread::Builder::new().name(name).spawn(move || work.until_the_end(&taken))?;
            let (jobs, thread) = (Some(jobs), Some(thread));
            streams.streams.push(PageStream { connection, jobs, thread, outstanding: 0 });
        }
        Ok(streams)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.streams.len()
    }

    /// Where what they say arrives; to be told to [`PageStreams::heard`].
    pub(super) fn said(&self) -> Receiver<Said> {
        self.said.clone().unwrap_or_else(never)
    }

    /// A job of this stream is done.
    pub(super) fn heard(&mut self, stream: usize) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.outstanding = stream.outstanding.saturating_sub(1);
        }
    }

    /// Whether this stream would take a job now.
    pub(super) fn has_room(&self, stream: usize) -> bool {
        self.streams.get(stream).is_some_and(|stream| stream.outstanding < WAITING)
    }

    /// Whether everything that was dealt was handed over.
    pub(super) fn are_idle(&self) -> bool {
        self.streams.iter().all(|stream| stream.outstanding == 0)
    }

    /// Deals out pages. Only where there is room.
    pub(super) fn send(&mut self, stream: usize, runs: Vec<PageRun>, passing: Passing) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.deal(Job::Pages(runs, passing));
        }
    }

    /// Has all say that all of `round` was sent. Only when they are idle.
    pub(super) fn gate(&mut self, round: u32) {
        self.streams.iter_mut().for_each(|stream| stream.deal(Job::Gate(round)));
    }

    /// Bytes that the system has taken and not carried yet; none if it does not say.
    pub(super) fn unsent(&self) -> Option<ByteCount> {
        self.streams
            .iter()
            .try_fold(ByteCount(0), |sum, stream| Some(ByteCount(sum.0 + unsent(&*stream.connection)?.0)))
    }
}

impl PageStream {
    fn deal(&mut self, job: Job) {
        // A stream that is gone has said so.
        if self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok()) {
            self.outstanding += 1;
        }
    }
}

impl Drop for PageStreams {
    fn drop(&mut self) {
        self.limiter.close();
        // A stream that waits to be heard waits for nobody.
        self.said = None;
        for stream in &mut self.streams {
            stream.connection.shutdown();
            stream.jobs = None;
        }
        for thread in self.streams.iter_mut().filter_map(|stream| stream.thread.take()) {
            // It has said what there was to say.
            let _ = thread.join();
        }
    }
}

/// Why a stream ended early.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("the connection was lost")]
    Io(#[from] io::Error),
    #[error("guest memory cannot be sent")]
    Ram(#[source] RamError),
    #[error("the migration is over")]
    Closed(#[from] Closed),
    #[error("a page cannot be encoded")]
    Encode(#[from] EncodeError),
}

impl From<RamError> for StreamError {
    fn from(error: RamError) -> Self {
        match error {
            // Memory and connection meet in one call.
            RamError::Descriptor(error) => Self::Io(error),
            error => Self::Ram(error),
        }
    }
}

struct Work {
    number: usize,
    /// Streams that share the limit.
    count: u64,
    stream: Arc<dyn Stream>,
    encoder: Encoder,
    passing: Passing,
    link: Throughput,
    ram: Arc<dyn GuestRam>,
    /// Pages that the destination takes in one frame at most.
    most: Pages,
    limiter: Arc<Limiter>,
    spent: Spent,
    tell: Sender<Said>,
    frame: PageFrame,
}

impl Work {
    fn until_the_end(mut self, jobs: &Receiver<Job>) {
        let _counting = self.spent.count();
        let _watch = Watch { stream: self.number, tell: self.tell.clone() };
        for job in jobs {
            let done = match job {
                Job::Pages(runs, passing) => self.send(&runs, passing),
                Job::Gate(round) => write_all(&*self.stream, &frame::gate(round))
                    .map(|()| Encoded::default())
                    .map_err(Into::into),
            };
            let stream = self.number;
            let (said, failed) = match done {
                Ok(tally) => (Said::Sent { stream, tally }, false),
                Err(error) => (Said::Lost { stream, why: in_words(&error) }, true),
            };
            if self.tell.send(said).is_err() || failed {
                return;
            }
        }
    }

    fn send(&mut self, runs: &[PageRun], passing: Passing) -> Result<Encoded, StreamError> {
        if passing != self.passing {
            self.passing = passing;
            self.encoder.begin_pass(passing.pass);
        }
        let mut tally = Encoded::default();
        self.encoder.set_bandwidth(bandwidth(self.limiter.limit(), self.count, self.link.carries));
        let batch = self.batch();
        for runs in batches(runs, batch) {
            let encoded = self.encoder.encode(&runs, &*self.ram, &mut self.frame)?;
            if encoded.bytes > ByteCount(0) {
                self.hand_over(encoded.bytes)?;
            }
            tally += encoded;
        }
        Ok(tally)
    }

    /// Sends the frame, when the limit allows it.
    fn hand_over(&mut self, bytes: ByteCount) -> Result<(), StreamError> {
        let began = self.link.clock.now();
        self.limiter.acquire(bytes)?;
        send_frame(&self.frame, &*self.ram, &*self.stream)?;
        self.link.carried(bytes, began);
        Ok(())
    }

    /// Pages of a frame: fewer where so many would take longer than the limit is late, or where the peer would wait for them.
    fn batch(&self) -> Pages {
        let page = self.ram.layout().page_size().bytes().0;
        let held = if self.encoder.copies() { held(&*self.stream) } else { None };
        let most = held.map_or(self.most.0, |held| (waited_for(held) / page).clamp(1, self.most.0));
        match self.limiter.limit() {
            RateLimit::Unlimited => Pages(most),
            RateLimit::AtMost(rate) => {
                let bytes = rate.as_f64() * BURST.as_secs_f64();
                Pages(((bytes / page as f64) as u64).clamp(1, most))
            }
        }
    }
}

/// Pages of a frame at most, for a destination that takes so much: each may have an entry of its own, and be sent as it is.
fn batch(limits: &Limits, page_size: PageSize) -> Pages {
    let bytes = BATCH.min(limits.payload.0);
    Pages((bytes / page_size.bytes().0).min(limits.entries.into()).max(1))
}

/// Guest memory of a frame whose pages are copied, on a connection that takes `held` bytes. Nothing of it is sent while it is made; were it more
/// than what the peer has to take meanwhile, the peer would wait for it. (A Unix socket takes 208 KiB, TCP half a MiB and more.)
fn waited_for(held: u64) -> u64 {
    (held / 3 * 2).max(64 << 10)
}

/// Bytes that a connection takes before the peer has to read, what the system adds to them included; none if it does not say.
fn held(stream: &dyn Stream) -> Option<u64> {
    let descriptor = stream.descriptor()?;
    socket2::SockRef::from(&descriptor).send_buffer_size().ok().map(|bytes| bytes as u64)
}

/// Says that a stream is lost whose thread panics, which may happen in an embedder's code.
struct Watch {
    stream: usize,
    tell: Sender<Said>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if thread::panicking() {
            let why = "its thread has panicked".to_owned();
            let _ = self.tell.send(Said::Lost { stream: self.stream, why });
        }
    }
}

/// Bytes that a connection has taken and not carried yet; none where nobody knows.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn unsent(stream: &dyn Stream) -> Option<ByteCount> {
    whimbrel_guest::socket::unsent(stream.descriptor()?).ok()
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn unsent(_stream: &dyn Stream) -> Option<ByteCount> {
    None
}

/// What the encoder of a stream weighs its work against: what its connection was seen to carry, but no more than its part of the limit.
/// That is known before anything was sent. And while a stream packs, what it may send grows, so that it waits for less than a frame's time:
/// by its waiting alone a limited link looks faster than it is.
fn bandwidth(limit: RateLimit, streams: u64, carries: Option<Bandwidth>) -> Option<Bandwidth> {
    let part = match limit {
        RateLimit::Unlimited => None,
        RateLimit::AtMost(rate) => Bandwidth::new((rate.bytes_per_second() / streams.max(1)).max(1)),
    };
    [part, carries].into_iter().flatten().min()
}

/// What a connection carries while there is something to send.
struct Throughput {
    clock: SystemClock,
    bytes: u64,
    busy: Duration,
    /// As it was seen last.
    carries: Option<Bandwidth>,
}

/// So long a connection is watched before it is said what it carries.
const WATCHED: Duration = Duration::from_millis(50);

impl Throughput {
    fn new(clock: SystemClock) -> Self {
        Self { clock, bytes: 0, busy: Duration::ZERO, carries: None }
    }

    /// So many bytes were handed over since then.
    fn carried(&mut self, bytes: ByteCount, began: Timestamp) {
        self.bytes += bytes.0;
        self.busy += self.clock.now().since(began);
        if self.busy >= WATCHED {
            self.carries = Bandwidth::measured(ByteCount(self.bytes), self.busy);
            (self.bytes, self.busy) = (0, Duration::ZERO);
        }
    }
}

/// Runs of at most `most` pages together, in their order.
fn batches(runs: &[PageRun], most: Pages) -> impl Iterator<Item = Vec<PageRun>> + '_ {
    let most = most.0.max(1);
    let mut rest = runs.iter().copied();
    let mut open = rest.next();
    std::iter::from_fn(move || {
        let mut batch = Vec::new();
        let mut room = most;
        while let Some(run) = open {
            if room == 0 {
                break;
            }
            let count = run.count.0.min(room);
            batch.push(PageRun { first: run.first, count: Pages(count) });
            room -= count;
            open = if count < run.count.0 {
                let first = whimbrel_core::layout::PageNumber(run.first.0 + count);
                Some(PageRun { first, count: Pages(run.count.0 - count) })
            } else {
                rest.next()
            };
        }
        (!batch.is_empty()).then_some(batch)
    })
}

/// Hands a frame to the connection: guest memory without a copy where both can.
fn send_frame(frame: &PageFrame, ram: &dyn GuestRam, stream: &dyn Stream) -> Result<(), StreamError> {
    let (Some(direct), Some(descriptor)) = (ram.direct(), stream.descriptor()) else {
        return send_copy(frame, ram, stream);
    };
    let mut pieces: Vec<Piece<'_>> = frame.pieces().collect();
    let mut from = 0;
    while let Some(rest) = pieces.get_mut(from..).filter(|rest| !rest.is_empty()) {
        let sent = direct.send(rest, descriptor)?;
        if sent == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        from += advance(rest, sent);
    }
    Ok(())
}

/// Hands a frame to the connection, put together.
fn send_copy(frame: &PageFrame, ram: &dyn GuestRam, stream: &dyn Stream) -> Result<(), StreamError> {
    let mut copy = Vec::new();
    for piece in frame.pieces() {
        match piece {
            Piece::Bytes(bytes) => copy.extend_from_slice(bytes),
            Piece::Ram(range) => {
                let start = copy.len();
                copy.resize(start + range.len.0 as usize, 0);
                ram.read(range.at, copy.get_mut(start..).unwrap_or_default())?;
            }
        }
    }
    Ok(write_all(stream, &copy)?)
}

/// Takes `sent` bytes off the front; gives how many pieces are gone whole.
fn advance(pieces: &mut [Piece<'_>], mut sent: usize) -> usize {
    for (index, piece) in pieces.iter_mut().enumerate() {
        let len = match piece {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Ram(range) => range.len.0 as usize,
        };
        if sent < len {
            match piece {
                Piece::Bytes(bytes) => *bytes = &bytes[sent..],
                Piece::Ram(range) => {
                    range.at.0 += sent as u64;
                    range.len.0 -= sent as u64;
                }
            }
            return index;
        }
        sent -= len;
    }
    pieces.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoder_weighs_its_work_against_its_streams_part_of_the_limit_or_less() {
        let rate = |megabytes: u64| Bandwidth::new(megabytes * 1_000_000).expect("a rate");
        let limit = RateLimit::AtMost(rate(60));
        assert_eq!(bandwidth(limit, 2, None), Some(rate(30)), "nothing was sent yet");
        assert_eq!(bandwidth(limit, 2, Some(rate(38))), Some(rate(30)), "it packed while it could not send");
        assert_eq!(bandwidth(limit, 2, Some(rate(9))), Some(rate(9)), "the link is slower than the limit");
        assert_eq!(bandwidth(RateLimit::Unlimited, 2, None), None);
        assert_eq!(bandwidth(RateLimit::Unlimited, 2, Some(rate(900))), Some(rate(900)));
    }
}
