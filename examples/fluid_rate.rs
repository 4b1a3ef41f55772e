//! How long a fluid migration takes on a machine that does other work as well: each part of a set is timed
//! alone, and the shortest of many passes counts. For `docs/benchmarks.md`; `benches/fluid.rs` has the same sets.
//!
//! `cargo run --release --example fluid_rate [SET [PASSES]]`

use std::time::{Duration, Instant};

use whimbrel::sim::{Setup, SimError, Simulator};

use self::sets::{COUNT, SETS};

#[path = "../benches/fluid/sets.rs"]
mod sets;

/// Migrations that are timed in one go: less than a millisecond.
const PART: usize = 25;

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
    for set in SETS.iter().filter(|set| wanted.as_deref().is_none_or(|wanted| wanted == set.name)) {
        let (rounds, time) = measure(&set.setups(), passes)?;
        let rounds = f64::from(rounds) / COUNT as f64;
        let micros = time.as_secs_f64() * 1e6 / COUNT as f64;
        println!("{:22} {rounds:5.1} rounds {micros:7.2} us {:9.0} migrations/s", set.name, 1e6 / micros);
    }
    Ok(())
}
