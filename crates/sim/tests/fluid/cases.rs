//! Migrations drawn at random: guests of all patterns with one or two writers, links, and a policy.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use proptest::prelude::*;
use whimbrel_core::policy::presets;
use whimbrel_core::units::{Bandwidth, ByteCount, Share};
use whimbrel_sim::Setup;
use whimbrel_sim::config::{GuestConfig, Pattern, PhaseConfig, WriterConfig, ZeroPlacement};

/// Parameters of a preset, as texts.
pub(crate) type Parameters = &'static [(&'static str, &'static str)];

/// What is drawn.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    /// Presets with their parameters.
    pub(crate) policies: Vec<(&'static str, Parameters)>,
    pub(crate) patterns: &'static [Pattern],
    /// The link, MB/s.
    pub(crate) megabytes: Range<u64>,
    /// The queue before the wire, KiB.
    pub(crate) buffer: Range<u64>,
    /// What a writer writes to, MiB.
    pub(crate) working_set: Range<u64>,
    /// And how fast, all writers together, as a share of the link.
    pub(crate) share: Range<f64>,
}

/// All but traces and measured programs, which keep pages apart and are refused.
pub(crate) const PATTERNS: &[Pattern] =
    &[Pattern::Uniform, Pattern::Sequential, Pattern::HotCold, Pattern::Zipf, Pattern::Idle];

impl Kind {
    pub(crate) fn of(policies: &[&'static str]) -> Self {
        Self {
            policies: policies.iter().map(|&name| (name, &[][..])).collect(),
            patterns: PATTERNS,
            megabytes: 20..1500,
            buffer: 256..6000,
            working_set: 8..40,
            share: 0.01..1.2,
        }
    }

    /// On links so slow that memory takes longer than the first looks at the bandwidth.
    pub(crate) fn slow(self) -> Self {
        Self { megabytes: 40..120, buffer: 64..900, ..self }
    }

    /// On links of 1 to 25 Gbit/s with the buffers that connections of theirs have, 3 to 16 MiB.
    pub(crate) fn fast(self) -> Self {
        Self { megabytes: 125..3125, buffer: 3072..16_384, working_set: 100..600, ..self }
    }

    /// With guests that write so much that pre-copy alone gets nowhere.
    pub(crate) fn busy(self) -> Self {
        Self { working_set: 40..160, share: 0.4..2.5, ..self }
    }

    pub(crate) fn setups(&self) -> impl Strategy<Value = Setup> + use<> {
        let kind = self.clone();
        let writers = prop::collection::vec(writer(&kind), 1..3);
        (
            (writers, 1u64..120, prop_oneof![Just(0.0), 0.0..1.0f64]),
            (any::<bool>(), any::<bool>()),
            (kind.megabytes, kind.buffer),
            prop::sample::select(kind.policies),
        )
            .prop_map(
                |((writers, extra, zero), (at_end, overlapping), (megabytes, buffer), policy)| {
                    let bandwidth = Bandwidth::new(megabytes * 1_000_000).unwrap();
                    let writers = writers.into_iter().map(|writer| writer.on(bandwidth)).collect();
                    let mut setup = Setup::new(
                        guest(writers, extra, zero, at_end, overlapping),
                        presets::build(policy.0, &texts(policy.1)).unwrap(),
                    );
                    setup.link.bandwidth = bandwidth;
                    setup.link.buffer = ByteCount::kib(buffer);
                    setup.time_limit = Duration::from_mins(1);
                    setup.journal = false;
                    setup
                },
            )
    }
}

pub(crate) fn texts(parameters: Parameters) -> BTreeMap<String, String> {
    parameters.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A writer whose rates are shares of the link's.
#[derive(Clone, Debug)]
struct Writer(WriterConfig);

impl Writer {
    fn on(self, bandwidth: Bandwidth) -> WriterConfig {
        let mut writer = self.0;
        writer.rate *= bandwidth.as_f64() / 4096.0;
        for phase in &mut writer.phases {
            phase.rate *= writer.rate;
        }
        writer
    }
}

fn writer(kind: &Kind) -> impl Strategy<Value = Writer> + use<> {
    (
        prop::sample::select(kind.patterns),
        kind.working_set.clone(),
        kind.share.clone(),
        (2u8..60, 30u8..100),
        0.3..1.5f64,
        prop::option::weighted(0.2, (100u64..2000, 100u64..2000, 0.0..2.0f64)),
    )
        .prop_map(|(pattern, mib, share, (hot_pages, hot_writes), exponent, phases)| {
            let phases = phases.map_or_else(Vec::new, |(one, other, times)| vec![(one, 1.0), (other, times)]);
            Writer(WriterConfig {
                pattern,
                working_set: ByteCount::mib(mib),
                rate: share,
                hot_pages: Share::percent(hot_pages),
                hot_writes: Share::percent(hot_writes),
                exponent,
                phases: phases
                    .into_iter()
                    .map(|(ms, rate)| PhaseConfig { length: Duration::from_millis(ms), rate })
                    .collect(),
                ..WriterConfig::default()
            })
        })
}

/// A guest of at least 64 MiB with `extra` MiB that nobody writes to, of which a share is zero.
fn guest(
    mut writers: Vec<WriterConfig>,
    extra: u64,
    zero: f64,
    at_end: bool,
    overlapping: bool,
) -> GuestConfig {
    let written: u64 = writers.iter().map(|writer| writer.working_set.0 >> 20).sum();
    let memory = (written + extra).max(64);
    let count = writers.len() as f64;
    for writer in &mut writers {
        writer.rate /= count;
        for phase in &mut writer.phases {
            phase.rate /= count;
        }
    }
    if overlapping && writers.len() > 1 {
        writers[1].offset = Some(ByteCount::mib((writers[0].working_set.0 >> 20) / 2));
    }
    let free = (memory - written) as f64 / memory as f64;
    GuestConfig {
        memory: ByteCount::mib(memory),
        vcpus: 2,
        zero_pages: Share::clamped(zero * free * 0.99),
        zero_placement: if at_end { ZeroPlacement::End } else { ZeroPlacement::Spread },
        writers,
        ..GuestConfig::default()
    }
}
