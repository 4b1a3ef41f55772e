//! What must hold for any guest, policy, host and link.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use whimbrel_core::policy::{
    Adjustments, Cadence, ChangeError, Decision, Policy, SwitchoverWhen, Until, Verdict, presets,
};
use whimbrel_core::progress::{Moment, Progress};
use whimbrel_core::report::{Outcome, RoundReport};
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::{Bandwidth, ByteCount, CpuShare, Share};
use whimbrel_sim::config::{
    BandwidthChange, CompressionConfig, GuestConfig, HostConfig, LinkConfig, Outage, Pattern, PhaseConfig,
    PostCopyOrder, WriteAt, WriterConfig, XbzrleConfig, ZeroPlacement,
};
use whimbrel_sim::{GuestAt, PolicyChange, Run, Setup, replay, simulate};

fn milliseconds(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

fn share() -> impl Strategy<Value = Share> {
    (0u32..=100).prop_map(|percent| Share::clamped(f64::from(percent) / 100.0))
}

prop_compose! {
    fn writer()(
        pattern in prop::sample::select(vec![
            Pattern::Uniform, Pattern::Sequential, Pattern::HotCold, Pattern::Zipf, Pattern::Idle,
        ]),
        pages in 1u64..600,
        write_size in 1u64..5000,
        fixed in any::<bool>(),
        rate in prop_oneof![Just(0.0), 1.0..100_000.0f64],
        hot in ((1u32..90).prop_map(|percent| Share::clamped(f64::from(percent) / 100.0)), share()),
        start in milliseconds(0..300),
        phases in prop::collection::vec((1u64..200, 0.0..50_000.0f64), 0..3),
        write_cost_us in 0u64..50,
        catch_up in milliseconds(0..100),
    ) -> WriterConfig {
        WriterConfig {
            pattern,
            working_set: ByteCount(pages * 4096),
            write_size: ByteCount(write_size),
            write_at: if fixed { WriteAt::Fixed } else { WriteAt::Random },
            rate,
            hot_pages: hot.0,
            hot_writes: hot.1,
            start,
            phases: phases
                .into_iter()
                .map(|(ms, rate)| PhaseConfig { length: Duration::from_millis(ms), rate })
                .collect(),
            write_cost: Duration::from_micros(write_cost_us),
            catch_up,
            ..WriterConfig::default()
        }
    }
}

prop_compose! {
    fn guest()(
        extra_pages in 0u64..1500,
        vcpus in 1u32..5,
        zero_pages in share(),
        at_end in any::<bool>(),
        unchanged_pages in share(),
        state in 0u64..100_000,
        writers in prop::collection::vec(writer(), 0..4),
        (resume_pages, resume_span) in (0u32..400, 0u64..4_000_000),
    ) -> GuestConfig {
        let written: u64 = writers.iter().map(|writer| writer.working_set.0).sum();
        let memory = written + (extra_pages + 1) * 4096;
        let free = extra_pages as f64 * 4096.0 / memory as f64;
        GuestConfig {
            memory: ByteCount(memory),
            vcpus,
            zero_pages: Share::clamped(zero_pages.as_f64() * free),
            zero_placement: if at_end { ZeroPlacement::End } else { ZeroPlacement::Spread },
            unchanged_pages,
            state: ByteCount(state),
            resume_pages,
            resume_span: ByteCount(resume_span),
            resume_top: ByteCount(resume_span / 3),
            writers,
            ..GuestConfig::default()
        }
    }
}

prop_compose! {
    fn link()(
        bandwidth in 1_000_000u64..500_000_000,
        round_trip in milliseconds(0..50),
        buffer in prop_oneof![Just(4_096u64), 4_096u64..5_000_000],
        changes in prop::collection::vec((0u64..400, 1_000_000u64..500_000_000), 0..3),
        outages in prop::collection::vec((1u64..300, prop_oneof![1u64..200, 1_000u64..40_000]), 0..3),
        lost_at in prop::option::weighted(0.3, milliseconds(0..600)),
    ) -> LinkConfig {
        let (mut at, mut from) = (Duration::ZERO, Duration::ZERO);
        LinkConfig {
            bandwidth: Bandwidth::new(bandwidth).unwrap(),
            round_trip,
            buffer: ByteCount(buffer),
            changes: changes
                .into_iter()
                .map(|(ms, rate)| {
                    at += Duration::from_millis(ms + 1);
                    BandwidthChange { at, bandwidth: Bandwidth::new(rate).unwrap() }
                })
                .collect(),
            outages: outages
                .into_iter()
                .map(|(gap, length)| {
                    let at = from + Duration::from_millis(gap);
                    let length = Duration::from_millis(length);
                    from = at + length;
                    Outage { at, length }
                })
                .collect(),
            lost_at,
            ..LinkConfig::default()
        }
    }
}

/// Hosts that encode pages in every way, or not at all.
fn encodings() -> impl Strategy<Value = HostConfig> {
    let xbzrle = (12u32..24, 100_000_000u64..20_000_000_000).prop_map(|(log, speed)| XbzrleConfig {
        cache: Some(ByteCount(1 << log)),
        speed: Bandwidth::new(speed).unwrap(),
    });
    let compression =
        (1u32..=100, 10_000_000u64..2_000_000_000, 1u32..16).prop_map(|(left, speed, threads)| {
            CompressionConfig {
                ratio: Some(Share::clamped(f64::from(left) / 100.0)),
                speed: Bandwidth::new(speed).unwrap(),
                threads,
                ..CompressionConfig::default()
            }
        });
    let xbzrle = prop::option::weighted(0.3, xbzrle);
    let compression = prop::option::weighted(0.3, compression);
    (xbzrle, compression, 1u32..6, milliseconds(0..20)).prop_map(|(xbzrle, compression, streams, gate)| {
        HostConfig {
            streams: if xbzrle.is_some() { 1 } else { streams },
            xbzrle: xbzrle.unwrap_or_default(),
            compression: compression.unwrap_or_default(),
            switchover_gate: gate,
            ..HostConfig::default()
        }
    })
}

prop_compose! {
    fn setup()(
        guest in guest(),
        host in prop_oneof![Just(HostConfig::default()), encodings()],
        link in link(),
        policy in prop_oneof![
            (1u64..400, prop::option::of(1_000_000u64..200_000_000)).prop_map(|(ms, cap)| {
                let mut parameters = vec![("downtime-limit", format!("{ms}ms"))];
                parameters.extend(cap.map(|cap| ("max-bandwidth", format!("{cap}B/s"))));
                ("qemu-default", parameters)
            }),
            Just(("xen-5", vec![])),
            Just(("hyperv-5", vec![])),
            Just(("hyperv-10", vec![])),
            (1u64..400).prop_map(|ms| ("cloud-hypervisor", vec![("downtime-limit", format!("{ms}ms"))])),
            (0u64..6).prop_map(|rounds| ("fixed-rounds", vec![("rounds", rounds.to_string())])),
            prop::sample::select(&["quick", "pure-postcopy", "clark-2005", "ch-legacy", "vmware-sdps", "criu-phaul"][..])
                .prop_map(|name| (name, vec![])),
            prop::sample::select(&["on", "off"][..])
                .prop_map(|rate| ("xen-classic", vec![("adaptive-rate", rate.to_owned())])),
            (0u64..40).prop_map(|ms| ("qemu-postcopy", vec![
                ("postcopy-after", format!("{ms}ms")),
                ("downtime-limit", "1ms".to_owned()),
            ])),
            (1u64..30).prop_map(|ms| ("qemu-auto-converge", vec![("downtime-limit", format!("{ms}ms"))])),
        ],
        post_copy in (any::<bool>(), any::<bool>(), 0u64..2_000),
        change in prop::option::of(milliseconds(0..500)),
        skip_redirtied in any::<bool>(),
        send_batch in 1u32..200,
        seed in any::<u64>(),
        time_limit in milliseconds(1..5_000),
    ) -> Setup {
        let (preset, parameters) = policy;
        let parameters: BTreeMap<String, String> =
            parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut setup = Setup::new(guest, presets::build(preset, &parameters).unwrap());
        let (preempt, hot_first, fault_us) = post_copy;
        setup.host = HostConfig {
            skip_redirtied,
            send_batch,
            post_copy_preempt: preempt,
            post_copy_order: if hot_first { PostCopyOrder::HotFirst } else { PostCopyOrder::Memory },
            post_copy_fault: Duration::from_micros(fault_us),
            ..host
        };
        if let Some(at) = change.filter(|_| preset.starts_with("qemu")) {
            let (parameter, value) = ("downtime-limit".to_owned(), "2s".to_owned());
            setup.changes = vec![PolicyChange { at, parameter, value }];
        }
        setup.link = link;
        setup.seed = seed;
        setup.time_limit = time_limit;
        setup
    }
}

/// Another policy, with a throttle from the first round on.
#[derive(Clone, Debug)]
struct Throttling {
    throttle: Throttle,
    inner: Box<dyn Policy>,
}

impl Policy for Throttling {
    fn name(&self) -> &'static str {
        "throttling"
    }

    fn cadence(&self) -> Cadence {
        self.inner.cadence()
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let verdict = self.inner.decide(moment, progress);
        let adjust = Adjustments { throttle: Some(self.throttle), ..verdict.adjust };
        verdict.adjusting(adjust)
    }

    fn set_parameter(&mut self, name: &str, value: &str) -> Result<(), ChangeError> {
        self.inner.set_parameter(name, value)
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

/// Another policy, whose guest is paused when a round starts and handed over when all is sent.
#[derive(Clone, Debug)]
struct Holding {
    from: u32,
    inner: Box<dyn Policy>,
}

impl Policy for Holding {
    fn name(&self) -> &'static str {
        "holding"
    }

    fn cadence(&self) -> Cadence {
        self.inner.cadence()
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let verdict = self.inner.decide(moment, progress);
        let forced = Decision::Switchover { when: SwitchoverWhen::Now, forced: true };
        let decision = match moment {
            Moment::RoundEnd if progress.paused => forced,
            Moment::RoundStart if progress.round >= self.from && !progress.paused => Decision::Pause,
            _ => Decision::Continue,
        };
        Verdict { decision, until: Until::NEXT, ..verdict }
    }

    fn set_parameter(&mut self, name: &str, value: &str) -> Result<(), ChangeError> {
        self.inner.set_parameter(name, value)
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

fn throttle() -> impl Strategy<Value = Throttle> {
    prop_oneof![
        (1u8..99).prop_map(|percent| Throttle::duty_cycle(CpuShare::percent(percent))),
        (1u8..99, 1u64..5_000).prop_map(|(percent, sleep)| Throttle::MicroSleeps {
            share: CpuShare::percent(percent),
            sleep: Duration::from_micros(sleep),
        }),
        (1u64..200, 1u64..1_000).prop_map(|(mb, period)| Throttle::DirtyLimit {
            quota: Bandwidth::new(mb * 1_000_000).unwrap(),
            period: Duration::from_millis(period),
        }),
    ]
}

/// Everything that a run tells, as text.
fn told(run: &Run) -> String {
    format!("{run:?}")
}

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
