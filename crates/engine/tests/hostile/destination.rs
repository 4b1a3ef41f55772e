//! A destination, and what comes to it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use whimbrel_core::embed::{Cause, Guest, GuestError};
use whimbrel_core::layout::{PageSize, RamLayout};
use whimbrel_core::machine::message::{Configuration, Message, MigrationId, Section};
use whimbrel_core::units::ByteCount;
use whimbrel_engine::destination::{self, DestinationError, DestinationSettings, Incoming, Replica};
use whimbrel_engine::orders::{Order, Orders, Remote};
use whimbrel_engine::stable::{self, MemoryStore};
use whimbrel_engine::transport::{Listen, open};
use whimbrel_guest::memory::{Backing, GuestMemory};
use whimbrel_wire::hello::Role;
use whimbrel_wire::pages::{Decoder, Encoding, Encodings, Table};
use whimbrel_wire::{Limits, control};

use super::{
    ID, LONG, MIB, address, connect, counted, introduced, largest_state, options, path, say_on_and_on, token,
};

/// A guest that is nothing.
struct Nothing;

impl Guest for Nothing {
    fn pause(&mut self) -> Result<(), GuestError> {
        Ok(())
    }

    fn resume(&mut self) -> Result<(), GuestError> {
        Ok(())
    }

    fn save(&mut self) -> Result<Vec<Section>, GuestError> {
        Ok(Vec::new())
    }

    fn restore(&mut self, _: Vec<Section>) -> Result<(), GuestError> {
        Ok(())
    }
}

/// What the test has of a destination: when it begins to build, when it may go on with that, and its remote.
struct There {
    builds: Receiver<Configuration>,
    go_on: Sender<()>,
    remote: Remote,
}

/// However the test goes on, the destination ends.
impl Drop for There {
    fn drop(&mut self) {
        self.remote.cancel();
        self.remote.give(Order::Leave);
    }
}

/// Runs a destination that listens here while `meanwhile` does.
fn with(listen: Arc<dyn Listen>, meanwhile: impl FnOnce(&There)) {
    let orders = Orders::new();
    let ((begun, builds), (go_on, may_go_on)) = (channel(), channel());
    let there = There { builds, go_on, remote: orders.remote() };
    let orders = &orders;
    thread::scope(|scope| {
        let receiving = scope.spawn(move || {
            let mut host = |wanted: &Configuration| {
                begun.send(wanted.clone())?;
                may_go_on.recv()?;
                let ram = Arc::new(GuestMemory::new(wanted.layout.clone(), Backing::Memfd)?);
                Ok::<_, Cause>(Replica { ram, guest: Box::new(Nothing), fresh: true })
            };
            let store = &mut MemoryStore::new(stable::Role::Destination);
            let settings = DestinationSettings::new(token(), ByteCount::gib(4));
            destination::receive(Incoming { listen, host: &mut host, store }, settings, orders, &mut ())
                .map(drop)
        });
        meanwhile(&there);
        drop(there);
        match receiving.join().expect("no panic") {
            Ok(()) | Err(DestinationError::Cancelled) => {}
            Err(error) => panic!("{error}"),
        }
    });
}

fn at(name: &str, meanwhile: impl FnOnce(&There, &std::path::Path)) {
    let path = path(name);
    let listen = Arc::from(open::listener(&address(&path), &options()).expect("it listens"));
    with(listen, |there| meanwhile(there, &path));
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").expect("of this process").count()
}

/// Most who are heard at once.
const HEARD: usize = 80;

pub(super) fn strangers_are_bounded_and_keep_nobody_out() {
    at("strangers", |_, path| {
        let before = threads();
        let (taken, _strangers) = counted(|| {
            let strangers: Vec<UnixStream> = (0..300)
                .map(|number| {
                    let mut stream = connect(path);
                    // Nothing, a part of their first words, or words that are to be long.
                    let said: &[u8] = [&b""[..], b"whimb", b"whimbrel\x01\0\0\x04\0\0\0\0"][number % 3];
                    // Whoever was hung up on has no one to say it to.
                    let _ = stream.write_all(said);
                    // The destination's own, and those who have just gone, besides.
                    let more = threads().saturating_sub(before);
                    assert!(more <= HEARD + 16, "{more} threads");
                    stream
                })
                .collect();
            let (_stream, answer) = introduced(path, Role::Control { streams: 1 }, ID).expect("an answer");
            answer.expect("a welcome");
            strangers
        });
        assert!(taken < MIB, "{taken} bytes for strangers");
    });
}

/// Under TLS, who says nothing.
#[cfg(feature = "tls")]
pub(super) fn strangers_under_tls_are_bounded() {
    use std::net::TcpStream;

    use whimbrel_engine::transport::keys::{Keygen, Kind, keygen};
    use whimbrel_engine::transport::tls::{Identity, Tls, Trust};
    let directory = path("keys");
    fs::create_dir_all(&directory).expect("a directory");
    let kind = Kind::Host { names: vec!["localhost".to_owned()] };
    let (name, days) = ("key".to_owned(), 1);
    let made = keygen(&Keygen { directory: directory.clone(), name, kind, days, overwrite: true });
    let made = made.expect("a key");
    let identity = Identity::from_files(&made.certificate, &made.key).expect("a key");
    let tls = Some(Tls::new(identity, Trust::pinned([made.fingerprint])));
    let options = open::Options { tls, ..options() };
    let listen =
        open::listener(&"tls:127.0.0.1:0".parse().expect("an address"), &options).expect("it listens");
    let at = listen.address();
    let at = at.trim_start_matches("tls:");
    with(Arc::from(listen), |_| {
        let (taken, _strangers) = counted(|| {
            let strangers = (0..200).map(|_| TcpStream::connect(at).expect("somebody listens"));
            let strangers: Vec<_> = strangers.collect();
            // Whoever has the keys and comes last is heard.
            let connect = open::connector(&format!("tls:{at}").parse().expect("an address"), &options);
            connect.expect("a way").connect(LONG).expect("a connection");
            strangers
        });
        assert!(taken < HEARD * 256 * 1024, "{taken} bytes for strangers under TLS");
    });
    fs::remove_dir_all(directory).expect("removed");
}

fn configure(page_size: PageSize) -> Vec<u8> {
    let layout = RamLayout::contiguous(ByteCount::gib(1), page_size).expect("whole pages");
    let configuration = Configuration { id: ID, name: "guest".to_owned(), layout, vcpus: 1 };
    control::encode(&Message::Configure(Arc::new(configuration)), &Limits::default()).expect("short enough")
}

pub(super) fn states_that_come_too_early_are_left_with_whoever_sends_them() {
    let state = largest_state();
    at("states", |there, path| {
        let (mut control, answer) = introduced(path, Role::Control { streams: 1 }, ID).expect("an answer");
        answer.expect("a welcome");
        control.write_all(&configure(PageSize::Kib4)).expect("somebody reads");
        there.builds.recv_timeout(LONG).expect("it begins to build");
        let (taken, said) = counted(|| {
            let said = say_on_and_on(&mut control, &state, 12);
            there.go_on.send(()).expect("it waits");
            // The first is the guest's, which has no pages; the next ends in its middle.
            control.shutdown(Shutdown::Write).expect("a socket");
            let _ = control.read_to_end(&mut Vec::new());
            said
        });
        assert!(said <= 1, "{said} states of 16 MiB were taken of a source, while its guest was built");
        // One that was read, and one that is made of bytes and fields at once.
        let most = 3 * Limits::default().control.0 as usize + 2 * MIB;
        assert!(taken <= most, "{taken} bytes for states that nobody wants yet, accepted are {most}");
    });
}

pub(super) fn who_asks_has_little_to_say() {
    let state = largest_state();
    at("questions", |_, path| {
        let (taken, ()) = counted(|| {
            thread::scope(|scope| {
                for number in 0..16 {
                    let state = &state;
                    scope.spawn(move || {
                        let id = MigrationId(100 + number);
                        let (mut stream, answer) = introduced(path, Role::Again, id).expect("an answer");
                        answer.expect("a welcome");
                        let said = say_on_and_on(&mut stream, state, 2);
                        assert_eq!(said, 0, "a question of 16 MiB was taken");
                    });
                }
            });
        });
        assert!(taken < 4 * MIB, "{taken} bytes for questions");
    });
}

/// As much memory as the process has asked for at most, resident or not, in KiB.
fn asked_for() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("of this process");
    let line = status.lines().find(|line| line.starts_with("VmPeak:")).expect("a line");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

/// The library's memory is C's, and not on the heap that is counted. The first: what many threads had would hide it.
pub(super) fn the_window_of_a_frame_takes_nothing() {
    if !Encodings::available().contains(Encoding::Zstd) {
        return;
    }
    let layout = RamLayout::contiguous(ByteCount::mib(1), PageSize::Kib4).expect("whole pages");
    let ram = GuestMemory::new(layout.clone(), Backing::Memfd).expect("memory");
    let mut decoder = Decoder::new(PageSize::Kib4);
    let mut apply = |frame: &[u8]| {
        let mut entry = [0; 16];
        entry[8] = 1;
        entry[10] = 3;
        entry[12..].copy_from_slice(&(frame.len() as u32).to_le_bytes());
        let mut table = Table::default();
        table.read(&entry, 1, frame.len() as u64, &layout, Encodings::available()).expect("an entry");
        decoder.apply(&table.entries()[0], frame, &ram)
    };
    // Magic, a window, one block of 4096 times the same byte, the last.
    let frame = |window: u8| [&[0x28, 0xb5, 0x2f, 0xfd, 0, window][..], &[0x03, 0x80, 0, 0x5a]].concat();
    apply(&frame(0x10)).expect("a page");
    let before = asked_for();
    // 2 GiB, and as much as can be said.
    for window in [0xa8, 0xff] {
        let _ = apply(&frame(window));
    }
    let more = asked_for() - before;
    assert!(more < 64 << 10, "{more} KiB for a window");
}

pub(super) fn pages_larger_than_is_said_are_refused() {
    at("pages", |_, path| {
        let (mut control, answer) = introduced(path, Role::Control { streams: 1 }, ID).expect("an answer");
        answer.expect("a welcome");
        control.write_all(&configure(PageSize::Gib1)).expect("somebody reads");
        let mut said = Vec::new();
        control.read_to_end(&mut said).expect("it hangs up");
        let text = String::from_utf8_lossy(&said).into_owned();
        assert!(text.contains("pages of 1GiB; this host takes pages of up to 2MiB"), "{text}");
    });
}
