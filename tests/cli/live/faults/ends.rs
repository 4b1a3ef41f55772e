//! What the relay holds of a connection: one end at the source and one at the destination, plain here, and under TLS in `veiled`.

use std::io::{self, Read, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::case::Impostor;

/// One end of what lies between.
pub(super) trait End: Send + Sync {
    /// Nothing at its end.
    fn read(&self, into: &mut [u8]) -> io::Result<usize>;

    fn write_all(&self, bytes: &[u8]) -> io::Result<()>;

    /// Nothing more passes, and nothing is said about it.
    fn cut(&self);

    /// Ends it as whoever has nothing more to say does.
    fn end(&self) {
        self.cut();
    }

    /// Turns a bit of what is given out next: of the chunk itself, or of what it becomes on its way.
    fn spoil(&self, chunk: &mut [u8]) {
        turn(chunk);
    }
}

impl Read for &dyn End {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        End::read(*self, into)
    }
}

/// Sockets that can be read and written through a shared reference.
macro_rules! plain_end {
    ($($socket:ty),*) => {$(
        impl End for $socket {
            fn read(&self, into: &mut [u8]) -> io::Result<usize> {
                (&mut &*self).read(into)
            }

            fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
                (&mut &*self).write_all(bytes)
            }

            fn cut(&self) {
                let _ = self.shutdown(Shutdown::Both);
            }
        }
    )*};
}

plain_end!(TcpStream, UnixStream);

/// Turns a bit, of one of the bytes in the middle.
pub(super) fn turn(chunk: &mut [u8]) {
    let middle = chunk.len() * 2 / 3;
    if let Some(byte) = chunk.get_mut(middle) {
        *byte ^= 0x10;
    }
}

/// Both ends of a connection.
pub(super) type Ends = [Box<dyn End>; 2];

/// Makes up the two ends of a connection that the relay has sockets for; may wait for both sides.
pub(super) type Opening = Box<dyn FnOnce() -> io::Result<Ends> + Send>;

/// The way to the destination.
pub(super) trait Way: Send + Sync {
    /// None if nobody is there, for now.
    fn open(&self, source: TcpStream, impostor: Option<Impostor>) -> Option<Opening>;
}

/// To this Unix socket.
pub(super) struct Plain(pub(super) PathBuf);

impl Way for Plain {
    fn open(&self, source: TcpStream, _: Option<Impostor>) -> Option<Opening> {
        let destination = UnixStream::connect(&self.0).ok()?;
        Some(Box::new(move || Ok([Box::new(source), Box::new(destination)])))
    }
}
