//! Sources that come again before they were told how it ended.
use std::error::Error;
use std::io::IoSlice;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use whimbrel_core::embed::Cause;
use whimbrel_core::layout::{PageSize, RamLayout};
use whimbrel_core::machine::handoff::{HandoffMessage, Standing};
use whimbrel_core::machine::message::{Configuration, Message, MigrationId};
use whimbrel_engine::Token;
use whimbrel_engine::destination::{self, DestinationSettings, Incoming, Replica};
use whimbrel_engine::orders::Orders;
use whimbrel_engine::stable::{MemoryStore, Role};
use whimbrel_engine::transport::memory::MemoryHub;
use whimbrel_engine::transport::{Connect as _, Stream};
use whimbrel_wire::frame::{FrameHeader, FrameKind, HEADER_LEN};
use whimbrel_wire::hello::{self, Capabilities, Direction, Hello, PREFIX_LEN, Versions};
use whimbrel_wire::{Limits, control};

use super::world::mib;

/// Longer than anything takes.
const LONG: Duration = Duration::from_mins(1);

fn read<const N: usize>(stream: &dyn Stream) -> std::io::Result<[u8; N]> {
    let (mut bytes, mut done) = ([0; N], 0);
    while done < N {
        match stream.read(&mut bytes[done..])? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => done += count,
        }
    }
    Ok(bytes)
}

/// A connection that was welcomed.
fn comes(hub: &MemoryHub, role: hello::Role) -> Result<Box<dyn Stream>, Box<dyn Error>> {
    let stream = hub.connector().connect(LONG)?;
    let (versions, migration, capabilities) = (Versions::SPOKEN, MigrationId(7), Capabilities::from_bits(0));
    let token = Token::new(b"open sesame")?;
    let hello = Hello { versions, role, migration, capabilities, memory: mib(1), token };
    stream.write(&[IoSlice::new(&hello.encode())])?;
    let prefix = read::<PREFIX_LEN>(&*stream)?;
    let mut rest = vec![0; hello::rest(&prefix, Direction::FromDestination)?];
    for byte in &mut rest {
        [*byte] = read(&*stream)?;
    }
    hello::decode_answer(&prefix, &rest)??;
    Ok(stream)
}

fn says(stream: &dyn Stream, message: &Message) -> Result<(), Box<dyn Error>> {
    stream.write(&[IoSlice::new(&control::encode(message, &Limits::default())?)])?;
    Ok(())
}

/// The next message.
fn hears(stream: &dyn Stream) -> Result<Message, Box<dyn Error>> {
    loop {
        let header = FrameHeader::decode(&read::<HEADER_LEN>(stream)?, &Limits::default())?;
        let mut body = vec![0; header.length as usize];
        for byte in &mut body {
            [*byte] = read(stream)?;
        }
        if header.kind == FrameKind::Control {
            return Ok(control::decode(&body, &Limits::default())?);
        }
    }
}

/// The destination is slow, so its source hangs up and comes again; that it has hung up is no word that it needs no answer.
fn one_that_comes_again_is_told() -> Result<(), Box<dyn Error>> {
    let hub = MemoryHub::new();
    let (listen, there) = (hub.listen()?, DestinationSettings::new(Token::new(b"open sesame")?, mib(64)));
    let ((begun, builds), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel());
    let receiving = thread::spawn(move || {
        let mut host = |_: &Configuration| -> Result<Replica, Cause> {
            begun.send(())?;
            may_go_on.recv()?;
            Err("there is no room".into())
        };
        let store = &mut MemoryStore::new(Role::Destination);
        let incoming = Incoming { listen: Arc::new(listen), host: &mut host, store };
        let received = destination::receive(incoming, there, &Orders::new(), &mut ());
        received.map(|mut received| received.afterlife.answer(LONG))
    });
    let first = comes(&hub, hello::Role::Control { streams: 1 })?;
    let layout = RamLayout::contiguous(mib(1), PageSize::Kib4)?;
    let configuration = Configuration { id: MigrationId(7), name: "lab".to_owned(), layout, vcpus: 1 };
    says(&*first, &Message::Configure(Arc::new(configuration)))?;
    builds.recv_timeout(LONG)?;
    drop(first);
    let again = comes(&hub, hello::Role::Again)?;
    // It was welcomed, and arrives a moment later.
    thread::sleep(Duration::from_millis(50));
    go_on.send(())?;
    says(&*again, &Message::handoff(HandoffMessage::Ask))?;
    let told = hears(&*again)?;
    let gone = HandoffMessage::Answer(Standing::Gone);
    assert!(matches!(told, Message::Handoff { message, .. } if message == gone), "{told:?}");
    drop(again);
    assert!(receiving.join().expect("no panic")?, "it has hung up");
    Ok(())
}

#[test]
fn a_source_that_hangs_up_and_comes_again_is_told_how_it_ended() {
    // Which of the two is seen first is left to chance.
    for _ in 0..8 {
        one_that_comes_again_is_told().expect("it is told");
    }
}
