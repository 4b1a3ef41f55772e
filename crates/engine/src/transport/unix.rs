//! Unix sockets: two processes of one machine, kept apart from others by the permissions of a file.

use std::fs::{self, File, Permissions};
use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Type};

use super::socket::{Socket, is_timeout};
use super::{Connect, Listen, Stream, TransportError};
use crate::clock::Deadline;

/// Connections that wait to be taken.
const BACKLOG: i32 = 128;

/// How long somebody who listens at a path has to answer before it counts as occupied anyway.
const ANSWER: Duration = Duration::from_secs(1);

/// Makes connections to one path.
#[derive(Clone, Debug)]
pub struct UnixConnector {
    to: PathBuf,
}

impl UnixConnector {
    /// Connections to the socket at `to`. Nothing is connected yet.
    pub fn new(to: impl Into<PathBuf>) -> Self {
        Self { to: to.into() }
    }
}

impl Connect for UnixConnector {
    fn connect(&self, within: Duration) -> Result<Box<dyn Stream>, TransportError> {
        let peer = format!("unix:{}", self.to.display());
        match dial(&self.to, within) {
            Ok(socket) => Ok(Box::new(UnixStream { socket, peer })),
            Err(cause) => Err(TransportError::new(format!("cannot connect to {peer}"), cause)),
        }
    }
}

fn dial(to: &Path, within: Duration) -> io::Result<Socket> {
    let address = SockAddr::unix(to)?;
    let socket = Socket(socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?);
    let deadline = Deadline::within(Some(within));
    loop {
        // A queue that is full is waited for as long as a write may take.
        socket.set_patience(None, deadline.left())?;
        match socket.0.connect(&address) {
            Ok(()) => break,
            Err(error) if is_timeout(&error) && deadline.over() => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody took the connection"));
            }
            Err(error) if is_timeout(&error) || error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    socket.set_patience(None, None)?;
    Ok(socket)
}

/// Takes connections at a path. The file goes when it is dropped.
#[derive(Debug)]
pub struct UnixListener {
    socket: Socket,
    path: PathBuf,
    /// Device and inode of the file, so that no other is removed in its place.
    file: (u64, u64),
}

impl UnixListener {
    /// Listens at `path`, where only this user can connect (mode 0600). A socket that is there and at which nobody listens is
    /// replaced; anything else is left alone.
    ///
    /// # Errors
    ///
    /// [`TransportError`] if it cannot listen there.
    pub fn bind(path: impl Into<PathBuf>) -> Result<Self, TransportError> {
        let path = path.into();
        Self::bind_at(&path)
            .map_err(|cause| TransportError::new(format!("cannot listen at unix:{}", path.display()), cause))
    }

    fn bind_at(path: &Path) -> io::Result<Self> {
        let address = SockAddr::unix(path)?;
        let socket = private_socket()?;
        match socket.bind(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path)?;
                socket.bind(&address)?;
            }
            result => result?,
        }
        let file = identity(path)?;
        let listener = Self { socket: Socket(socket), path: path.to_owned(), file };
        listener.socket.0.listen(BACKLOG)?;
        Ok(listener)
    }
}

/// A socket whose file will be this user's alone. Linux makes the file with the mode of the socket, so there is no moment in
/// which others could connect.
fn private_socket() -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let file = File::from(OwnedFd::from(socket));
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(socket2::Socket::from(OwnedFd::from(file)))
}

/// Removes a socket that nobody listens at.
fn remove_stale(path: &Path) -> io::Result<()> {
    let occupied = |what: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, what.to_owned()));
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return occupied("there is a file that is no socket; it is left alone");
    }
    match dial(path, ANSWER) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => occupied("somebody listens there already"),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

impl Drop for UnixListener {
    fn drop(&mut self) {
        // It may have been removed, and another put in its place, by somebody else.
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Listen for UnixListener {
    fn accept(&self, within: Duration) -> Result<Option<Box<dyn Stream>>, TransportError> {
        let taken = self.socket.accept(within).map_err(|cause| {
            TransportError::new(format!("no more connections can be taken at {}", self.address()), cause)
        })?;
        Ok(taken.map(|(socket, _)| {
            Box::new(UnixStream { socket, peer: format!("a process at {}", self.address()) })
                as Box<dyn Stream>
        }))
    }

    fn address(&self) -> String {
        format!("unix:{}", self.path.display())
    }
}

#[derive(Debug)]
struct UnixStream {
    socket: Socket,
    peer: String,
}

impl Stream for UnixStream {
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.socket.read(into)
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.socket.write(parts)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.descriptor())
    }

    fn set_patience(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        self.socket.set_patience(read, write)
    }

    fn shutdown(&self) {
        self.socket.shutdown();
    }

    fn peer(&self) -> String {
        self.peer.clone()
    }
}

#[cfg(test)]
mod tests;
