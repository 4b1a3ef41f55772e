//! What a peer can make the engine take that means no good: before it has shown the token, with it, and from the other side. The only
//! test of its process, because it counts what is on the heap.
//!
//! Peers are sockets that this program writes to as it likes; what they hold themselves is made before anything is counted.
#![cfg(target_os = "linux")]

/// A destination, and what comes to it.
mod destination;
/// A source, and what it is told.
mod source;

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use whimbrel_core::machine::message::{Message, MigrationId, Section};
use whimbrel_core::units::ByteCount;
use whimbrel_engine::transport::{Address, open};
use whimbrel_guest::heap::Counted;
use whimbrel_wire::hello::{self, Answer, Capabilities, Direction, Hello, PREFIX_LEN, Role, Token, Versions};
use whimbrel_wire::{Limits, control};

#[global_allocator]
static HEAP: Counted = Counted::new();

/// Longer than anything takes, on a machine that has much else to do.
const LONG: Duration = Duration::from_mins(1);

/// A peer that takes nothing for so long takes nothing more.
const STUCK: Duration = Duration::from_millis(500);

const MIB: usize = 1 << 20;
const ID: MigrationId = MigrationId(7);

fn token() -> Token {
    Token::new(b"open sesame").expect("short enough")
}

/// What `act` takes at most, in bytes; and what it gives.
fn counted<T>(act: impl FnOnce() -> T) -> (usize, T) {
    HEAP.begin();
    let before = HEAP.now();
    let done = act();
    (HEAP.most().saturating_sub(before), done)
}

/// A socket of this process.
fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("whimbrel-hostile-{}-{name}", std::process::id()))
}

fn address(path: &Path) -> Address {
    format!("unix:{}", path.display()).parse().expect("an address")
}

fn options() -> open::Options {
    open::Options::default()
}

/// Somebody who comes to this socket.
fn connect(path: &Path) -> UnixStream {
    let begun = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return stream,
            // Its queue is full, for now.
            Err(error) => assert!(begun.elapsed() < LONG, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whoever comes, and is waited for no longer than anything takes.
fn accept(listen: &UnixListener) -> UnixStream {
    listen.set_nonblocking(true).expect("a socket");
    let begun = Instant::now();
    loop {
        match listen.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).expect("a socket");
                stream.set_read_timeout(Some(LONG)).expect("a socket");
                return stream;
            }
            Err(error) => assert!(error.kind() == ErrorKind::WouldBlock && begun.elapsed() < LONG, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn hello(role: Role, migration: MigrationId) -> Vec<u8> {
    let (capabilities, memory) = (Capabilities::from_bits(0), ByteCount::gib(4));
    Hello { versions: Versions::SPOKEN, role, migration, capabilities, memory, token: token() }.encode()
}

/// Comes with these first words, and is answered.
fn introduced(path: &Path, role: Role, migration: MigrationId) -> io::Result<(UnixStream, Answer)> {
    let mut stream = connect(path);
    stream.set_read_timeout(Some(LONG))?;
    stream.write_all(&hello(role, migration))?;
    let mut prefix = [0; PREFIX_LEN];
    stream.read_exact(&mut prefix)?;
    let rest = hello::rest(&prefix, Direction::FromDestination).map_err(io::Error::other)?;
    let mut rest = vec![0; rest];
    stream.read_exact(&mut rest)?;
    Ok((stream, hello::decode_answer(&prefix, &rest).map_err(io::Error::other)?))
}

/// As much state as a frame may have.
fn largest_state() -> Vec<u8> {
    let limits = Limits::default();
    let bytes = vec![7; limits.control.0 as usize - 64];
    let state = vec![Section { kind: "memory".to_owned(), version: 1, bytes }];
    control::encode(&Message::State(state), &limits).expect("within the limits")
}

/// Says this again and again, until nothing more is taken; gives how often.
fn say_on_and_on(stream: &mut UnixStream, what: &[u8], most: usize) -> usize {
    stream.set_write_timeout(Some(STUCK)).expect("a socket");
    (0..most).take_while(|_| stream.write_all(what).is_ok()).count()
}

#[test]
fn nobody_makes_the_engine_take_more_than_is_said() {
    let begun = Instant::now();
    let done = |what: &str| eprintln!("{what}: {:?}", begun.elapsed());
    destination::the_window_of_a_frame_takes_nothing();
    done("windows");
    destination::strangers_are_bounded_and_keep_nobody_out();
    done("strangers");
    #[cfg(feature = "tls")]
    destination::strangers_under_tls_are_bounded();
    done("strangers under TLS");
    destination::states_that_come_too_early_are_left_with_whoever_sends_them();
    done("states");
    destination::who_asks_has_little_to_say();
    done("questions");
    destination::pages_larger_than_is_said_are_refused();
    done("pages");
    source::a_destination_has_little_to_say();
    done("source");
}
