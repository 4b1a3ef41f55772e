//! TLS on both sides of the relay, which both take for their peer: it has the keys of both. Below each of its two TLS connections lies
//! one more that carries what nobody can read, and turns a bit of it or cuts it anywhere.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use whimbrel::engine::transport::keys::{Keygen, Kind, keygen};
use whimbrel::engine::transport::open::{Options, connector, listener};
use whimbrel::engine::transport::tls::{Fingerprint, Identity, Tls, Trust};
use whimbrel::engine::transport::{Address, Stream};

use super::case::Impostor;
use super::ends::{End, Opening, Way, turn};

/// Longer than it takes to make a connection, on a machine that has much else to do.
const LONG: Duration = Duration::from_secs(20);

/// The keys of both sides and of a stranger, which the relay shows as it likes.
#[derive(Clone)]
pub(super) struct Keys {
    here: (Identity, Fingerprint),
    there: (Identity, Fingerprint),
    stranger: Identity,
}

impl Keys {
    /// Made in this directory: `here`, `there` and `stranger`.
    pub(super) fn new(directory: &Path) -> Self {
        let make = |name: &str| {
            let kind = Kind::Host { names: vec!["localhost".to_owned()] };
            let (directory, name) = (directory.to_owned(), name.to_owned());
            let made = keygen(&Keygen { directory, name, kind, days: 1, overwrite: false }).expect("a key");
            let identity = Identity::from_files(&made.certificate, &made.key).expect("a key");
            (identity, made.fingerprint)
        };
        Self { here: make("here"), there: make("there"), stranger: make("stranger").0 }
    }

    /// What a side is told on its command line.
    pub(super) fn args(&self, name: &str) -> Vec<String> {
        let peer = if name == "here" { &self.there.1 } else { &self.here.1 };
        let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
        ["--tls-cert", &certificate, "--tls-key", &key, "--tls-peer", &peer.to_string()]
            .map(str::to_owned)
            .to_vec()
    }

    fn options(&self, as_the_source: bool, is_impostor: bool) -> Options {
        let (own, peer) = if as_the_source { (&self.here, &self.there) } else { (&self.there, &self.here) };
        let own = if is_impostor { &self.stranger } else { &own.0 };
        let tls = Tls::new(own.clone(), Trust::pinned([peer.1]));
        Options { tls: Some(tls), ..Options::default() }
    }
}

/// What lies under a TLS connection.
struct Wire {
    /// At the process, and at the relay.
    ends: [TcpStream; 2],
    /// A bit of the next that goes to the process is turned.
    spoiled: AtomicBool,
}

impl Wire {
    fn start(process: TcpStream, relay: TcpStream) -> Arc<Self> {
        let wire = Arc::new(Self { ends: [process, relay], spoiled: AtomicBool::new(false) });
        for to_the_process in [true, false] {
            let wire = Arc::clone(&wire);
            thread::spawn(move || {
                if wire.carry(to_the_process).is_err() {
                    wire.cut();
                }
            });
        }
        wire
    }

    fn carry(&self, to_the_process: bool) -> io::Result<()> {
        let [process, relay] = &self.ends;
        let (from, to) = if to_the_process { (relay, process) } else { (process, relay) };
        let mut chunk = vec![0; 64 << 10];
        loop {
            match from.read(&mut chunk)? {
                0 => return to.shutdown(Shutdown::Write),
                count => {
                    let chunk = &mut chunk[..count];
                    if to_the_process && self.spoiled.swap(false, Ordering::Relaxed) {
                        turn(chunk);
                    }
                    to.write_all(chunk)?;
                }
            }
        }
    }

    fn cut(&self) {
        for end in &self.ends {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

/// One end under TLS.
struct Veiled {
    stream: Box<dyn Stream>,
    wire: Arc<Wire>,
}

fn tls(at: SocketAddr) -> Address {
    format!("tls:{at}").parse().expect("an address")
}

impl Veiled {
    /// What the source has connected to.
    fn of_the_source(raw: TcpStream, keys: &Keys, impostor: Option<Impostor>) -> io::Result<Self> {
        let is_impostor = impostor.is_some_and(|impostor| impostor.to_the_source);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listen = listener(&tls(any), &keys.options(false, is_impostor)).map_err(io::Error::other)?;
        let at = listen.address();
        let relay = TcpStream::connect(at.trim_start_matches("tls:"))?;
        let stream = listen.accept(LONG).map_err(io::Error::other)?.ok_or(io::ErrorKind::TimedOut)?;
        Ok(Self { stream, wire: Wire::start(raw, relay) })
    }

    /// Connects to the destination.
    fn of_the_destination(raw: TcpStream, keys: &Keys, impostor: Option<Impostor>) -> io::Result<Self> {
        let is_impostor = impostor.is_some_and(|impostor| !impostor.to_the_source);
        let own = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let to =
            connector(&tls(own.local_addr()?), &keys.options(true, is_impostor)).map_err(io::Error::other)?;
        let wire = thread::spawn(move || Ok::<_, io::Error>(Wire::start(raw, own.accept()?.0)));
        let stream = to.connect(LONG).map_err(io::Error::other)?;
        let wire = wire.join().expect("no panic")?;
        Ok(Self { stream, wire })
    }
}

impl End for Veiled {
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.read(into)
    }

    fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.stream.write(&[IoSlice::new(bytes)])?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    fn cut(&self) {
        self.wire.cut();
        self.stream.shutdown();
    }

    fn end(&self) {
        self.stream.shutdown();
    }

    fn spoil(&self, _: &mut [u8]) {
        self.wire.spoiled.store(true, Ordering::Relaxed);
    }
}

/// To this address, over TLS.
pub(super) struct Tunnel {
    pub(super) to: SocketAddr,
    pub(super) keys: Keys,
}

impl Way for Tunnel {
    fn open(&self, source: TcpStream, impostor: Option<Impostor>) -> Option<Opening> {
        let destination = TcpStream::connect(self.to).ok()?;
        let keys = self.keys.clone();
        Some(Box::new(move || {
            let source = Veiled::of_the_source(source, &keys, impostor)?;
            let destination = Veiled::of_the_destination(destination, &keys, impostor)?;
            Ok([Box::new(source), Box::new(destination)])
        }))
    }
}
