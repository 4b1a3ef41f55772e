//! Sources that know the token, take a place, say that they are there, and do nothing with it: they are sent away.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use whimbrel_core::layout::{PageSize, RamLayout};
use whimbrel_core::machine::DestinationOutcome;
use whimbrel_core::machine::message::{Configuration, Message, MigrationId};
use whimbrel_engine::destination::{self, DestinationSettings, Incoming};
use whimbrel_engine::orders::Orders;
use whimbrel_engine::stable::{MemoryStore, Role};
use whimbrel_engine::transport::memory::MemoryHub;
use whimbrel_engine::transport::{Connect as _, Stream};
use whimbrel_guest::lab::config::LabConfig;
use whimbrel_wire::frame::{FrameHeader, FrameKind, checksum, ping};
use whimbrel_wire::hello::{self, Capabilities, Hello, Token, Versions};
use whimbrel_wire::{Limits, control};

use super::wanted::replica;
use super::world::mib;

/// How far it goes before it only says that it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stalls {
    BeforeTheGuest,
    BeforeItsPages,
    InAFrameOfPages,
    InAMessage,
    BehindThePages,
}

/// Gives what is left of a frame, a byte at a time.
fn drop_by_drop(stream: &dyn Stream, bytes: &[u8], patience: Duration, over: &AtomicBool) {
    for byte in bytes {
        if over.load(Ordering::Relaxed) || stream.write(&[IoSlice::new(&[*byte])]).is_err() {
            return;
        }
        thread::sleep(patience / 8);
    }
}

fn say(stream: &dyn Stream, bytes: &[u8]) {
    // Whoever was sent away has no more to say.
    let _ = stream.write(&[IoSlice::new(bytes)]);
}

/// Plays the source until the destination has had enough.
fn stall(hub: &MemoryHub, token: &Token, stalls: Stalls, patience: Duration, over: &AtomicBool) {
    let within = Duration::from_secs(20);
    let connection = |role| {
        let stream = hub.connector().connect(within).expect("somebody listens");
        let hello = Hello {
            versions: Versions::SPOKEN,
            role,
            migration: MigrationId(7),
            capabilities: Capabilities::from_bits(0),
            memory: mib(1),
            token: token.clone(),
        };
        say(&*stream, &hello.encode());
        assert!(stream.read(&mut [0; 64]).expect("a welcome") > 0);
        stream
    };
    let stream = connection(hello::Role::Control { streams: 1 });
    let pages = (stalls > Stalls::BeforeItsPages).then(|| connection(hello::Role::Pages { stream: 0 }));
    let limits = Limits::default();
    if stalls > Stalls::BeforeTheGuest {
        let layout = RamLayout::contiguous(mib(1), PageSize::Kib4).expect("a layout");
        let configuration = Configuration { id: MigrationId(7), name: "lab".to_owned(), layout, vcpus: 1 };
        let message = Message::Configure(Arc::new(configuration));
        say(&*stream, &control::encode(&message, &limits).expect("a message"));
    }
    thread::scope(|scope| {
        if stalls == Stalls::InAMessage {
            let refuse = Message::Refuse { reason: "x".repeat(1000) };
            let frame = control::encode(&refuse, &limits).expect("a message");
            return drop_by_drop(&*stream, &frame, patience, over);
        }
        if let (Stalls::InAFrameOfPages, Some(pages)) = (stalls, &pages) {
            scope.spawn(|| {
                let (table, kind) = ([0; 16], FrameKind::Pages);
                let checksum = checksum(&table);
                let header =
                    FrameHeader { kind, entries: 1, length: 16 + 4096, checksum, payload_checked: false };
                say(&**pages, &header.encode());
                drop_by_drop(&**pages, &table, patience, over);
            });
        }
        // Whoever is not sent away hangs up some day, and that is told as something else.
        let until = Instant::now() + Duration::from_mins(1);
        while !over.load(Ordering::Relaxed) && Instant::now() < until {
            say(&*stream, &ping());
            thread::sleep(patience / 8);
        }
    });
}

/// What the destination says of such a source.
fn said_of(stalls: Stalls, time_limit: Option<Duration>) -> String {
    let (hub, token) = (MemoryHub::new(), Token::new(b"open sesame").expect("short enough"));
    let (listen, over) = (hub.listen().expect("nobody listens yet"), AtomicBool::new(false));
    let mut there = DestinationSettings::new(token.clone(), mib(64));
    there.patience = Duration::from_millis(400);
    there.time_limit = time_limit;
    let patience = there.patience;
    thread::scope(|scope| {
        scope.spawn(|| stall(&hub, &token, stalls, patience, &over));
        let mut host = |wanted: &Configuration| replica(wanted, LabConfig::default());
        let store = &mut MemoryStore::new(Role::Destination);
        let incoming = Incoming { listen: Arc::new(listen), host: &mut host, store };
        let received = destination::receive(incoming, there, &Orders::new(), &mut ()).expect("somebody came");
        over.store(true, Ordering::Relaxed);
        assert_eq!(received.outcome, Some(DestinationOutcome::Gone), "{stalls:?}");
        received.why.unwrap_or_default()
    })
}

#[test]
fn a_source_that_only_says_that_it_is_there_is_sent_away_at_each_step() {
    for (stalls, why) in [
        (Stalls::BeforeTheGuest, "no guest was configured within 400 ms"),
        (Stalls::BeforeItsPages, "0 of 1 page connections came within 400 ms"),
        (Stalls::InAFrameOfPages, "page stream 0: a frame is not whole after 400 ms"),
        (Stalls::InAMessage, "control: a message is not whole after 400 ms"),
    ] {
        let said = said_of(stalls, None);
        assert!(said.contains(why), "{stalls:?}: {said}");
    }
}

#[test]
fn whoever_has_a_time_limit_waits_no_longer_for_a_replica() {
    let said = said_of(Stalls::BehindThePages, Some(Duration::from_millis(600)));
    assert!(said.contains("not complete within the time limit of 600 ms"), "{said}");
}
