//! What the relay holds of a connection: one end at the source and one at the destination, plain or under TLS.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::case::Impostor;
#[cfg(feature = "tls")]
use super::veiled::{Keys, Veiled};

/// Where the destination is, and how it is spoken with.
#[derive(Clone)]
pub(super) enum To {
    Plain(PathBuf),
    #[cfg(feature = "tls")]
    Tls(SocketAddr, Keys),
    #[cfg(not(feature = "tls"))]
    #[allow(dead_code)] // Nobody makes one.
    Tls(SocketAddr),
}

/// One end of what lies between.
pub(super) enum End {
    Tcp(TcpStream),
    Unix(UnixStream),
    #[cfg(feature = "tls")]
    Tls(Veiled),
}

impl End {
    /// None at its end.
    pub(super) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).read(into),
            Self::Unix(stream) => (&*stream).read(into),
            #[cfg(feature = "tls")]
            Self::Tls(veiled) => veiled.read(into),
        }
    }

    pub(super) fn read_exact(&self, mut into: &mut [u8]) -> io::Result<()> {
        while !into.is_empty() {
            match self.read(into) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => into = &mut into[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => (&*stream).write_all(bytes),
            Self::Unix(stream) => (&*stream).write_all(bytes),
            #[cfg(feature = "tls")]
            Self::Tls(veiled) => veiled.write_all(bytes),
        }
    }

    /// Nothing more passes, and nothing is said about it.
    pub(super) fn cut(&self) {
        match self {
            Self::Tcp(stream) => drop(stream.shutdown(Shutdown::Both)),
            Self::Unix(stream) => drop(stream.shutdown(Shutdown::Both)),
            #[cfg(feature = "tls")]
            Self::Tls(veiled) => veiled.cut(),
        }
    }

    /// Ends it as whoever has nothing more to say does.
    pub(super) fn end(&self) {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(veiled) => veiled.end(),
            _ => self.cut(),
        }
    }

    /// Turns a bit of what is given out next: of the chunk itself, or of what it becomes under TLS.
    pub(super) fn spoil(&self, chunk: &mut [u8]) {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(veiled) => veiled.spoil(),
            _ => turn(chunk),
        }
    }
}

/// Turns a bit, of one of the bytes in the middle.
pub(super) fn turn(chunk: &mut [u8]) {
    let middle = chunk.len() * 2 / 3;
    if let Some(byte) = chunk.get_mut(middle) {
        *byte ^= 0x10;
    }
}

/// A connection of the source's, on its way to the destination.
pub(super) struct Opening {
    source: TcpStream,
    to: Destination,
    impostor: Option<Impostor>,
}

enum Destination {
    Plain(UnixStream),
    #[cfg(feature = "tls")]
    Tls(TcpStream, Keys),
}

impl Opening {
    /// None if nobody is there, for now.
    pub(super) fn begin(source: TcpStream, to: &To, impostor: Option<Impostor>) -> Option<Self> {
        let to = match to {
            To::Plain(path) => Destination::Plain(UnixStream::connect(path).ok()?),
            #[cfg(feature = "tls")]
            To::Tls(at, keys) => Destination::Tls(TcpStream::connect(at).ok()?, keys.clone()),
            #[cfg(not(feature = "tls"))]
            To::Tls(_) => return None,
        };
        Some(Self { source, to, impostor })
    }

    /// Its two ends. Whoever makes up a TLS connection is waited for.
    pub(super) fn finish(self) -> io::Result<(End, End)> {
        match self.to {
            Destination::Plain(destination) => Ok((End::Tcp(self.source), End::Unix(destination))),
            #[cfg(feature = "tls")]
            Destination::Tls(destination, keys) => {
                let source = Veiled::of_the_source(self.source, &keys, self.impostor)?;
                let destination = Veiled::of_the_destination(destination, &keys, self.impostor)?;
                Ok((End::Tls(source), End::Tls(destination)))
            }
        }
    }
}
