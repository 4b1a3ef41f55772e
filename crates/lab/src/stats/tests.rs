use super::normal::two_sided;
use super::*;

fn pairs(values: &[(f64, f64)]) -> Vec<Vec<(f64, f64)>> {
    vec![values.to_vec()]
}

#[test]
fn nearest_ranks_are_values_that_are_there() {
    let values = [1.0, 2.0, 3.0, f64::INFINITY];
    assert_eq!(nearest_rank(&values, 0.5), Some(2.0));
    assert_eq!(nearest_rank(&values, 0.75), Some(3.0));
    assert_eq!(nearest_rank(&values, 0.9), Some(f64::INFINITY));
    assert_eq!(nearest_rank(&values, 0.0), Some(1.0));
    assert_eq!(nearest_rank(&[], 0.5), None);
}

#[test]
fn equal_values_share_their_ranks() {
    assert_eq!(doubled_midranks(&[5.0, 1.0, 5.0, f64::INFINITY]), [5, 2, 5, 8]);
    assert_eq!(doubled_midranks(&[]), Vec::<u32>::new());
}

#[test]
fn tails_of_the_normal_distribution_are_those_of_tables() {
    // Abramowitz and Stegun, table 26.1 and 26.2.
    for (z, p) in [
        (0.0, 1.0),
        (1.0, 0.317_310_507_86),
        (1.959_963_984_54, 0.05),
        (2.999_999, 0.002_699_804_92),
        (3.0, 0.002_699_796_06),
        (5.0, 5.733_031_44e-7),
        (10.0, 1.523_970_6e-23),
    ] {
        let found = two_sided(z);
        assert!((found / p - 1.0).abs() < 1e-5, "{z}: {found} for {p}");
    }
}

#[test]
fn signed_ranks_agree_with_wilcoxons_table() {
    // Eight pairs, ranks 1 to 8, of which those of 1 and 2 point the other way: T = 3; the table gives P(T <= 3) =
    // 5/256 to either side.
    let values: Vec<(f64, f64)> =
        [-1.0, -2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0].iter().map(|d| (*d, 0.0)).collect();
    let verdict = signed_rank(&pairs(&values));
    assert!((verdict.p - 10.0 / 256.0).abs() < 1e-12, "{verdict:?}");
    assert!((verdict.lean - 30.0 / 36.0).abs() < 1e-12, "{verdict:?}");
    let mirrored: Vec<_> = values.iter().map(|(one, other)| (*other, *one)).collect();
    assert_eq!(signed_rank(&pairs(&mirrored)), Verdict { p: verdict.p, lean: -verdict.lean });
}

#[test]
fn ties_and_failures_count_as_they_should() {
    let failed = f64::INFINITY;
    // Two policies that do the same, failures among them.
    assert_eq!(signed_rank(&pairs(&[(1.0, 1.0), (failed, failed), (2.0, 2.0)])), Verdict::NOTHING);
    // Failing where the other does not counts for more than any difference of those that completed: 3.5 and 3.5
    // against 1 and 2.
    let verdict = signed_rank(&pairs(&[(failed, 1.0), (failed, 1e9), (1.0, 3.0), (1.0, 2.0)]));
    assert!(verdict.lean > 0.0, "{verdict:?}");
    assert!((verdict.lean - 4.0 / 10.0).abs() < 1e-12, "{verdict:?}");
    let apart = vec![(vec![failed; 5], vec![1.0, 2.0, 3.0, 4.0, 5.0])];
    let verdict = rank_sum(&apart);
    // 2 of the 252 ways to choose 5 of 10.
    assert!((verdict.p - 2.0 / 252.0).abs() < 1e-12 && verdict.lean > 0.999, "{verdict:?}");
}

#[test]
fn strata_of_other_scales_add_up() {
    let small = [(1.0, 2.0), (1.0, 2.0), (1.0, 2.0)];
    let large = [(1e9, 2e9), (1e9, 2e9), (1e9, 2e9)];
    let both = signed_rank(&[small, large]);
    assert!((both.p - 2.0 / 64.0).abs() < 1e-12 && both.lean < -0.999, "{both:?}");
    // One way in one workload and the other way in another: no difference over both.
    let against = signed_rank(&[small, [(2e9, 1e9), (2e9, 1e9), (2e9, 1e9)]]);
    assert_eq!(against, Verdict { p: 1.0, lean: 0.0 });
}

#[test]
fn counting_and_the_normal_approximation_meet() {
    let mut rng = Draws::new(3);
    let strata: Vec<Vec<(f64, f64)>> =
        (0..4).map(|_| (0..40).map(|_| (rng.normal() + 0.15, rng.normal())).collect()).collect();
    let exact = signed_rank(&strata).p;
    let ranks: Vec<f64> = strata
        .iter()
        .flat_map(|stratum| {
            let sizes: Vec<f64> = stratum.iter().map(|(one, other)| (one - other).abs()).collect();
            let signs = stratum.iter().map(|(one, other)| (one - other).signum());
            doubled_midranks(&sizes)
                .into_iter()
                .zip(signs)
                .map(|(rank, sign)| f64::from(rank) * sign)
                .collect::<Vec<_>>()
        })
        .collect();
    let variance: f64 = ranks.iter().map(|rank| rank * rank).sum();
    let near = two_sided(ranks.iter().sum::<f64>() / variance.sqrt());
    assert!((exact / near - 1.0).abs() < 0.05, "{exact} {near}");
}

#[test]
fn holms_correction_is_that_of_his_paper() {
    let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
    for (found, expected) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
        assert!((found - expected).abs() < 1e-12, "{adjusted:?}");
    }
    assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
    assert!(holm(&[]).is_empty());
}

#[test]
fn the_front_is_what_nothing_dominates() {
    let points = [[1.0, 5.0], [2.0, 2.0], [5.0, 1.0], [2.0, 3.0], [f64::INFINITY, 1.0], [2.0, 2.0]];
    assert_eq!(pareto_front(&points), [true, true, true, false, false, true]);
    assert!(pareto_front::<[f64; 2]>(&[]).is_empty());
}

#[test]
fn wilsons_interval_has_a_width_where_all_were_seen() {
    let none = wilson(0, 10).unwrap();
    assert!(none.low < 1e-12 && (none.high - 0.2775).abs() < 1e-3, "{none:?}");
    let half = wilson(50, 100).unwrap();
    assert!((half.low - 0.4038).abs() < 1e-3 && (half.high - 0.5962).abs() < 1e-3, "{half:?}");
    assert_eq!(wilson(0, 0), None);
}

#[test]
fn the_same_seed_draws_the_same_and_another_does_not() {
    let values: Vec<f64> = (0..30).map(f64::from).collect();
    let at = |seed| Bootstrap { seed, ..Bootstrap::default() }.interval(&[&values], mean).unwrap();
    assert_eq!(at(1), at(1));
    assert_ne!(at(1), at(2));
    assert!(at(1).contains(14.5), "{:?}", at(1));
    assert_eq!(Bootstrap::default().interval(&[&[], &[]], mean), None);
    let failed = [f64::INFINITY; 4];
    assert_eq!(Bootstrap::default().interval(&[&failed], mean), None);
    assert_eq!(
        Bootstrap::default().interval(&[&failed], median),
        Some(Interval { low: f64::INFINITY, high: f64::INFINITY })
    );
}

/// 95 % of the intervals of medians and means hold the truth, or nearly: what the percentile bootstrap gives for 20
/// skewed values. Both numbers stand in `docs/compare.md`.
#[test]
fn intervals_hold_the_truth_about_as_often_as_they_say() {
    const TRIES: u32 = 400;
    let mut rng = Draws::new(11);
    let (mut medians, mut means) = (0, 0);
    for seed in 0..TRIES {
        // Lognormal with sigma 0.5: its median is 1, its mean exp(1/8).
        let values: Vec<f64> = (0..20).map(|_| (0.5 * rng.normal()).exp()).collect();
        let bootstrap = Bootstrap { resamples: 500, seed: seed.into(), ..Bootstrap::default() };
        medians += u32::from(bootstrap.interval(&[&values], median).unwrap().contains(1.0));
        means += u32::from(bootstrap.interval(&[&values], mean).unwrap().contains(0.125_f64.exp()));
    }
    let share = |hits: u32| f64::from(hits) / f64::from(TRIES);
    assert!((0.90..=0.98).contains(&share(medians)), "medians: {}", share(medians));
    assert!((0.88..=0.97).contains(&share(means)), "means: {}", share(means));
}

/// Random values for tests.
pub(crate) struct Draws(whimbrel_sim::guest::Generator);

impl Draws {
    pub(crate) fn new(seed: u64) -> Self {
        Self(whimbrel_sim::guest::stream(seed, "test"))
    }

    pub(crate) fn uniform(&mut self) -> f64 {
        use rand_core::Rng as _;
        ((self.0.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Box and Muller.
    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}
