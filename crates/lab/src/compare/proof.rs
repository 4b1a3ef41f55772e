//! How often `compare` is wrong about equals, and how often it finds what is there. The numbers that these tests
//! print stand in `docs/compare.md`.

use super::*;
use crate::outcome::Objective;
use crate::scenario::Scenario;
use crate::stats::tests::Draws;

const TRIES: u64 = 200;

/// Runs of made-up policies over twelve workloads, scattered as `qemu-default` is on the comparison set: by workload the
/// coefficients of variation of total time and downtime that ten runs showed, and the share of failures. Values
/// are rounded, so that some tie. `factors` are what each policy's total time and downtime are multiplied by.
fn made_up(seed: u64, repeat: u32, factors: &[f64]) -> Comparison {
    const NOISE: [(f64, f64, f64); 12] = [
        (0.0001, 0.30, 0.0),
        (0.0002, 0.04, 0.0),
        (0.034, 0.19, 0.3),
        (0.0096, 0.01, 0.0),
        (0.0, 0.0, 1.0),
        (0.0004, 0.037, 0.0),
        (0.0, 0.0, 1.0),
        (0.0, 0.0, 1.0),
        (0.0016, 0.063, 0.0),
        (0.0001, 0.051, 0.1),
        (0.0006, 0.042, 0.0),
        (0.0076, 0.028, 0.0),
    ];
    let mut draws = Draws::new(seed);
    let mut figures = Vec::new();
    for _ in 0..repeat {
        for (total, downtime, failing) in NOISE {
            for factor in factors {
                let mut spread = |scale: f64, noise: f64| {
                    let value = scale * factor * (noise * draws.normal()).exp();
                    (value * 1e4).round() / 1e4
                };
                let (total_s, downtime_s) = (spread(30.0, total), spread(0.3, downtime));
                figures.push(Figures {
                    completed: draws.uniform() >= failing,
                    total_s,
                    downtime_s,
                    sent_bytes: (total_s * 1e8) as u64,
                    disruption_vcpu_s: downtime_s * 2.0,
                    ..Figures::default()
                });
            }
        }
    }
    Comparison {
        workloads: NOISE.iter().enumerate().map(|(at, _)| (format!("w{at}"), String::new())).collect(),
        policies: factors.iter().enumerate().map(|(at, _)| format!("p{at}")).collect(),
        repeat,
        planned: repeat,
        seeds: Seeds::Independent,
        seed,
        figures,
    }
}

/// In how many tries `kept` holds for a claim.
fn tries(comparison: impl Fn(u64) -> Comparison, kept: impl Fn(&Claim) -> bool) -> u64 {
    let hit = |seed: &u64| claims::find(&comparison(*seed)).claims.iter().any(&kept);
    (0..TRIES).filter(hit).count() as u64
}

#[test]
fn a_policy_seldom_beats_itself_under_another_name() {
    for (policies, repeat) in [(2, 10), (2, 20), (3, 10)] {
        let made = |seed| made_up(seed, repeat, &vec![1.0; policies]);
        let wrong = tries(made, |_| true);
        let paired = tries(
            |seed| Comparison { seeds: Seeds::Paired, ..made_up(seed, repeat, &vec![1.0; policies]) },
            |_| true,
        );
        println!("{policies} equal policies, {repeat} runs: {wrong} of {TRIES}, by signed ranks {paired}");
        assert!(wrong <= 18 && paired <= 18, "{policies}, {repeat}: {wrong}, {paired}");
    }
}

#[test]
fn five_per_cent_are_found() {
    for (policies, repeat) in [(2, 10), (2, 20), (24, 20)] {
        let mut factors = vec![1.0; policies];
        factors[1] = 1.05;
        for objective in [Objective::Downtime, Objective::TotalTime] {
            let found = |claim: &Claim| {
                claim.scope == Scope::Overall
                    && claim.objective == objective
                    && claim.better == "p0"
                    && claim.worse == "p1"
            };
            // Of many policies, all others are equal: one try tells of 23 pairs, a few tries are enough.
            let of = if policies > 2 { 2 } else { TRIES };
            let hits = (0..of)
                .filter(|seed| claims::find(&made_up(*seed, repeat, &factors)).claims.iter().any(found))
                .count() as u64;
            println!("{policies} policies, {repeat} runs, {objective}: found in {hits} of {of}");
            assert!(hits * 10 >= of * 9, "{policies}, {repeat}, {objective}: {hits}");
        }
    }
}

/// Two workloads of milliseconds on which QEMU's rule converges, by luck in one round or another.
fn small_workloads() -> Vec<Workload> {
    let workload = |(name, pattern, rate): (&str, &str, u32)| {
        let text = format!(
            "[guest]\nmemory = \"8MiB\"\n[[guest.writers]]\npattern = \"{pattern}\"\nworking-set = \"4MiB\"\nrate = {rate}\n\
             [link]\nbandwidth = \"200Mbit/s\"\nbuffer = \"256KiB\"\nqueue = \"64KiB\"\n[run]\ntime-limit = \"10s\"\n"
        );
        let scenario = Scenario::parse(&text, name).unwrap();
        Workload { name: name.to_owned(), about: String::new(), scenario }
    };
    [("even", "uniform", 1500), ("skewed", "zipf", 3000)].map(workload).into()
}

fn real(policies: [&str; 2], seed: u64, repeat: u32) -> Comparison {
    let contenders =
        policies.map(|policy| Contender { name: format!("{policy} "), ..Contender::parse(policy).unwrap() });
    let [one, mut other] = contenders;
    other.name.push('2');
    let options = Options { repeat, seed: seed * 1000, seeds: Seeds::Independent, ..Options::default() };
    run(&small_workloads(), &[one, other], &options).unwrap()
}

#[test]
fn real_migrations_seldom_beat_themselves() {
    let policy = "qemu-default:downtime-limit=20ms,max-bandwidth=100Mbit/s";
    let wrong = tries(|seed| real([policy, policy], seed, 8), |_| true);
    println!("simulated migrations of equal policies: {wrong} of {TRIES}");
    assert!(wrong <= 18, "{wrong}");
}

#[test]
fn five_per_cent_are_found_in_real_migrations() {
    // A cap that is four per cent lower: all that is sent takes longer, five per cent in all.
    let policies = ["qemu-default:max-bandwidth=100Mbit/s", "qemu-default:max-bandwidth=96Mbit/s"];
    let total = |comparison: &Comparison, policy| {
        let all = (0..2).flat_map(|workload| comparison.figures(workload, policy)).collect::<Vec<_>>();
        all.iter().map(|figures| figures.total_s).sum::<f64>() / all.len() as f64
    };
    let large = real(policies, 999, 200);
    let truth = total(&large, 1) / total(&large, 0);
    println!("true ratio: {truth:.4}");
    assert!((1.03..=1.05).contains(&truth), "{truth}");
    let found = |claim: &Claim| {
        claim.scope == Scope::Overall
            && claim.objective == Objective::TotalTime
            && claim.better == format!("{} ", policies[0])
    };
    let hits = tries(|seed| real(policies, seed, 8), found);
    println!("five per cent in simulated migrations: found in {hits} of {TRIES}");
    assert!(hits >= 180, "{hits}");
}
