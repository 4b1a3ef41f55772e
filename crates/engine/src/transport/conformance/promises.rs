//! How each promise is checked.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use super::{Ground, Promise};
use crate::transport::socket::is_timeout;
use crate::transport::{Connect, Listen, Stream, TransportError};

/// What came of a check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Kept,
    NoSuchThing,
}

type Outcome = Result<Found, String>;
type Check = fn(&dyn Ground) -> Outcome;

pub(super) const ALL: [(Promise, Check); 13] = [
    (Promise::InOrder, in_order),
    (Promise::BothWays, both_ways),
    (Promise::EndsBehindTheLast, ends_behind_the_last),
    (Promise::ShutdownWakesReaders, shutdown_wakes_readers),
    (Promise::ShutdownWakesWriters, shutdown_wakes_writers),
    (Promise::ShutdownIsFinal, shutdown_is_final),
    (Promise::ReadsArePatient, reads_are_patient),
    (Promise::WritesArePatient, writes_are_patient),
    (Promise::LossIsNoticed, loss_is_noticed),
    (Promise::DescriptorIsTheStream, descriptor_is_the_stream),
    (Promise::ManyAtOnce, many_at_once),
    (Promise::AcceptsInTime, accepts_in_time),
    (Promise::NobodyIsAnError, nobody_is_an_error),
];

/// Enough for whatever has to come to come.
const SOON: Duration = Duration::from_secs(10);

/// The patience that is waited out.
const PATIENCE: Duration = Duration::from_millis(200);

/// Enough for a thread to be in the call in which it is to wait.
const SETTLED: Duration = Duration::from_millis(100);

/// How much later than said a call may come back: a machine may be busy.
const LATE: Duration = Duration::from_secs(3);

fn said(error: &TransportError) -> String {
    format!("{error}: {}", error.cause)
}

fn cannot(what: &str) -> impl Fn(io::Error) -> String {
    move |error| format!("cannot {what}: {error}")
}

/// The two ends of a connection, with what made it.
struct Ends {
    near: Box<dyn Stream>,
    far: Box<dyn Stream>,
    _listener: Box<dyn Listen>,
}

fn ends(ground: &dyn Ground) -> Result<Ends, String> {
    let (listener, connector) = ground.open().map_err(|error| said(&error))?;
    let (near, far) = connect(&*listener, &*connector)?;
    Ok(Ends { near, far, _listener: listener })
}

type Pair = (Box<dyn Stream>, Box<dyn Stream>);

/// Makes a connection and carries a byte in each direction, so that both sides have agreed on it.
fn connect(listener: &dyn Listen, connector: &dyn Connect) -> Result<Pair, String> {
    thread::scope(|scope| {
        let near = scope.spawn(|| {
            let near = connector.connect(SOON).map_err(|error| said(&error))?;
            write_all(&*near, b"?")?;
            read_exactly(&*near, 1)?;
            Ok::<_, String>(near)
        });
        let far = listener.accept(SOON).map_err(|error| said(&error))?;
        let far = far.ok_or("a connection that is made is not there to be accepted")?;
        let greeted = read_exactly(&*far, 1).and_then(|_| write_all(&*far, b"!"));
        let near = near.join().map_err(|_| "connecting panicked".to_owned())??;
        greeted.map(|()| (near, far))
    })
}

fn write_all(stream: &dyn Stream, mut bytes: &[u8]) -> Result<(), String> {
    while !bytes.is_empty() {
        let taken = stream.write(&[IoSlice::new(bytes)]).map_err(cannot("write"))?;
        if taken == 0 || taken > bytes.len() {
            return Err(format!("a write of {} bytes took {taken}", bytes.len()));
        }
        bytes = &bytes[taken..];
    }
    Ok(())
}

fn read_exactly(stream: &dyn Stream, count: usize) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; count];
    let mut filled = 0;
    while filled < count {
        let came = stream.read(&mut bytes[filled..]).map_err(cannot("read"))?;
        if came == 0 {
            return Err(format!("the end came after {filled} of {count} bytes"));
        }
        filled += came;
    }
    Ok(bytes)
}

/// All that comes until the end.
fn read_to_end(stream: &dyn Stream) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut some = vec![0; 100_000];
    loop {
        match stream.read(&mut some).map_err(cannot("read"))? {
            0 => return Ok(bytes),
            came => bytes.extend_from_slice(&some[..came]),
        }
    }
}

/// Bytes in which a part that is missing, doubled or in another's place shows: random (xorshift64*, Vigna 2016), and the same
/// again only after an odd megabyte.
fn pattern(seed: u64, count: usize) -> Vec<u8> {
    const PERIOD: usize = (1 << 20) + 7;
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count.min(PERIOD) {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(count.min(PERIOD));
    while bytes.len() < count {
        let more = PERIOD.min(count - bytes.len());
        bytes.extend_from_within(..more);
    }
    bytes
}

fn same(came: &[u8], written: &[u8]) -> Result<(), String> {
    if came == written {
        return Ok(());
    }
    let at = came.iter().zip(written).position(|(a, b)| a != b).unwrap_or(came.len().min(written.len()));
    Err(format!("{} bytes written, {} came, the first difference is at {at}", written.len(), came.len()))
}

/// Puts a thread that failed, or panicked, into words.
fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T, String>>) -> Result<T, String> {
    thread.join().map_err(|_| "a thread panicked".to_owned())?
}

fn in_order(ground: &dyn Ground) -> Outcome {
    let Ends { near, far, .. } = ends(ground)?;
    for (sizes, reads) in
        [(&[1, 2, 3, 5, 8, 13][..], 7), (&[3 << 20, 1, 700_001], 64 << 10), (&[40_000], 1 << 20)]
    {
        let bytes = pattern(sizes.len() as u64, if reads < 10 { 5_000 } else { 8 << 20 });
        thread::scope(|scope| {
            let writing = scope.spawn(|| write_in_parts(&*near, &bytes, sizes));
            let mut came = Vec::new();
            while came.len() < bytes.len() {
                let count = reads.min(bytes.len() - came.len());
                came.extend(read_exactly(&*far, count)?);
            }
            joined(writing)?;
            same(&came, &bytes)
        })?;
    }
    Ok(Found::Kept)
}

/// Writes with parts of these sizes, and empty ones between, all that are left of a call's in one.
fn write_in_parts(stream: &dyn Stream, bytes: &[u8], sizes: &[usize]) -> Result<(), String> {
    let mut left = bytes;
    while !left.is_empty() {
        let mut parts = vec![IoSlice::new(&[])];
        let mut rest = left;
        for &size in sizes {
            let (part, behind) = rest.split_at(size.min(rest.len()));
            parts.extend([IoSlice::new(part), IoSlice::new(&[])]);
            rest = behind;
        }
        let offered = left.len() - rest.len();
        let taken = stream.write(&parts).map_err(cannot("write"))?;
        if taken == 0 || taken > offered {
            return Err(format!("a write of {offered} bytes took {taken}"));
        }
        left = &left[taken..];
    }
    Ok(())
}

fn both_ways(ground: &dyn Ground) -> Outcome {
    let Ends { near, far, .. } = ends(ground)?;
    let sent = [pattern(1, 12 << 20), pattern(2, 12 << 20)];
    thread::scope(|scope| {
        let writers = [(&near, &sent[0]), (&far, &sent[1])]
            .map(|(stream, bytes)| scope.spawn(move || write_all(&**stream, bytes)));
        // Both are stuck by now, if ever they will be.
        thread::sleep(SETTLED);
        let readers = [(&far, &sent[0]), (&near, &sent[1])]
            .map(|(stream, bytes)| scope.spawn(move || same(&read_exactly(&**stream, bytes.len())?, bytes)));
        writers.into_iter().chain(readers).try_for_each(joined)
    })?;
    Ok(Found::Kept)
}

fn ends_behind_the_last(ground: &dyn Ground) -> Outcome {
    for dropped in [false, true] {
        let Ends { near, far, .. } = ends(ground)?;
        let bytes = pattern(3, 60_000);
        write_all(&*near, &bytes)?;
        near.shutdown();
        let kept = (!dropped).then_some(near);
        thread::sleep(SETTLED);
        same(&read_to_end(&*far)?, &bytes)?;
        match far.read(&mut [0; 16]) {
            Ok(0) => {}
            other => return Err(format!("a second read at the end gave {other:?}")),
        }
        drop(kept);
    }
    Ok(Found::Kept)
}

fn shutdown_wakes_readers(ground: &dyn Ground) -> Outcome {
    for own in [true, false] {
        let Ends { near, far, .. } = ends(ground)?;
        thread::scope(|scope| {
            let reading = scope.spawn(|| near.read(&mut [0; 16]));
            thread::sleep(SETTLED);
            if own {
                near.shutdown();
            } else {
                far.shutdown();
            }
            match reading.join() {
                Ok(Ok(0)) => Ok(()),
                Ok(Err(error)) if own && !is_timeout(&error) => Ok(()),
                Ok(other) => Err(format!("it gave {other:?}")),
                Err(_) => Err("it panicked".to_owned()),
            }
        })?;
    }
    Ok(Found::Kept)
}

/// Writes until there is an error, and gives it.
fn write_until_error(stream: &dyn Stream) -> io::Error {
    let bytes = pattern(4, 200_000);
    loop {
        if let Err(error) = stream.write(&[IoSlice::new(&bytes)]) {
            return error;
        }
    }
}

fn shutdown_wakes_writers(ground: &dyn Ground) -> Outcome {
    for own in [true, false] {
        let Ends { near, far, .. } = ends(ground)?;
        thread::scope(|scope| {
            let writing = scope.spawn(|| write_until_error(&*near));
            // All that can be under way is under way by then.
            thread::sleep(SETTLED * 5);
            if writing.is_finished() {
                return Err("nobody reads, and a write failed instead of waiting".to_owned());
            }
            if own {
                near.shutdown();
            } else {
                far.shutdown();
                read_to_end(&*near)?;
            }
            let began = Instant::now();
            let error = writing.join().map_err(|_| "it panicked".to_owned())?;
            soon(began)?;
            if is_timeout(&error) { Err(format!("it gave {error}")) } else { Ok(()) }
        })?;
    }
    Ok(Found::Kept)
}

fn shutdown_is_final(ground: &dyn Ground) -> Outcome {
    let Ends { near, far, .. } = ends(ground)?;
    near.shutdown();
    near.shutdown();
    if let Ok(taken) = near.write(&[IoSlice::new(b"more")]) {
        return Err(format!("a write behind it took {taken} bytes"));
    }
    if let Ok(came @ 1..) = near.read(&mut [0; 16]) {
        return Err(format!("a read behind it gave {came} bytes"));
    }
    match far.read(&mut [0; 16]) {
        Ok(0) => Ok(Found::Kept),
        other => Err(format!("the peer's read gave {other:?}")),
    }
}

/// Checks that a call was over in `at_least`, as far as the system's clock ticks, and not much later.
fn in_time(began: Instant, at_least: Duration) -> Result<(), String> {
    let took = began.elapsed();
    if took < at_least * 3 / 4 || took > at_least + LATE {
        return Err(format!("it took {took:?} instead of {at_least:?}"));
    }
    Ok(())
}

/// Checks that what had to wake somebody did, and not the system's giving up later.
fn soon(began: Instant) -> Result<(), String> {
    let took = began.elapsed();
    if took > SOON { Err(format!("it took {took:?}")) } else { Ok(()) }
}

fn reads_are_patient(ground: &dyn Ground) -> Outcome {
    let Ends { near, far, .. } = ends(ground)?;
    far.set_patience(Some(PATIENCE), None).map_err(cannot("set a patience"))?;
    for round in 0..2 {
        let began = Instant::now();
        match far.read(&mut [0; 16]) {
            Err(error) if is_timeout(&error) => in_time(began, PATIENCE)?,
            other => return Err(format!("a read of nothing gave {other:?}")),
        }
        let bytes = pattern(round, 30_000);
        write_all(&*near, &bytes)?;
        same(&read_exactly(&*far, bytes.len())?, &bytes)?;
    }
    // And for ever again.
    far.set_patience(None, None).map_err(cannot("set a patience"))?;
    thread::scope(|scope| {
        let reading = scope.spawn(|| read_exactly(&*far, 1));
        thread::sleep(PATIENCE * 2);
        write_all(&*near, b"x")?;
        joined(reading).map(|_| Found::Kept)
    })
}

fn writes_are_patient(ground: &dyn Ground) -> Outcome {
    let Ends { near, far, .. } = ends(ground)?;
    near.set_patience(None, Some(PATIENCE)).map_err(cannot("set a patience"))?;
    let mut taken = 0;
    let bytes = pattern(5, 64 << 20);
    for _ in 0..2 {
        taken += write_until_patience_is_over(&*near, &bytes[taken..])?;
    }
    let written = thread::scope(|scope| {
        let reading = scope.spawn(|| read_to_end(&*far));
        // Some more behind it, so that what was left over has to be in its place.
        let more = 100_000;
        near.set_patience(None, None).map_err(cannot("set a patience"))?;
        write_all(&*near, &bytes[taken..][..more])?;
        near.shutdown();
        same(&joined(reading)?, &bytes[..taken + more])
    });
    written.map(|()| Found::Kept)
}

fn write_until_patience_is_over(stream: &dyn Stream, bytes: &[u8]) -> Result<usize, String> {
    let mut taken = 0;
    while taken < bytes.len() / 2 {
        let began = Instant::now();
        let portion = &bytes[taken..][..300_000.min(bytes.len() - taken)];
        match stream.write(&[IoSlice::new(portion)]) {
            Ok(count) => taken += count,
            Err(error) if is_timeout(&error) => return in_time(began, PATIENCE).map(|()| taken),
            Err(error) => return Err(cannot("write")(error)),
        }
    }
    Err(format!("nobody reads, and {taken} bytes were taken"))
}

fn loss_is_noticed(ground: &dyn Ground) -> Outcome {
    let Ends { near, far, .. } = ends(ground)?;
    thread::scope(|scope| {
        let reading = scope.spawn(|| near.read(&mut [0; 16]));
        thread::sleep(SETTLED);
        drop(far);
        let began = Instant::now();
        let result = reading.join();
        soon(began)?;
        match result {
            Ok(Ok(0)) => Ok(()),
            Ok(Err(error)) if !is_timeout(&error) => Ok(()),
            Ok(other) => Err(format!("who reads gets {other:?}")),
            Err(_) => Err("reading panicked".to_owned()),
        }
    })?;
    let Ends { near, far, .. } = ends(ground)?;
    thread::scope(|scope| {
        let writing = scope.spawn(|| write_until_error(&*near));
        thread::sleep(SETTLED);
        drop(far);
        let began = Instant::now();
        let error = writing.join().map_err(|_| "writing panicked".to_owned())?;
        soon(began)?;
        if is_timeout(&error) { Err(format!("who writes gets {error}")) } else { Ok(Found::Kept) }
    })
}

fn descriptor_is_the_stream(ground: &dyn Ground) -> Outcome {
    let Ends { near, far, .. } = ends(ground)?;
    let Some(descriptor) = near.descriptor() else { return Ok(Found::NoSuchThing) };
    let mut file = File::from(descriptor.try_clone_to_owned().map_err(cannot("clone the descriptor"))?);
    file.write_all(b"from the descriptor").map_err(cannot("write"))?;
    same(&read_exactly(&*far, 19)?, b"from the descriptor")?;
    write_all(&*far, b"to it")?;
    let mut came = [0; 5];
    file.read_exact(&mut came).map_err(cannot("read"))?;
    same(&came, b"to it")?;
    near.set_patience(Some(PATIENCE), None).map_err(cannot("set a patience"))?;
    let began = Instant::now();
    match file.read(&mut came) {
        Err(error) if is_timeout(&error) => in_time(began, PATIENCE).map(|()| Found::Kept),
        other => Err(format!("a read of nothing from the descriptor gave {other:?}")),
    }
}

fn many_at_once(ground: &dyn Ground) -> Outcome {
    const MANY: u64 = 40;
    let (listener, connector) = ground.open().map_err(|error| said(&error))?;
    thread::scope(|scope| {
        let connector = &*connector;
        let connecting: Vec<_> = (0..MANY)
            .map(|number| {
                scope.spawn(move || {
                    let near = connector.connect(SOON).map_err(|error| said(&error))?;
                    write_all(&*near, &number.to_le_bytes())?;
                    write_all(&*near, &pattern(number, 50_000))?;
                    same(&read_to_end(&*near)?, &number.to_le_bytes())
                })
            })
            .collect();
        let mut answering = Vec::new();
        for number in 0..MANY {
            let far = listener.accept(SOON).map_err(|error| said(&error))?;
            let far = far.ok_or_else(|| format!("{number} of {MANY} connections came"))?;
            answering.push(scope.spawn(move || answer(&*far)));
        }
        connecting.into_iter().chain(answering).try_for_each(joined)
    })?;
    Ok(Found::Kept)
}

/// Takes a number and the bytes that belong to it, and gives the number back.
fn answer(stream: &dyn Stream) -> Result<(), String> {
    let number: [u8; 8] = read_exactly(stream, 8)?.try_into().map_err(|_| "no number".to_owned())?;
    same(&read_exactly(stream, 50_000)?, &pattern(u64::from_le_bytes(number), 50_000))?;
    write_all(stream, &number)?;
    stream.shutdown();
    Ok(())
}

fn accepts_in_time(ground: &dyn Ground) -> Outcome {
    let (listener, connector) = ground.open().map_err(|error| said(&error))?;
    for within in [PATIENCE, Duration::ZERO] {
        let began = Instant::now();
        match listener.accept(within) {
            Ok(None) => in_time(began, within)?,
            Ok(Some(_)) => return Err("a connection that nobody made was accepted".to_owned()),
            Err(error) => return Err(said(&error)),
        }
    }
    // It still accepts.
    connect(&*listener, &*connector).map(|_| Found::Kept)
}

fn nobody_is_an_error(ground: &dyn Ground) -> Outcome {
    let connector = ground.nobody().map_err(|error| said(&error))?;
    let began = Instant::now();
    if connector.connect(PATIENCE).is_ok() {
        return Err("a connection was made".to_owned());
    }
    let took = began.elapsed();
    if took > PATIENCE + LATE { Err(format!("it took {took:?}")) } else { Ok(Found::Kept) }
}
