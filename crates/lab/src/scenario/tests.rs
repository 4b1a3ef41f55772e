//! What scenarios promise: each fault is named with its place and what is accepted, a printed scenario
//! reads as itself, and no text makes the reader panic.

use std::error::Error as _;
use std::time::Duration;

use proptest::prelude::*;
use whimbrel_core::units::{Bandwidth, ByteCount};
use whimbrel_sim::config::Pattern;

use super::*;

fn parse(text: &str) -> Scenario {
    Scenario::parse(text, "a.toml").unwrap()
}

fn refused(text: &str) -> String {
    Scenario::parse(text, "a.toml").unwrap_err().to_string()
}

/// The messages of a refused override of the default scenario.
fn refused_override(overrides: &[&str]) -> String {
    Scenario::builtin("default")
        .unwrap()
        .apply_overrides(overrides)
        .unwrap_err()
        .to_string()
}

fn with(text: &str, overrides: &[&str]) -> Scenario {
    let mut scenario = parse(text);
    scenario.apply_overrides(overrides).unwrap();
    scenario
}

const BOTH: &str = r#"
[guest]
memory = "1GiB"
writers = [{ working-set = "64MiB" }]
[policy]
preset = "qemu-default"
downtime-limit = "300ms"
[sweep]
"policy.preset" = ["qemu-default", "xen-5"]
link.bandwidth = ["100Mbit/s", "1Gbit/s", "10Gbit/s"]
"#;

#[test]
fn an_empty_file_is_the_scenario_of_all_defaults() {
    let scenario = parse("");
    assert_eq!(*scenario.setup(), Setup::default());
    assert_eq!(scenario.grid().unwrap().runs(), 1);
    assert_eq!(*parse("# only a comment\n").setup(), Setup::default());
}

#[test]
fn the_scenario_of_the_documentation_reads_as_written() {
    let scenario = parse(
        r#"
        [guest]
        memory = "4GiB"
        page-size = "4KiB"
        vcpus = 4
        zero-pages = 0.3
        [[guest.writers]]
        pattern = "hot-cold"
        working-set = "512MiB"
        rate = 20000
        hot-pages = 0.1
        hot-writes = 0.9
        [link]
        bandwidth = "1Gbit/s"
        round-trip = "0.2ms"
        [policy]
        preset = "qemu-default"
        downtime-limit = "300ms"
        [run]
        seed = 0
        repeat = 10
        time-limit = "10min"
        fidelity = "exact"
        [sweep]
        "link.bandwidth" = ["100Mbit/s", "1Gbit/s", "10Gbit/s"]
        "guest.writers.0.rate" = { from = 100, to = 1000000, steps = 25, scale = "log" }
        "policy.preset" = ["qemu-default", "xen-5"]
        "#,
    );
    let setup = scenario.setup();
    assert_eq!(setup.guest.memory, ByteCount::gib(4));
    assert_eq!(setup.guest.writers[0].pattern, Pattern::HotCold);
    assert!((setup.guest.writers[0].rate - 20_000.0).abs() < 1e-9);
    assert_eq!(setup.link.round_trip, Duration::from_micros(200));
    assert_eq!(setup.policy.parameters["downtime-limit"], "300ms");
    assert_eq!(setup.run.time_limit, Duration::from_secs(600));

    let grid = scenario.grid().unwrap();
    assert_eq!((grid.cells(), grid.repeat(), grid.runs()), (150, 10, 1500));
    let keys: Vec<_> = grid.axes().iter().map(|axis| &*axis.key).collect();
    assert_eq!(
        keys,
        ["link.bandwidth", "guest.writers.0.rate", "policy.preset"]
    );
    let rates: Vec<_> = grid.axes()[1]
        .values
        .iter()
        .map(|value| value.text.as_str())
        .collect();
    assert_eq!(rates[..4], ["100", "146.8", "215.4", "316.2"]);
    assert_eq!(rates[24], "1000000");
    assert_eq!(grid.axes()[0].values[0].number, Some(1e8));
    assert_eq!(grid.axes()[0].unit.label(), "bit/s");
    assert!(
        grid.axes()[0].logarithmic && grid.axes()[1].logarithmic && !grid.axes()[2].logarithmic
    );

    // The last axis runs fastest.
    let cell = grid.cell(3).unwrap();
    assert_eq!(
        cell.overrides(),
        [
            "link.bandwidth=100Mbit/s",
            "guest.writers.0.rate=146.8",
            "policy.preset=xen-5"
        ]
    );
    assert_eq!(
        cell.setup.link.bandwidth,
        Bandwidth::new(12_500_000).unwrap()
    );
    assert!(
        cell.setup.policy.parameters.is_empty(),
        "xen-5 has no downtime limit"
    );
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest() {
    for (text, message) in [
        (
            "[guest]\nmemroy = \"4GiB\"",
            "a.toml:2: unknown key `guest.memroy`; did you mean `guest.memory`?",
        ),
        (
            "[guest]\npage_size = \"4KiB\"",
            "a.toml:2: unknown key `guest.page_size`; did you mean `guest.page-size`?",
        ),
        (
            "memory = \"4GiB\"",
            "a.toml:1: unknown key `memory`; did you mean `guest.memory`?",
        ),
        (
            "[gest]\n",
            "a.toml:1: unknown key `gest`; did you mean `guest`?",
        ),
        (
            "\n\n[[guest.writer]]\n",
            "a.toml:3: unknown key `guest.writer`; did you mean `guest.writers`?",
        ),
        (
            "[[guest.writers]]\n[[guest.writers]]\nrat = 1",
            "a.toml:3: unknown key `guest.writers.1.rat`; did you mean `guest.writers.1.rate`?",
        ),
        (
            "[host]\nbandwidth = \"1Gbit/s\"",
            "a.toml:2: unknown key `host.bandwidth`; did you mean `link.bandwidth`?",
        ),
        (
            "[run]\nsomething-else-entirely = 1",
            "a.toml:2: unknown key `run.something-else-entirely`",
        ),
        (
            "\"guest.memory\" = \"4GiB\"",
            "a.toml:1: unknown key `\"guest.memory\"`; did you mean `guest.memory`?",
        ),
        (
            "[sweep]\n\"link.bandwith\" = [1]",
            "a.toml:2: unknown key `link.bandwith`; did you mean `link.bandwidth`?",
        ),
    ] {
        assert_eq!(refused(text), message);
    }
}

#[test]
fn a_wrong_value_is_named_with_its_line_and_what_is_accepted() {
    for (text, message) in [
        (
            "[link]\nbandwidth = 5",
            "a.toml:2: `link.bandwidth`: `5` has no unit; write a bandwidth like `1Gbit/s`, `1Gbit`, \
             `125MB/s` or `64MiB/s` (bit/s or B/s with k to E or Ki to Ei)",
        ),
        (
            "[guest]\nmemory = true",
            "a.toml:2: `guest.memory`: `true` is not accepted; write `4GiB`, `512MiB`, `1.5GB` or `4096B` (KiB to EiB, \
             kB to EB, B)",
        ),
        (
            "[guest]\npage-size = \"8KiB\"",
            "a.toml:2: `guest.page-size`: no page size of 8KiB: accepted is `4KiB`, `2MiB` or `1GiB`",
        ),
        (
            "[guest]\nvcpus = 1.5",
            "a.toml:2: `guest.vcpus`: `1.5` is not accepted; write a whole number from 0 to 4294967295",
        ),
        (
            "[guest]\nvcpus = 0",
            "a.toml:2: `guest.vcpus` cannot be 0: accepted is a whole number from 1 to 16384",
        ),
        (
            "[[guest.writers]]\npattern = \"randm\"",
            "a.toml:2: `guest.writers.0.pattern`: `randm` is not accepted; write `uniform`, `sequential`, `hot-cold`, \
             `zipf`, `idle`",
        ),
        (
            "[guest]\nwriters = 3",
            "a.toml:2: `guest.writers`: `3` is not accepted; write a list of tables",
        ),
        (
            "[guest]\nwriters = [\n  3\n]",
            "a.toml:3: `guest.writers.0`: `3` is not accepted; write a table",
        ),
        (
            "guest = 3",
            "a.toml:1: `guest`: `3` is not accepted; write a table",
        ),
        (
            "[[guest.writers]]\nphases = [{ rate = 1 }]",
            "a.toml:2: `guest.writers.0.phases.0.length` is missing",
        ),
        (
            "[run]\nseed = -1",
            "a.toml:2: `run.seed`: `-1` is not accepted; write a whole number from 0 to 18446744073709551615",
        ),
        (
            "[run]\nseed = 1979-05-27",
            "a.toml:2: `run.seed`: the date or time `1979-05-27` is not accepted; write a whole number from 0 to \
             18446744073709551615",
        ),
        (
            "[run]\ntime-limit = \"0s\"",
            "a.toml:2: `run.time-limit` cannot be 0s: accepted is more than 0s, at most 8760h",
        ),
        (
            "[run]\nfidelity = \"fluid\"",
            "a.toml:2: `run.fidelity` cannot be `fluid`, which comes later: accepted is `exact`",
        ),
        (
            "[guest]\nmemory = \"256MiB\"\n[[guest.writers]]\nrate = 1",
            "a.toml:3: `guest.writers.0.working-set` cannot be 512MiB: accepted is at most 256MiB, which is what \
             guest.memory (256MiB) has from 0B on",
        ),
        (
            "[policy]\npreset = \"qemu\"",
            "a.toml:2: unknown preset `qemu`; known are fixed-rounds, qemu-default, xen-5, cloud-hypervisor, \
             hyperv-5, hyperv-10",
        ),
    ] {
        assert_eq!(refused(text), message);
    }
}

#[test]
fn what_is_not_toml_is_named_with_its_line() {
    for (text, message) in [
        (
            "[guest]\nvcpus = 1\nvcpus = 2\n",
            "a.toml:3: duplicate key: `vcpus`",
        ),
        ("[guest]\nvcpus = \n", "a.toml:2: "),
        ("[guest\n", "a.toml:1: "),
    ] {
        let error = refused(text);
        assert!(error.starts_with(message), "{error}");
        assert!(!error.contains('\n'));
    }
    let bytes = b"[guest]\nvcpus = 1 # \xff";
    assert_eq!(
        Scenario::parse_bytes(bytes, "a.toml")
            .unwrap_err()
            .to_string(),
        "a.toml:2: not UTF-8 text; a scenario is a TOML file"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Scenario::load("no/such.toml").unwrap_err();
    assert_eq!(error.to_string(), "cannot read scenario no/such.toml");
    assert!(error.source().is_some());
    assert_eq!(
        Scenario::load(".").unwrap_err().to_string(),
        "cannot read scenario .: it is a directory, accepted is a TOML file"
    );
    assert_eq!(
        Scenario::builtin("demo").unwrap_err().to_string(),
        "no built-in scenario `demo`: there are `default`, `sweep`"
    );
}

#[test]
fn overrides_take_bare_text_and_toml() {
    let scenario = with(
        "",
        &[
            "link.bandwidth=10Gbit/s",
            "policy.preset=\"xen-5\"",
            "guest.writers.0.rate=5000",
            "guest.writers.1={ pattern = \"idle\" }",
            "guest.zero-pages = 10%",
            "link.outages=[{ at = \"1s\", length = \"2s\" }]",
            "link.changes.0.at=3s",
            "link.changes.0.bandwidth=1Mbit/s",
            "host.skip-redirtied=true",
            "run.seed=18446744073709551615",
            "link.lost-at=1h",
            "link.lost-at=none",
            "sweep.link.round-trip=[\"1ms\", \"2ms\"]",
        ],
    );
    let setup = scenario.setup();
    assert_eq!(setup.link.bandwidth, Bandwidth::new(1_250_000_000).unwrap());
    assert_eq!(setup.policy.preset, "xen-5");
    assert_eq!(setup.guest.writers.len(), 2);
    assert_eq!(setup.guest.writers[1].pattern, Pattern::Idle);
    assert!((setup.guest.zero_pages.as_f64() - 0.1).abs() < 1e-12);
    assert_eq!(setup.link.outages[0].length, Duration::from_secs(2));
    assert_eq!(setup.link.changes[0].at, Duration::from_secs(3));
    assert!(setup.host.skip_redirtied);
    assert_eq!(setup.run.seed, u64::MAX);
    assert_eq!(setup.run.seed_of(2), 1, "seeds wrap around");
    assert_eq!(setup.link.lost_at, None);
    assert_eq!(scenario.grid().unwrap().cells(), 2);
}

#[test]
fn a_wrong_override_is_named() {
    for (overrides, message) in [
        (
            vec!["guest.memroy=1GiB"],
            "--set guest.memroy=1GiB: unknown key `guest.memroy`; did you mean `guest.memory`?",
        ),
        (
            vec!["link.bandwidth=5Mb"],
            "--set link.bandwidth=5Mb: `link.bandwidth`: `Mb` in `5Mb` could mean bits or bytes: bytes have a capital \
             `B`, bits are spelled `bit`; write a bandwidth like `1Gbit/s`, `1Gbit`, `125MB/s` or `64MiB/s` (bit/s \
             or B/s with k to E or Ki to Ei)",
        ),
        (
            vec!["guest.writers.5.rate=1"],
            "--set guest.writers.5.rate=1: `guest.writers.5.rate`: there is no position 5: `guest.writers` has 2 \
             entries, so accepted is up to 2 (which adds one)",
        ),
        (
            vec!["link.bandwidth"],
            "--set link.bandwidth: there is no `=`; accepted is KEY=VALUE, such as link.bandwidth=1Gbit/s",
        ),
        (
            vec!["=1"],
            "--set =1: there is no key before `=`; accepted is KEY=VALUE, such as link.bandwidth=1Gbit/s",
        ),
        (
            vec!["run.seed="],
            "--set run.seed=: there is no value behind `=`; accepted is KEY=VALUE, such as link.bandwidth=1Gbit/s",
        ),
        (
            vec!["guest=4"],
            "--set guest=4: `guest`: `4` is not accepted; write a table",
        ),
        (
            vec!["link.outages.0.at=1s"],
            "--set link.outages.0.at=1s: `link.outages.0.length` is missing",
        ),
        (
            vec!["policy.downtime=1s"],
            "--set policy.downtime=1s: preset `qemu-default` has no parameter `downtime`; did you mean `downtime-limit`? It \
             has `downtime-limit`, `max-bandwidth`, `switchover-bandwidth`",
        ),
        (
            vec!["policy.preset=xen-5", "policy.downtime-limit=1s"],
            "--set policy.downtime-limit=1s: preset `xen-5` has no parameter `downtime-limit`; it has `max-iterations`, \
             `min-dirty`",
        ),
        (
            vec!["guest.memory=512MiB"],
            "scenarios/default.toml:12: `guest.writers.0.working-set` cannot be 1GiB: accepted is at most 512MiB, \
             which is what guest.memory (512MiB) has from 0B on",
        ),
    ] {
        assert_eq!(refused_override(&overrides), message);
    }
    let brackets = refused_override(&["sweep.link.bandwidth=[1Gbit/s]"]);
    assert!(brackets.contains("the value is not TOML"), "{brackets}");
    assert!(brackets.contains("text in it needs quotes"), "{brackets}");
}

#[test]
fn a_refused_override_changes_nothing() {
    let mut scenario = Scenario::builtin("default").unwrap();
    let before = scenario.to_toml();
    assert!(
        scenario
            .apply_overrides(&["run.seed=5", "run.sed=5"])
            .is_err()
    );
    assert_eq!(scenario.to_toml(), before);
}

#[test]
fn parameters_of_a_replaced_preset_are_left_behind() {
    let text = "[policy]\npreset = \"qemu-default\"\ndowntime-limit = \"1s\"";
    let scenario = with(text, &["policy.preset=xen-5"]);
    assert!(scenario.setup().policy.parameters.is_empty());
    assert_eq!(*parse(&scenario.to_toml()).setup(), *scenario.setup());
    // But what no preset in sight knows is a mistake.
    assert_eq!(
        refused("[policy]\npreset = \"xen-5\"\ndowntime-limit = \"1s\""),
        "a.toml:3: preset `xen-5` has no parameter `downtime-limit`; it has `max-iterations`, `min-dirty`"
    );
}

#[test]
fn a_swept_preset_gets_the_parameters_that_it_knows() {
    let grid = parse(BOTH).grid().unwrap();
    assert_eq!(grid.cells(), 6);
    assert_eq!(
        grid.cell(0).unwrap().setup.policy.parameters["downtime-limit"],
        "300ms"
    );
    assert!(grid.cell(3).unwrap().setup.policy.parameters.is_empty());
    let swept = with(
        BOTH,
        &[
            "sweep.policy.downtime-limit={ from = \"30ms\", to = \"3s\", steps = 3, scale = \"log\" }",
        ],
    );
    let grid = swept.grid().unwrap();
    assert_eq!(grid.cells(), 18);
    assert_eq!(
        grid.cell(1).unwrap().setup.policy.parameters["downtime-limit"],
        "300ms"
    );
    assert_eq!(grid.axes()[2].unit.label(), "s");
    assert_eq!(
        refused(&format!("{BOTH}\n\"policy.patience\" = [1]\n")),
        "a.toml:12: sweep value 1: preset `qemu-default`, `xen-5` has no parameter `patience`; it has \
         `downtime-limit`, `max-bandwidth`, `max-iterations`, `min-dirty`, `switchover-bandwidth`"
    );
}

#[test]
fn setting_a_swept_key_ends_its_sweep() {
    let scenario = with(BOTH, &["policy.preset=xen-5"]);
    assert_eq!(scenario.grid().unwrap().cells(), 3);
    assert_eq!(with(BOTH, &["sweep={}"]).grid().unwrap().cells(), 1);
    assert_eq!(
        with(BOTH, &["sweep.link.bandwidth=[\"1Gbit/s\"]"])
            .grid()
            .unwrap()
            .cells(),
        2
    );
}

#[test]
fn a_cell_run_alone_is_the_same() {
    let grid = parse(BOTH).grid().unwrap();
    for index in 0..grid.cells() {
        let cell = grid.cell(index).unwrap();
        let mut alone = parse(BOTH);
        alone.apply_overrides(&cell.overrides()).unwrap();
        assert_eq!(*alone.setup(), cell.setup);
        assert_eq!(alone.grid().unwrap().cells(), 1);
    }
}

#[test]
fn a_wrong_sweep_is_named() {
    for (sweep, message) in [
        (
            "\"link.bandwidth\" = [\"1Gbit/s\", \"fast\"]",
            "a.toml:2: sweep value 2: `link.bandwidth`: `fast` does not begin with a number; write a bandwidth like \
             `1Gbit/s`, `1Gbit`, `125MB/s` or `64MiB/s` (bit/s or B/s with k to E or Ki to Ei)",
        ),
        (
            "\"link.bandwidth\" = []",
            "a.toml:2: `sweep.\"link.bandwidth\"`: the list is empty: accepted is a list of values or a range { from = …, \
             to = …, steps = …, scale = \"log\" }",
        ),
        (
            "\"link.bandwidth\" = \"1Gbit/s\"",
            "a.toml:2: `sweep.\"link.bandwidth\"`: `1Gbit/s` is not accepted; write a list of values or a range { from = …, \
             to = …, steps = …, scale = \"log\" }",
        ),
        (
            "\"guest.vcpus\" = { from = 1, too = 4, steps = 4 }",
            "a.toml:2: unknown key `sweep.\"guest.vcpus\".too`; did you mean `sweep.\"guest.vcpus\".to`?",
        ),
        (
            "\"guest.vcpus\" = { from = 1, steps = 4 }",
            "a.toml:2: `sweep.\"guest.vcpus\".to` is missing",
        ),
        (
            "\"guest.vcpus\" = { from = 1, to = 4, steps = 9 }",
            "a.toml:2: `sweep.\"guest.vcpus\"`: 9 steps are too many: a value comes twice",
        ),
        (
            "\"guest.vcpus\" = { from = 1, to = 4, steps = 1 }",
            "a.toml:2: `sweep.\"guest.vcpus\".steps`: `1` is not accepted; write a whole number from 2 to 100000",
        ),
        (
            "\"link.round-trip\" = { from = \"0s\", to = \"1s\", steps = 3, scale = \"log\" }",
            "a.toml:2: `sweep.\"link.round-trip\"`: a logarithmic range has no zero: accepted are ends above 0",
        ),
        (
            "\"host.skip-redirtied\" = { from = 0, to = 1, steps = 2 }",
            "a.toml:2: `sweep.\"host.skip-redirtied\".from`: `0` is not accepted; write `true` or `false`",
        ),
        (
            "\"guest.writers.0.rate\" = [1]",
            "a.toml:2: `sweep.\"guest.writers.0.rate\"`: the scenario has no `guest.writers.0`",
        ),
        (
            "\"run.repeat\" = [1]",
            "a.toml:2: `sweep.\"run.repeat\"`: the number of runs is the same in every cell: set run.repeat",
        ),
        (
            "\"guest\" = [1]",
            "a.toml:2: `sweep.\"guest\"`: it is a table or a list; swept keys hold one value each",
        ),
        (
            "\"policy.preset\" = [\"qemu-default\", \"xen-4\"]",
            "a.toml:2: sweep value 2: unknown preset `xen-4`; did you mean `xen-5`?",
        ),
        (
            "\"guest.vcpus\" = [1]\nguest.vcpus = [2]",
            "a.toml:3: duplicate key: `guest.vcpus` is swept twice",
        ),
    ] {
        assert_eq!(refused(&format!("[sweep]\n{sweep}")), message);
    }
}

#[test]
fn a_cell_that_cannot_be_is_found_before_anything_runs() {
    let text = "[[guest.writers]]\n[sweep]\n\"guest.memory\" = [\"1GiB\", \"256MiB\"]\n\"run.seed\" = [1, 2]";
    let error = parse(text).grid().unwrap_err();
    assert_eq!(
        error.to_string(),
        "cell 2 of the sweep (guest.memory=256MiB, run.seed=1)"
    );
    assert_eq!(
        error.source().unwrap().to_string(),
        "a.toml:1: `guest.writers.0.working-set` cannot be 512MiB: accepted is at most 256MiB, which is what \
         guest.memory (256MiB) has from 0B on"
    );
}

#[test]
fn a_sweep_of_too_many_runs_is_refused() {
    let text =
        "[run]\nrepeat = 1000\n[sweep]\n\"run.seed\" = { from = 1, to = 100000, steps = 100000 }";
    assert_eq!(
        parse(text).grid().unwrap_err().to_string(),
        "a.toml: the sweep makes 100000000 runs (cells times run.repeat): accepted are at most 10000000"
    );
}

#[test]
fn the_table_of_keys_has_every_field_and_no_other() {
    let mut setup = serde_json::to_value(Setup::default()).unwrap();
    let list = serde_json::json!([{}]);
    let writer = whimbrel_sim::config::WriterConfig::default();
    setup["guest"]["writers"] = serde_json::json!([serde_json::to_value(writer).unwrap()]);
    setup["guest"]["writers"][0]["phases"] = list.clone();
    setup["link"]["changes"] = list.clone();
    setup["link"]["outages"] = list;
    let mut fields = Vec::new();
    leaves("", &setup, &mut fields);
    fields.retain(|field| !field.starts_with("policy.parameters"));
    let mut known: Vec<_> = keys::KEYS
        .iter()
        .filter(|key| !key.required)
        .map(|key| key.name.to_owned())
        .collect();
    fields.sort();
    known.sort();
    assert_eq!(known, fields);
    for key in keys::KEYS {
        assert_eq!(
            key.default_text().is_none(),
            key.required || key.optional,
            "{}",
            key.name
        );
        assert_eq!(
            key.source.is_empty(),
            key.required || key.optional,
            "{}",
            key.name
        );
    }
    // Those that must be given, as the structures demand them.
    for key in keys::KEYS.iter().filter(|key| key.required) {
        let (table, _) = key.name.rsplit_once(".N.").unwrap();
        let text = format!("{}=[{{}}]", table.replace(".N.", ".0."));
        let error = refused_override(&[&text]);
        assert!(error.ends_with("is missing"), "{error}");
    }
}

fn leaves(prefix: &str, value: &serde_json::Value, found: &mut Vec<String>) {
    let dotted = |name: &str| {
        if prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{prefix}.{name}")
        }
    };
    match value {
        serde_json::Value::Object(map) => {
            for (name, value) in map {
                leaves(&dotted(name), value, found);
            }
        }
        serde_json::Value::Array(list) => {
            for value in list {
                leaves(&dotted("N"), value, found);
            }
        }
        _ => found.push(prefix.to_owned()),
    }
}

/// The documentation's table is the program's; set `WHIMBREL_WRITE_DOCS=1` to write it anew.
#[test]
fn the_documentation_lists_the_keys_as_they_are() {
    const BEGIN: &str = "<!-- keys: written by the program -->\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/scenarios.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (before, _) = text.split_once(BEGIN).expect("the mark is there");
    let expected = format!("{before}{BEGIN}{}", keys::table());
    if std::env::var_os("WHIMBREL_WRITE_DOCS").is_some() {
        std::fs::write(path, &expected).unwrap();
    } else {
        assert_eq!(text, expected, "run the tests with WHIMBREL_WRITE_DOCS=1");
    }
}

#[test]
fn every_scenario_of_the_repository_is_valid() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let scenario = Scenario::load(&path).unwrap();
        scenario.grid().unwrap();
        assert_eq!(
            *parse(&scenario.to_toml()).setup(),
            *scenario.setup(),
            "{}",
            path.display()
        );
        count += 1;
    }
    assert!(count >= 6);
    assert!(Scenario::builtin("sweep").unwrap().grid().unwrap().cells() >= 900);
}

#[test]
fn deep_nesting_is_refused_and_not_recursed() {
    for text in [
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a=".repeat(100_000)),
        format!("a{} = 1", ".a".repeat(100_000)),
        format!("[a{}]", ".a".repeat(100_000)),
        format!("[sweep]\na{} = 1", ".a".repeat(60)),
    ] {
        check(text.as_bytes());
        let _ = refused(&text);
        let _ = refused_override(&[&text]);
    }
}

/// A key, mostly one that exists.
fn any_key() -> impl Strategy<Value = String> {
    let known = prop::sample::select(keys::KEYS).prop_map(|key| key.name.to_owned());
    let place = prop_oneof![Just(""), Just("sweep."), Just("policy.")];
    let last = prop_oneof![3 => known, 1 => "[a-z0-9.\"' -]{0,20}".prop_map(|text| text)];
    (place, last, 0_u32..3)
        .prop_map(|(place, key, n)| format!("{place}{}", key.replace('N', &n.to_string())))
}

/// A value, often one that some key takes.
fn any_value() -> impl Strategy<Value = String> {
    let plain = prop_oneof![
        prop::sample::select(
            &[
                "4GiB",
                "1MiB",
                "0B",
                "1Gbit/s",
                "1bit/s",
                "0s",
                "10ms",
                "1h",
                "0.5",
                "10%",
                "0",
                "1",
                "7",
                "20000",
                "1e300",
                "-1",
                "nan",
                "inf",
                "true",
                "none",
                "zipf",
                "hot-cold",
                "uniform",
                "xen-5",
                "exact",
                "1979-05-27",
                "9223372036854775807",
                "18446744073709551616",
                "0x10",
            ][..]
        )
        .prop_map(str::to_owned),
        "\\PC{0,12}".prop_map(|text| text),
    ];
    let quoted = plain
        .clone()
        .prop_map(|text| toml::Value::String(text).to_string());
    let item = prop_oneof![plain, quoted];
    prop_oneof![
        4 => item.clone(),
        1 => prop::collection::vec(item.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
        1 => (item.clone(), item, 0..6_u32).prop_map(|(from, to, steps)| {
            format!("{{ from = {from}, to = {to}, steps = {steps}, scale = \"log\" }}")
        }),
    ]
}

fn any_override() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (any_key(), any_value()).prop_map(|(key, value)| format!("{key}={value}")),
        1 => "\\PC{0,40}".prop_map(|text| text),
    ]
}

proptest! {
    /// No override makes the program panic, and what is accepted prints as a scenario that reads as itself.
    #[test]
    fn any_override_is_applied_or_refused(overrides in prop::collection::vec(any_override(), 1..8)) {
        let mut scenario = Scenario::builtin("default").unwrap();
        for text in &overrides {
            let _ = scenario.apply_overrides(&[text]);
        }
        let printed = scenario.to_toml();
        let again = Scenario::parse(&printed, "printed.toml");
        prop_assert!(again.is_ok(), "{}\n{}", again.unwrap_err(), printed);
        let again = again.unwrap();
        prop_assert_eq!(again.setup(), scenario.setup());
        prop_assert_eq!(again.to_toml(), printed);
        prop_assert_eq!(again.axes().len(), scenario.axes().len());
        for (one, other) in again.axes().iter().zip(scenario.axes()) {
            prop_assert_eq!(&one.key, &other.key);
            prop_assert_eq!(&one.values, &other.values);
        }
    }

    /// Any line of a scenario is read or refused.
    #[test]
    fn any_text_is_read_or_refused(lines in prop::collection::vec((any_key(), any_value()), 0..8)) {
        let text: Vec<_> = lines.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        check(text.join("\n").as_bytes());
    }

    /// Any bytes are.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        check(&bytes);
    }
}
