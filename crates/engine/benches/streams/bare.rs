//! Two threads a stream, that move all of memory in chunks without a word.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use whimbrel_core::embed::{GuestRam as _, Piece, RamRange};
use whimbrel_core::layout::Gpa;
use whimbrel_core::units::ByteCount;
use whimbrel_engine::transport::Stream;
use whimbrel_guest::memory::GuestMemory;

use super::ends::{ends, replica};
use super::{Bad, Row, Took};

/// What a bare sender writes at a time: as much as a frame of ours has.
const CHUNK: u64 = 512 << 10;

pub(super) fn run(memory: &Arc<GuestMemory>, row: Row) -> Result<Took, Bad> {
    let (connect, listen) = ends(row.transport)?;
    let there = replica(memory.layout(), row)?;
    let wait = Duration::from_secs(5);
    let mut pairs = Vec::new();
    for _ in 0..row.streams {
        let near = thread::scope(|scope| {
            let near = scope.spawn(|| connect.connect(wait));
            let far = listen.accept(wait);
            near.join().map(|near| (near, far))
        });
        let (near, far) = near.map_err(|_| "a thread panicked")?;
        pairs.push((near?, far?.ok_or("nobody came")?));
    }
    let began = Instant::now();
    thread::scope(|scope| {
        for (number, (near, far)) in (0..).zip(&pairs) {
            let there = &there;
            scope.spawn(move || send(&**near, memory, number, row.streams));
            scope.spawn(move || receive(&**far, there, number, row.streams));
        }
    });
    let all = began.elapsed();
    Ok(Took { all, bulk: all })
}

/// The chunks of one stream.
fn chunks(memory: &GuestMemory, number: u64, streams: u16) -> impl Iterator<Item = RamRange> {
    let count = memory.layout().bytes().0 / CHUNK;
    (number..count)
        .step_by(streams.into())
        .map(|chunk| RamRange { at: Gpa(chunk * CHUNK), len: ByteCount(CHUNK) })
}

fn send(stream: &dyn Stream, memory: &GuestMemory, number: u64, streams: u16) {
    let direct = memory.direct().expect("memory of this process");
    let to = stream.descriptor().expect("a socket");
    for mut range in chunks(memory, number, streams) {
        while range.len.0 > 0 {
            let sent = direct.send(&[Piece::Ram(range)], to).expect("the receiver is there") as u64;
            range = RamRange { at: Gpa(range.at.0 + sent), len: ByteCount(range.len.0 - sent) };
        }
    }
}

fn receive(stream: &dyn Stream, memory: &GuestMemory, number: u64, streams: u16) {
    let direct = memory.direct().expect("memory of this process");
    let from = stream.descriptor().expect("a socket");
    for mut range in chunks(memory, number, streams) {
        while range.len.0 > 0 {
            let came = direct.receive(&[range], from).expect("the sender is there") as u64;
            range = RamRange { at: Gpa(range.at.0 + came), len: ByteCount(range.len.0 - came) };
        }
    }
}
