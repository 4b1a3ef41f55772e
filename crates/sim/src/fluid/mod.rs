//! Migrations in the mean: expected numbers of pages in place of pages, a few operations a round.
//!
//! The same machines, controllers, policies and reports as in the exact simulation, for setups by the
//! million. Called by [`simulate`](crate::simulate) where the setup's fidelity is fluid, and directly by
//! who wants totals only ([`Simulator`]). It must never differ from the mean of exact runs by more than
//! `docs/fluid.md` says, unless the result says that it may.

mod aim;
mod dice;
mod ensemble;
mod field;
mod hosts;
pub(crate) mod looks;
mod mean;
mod near;
mod queue;
mod rounds;
mod sending;
mod splits;
mod steps;
mod totals;
mod world;

pub use self::near::NearThreshold;
pub use self::totals::Totals;
use self::world::World;
use crate::config::{ConfigError, PostCopyOrder};
use crate::migration::{Run, Setup, SimError};

/// Simulates a migration in the mean.
pub(crate) fn simulate(setup: &Setup) -> Result<Run, SimError> {
    check(setup)?;
    let mut open = vec![(1.0, Box::new(World::new(setup, true)?))];
    let mut ends = Vec::new();
    let mut totals = Vec::new();
    let mut rough = false;
    while let Some((share, mut world)) = open.pop() {
        if let Some(split) = world.run()? {
            open.extend(split.ways(share));
        } else {
            rough |= world.is_rough();
            totals.push((share, world.totals()));
            ends.push(world);
        }
    }
    let (most, mean) = mean::of(&totals).unwrap_or((0, ends[0].totals()));
    if rough {
        return ensemble::run(setup, *ends.swap_remove(most), &mean);
    }
    Ok(ends.swap_remove(most).into_run(&mean))
}

/// Simulates migrations one after the other and says what they came to in numbers. What one needs is kept
/// for the next, nothing that would change its result: for setups by the million.
#[derive(Debug, Default)]
pub struct Simulator {
    world: Option<Box<World>>,
    open: Vec<(f64, Box<World>)>,
    ends: Vec<(f64, Totals)>,
}

impl Simulator {
    /// The totals of a migration; the fidelity that `setup` names does not matter, and nothing is recorded.
    ///
    /// # Errors
    ///
    /// [`SimError`] if it can't be simulated so.
    pub fn run(&mut self, setup: &Setup) -> Result<Totals, SimError> {
        Ok(self.follow(setup, |_| ())?.0)
    }

    /// The same, and why it ended so, in words: as in the report of [`simulate`](crate::simulate).
    ///
    /// # Errors
    ///
    /// [`SimError`] if it can't be simulated so.
    pub fn run_and_tell(&mut self, setup: &Setup) -> Result<(Totals, String), SimError> {
        self.follow(setup, World::why)
    }

    /// The totals of a migration, and what `tell` has of the way that most cases take.
    fn follow<T>(&mut self, setup: &Setup, tell: impl Fn(&World) -> T) -> Result<(Totals, T), SimError> {
        let Self { world, open, ends } = self;
        // Most setups by the million are on the same hosts.
        let same_hosts = world.as_ref().is_some_and(|world| world.is_on(&setup.host));
        if !same_hosts {
            check_host(setup)?;
        }
        check_others(setup)?;
        let world = match world {
            Some(world) => {
                world.begin(setup, same_hosts)?;
                world
            }
            None => world.insert(Box::new(World::new(setup, false)?)),
        };
        let Some(split) = world.run()? else {
            let (totals, told) = (world.totals(), tell(world));
            return if world.is_rough() {
                ensemble::follow(setup, world, (totals, told), tell)
            } else {
                Ok((totals, told))
            };
        };
        open.clear();
        ends.clear();
        open.extend(split.ways(1.0));
        let mut told = Vec::with_capacity(4);
        let mut rough = false;
        while let Some((share, mut way)) = open.pop() {
            if let Some(split) = way.run()? {
                open.extend(split.ways(share));
            } else {
                rough |= way.is_rough();
                ends.push((share, way.totals()));
                told.push(tell(&way));
            }
        }
        let mean = mean::of(ends).map(|(most, mean)| (mean, told.swap_remove(most)));
        let mean =
            mean.ok_or_else(|| ConfigError::new("run", "a migration without an end", "one that ends"))?;
        if rough { ensemble::follow(setup, world, mean, tell) } else { Ok(mean) }
    }
}

/// Refuses what cannot be and what the fluid model does not cover.
pub(crate) fn check(setup: &Setup) -> Result<(), SimError> {
    check_host(setup)?;
    check_others(setup)
}

/// The same of the hosts alone.
#[inline(never)]
fn check_host(setup: &Setup) -> Result<(), SimError> {
    setup.host.validate()?;
    setup.host.validate_for(setup.guest.page_size)?;
    Ok(setup.host.validate_for_fluid()?)
}

/// The same of everything else.
fn check_others(setup: &Setup) -> Result<(), SimError> {
    setup.guest.validate()?;
    setup.link.validate()?;
    setup.guest.validate_for_fluid()?;
    if setup.policy.needs().post_copy && setup.host.post_copy_order != PostCopyOrder::Memory {
        let other = "leaving it out, or `run.fidelity = \"exact\"`";
        return Err(ConfigError::new("host.post-copy-order", "set in a fluid simulation", other).into());
    }
    if setup.changes.is_empty() { Ok(()) } else { try_changes(setup) }
}

/// Refuses changes that the policy will not take.
#[cold]
fn try_changes(setup: &Setup) -> Result<(), SimError> {
    let mut trial = setup.policy.clone();
    let mut changes: Vec<_> = setup.changes.iter().collect();
    changes.sort_by_key(|change| change.at);
    for change in changes {
        trial.set_parameter(&change.parameter, &change.value)?;
    }
    Ok(())
}
