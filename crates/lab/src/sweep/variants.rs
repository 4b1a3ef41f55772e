//! The simulator's setups of a grid's cells, put together from parts.
//!
//! Making a cell from the scenario as written costs more than simulating it in fluid fidelity. But a part of it, the
//! guest, the link, the hosts, the policy or the run, depends only on the axes of its own table, and comes again in
//! many cells. So each part is made once for each combination of these axes, the first time that a cell has it, and
//! a cell is put together from its parts. Parts with more combinations than are kept are made for each cell.

use std::sync::OnceLock;
use std::time::Duration;

use whimbrel_core::policy::Policy;
use whimbrel_sim::Simulator;
use whimbrel_sim::config::{Fidelity, GuestConfig, HostConfig, LinkConfig};

use super::{SweepError, simulation};
use crate::scenario::Grid;

/// The most variants of a part that are kept: of a guest with a writer, some 30 MB.
const MOST: u64 = 1 << 16;

/// What of a run's own table matters.
#[derive(Clone, Debug)]
struct Running {
    fidelity: Fidelity,
    time_limit: Duration,
    seed: u64,
}

/// The policy and what is changed while it runs.
type Steering = (Box<dyn Policy>, Vec<whimbrel_sim::PolicyChange>);

/// The variants of one part.
struct Part<T> {
    /// The axes that it depends on: how many cells until the next value, how many values, how many variants until
    /// the next one.
    axes: Vec<(u64, u64, u64)>,
    /// Empty if there are too many.
    made: Vec<OnceLock<T>>,
}

impl<T> Part<T> {
    fn of(grid: &Grid, table: &str) -> Self {
        let (mut cells, mut variants, mut axes) = (1_u64, 1_u64, Vec::new());
        for axis in grid.axes().iter().rev() {
            let count = axis.values.len() as u64;
            if axis.key.split('.').next() == Some(table) {
                axes.push((cells, count, variants));
                variants = variants.saturating_mul(count);
            }
            cells = cells.saturating_mul(count);
        }
        let kept = if variants <= MOST { variants } else { 0 };
        Self { axes, made: (0..kept).map(|_| OnceLock::new()).collect() }
    }

    /// Which variant a cell has.
    fn variant(&self, cell: u64) -> u64 {
        self.axes.iter().map(|(cells, count, variants)| cell / cells % count * variants).sum()
    }

    fn slot(&self, variant: u64) -> Option<&OnceLock<T>> {
        self.made.get(variant as usize)
    }
}

/// The setups of a grid's cells.
pub(super) struct Variants<'a> {
    grid: &'a Grid,
    guest: Part<GuestConfig>,
    link: Part<LinkConfig>,
    host: Part<HostConfig>,
    policy: Part<Steering>,
    run: Part<Running>,
}

/// A setup that changes from cell to cell.
pub(super) struct Bench {
    pub(super) simulation: whimbrel_sim::Setup,
    /// Keeps its memory from run to run.
    pub(super) simulator: Simulator,
    /// The seed of the cell's first run.
    seed: u64,
    variants: [u64; 5],
}

impl Bench {
    /// The seed of this run, as [`crate::scenario::RunConfig::seed_of`] has it.
    pub(super) fn seed_of(&self, repetition: u32) -> u64 {
        self.seed.wrapping_add(repetition.into())
    }
}

impl<'a> Variants<'a> {
    pub(super) fn of(grid: &'a Grid) -> Self {
        Self {
            grid,
            guest: Part::of(grid, "guest"),
            link: Part::of(grid, "link"),
            host: Part::of(grid, "host"),
            policy: Part::of(grid, "policy"),
            run: Part::of(grid, "run"),
        }
    }

    /// Makes `bench` the setup of this cell.
    pub(super) fn set_up(&self, cell: u64, bench: &mut Option<Bench>) -> Result<(), SweepError> {
        let [guest, link, host, policy, run] = self.variants(cell);
        let parts = (
            self.guest.slot(guest).and_then(OnceLock::get),
            self.link.slot(link).and_then(OnceLock::get),
            self.host.slot(host).and_then(OnceLock::get),
            self.policy.slot(policy).and_then(OnceLock::get),
            self.run.slot(run).and_then(OnceLock::get),
        );
        let (Some(bench), (Some(guest), Some(link), Some(host), Some(policy), Some(run))) =
            (bench.as_mut(), parts)
        else {
            let simulator = bench.take().map(|bench| bench.simulator).unwrap_or_default();
            *bench = Some(Bench { simulator, ..self.make(cell)? });
            return Ok(());
        };
        let (before, now) = (bench.variants, self.variants(cell));
        let to = &mut bench.simulation;
        // What is the same stays.
        if before[0] != now[0] {
            to.guest.clone_from(guest);
        }
        if before[1] != now[1] {
            to.link.clone_from(link);
        }
        if before[2] != now[2] {
            to.host.clone_from(host);
        }
        if before[3] != now[3] {
            to.policy.clone_from(&policy.0);
            to.changes.clone_from(&policy.1);
        }
        if before[4] != now[4] {
            (to.fidelity, to.time_limit) = (run.fidelity, run.time_limit);
            bench.seed = run.seed;
        }
        bench.variants = now;
        Ok(())
    }

    fn variants(&self, cell: u64) -> [u64; 5] {
        [
            self.guest.variant(cell),
            self.link.variant(cell),
            self.host.variant(cell),
            self.policy.variant(cell),
            self.run.variant(cell),
        ]
    }

    /// The setup of a cell from the scenario; its parts are kept.
    fn make(&self, cell: u64) -> Result<Bench, SweepError> {
        let setup = self.grid.cell(cell)?.setup;
        let simulation = simulation(&setup, 0)?;
        let variants = self.variants(cell);
        let [guest, link, host, policy, run] = variants;
        keep(&self.guest, guest, || simulation.guest.clone());
        keep(&self.link, link, || simulation.link.clone());
        keep(&self.host, host, || simulation.host.clone());
        keep(&self.policy, policy, || (simulation.policy.clone(), simulation.changes.clone()));
        let (fidelity, time_limit, seed) = (simulation.fidelity, simulation.time_limit, setup.run.seed);
        keep(&self.run, run, || Running { fidelity, time_limit, seed });
        Ok(Bench { simulation, simulator: Simulator::default(), seed, variants })
    }
}

fn keep<T>(part: &Part<T>, variant: u64, value: impl FnOnce() -> T) {
    if let Some(slot) = part.slot(variant) {
        slot.get_or_init(value);
    }
}
