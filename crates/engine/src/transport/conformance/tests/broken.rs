//! Connections that are broken on purpose: the suite finds each of them, by the promise that it breaks.

use std::io::{self, IoSlice};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::transport::conformance::{Ground, Opened, Promise, check};
use crate::transport::memory::{Link, MemoryHub};
use crate::transport::{Connect, Listen, Stream, TransportError};

/// Long enough for what is not broken; those that wait for ever wait for this.
const LIMIT: Duration = Duration::from_secs(20);

/// What is wrong with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    LosesAByteNowAndThen,
    SwapsWhatIsWrittenInParts,
    OneDirectionAtATime,
    ShutdownLosesWhatIsUnderWay,
    ShutdownLeavesReaders,
    ShutdownLeavesWriters,
    TakesBehindAShutdown,
    ReadsWaitForEver,
    ReadsDoNotWait,
    WritesWaitForEver,
    SaysThatNothingWasTaken,
    VanishesUnnoticed,
    DescriptorOfSomethingElse,
    LosesAConnection,
    AcceptsLate,
    SomebodyIsNobody,
}

const FOUND_BY: [(Fault, Promise); 16] = [
    (Fault::LosesAByteNowAndThen, Promise::InOrder),
    (Fault::SwapsWhatIsWrittenInParts, Promise::InOrder),
    (Fault::OneDirectionAtATime, Promise::BothWays),
    (Fault::ShutdownLosesWhatIsUnderWay, Promise::EndsBehindTheLast),
    (Fault::ShutdownLeavesReaders, Promise::ShutdownWakesReaders),
    (Fault::ShutdownLeavesWriters, Promise::ShutdownWakesWriters),
    (Fault::TakesBehindAShutdown, Promise::ShutdownIsFinal),
    (Fault::ReadsWaitForEver, Promise::ReadsArePatient),
    (Fault::ReadsDoNotWait, Promise::ReadsArePatient),
    (Fault::WritesWaitForEver, Promise::WritesArePatient),
    (Fault::SaysThatNothingWasTaken, Promise::WritesArePatient),
    (Fault::VanishesUnnoticed, Promise::LossIsNoticed),
    (Fault::DescriptorOfSomethingElse, Promise::DescriptorIsTheStream),
    (Fault::LosesAConnection, Promise::ManyAtOnce),
    (Fault::AcceptsLate, Promise::AcceptsInTime),
    (Fault::SomebodyIsNobody, Promise::NobodyIsAnError),
];

#[test]
fn the_suite_finds_what_is_broken() {
    let found: Vec<_> = FOUND_BY
        .map(|(fault, promise)| {
            let ground: Arc<dyn Ground> = Arc::new(Faulty { fault });
            (fault, promise, thread::spawn(move || check(&ground, LIMIT)))
        })
        .into_iter()
        .collect();
    for (fault, promise, checking) in found {
        match checking.join().unwrap() {
            Err(broken) => assert_eq!(broken.promise, promise, "{fault:?}: {broken}"),
            Ok(_) => panic!("{fault:?} was not found"),
        }
    }
}

struct Faulty {
    fault: Fault,
}

impl Ground for Faulty {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn open(&self) -> Result<Opened, TransportError> {
        let hub = MemoryHub::new();
        let listener =
            FaultyListener { fault: self.fault, listener: Box::new(hub.listen()?), hub: hub.clone() };
        Ok((Box::new(listener), Box::new(FaultyConnector { fault: self.fault, hub })))
    }

    fn nobody(&self) -> Result<Box<dyn Connect>, TransportError> {
        let (listener, connector) = self.open()?;
        if self.fault == Fault::SomebodyIsNobody {
            std::mem::forget(listener);
        }
        Ok(connector)
    }
}

struct FaultyListener {
    fault: Fault,
    listener: Box<dyn Listen>,
    hub: MemoryHub,
}

impl Listen for FaultyListener {
    fn accept(&self, within: Duration) -> Result<Option<Box<dyn Stream>>, TransportError> {
        let late = if self.fault == Fault::AcceptsLate { Duration::from_secs(5) } else { Duration::ZERO };
        let taken = self.listener.accept(within + late)?;
        let links = self.hub.links();
        // The last one cannot have been answered yet, so the loss always shows.
        if self.fault == Fault::LosesAConnection && links.len() > 10 {
            links[links.len() - 1].cut();
        }
        Ok(taken.map(|stream| FaultyStream::wrap(self.fault, stream, links.last().unwrap().clone())))
    }

    fn address(&self) -> String {
        self.listener.address()
    }
}

struct FaultyConnector {
    fault: Fault,
    hub: MemoryHub,
}

impl Connect for FaultyConnector {
    fn connect(&self, within: Duration) -> Result<Box<dyn Stream>, TransportError> {
        let stream = self.hub.connector().connect(within)?;
        Ok(FaultyStream::wrap(self.fault, stream, self.hub.links().last().unwrap().clone()))
    }
}

struct FaultyStream {
    fault: Fault,
    stream: ManuallyDrop<Box<dyn Stream>>,
    link: Link,
    written: AtomicU64,
    ended: AtomicBool,
    impatient: AtomicBool,
    turn: Mutex<()>,
    other: (UnixStream, UnixStream),
}

impl FaultyStream {
    fn wrap(fault: Fault, stream: Box<dyn Stream>, link: Link) -> Box<dyn Stream> {
        Box::new(Self {
            fault,
            stream: ManuallyDrop::new(stream),
            link,
            written: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            impatient: AtomicBool::new(false),
            turn: Mutex::new(()),
            other: UnixStream::pair().unwrap(),
        })
    }

    /// Whether this is the fault, and the condition holds.
    fn faulty(&self, fault: Fault, when: bool) -> bool {
        self.fault == fault && when
    }

    fn write_with_a_fault(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let count = self.written.fetch_add(1, Ordering::Relaxed);
        let first = parts.iter().find(|part| !part.is_empty()).map_or(&[][..], |part| part);
        if self.faulty(Fault::LosesAByteNowAndThen, count % 50 == 49 && first.len() > 1) {
            return self.stream.write(&[IoSlice::new(&first[1..])]).map(|taken| taken + 1);
        }
        if self.faulty(Fault::SwapsWhatIsWrittenInParts, parts.len() > 1 && first.len() > 1) {
            return self.stream.write(&[IoSlice::new(&[first[1], first[0]])]);
        }
        let taken = self.stream.write(parts);
        let offered = parts.iter().map(|part| part.len()).sum();
        let partly = taken.as_ref().is_ok_and(|&taken| taken < offered);
        let impatient = self.impatient.load(Ordering::Relaxed);
        if self.faulty(Fault::SaysThatNothingWasTaken, impatient && partly) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        taken
    }
}

impl Drop for FaultyStream {
    fn drop(&mut self) {
        // Leaked otherwise, so that nobody notices.
        if self.fault != Fault::VanishesUnnoticed {
            self.stream.shutdown();
        }
    }
}

fn for_ever() -> ! {
    loop {
        thread::park();
    }
}

impl Stream for FaultyStream {
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let came = self.stream.read(into);
        // As a session would need that a writer keeps while it waits.
        let _turn = self.faulty(Fault::OneDirectionAtATime, true).then(|| self.turn.lock());
        if self.faulty(Fault::ShutdownLeavesReaders, self.ended.load(Ordering::Relaxed)) {
            for_ever();
        }
        came
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let _turn = self.faulty(Fault::OneDirectionAtATime, true).then(|| self.turn.lock());
        if self.faulty(Fault::TakesBehindAShutdown, self.ended.load(Ordering::Relaxed)) {
            return Ok(1);
        }
        let taken = self.write_with_a_fault(parts);
        if self.faulty(Fault::ShutdownLeavesWriters, taken.is_err() && self.ended.load(Ordering::Relaxed)) {
            for_ever();
        }
        taken
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.faulty(Fault::DescriptorOfSomethingElse, true).then(|| self.other.0.as_fd())
    }

    fn set_patience(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        self.impatient.store(write.is_some(), Ordering::Relaxed);
        let read = match self.fault {
            Fault::ReadsWaitForEver => None,
            Fault::ReadsDoNotWait => read.map(|_| Duration::ZERO),
            _ => read,
        };
        self.stream.set_patience(read, write.filter(|_| self.fault != Fault::WritesWaitForEver))
    }

    fn shutdown(&self) {
        self.ended.store(true, Ordering::Relaxed);
        if self.fault == Fault::ShutdownLosesWhatIsUnderWay {
            self.link.cut();
        }
        self.stream.shutdown();
    }

    fn peer(&self) -> String {
        self.stream.peer()
    }
}
