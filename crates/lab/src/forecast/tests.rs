use super::*;
use crate::scenario::Scenario;
use crate::workloads::held_out;

fn setup(overrides: &[&str]) -> Setup {
    let text = "[guest]\nmemory = \"64MiB\"\n[[guest.writers]]\nworking-set = \"24MiB\"\nrate = 4000\n\
                [link]\nbandwidth = \"200Mbit/s\"\n[run]\ntime-limit = \"20s\"\n";
    let mut scenario = Scenario::parse(text, "test.toml").unwrap();
    scenario.apply_overrides(overrides).unwrap();
    scenario.setup().clone()
}

fn contenders(names: &[&str]) -> Vec<Contender> {
    names.iter().map(|name| Contender::parse(name).unwrap()).collect()
}

fn options() -> Options<'static> {
    Options { samples: 60, jobs: NonZeroUsize::new(2), ..Options::default() }
}

#[test]
fn nine_of_ten_further_values_lie_between_the_outer_quantiles() {
    let values = |count: u32| Quantiles::of((1..=count).map(f64::from).collect());
    // Of 100 values the 5th and the 96th: 91 of the 101 places that a further value may take lie between.
    assert_eq!(values(100), Quantiles { p5: Some(5.0), p50: Some(50.0), p95: Some(96.0) });
    assert_eq!(values(19), Quantiles { p5: Some(1.0), p50: Some(10.0), p95: Some(19.0) });
    let some = Quantiles::of(vec![1.0, f64::INFINITY, f64::INFINITY]);
    assert_eq!((some.p50, some.p95), (None, None));
    assert!(some.contains(f64::INFINITY) && some.contains(1e9) && !some.contains(0.5));
}

#[test]
fn spreads_are_read_and_refused() {
    assert_eq!("20%".parse(), Ok(Spread::Relative(0.2)));
    assert_eq!("0.2".parse(), Ok(Spread::Relative(0.2)));
    assert_eq!("0.5..2".parse(), Ok(Spread::Between(0.5, 2.0)));
    for wrong in ["", "-1", "300%", "2..1", "0..1", "1..", "nan", "x%"] {
        let error = wrong.parse::<Spread>().unwrap_err().to_string();
        assert!(error.contains(&format!("`{wrong}`")), "{error}");
    }
}

#[test]
fn inputs_are_drawn_as_they_are_said_to_be() {
    let original = setup(&[]);
    let uncertainty = Uncertainty {
        dirty_rate: Spread::Relative(0.3),
        bandwidth: Spread::Between(0.5, 1.5),
        working_set: Spread::Relative(0.0),
    };
    let draws: Vec<_> = (0..2000).map(|sample| uncertainty.draw(&original, 5, sample).unwrap()).collect();
    let rates: Vec<f64> = draws.iter().map(|drawn| drawn.guest.writers[0].rate / 4000.0).collect();
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    let sd = (rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / rates.len() as f64).sqrt();
    assert!((sd / mean - 0.3).abs() < 0.03, "{sd} {mean}");
    let widths = draws.iter().map(|drawn| drawn.link.bandwidth.as_f64() / 25e6);
    assert!(widths.clone().all(|width| (0.499..=1.501).contains(&width)));
    assert!(widths.clone().any(|width| width < 0.55) && widths.clone().any(|width| width > 1.45));
    assert!(
        draws.iter().all(|drawn| drawn.guest.writers[0].working_set == original.guest.writers[0].working_set)
    );
    // The same seed draws the same, and a working set never outgrows its guest.
    assert_eq!(draws[7].guest, uncertainty.draw(&original, 5, 7).unwrap().guest);
    let wide = Uncertainty { working_set: Spread::Between(50.0, 100.0), ..Uncertainty::NONE };
    assert!(wide.draw(&original, 0, 0).unwrap().guest.validate().is_ok());
}

#[test]
fn a_throttle_from_the_beginning_slows_the_guest() {
    let setup = setup(&[]);
    let contender = Contender::parse("xen-5").unwrap();
    let slowed = Contender {
        policy: Box::new(slowed::Slowed {
            inner: contender.policy.clone(),
            share: whimbrel_core::units::CpuShare::percent(90),
            begun: false,
        }),
        ..contender.clone()
    };
    let [free, slow] = [contender, slowed].map(|one| runs(&setup, &one, &options(), 1).unwrap()[0]);
    assert!(slow.disruption_vcpu_s > free.disruption_vcpu_s + 1.0, "{free:?} {slow:?}");
    assert!(slow.sent_bytes < free.sent_bytes, "{free:?} {slow:?}");
}

#[test]
fn what_would_do_does_and_a_little_less_does_not() {
    let setup = setup(&[
        "guest.memory=32MiB",
        "guest.writers.0.working-set=12MiB",
        "guest.writers.0.rate=20000",
        "run.time-limit=8s",
    ]);
    let policies = contenders(&["qemu-default:downtime-limit=150ms"]);
    let options = Options { uncertainty: Uncertainty::NONE, samples: 20, ..options() };
    let forecast = run(&setup, &policies, &options).unwrap();
    assert!(forecast.verdict.keep.is_empty(), "{forecast}");
    let (bits, _) = forecast.verdict.bandwidth_bits_per_s.clone().unwrap();
    let (share, _) = forecast.verdict.throttle.clone().unwrap();
    assert!(forecast.words.starts_with("no policy stays below 300 ms at 200.0 Mbit/s"), "{}", forecast.words);
    assert!(forecast.words.ends_with("would do"), "{}", forecast.words);
    assert!((0.01..=0.99).contains(&share));
    let keeps = |factor: f64| {
        let mut scaled = setup.clone();
        inputs::scale_link(&mut scaled, bits / 200e6 * factor);
        run(&scaled, &policies, &options).unwrap().policies[0].keeps
    };
    assert!(keeps(1.0) >= 0.9, "{forecast}");
    assert!(keeps(0.9) < 0.95, "{forecast}");
}

#[test]
fn a_downtime_that_is_kept_is_said_to_be() {
    let forecast =
        run(&setup(&["guest.writers.0.rate=100"]), &contenders(&["xen-5", "quick"]), &options()).unwrap();
    assert_eq!(forecast.verdict.keep, ["xen-5"]);
    assert!(forecast.words.starts_with("xen-5 stays below 300 ms at 200.0 Mbit/s; "), "{}", forecast.words);
    assert!(forecast.words.contains("would still do"), "{}", forecast.words);
    let quick = &forecast.policies[1];
    assert!(quick.arrives > 0.999 && quick.keeps < 0.001 && quick.downtime_s.p5 > Some(1.0), "{quick:?}");
}

#[test]
fn the_same_seed_gives_the_same_forecast_on_any_number_of_threads() {
    let made = |jobs: usize| {
        let options = Options { samples: 20, jobs: NonZeroUsize::new(jobs), ..options() };
        let setup = setup(&["run.time-limit=5s"]);
        run(&setup, &contenders(&["qemu-default", "xen-5"]), &options).unwrap().json()
    };
    assert_eq!(made(1), made(3));
}

/// The outer quantiles hold about 90 % of further exact runs, on workloads that nothing was designed on. Here these are
/// the smaller guests, given up after three minutes, so that the test is quick; `docs/forecast.md` has a larger
/// measurement.
#[test]
fn intervals_hold_nine_of_ten_further_runs_on_held_out_workloads() {
    let policies = contenders(&["qemu-default", "xen-5"]);
    let (mut within, mut all) = (0, 0);
    for workload in held_out().unwrap() {
        let mut setup = workload.scenario.setup().clone();
        if setup.guest.memory.0 > 10 << 30 {
            continue;
        }
        setup.run.time_limit = Duration::from_mins(3);
        let (setup, forecast_options) = (&setup, options());
        let truth_options = Options { seed: 1_000_000, ..forecast_options.clone() };
        for contender in &policies {
            let figures = runs(setup, contender, &forecast_options, 40).unwrap();
            let further = runs(setup, contender, &truth_options, 25).unwrap();
            for objective in [Objective::TotalTime, Objective::Downtime, Objective::Bytes] {
                let values = figures.iter().map(|figures| objective.value(figures)).collect();
                let quantiles = Quantiles::of(values);
                within +=
                    further.iter().filter(|figures| quantiles.contains(objective.value(figures))).count();
                all += further.len();
            }
        }
    }
    let share = within as f64 / all as f64;
    println!("{within} of {all}: {share:.3}");
    assert!((0.86..=0.96).contains(&share), "{share}");
}
