//! Migrations in the mean: expected numbers of pages in place of pages, a few operations a round.
//!
//! The same machines, controllers, policies and reports as in the exact simulation, for setups by the
//! million. Called by [`simulate`](crate::simulate) where the setup's fidelity is fluid, and directly by
//! who wants totals only ([`Simulator`]). It must never differ from the mean of exact runs by more than
//! `docs/fluid.md` says, unless the result says that it may.

mod field;
mod mean;
mod near;
mod queue;
mod sending;
mod world;

use whimbrel_core::journal::Journal;
use whimbrel_core::report::Outcome;
use whimbrel_core::units::Pages;

use self::field::Field;
pub use self::near::NearThreshold;
use self::world::{Split, World};
use crate::codec::Encoding;
use crate::config::ConfigError;
use crate::migration::{Run, Setup, SimError};

/// Simulates a migration in the mean.
pub(crate) fn simulate(setup: &Setup) -> Result<Run, SimError> {
    check(setup)?;
    let mut open = vec![(1.0, World::new(setup, Field::default())?)];
    let mut ends = Vec::new();
    while let Some((share, mut world)) = open.pop() {
        match world.run()? {
            None => ends.push((share, into_run(world, setup))),
            Some(Split { from, ways: [(one, this), (other, that)] }) => {
                open.push((share * one, from.clone().taking(this)));
                open.push((share * other, from.taking(that)));
            }
        }
    }
    Ok(mean::of(ends))
}

/// Refuses what the fluid model does not cover.
fn check(setup: &Setup) -> Result<(), SimError> {
    setup.guest.validate()?;
    setup.host.validate()?;
    setup.host.validate_for(setup.guest.page_size)?;
    setup.link.validate()?;
    setup.host.validate_for_fluid()?;
    setup.guest.validate_for_fluid()?;
    if setup.policy.needs().post_copy {
        let policy = format!("`{}` in a fluid simulation", setup.policy.name());
        let other = "one without post-copy, or `run.fidelity = \"exact\"`";
        return Err(ConfigError::new("policy.preset", policy, other).into());
    }
    let mut trial = setup.policy.clone();
    let mut changes: Vec<_> = setup.changes.iter().collect();
    changes.sort_by_key(|change| change.at);
    for change in changes {
        trial.set_parameter(&change.parameter, &change.value)?;
    }
    Ok(())
}

fn into_run(mut world: World<'_>, setup: &Setup) -> Run {
    let now = world.now;
    world.guest.advance(now);
    let disruption = world.guest.lost();
    let silence = world.runs_there.zip(world.paused_at).map(|(there, here)| there.since(here));
    let mut report = world.source.report(now);
    let commit_as_told = silence.map(|_| report.downtime.commit);
    if let (Outcome::Completed, Some(silence)) = (report.outcome, silence) {
        let others = report.downtime.total().saturating_sub(report.downtime.commit);
        report.downtime.commit = silence.saturating_sub(others);
    }
    let seen = report.downtime.total();
    let announced = silence.map(|silence| silence + setup.host.announce);
    let costs = world.sending.costs();
    let [pages, zero] = world.pages;
    let source_cpu_s = ((pages - zero) * costs.page + zero * costs.zero) * 1e-9;
    Run {
        report,
        disruption,
        unchanged_pages: Pages((world.unchanged + 0.5) as u64),
        encoding: Encoding { source_cpu_s, ..Encoding::default() },
        handed_over: world.handed_over,
        silence,
        commit_as_told,
        unreachable: announced.map(|announced| announced.max(seen)),
        near_threshold: world.near_threshold(),
        clean: world.is_clean(),
        guest_at: world.guest_at(),
        copy_exact: None,
        journal: journal(world),
    }
}

fn journal(world: World<'_>) -> Journal {
    world.source.into_journal()
}
