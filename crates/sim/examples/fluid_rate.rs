//! How long a fluid migration takes on a machine that does other work as well: each part of a set is timed
//! alone, and the shortest of many passes counts. For `docs/benchmarks.md`; `benches/fluid.rs` has the same sets.
//!
//! `cargo run --release -p whimbrel-sim --example fluid_rate [SET [PASSES]]`

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use whimbrel_core::policy::presets;
use whimbrel_core::units::{Bandwidth, ByteCount};
use whimbrel_sim::config::{GuestConfig, Pattern, WriterConfig};
use whimbrel_sim::{Setup, SimError, Simulator};

/// Migrations of a set, all different, and those that are timed in one go: less than a millisecond.
const COUNT: u64 = 500;
const PART: usize = 25;

/// Name, preset, its parameters, pattern and write rate in shares of the bandwidth.
type Set = (&'static str, &'static str, &'static [(&'static str, &'static str)], Pattern, f64);

const FIFTY: &[(&str, &str)] = &[("max-iterations", "50"), ("min-dirty", "0")];
const SETS: [Set; 7] = [
    ("fifty-uniform", "xen-5", FIFTY, Pattern::Uniform, 0.7),
    ("fifty-hot-cold", "xen-5", FIFTY, Pattern::HotCold, 0.7),
    ("fifty-zipf", "xen-5", FIFTY, Pattern::Zipf, 0.7),
    ("fifty-sequential", "xen-5", FIFTY, Pattern::Sequential, 0.7),
    ("five-xen", "xen-5", &[], Pattern::Uniform, 0.3),
    ("five-cloud-hypervisor", "cloud-hypervisor", &[], Pattern::Uniform, 0.5),
    ("five-qemu", "qemu-default", &[], Pattern::Uniform, 0.3),
];

fn setups(&(_, preset, parameters, pattern, share): &Set) -> Vec<Setup> {
    let parameters: BTreeMap<String, String> =
        parameters.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let one = |index: u64| {
        let bandwidth = Bandwidth::new(125_000_000 + 1_000_000 * index).expect("not zero");
        let writer = WriterConfig {
            pattern,
            working_set: ByteCount::mib(256 + index % 256),
            rate: bandwidth.as_f64() / 4096.0 * (share + 1e-4 * index as f64),
            write_cost: Duration::from_nanos(20),
            ..WriterConfig::default()
        };
        let guest =
            GuestConfig { memory: ByteCount::gib(1), writers: vec![writer], ..GuestConfig::default() };
        let mut setup = Setup::new(guest, presets::build(preset, &parameters).expect("a preset"));
        setup.link.bandwidth = bandwidth;
        setup.journal = false;
        setup
    };
    (0..COUNT).map(one).collect()
}

/// Rounds of a pass, and its time if every part takes the shortest that it took.
fn measure(setups: &[Setup], passes: u32) -> Result<(u32, Duration), SimError> {
    let mut simulator = Simulator::default();
    let mut shortest = vec![Duration::MAX; setups.len().div_ceil(PART)];
    let mut rounds = 0;
    for _ in 0..passes {
        rounds = 0;
        for (part, shortest) in setups.chunks(PART).zip(&mut shortest) {
            let begun = Instant::now();
            for setup in part {
                rounds += simulator.run(setup)?.rounds;
            }
            *shortest = begun.elapsed().min(*shortest);
        }
    }
    Ok((rounds, shortest.iter().sum()))
}

fn main() -> Result<(), SimError> {
    let mut arguments = std::env::args().skip(1);
    let wanted = arguments.next();
    let passes = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(30);
    for set in SETS.iter().filter(|set| wanted.as_deref().is_none_or(|wanted| wanted == set.0)) {
        let (rounds, time) = measure(&setups(set), passes)?;
        let rounds = f64::from(rounds) / COUNT as f64;
        let micros = time.as_secs_f64() * 1e6 / COUNT as f64;
        println!("{:22} {rounds:5.1} rounds {micros:7.2} us {:9.0} migrations/s", set.0, 1e6 / micros);
    }
    Ok(())
}
