use std::collections::BTreeMap;
use std::time::Duration;
use whimbrel_core::policy::presets;
use whimbrel_core::units::*;
use whimbrel_sim::config::*;
use whimbrel_sim::{Setup, simulate};

fn main() {
    let verbose = std::env::args().nth(1);
    let mut cases = Vec::new();
    for preset in ["xen-5", "cloud-hypervisor", "qemu-default", "clark-2005", "fixed-rounds"] {
        for pattern in [Pattern::Idle, Pattern::Uniform, Pattern::HotCold, Pattern::Zipf, Pattern::Sequential] {
            for (bw, rate, buffer) in [(125_000_000u64, 5_000.0, 3u64 << 20), (125_000_000, 25_000.0, 3 << 20), (1_250_000_000, 150_000.0, 6 << 20), (12_500_000, 1_000.0, 1<<20)] {
                for (mem, ws, zero) in [(256u64, 128u64, 0.0), (1024, 512, 0.3)] {
                    cases.push((preset, pattern, bw, rate, buffer, mem, ws, zero));
                }
            }
        }
    }
    let mut bad = 0; let mut near = 0;
    for (i, &(preset, pattern, bw, rate, buffer, mem, ws, zero)) in cases.iter().enumerate() {
        if let Some(v) = &verbose { if v.parse::<usize>().unwrap() != i { continue; } }
        let writer = WriterConfig { pattern, working_set: ByteCount::mib(ws), rate, ..WriterConfig::default() };
        let guest = GuestConfig { memory: ByteCount::mib(mem), zero_pages: Share::clamped(zero), writers: vec![writer], ..GuestConfig::default() };
        let mut setup = Setup::new(guest, presets::build(preset, &BTreeMap::new()).unwrap());
        setup.link.bandwidth = Bandwidth::new(bw).unwrap();
        setup.link.buffer = ByteCount(buffer);
        setup.journal = false;
        setup.time_limit = Duration::from_mins(3);
        let n = 24;
        let mut sum = [0.0; 4];
        for seed in 0..n {
            setup.seed = seed;
            let run = simulate(&setup).unwrap();
            if verbose.is_some() && seed < 3 { dump("exact", &run); }
            sum[0] += run.report.total.as_secs_f64();
            sum[1] += run.report.sent.0 as f64;
            sum[2] += run.report.downtime.total().as_secs_f64();
            sum[3] += run.report.rounds.len() as f64;
        }
        let mean = sum.map(|s| s / n as f64);
        setup.fidelity = Fidelity::Fluid;
        let run = simulate(&setup).unwrap();
        if verbose.is_some() { dump("fluid", &run); }
        let f = [run.report.total.as_secs_f64(), run.report.sent.0 as f64, run.report.downtime.total().as_secs_f64(), run.report.rounds.len() as f64];
        let rel = |i: usize| f[i] / mean[i] - 1.0;
        let down_bad = (f[2]-mean[2]).abs() > 0.001f64.max(0.02 * mean[2]);
        let is_bad = rel(0).abs() > 0.01 || rel(1).abs() > 0.01 || down_bad;
        if run.near_threshold.is_some() { near += 1; } else if is_bad { bad += 1; }
        println!("{i:3} {preset:16} {pattern:?} {bw} {rate} {mem}: time {:.2}% bytes {:.2}% down {:.2}% ({:.1} vs {:.1} ms) rounds {} vs {:.2} {} {}", rel(0)*100., rel(1)*100., rel(2)*100., f[2]*1e3, mean[2]*1e3, f[3], mean[3],
            if run.near_threshold.is_some() { "NEAR" } else { "" }, if is_bad { "BAD" } else { "" });
    }
    println!("{} cases, {bad} bad, {near} near", cases.len());
}

fn dump(what: &str, run: &whimbrel_sim::Run) {
    println!("{what}: {} total {:?} ledger {:?} near {:?}", run.report.outcome, run.report.total, run.report.downtime, run.near_threshold);
    for r in &run.report.rounds {
        println!("   {} {:?} {:?} dirtied {} left {} pending {} sent {} {} bw {:?} {}", r.round, r.started.as_duration(), r.length, r.dirtied.0, r.left_over.0, r.pending.0, r.sent_pages.0, r.sent.0, r.bandwidth.map(|b| b.bytes_per_second()), r.decision.as_ref().map(|d| format!("{:?} {}", d.decision, d.reason)).unwrap_or_default());
    }
}
