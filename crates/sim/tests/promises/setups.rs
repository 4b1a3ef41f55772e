//! Any guest, host, link and policy, and what a run tells.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use whimbrel_core::policy::{
    Adjustments, Cadence, ChangeError, Decision, Policy, SwitchoverWhen, Until, Verdict, presets,
};
use whimbrel_core::progress::{Moment, Progress};
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::{Bandwidth, ByteCount, CpuShare, Share};
use whimbrel_sim::config::{
    BandwidthChange, CompressionConfig, GuestConfig, HostConfig, LinkConfig, Outage, Pattern, PhaseConfig,
    PostCopyOrder, WriteAt, WriterConfig, XbzrleConfig, ZeroPlacement,
};
use whimbrel_sim::{PolicyChange, Run, Setup};

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
    pub(crate) fn setup()(
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
            (12u64..100, 0u32..90, any::<bool>()).prop_map(|(ms, percent, post_copy)| ("whimbrel", vec![
                ("downtime", format!("{ms}ms")),
                ("slowdown", format!("{percent}%")),
                ("post-copy", if post_copy { "on" } else { "off" }.to_owned()),
                ("deadline", "30s".to_owned()),
            ])),
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
pub(crate) struct Throttling {
    pub(crate) throttle: Throttle,
    pub(crate) inner: Box<dyn Policy>,
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
pub(crate) struct Holding {
    pub(crate) from: u32,
    pub(crate) inner: Box<dyn Policy>,
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

pub(crate) fn throttle() -> impl Strategy<Value = Throttle> {
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
pub(crate) fn told(run: &Run) -> String {
    format!("{run:?}")
}
