//! The optimiser on problems whose fronts are known: Zitzler, Deb and Thiele, "Comparison of multiobjective
//! evolutionary algorithms: empirical results", Evolutionary Computation 8(2), 2000.

use crate::tune::nsga2::{Member, Nsga2, fronts};

/// Genes of the problems; the paper has 30 and many times the candidates.
const GENES: usize = 11;

type Problem = fn(&[f64]) -> Vec<f64>;

fn distance(point: &[f64]) -> f64 {
    1.0 + 9.0 * point[1..].iter().sum::<f64>() / (point.len() - 1) as f64
}

/// The front: y = 1 - sqrt(x), convex.
fn zdt1(point: &[f64]) -> Vec<f64> {
    let g = distance(point);
    vec![point[0], g * (1.0 - (point[0] / g).sqrt())]
}

/// The front: y = 1 - x^2, concave.
fn zdt2(point: &[f64]) -> Vec<f64> {
    let g = distance(point);
    vec![point[0], g * (1.0 - (point[0] / g).powi(2))]
}

/// Three values, each the distance from a corner of a square that two genes span; the front is where all
/// others are one half.
fn corners(point: &[f64]) -> Vec<f64> {
    let off: f64 = point[2..].iter().map(|gene| (gene - 0.5).powi(2)).sum();
    let to = |x: f64, y: f64| (point[0] - x).hypot(point[1] - y) + off;
    vec![to(0.0, 0.0), to(1.0, 0.0), to(0.0, 1.0)]
}

fn told(nsga2: &mut Nsga2, problem: Problem, first: &[Vec<f64>]) {
    let asked = nsga2.ask(first);
    assert_eq!(asked, nsga2.ask(first), "asking changes nothing");
    nsga2.tell(asked.into_iter().map(|genes| Member { values: problem(&genes), genes }));
}

fn searched(seed: u64, size: usize, generations: u32, problem: Problem) -> Nsga2 {
    let mut nsga2 = Nsga2::new(seed, GENES, size);
    for _ in 0..generations {
        told(&mut nsga2, problem, &[]);
    }
    nsga2
}

/// The area that the members dominate below (1.1, 1.1).
fn area(members: &[Member]) -> f64 {
    let mut points: Vec<(f64, f64)> =
        members.iter().map(|member| (member.values[0], member.values[1])).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut lowest, mut area) = (1.1, 0.0);
    for (x, y) in points {
        if x < 1.1 && y < lowest {
            area += (1.1 - x) * (lowest - y);
            lowest = y;
        }
    }
    area
}

#[test]
fn known_fronts_are_found_from_every_seed() {
    // The areas below the true fronts: 1.21 - 1/3 and 1.21 - 2/3.
    for (problem, whole) in [(zdt1 as Problem, 0.8767), (zdt2, 0.5433)] {
        for seed in 0..10 {
            let found = searched(seed, 40, 100, problem);
            let area = area(found.members());
            let mut far: Vec<f64> = found.members().iter().map(|member| distance(&member.genes)).collect();
            far.sort_by(f64::total_cmp);
            assert!(area >= 0.95 * whole, "seed {seed}: {area} of {whole}");
            assert!(far[20] < 1.02, "seed {seed}: half of the members are {} from the front", far[20]);
        }
    }
}

#[test]
fn three_values_are_traded_off_too() {
    for seed in 0..5 {
        let found = searched(seed, 60, 60, corners);
        let least =
            |value: usize| found.members().iter().map(|member| member.values[value]).fold(9.0, f64::min);
        for value in 0..3 {
            assert!(least(value) < 0.1, "seed {seed}: value {value} is {} at best", least(value));
        }
    }
}

#[test]
fn a_search_that_is_stored_and_read_back_goes_on_the_same() {
    let whole = searched(3, 20, 30, zdt1);
    let mut parts = searched(3, 20, 11, zdt1);
    let text = serde_json::to_string(&parts).expect("a text");
    parts = serde_json::from_str(&text).expect("a search");
    for _ in 11..30 {
        told(&mut parts, zdt1, &[]);
    }
    assert_eq!(parts, whole);
    assert_ne!(searched(4, 20, 30, zdt1).members(), whole.members());
}

#[test]
fn the_first_candidates_are_those_given_and_no_part_of_a_range_is_left_out() {
    let first = vec![vec![0.25; GENES]];
    let asked = Nsga2::new(0, GENES, 21).ask(&first);
    assert_eq!(asked[0], first[0]);
    for gene in 0..GENES {
        let mut parts: Vec<usize> = asked[1..].iter().map(|point| (point[gene] * 20.0) as usize).collect();
        parts.sort_unstable();
        assert_eq!(parts, (0..20).collect::<Vec<_>>());
    }
}

#[test]
fn the_best_is_never_lost() {
    let mut nsga2 = Nsga2::new(7, GENES, 10);
    let mut least = f64::INFINITY;
    for _ in 0..30 {
        told(&mut nsga2, zdt1, &[]);
        let now = nsga2.members().iter().map(|member| member.values[0]).fold(f64::INFINITY, f64::min);
        assert!(now <= least);
        least = now;
    }
}

#[test]
fn fronts_are_ranked_by_who_dominates_them() {
    let points: [&[f64]; 6] = [&[1.0, 5.0], &[2.0, 3.0], &[4.0, 1.0], &[3.0, 4.0], &[5.0, 6.0], &[2.0, 3.0]];
    assert_eq!(fronts(&points), [vec![0, 1, 2, 5], vec![3], vec![4]]);
    assert!(fronts(&[]).is_empty());
}
