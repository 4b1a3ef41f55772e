//! Simulated migrations a second, and what a huge or a never-converging guest costs.
//!
//! Targets (one core of a 2.6 GHz Xeon): the 4 GiB guest at least 2,000 migrations a second; 1 TiB in half a
//! second; a guest that never converges 0.15 ms a round for each GiB of its working set. Memory is measured
//! by `examples/huge_guest.rs` under `/usr/bin/time -v`.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use whimbrel::core::policy::presets;
use whimbrel::core::units::ByteCount;
use whimbrel::sim::config::{GuestConfig, Pattern, WriterConfig};
use whimbrel::sim::{Setup, simulate};

fn setup(memory: u64, working_set: u64, rate: f64, bandwidth: &str, limit: &str) -> Setup {
    let parameters = BTreeMap::from([("downtime-limit".to_owned(), limit.to_owned())]);
    let writer = WriterConfig {
        pattern: Pattern::Uniform,
        working_set: ByteCount::gib(working_set),
        rate,
        ..WriterConfig::default()
    };
    let guest =
        GuestConfig { memory: ByteCount::gib(memory), writers: vec![writer], ..GuestConfig::default() };
    let mut setup = Setup::new(guest, presets::build("qemu-default", &parameters).unwrap());
    setup.link.bandwidth = bandwidth.parse().unwrap();
    setup.journal = false;
    setup
}

fn migrations(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("migration");
    let mut small = setup(4, 1, 61_035.0, "10Gbit/s", "30ms");
    group.bench_function("4GiB-10Gbit", |bencher| {
        bencher.iter(|| {
            small.seed += 1;
            simulate(black_box(&small)).unwrap()
        });
    });
    group.sample_size(10);
    let huge = setup(1024, 256, 1_000_000.0, "100Gbit/s", "300ms");
    group.bench_function("1TiB-100Gbit", |bencher| bencher.iter(|| simulate(black_box(&huge)).unwrap()));
    group.finish();
}

/// Time a round for each GiB of working set: the time of a run over its rounds.
fn never_converging(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("never-converging");
    group.sample_size(10);
    for gib in [1, 4] {
        // Writes several times what the link carries, so every round dirties nearly all of it.
        let mut endless = setup(gib + 1, gib, 1_000_000.0 * gib as f64, "10Gbit/s", "30ms");
        endless.guest.vcpus = 4;
        endless.guest.writers[0].write_cost = Duration::from_nanos(50);
        endless.time_limit = Duration::from_mins(1);
        group.bench_function(format!("round-per-GiB/{gib}GiB"), |bencher| {
            bencher.iter_custom(|rounds| {
                let (mut spent, mut done) = (Duration::ZERO, 0);
                while done < rounds {
                    let begin = Instant::now();
                    let run = simulate(black_box(&endless)).unwrap();
                    spent += begin.elapsed();
                    done += run.report.rounds.len() as u64;
                }
                spent.mul_f64(rounds as f64 / done as f64 / gib as f64)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, migrations, never_converging);
criterion_main!(benches);
