//! Real settings as policies: `policies --import`, `simulate --policy-from` and `simulate --policy`, and
//! parameters that change while a migration runs.

use serde_json::Value;

use crate::run::{Fresh, SMALL, json};

const CLUSTER: &str = "\
apiVersion: kubevirt.io/v1
kind: KubeVirt
spec:
  configuration:
    migrations:
      parallelMigrationsPerCluster: 5
      bandwidthPerMigration: 64Mi
      completionTimeoutPerGiB: 5
";
const POLICY: &str = "\
apiVersion: migrations.kubevirt.io/v1alpha1
kind: MigrationPolicy
spec:
  allowPostCopy: true
";
const NOVA: &str =
    "[libvirt]\ncpu_mode = none\nlive_migration_downtime = 250\nlive_migration_downtime_delay: 3\n";
const PARAMETERS: &str =
    r#"{"return": {"downtime-limit": 250, "max-bandwidth": 0, "cpu-throttle-initial": 40}}"#;
const CAPABILITIES: &str = r#"{"return": [{"capability": "auto-converge", "state": true}]}"#;

fn fresh() -> Fresh {
    let fresh = Fresh::new();
    fresh.write("cluster.yaml", CLUSTER);
    fresh.write("policy.yaml", POLICY);
    fresh.write("nova.conf", NOVA);
    fresh.write("parameters.json", PARAMETERS);
    fresh.write("capabilities.json", CAPABILITIES);
    fresh.write("small.toml", SMALL);
    fresh
}

fn told(fresh: &Fresh, args: &[&str]) -> Value {
    let ended = fresh.run(&[args, &["--format", "json"]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    json(&ended.out)
}

#[test]
fn settings_are_printed_as_a_policy_that_a_scenario_takes() {
    let fresh = fresh();
    for (files, lines) in [
        (
            &["cluster.yaml", "policy.yaml"][..],
            &[
                "preset = \"kubevirt-legacy\"",
                "allow-post-copy = \"on\"",
                "allow-workload-disruption = \"on\"",
                "completion-timeout-per-gib = \"5s\"",
                "max-bandwidth = \"64MiB/s\"",
                "# * `parallelMigrationsPerCluster` (cluster.yaml:6): one migration at a time is simulated",
            ][..],
        ),
        (
            &["nova.conf"],
            &[
                "preset = \"nova\"",
                "downtime-delay = \"3s\"",
                "max-downtime = \"250ms\"",
                "# * Of [libvirt] these have no part in the decision: `cpu_mode`.",
            ],
        ),
        (
            &["parameters.json", "capabilities.json"],
            &[
                "preset = \"qemu-auto-converge\"",
                "throttle-initial = \"40%\"",
                "max-bandwidth = \"unlimited\"",
            ],
        ),
    ] {
        let printed = fresh.ok(&[&["policies", "--import"], files].concat());
        assert!(lines.iter().all(|line| printed.lines().any(|found| found == *line)), "{printed}");
        // The output is a scenario, and the policy in it is the one that `--policy-from` takes.
        fresh.write("printed.toml", format!("{printed}\n{SMALL}"));
        let mut from = vec!["simulate", "small.toml"];
        from.extend(files.iter().flat_map(|file| ["--policy-from", *file]));
        assert_eq!(told(&fresh, &["simulate", "printed.toml"]), told(&fresh, &from));
    }
}

#[test]
fn the_policy_of_settings_replaces_the_scenarios_own_and_notes_are_no_part_of_the_result() {
    let fresh = fresh();
    fresh.write("xen.toml", format!("{SMALL}[policy]\npreset = \"xen-5\"\nmax-iterations = 2\n"));
    let ended = fresh.run(&[
        "simulate",
        "xen.toml",
        "--policy-from",
        "nova.conf",
        "--set",
        "policy.downtime-steps=4",
    ]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.contains("policy    nova: max-downtime 250ms, downtime-steps 4"), "{}", ended.out);
    assert!(ended.err.starts_with("note: Of [libvirt]") && ended.err.lines().count() == 1, "{}", ended.err);
    // Told what they are, unlikely files are read as that.
    fresh.write("empty.conf", "[DEFAULT]\n");
    let ended = fresh.run(&["simulate", "small.toml", "--policy-from", "empty.conf", "--from", "nova"]);
    assert!(ended.out.contains("policy    nova: max-downtime 500ms"), "{} {}", ended.out, ended.err);
}

#[test]
fn a_policy_by_name_is_short_for_the_override() {
    let fresh = fresh();
    fresh.write("qemu.toml", format!("{SMALL}[policy]\ndowntime-limit = \"1s\"\n"));
    let long = ["simulate", "qemu.toml", "--set", "policy.preset=xen-5", "--set", "policy.max-iterations=2"];
    let short = ["simulate", "qemu.toml", "--policy", "xen-5", "--set", "policy.max-iterations=2"];
    assert_eq!(told(&fresh, &long), told(&fresh, &short));
    fresh.write("sweep.toml", crate::run::SMALL_SWEEP);
    assert_eq!(told(&fresh, &["simulate", "sweep.toml", "--policy", "nova"])["policy"]["preset"], "nova");
    // What is set last counts.
    let both = ["simulate", "qemu.toml", "--policy", "xen-5", "--set", "policy.preset=qemu-default"];
    assert_eq!(told(&fresh, &both)["policy"]["parameters"]["downtime-limit"], "1s");
}

#[test]
fn a_live_change_turns_a_migration_that_would_not_end() {
    let fresh = fresh();
    let live = format!(
        "{}[link]\nbandwidth = \"100Mbit/s\"\n[policy]\nmax-bandwidth = \"10Mbit/s\"\n[[policy.changes]]\nat = \"5s\"\n\
         parameter = \"max-bandwidth\"\nvalue = \"unlimited\"\n[[policy.changes]]\nat = \"9s\"\nparameter = \
         \"downtime-limit\"\nvalue = \"5s\"\n",
        SMALL.replace("rate = 500", "rate = 20000")
    );
    fresh.write("live.toml", &live);
    let with = told(&fresh, &["simulate", "live.toml"]);
    assert_eq!((&with["outcome"], &with["converged"]), (&"completed".into(), &true.into()), "{with}");
    assert_eq!(with["policy"]["changes"][1]["parameter"], "downtime-limit");
    let paused = with["round"].as_array().and_then(|rounds| rounds.last()).expect("rounds");
    assert!(paused["started_ms"].as_f64().is_some_and(|at| at >= 9_000.0), "{paused}");
    assert_eq!(
        told(&fresh, &["simulate", "live.toml", "--set", "policy.changes=[]"])["outcome"],
        "timed-out"
    );
    let text = fresh.ok(&["simulate", "live.toml"]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("at 5.00 s max-bandwidth unlimited; at 9.00 s downtime-limit 5s"), "{text}");
}

#[test]
fn help_says_what_can_be_imported() {
    let fresh = fresh();
    for (command, words) in [
        (
            "policies",
            &["--import", "--from", "nova.conf", "MigrationPolicy", "query-migrate-capabilities"][..],
        ),
        ("simulate", &["--policy ", "--policy-from", "migration-policy.yaml", "standard error"]),
    ] {
        let help = fresh.ok(&[command, "--help"]);
        assert!(words.iter().all(|word| help.contains(word)), "{help}");
    }
}
