//! Guests that nobody takes: they run on where they are, and the source says why.
use std::error::Error;
use std::io::IoSlice;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use whimbrel_core::embed::{Cause, Guest as _, GuestError};
use whimbrel_core::layout::{PageSize, RamLayout};
use whimbrel_core::machine::DestinationOutcome;
use whimbrel_core::machine::handoff::Right;
use whimbrel_core::machine::message::{Configuration, Message, MigrationId};
use whimbrel_core::report::Outcome;
use whimbrel_engine::Token;
use whimbrel_engine::destination::{self, DestinationSettings, Incoming, Replica};
use whimbrel_engine::orders::Orders;
use whimbrel_engine::source::{self, SourceSettings};
use whimbrel_engine::stable::{MemoryStore, Role};
use whimbrel_engine::transport::memory::MemoryHub;
use whimbrel_engine::transport::{Connect as _, Listen as _, Stream};
use whimbrel_guest::lab::LabGuest;
use whimbrel_guest::lab::config::LabConfig;
use whimbrel_guest::log::SoftwareLog;
use whimbrel_guest::memory::{Backing, GuestMemory};
use whimbrel_wire::hello::{self, Capabilities, Hello, Versions};
use whimbrel_wire::{Limits, control};

use super::wanted::outgoing;
use super::world::{mib, runs};

/// A source that never says which guest it brings.
#[test]
fn who_speaks_out_of_turn_is_sent_away_at_once() -> Result<(), Box<dyn Error>> {
    let (hub, token) = (MemoryHub::new(), Token::new(b"open sesame")?);
    let (listen, mut there) = (hub.listen()?, DestinationSettings::new(token.clone(), mib(64)));
    // Longer than anybody waits here.
    there.patience = Duration::from_hours(1);
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut host = |_: &Configuration| -> Result<Replica, Cause> { Err("nobody asked for it")? };
        let store = &mut MemoryStore::new(Role::Destination);
        let incoming = Incoming { listen: Arc::new(listen), host: &mut host, store };
        let received = destination::receive(incoming, there, &Orders::new(), &mut ()).expect("somebody came");
        let _ = tell.send((received.outcome, received.why));
    });
    let hello = Hello {
        versions: Versions::SPOKEN,
        role: hello::Role::Control { streams: 1 },
        migration: MigrationId(7),
        capabilities: Capabilities::from_bits(0),
        memory: mib(1),
        token,
    };
    let stream = hub.connector().connect(Duration::from_secs(20))?;
    stream.write(&[IoSlice::new(&hello.encode())])?;
    let state = control::encode(&Message::State(Vec::new()), &Limits::default())?;
    stream.write(&[IoSlice::new(&state)])?;
    let (outcome, why) = told.recv_timeout(Duration::from_mins(1))?;
    assert_eq!(outcome, Some(DestinationOutcome::Gone));
    assert!(why.is_some_and(|why| why.contains("state")));
    Ok(())
}

/// Of a host that has no room, why the source says that its guest stayed.
#[test]
fn a_guest_that_no_host_takes_runs_on_and_the_source_says_why_with_all_causes() -> Result<(), Box<dyn Error>>
{
    let layout = RamLayout::contiguous(mib(4), PageSize::Kib4)?;
    let ram = Arc::new(GuestMemory::new(layout.clone(), Backing::Private)?);
    let mut log = SoftwareLog::new(&layout);
    let mut guest = LabGuest::new(Arc::clone(&ram), LabConfig::default(), Some(Arc::clone(log.bitmap())))?;
    guest.resume()?;
    let hub = MemoryHub::new();
    let token = Token::new(b"open sesame")?;
    let (listen, there) = (hub.listen()?, DestinationSettings::new(token.clone(), mib(64)));
    let receiving = thread::spawn(move || {
        let mut host = |_: &Configuration| -> Result<Replica, Cause> {
            let cause = format!("no vCPU is free, because {}", "x".repeat(2000)).into();
            Err(GuestError::Failed { what: "be built", cause })?
        };
        let store = &mut MemoryStore::new(Role::Destination);
        let incoming = Incoming { listen: Arc::new(listen), host: &mut host, store };
        let mut received = destination::receive(incoming, there, &Orders::new(), &mut ())?;
        received.afterlife.answer(Duration::from_secs(5));
        Ok::<_, destination::DestinationError>(received)
    });
    let store = &mut MemoryStore::new(Role::Source);
    let outgoing = outgoing(ram, (&mut log, &mut guest), &hub, store);
    let settings = SourceSettings::new(MigrationId(7), token);
    let sent = source::send(outgoing, settings, &Orders::new(), &mut ())?;
    assert_eq!((sent.report.outcome, sent.right, sent.settled), (Outcome::Refused, Right::Mine, true));
    // As much of it as a peer takes.
    let why = format!("the guest cannot be built: no vCPU is free, because {}", "x".repeat(900));
    assert!(sent.report.why.contains(&why), "{}", sent.report.why);
    let received = receiving.join().expect("no panic")?;
    let whole = received.why.unwrap_or_default();
    assert!(received.right == Right::Theirs && whole.starts_with(&why) && whole.len() > 2000, "{whole}");

    runs(&guest);
    Ok(())
}

/// A guest, a log and the way to somebody, who does what `there` does with the connection.
fn sent_to(there: fn(Box<dyn Stream>)) -> Result<source::SourceError, Box<dyn Error>> {
    let layout = RamLayout::contiguous(mib(1), PageSize::Kib4)?;
    let ram = Arc::new(GuestMemory::new(layout.clone(), Backing::Private)?);
    let mut log = SoftwareLog::new(&layout);
    let mut guest = LabGuest::new(Arc::clone(&ram), LabConfig::default(), Some(Arc::clone(log.bitmap())))?;
    let hub = MemoryHub::new();
    let listen = hub.listen()?;
    let other = thread::spawn(move || {
        let stream = listen.accept(Duration::from_mins(1)).expect("a listener").expect("somebody comes");
        there(stream);
    });
    let store = &mut MemoryStore::new(Role::Source);
    let outgoing = outgoing(ram, (&mut log, &mut guest), &hub, store);
    let mut settings = SourceSettings::new(MigrationId(7), Token::new(b"open sesame")?);
    settings.patience = Duration::from_millis(200);
    let error = source::send(outgoing, settings, &Orders::new(), &mut ()).expect_err("nobody answers");
    other.join().expect("no panic");
    assert!(store.is_empty(), "room is kept for a record that nobody writes");
    Ok(error)
}

#[test]
fn of_a_peer_without_a_word_it_is_said_what_it_did() -> Result<(), Box<dyn Error>> {
    let silent = sent_to(|stream| {
        // It reads what it is told, and goes when the other has.
        let mut bytes = [0; 64];
        while stream.read(&mut bytes).is_ok_and(|count| count > 0) {}
    })?;
    let cause = silent.source().expect("a cause").to_string();
    assert_eq!(cause, "the peer has not said its first words within 200 ms");
    let gone = sent_to(|stream| {
        let mut bytes = [0; 4];
        assert!(stream.read(&mut bytes).is_ok());
        drop(stream);
    })?;
    let cause = gone.source().expect("a cause").to_string();
    assert!(cause.starts_with("the peer hung up before its first words"), "{cause}");
    Ok(())
}
