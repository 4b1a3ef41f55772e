//! `KubeVirt`'s resources.

use super::*;

const CLUSTER: &str = "\
apiVersion: kubevirt.io/v1
kind: KubeVirt
metadata:
  name: kubevirt
spec:
  configuration:
    developerConfiguration:
      featureGates: [CPUManager]
    migrations:
      parallelMigrationsPerCluster: 5
      bandwidthPerMigration: 64Mi
      completionTimeoutPerGiB: 800
      progressTimeout: 150
      allowAutoConverge: true
      allowPostCopy: false
      network: migrations
      newerSetting: 1
";

const POLICY: &str = "\
apiVersion: migrations.kubevirt.io/v1alpha1
kind: MigrationPolicy
metadata:
  name: databases
spec:
  allowAutoConverge: false
  bandwidthPerMigration: \"0\"
  completionTimeoutPerGiB: 23
  allowPostCopy: true
  selectors:
    namespaceSelector:
      hpc-workloads: \"True\"
";

#[test]
fn the_settings_of_a_cluster_become_the_legacy_monitor() {
    let imported = of("kv.yaml", CLUSTER).unwrap();
    assert_eq!(
        policy(&imported),
        [
            "kubevirt-legacy",
            "allow-auto-converge = on",
            "allow-post-copy = off",
            "completion-timeout-per-gib = 800s",
            "max-bandwidth = 64MiB/s",
            "progress-timeout = 150s",
        ]
    );
    assert_eq!(
        imported.notes,
        [
            "`network` (kv.yaml:16): the network is the table `[link]` of the scenario",
            "`parallelMigrationsPerCluster` (kv.yaml:10): one migration at a time is simulated",
            "Not known here, so they are left out: `newerSetting`.",
        ]
    );
}

#[test]
fn a_policy_goes_before_the_cluster_and_allows_disruption_with_post_copy() {
    let expected = [
        "kubevirt-legacy",
        "allow-auto-converge = off",
        "allow-post-copy = on",
        "allow-workload-disruption = on",
        "completion-timeout-per-gib = 23s",
        "max-bandwidth = unlimited",
        "progress-timeout = 150s",
    ];
    assert_eq!(policy(&all(&[CLUSTER, POLICY]).unwrap()), expected);
    assert_eq!(policy(&of("both.yaml", &format!("{POLICY}---\n{CLUSTER}")).unwrap()), expected);
    let alone = of("p.yaml", POLICY).unwrap();
    assert_eq!(alone.parameters["completion-timeout-per-gib"], "23s");
    assert!(alone.notes.iter().any(|note| note.contains("allowWorkloadDisruption is as allowPostCopy")));
    let twice = all(&[POLICY, POLICY]).unwrap_err().to_string();
    assert_eq!(twice, "b:6: settings of a MigrationPolicy are also at a:6; accepted are those of one");
}

#[test]
fn a_list_of_resources_and_json_are_read_as_well() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- kind: Node\n- kind: KubeVirt\n  spec:\n    configuration:\n      \
                migrations: {allowPostCopy: yes}\n";
    let imported = of("l.yaml", list).unwrap();
    assert_eq!(imported.parameters["allow-post-copy"], "on");
    assert_eq!(imported.notes[0], "l.yaml:4: a resource of kind `Node` is left out.");
    let json = r#"{"apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "spec": {"configuration": {"migrations":
        {"progressTimeout": 7, "maxDowntimeMs": null}}}}"#;
    assert_eq!(policy(&of("k.json", json).unwrap()), ["kubevirt-legacy", "progress-timeout = 7s"]);
    let hco = "kind: HyperConverged\nspec:\n  liveMigrationConfig:\n    completionTimeoutPerGiB: 150\n";
    assert_eq!(of("h.yaml", hco).unwrap().parameters["completion-timeout-per-gib"], "150s");
    for bare in ["migrations:\n  progressTimeout: 7\n", "progressTimeout: 7\n"] {
        assert_eq!(of("b.yaml", bare).unwrap().parameters["progress-timeout"], "7s");
    }
}

#[test]
fn gates_and_experimental_settings_say_which_monitor_runs() {
    let gated = CLUSTER
        .replace("[CPUManager]", "[MigrationStallDetection]")
        .replace("newerSetting: 1", "maxDowntimeMs: 700");
    let imported = of("kv.yaml", &gated).unwrap();
    assert_eq!(imported.preset, "kubevirt-stall");
    assert_eq!(imported.parameters["max-downtime"], "700ms");
    assert!(imported.notes.iter().any(|note| note.contains("stall detection takes its place")));
    let disabled = gated
        .replace("    migrations:", "      disabledFeatureGates: [MigrationStallDetection]\n    migrations:");
    let imported = of("kv.yaml", &disabled).unwrap();
    assert_eq!(imported.preset, "kubevirt-legacy");
    assert!(imported.notes.iter().any(|note| note.contains("it does nothing without stall detection")));

    let detector = "kind: MigrationPolicy\nspec:\n  maxDowntimeMs: 500\n  experimental:\n    stallDetector:\n      stallMargin: 6\n      \
                    stallProgressTimeout: 60\n      switchoverTimeout: 90\n      ewmaAlpha: \"0.5\"\n      precopyPossibleFactor: \
                    \"2\"\n      patienceWindowDecayFactor: \"250m\"\n      completionTimeoutFactor: \"3\"\n      searchLocalMinima: \
                    false\n";
    let imported = of("p.yaml", detector).unwrap();
    assert_eq!(
        policy(&imported),
        [
            "kubevirt-stall",
            "bandwidth-smoothing = 0.5",
            "max-downtime = 500ms",
            "patience-factor = 0.25",
            "soft-factor = 2",
            "stall-margin = 6%",
            "stall-window = 1min",
            "switchover-timeout = 90s",
        ]
    );
    assert_eq!(imported.notes.iter().filter(|note| note.contains("not modelled")).count(), 2);

    let tuning = "kind: MigrationPolicy\nspec:\n  maxDowntimeMs: 500\n  experimental:\n    downtimeTuning:\n      initialMs: 100\n      \
                  steps: 0\n      startAfterIteration: 2\n      cooldownSeconds: 5\n";
    assert_eq!(
        policy(&of("p.yaml", tuning).unwrap()),
        [
            "kubevirt-stepped",
            "downtime-cooldown = 5s",
            "downtime-steps = 1",
            "initial-downtime = 100ms",
            "max-downtime = 500ms",
            "start-iteration = 2",
        ]
    );
    let empty = "kind: MigrationPolicy\nspec: {experimental: {downtimeTuning: {}}}\n";
    assert_eq!(policy(&of("p.yaml", empty).unwrap()), ["kubevirt-stepped"]);
    let bare = of("b.yaml", "allowPostCopy: false\nmaxDowntimeMs: 500\n").unwrap();
    assert_eq!(bare.preset, "kubevirt-stall");
    assert!(bare.notes[0].contains("the first is assumed"), "{:?}", bare.notes);
}

#[test]
fn bandwidth_is_in_whole_mib_as_libvirt_gets_it() {
    for (quantity, cap) in [
        ("64Mi", "64MiB/s"),
        ("0", "unlimited"),
        ("217Ki", "1MiB/s"),
        ("100M", "95MiB/s"),
        ("1.5Gi", "1536MiB/s"),
    ] {
        let imported = of("b.yaml", &format!("bandwidthPerMigration: {quantity}")).unwrap();
        assert_eq!(
            imported.parameters["max-bandwidth"],
            cap.parse::<whimbrel_core::units::Bandwidth>()
                .map_or_else(|_| cap.to_owned(), |rate| rate.to_string())
        );
        assert_eq!(
            imported.notes.iter().any(|note| note.contains("whole MiB")),
            ["217Ki", "100M"].contains(&quantity)
        );
    }
}

#[test]
fn a_value_that_kubevirt_would_not_take_is_refused_with_its_line() {
    for (text, message) in [
        (
            "progressTimeout: 2.5m",
            "b.yaml:1: `progressTimeout`: `2.5m` is not accepted; write a whole number of seconds, 0 or more",
        ),
        (
            "\nallowPostCopy: \"true\"",
            "b.yaml:2: `allowPostCopy`: the text `true` is not accepted; write `true` or `false`",
        ),
        (
            "bandwidthPerMigration: 64MiB",
            "b.yaml:1: `bandwidthPerMigration`: `64MiB` is not accepted; write a quantity of bytes a second such as `64Mi`, \
             `1Gi` or `100M`, or `0` for no cap",
        ),
        (
            "allowPostCopy: true\nmaxDowntimeMs: 0",
            "b.yaml:2: `maxDowntimeMs`: `0` is not accepted; write a whole number of milliseconds, from 1 to 2000000",
        ),
        (
            "allowPostCopy: true\nexperimental:\n  stallDetector:\n    ewmaAlpha: \"0\"",
            "b.yaml:4: `experimental.stallDetector.ewmaAlpha`: the text `0` is not accepted; write a number such as \"1.5\", \
             more than 0, at most 1",
        ),
        (
            "progressTimeout: [1]",
            "b.yaml:1: `progressTimeout`: a list is not accepted; write a whole number of seconds, 0 or more",
        ),
        (
            "migrations: 5\nallowPostCopy: 1\nallowPostCopy: 2",
            "b.yaml:3: the key on this line is there twice",
        ),
        (
            "a: &a {progressTimeout: 1}\nb: *a",
            "b.yaml:2: an alias (`*name`) is not accepted; write out what it stands for",
        ),
        (
            "kind: MigrationPolicy\nspec: 5",
            "b.yaml:2: `settings`: `5` is not accepted; write a table of keys",
        ),
    ] {
        assert_eq!(of("b.yaml", text).unwrap_err().to_string(), message);
    }
    let message = of("b.yaml", "progressTimeout: 5\n allowPostCopy: \"x").unwrap_err().to_string();
    assert!(message.starts_with("b.yaml:2: not YAML: "), "{message}");
    for deep in [
        format!("progressTimeout: {}", "[".repeat(100_000)),
        format!("progressTimeout:\n{}1", "- ".repeat(100)),
    ] {
        assert!(of("b.yaml", &deep).unwrap_err().to_string().starts_with("b.yaml:"));
    }
    let other = ("b.yaml".to_owned(), "kind: Pod\n".to_owned());
    assert!(
        parse(&[other], Some(Origin::Kubevirt))
            .unwrap_err()
            .to_string()
            .contains("no settings of migrations in it")
    );
}
