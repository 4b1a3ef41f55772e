use std::collections::BTreeMap;
use whimbrel_core::units::*;
use whimbrel_sim::config::*;
use whimbrel_sim::*;
fn main() {
    let policy = whimbrel_core::policy::presets::build(
        "qemu-default",
        &BTreeMap::from([("downtime-limit".to_string(), "30ms".to_string())]),
    )
    .unwrap();
    let guest = GuestConfig {
        memory: ByteCount::gib(4),
        writers: vec![WriterConfig {
            pattern: Pattern::Uniform,
            working_set: ByteCount::gib(1),
            rate: 61035.0,
            ..WriterConfig::default()
        }],
        ..GuestConfig::default()
    };
    let mut setup = Setup::new(guest, policy);
    setup.link.bandwidth = "10Gbit/s".parse().unwrap();
    setup.journal = false;
    let run = simulate(&setup).unwrap();
    println!(
        "{:?} total {:?} down {:?} silence {:?} rounds {}",
        run.report.outcome,
        run.report.total,
        run.report.downtime,
        run.silence,
        run.report.rounds.len()
    );
    for r in &run.report.rounds {
        println!(
            "{} {:?} len {:?} dirtied {} left {} pending {} sent {} {:?}",
            r.round,
            r.paused,
            r.length,
            r.dirtied.0,
            r.left_over.0,
            r.pending.0,
            r.sent_pages.0,
            r.decision.as_ref().map(|d| format!("{:?} {}", d.decision, d.reason))
        );
    }
    let t = std::time::Instant::now();
    let n: u64 = std::env::args().nth(1).map_or(1000, |a| a.parse().unwrap());
    for seed in 0..n {
        setup.seed = seed;
        std::hint::black_box(simulate(&setup).unwrap());
    }
    println!("{:.0}/s", n as f64 / t.elapsed().as_secs_f64());
}
