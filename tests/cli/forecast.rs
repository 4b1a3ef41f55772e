//! `whimbrel forecast`.

use crate::run::{Fresh, SMALL, json};

const POLICIES: [&str; 4] = ["--policy", "qemu-default", "--policy", "xen-5"];

#[test]
fn a_forecast_has_a_verdict_and_quantiles() {
    let fresh = Fresh::new();
    fresh.write("small.toml", SMALL);
    let out = fresh.ok(&[&["forecast", "small.toml", "--samples", "40"], &POLICIES[..]].concat());
    let first = out.lines().next().unwrap();
    assert!(
        first.contains("stays below 300 ms at 1000.0 Mbit/s")
            || first.contains("stays below 300 ms at 1.0 Gbit/s"),
        "{out}"
    );
    assert!(out.contains("assumed: dirty rates within 20 %"), "{out}");
    for name in ["qemu-default", "xen-5"] {
        let row = out.lines().find(|line| line.starts_with(name) && line.contains("100 %"));
        assert!(row.is_some_and(|row| row.matches(" ms,").count() >= 2), "{name}: {out}");
    }
}

#[test]
fn what_cannot_be_kept_is_said_with_what_would_do() {
    let fresh = Fresh::new();
    fresh.write("small.toml", SMALL.replace("rate = 500", "rate = 200000"));
    let args = ["forecast", "small.toml", "--samples", "20", "--downtime", "20ms", "--format", "json"];
    let out = fresh.ok(&[&args[..], &POLICIES[..], &["--set", "link.bandwidth=50Mbit/s"]].concat());
    let forecast = json(&out);
    let words = forecast["words"].as_str().unwrap();
    assert!(words.starts_with("no policy stays below 20.0 ms at 50.0 Mbit/s"), "{words}");
    assert!(words.contains("would do"), "{words}");
    assert!(forecast["verdict"]["keep"].as_array().unwrap().is_empty());
    assert_eq!(forecast["policies"].as_array().unwrap().len(), 2);
}

#[test]
fn bad_input_is_named() {
    let fresh = Fresh::new();
    fresh.write("small.toml", SMALL);
    for (args, expected) in [
        (vec!["--dirty-rate", "much"], "relative standard deviation"),
        (vec!["--bandwidth", "2..1"], "`2..1`"),
        (vec!["--downtime", "300"], "300"),
        (vec!["--downtime", "0s"], "more than 0s"),
        (vec!["--samples", "3"], "20"),
        (vec!["--policy", "xen-6"], "`xen-5`"),
        (vec!["--fidelity", "rough"], "`exact`"),
        (vec!["--set", "link.bandwith=1Gbit/s"], "link.bandwidth"),
    ] {
        let ended = fresh.run(&[&["forecast", "small.toml"], &args[..]].concat());
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.err);
        assert!(ended.err.contains(expected) && ended.out.is_empty(), "{args:?}: {}", ended.err);
    }
    let ended = fresh.run(&["forecast", "databse"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("did you mean `database`"), "{}", ended.err);
}
