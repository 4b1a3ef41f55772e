//! What must hold for any guest, policy, host and link.

mod forks;
mod setups;

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use whimbrel_core::report::{Outcome, RoundReport};
use whimbrel_core::units::CpuShare;
use whimbrel_sim::config::{CompressionConfig, HostConfig, LinkConfig, XbzrleConfig};
use whimbrel_sim::{GuestAt, Run, Setup, replay, simulate};

use self::setups::{Holding, Throttling, setup, throttle, told};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    /// What the destination holds when the state is saved is what the guest's memory was at the pause.
    #[test]
    fn the_copy_is_exact(setup in setup()) {
        let run = simulate(&Setup { witness: true, ..setup }).unwrap();
        prop_assert_ne!(run.copy_exact, Some(false));
        if run.report.outcome == Outcome::Completed {
            prop_assert_eq!(run.copy_exact, Some(true));
        }
    }

    /// However it ends: no tracking, no throttle, one side that runs the guest, or a named doubt.
    #[test]
    fn every_end_is_clean(setup in setup()) {
        let run = simulate(&setup).unwrap();
        prop_assert!(run.report.clean_up_failures.is_empty());
        match run.report.outcome {
            Outcome::TimedOut if run.report.post_copy.is_some() => {
                prop_assert_eq!(run.guest_at, GuestAt::Destination);
            }
            // Without the pages that only the source has, it can't go on where it is.
            Outcome::Completed | Outcome::GuestLost => prop_assert_eq!(run.guest_at, GuestAt::Destination),
            // Paused after *go*, until somebody tells; the destination may already run it.
            Outcome::InDoubt => prop_assert!(run.guest_at != GuestAt::Source && run.guest_at != GuestAt::Both),
            _ => prop_assert_eq!(run.guest_at, GuestAt::Source),
        }
        if run.report.outcome != Outcome::InDoubt {
            prop_assert!(run.clean, "{:?}", run.report);
        }
    }

    /// The parts of the ledger add up to what the simulator's own clock says, and so does what the guest
    /// lost by the pause.
    #[test]
    fn the_ledger_adds_up_to_the_silence(setup in setup()) {
        let run = simulate(&setup).unwrap();
        if run.report.outcome == Outcome::Completed {
            let silence = run.silence.unwrap();
            prop_assert_eq!(run.report.downtime.total(), silence + run.report.downtime.first_pages);
            let lost = silence.as_secs_f64() * f64::from(setup.guest.vcpus);
            prop_assert!((run.disruption.pause.as_f64() - lost).abs() < 1e-6);
        }
    }

    /// In post-copy every missing page is sent once, none is sent that is not missing, and a vCPU stands
    /// still only while there are some.
    #[test]
    fn post_copy_sends_what_is_missing_once(setup in setup()) {
        let run = simulate(&setup).unwrap();
        let lost = run.disruption.post_copy.as_f64();
        // A source in doubt does not know that the guest runs there, and waits.
        let doubt = run.report.outcome == Outcome::InDoubt;
        let Some(post_copy) = run.report.post_copy else {
            if doubt {
                return Ok(());
            }
            prop_assert!(lost <= 0.0);
            prop_assert_eq!(run.report.downtime.first_pages, Duration::ZERO);
            return Ok(());
        };
        let rounds: Vec<_> = run.report.rounds.iter().filter(|round| round.post_copy).collect();
        prop_assert_eq!(rounds.len(), 1);
        prop_assert!(rounds[0].sent_pages <= post_copy.missing);
        if run.report.outcome == Outcome::Completed {
            prop_assert_eq!(rounds[0].sent_pages, post_copy.missing);
        }
        prop_assert!(post_copy.requests <= post_copy.missing.0);
        let since = run.report.total.as_secs_f64();
        prop_assert!(lost <= since * f64::from(setup.guest.vcpus));
        prop_assert!(!run.report.converged);
    }

    /// The gate before the switchover is part of the pause, whole and once.
    #[test]
    fn the_gate_is_paid_once(setup in setup()) {
        let run = simulate(&setup).unwrap();
        if run.report.outcome == Outcome::Completed && run.report.downtime.held.is_zero() {
            prop_assert_eq!(run.report.downtime.pause, setup.host.pause + setup.host.switchover_gate);
        }
    }

    /// Several streams send the pages that one would, and beside them no more than a header a packet of 128
    /// and a sync a stream and round.
    #[test]
    fn streams_add_headers_and_nothing_else(setup in setup(), streams in 1u32..9) {
        let host = HostConfig {
            streams,
            xbzrle: XbzrleConfig::default(),
            compression: CompressionConfig::default(),
            ..setup.host.clone()
        };
        let run = simulate(&Setup { host, ..setup }).unwrap();
        let pages: u64 = run.report.rounds.iter().map(|round| round.sent_pages.0 - round.zero_pages.0).sum();
        let zero: u64 = run.report.rounds.iter().map(|round| round.zero_pages.0).sum();
        let plain = pages as f64 * 4104.0 + zero as f64 * 9.0;
        let sent = run.report.sent.as_f64();
        // Bytes are counted whole, slice by slice.
        prop_assert!(sent >= plain * 0.999, "{sent} {plain}");
        let syncs = (run.report.rounds.len() + 2) as f64 * f64::from(streams) * 320.0;
        let headers = if streams > 1 { pages as f64 * 320.0 / 128.0 + syncs } else { 0.0 };
        prop_assert!(sent <= plain + headers + 1.0, "{sent} {plain} {headers}");
    }

    /// A guest that is paused early loses its pause and nothing else by it, and stays paused until the end.
    #[test]
    fn an_early_pause_is_all_downtime(setup in setup(), from in 0u32..4) {
        let policy = Box::new(Holding { from, inner: setup.policy.clone() });
        let run = simulate(&Setup { policy, witness: true, ..setup.clone() }).unwrap();
        prop_assert_ne!(run.copy_exact, Some(false));
        prop_assert!(run.clean || run.report.outcome == Outcome::InDoubt);
        let first = run.report.rounds.iter().position(|round| round.paused);
        if let (Some(first), Outcome::Completed) = (first, run.report.outcome) {
            let held = &run.report.rounds[first..];
            prop_assert!(held.iter().all(|round| round.paused));
            prop_assert_eq!(held.iter().skip(1).map(|round| round.dirtied.0).sum::<u64>(), 0);
            let sending: Duration = held.iter().map(|round| round.length).sum();
            prop_assert!(run.report.downtime.held >= sending.saturating_sub(run.report.downtime.last_pages));
            prop_assert_eq!(run.report.downtime.total(), run.silence.unwrap());
        }
    }

    /// What the source's own clock makes of the ledger is right on a link that is alike both ways.
    #[test]
    fn the_source_needs_no_common_clock_on_a_steady_link(setup in setup()) {
        let link = LinkConfig { changes: vec![], outages: vec![], lost_at: None, ..setup.link.clone() };
        let run = simulate(&Setup { link, ..setup }).unwrap();
        if run.report.outcome == Outcome::Completed {
            let (told, known) = (run.commit_as_told.unwrap(), run.report.downtime.commit);
            prop_assert!(told.abs_diff(known) < Duration::from_micros(2), "{told:?} {known:?}");
        }
    }

    /// A policy that throttles in every round leaves no throttle, however the migration ends; and the
    /// throttle counts as lost.
    #[test]
    fn a_throttle_is_gone_in_the_end(setup in setup(), throttle in throttle()) {
        let policy = Box::new(Throttling { throttle, inner: setup.policy.clone() });
        let run = simulate(&Setup { policy, ..setup }).unwrap();
        if run.report.outcome != Outcome::InDoubt {
            prop_assert!(run.clean);
        }
        let by_the_clock = throttle.share() > CpuShare::NONE;
        let live = |round: &RoundReport| !round.paused && !round.post_copy && round.length > Duration::ZERO;
        if by_the_clock && run.report.rounds.iter().any(live) {
            prop_assert!(run.disruption.throttle.as_f64() > 0.0);
        }
    }

    /// Same setup and seed, same run; also with a throttle of any form.
    #[test]
    fn the_same_seed_gives_the_same_run(setup in setup(), throttle in prop::option::of(throttle())) {
        let mut setup = setup;
        if let Some(throttle) = throttle {
            setup.policy = Box::new(Throttling { throttle, inner: setup.policy });
        }
        prop_assert_eq!(told(&simulate(&setup).unwrap()), told(&simulate(&setup).unwrap()));
    }

    /// Leaving out the ticks at which nothing can change changes nothing, whatever slows the guest.
    #[test]
    fn skipping_ticks_decides_the_same_as_ticking(setup in setup(), throttle in prop::option::of(throttle())) {
        let mut setup = setup;
        if let Some(throttle) = throttle {
            setup.policy = Box::new(Throttling { throttle, inner: setup.policy });
        }
        let skipping = simulate(&setup).unwrap();
        let ticking = simulate(&Setup { every_tick: true, ..setup }).unwrap();
        let essence = |run: &Run| {
            let mut report = run.report.clone();
            // The reason of a decision to go on is that of the last tick that was asked.
            for round in &mut report.rounds {
                round.decision = None;
            }
            format!("{report:?} {:?} {:?}", run.silence, run.guest_at)
        };
        prop_assert_eq!(essence(&skipping), essence(&ticking));
    }

    /// Replaying the events gives the same journal, decisions and reasons included.
    #[test]
    fn a_journal_replays_to_itself(setup in setup()) {
        let run = simulate(&setup).unwrap();
        prop_assert_eq!(&replay(&setup, &run.journal).unwrap(), &run.journal);
        let decided = run.journal.replay_decisions(&mut *setup.policy.clone());
        prop_assert_eq!(decided, Ok(()));
    }
}

#[test]
fn most_random_setups_complete_or_every_promise_above_is_empty() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut completed, mut other, mut behind) = (0, 0, 0);
    for _ in 0..200 {
        let setup = setup().new_tree(&mut runner).unwrap().current();
        let report = simulate(&setup).unwrap().report;
        match report.outcome {
            Outcome::Completed => completed += 1,
            _ => other += 1,
        }
        behind += u32::from(report.post_copy.is_some());
    }
    assert!(completed > 60 && other > 20, "{completed} completed, {other} did not");
    assert!(behind > 5, "{behind} used post-copy");
}
