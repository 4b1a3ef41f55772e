//! Fluid migrations: how many a second, over settings that are all different.
//!
//! Sets of migrations of about 50 rounds and of about five (`fluid/sets.rs`); the same machines, controllers and policies
//! run as in an exact simulation. `threads` runs the first set on one thread and on two.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use whimbrel::sim::{Setup, Simulator};

use self::sets::{COUNT, SETS};

#[path = "fluid/sets.rs"]
mod sets;

/// Runs all of them; the rounds that they took.
fn run(simulator: &mut Simulator, setups: &[Setup]) -> u64 {
    setups.iter().map(|setup| u64::from(simulator.run(black_box(setup)).unwrap().rounds)).sum()
}

fn rounds(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fluid");
    group.sample_size(20).throughput(Throughput::Elements(COUNT));
    for set in &SETS {
        let setups = set.setups();
        let mut simulator = Simulator::default();
        let rounds = run(&mut simulator, &setups) as f64 / COUNT as f64;
        group.bench_function(BenchmarkId::new(set.name, format!("{rounds:.1} rounds")), |bencher| {
            bencher.iter(|| run(&mut simulator, &setups));
        });
    }
    group.finish();
}

/// The same work by one thread and shared by two.
fn threads(criterion: &mut Criterion) {
    let setups = SETS[0].setups();
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
