//! What only these tests want of a world: to see and disturb what its sides do, and to ask the guest how long it stood still; and of
//! what is not in one: a guest on its way, and what is built for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use whimbrel_core::embed::{Cause, GuestRam};
use whimbrel_core::machine::message::Configuration;
use whimbrel_core::policy::presets;
use whimbrel_engine::destination::Replica;
use whimbrel_engine::observer::Event;
use whimbrel_engine::source::Outgoing;
use whimbrel_engine::stable::StableStore;
use whimbrel_engine::transport::memory::MemoryHub;
use whimbrel_guest::lab::LabGuest;
use whimbrel_guest::lab::config::LabConfig;
use whimbrel_guest::log::SoftwareLog;
use whimbrel_guest::memory::{Backing, GuestMemory};

use super::world::{Moved, Told, World};

/// This guest, on its way to whoever listens at this hub.
pub(crate) fn outgoing<'a>(
    ram: Arc<GuestMemory>,
    (log, guest): (&'a mut SoftwareLog, &'a mut LabGuest),
    hub: &MemoryHub,
    store: &'a mut dyn StableStore,
) -> Outgoing<'a> {
    let policy = presets::build("fixed-rounds", &BTreeMap::new()).expect("a preset");
    let connect = Arc::new(hub.connector());
    Outgoing { name: "lab".to_owned(), vcpus: 1, ram, log, guest, policy, connect, store }
}

/// What a host builds for such a guest, where it does this.
pub(crate) fn replica(of: &Configuration, lab: LabConfig) -> Result<Replica, Cause> {
    let ram = Arc::new(GuestMemory::new(of.layout.clone(), Backing::Private)?);
    let guest = Box::new(LabGuest::new(Arc::clone(&ram), lab, None)?);
    Ok(Replica { ram, guest, fresh: true })
}

impl World {
    pub(crate) fn checked(mut self) -> Self {
        self.settings.encoding.payload_checksums = true;
        self
    }

    /// The replica's memory is seen through this.
    pub(crate) fn veiled(mut self, veil: fn(Arc<GuestMemory>) -> Arc<dyn GuestRam>) -> Self {
        self.host.veil = veil;
        self
    }

    /// The source is watched by this.
    pub(crate) fn seen(mut self, watch: fn(&Event<'_>)) -> Self {
        self.watch = watch;
        self
    }

    /// The guest runs on for so long when it is told to stop, and when it is told to run it has run for so long before that is said.
    pub(crate) fn late(mut self, late: Duration) -> Self {
        self.host.late = late;
        self
    }

    /// The destination is watched by this.
    pub(crate) fn watched_there(mut self, watch: fn(&Event<'_>)) -> Self {
        self.host.watch = watch;
        self
    }
}

impl Moved {
    /// How long the guest was without a heartbeat when it was moved.
    pub(crate) fn gap(&mut self) -> Duration {
        let replica = self.destination.replica.take().expect("it is there");
        let guest = replica.into_guest::<Told<LabGuest>>().ok().expect("what the host made");
        let until = Instant::now() + Duration::from_mins(1);
        loop {
            if let Some(gap) = guest.guest.heartbeat().arrival {
                return gap.length;
            }
            assert!(Instant::now() < until, "it has no heartbeat");
            thread::sleep(Duration::from_millis(1));
        }
    }
}
