//! The test for runs in pairs: two policies on the same seeds.
//!
//! Wilcoxon's signed-rank test, stratified by workload, with its distribution under the sign flips of just these
//! ranks: exact, whatever the ties. Runs that tie (both failed, or the policies did the same) are ranked and then
//! left out, as Pratt (Journal of the American Statistical Association 54, 1959) has it. A failure is infinite, so
//! that the differences to it rank above all finite ones, equally: what is censored is neither dropped nor
//! given a number that nobody measured.

use super::{Verdict, doubled_midranks, normal::two_sided};

/// Steps of counting above which the normal approximation is taken; it is then very near.
const MOST_STEPS: u64 = 2_000_000;

/// Tests whether the first or the second of the pairs tend to be smaller. Each stratum is a workload. Ranks are
/// counted within it, so that its scale does not matter; strata of one size weigh the same.
pub fn signed_rank<S: AsRef<[(f64, f64)]>>(strata: &[S]) -> Verdict {
    let mut ranks: Vec<(u32, bool)> = Vec::new();
    let mut most = 0.0;
    for stratum in strata {
        let pairs = stratum.as_ref();
        let differences: Vec<f64> = pairs.iter().map(|(one, other)| difference(*one, *other)).collect();
        let sizes: Vec<f64> = differences.iter().map(|difference| difference.abs()).collect();
        for (rank, difference) in doubled_midranks(&sizes).into_iter().zip(&differences) {
            most += f64::from(rank);
            if *difference != 0.0 {
                ranks.push((rank, *difference > 0.0));
            }
        }
    }
    if ranks.is_empty() {
        return Verdict::NOTHING;
    }
    let sum = |which: bool| {
        ranks.iter().filter(|(_, first)| *first == which).map(|(rank, _)| u64::from(*rank)).sum::<u64>()
    };
    let (first_larger, second_larger) = (sum(true), sum(false));
    let lean = (first_larger as f64 - second_larger as f64) / most;
    let total = first_larger + second_larger;
    let least = first_larger.min(second_larger);
    let p = if ranks.len() as u64 * total <= MOST_STEPS {
        exact(&ranks, least)
    } else {
        let variance: f64 = ranks.iter().map(|(rank, _)| f64::from(*rank).powi(2)).sum();
        two_sided((first_larger as f64 - second_larger as f64) / variance.sqrt())
    };
    Verdict { p, lean }
}

/// `one - other`, none between two failures.
fn difference(one: f64, other: f64) -> f64 {
    if one == other { 0.0 } else { one - other }
}

/// The chance that the smaller of the two sums of ranks is at most `least`, each sign being even.
fn exact(ranks: &[(u32, bool)], least: u64) -> f64 {
    let least = least as usize;
    let mut chance = vec![0.0; least + 1];
    chance[0] = 1.0;
    let mut reached = 0;
    for (rank, _) in ranks {
        let rank = *rank as usize;
        reached = (reached + rank).min(least);
        for sum in (0..=reached).rev() {
            let with = if sum >= rank { chance[sum - rank] } else { 0.0 };
            chance[sum] = (chance[sum] + with) / 2.0;
        }
    }
    (2.0 * chance.iter().sum::<f64>()).min(1.0)
}
