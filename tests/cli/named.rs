//! Policies and workloads by their names: the same names and files are taken wherever one is asked for.

use crate::run::{Fresh, SMALL};

const PATIENT: &str = "[policy]\nname = \"patient\"\npreset = \"xen-5\"\nmax-iterations = 9\n";

fn fresh() -> Fresh {
    let fresh = Fresh::new();
    fresh.write("small.toml", format!("{SMALL}\n[policy]\ndowntime-limit = \"100ms\"\n"));
    fresh.write("patient.toml", PATIENT);
    fresh
}

#[test]
fn a_policy_is_named_in_the_same_way_everywhere() {
    let fresh = fresh();
    for (policy, called) in [
        ("xen-5", "xen-5: max-iterations 5"),
        ("xen-5:max-iterations=9", "xen-5: max-iterations 9"),
        ("patient.toml", "patient, xen-5: max-iterations 9"),
    ] {
        for args in [
            &["simulate", "small.toml", "--policy", policy][..],
            &["simulate", "small.toml", "--set", &format!("policy.preset={policy}")],
            &["explain", "small.toml", "--policy", policy],
        ] {
            let out = fresh.ok(args);
            assert!(out.contains(called), "{args:?}: {out}");
        }
        let label = if policy == "patient.toml" { "patient" } else { policy };
        for args in [
            &["compare", "small.toml", "--policy", policy, "--repeat", "1"][..],
            &["forecast", "small.toml", "--policy", policy, "--samples", "20", "--fidelity", "fluid"],
            &["explain", "small.toml", "--at", "1ms", "--against", policy],
        ] {
            let out = fresh.ok(args);
            assert!(out.contains(label), "{args:?}: {out}");
        }
    }
}

#[test]
fn a_swept_policy_may_have_parameters_and_be_of_a_file() {
    let fresh = fresh();
    let axis = "sweep.policy.preset=[\"qemu-default\", \"xen-5:max-iterations=2\", \"patient.toml\"]";
    fresh.ok(&["sweep", "small.toml", "--set", axis, "--format", "csv", "--out", "results"]);
    let cells = fresh.read("results/cells.csv");
    for name in ["qemu-default", "xen-5:max-iterations=2", "patient"] {
        assert!(cells.lines().any(|row| row.contains(name)), "{name}: {cells}");
    }
    // The results hold all that they follow from.
    std::fs::remove_file(fresh.path("patient.toml")).expect("removed");
    let out = fresh.ok(&["explain", "results", "--cell", "2"]);
    assert!(out.contains("patient, xen-5: max-iterations 9"), "{out}");
}

#[test]
fn a_file_of_a_policy_begins_a_scenario() {
    let fresh = fresh();
    fresh.write("grown.toml", format!("{PATIENT}\n{SMALL}"));
    assert!(fresh.ok(&["simulate", "grown.toml"]).contains("patient, xen-5: max-iterations 9"));
    let args = ["tune", "grown.toml", "--over", "small.toml", "--no-hold-out", "--name", "found"];
    let few =
        ["--population", "4", "--generations", "1", "--repeat", "1", "--check", "1", "--fidelity", "fluid"];
    fresh.ok(&[&args[..], &few].concat());
    let tuned = fresh.read("whimbrel-tune/policy.toml");
    fresh.write("tuned.toml", format!("{tuned}\n{SMALL}"));
    assert!(fresh.ok(&["simulate", "tuned.toml"]).contains("found, xen-5: "), "{tuned}");
    // Where a name stood once.
    fresh.write("top.toml", "name = \"patient\"\n[policy]\npreset = \"xen-5\"\n");
    let ended = fresh.run(&["simulate", "top.toml"]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.err.contains("top.toml:1: unknown key `name`; did you mean `policy.name`?"),
        "{}",
        ended.err
    );
}

#[test]
fn a_policys_name_fits_in_a_line() {
    let fresh = fresh();
    for name in ["", "two\\nlines", " edge", &"long".repeat(20)] {
        fresh.write("named.toml", format!("[policy]\npreset = \"xen-5\"\nname = \"{name}\"\n"));
        let ended = fresh.run(&["compare", "small.toml", "--policy", "named.toml", "--repeat", "1"]);
        assert_eq!(ended.code, Some(2), "{name}: {}", ended.out);
        assert!(ended.err.contains("named.toml:3: `policy.name`"), "{}", ended.err);
    }
}

#[test]
fn what_names_no_policy_is_told_so() {
    let fresh = fresh();
    for (policy, told) in [
        ("xen-6", &["`xen-6`", "did you mean `xen-5`"][..]),
        ("xen-5:max-itrations=9", &["xen-5", "`max-itrations`", "`max-iterations`"]),
        ("xen-5:max-iterations", &["NAME=VALUE"]),
        ("missing.toml", &["cannot read missing.toml", "No such file"]),
    ] {
        for args in
            [["simulate", "small.toml", "--policy", policy], ["explain", "small.toml", "--against", policy]]
        {
            let ended = fresh.run(&args);
            assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.out);
            assert!(told.iter().all(|told| ended.err.contains(told)), "{args:?}: {}", ended.err);
        }
    }
}

#[test]
fn explain_takes_the_names_of_workloads() {
    let fresh = fresh();
    let out = fresh.ok(&["explain", "idle", "--at", "1ms", "--against", "xen-5"]);
    assert!(out.contains("xen-5"), "{out}");
    let ended = fresh.run(&["explain", "databse"]);
    assert!(ended.code == Some(2) && ended.err.contains("`database`"), "{}", ended.err);
}

#[test]
fn what_fluid_does_not_cover_is_left_out_unless_it_is_named() {
    let fresh = fresh();
    let fluid = ["--fidelity", "fluid", "--set", "host.post-copy-order=hot-first"];
    for args in
        [&["compare", "small.toml", "--repeat", "1"][..], &["forecast", "small.toml", "--samples", "20"]]
    {
        let ended = fresh.run(&[args, &fluid].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        assert!(ended.err.starts_with("note: fluid simulations do not cover pure-postcopy"), "{}", ended.err);
        assert!(ended.out.contains("xen-5") && !ended.out.contains("pure-postcopy"), "{}", ended.out);
        let ended = fresh.run(&[args, &fluid, &["--policy", "pure-postcopy"]].concat());
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""));
        assert!(ended.err.contains("`pure-postcopy` on `small"), "{}", ended.err);
        let ended = fresh.run(&[args, &fluid[..2], &["--policy", "pure-postcopy"]].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.err);
    }
    let words = [
        "tune",
        "kubevirt-stall",
        "--over",
        "hot.toml",
        "--no-hold-out",
        "--range",
        "allow-post-copy=on,off",
    ];
    let few = ["--population", "4", "--generations", "1", "--repeat", "1"];
    fresh.write("hot.toml", format!("{SMALL}\n[host]\npost-copy-order = \"hot-first\"\n"));
    let ended = fresh.run(&[&words[..], &few, &fluid[..2]].concat());
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("with kubevirt-stall:allow-post-copy=on: "), "{}", ended.err);
}

/// A pipe gives what it has only once, and `-` is standard input.
#[cfg(unix)]
#[test]
fn what_is_read_may_come_through_a_pipe() {
    let fresh = fresh();
    fresh.write("run.json", fresh.ok(&["simulate", "small.toml", "--format", "json"]));
    fresh.write("trace.csv", fresh.ok(&["trace", "record", "small.toml", "--length", "1s"]));
    for (file, args) in [
        ("small.toml", &["simulate"][..]),
        ("small.toml", &["explain"]),
        ("run.json", &["explain"]),
        ("trace.csv", &["trace", "stats"]),
    ] {
        // The statistics of a trace begin with what it is called.
        let rest = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
        let named = fresh.ok(&[args, &[file]].concat());
        for name in ["-", "/dev/stdin"] {
            let mut child = fresh
                .command(&[args, &[name]].concat())
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .expect("starts");
            let mut pipe = child.stdin.take().expect("a pipe");
            std::io::Write::write_all(&mut pipe, fresh.read(file).as_bytes()).expect("written");
            drop(pipe);
            let ended = child.wait_with_output().expect("ends");
            let out = String::from_utf8(ended.stdout).expect("UTF-8");
            assert!(ended.status.success() && rest(&out) == rest(&named), "{args:?} {name}: {out}");
        }
    }
}
