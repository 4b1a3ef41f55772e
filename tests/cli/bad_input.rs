//! Wrong scenarios and command lines: each ends in an error that names what is wrong, a status of its
//! own, and no file.

use crate::run::{Fresh, SMALL_SWEEP};

/// A scenario, and what the error must say.
type Scenario = (&'static str, &'static [&'static str]);

/// Refused by `simulate` and by `sweep` alike.
const SCENARIOS: &[Scenario] = &[
    // Not TOML, or not ours.
    ("[guest\nmemory = \"1GiB\"", &["bad.toml:1"]),
    ("[guest]\nmemory = 1GiB", &["bad.toml:2"]),
    ("[guest]\nmemory = \"1GiB\"\nmemory = \"2GiB\"", &["bad.toml:3", "memory"]),
    ("guest = 3", &["bad.toml:1", "guest", "3"]),
    ("[gest]\nmemory = \"1GiB\"", &["bad.toml:1", "`gest`", "`guest`"]),
    ("[link]\nbandwith = \"1Gbit/s\"", &["bad.toml:2", "`link.bandwith`", "`link.bandwidth`"]),
    ("[guest]\n[[guest.writers]]\nworking-sett = \"1GiB\"", &["bad.toml:3", "working-sett", "working-set"]),
    ("[[guest.writer]]\nrate = 1", &["bad.toml:1", "`guest.writer`", "`guest.writers`"]),
    ("[run]\nrepeats = 3", &["bad.toml:2", "`run.repeats`", "`run.repeat`"]),
    // Values.
    ("[guest]\nmemory = \"4 apples\"", &["bad.toml:2", "guest.memory", "4 apples", "GiB"]),
    ("[guest]\nmemory = \"-1GiB\"", &["bad.toml:2", "guest.memory", "-1GiB"]),
    ("[guest]\nmemory = true", &["bad.toml:2", "guest.memory", "true"]),
    ("[guest]\nmemory = \"0B\"", &["bad.toml:2", "guest.memory", "0"]),
    ("[guest]\nmemory = \"99999999EiB\"", &["bad.toml:2", "guest.memory", "99999999EiB"]),
    ("[guest]\nmemory = \"10000B\"", &["bad.toml:2", "guest.memory"]),
    ("[guest]\npage-size = \"8KiB\"", &["bad.toml:2", "guest.page-size", "8KiB", "`4KiB`"]),
    ("[guest]\nvcpus = 0", &["bad.toml:2", "guest.vcpus", "0"]),
    ("[guest]\nvcpus = 1.5", &["bad.toml:2", "guest.vcpus", "1.5"]),
    ("[guest]\nzero-pages = 1.5", &["bad.toml:2", "guest.zero-pages", "1.5"]),
    ("[guest]\nzero-pages = nan", &["bad.toml:2", "guest.zero-pages", "NaN"]),
    ("[guest]\nwriters = 3", &["bad.toml:2", "guest.writers", "3"]),
    ("[[guest.writers]]\npattern = \"random\"", &["bad.toml:2", "pattern", "random", "`uniform`"]),
    ("[[guest.writers]]\nworking-set = \"8GiB\"", &["bad.toml:2", "working-set", "8GiB"]),
    ("[[guest.writers]]\nrate = -5", &["bad.toml:2", "rate", "-5"]),
    ("[[guest.writers]]\nrate = inf", &["bad.toml:2", "rate", "inf"]),
    ("[[guest.writers]]\npattern = \"zipf\"\nexponent = -1.0", &["bad.toml:3", "exponent", "-1"]),
    ("[[guest.writers]]\nphases = [{ rate = 5 }]", &["bad.toml:2", "length", "missing"]),
    ("[link]\nbandwidth = \"0bit/s\"", &["bad.toml:2", "link.bandwidth", "0bit/s"]),
    ("[link]\nbandwidth = \"100Mbps\"", &["bad.toml:2", "link.bandwidth", "100Mbps", "bits or bytes"]),
    ("[link]\nbandwidth = \"fast\"", &["bad.toml:2", "link.bandwidth", "fast", "Gbit/s"]),
    ("[link]\nround-trip = \"5 parsecs\"", &["bad.toml:2", "link.round-trip", "5 parsecs"]),
    ("[link]\nround-trip = 5", &["bad.toml:2", "link.round-trip", "5"]),
    ("[link]\nchanges = [{ at = \"5s\" }]", &["bad.toml:2", "bandwidth", "missing"]),
    ("[host]\nsend-batch = 0", &["bad.toml:2", "host.send-batch", "0"]),
    ("[run]\nseed = -1", &["bad.toml:2", "run.seed", "-1"]),
    ("[run]\nrepeat = 0", &["bad.toml:2", "run.repeat", "0"]),
    ("[run]\ntime-limit = \"0s\"", &["bad.toml:2", "run.time-limit", "0s"]),
    (
        "[run]\nfidelity = \"fluid\"\n[host]\nxbzrle = { cache = \"64MiB\" }",
        &["bad.toml:4", "host.xbzrle.cache", "fluid", "exact"],
    ),
    ("[run]\nfidelity = \"vague\"", &["bad.toml:2", "run.fidelity", "vague"]),
    // Policies.
    ("[policy]\npreset = \"qemu-defualt\"", &["bad.toml:2", "qemu-defualt", "`qemu-default`"]),
    ("[policy]\npreset = 5", &["bad.toml:2", "5"]),
    ("[policy]\npreset = \"xen-5\"\ndowntime-limit = \"1s\"", &["bad.toml:3", "xen-5", "downtime-limit"]),
    ("[policy]\ndowntime-limit = \"soon\"", &["bad.toml:2", "downtime-limit", "soon"]),
    ("[policy]\ndowntime-limit = \"3h\"", &["bad.toml:2", "downtime-limit", "3h"]),
    ("[policy]\npreset = \"fixed-rounds\"\nrounds = -1", &["bad.toml:3", "rounds", "-1"]),
    (
        "[[policy.changes]]\nat = \"1s\"\nparameter = \"downtime-limt\"\nvalue = \"1s\"",
        &["bad.toml:3", "downtime-limt", "`downtime-limit`"],
    ),
    (
        "[[policy.changes]]\nat = \"1s\"\nparameter = \"downtime-limit\"\nvalue = 300",
        &["bad.toml:4", "policy.changes.0.value", "300", "300ms"],
    ),
    (
        "[policy]\npreset = \"xen-5\"\nchanges = [{ at = \"1s\", parameter = \"min-dirty\", value = 5 }]",
        &["bad.toml:3", "min-dirty", "xen-5", "can't be changed"],
    ),
    ("[[policy.changes]]\nat = \"1s\"", &["bad.toml:1", "policy.changes.0.parameter", "missing"]),
    ("[policy]\nchanges = \"later\"", &["bad.toml:2", "policy.changes", "later", "list of tables"]),
    // Sweeps.
    ("[sweep]\n\"link.bandwith\" = [\"1Gbit/s\"]", &["bad.toml:2", "link.bandwith", "link.bandwidth"]),
    ("[sweep]\n\"link.bandwidth\" = []", &["bad.toml:2", "link.bandwidth", "empty"]),
    ("[sweep]\n\"link.bandwidth\" = \"1Gbit/s\"", &["bad.toml:2", "link.bandwidth", "list"]),
    ("[sweep]\n\"link.bandwidth\" = [\"1Gbit/s\", \"fast\"]", &["bad.toml:2", "sweep value 2", "fast"]),
    ("[sweep]\n\"guest.vcpus\" = { from = 1, to = 4 }", &["bad.toml:2", "steps", "missing"]),
    (
        "[sweep]\n\"guest.vcpus\" = { from = 1, to = 4, steps = 4, scale = \"cubic\" }",
        &["bad.toml:2", "scale", "cubic"],
    ),
    (
        "[sweep]\n\"host.send-batch\" = { from = 0, to = 4, steps = 4, scale = \"log\" }",
        &["bad.toml:2", "host.send-batch"],
    ),
    ("[sweep]\n\"guest.writers.0.rate\" = [1, 2]", &["bad.toml:2", "guest.writers.0"]),
    ("[sweep]\n\"policy.preset\" = [\"xen-5\", \"xen-6\"]", &["bad.toml:2", "sweep value 2", "xen-6"]),
    ("[sweep]\n\"run.repeat\" = [1, 2]", &["bad.toml:2", "run.repeat"]),
];

/// A command line in a directory with a good `sweep.toml`, its status, and what the error must say.
const COMMANDS: &[(&[&str], i32, &[&str])] = &[
    (&["simluate"], 2, &["simluate", "simulate"]),
    (&["simulate", "--sed", "3"], 2, &["--sed", "--seed"]),
    (&["simulate", "--seed", "three"], 2, &["three", "--seed"]),
    (&["simulate", "--seed", "-1"], 2, &["-1", "from 0 to 18446744073709551615"]),
    (&["simulate", "--seed", "abc"], 2, &["abc", "a whole number from 0"]),
    (&["compare", "--repeat", "1.5"], 2, &["1.5", "a whole number from 1 to 1000000"]),
    (&["explain", "--cell", "-1"], 2, &["'-1'", "a whole number from 0"]),
    (&["forecast", "--downtime", "-5ms"], 2, &["`-5ms` is negative", "300ms"]),
    (&["forecast", "--dirty-rate", "-20%"], 2, &["`-20%`", "a relative standard deviation"]),
    (&["trace", "record", "--interval", "-1ms"], 2, &["--interval", "negative"]),
    (&["trace", "record", "--interval", "0ms"], 2, &["--interval", "more than 0s"]),
    (&["trace", "record", "--length", "100000h"], 2, &["--length", "at most 8760h"]),
    (&["trace", "record", "--out", "a.parquet"], 2, &["a.parquet", ".csv or .jsonl"]),
    (&["simulate", "--plot", "x.png"], 2, &["x.png", ".svg"]),
    (&["trace", "stats", "missing.csv", "--plot", "binary.toml"], 2, &["--plot binary.toml", ".svg"]),
    (&["trace", "stats", "missing.csv"], 2, &["missing.csv", "No such file"]),
    (&["trace", "stats", "."], 2, &["cannot read .: it is a directory, accepted is a file"]),
    (&["validate", "."], 2, &["cannot read .: it is a directory, accepted is a file"]),
    (&["validate", "binary.toml"], 2, &["cannot read binary.toml: not UTF-8 text"]),
    (&["man", "nope"], 2, &["there is no command `nope`; there are simulate, "]),
    (&["simulate", "--policy", "nope"], 2, &["`nope`; known are fixed-rounds, "]),
    (&["simulate", "--policy", "."], 2, &["directory"]),
    (&["simulate", "--set", "guest.foo=1"], 2, &["`guest.foo`; `guest` has `memory`, "]),
    (&["simulate", "--set", "guest.writers.0.foo=1"], 2, &["`guest.writers.N` has `pattern`, "]),
    (&["simulate", "--set", "a.b.c=1"], 2, &["`a.b.c`; the tables of a scenario are `guest`, `link`, "]),
    (&["sweep", "--set", "sweep.x=1"], 2, &["`sweep.\"x\"`"]),
    (&["simulate", "--set", "guest.writers.0.rate=1e300"], 2, &["cannot be 1e300: "]),
    (&["simulate", "--set", "guest.memory=5000B"], 2, &["cannot be 5000B: "]),
    (&["tune", "xen-5", "--choose", "999"], 2, &["--choose 999", "at most as many points"]),
    (&["tune", "xen-5", "--choose", "min:bytes"], 2, &["`bytes` was not minimised"]),
    (&["tune", "xen-5", "--name", ""], 2, &["--name", "in one line"]),
    (&["simulate", "--format", "yaml"], 2, &["yaml", "table"]),
    (&["simulate", "--plot"], 2, &["--plot"]),
    (&["simulate", "a.toml", "b.toml"], 2, &["b.toml"]),
    (&["simulate", "missing.toml"], 2, &["missing.toml", "No such file"]),
    (&["simulate", "."], 2, &["directory"]),
    (&["simulate", "binary.toml"], 2, &["binary.toml:2", "UTF-8"]),
    (&["simulate", "--set", "link.bandwidth"], 2, &["link.bandwidth", "KEY=VALUE"]),
    (&["simulate", "--set", "=5"], 2, &["=5", "KEY=VALUE"]),
    (&["simulate", "--set", "link.bandwith=1Gbit/s"], 2, &["link.bandwith", "link.bandwidth"]),
    (&["simulate", "--set", "link.bandwidth=quick"], 2, &["--set", "link.bandwidth", "quick"]),
    (&["simulate", "--set", "guest.writers.7.rate=1"], 2, &["guest.writers.7"]),
    (&["simulate", "--set", "policy.preset=xen"], 2, &["`xen`", "xen-5"]),
    (&["simulate", "--set", "guest.memory=[1, 2"], 2, &["--set", "guest.memory"]),
    (&["simulate", "--set", "run.fidelity=vague"], 2, &["run.fidelity", "vague"]),
    (&["sweep", "--fidelity", "vague"], 2, &["--fidelity", "vague", "fluid"]),
    (&["sweep", "sweep.toml", "--jobs", "0"], 2, &["--jobs", "0"]),
    (&["sweep", "sweep.toml", "--jobs", "many"], 2, &["--jobs", "many"]),
    (&["sweep", "sweep.toml", "--jobs", "100000"], 2, &["--jobs", "100000"]),
    (&["sweep", "sweep.toml", "--format", "json"], 2, &["json", "jsonl"]),
    (&["sweep", "sweep.toml", "--out", ""], 2, &["--out"]),
    (&["sweep", "sweep.toml", "--out", "sweep.toml"], 1, &["sweep.toml", "not a directory"]),
    (&["sweep", "sweep.toml", "--set", "run.repeat=2000000"], 2, &["run.repeat", "2000000"]),
    (&["sweep", "sweep.toml", "--set", "guest.memory=4MiB"], 2, &["guest.memory"]),
    (&["sweep", "huge.toml"], 2, &["huge.toml", "1002001000000 runs", "1000000000000"]),
    (
        &[
            "simulate",
            "--fidelity",
            "fluid",
            "--policy",
            "qemu-postcopy",
            "--set",
            "host.post-copy-order=hot-first",
        ],
        2,
        &["host.post-copy-order", "exact"],
    ),
    (&["policies", "xen-6"], 2, &["xen-6", "`xen-5`"]),
    (&["policies", "xen-5", "hyperv-5"], 2, &["hyperv-5"]),
    (&["policies", "--format", "csv"], 2, &["csv", "table"]),
    (&["policies", "--import"], 2, &["--import"]),
    (&["policies", "--import", "missing.yaml"], 2, &["missing.yaml", "No such file"]),
    (&["policies", "--import", "."], 2, &["directory"]),
    (&["policies", "--import", "binary.toml"], 2, &["binary.toml", "UTF-8"]),
    (&["policies", "--import", "sweep.toml"], 2, &["sweep.toml", "nova.conf", "--from"]),
    (
        &["policies", "--import", "empty.jsonl", "--from", "qemu"],
        2,
        &["empty.jsonl", "query-migrate-parameters"],
    ),
    (&["policies", "--import", "empty.jsonl", "--from", "nova"], 2, &["empty.jsonl", "[libvirt]"]),
    (&["policies", "--import", "empty.jsonl", "--from", "kubevirt"], 2, &["empty.jsonl", "MigrationPolicy"]),
    (&["policies", "--import", "nova.conf", "--from", "xen"], 2, &["xen", "kubevirt"]),
    (&["policies", "--from", "nova"], 2, &["--import"]),
    (&["policies", "--import", "nova.conf", "--format", "json"], 2, &["--format"]),
    (&["policies", "--import", "nova.conf"], 2, &["nova.conf:2", "live_migration_downtime", "50", "100"]),
    (&["policies", "--import", "kv.yaml"], 2, &["kv.yaml:2", "bandwidthPerMigration", "64MB", "`64Mi`"]),
    (&["policies", "--import", "qemu.json"], 2, &["qemu.json", "downtime-limit", "300ms", "milliseconds"]),
    (&["policies", "--import", "kv.yaml", "qemu.json"], 2, &["kv.yaml", "kubevirt", "qemu.json", "of qemu"]),
    (&["simulate", "--policy-from", "kv.yaml"], 2, &["kv.yaml:2", "64MB"]),
    (&["simulate", "--policy-from", "missing.yaml"], 2, &["missing.yaml"]),
    (&["simulate", "--policy", "xen"], 2, &["`xen`", "xen-5"]),
    (&["simulate", "--policy", "nova", "--policy-from", "nova.conf"], 2, &["--policy", "--policy-from"]),
    (&["simulate", "--from", "nova"], 2, &["--policy-from"]),
    (
        &["simulate", "--policy", "xen-5", "--set", "policy.downtime-limit=1s"],
        2,
        &["xen-5", "downtime-limit"],
    ),
    (&["sweep", "sweep.toml", "--policy", "xen-5"], 2, &["--policy"]),
    (&["explain", "missing.toml"], 2, &["missing.toml", "No such file"]),
    (&["explain", "binary.toml"], 2, &["binary.toml:2", "UTF-8"]),
    (&["explain", "empty.json"], 2, &["empty.json", "not a run", "simulate --format json", "scenario"]),
    (&["explain", "."], 2, &["without scenario.toml", "whimbrel sweep"]),
    (&["explain", "--at", "-3s"], 2, &["--at", "-3s", "negative"]),
    (&["explain", "--at", "noon"], 2, &["--at", "noon", "300ms"]),
    (&["explain", "--at", "41"], 2, &["--at", "41"]),
    (&["explain", "--policy", "xen"], 2, &["`xen`", "xen-5"]),
    (&["explain", "--against", "xen"], 2, &["`xen`", "xen-5"]),
    (&["explain", "--against", "gone.toml"], 2, &["gone.toml", "No such file"]),
    (&["explain", "--against", "sweep.toml"], 2, &["sweep.toml", "`policy.preset` is missing"]),
    (&["explain", "--seed", "three"], 2, &["three", "--seed"]),
    (&["explain", "--set", "link.bandwith=1Gbit/s"], 2, &["link.bandwith", "link.bandwidth"]),
    (&["explain", "sweep.toml", "--cell", "16"], 2, &["--cell 16", "16 cells", "from 0"]),
    (&["explain", "sweep.toml", "--cell", "0", "--repetition", "3"], 2, &["--repetition 3", "3, counted"]),
    (&["explain", "sweep.toml", "--repetition", "3"], 2, &["--cell"]),
    (&["explain", "sweep.toml", "--cell", "1", "--seed", "1"], 2, &["--cell", "--seed"]),
    (&["validate"], 2, &["FILE.jsonl"]),
    (&["validate", "missing.jsonl"], 2, &["missing.jsonl", "No such file"]),
    (&["validate", "sweep.toml"], 2, &["sweep.toml:1", "measured migration"]),
    (&["validate", "empty.jsonl"], 2, &["empty.jsonl", "no measured migrations"]),
    (&["validate", "empty.jsonl", "--host", "vax"], 2, &["vax"]),
    (&["validate", "empty.jsonl", "--repeat", "0"], 2, &["--repeat", "from 1 to 1000000"]),
];

/// More runs than anybody could wait for.
const HUGE: &str = "\
[guest]
memory = \"16MiB\"

[[guest.writers]]
working-set = \"8MiB\"

[run]
repeat = 1000000

[sweep]
\"guest.writers.0.rate\" = { from = 1, to = 2, steps = 1001 }
\"link.bandwidth\" = { from = \"1Gbit/s\", to = \"2Gbit/s\", steps = 1001 }
";

/// Runs a command that must be refused, and says what is wrong with how it was.
fn fault(fresh: &Fresh, args: &[&str], status: i32, words: &[&str]) -> Option<String> {
    let before = fresh.names();
    let ended = fresh.run(args);
    let mut faults = Vec::new();
    if ended.code != Some(status) {
        faults.push(format!("status {:?}, not {status}", ended.code));
    }
    faults.extend(
        words.iter().filter(|word| !ended.err.contains(**word)).map(|word| format!("does not say `{word}`")),
    );
    if !ended.err.starts_with("error: ") {
        faults.push("does not begin with `error: `".to_owned());
    }
    if ended.err.contains("panicked") || ended.err.len() > 2000 {
        faults.push("is no message for people".to_owned());
    }
    if !ended.out.is_empty() {
        faults.push(format!("prints {:?}", ended.out));
    }
    if fresh.names() != before {
        faults.push(format!("leaves {:?}", fresh.names()));
    }
    (!faults.is_empty()).then(|| format!("{args:?} {}:\n    {}", faults.join(", "), ended.err.trim()))
}

#[test]
fn every_wrong_scenario_is_refused_by_name_and_leaves_no_file() {
    let fresh = Fresh::new();
    let mut faults = Vec::new();
    for (text, words) in SCENARIOS {
        fresh.write("bad.toml", text);
        for args in
            [&["simulate", "bad.toml", "--plot", "plot.svg"][..], &["sweep", "bad.toml", "--out", "results"]]
        {
            faults.extend(fault(&fresh, args, 2, words).map(|fault| format!("{text:?}\n  {fault}")));
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_wrong_command_line_is_refused_by_name_and_leaves_no_file() {
    let fresh = Fresh::new();
    fresh.write("sweep.toml", SMALL_SWEEP);
    fresh.write("empty.jsonl", "");
    fresh.write("huge.toml", HUGE);
    fresh.write("empty.json", "{}");
    fresh.write("nova.conf", "[libvirt]\nlive_migration_downtime = 50\n");
    fresh.write("kv.yaml", "allowPostCopy: true\nbandwidthPerMigration: 64MB\n");
    fresh.write("qemu.json", "{\"downtime-limit\": \"300ms\"}");
    fresh.write("binary.toml", b"[guest]\nmemory = \"\xff\xfe\"\n");
    let faults: Vec<_> =
        COMMANDS.iter().filter_map(|(args, status, words)| fault(&fresh, args, *status, words)).collect();
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

/// The promise is about this many; the tables may only grow.
#[test]
fn the_tables_hold_at_least_forty_cases() {
    assert!(SCENARIOS.len() + COMMANDS.len() >= 40);
}

#[test]
fn no_arguments_show_what_there_is() {
    let ended = Fresh::new().run::<&str>(&[]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("Usage: whimbrel"), "{}", ended.err);
}
