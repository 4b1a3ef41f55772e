//! A wire between two namespaces that takes time, loses frames, and can be cut.
//!
//! The kernel has `netem` for that, where it was built with it; this is for every kernel. Frames are taken from the end of one
//! veth pair and put into the end of another by packet sockets. What the kernel leaves to a network card is done here: the
//! checksum of TCP.

use std::io::Read as _;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Protocol, SockAddr, Socket, Type};

use super::namespace::Namespace;

/// `AF_PACKET`, and all protocols in the order of the network.
const PACKET: i32 = 17;
const ALL: i32 = 0x0300;

/// How often it is looked whether all is over.
const LOOK: Duration = Duration::from_millis(50);

/// What a wire does to frames.
#[derive(Default)]
struct Shape {
    /// On their way, in either direction.
    delay: Duration,
    /// Of a thousand so many are lost.
    loss: u64,
    cut: AtomicBool,
    over: AtomicBool,
    lost: AtomicU64,
}

/// One end: what is on the other side of a veth pair.
struct End {
    socket: Socket,
    /// Where frames go by this socket; known from the first that comes.
    to: OnceLock<SockAddr>,
}

/// A wire and its threads. Dropped, they end.
pub(crate) struct Wire {
    shape: Arc<Shape>,
    threads: Vec<JoinHandle<()>>,
    _hosts: [Namespace; 2],
}

impl Wire {
    /// Joins two hosts that have the addresses 10.0.0.1 and 10.0.0.2.
    pub(crate) fn between(hosts: [&Namespace; 2], delay: Duration, loss: u64) -> Result<Self, String> {
        let middle = [Namespace::new()?, Namespace::new()?];
        let mut ends = Vec::new();
        for (host, end) in hosts.into_iter().zip(&middle) {
            host.join(end)?;
            let socket = end.within(|| Socket::new(PACKET.into(), Type::RAW, Some(Protocol::from(ALL))))?;
            let socket = socket.map_err(|error| format!("a packet socket: {error}"))?;
            socket.set_read_timeout(Some(LOOK)).map_err(|error| error.to_string())?;
            // As many as a long wire holds; less is a wire that loses more.
            let _ = socket.set_recv_buffer_size(8 << 20);
            ends.push(Arc::new(End { socket, to: OnceLock::new() }));
        }
        let shape = Arc::new(Shape { delay, loss, ..Shape::default() });
        let mut wire = Self { shape, threads: Vec::new(), _hosts: middle };
        for (from, to) in [(0, 1), (1, 0)] {
            let (tell, frames) = channel();
            let (shape, end) = (Arc::clone(&wire.shape), Arc::clone(&ends[from]));
            wire.threads.push(thread::spawn(move || take(&end, &shape, &tell)));
            let (shape, end) = (Arc::clone(&wire.shape), Arc::clone(&ends[to]));
            wire.threads.push(thread::spawn(move || put(&end, &shape, &frames)));
        }
        for (number, host) in [1, 2].into_iter().zip(hosts) {
            host.run(&format!("ip address add 10.0.0.{number}/24 dev eth0"))?;
        }
        wake(hosts, &ends).map(|()| wire)
    }

    /// From now on nothing comes through, what is on its way included.
    pub(crate) fn cut(&self) {
        self.shape.cut.store(true, Ordering::SeqCst);
    }

    /// It carries again.
    pub(crate) fn mend(&self) {
        self.shape.cut.store(false, Ordering::SeqCst);
    }

    /// Frames that were lost.
    pub(crate) fn lost(&self) -> u64 {
        self.shape.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shape.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Has both hosts say something.
fn wake(hosts: [&Namespace; 2], ends: &[Arc<End>]) -> Result<(), String> {
    let begun = Instant::now();
    while ends.iter().any(|end| end.to.get().is_none()) {
        for (host, other) in hosts.into_iter().zip(["10.0.0.2:9", "10.0.0.1:9"]) {
            let said = host.within(|| UdpSocket::bind("0.0.0.0:0")?.send_to(&[0], other))?;
            said.map_err(|error| format!("{other}: {error}"))?;
        }
        if begun.elapsed() > Duration::from_mins(1) {
            return Err("nothing comes by the wire".into());
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// Takes frames from this end.
fn take(end: &End, shape: &Shape, tell: &Sender<(Instant, Vec<u8>)>) {
    let (mut frame, mut count) = (vec![0; 1 << 16], 0_u64);
    while !shape.over.load(Ordering::Relaxed) {
        if end.to.get().is_none() {
            let Ok(from) = end.socket.peek_sender() else { continue };
            let _ = end.to.set(from);
        }
        let Ok(len) = (&end.socket).read(&mut frame) else { continue };
        count += 1;
        // Without a pattern, and the same each time.
        let luck = count.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(24) % 1000;
        if luck < shape.loss || shape.cut.load(Ordering::SeqCst) {
            shape.lost.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let mut frame = frame[..len].to_vec();
        complete(&mut frame);
        if tell.send((Instant::now() + shape.delay, frame)).is_err() {
            return;
        }
    }
}

/// Puts frames into this end when it is time.
fn put(end: &End, shape: &Shape, frames: &Receiver<(Instant, Vec<u8>)>) {
    for (due, frame) in frames {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        match end.to.get() {
            Some(to) if !shape.cut.load(Ordering::SeqCst) => {
                // What does not fit is lost, as on any wire.
                let _ = end.socket.send_to(&frame, to);
            }
            _ => {
                shape.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Where things are in a frame: IPv4 behind Ethernet.
const IP: usize = 14;
const TCP_CHECKSUM: usize = 16;

/// Computes the checksum of a TCP segment, which the kernel leaves to the card.
fn complete(frame: &mut [u8]) {
    if frame.len() < IP + 20 || frame[12..14] != [8, 0] || frame[IP + 9] != 6 {
        return;
    }
    let header = usize::from(frame[IP] & 15) * 4;
    let end = IP + usize::from(u16::from_be_bytes([frame[IP + 2], frame[IP + 3]]));
    let tcp = IP + header;
    if end > frame.len() || end < tcp + 20 {
        return;
    }
    frame[tcp + TCP_CHECKSUM..tcp + TCP_CHECKSUM + 2].fill(0);
    let words = |bytes: &[u8]| {
        let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        bytes.chunks(2).map(word).sum::<u32>()
    };
    // Both addresses, the protocol and the length come with it.
    let mut sum = words(&frame[IP + 12..IP + 20]) + 6 + (end - tcp) as u32 + words(&frame[tcp..end]);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = !(sum as u16);
    frame[tcp + TCP_CHECKSUM..tcp + TCP_CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
}
