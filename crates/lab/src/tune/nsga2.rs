//! NSGA-II: a population that moves towards the Pareto front, asked for candidates and told their values.
//!
//! Used by the search (`tune::search`) and by nobody else. Knows nothing of policies: a candidate is a point
//! of the unit cube, its values are numbers to be made small. Draws every random number from the seed and
//! the generation's number, so that the population alone is the state: stored and read back, the search
//! goes on as if it had never stopped.
//!
//! The algorithm is that of Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic
//! algorithm: NSGA-II", IEEE Transactions on Evolutionary Computation 6(2), 2002: ranks by dominance,
//! crowding distance within a rank, binary tournaments, parents and children selected together. Children are
//! made by simulated binary crossover (Deb and Agrawal, Complex Systems 9, 1995) and polynomial mutation (Deb
//! and Goyal, Computer Science and Informatics 26(4), 1996), both in the form that respects bounds, which
//! Deb's own program has; without it children pile up on the bounds.
//!
//! Written here because no crate that was tried both stops between generations and converges within the few
//! thousand candidates that a policy is worth.

use std::cmp::Ordering;

use rand_core::Rng as _;
use serde::{Deserialize, Serialize};
use whimbrel_sim::guest::{Generator, stream};

use crate::stats::dominates;

/// How close to their parents crossed children stay: the distribution index of the crossover; usual.
const CROSSOVER_INDEX: f64 = 15.0;
/// The same of a mutation. 20 is usual; less looks further, which keeps the ends of a concave front where
/// candidates are few (found on ZDT2, where 20 lost them from three seeds of ten).
const MUTATION_INDEX: f64 = 5.0;
/// How often two parents are crossed at all; usual.
const CROSSED: f64 = 0.9;
/// Below this two genes are the same.
const SAME: f64 = 1e-12;
/// How often a child that is one of the population's members is made anew.
const TRIES: usize = 8;

/// A candidate and its values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Member {
    /// From 0 to 1 each.
    pub(super) genes: Vec<f64>,
    /// To be made small, each.
    pub(super) values: Vec<f64>,
}

/// The search between two generations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Nsga2 {
    seed: u64,
    genes: usize,
    size: usize,
    /// Generations that were told.
    generation: u32,
    members: Vec<Member>,
}

impl Nsga2 {
    /// A search of `size` members over points of `genes` coordinates.
    pub(super) fn new(seed: u64, genes: usize, size: usize) -> Self {
        Self { seed, genes, size, generation: 0, members: Vec::new() }
    }

    /// Generations that were told.
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// The members after the last generation, best first.
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The candidates of the next generation; the same ones until they are told. The first generation is
    /// `first` and a Latin hypercube.
    pub(super) fn ask(&self, first: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let mut random = stream(self.seed, &format!("generation {}", self.generation));
        if self.generation == 0 {
            let mut candidates: Vec<_> = first.iter().take(self.size).cloned().collect();
            let rest = self.size - candidates.len();
            candidates.extend(latin_hypercube(&mut random, rest, self.genes));
            return candidates;
        }
        let order = Order::of(&self.members);
        let mut children: Vec<Vec<f64>> = Vec::with_capacity(self.size + 1);
        while children.len() < self.size {
            let mut pair = self.pair(&mut random, &order);
            for _ in 0..TRIES {
                if !pair.iter().any(|child| self.is_known(child)) {
                    break;
                }
                pair = self.pair(&mut random, &order);
            }
            children.extend(pair);
        }
        children.truncate(self.size);
        children
    }

    /// Takes the values of what was asked for, in that order; the better half of old and new stays.
    pub(super) fn tell(&mut self, told: impl IntoIterator<Item = Member>) {
        self.members.extend(told);
        let order = Order::of(&self.members);
        let mut places: Vec<usize> = (0..self.members.len()).collect();
        // A stable sort: of equals the older stays.
        places.sort_by(|&a, &b| order.compare(a, b));
        places.truncate(self.size);
        self.members = places.into_iter().map(|place| self.members[place].clone()).collect();
        self.generation += 1;
    }

    /// Whether the numbers are those of a search of this shape; for one that was read.
    pub(super) fn is_sound(&self, genes: usize, size: usize, values: usize) -> bool {
        let sound = |member: &Member| {
            let finite = member.values.iter().all(|value| value.is_finite());
            let inside = member.genes.iter().all(|gene| (0.0..=1.0).contains(gene));
            member.genes.len() == genes && member.values.len() == values && finite && inside
        };
        let begun = self.generation > 0 && self.members.len() == size;
        let shape = self.genes == genes && self.size == size;
        shape && begun && self.members.iter().all(sound)
    }

    fn is_known(&self, child: &[f64]) -> bool {
        let same = |member: &Member| member.genes.iter().zip(child).all(|(a, b)| (a - b).abs() < SAME);
        self.members.iter().any(same)
    }

    fn pair(&self, random: &mut Generator, order: &Order) -> [Vec<f64>; 2] {
        let mut tournament = || {
            let (a, b) = (below(random, self.members.len()), below(random, self.members.len()));
            if order.compare(b, a) == Ordering::Less { b } else { a }
        };
        let (one, other) = (tournament(), tournament());
        let (one, other) = (&self.members[one].genes, &self.members[other].genes);
        crossed(random, one, other).map(|mut child| {
            let chance = 1.0 / self.genes.max(1) as f64;
            for gene in &mut child {
                if unit(random) < chance {
                    *gene = mutated(random, *gene);
                }
            }
            child
        })
    }
}

/// Rank and crowding distance of each member.
struct Order {
    rank: Vec<usize>,
    crowding: Vec<f64>,
}

impl Order {
    fn of(members: &[Member]) -> Self {
        let values: Vec<&[f64]> = members.iter().map(|member| &*member.values).collect();
        let fronts = fronts(&values);
        let mut order = Self { rank: vec![0; members.len()], crowding: vec![0.0; members.len()] };
        for (rank, front) in fronts.iter().enumerate() {
            for &place in front {
                order.rank[place] = rank;
            }
            crowd(&values, front, &mut order.crowding);
        }
        order
    }

    /// The lower rank first, within it the less crowded.
    fn compare(&self, a: usize, b: usize) -> Ordering {
        let crowding = self.crowding[b].total_cmp(&self.crowding[a]);
        self.rank[a].cmp(&self.rank[b]).then(crowding)
    }
}

/// Places by rank: the first front is dominated by nobody, the next by the first alone, and so on.
pub(super) fn fronts(values: &[&[f64]]) -> Vec<Vec<usize>> {
    let mut worse: Vec<Vec<usize>> = vec![Vec::new(); values.len()];
    let mut better = vec![0usize; values.len()];
    for (a, of_a) in values.iter().enumerate() {
        for (b, of_b) in values.iter().enumerate() {
            if dominates(of_a, of_b) {
                worse[a].push(b);
                better[b] += 1;
            }
        }
    }
    let mut fronts = Vec::new();
    let mut front: Vec<usize> = (0..values.len()).filter(|&place| better[place] == 0).collect();
    while !front.is_empty() {
        let mut next = Vec::new();
        for &place in &front {
            for &other in &worse[place] {
                better[other] -= 1;
                if better[other] == 0 {
                    next.push(other);
                }
            }
        }
        next.sort_unstable();
        fronts.push(std::mem::replace(&mut front, next));
    }
    fronts
}

/// Adds the crowding distance of each member of `front`: the ends of each value are infinitely far away,
/// the others half-way between their neighbours.
fn crowd(values: &[&[f64]], front: &[usize], crowding: &mut [f64]) {
    let Some(&first) = front.first() else { return };
    for (objective, _) in values[first].iter().enumerate() {
        let of = |place: usize| values[place][objective];
        let mut sorted = front.to_vec();
        sorted.sort_by(|&a, &b| of(a).total_cmp(&of(b)));
        let (least, most) = (sorted[0], sorted[sorted.len() - 1]);
        let span = of(most) - of(least);
        if span <= 0.0 {
            continue;
        }
        crowding[least] = f64::INFINITY;
        crowding[most] = f64::INFINITY;
        for neighbours in sorted.windows(3) {
            crowding[neighbours[1]] += (of(neighbours[2]) - of(neighbours[0])) / span;
        }
    }
}

/// Points of which each coordinate falls once into each of as many equal parts.
fn latin_hypercube(random: &mut Generator, points: usize, genes: usize) -> Vec<Vec<f64>> {
    let mut made = vec![vec![0.0; genes]; points];
    for gene in 0..genes {
        let mut parts: Vec<usize> = (0..points).collect();
        for last in (1..points).rev() {
            parts.swap(last, below(random, last + 1));
        }
        for (point, part) in made.iter_mut().zip(parts) {
            point[gene] = (part as f64 + unit(random)) / points as f64;
        }
    }
    made
}

/// Two children between and around two parents.
fn crossed(random: &mut Generator, one: &[f64], other: &[f64]) -> [Vec<f64>; 2] {
    let mut children = [one.to_vec(), other.to_vec()];
    if unit(random) > CROSSED {
        return children;
    }
    for gene in 0..one.len() {
        let (low, high) = (one[gene].min(other[gene]), one[gene].max(other[gene]));
        if unit(random) > 0.5 || high - low < SAME {
            continue;
        }
        let drawn = unit(random);
        // `room` is how far the nearer bound is, in units of the parents' distance.
        let spread = |room: f64| {
            let power = 1.0 / (CROSSOVER_INDEX + 1.0);
            let within = 2.0 - (1.0 + 2.0 * room).powf(-(CROSSOVER_INDEX + 1.0));
            let drawn = drawn * within;
            if drawn <= 1.0 { drawn.powf(power) } else { (1.0 / (2.0 - drawn)).powf(power) }
        };
        let (middle, distance) = (low + high, high - low);
        let below = 0.5 * (middle - spread(low / distance) * distance);
        let above = 0.5 * (middle + spread((1.0 - high) / distance) * distance);
        // Which child gets which is a matter of chance, or genes would stay together.
        let swap = usize::from(unit(random) < 0.5);
        children[swap][gene] = below.clamp(0.0, 1.0);
        children[1 - swap][gene] = above.clamp(0.0, 1.0);
    }
    children
}

/// A gene a little or far away, within 0 and 1.
fn mutated(random: &mut Generator, gene: f64) -> f64 {
    let drawn = unit(random);
    let power = MUTATION_INDEX + 1.0;
    let step = if drawn < 0.5 {
        let base = 2.0 * drawn + (1.0 - 2.0 * drawn) * (1.0 - gene).powf(power);
        base.powf(1.0 / power) - 1.0
    } else {
        let base = 2.0 * (1.0 - drawn) + (2.0 * drawn - 1.0) * gene.powf(power);
        1.0 - base.powf(1.0 / power)
    };
    (gene + step).clamp(0.0, 1.0)
}

/// From 0 to below 1, in 53 bits.
fn unit(random: &mut Generator) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// From 0 to below `bound`, which is not 0.
fn below(random: &mut Generator, bound: usize) -> usize {
    ((unit(random) * bound as f64) as usize).min(bound - 1)
}
