use super::*;
use crate::scenario::Scenario;
use crate::sweep::simulation;

fn figures(overrides: &[&str]) -> Figures {
    let mut scenario = Scenario::parse("[guest]\nmemory = \"16MiB\"\n", "test.toml").unwrap();
    scenario.apply_overrides(overrides).unwrap();
    Figures::of(&whimbrel_sim::simulate(&simulation(scenario.setup(), 0).unwrap()).unwrap())
}

#[test]
fn the_figures_of_a_run_that_completes() {
    let figures = figures(&["link.bandwidth=16MiB/s", "host.pause=2s"]);
    assert!(figures.completed && figures.converged);
    assert!((1.0..6.0).contains(&figures.total_s), "{figures:?}");
    assert!(figures.downtime_s > 2.0 && figures.downtime_s < figures.total_s, "{figures:?}");
    assert!(figures.sent_bytes > 16 << 20 && figures.rounds >= 2, "{figures:?}");
    // One vCPU stands still.
    assert!((figures.disruption_vcpu_s - figures.downtime_s).abs() < 0.1, "{figures:?}");
}

#[test]
fn a_guest_that_did_not_arrive_is_worse_than_any_that_did() {
    let failed = figures(&["link.bandwidth=1MiB/s", "run.time-limit=1s"]);
    assert!(!failed.completed && (failed.total_s - 1.0).abs() < 0.5, "{failed:?}");
    assert!(Objective::TotalTime.value(&failed).is_infinite());
    assert!(Objective::Downtime.value(&failed).is_infinite());
    assert!(Objective::Failures.value(&failed) > 0.999);
    assert!(Objective::Bytes.value(&failed) > 0.0);
    assert!(Objective::Disruption.value(&failed).is_finite());
}

#[test]
fn names_read_back_and_mistakes_are_named() {
    for objective in Objective::ALL {
        assert_eq!(objective.to_string().parse(), Ok(objective));
        assert_eq!(serde_json::to_string(&objective).unwrap(), format!("\"{objective}\""));
    }
    let error = "downtmie".parse::<Objective>().unwrap_err().to_string();
    assert!(error.contains("did you mean `downtime`?"), "{error}");
}
