//! What scenarios promise: what is written is what is run, `refusals` name each fault with its place and
//! what is accepted, and `random` texts never make the reader panic.

mod changes;
mod files;
mod random;
mod refusals;

use std::time::Duration;

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
    Scenario::builtin("default").unwrap().apply_overrides(overrides).unwrap_err().to_string()
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
    assert_eq!(setup.run.time_limit, Duration::from_mins(10));

    let grid = scenario.grid().unwrap();
    assert_eq!((grid.cells(), grid.repeat(), grid.runs()), (150, 10, 1500));
    let keys: Vec<_> = grid.axes().iter().map(|axis| &*axis.key).collect();
    assert_eq!(keys, ["link.bandwidth", "guest.writers.0.rate", "policy.preset"]);
    let rates: Vec<_> = grid.axes()[1].values.iter().map(|value| value.text.as_str()).collect();
    assert_eq!(rates[..4], ["100", "146.8", "215.4", "316.2"]);
    assert_eq!(rates[24], "1000000");
    assert_eq!(grid.axes()[0].values[0].number, Some(1e8));
    assert_eq!(grid.axes()[0].unit.label(), "bit/s");
    assert!(grid.axes()[0].logarithmic && grid.axes()[1].logarithmic && !grid.axes()[2].logarithmic);

    // The last axis runs fastest.
    let cell = grid.cell(3).unwrap();
    assert_eq!(
        cell.overrides(),
        ["link.bandwidth=100Mbit/s", "guest.writers.0.rate=146.8", "policy.preset=xen-5"]
    );
    assert_eq!(cell.setup.link.bandwidth, Bandwidth::new(12_500_000).unwrap());
    assert!(cell.setup.policy.parameters.is_empty(), "xen-5 has no downtime limit");
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
fn a_refused_override_changes_nothing() {
    let mut scenario = Scenario::builtin("default").unwrap();
    let before = scenario.to_toml();
    assert!(scenario.apply_overrides(&["run.seed=5", "run.sed=5"]).is_err());
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
    assert_eq!(grid.cell(0).unwrap().setup.policy.parameters["downtime-limit"], "300ms");
    assert!(grid.cell(3).unwrap().setup.policy.parameters.is_empty());
    let swept = with(
        BOTH,
        &["sweep.policy.downtime-limit={ from = \"30ms\", to = \"3s\", steps = 3, scale = \"log\" }"],
    );
    let grid = swept.grid().unwrap();
    assert_eq!(grid.cells(), 18);
    assert_eq!(grid.cell(1).unwrap().setup.policy.parameters["downtime-limit"], "300ms");
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
    assert_eq!(with(BOTH, &["sweep.link.bandwidth=[\"1Gbit/s\"]"]).grid().unwrap().cells(), 2);
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
    let mut known: Vec<_> =
        keys::KEYS.iter().filter(|key| !key.required).map(|key| key.name.to_owned()).collect();
    fields.sort();
    known.sort();
    assert_eq!(known, fields);
    for key in keys::KEYS {
        assert_eq!(key.default_text().is_none(), key.required || key.optional, "{}", key.name);
        assert_eq!(key.source.is_empty(), key.required || key.optional, "{}", key.name);
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
        if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
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
        assert!(text == expected, "docs/scenarios.md is stale: run this test with WHIMBREL_WRITE_DOCS=1");
    }
}

#[test]
fn every_scenario_of_the_repository_is_valid() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios");
    let mut count = 0;
    let files = |folder: &str| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let published = files(&format!("{folder}/published"));
    for path in files(folder).filter(|path| path.is_file()).chain(published) {
        let scenario = Scenario::load(&path).unwrap();
        scenario.grid().unwrap();
        assert_eq!(*parse(&scenario.to_toml()).setup(), *scenario.setup(), "{}", path.display());
        count += 1;
    }
    assert!(count >= 14);
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
