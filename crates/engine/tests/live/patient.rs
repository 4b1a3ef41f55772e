//! How long connections are waited for, and what that is counted in.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use whimbrel_core::journal::Entry;
use whimbrel_core::machine::message::MigrationId;
use whimbrel_core::report::Outcome;
use whimbrel_core::units::Timestamp;
use whimbrel_engine::Token;
use whimbrel_engine::destination::{self, Records};
use whimbrel_engine::orders::{Order, Orders};
use whimbrel_engine::source::{Restarted, settle};
use whimbrel_engine::stable::{MemoryStore, Role};
use whimbrel_engine::transport::memory::MemoryHub;
use whimbrel_engine::transport::open::{Options, connector, listener};
use whimbrel_engine::transport::{Connect, Stream, TransportError};

use super::world::{World, mib};

/// Each connection takes so long.
const SLOW: Duration = Duration::from_millis(500);

struct Slow(Arc<dyn Connect>);

impl Connect for Slow {
    fn connect(&self, within: Duration) -> Result<Box<dyn Stream>, TransportError> {
        thread::sleep(SLOW);
        self.0.connect(within)
    }
}

#[test]
fn the_time_of_a_migration_begins_when_its_connections_are_made() {
    let moved = World::of(mib(1)).policy("fixed-rounds").through(|inner| Arc::new(Slow(inner))).go();
    let first = moved.lines.first().expect("a journal");
    // One for control and one for pages.
    assert!(matches!(first, Entry::Event { at, .. } if *at < Timestamp::ZERO + SLOW * 2), "{first:?}");
    moved.check_the_guest_there();
}

#[test]
fn a_time_that_no_clock_reaches_is_for_ever() {
    let longest = Duration::MAX;
    for tcp in [false, true] {
        let mut world = World::of(mib(1)).policy("fixed-rounds");
        if tcp {
            let any = "tcp:127.0.0.1:0".parse().expect("an address");
            world.host.listen = Arc::from(listener(&any, &Options::default()).expect("it listens"));
            let there = world.host.listen.address().parse().expect("an address");
            world.connect = Arc::from(connector(&there, &Options::default()).expect("a way"));
        }
        (world.settings.patience, world.settings.farewell) = (longest, longest);
        (world.settings.time_limit, world.settings.asking) = (Some(longest), Some(longest));
        (world.destination.patience, world.destination.time_limit) = (longest, Some(longest));
        world.destination.waiting = Some(longest);
        let moved = world.go();
        assert_eq!(moved.source.report.outcome, Outcome::Completed, "{}", moved.source.report.why);
        moved.check_the_guest_there();
    }

    // Those who ask about records, and who answer: both wait until they are told not to.
    let (hub, id, orders) = (MemoryHub::new(), MigrationId(7), Orders::new());
    let token = || Token::new(b"open sesame").expect("short enough");
    let listen = Arc::new(hub.listen().expect("nobody listens yet"));
    assert!(orders.remote().give(Order::Leave));
    let store = &mut MemoryStore::new(Role::Destination);
    let records = Records { listen, token: token(), store };
    destination::answer(records, Some(longest), &orders, &mut ()).expect("it listens");
    assert!(orders.remote().give(Order::Leave));
    let store = &mut MemoryStore::new(Role::Source);
    let restarted =
        Restarted { id, token: token(), connect: Arc::new(hub.connector()), store, patience: longest };
    assert!(!settle(restarted, Some(longest), &orders).expect("there is no record").settled);
}
