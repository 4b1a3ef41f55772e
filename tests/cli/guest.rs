//! `whimbrel guest run`: a real guest beside its simulation.

use crate::run::{Fresh, SMALL, json};

/// A guest that gives a dirty log something to do.
fn busy() -> String {
    SMALL.replace("rate = 500", "rate = 20000")
}

#[test]
fn a_real_guest_dirties_what_its_simulation_does_and_its_trace_is_one() {
    let fresh = Fresh::new();
    fresh.write("guest.toml", busy());
    let run = ["guest", "run", "guest.toml", "--for", "2s", "--interval", "50ms", "--format", "json"];
    let text = fresh.ok(&[&run[..], &["--record", "real.csv"]].concat());
    let found = json(&text);
    assert_eq!(found["agrees"], true, "{text}");
    assert!(["userfaultfd", "software"].contains(&found["log"].as_str().expect("a name")));
    let held = found["rates"][0]["held"].as_f64().expect("a number");
    assert!((held / 20_000.0 - 1.0).abs() < 0.05, "{held}");
    let harvests = found["harvests"].as_array().expect("an array");
    let pages: f64 = harvests.iter().filter_map(|one| one["pages"]["measured"].as_f64()).sum();
    let stats = fresh.ok(&["trace", "stats", "real.csv", "--format", "json"]);
    let stats = json(&stats);
    let points = stats[0]["rate"].as_array().expect("an array");
    let traced: f64 = points.iter().filter_map(|point| point["pages"].as_f64()).sum();
    // The statistics leave out a last interval that is shorter.
    assert!(traced <= pages && traced >= pages * 0.9, "{traced} of {pages}");
}

#[test]
fn the_software_log_can_be_asked_for_and_is_told() {
    let fresh = Fresh::new();
    fresh.write("guest.toml", busy());
    let text =
        fresh.ok(&["guest", "run", "guest.toml", "--for", "1s", "--log", "software", "--memory", "memfd"]);
    for words in [
        "dirty log  software; started in",
        "holds what the guest's registers say",
        "writes/s wanted",
        "window",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
}

#[test]
fn a_guest_that_cannot_be_is_refused_with_what_is_accepted() {
    let fresh = Fresh::new();
    fresh.write("guest.toml", busy());
    let refused = |arguments: &[&str], says: &str| {
        let ended = fresh.run(&[&["guest", "run"][..], arguments].concat());
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(says), "{says}:\n{}", ended.err);
    };
    refused(&["missing.toml"], "missing.toml");
    refused(&["guest.toml", "--for", "-1s"], "write a duration like");
    refused(&["guest.toml", "--for", "10"], "write a duration like");
    refused(&["guest.toml", "--for", "1s", "--interval", "2s"], "--interval 2s: accepted is at most");
    refused(&["guest.toml", "--memory", "hugetlb"], "accepted is `private`");
    refused(
        &["guest.toml", "--set", "guest.unchanged-pages=0.5"],
        "guest.unchanged-pages = 0.5 is only simulated",
    );
    refused(&["guest.toml", "--record", "trace.parquet"], "a trace is written as CSV");
    refused(&["guest.toml", "--set", "guest.memory=5KiB"], "guest.memory");
    // Nobody has so much; it must not be tried until the system ends somebody.
    refused(&["guest.toml", "--set", "guest.memory=16TiB"], "are free on this machine");
}
