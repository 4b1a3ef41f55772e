//! What a destination says that it takes: nothing beyond it is sent.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};

use whimbrel_core::report::Outcome;
use whimbrel_core::units::ByteCount;
use whimbrel_engine::transport::Stream;
use whimbrel_wire::Limits;
use whimbrel_wire::frame::{FrameHeader, HEADER_LEN};
use whimbrel_wire::hello::{self, Direction, Hello, PREFIX_LEN};

use super::between::{Disturbed, Through};
use super::world::{World, mib};

/// What the destination says: bytes of payload, and entries.
type Most = (u32, u16);

/// All that went over each connection.
type Written = Arc<Mutex<Vec<Vec<u8>>>>;

/// A connection to a destination that takes less than others.
struct Modest {
    inner: Box<dyn Stream>,
    /// Its welcome as it is told, until it was read.
    welcome: Mutex<Option<Vec<u8>>>,
    most: Most,
    number: usize,
    written: Written,
}

impl Modest {
    fn new(inner: Box<dyn Stream>, most: Most, written: &Written) -> Self {
        let mut all = written.lock().expect("no panic");
        all.push(Vec::new());
        let (welcome, number, written) = (Mutex::new(None), all.len() - 1, Arc::clone(written));
        Self { inner, welcome, most, number, written }
    }

    fn read_exact(&self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let mut done = 0;
        while done < len {
            match self.inner.read(&mut bytes[done..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => done += count,
            }
        }
        Ok(bytes)
    }

    fn modest_welcome(&self) -> io::Result<Vec<u8>> {
        let prefix: [u8; PREFIX_LEN] = self.read_exact(PREFIX_LEN)?.try_into().expect("so many");
        let len = hello::rest(&prefix, Direction::FromDestination).map_err(io::Error::other)?;
        let rest = self.read_exact(len)?;
        let mut answer = hello::decode_answer(&prefix, &rest).map_err(io::Error::other)?;
        if let Ok(welcome) = &mut answer {
            (welcome.payload, welcome.entries) = self.most;
        }
        Ok(hello::encode_answer(&answer))
    }
}

impl Disturbed for Modest {
    fn inner(&self) -> &dyn Stream {
        &*self.inner
    }

    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut welcome = self.welcome.lock().expect("no panic");
        if welcome.is_none() {
            *welcome = Some(self.modest_welcome()?);
        }
        let left = welcome.as_mut().expect("it was read");
        if left.is_empty() {
            drop(welcome);
            return self.inner.read(into);
        }
        let count = left.len().min(into.len());
        into[..count].copy_from_slice(&left[..count]);
        left.drain(..count);
        Ok(count)
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let taken = self.inner.write(parts)?;
        let all = parts.iter().flat_map(|part| part.iter().copied());
        self.written.lock().expect("no panic")[self.number].extend(all.take(taken));
        Ok(taken)
    }
}

/// Holds every frame of a connection against what the destination takes; gives how many there were.
fn check(mut written: &[u8], (payload, entries): Most) -> usize {
    let limits = Limits { payload: ByteCount(payload.into()), entries, ..Limits::default() };
    let prefix: [u8; PREFIX_LEN] = written[..PREFIX_LEN].try_into().expect("so many");
    let first = PREFIX_LEN + hello::rest(&prefix, Direction::FromSource).expect("a hello");
    Hello::decode(&prefix, &written[PREFIX_LEN..first]).expect("a hello");
    written = &written[first..];
    let mut count = 0;
    while let Some((header, behind)) = written.split_first_chunk::<HEADER_LEN>() {
        let header = FrameHeader::decode(header, &limits).expect("within the limits");
        // The last may have been cut off where the connection ended.
        written = behind.get(header.length as usize..).unwrap_or_default();
        count += 1;
    }
    count
}

#[test]
fn frames_keep_to_what_the_destination_takes() {
    for most in [(20_000, 1024), (512 << 10, 7)] {
        let written = Written::default();
        let seen = Arc::clone(&written);
        let moved = World::of(mib(4))
            .writing(20_000.0)
            .streams(2)
            .policy("fixed-rounds")
            .each_connection(move |_, inner| Box::new(Through(Modest::new(inner, most, &seen))))
            .go();
        assert_eq!(moved.source.report.outcome, Outcome::Completed, "{}", moved.source.report.why);
        moved.check_the_guest_there();
        let written = written.lock().expect("no panic");
        let frames: Vec<usize> = written.iter().map(|written| check(written, most)).collect();
        assert!(frames.len() == 3 && frames[1..].iter().all(|&frames| frames > 40), "{frames:?}");
    }
}
