//! Changes of the policy while it runs: they arrive, they count, and wrong ones are refused with their place.

use super::*;

const LIVE: &str = "[guest]\nmemory = \"64MiB\"\n[[guest.writers]]\nworking-set = \"32MiB\"\nrate = 20000\n\
                    [link]\nbandwidth = \"100Mbit/s\"\n[run]\ntime-limit = \"1min\"\n";

/// A scenario of `qemu-default` with one change, whose lines are 11 to 13.
fn changed(parameter: &str, value: &str) -> String {
    format!(
        "{LIVE}[[policy.changes]]\nat = \"10s\"\nparameter = \"{parameter}\"\nvalue = {}\n",
        toml::Value::from(value)
    )
}

fn run(scenario: &Scenario) -> whimbrel_sim::Run {
    let setup = scenario.setup();
    let simulation = crate::sweep::simulation(setup, setup.run.seed).unwrap();
    whimbrel_sim::simulate(&simulation).unwrap()
}

#[test]
fn a_change_has_its_effect_when_it_is_made_and_not_before() {
    let without = run(&parse(LIVE)).report;
    assert!(!without.converged);
    let with = run(&parse(&changed("downtime-limit", "10s"))).report;
    assert!(with.converged, "{}", with.why);
    let switched = with.rounds.last().unwrap().started;
    assert!(switched.since(whimbrel_core::units::Timestamp::ZERO) >= Duration::from_secs(10));
    assert!(with.why.contains("downtime-limit 10.0 s"), "{}", with.why);
}

#[test]
fn changes_are_made_in_the_order_of_time_whatever_their_order_in_the_file() {
    let scenario = parse(
        "[policy]\nchanges = [{ at = \"20s\", parameter = \"downtime-limit\", value = \"2s\" }, { at = \"0s\", \
         parameter = \"max-bandwidth\", value = \"unlimited\" }]",
    );
    let names: Vec<_> = scenario.setup().policy.changes.iter().map(|c| c.parameter.as_str()).collect();
    assert_eq!(names, ["max-bandwidth", "downtime-limit"]);
    assert_eq!(*parse(&scenario.to_toml()).setup(), *scenario.setup());
}

#[test]
fn a_change_that_the_policy_does_not_take_is_refused_with_its_place() {
    for (text, message) in [
        (
            changed("downtime-limt", "1s"),
            "a.toml:12: preset `qemu-default` has no parameter `downtime-limt`; did you mean \
             `downtime-limit`? It has `downtime-limit`, `max-bandwidth`, `switchover-bandwidth`",
        ),
        (
            changed("downtime-limit", "soon"),
            "a.toml:13: `policy.changes.0.value`: parameter `downtime-limit` of policy `qemu-default`: cannot be \
             `soon`: expected a duration such as `300ms`, `1.5s`, `10min` or `1h` (ns, us, ms, s, min, h, d), at \
             most 2000s",
        ),
        (
            format!("{}[policy]\npreset = \"xen-5\"\n", changed("max-iterations", "2")),
            "a.toml:12: `policy.changes.0.parameter`: parameter `max-iterations` of policy `xen-5`: it can't be changed \
             while the migration runs",
        ),
        (
            "[[policy.changes]]\nat = \"1s\"\nvalue = \"1s\"".to_owned(),
            "a.toml:1: `policy.changes.0.parameter` is missing",
        ),
        (
            "[policy]\nchanges = 3".to_owned(),
            "a.toml:2: `policy.changes`: `3` is not accepted; write a list of tables",
        ),
        (
            "[[policy.changes]]\nat = \"soon\"".to_owned(),
            "a.toml:2: `policy.changes.0.at`: `soon` does not begin with a number; write a duration like `300ms`, `1.5s`, \
             `10min` or `1h` (ns, us, ms, s, min, h, d)",
        ),
        (
            "[[policy.changes]]\nparametr = \"x\"".to_owned(),
            "a.toml:2: unknown key `policy.changes.0.parametr`; did you mean `policy.changes.0.parameter`?",
        ),
    ] {
        assert_eq!(refused(&text), message);
    }
    assert_eq!(
        with_override(&changed("downtime-limit", "1s"), "policy.changes.0.value=3h"),
        "--set policy.changes.0.value=3h: `policy.changes.0.value`: parameter `downtime-limit` of policy \
         `qemu-default`: cannot be `3h`: expected a duration such as `300ms`, `1.5s`, `10min` or `1h` (ns, us, ms, s, \
         min, h, d), at most 2000s"
    );
}

fn with_override(text: &str, change: &str) -> String {
    parse(text).apply_overrides(&[change]).unwrap_err().to_string()
}

#[test]
fn changes_go_to_the_presets_that_take_them() {
    let text = format!(
        "{}[sweep]\n\"policy.preset\" = [\"qemu-default\", \"xen-5\"]\n\"policy.changes.0.at\" = [\"1s\", \"2s\"]",
        changed("downtime-limit", "1s")
    );
    let grid = parse(&text).grid().unwrap();
    assert_eq!(grid.cells(), 4);
    let changes = |cell| grid.cell(cell).unwrap().setup.policy.changes;
    assert_eq!(changes(1)[0].at, Duration::from_secs(2));
    assert!(changes(3).is_empty());
    // Those of a preset that an override replaces have done their service.
    let replaced = with(&changed("downtime-limit", "1s"), &["policy.preset=xen-5"]);
    assert!(replaced.setup().policy.changes.is_empty());
    assert_eq!(*parse(&replaced.to_toml()).setup(), *replaced.setup());
    // So have those whose parameter it has, but not to be changed while it runs.
    let clark = with(&changed("max-bandwidth", "1Gbit/s"), &["policy.preset=clark-2005"]);
    assert!(clark.setup().policy.changes.is_empty());
    assert_eq!(*parse(&clark.to_toml()).setup(), *clark.setup());
    // One that is written beside a preset that does not take it is a mistake all the same.
    let error = with_override(
        &changed("max-bandwidth", "1Gbit/s"),
        "policy={ preset = \"clark-2005\", changes = [{ at = \"1s\", parameter = \"max-bandwidth\", value = \"1Gbit/s\" }] }",
    );
    assert!(
        error.contains("`policy.changes.0.parameter`: parameter `max-bandwidth` of policy `clark-2005`"),
        "{error}"
    );
}

#[test]
fn a_policy_replaces_the_scenarios_own_with_its_parameters_changes_and_sweeps() {
    let mut scenario =
        parse(&format!("{}[sweep]\n\"policy.downtime-limit\" = [\"1s\"]", changed("downtime-limit", "1s")));
    let parameters = [("max-iterations".to_owned(), "3".to_owned())].into();
    let policy = PolicySpec { preset: "xen-5".to_owned(), parameters, ..PolicySpec::default() };
    scenario.replace_policy(&policy, "b.yaml").unwrap();
    assert_eq!(scenario.setup().policy, policy);
    assert!(scenario.axes().is_empty());
    // And is replaced in turn as if the file had had it.
    scenario.apply_overrides(&["policy.preset=qemu-default"]).unwrap();
    assert!(scenario.setup().policy.parameters.is_empty());
}

#[test]
fn no_parameter_of_a_preset_has_the_name_of_a_key_of_the_table() {
    for preset in whimbrel_core::policy::presets::PRESETS {
        assert!(preset.parameter("preset").is_none() && preset.parameter("changes").is_none(), "{preset:?}");
    }
}
