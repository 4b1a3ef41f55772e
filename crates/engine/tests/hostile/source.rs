//! A source, and what it is told.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;

use whimbrel_core::embed::Guest as _;
use whimbrel_core::layout::{PageSize, RamLayout};
use whimbrel_core::machine::handoff::Right;
use whimbrel_core::policy::presets;
use whimbrel_core::units::ByteCount;
use whimbrel_engine::orders::Orders;
use whimbrel_engine::source::{self, Outgoing, SourceSettings};
use whimbrel_engine::stable::{self, MemoryStore};
use whimbrel_engine::transport::open;
use whimbrel_guest::lab::LabGuest;
use whimbrel_guest::lab::config::LabConfig;
use whimbrel_guest::log::SoftwareLog;
use whimbrel_guest::memory::{Backing, GuestMemory};
use whimbrel_wire::Limits;
use whimbrel_wire::hello::{self, Capabilities, Direction, PREFIX_LEN, Versions, Welcome};

use super::{ID, MIB, accept, address, counted, largest_state, options, path, say_on_and_on, token};

/// Welcomes whoever comes.
fn welcome(mut stream: &UnixStream) {
    let mut prefix = [0; PREFIX_LEN];
    stream.read_exact(&mut prefix).expect("a hello");
    let mut rest = vec![0; hello::rest(&prefix, Direction::FromSource).expect("a hello")];
    stream.read_exact(&mut rest).expect("a hello");
    let limits = Limits::default();
    let welcome = Welcome {
        version: Versions::SPOKEN.newest,
        entries: limits.entries,
        payload: limits.payload.0 as u32,
        control: limits.control.0 as u32,
        capabilities: Capabilities::from_bits(0),
    };
    stream.write_all(&hello::encode_answer(&Ok(welcome))).expect("somebody reads");
}

pub(super) fn a_destination_has_little_to_say() {
    let (path, state) = (path("destination"), largest_state());
    let listen = UnixListener::bind(&path).expect("it listens");
    let layout = RamLayout::contiguous(ByteCount::mib(1), PageSize::Kib4).expect("whole pages");
    let memory = Arc::new(GuestMemory::new(layout.clone(), Backing::Memfd).expect("memory"));
    let mut log = SoftwareLog::new(&layout);
    let marks = Some(Arc::clone(log.bitmap()));
    let mut guest = LabGuest::new(Arc::clone(&memory), LabConfig::default(), marks).expect("a guest");
    guest.resume().expect("it runs");
    let (taken, result) = counted(|| {
        thread::scope(|scope| {
            scope.spawn(|| {
                let [mut control, pages] = [0, 1].map(|_| {
                    let stream = accept(&listen);
                    welcome(&stream);
                    stream
                });
                assert_eq!(say_on_and_on(&mut control, &state, 2), 0, "16 MiB were taken of a destination");
                drop(pages);
                // It calls again, to say that it keeps its guest: nobody is there.
                drop(listen);
            });
            let connect = open::connector(&address(&path), &options()).expect("a way");
            let outgoing = Outgoing {
                name: "guest".to_owned(),
                vcpus: 1,
                ram: memory,
                log: &mut log,
                guest: &mut guest,
                policy: presets::build("fixed-rounds", &BTreeMap::new()).expect("a preset"),
                connect: Arc::from(connect),
                store: &mut MemoryStore::new(stable::Role::Source),
            };
            source::send(outgoing, SourceSettings::new(ID, token()), &Orders::new(), &mut ())
                .expect("it begins")
        })
    });
    std::fs::remove_file(path).expect("a socket");
    assert_eq!(result.right, Right::Mine, "{}", result.report.why);
    assert!(taken < 8 * MIB, "{taken} bytes at a source");
}
