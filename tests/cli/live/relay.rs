//! What lies between two processes and loses what it is told to: the only way to stop a move between two of its last steps.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use whimbrel::core::machine::handoff::HandoffMessage;
use whimbrel::core::machine::message::Message;
use whimbrel::wire::hello::Direction;

use super::conversation::{Frame, first_words, next_frame};

/// Carries connections on to a Unix socket, but nothing that the destination says from `lost` on.
pub(crate) struct Relay {
    pub(crate) address: String,
    state: Arc<State>,
}

struct State {
    to: PathBuf,
    lost: HandoffMessage,
    /// Whether it still loses that.
    losing: AtomicBool,
    has_lost: (Mutex<bool>, Condvar),
}

impl Relay {
    pub(crate) fn start(to: PathBuf, lost: HandoffMessage) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("tcp:{}", listener.local_addr().expect("an address"));
        let state =
            State { to, lost, losing: AtomicBool::new(true), has_lost: (Mutex::new(false), Condvar::new()) };
        let state = Arc::new(state);
        let of_relay = Arc::clone(&state);
        // Ends with the process of the test.
        thread::spawn(move || {
            for source in listener.incoming().flatten() {
                // Nobody is there, for now.
                let Ok(destination) = UnixStream::connect(&of_relay.to) else { continue };
                carry(source, destination, &of_relay);
            }
        });
        Self { address, state }
    }

    /// Waits until it has lost the message.
    pub(crate) fn wait(&self) {
        let (lost, told) = &self.state.has_lost;
        let lost = lost.lock().expect("no panic");
        let waited = told.wait_timeout_while(lost, Duration::from_mins(1), |lost| !*lost).expect("no panic");
        assert!(*waited.0, "it never came");
    }

    /// From now on everything is carried; the connection that was lost from ends.
    pub(crate) fn heal(&self) {
        self.state.losing.store(false, Ordering::Relaxed);
    }
}

fn carry(source: TcpStream, destination: UnixStream, state: &Arc<State>) {
    let (mut from, mut to) =
        (source.try_clone().expect("a clone"), destination.try_clone().expect("a clone"));
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let state = Arc::clone(state);
    thread::spawn(move || {
        let _ = answers(&source, destination, &state);
        let _ = source.shutdown(Shutdown::Both);
    });
}

/// Carries what the destination says, frame by frame.
fn answers(mut source: &TcpStream, mut destination: UnixStream, state: &State) -> std::io::Result<()> {
    let (prefix, rest) = first_words(&mut destination, Direction::FromDestination)?;
    source.write_all(&[&prefix[..], &rest].concat())?;
    while let Some(Frame { bytes, message }) = next_frame(&mut destination)? {
        let is_lost = state.losing.load(Ordering::Relaxed)
            && matches!(message, Some(Message::Handoff { message, .. }) if message == state.lost);
        if is_lost {
            *state.has_lost.0.lock().expect("no panic") = true;
            state.has_lost.1.notify_all();
            return swallow(&mut destination, state);
        }
        source.write_all(&bytes)?;
    }
    Ok(())
}

/// Hears what nobody is told, until the destination hangs up or nothing is lost any more.
fn swallow(destination: &mut UnixStream, state: &State) -> std::io::Result<()> {
    destination.set_read_timeout(Some(Duration::from_millis(10)))?;
    let mut heard = [0; 4096];
    while state.losing.load(Ordering::Relaxed) {
        match destination.read(&mut heard) {
            Ok(0) => break,
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}
