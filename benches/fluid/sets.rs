//! The sets of fluid migrations that `benches/fluid.rs` and `examples/fluid_rate.rs` time.
//!
//! In each the bandwidth, the write rate and the working set differ from one migration to the next, so that nothing
//! can be remembered.

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel::core::policy::presets;
use whimbrel::core::units::{Bandwidth, ByteCount};
use whimbrel::sim::Setup;
use whimbrel::sim::config::{GuestConfig, Pattern, WriterConfig};

/// Migrations of a set.
pub(crate) const COUNT: u64 = 500;

/// Migrations of one policy, each of another guest over another link.
pub(crate) struct Set {
    /// What it is called: how many rounds, and of what.
    pub(crate) name: &'static str,
    pub(crate) preset: &'static str,
    pub(crate) parameters: &'static [(&'static str, &'static str)],
    pub(crate) pattern: Pattern,
    /// The write rate in shares of the bandwidth.
    pub(crate) share: f64,
}

/// Forty-nine rounds with the guest running, and the last one with it paused.
const FIFTY: &[(&str, &str)] = &[("max-iterations", "49"), ("min-dirty", "0")];
/// Four, and the last one.
const FIVE: &[(&str, &str)] = &[("max-iterations", "4")];

const fn set(
    name: &'static str,
    preset: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    pattern: Pattern,
    share: f64,
) -> Set {
    Set { name, preset, parameters, pattern, share }
}

/// All of them.
pub(crate) const SETS: [Set; 7] = [
    set("fifty-uniform", "xen-5", FIFTY, Pattern::Uniform, 0.7),
    set("fifty-hot-cold", "xen-5", FIFTY, Pattern::HotCold, 0.7),
    set("fifty-zipf", "xen-5", FIFTY, Pattern::Zipf, 0.7),
    set("fifty-sequential", "xen-5", FIFTY, Pattern::Sequential, 0.7),
    set("five-xen", "xen-5", FIVE, Pattern::Uniform, 0.3),
    set("five-cloud-hypervisor", "cloud-hypervisor", &[], Pattern::Uniform, 0.75),
    set("five-qemu", "qemu-default", &[], Pattern::Uniform, 0.35),
];

impl Set {
    /// Its migrations.
    pub(crate) fn setups(&self) -> Vec<Setup> {
        let given = self.parameters.iter();
        let parameters: BTreeMap<String, String> =
            given.map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let one = |index: u64| {
            let bandwidth = Bandwidth::new(125_000_000 + 1_000_000 * index).expect("not zero");
            let writer = WriterConfig {
                pattern: self.pattern,
                working_set: ByteCount::mib(256 + index % 256),
                rate: bandwidth.as_f64() / 4096.0 * (self.share + 1e-4 * index as f64),
                write_cost: Duration::from_nanos(20),
                ..WriterConfig::default()
            };
            let guest =
                GuestConfig { memory: ByteCount::gib(1), writers: vec![writer], ..GuestConfig::default() };
            let policy = presets::build(self.preset, &parameters).expect("a preset");
            let mut setup = Setup::new(guest, policy);
            setup.link.bandwidth = bandwidth;
            setup.journal = false;
            setup
        };
        (0..COUNT).map(one).collect()
    }
}
