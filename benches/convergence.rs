//! What a simulated migration costs over bandwidth and dirty rate: the two axes that whimbrel is about.
//!
//! A guest of 1 GiB that writes to half of it. Points are named by the link's bandwidth and by the write
//! rate in shares of it: below one the rounds shrink, above it they never do and the time limit ends it.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use whimbrel::core::policy::presets;
use whimbrel::core::units::{Bandwidth, ByteCount};
use whimbrel::sim::config::{GuestConfig, Pattern, WriterConfig};
use whimbrel::sim::{Setup, simulate};

fn convergence(criterion: &mut Criterion) {
    for preset in ["qemu-default", "xen-5", "cloud-hypervisor"] {
        let mut group = criterion.benchmark_group(format!("convergence/{preset}"));
        group.sample_size(20);
        for gbit in [1, 10, 100] {
            let bandwidth = Bandwidth::new(gbit * 125_000_000).unwrap();
            for share in [0.1, 0.5, 0.9, 1.5] {
                let writer = WriterConfig {
                    pattern: Pattern::Uniform,
                    working_set: ByteCount::mib(512),
                    rate: bandwidth.as_f64() * share / 4096.0,
                    write_cost: Duration::from_nanos(20),
                    ..WriterConfig::default()
                };
                let guest = GuestConfig {
                    memory: ByteCount::gib(1),
                    writers: vec![writer],
                    ..GuestConfig::default()
                };
                let mut setup = Setup::new(guest, presets::build(preset, &BTreeMap::new()).unwrap());
                setup.link.bandwidth = bandwidth;
                setup.journal = false;
                setup.time_limit = Duration::from_mins(1);
                group.bench_function(BenchmarkId::new(format!("{gbit}Gbit"), share), |bencher| {
                    bencher.iter(|| simulate(black_box(&setup)).unwrap());
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, convergence);
criterion_main!(benches);
