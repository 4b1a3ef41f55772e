//! Plain TCP, over IPv4 and IPv6.
//!
//! Refused beyond this machine unless [`TcpOptions::insecure`] is set, after a name was resolved, because guest memory would go
//! over the network for all to read and change.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::BorrowedFd;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockAddr, TcpKeepalive, Type};
use whimbrel_core::units::ByteCount;

use super::socket::Socket;
use super::{Address, Connect, HostPort, Listen, Stream, TransportError};
use crate::clock::Deadline;

/// Connections that wait to be taken.
const BACKLOG: i32 = 128;

/// How connections over TCP, plain or under TLS, are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// Whether plain TCP may leave the machine. Not by default.
    pub insecure: bool,
    /// A peer whose system acknowledges nothing for so long is lost; 30 s by default. It holds for idle connections (keep-alive)
    /// and for bytes that are under way (`TCP_USER_TIMEOUT`), those that a peer has no room for included: a peer that reads nothing
    /// for so long is lost, too.
    pub lost_after: Duration,
    /// Size of the system's buffer for sending; the system's own rule if none. A large one holds bytes that count
    /// as sent.
    pub send_buffer: Option<ByteCount>,
    /// Size of the system's buffer for receiving; the system's own rule if none.
    pub receive_buffer: Option<ByteCount>,
}

impl Default for TcpOptions {
    fn default() -> Self {
        let lost_after = Duration::from_secs(30);
        Self { insecure: false, lost_after, send_buffer: None, receive_buffer: None }
    }
}

impl TcpOptions {
    /// What has to be set before a connection is made: windows are agreed upon then.
    fn prepare(&self, socket: &socket2::Socket) -> io::Result<()> {
        let size = |count: ByteCount| usize::try_from(count.0).unwrap_or(usize::MAX).min(i32::MAX as usize);
        if let Some(count) = self.send_buffer {
            socket.set_send_buffer_size(size(count))?;
        }
        if let Some(count) = self.receive_buffer {
            socket.set_recv_buffer_size(size(count))?;
        }
        Ok(())
    }

    /// What is set on each connection.
    fn finish(&self, socket: &socket2::Socket) -> io::Result<()> {
        // Frames are handed over whole; one that waits for more to come is only late.
        socket.set_tcp_nodelay(true)?;
        // The first question after a third of the time, then two or three more until it is over.
        let question = (self.lost_after / 3).max(Duration::from_secs(1));
        let between = (self.lost_after / 6).max(Duration::from_secs(1));
        let keepalive = TcpKeepalive::new().with_time(question).with_interval(between).with_retries(4);
        socket.set_tcp_keepalive(&keepalive)?;
        // Elsewhere the questions alone find a peer that is gone, and the drivers' patience one that stalls.
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(self.lost_after.max(Duration::from_millis(1))))?;
        Ok(())
    }
}

/// Makes plain connections to one host.
#[derive(Clone, Debug)]
pub struct TcpConnector {
    to: HostPort,
    options: TcpOptions,
}

impl TcpConnector {
    /// Connections to `to`. Nothing is resolved or connected yet.
    pub fn new(to: HostPort, options: TcpOptions) -> Self {
        Self { to, options }
    }
}

impl Connect for TcpConnector {
    fn connect(&self, within: Duration) -> Result<Box<dyn Stream>, TransportError> {
        let guard = if self.options.insecure { Guard::Anywhere } else { Guard::ThisMachine };
        match dial(&self.to, &self.options, guard, within) {
            Ok((socket, peer)) => Ok(Box::new(TcpStream { socket, peer })),
            Err(cause) => Err(TransportError::new(
                format!("cannot connect to {}", Address::Tcp(self.to.clone())),
                cause,
            )),
        }
    }
}

/// Where connections may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    ThisMachine,
    Anywhere,
}

impl Guard {
    fn check(self, addresses: &[SocketAddr]) -> io::Result<()> {
        let beyond = |address: &&SocketAddr| !address.ip().to_canonical().is_loopback();
        match addresses.iter().find(beyond) {
            Some(address) if self == Self::ThisMachine => {
                let cause = Insecure { address: *address };
                Err(io::Error::new(io::ErrorKind::PermissionDenied, cause))
            }
            _ => Ok(()),
        }
    }
}

/// Plain TCP that would leave the machine.
#[derive(Debug, thiserror::Error)]
#[error(
    "{address} is beyond this machine, and plain TCP can be read and changed on the way: use tls:, or allow it \
     with --insecure on a network that you trust"
)]
struct Insecure {
    address: SocketAddr,
}

/// Connects to the first address of `to` that answers. Each gets its share of the time that is left, so that one that is
/// silent does not take that of the next.
pub(super) fn dial(
    to: &HostPort,
    options: &TcpOptions,
    guard: Guard,
    within: Duration,
) -> io::Result<(Socket, SocketAddr)> {
    let deadline = Deadline::within(Some(within));
    let addresses = resolve(to, within)?;
    guard.check(&addresses)?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (tried, address) in addresses.iter().enumerate() {
        let left = deadline.left().unwrap_or(within);
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(1);
        match dial_one(*address, options, share.max(Duration::from_millis(1))) {
            Ok(socket) => return Ok((socket, *address)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn dial_one(address: SocketAddr, options: &TcpOptions, within: Duration) -> io::Result<Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    options.prepare(&socket)?;
    socket.connect_timeout(&SockAddr::from(address), within)?;
    options.finish(&socket)?;
    Ok(Socket(socket))
}

/// The addresses of a host. A name is looked up on a thread of its own, because the system's resolver takes no deadline; it
/// ends when the resolver does.
fn resolve(host: &HostPort, within: Duration) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, host.port)]);
    }
    let (tell, told) = mpsc::channel();
    let (name, port) = (host.host.clone(), host.port);
    thread::Builder::new().name("resolve".to_owned()).spawn(move || {
        let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect);
        // Nobody waits any more if the time is over.
        let _ = tell.send(found);
    })?;
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the name was not resolved in time");
    told.recv_timeout(within).map_err(late)?
}

/// Takes plain connections.
#[derive(Debug)]
pub struct TcpListener {
    port: Port,
    options: TcpOptions,
}

impl TcpListener {
    /// Listens at `at`; the first of its addresses that can be had.
    ///
    /// # Errors
    ///
    /// [`TransportError`] if it cannot listen there, or if that is beyond this machine and not allowed.
    pub fn bind(at: &HostPort, options: TcpOptions) -> Result<Self, TransportError> {
        let guard = if options.insecure { Guard::Anywhere } else { Guard::ThisMachine };
        let port = Port::bind(at, &options, guard)
            .map_err(|cause| TransportError::new(format!("cannot listen at tcp:{at}"), cause))?;
        Ok(Self { port, options })
    }
}

impl Listen for TcpListener {
    fn accept(&self, within: Duration) -> Result<Option<Box<dyn Stream>>, TransportError> {
        let taken = self.port.accept(&self.options, within).map_err(|cause| {
            TransportError::new(format!("no more connections can be taken at {}", self.address()), cause)
        })?;
        Ok(taken.map(|(socket, peer)| Box::new(TcpStream { socket, peer }) as Box<dyn Stream>))
    }

    fn address(&self) -> String {
        format!("tcp:{}", self.port.local)
    }
}

/// A port that is listened at, for plain TCP and for TLS.
#[derive(Debug)]
pub(super) struct Port {
    socket: Socket,
    pub(super) local: SocketAddr,
}

impl Port {
    pub(super) fn bind(at: &HostPort, options: &TcpOptions, guard: Guard) -> io::Result<Self> {
        // As long as resolvers take to give up.
        let addresses = resolve(at, Duration::from_secs(30))?;
        guard.check(&addresses)?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match Self::bind_one(address, options) {
                Ok(port) => return Ok(port),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn bind_one(address: SocketAddr, options: &TcpOptions) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        options.prepare(&socket)?;
        // A port is free again as soon as its listener is gone, whatever is left of its connections.
        socket.set_reuse_address(true)?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(BACKLOG)?;
        let local = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Self { socket: Socket(socket), local })
    }

    /// Waits for the next connection. One whose options cannot be set is gone already, and passed over.
    pub(super) fn accept(
        &self,
        options: &TcpOptions,
        within: Duration,
    ) -> io::Result<Option<(Socket, SocketAddr)>> {
        let deadline = Deadline::within(Some(within));
        loop {
            let left = deadline.left().unwrap_or(within);
            let Some((socket, peer)) = self.socket.accept(left)? else { return Ok(None) };
            if let (Ok(()), Some(peer)) = (options.finish(&socket.0), peer.as_socket()) {
                return Ok(Some((socket, peer)));
            }
        }
    }
}

#[derive(Debug)]
struct TcpStream {
    socket: Socket,
    peer: SocketAddr,
}

impl Stream for TcpStream {
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.socket.read(into)?;
        if count == 0 && !into.is_empty() {
            // The system would let a writer wait for a peer that has ended and reads nothing any more.
            self.socket.shutdown();
        }
        Ok(count)
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
        format!("tcp:{}", self.peer)
    }
}

#[cfg(test)]
mod tests;
