//! Runs of the world: any bytes, and the courses that bytes seldom find.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// One side runs the guest, with the memory it had at the pause, and nothing is left behind,
    /// whatever is lost, fails or is cancelled, and whenever; and the journal replays.
    #[test]
    fn every_end_is_sound(data in prop::collection::vec(any::<u8>(), 0..600)) {
        check_machines(&data);
    }

    /// Each side keeps its promises whatever the other one says.
    #[test]
    fn no_peer_makes_a_side_break_its_promises(data in prop::collection::vec(any::<u8>(), 0..600)) {
        check_peer(&data);
    }
}

/// The destination is lost after *go*: what a fence makes of the guest is what the report says.
#[test]
fn a_fence_ends_the_doubt_as_its_guarantee_allows() {
    for (fence, outcome, runs) in
        [(Fence::NeverRan, Outcome::Failed, true), (Fence::MayHaveRun, Outcome::GuestLost, false)]
    {
        let mut world = (0..64)
            .find_map(|seed| reaching(seed, SourcePhase::AwaitingRunning))
            .expect("some seed comes to *go*");
        world.disconnect();
        world.obey();
        assert_eq!(world.source.report(world.now).outcome, Outcome::InDoubt);
        world.here(SourceEvent::Fenced(fence));
        world.obey();
        while !world.due_here.is_empty() {
            world.answer_here();
            world.obey();
        }
        assert_eq!(world.source.report(world.now).outcome, outcome);
        assert_eq!(world.runs_here, runs);
        assert!(!world.tracking);
    }
}

/// Every world of the first seeds that comes to `phase`, as it stands then.
fn worlds_in(phase: SourcePhase) -> impl Iterator<Item = (u8, World)> {
    (0..=255).filter_map(move |seed| Some((seed, reaching(seed, phase)?)))
}

/// Plays a world on until the source is in `phase`; none if it never is.
fn reaching(seed: u8, phase: SourcePhase) -> Option<World> {
    let mut world = World::new(seed, 9);
    world.obey();
    for step in 0..5_000_u32 {
        if world.source.phase() == phase {
            return Some(world);
        }
        world.write((step % 200) as u8, 3);
        world.everybody_acts();
    }
    None
}

#[test]
fn a_page_is_not_lost_when_post_copy_is_cut_off_at_any_moment() {
    let mut cut = 0;
    for (seed, steps) in (0..=255).flat_map(|seed| (0..12).map(move |steps| (seed, steps * 5))) {
        let Some(mut world) = reaching(seed, SourcePhase::PostCopy) else { continue };
        for step in 0..steps {
            world.write((step * 37 % 200) as u8, 1);
            world.everybody_acts();
        }
        if world.source.phase() != SourcePhase::PostCopy {
            continue;
        }
        world.disconnect();
        world.obey();
        assert_eq!(world.source.report(world.now).outcome, Outcome::InDoubt);
        world.calm_down();
        world.assert_at_the_end();
        let post_copy = world.source.report(world.now).post_copy;
        assert!(post_copy.is_some_and(|report| report.missing > Pages(0)));
        cut += 1;
    }
    assert!(cut > 100, "only {cut} post-copies were cut off");
}

#[test]
fn a_guest_that_is_fenced_or_lost_in_post_copy_is_not_called_complete_and_leaves_nothing() {
    for (phase, harm) in [
        (SourcePhase::InDoubt, World::fence as fn(&mut World)),
        (SourcePhase::PostCopy, World::fence),
        (SourcePhase::PostCopy, World::fail_there),
    ] {
        let mut harmed = 0;
        let through = if phase == SourcePhase::InDoubt { SourcePhase::AwaitingRunning } else { phase };
        for (seed, mut world) in worlds_in(through) {
            if !world.missing.contains(&true) {
                continue;
            }
            if phase == SourcePhase::InDoubt {
                world.disconnect();
                world.obey();
            }
            harm(&mut world);
            world.obey();
            world.calm_down();
            world.assert_at_the_end();
            assert_eq!(world.source.report(world.now).outcome, Outcome::GuestLost, "{phase:?} {seed}");
            harmed += 1;
        }
        assert!(harmed > 10, "only {harmed} in {phase:?}");
    }
}

#[test]
fn a_page_asked_for_on_a_new_connection_does_not_wait_for_the_rest() {
    let mut asked = 0;
    for (seed, mut world) in worlds_in(SourcePhase::PostCopy) {
        let sent = world.forward.iter().find_map(|wire| match wire {
            Wire::Page(page, _) => Some(*page),
            _ => None,
        });
        let (Some(page), true) = (sent, world.source.backlog().pending() > Pages(50)) else { continue };
        // The driver is in the middle of a slice; the page is lost, and asked for again.
        let due = std::mem::take(&mut world.due_here);
        world.disconnect();
        world.obey();
        world.connect();
        world.write_there(page);
        world.obey();
        world.deliver_back();
        world.obey();
        world.due_here = due;
        let before = world.source.backlog().pending();
        for _ in 0..40 {
            world.everybody_acts();
        }
        assert!(!world.waited_for.contains(&page), "{seed}: page {page} of {before:?} is waited for");
        asked += 1;
    }
    assert!(asked > 5, "only {asked}");
}

#[test]
fn a_guest_that_asks_gets_its_page_before_the_others() {
    let mut asked = 0;
    for (seed, mut world) in worlds_in(SourcePhase::PostCopy) {
        let Some(page) = (0..PAGES).rev().find(|&page| world.missing[page]) else { continue };
        let missing = world.missing.iter().filter(|missing| **missing).count();
        world.write_there(page);
        world.obey();
        while world.waited_for.contains(&page) {
            world.everybody_acts();
        }
        let left = world.missing.iter().filter(|missing| **missing).count();
        // What was on its way already, and a slice that had begun, come before it.
        assert!(missing - left <= 5 * world.slice as usize, "{seed}: {missing} {left}");
        asked += 1;
    }
    assert!(asked > 10, "only {asked} asked");
}

#[test]
fn a_guest_that_is_paused_early_is_handed_over_and_what_it_was_held_for_counts() {
    let mut held = 0;
    for seed in 0..=255 {
        let mut world = World::new(seed, 9);
        world.obey();
        world.calm_down();
        world.assert_at_the_end();
        let report = world.source.report(world.now);
        let rounds = report.rounds.iter().filter(|round| round.paused).count();
        assert!(rounds <= 1 || !report.downtime.held.is_zero() || !world.ran_there, "{seed}");
        held += u32::from(!report.downtime.held.is_zero());
    }
    assert!(held > 10, "only {held} were held");
}

#[test]
fn an_undisturbed_migration_completes() {
    let mut completed = 0;
    for seed in 0..64 {
        let mut world = World::new(seed, 9);
        world.obey();
        world.calm_down();
        world.assert_at_the_end();
        completed += u32::from(world.ran_there);
    }
    assert!(completed > 30, "only {completed} of 64 completed");
}
