//! One migration in virtual time: the core's two machines, a guest, two hosts and a link.
//!
//! Carries out what the machines ask for, at the cost that the configuration names, and reports back
//! when it is done. It decides nothing: what is sent and when the guest is paused is the machines' and
//! the policy's affair, so that a run here takes the same steps as a live one.

mod ending;
mod hosts;
mod look;
mod post_copy;
mod simulation;
mod spread;

use std::time::Duration;

use whimbrel_core::controller::{Controller, Prior, ReplaceError, Unsupported};
use whimbrel_core::forecast::DirtyCurve;
use whimbrel_core::journal::Journal;
use whimbrel_core::layout::{PageRun, RamLayout};
use whimbrel_core::machine::message::{Configuration, MigrationId};
use whimbrel_core::machine::{MachineError, Source};
use whimbrel_core::policy::{ChangeError, Policy};
use whimbrel_core::progress::Capabilities;
use whimbrel_core::report::Report;
use whimbrel_core::units::{Pages, Timestamp};

pub use self::look::{Look, observe};
pub use self::simulation::Simulation;
use crate::codec::Encoding;
use crate::config::{ConfigError, Fidelity, GuestConfig, HostConfig, LinkConfig};
use crate::fluid::{self, NearThreshold};
use crate::guest::{Guest, Lost};

/// What this ground can do.
pub const CAPABILITIES: Capabilities =
    Capabilities { throttle: true, dirty_limit: true, post_copy: true, harvest_on_demand: true, pause: true };

/// A migration to simulate.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The guest.
    pub guest: GuestConfig,
    /// Where its zero pages are, if that is known better than the guest's configuration says.
    pub zero_runs: Option<Vec<PageRun>>,
    /// The hosts.
    pub host: HostConfig,
    /// The link.
    pub link: LinkConfig,
    /// The policy, as it is before the migration.
    pub policy: Box<dyn Policy>,
    /// Changes of the policy's parameters while it runs.
    pub changes: Vec<PolicyChange>,
    /// How finely the guest is simulated.
    pub fidelity: Fidelity,
    /// Seed of every random choice.
    pub seed: u64,
    /// Virtual time after which the migration is cancelled.
    pub time_limit: Duration,
    /// Whether events and decisions are recorded.
    pub journal: bool,
    /// Whether the policy is asked at every tick, also where its answer can't have changed.
    pub every_tick: bool,
    /// Whether what is left of the migration is forecast at the start of each round.
    pub outlook: bool,
    /// For how long the guest is looked at before the migration, for the outlook; see [`observe`].
    pub look: Option<Duration>,
    /// Whether the first slice of sending begins when the first page leaves. If not (the default), part of it has passed
    /// then, as chance will have it: QEMU's threads begin where they like.
    pub aligned: bool,
    /// Whether the link's buffer holds pages that are dealt to threads, which encode them and wait until they are carried; they count
    /// as sent then, and a round ends when all are. If not (the default), they are encoded before the buffer and count when they are
    /// handed over: what it holds at a round's end is carried meanwhile, and policies are told how much that is.
    pub drained: bool,
    /// Whether a slice of sending ends in time though the sender waits for the link then. If not (the default), it ends when the
    /// sender goes on: QEMU looks at its clock between two writes.
    pub punctual: bool,
    /// Whether the destination's copy is compared with the guest, page by page. Slow; for tests.
    pub witness: bool,
}

impl Setup {
    /// A setup with default hosts and link.
    pub fn new(guest: GuestConfig, policy: Box<dyn Policy>) -> Self {
        Self {
            guest,
            zero_runs: None,
            host: HostConfig::default(),
            link: LinkConfig::default(),
            policy,
            changes: Vec::new(),
            fidelity: Fidelity::Exact,
            seed: 0,
            time_limit: Duration::from_hours(1),
            journal: true,
            every_tick: false,
            outlook: false,
            look: None,
            aligned: false,
            drained: false,
            punctual: false,
            witness: false,
        }
    }
}

/// Somebody changes a parameter of the policy while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyChange {
    /// From the start of the migration. Later than the handover, it has no effect.
    pub at: Duration,
    /// Which parameter.
    pub parameter: String,
    /// To what.
    pub value: String,
}

/// What a simulated migration came to.
#[derive(Clone, Debug)]
pub struct Run {
    /// The source's report.
    pub report: Report,
    /// What the guest lost.
    pub disruption: Lost,
    /// Pages found dirty whose content had not changed.
    pub unchanged_pages: Pages,
    /// What encoding pages came to, and the CPU time of sending.
    pub encoding: Encoding,
    /// When the source had handed over its last byte; QEMU calls itself done then.
    pub handed_over: Option<Timestamp>,
    /// From the pause to the first instruction at the destination, by the simulator's own clock.
    pub silence: Option<Duration>,
    /// What the source alone makes of the ledger's `commit`, from half of the way there and back.
    pub commit_as_told: Option<Duration>,
    /// From the pause until the network knows the guest's new place and the guest does something there.
    pub unreachable: Option<Duration>,
    /// In a fluid simulation: the decision that hung on chance the most, if any did.
    pub near_threshold: Option<NearThreshold>,
    /// Events and decisions, if they were recorded.
    pub journal: Journal,
    /// Whether anything of the migration was left at the source: tracking or a throttle.
    pub clean: bool,
    /// Where the guest runs at the end.
    pub guest_at: GuestAt,
    /// With a witness: whether the destination's copy was the guest's memory at the pause.
    pub copy_exact: Option<bool>,
}

/// Where the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestAt {
    /// At the source.
    Source,
    /// At the destination.
    Destination,
    /// Nowhere: paused, in doubt.
    Nowhere,
    /// At both: never, unless whimbrel is broken.
    Both,
}

/// Why a migration could not be simulated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// The configuration is not possible.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The policy needs what the simulator does not offer.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The policy does not take a change.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// Another policy can't take over.
    #[error(transparent)]
    Replace(#[from] ReplaceError),
    /// A machine did not take an event: a bug of whimbrel.
    #[error("internal error")]
    Machine(#[source] MachineError),
}

impl From<MachineError> for SimError {
    fn from(error: MachineError) -> Self {
        match error {
            MachineError::Change(error) => Self::Change(error),
            error => Self::Machine(error),
        }
    }
}

/// Whether the fidelity that `setup` names covers it. At once, however long the migration would take.
///
/// # Errors
///
/// [`SimError`] that says what it does not cover.
pub fn covered(setup: &Setup) -> Result<(), SimError> {
    match setup.fidelity {
        Fidelity::Fluid => fluid::check(setup),
        Fidelity::Exact => Ok(()),
    }
}

/// Simulates a migration from its start to its end.
///
/// # Errors
///
/// [`SimError`] if it can't be simulated. A migration that fails is a [`Run`].
pub fn simulate(setup: &Setup) -> Result<Run, SimError> {
    if setup.fidelity == Fidelity::Fluid {
        return fluid::simulate(setup);
    }
    Simulation::new(setup)?.finish()
}

/// Feeds the events of a run's journal to a fresh source and gives the journal that it writes: the same,
/// byte for byte, if the setup is the one that the run was made with.
///
/// # Errors
///
/// [`SimError`] if the setup is not possible or the source does not take an event.
pub fn replay(setup: &Setup, journal: &Journal) -> Result<Journal, SimError> {
    let layout = Guest::new(&setup.guest, setup.seed)?.layout().clone();
    Ok(source(setup, layout)?.replay(journal)?)
}

/// The source before the migration.
fn source(setup: &Setup, layout: RamLayout) -> Result<Source, SimError> {
    let mut controller =
        Controller::new(setup.policy.clone(), layout.page_size(), layout.pages(), CAPABILITIES)?;
    if !setup.journal {
        controller = controller.without_journal();
    }
    if setup.every_tick {
        controller = controller.asking_every_tick();
    }
    if setup.outlook {
        let observed = match setup.look {
            Some(time) => observe(setup, time)?.curve,
            None => DirtyCurve::default(),
        };
        controller = controller.with_outlook(&Prior { observed, limit: Some(setup.time_limit) });
    }
    let configuration =
        Configuration { id: MigrationId(setup.seed), name: "guest".into(), layout, vcpus: setup.guest.vcpus };
    // An outage is waited for however long it lasts: what is lost for good is `lost-at`, and what takes
    // too long is cut off by the time limit.
    Ok(Source::new(configuration, controller).with_patience(Duration::MAX))
}
