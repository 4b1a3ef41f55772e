//! Fluid migrations: how many a second, over settings that are all different.
//!
//! Two sets: migrations of about 50 rounds, and of about five. In each the bandwidth, the write rate and the working
//! set differ from one migration to the next, so nothing can be remembered; the same machines, controllers and
//! policies run as in an exact simulation. Points are named by policy and pattern. `threads` runs the first set
//! on one thread and on two.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use whimbrel::core::policy::presets;
use whimbrel::core::units::{Bandwidth, ByteCount};
use whimbrel::sim::config::{GuestConfig, Pattern, WriterConfig};
use whimbrel::sim::{Setup, Simulator};

/// Migrations of a set.
const COUNT: u64 = 500;

/// A set of migrations of `preset`, each of another guest over another link; `share` is the write rate in
/// shares of the bandwidth.
fn set(preset: &str, parameters: &[(&str, &str)], pattern: Pattern, share: f64) -> Vec<Setup> {
    let parameters: BTreeMap<String, String> =
        parameters.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let one = |index: u64| {
        let bandwidth = Bandwidth::new(125_000_000 + 1_000_000 * index).unwrap();
        let writer = WriterConfig {
            pattern,
            working_set: ByteCount::mib(256 + index % 256),
            rate: bandwidth.as_f64() / 4096.0 * (share + 1e-4 * index as f64),
            write_cost: Duration::from_nanos(20),
            ..WriterConfig::default()
        };
        let guest =
            GuestConfig { memory: ByteCount::gib(1), writers: vec![writer], ..GuestConfig::default() };
        let mut setup = Setup::new(guest, presets::build(preset, &parameters).unwrap());
        setup.link.bandwidth = bandwidth;
        setup.journal = false;
        setup
    };
    (0..COUNT).map(one).collect()
}

/// Runs all of them; the rounds that they took.
fn run(simulator: &mut Simulator, setups: &[Setup]) -> u64 {
    setups.iter().map(|setup| u64::from(simulator.run(black_box(setup)).unwrap().rounds)).sum()
}

const FIFTY: &[(&str, &str)] = &[("max-iterations", "50"), ("min-dirty", "0")];

fn rounds(criterion: &mut Criterion) {
    let sets = [
        ("50-rounds", "xen-5", FIFTY, Pattern::Uniform, 0.7),
        ("50-rounds", "xen-5", FIFTY, Pattern::HotCold, 0.7),
        ("50-rounds", "xen-5", FIFTY, Pattern::Zipf, 0.7),
        ("50-rounds", "xen-5", FIFTY, Pattern::Sequential, 0.7),
        ("5-rounds", "xen-5", &[][..], Pattern::Uniform, 0.3),
        ("5-rounds", "cloud-hypervisor", &[], Pattern::Uniform, 0.5),
        ("5-rounds", "qemu-default", &[], Pattern::Uniform, 0.3),
    ];
    for (name, preset, parameters, pattern, share) in sets {
        let setups = set(preset, parameters, pattern, share);
        let mut simulator = Simulator::default();
        let rounds = run(&mut simulator, &setups) as f64 / COUNT as f64;
        let mut group = criterion.benchmark_group(format!("fluid/{name}"));
        group.sample_size(20).throughput(Throughput::Elements(COUNT));
        let point = format!("{pattern:?}, {rounds:.1} rounds").to_lowercase();
        group.bench_function(BenchmarkId::new(preset, point), |bencher| {
            bencher.iter(|| run(&mut simulator, &setups));
        });
        group.finish();
    }
}

/// The same work by one thread and shared by two.
fn threads(criterion: &mut Criterion) {
    let setups = set("xen-5", FIFTY, Pattern::Uniform, 0.7);
    let mut group = criterion.benchmark_group("fluid/threads");
    group.sample_size(20).throughput(Throughput::Elements(2 * COUNT));
    for threads in [1, 2] {
        group.bench_function(BenchmarkId::from_parameter(threads), |bencher| {
            bencher.iter(|| {
                std::thread::scope(|scope| {
                    for _ in 0..threads {
                        scope.spawn(|| {
                            let mut simulator = Simulator::default();
                            (0..2 / threads).map(|_| run(&mut simulator, &setups)).sum::<u64>()
                        });
                    }
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, rounds, threads);
criterion_main!(benches);
