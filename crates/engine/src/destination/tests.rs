use std::io::IoSlice;

use whimbrel_core::machine::message::MigrationId;
use whimbrel_wire::hello::{Capabilities, Role};

use super::*;
use crate::hello::Introduction;
use crate::stable::{self, MemoryStore};
use crate::transport::Stream;
use crate::transport::memory::MemoryHub;

/// Connections to which the system gives what first words take, and no more.
struct Meagre(Box<dyn Listen>);

struct MeagreStream(Box<dyn Stream>);

impl Listen for Meagre {
    fn accept(&self, within: Duration) -> Result<Option<Box<dyn Stream>>, TransportError> {
        Ok(self.0.accept(within)?.map(|stream| Box::new(MeagreStream(stream)) as _))
    }

    fn address(&self) -> String {
        self.0.address()
    }
}

impl Stream for MeagreStream {
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write(parts)
    }

    fn set_patience(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        if read >= Some(PATIENCE) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.0.set_patience(read, write)
    }

    fn shutdown(&self) {
        self.0.shutdown();
    }

    fn peer(&self) -> String {
        self.0.peer()
    }
}

/// Its place is taken then: nobody else could come.
#[test]
fn a_destination_that_cannot_listen_to_its_source_says_so_and_does_not_wait_for_others() {
    let (hub, token) = (MemoryHub::new(), Token::new(b"open sesame").unwrap());
    let listen = Arc::new(Meagre(Box::new(hub.listen().unwrap())));
    let settings = DestinationSettings::new(token.clone(), ByteCount::mib(64));
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut host = |_: &Configuration| -> Result<Replica, Cause> { Err("nobody asked for it")? };
        let store = &mut MemoryStore::new(stable::Role::Destination);
        let received =
            receive(Incoming { listen, host: &mut host, store }, settings, &Orders::new(), &mut ());
        let _ = tell.send(received.err());
    });
    let capabilities = Capabilities::from_bits(0);
    let source = Introduction { id: MigrationId(7), token, memory: ByteCount::mib(1), capabilities };
    let minute = Duration::from_mins(1);
    let control = source.connect(&hub.connector(), Role::Control { streams: 1 }, minute);
    let error = told.recv_timeout(minute).expect("it ends");
    assert!(matches!(error, Some(DestinationError::Thread(_))), "{error:?}");
    drop(control);
}
