//! Live migrations: threads and sockets around the core's machines.
//!
//! An embedder gives guest memory, a dirty log and a guest ([`whimbrel_core::embed`]) and a way to the peer
//! ([`transport`]); a driver carries out what the machine asks for. Drivers decide nothing: when to harvest, pause, hand
//! over or give up is the machine's affair, who may run the guest the handoff's. All of it blocks; there is no async.
//!
//! | module | what it is | who needs it |
//! |---|---|---|
//! | [`source`] | [`source::send`] moves a guest away; [`source::settle`] ends what a crash left open | whoever has a guest |
//! | [`destination`] | [`destination::receive`] takes one | whoever has room for guests |
//! | [`transport`] | connections: TCP, TLS, Unix sockets, within the process; the traits of one of your own | both |
//! | [`stable`] | records that survive a crash; the trait of a store of your own | both |
//! | [`orders`] | cancel, limit, change the policy, fence, from any thread | a control plane, a signal handler |
//! | [`observer`] | what is going on, as it happens | progress bars, logs, metrics |
//! | [`digest`], [`limiter`], [`clock`] | parts of the drivers: a digest of memory, a token bucket, time | benches, and whoever builds a driver |
//!
//! # A whole move
//!
//! Both ends in one program, with connections within it. In yours each end has a process of its own, [`transport::open`] makes
//! connections of addresses, and [`stable::DirectoryStore`] keeps the records.
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::Arc;
//! use std::thread;
//! use std::time::Duration;
//!
//! use whimbrel_core::embed::Guest as _;
//! use whimbrel_core::layout::{PageSize, RamLayout};
//! use whimbrel_core::machine::handoff::Right;
//! use whimbrel_core::machine::message::Configuration;
//! use whimbrel_core::policy::presets;
//! use whimbrel_core::units::ByteCount;
//! use whimbrel_engine::Token;
//! use whimbrel_engine::destination::{self, DestinationSettings, Incoming, Replica};
//! use whimbrel_engine::orders::Orders;
//! use whimbrel_engine::source::{self, Outgoing, SourceSettings, new_id};
//! use whimbrel_engine::stable::{MemoryStore, Role};
//! use whimbrel_engine::transport::memory::MemoryHub;
//! use whimbrel_guest::lab::LabGuest;
//! use whimbrel_guest::lab::config::{LabConfig, Writer};
//! use whimbrel_guest::log::SoftwareLog;
//! use whimbrel_guest::memory::{Backing, GuestMemory};
//!
//! // A guest that runs. Yours is another; only its three traits are looked at.
//! let layout = RamLayout::contiguous(ByteCount::mib(16), PageSize::Kib4)?;
//! let writer = Writer { pages: 0..1024, rate: 10_000.0, ..Writer::default() };
//! let config = LabConfig { writers: vec![writer], ..LabConfig::default() };
//! let ram = Arc::new(GuestMemory::new(layout.clone(), Backing::Private)?);
//! let mut log = SoftwareLog::new(&layout);
//! let mut guest = LabGuest::new(Arc::clone(&ram), config.clone(), Some(Arc::clone(log.bitmap())))?;
//! guest.fill();
//! guest.resume()?;
//!
//! // The way from one end to the other, and what shows the destination that it is the right source that comes.
//! let hub = MemoryHub::new();
//! let (listen, connect) = (Arc::new(hub.listen()?), Arc::new(hub.connector()));
//! let token = Token::new(b"open sesame")?;
//!
//! let settings = DestinationSettings::new(token.clone(), ByteCount::gib(1));
//! let destination = thread::spawn(move || {
//!     // Called when a guest comes: builds a replica, or says why not.
//!     let mut host = |wanted: &Configuration| {
//!         let ram = Arc::new(GuestMemory::new(wanted.layout.clone(), Backing::Private)?);
//!         let guest = Box::new(LabGuest::new(Arc::clone(&ram), config.clone(), None)?);
//!         Ok(Replica { ram, guest, fresh: true })
//!     };
//!     let store = &mut MemoryStore::new(Role::Destination);
//!     let incoming = Incoming { listen, host: &mut host, store };
//!     let received = destination::receive(incoming, settings, &Orders::new(), &mut ())?;
//!     // The guest runs here. A source that did not hear it comes back and is told, as long as this program runs.
//!     let mut afterlife = received.afterlife;
//!     thread::spawn(move || loop { afterlife.answer(Duration::from_mins(1)); });
//!     Ok::<_, destination::DestinationError>(received.replica)
//! });
//!
//! let outgoing = Outgoing {
//!     name: "lab".to_owned(),
//!     vcpus: 1,
//!     ram,
//!     log: &mut log,
//!     guest: &mut guest,
//!     policy: presets::build("qemu-default", &BTreeMap::new())?,
//!     connect,
//!     store: &mut MemoryStore::new(Role::Source),
//! };
//! let settings = SourceSettings::new(new_id()?, token);
//! let sent = source::send(outgoing, settings, &Orders::new(), &mut ())?;
//! assert_eq!(sent.right, Right::Theirs, "{}", sent.report.why);
//!
//! // There it goes on exactly: what its memory must hold follows from its registers.
//! let replica = destination.join().expect("it does not panic")?.expect("the guest is there");
//! let ram = Arc::clone(&replica.ram);
//! let mut there = replica.into_guest::<LabGuest>().unwrap_or_else(|_| unreachable!("it was built as one"));
//! there.pause()?;
//! let state = there.save()?;
//! there.expected(&state)?.check(&*ram)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod capabilities;
pub mod clock;
pub mod destination;
pub mod digest;
mod hello;
mod insisting;
pub mod limiter;
mod link;
pub mod observer;
pub mod orders;
mod pace;
pub mod source;
pub mod stable;
pub mod transport;
mod verify;

pub use whimbrel_wire::hello::Token;
