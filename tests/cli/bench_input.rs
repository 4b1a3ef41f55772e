//! What `whimbrel bench` makes of a matrix that asks for what is not so here.

use crate::run::{Fresh, rows};

/// One cell.
const TINY: &str = r#"
[guest]
memory = "16MiB"

[link]
bandwidth = "200MB/s"

[run]
time-limit = "20s"
"#;

fn tiny() -> Fresh {
    let fresh = Fresh::new();
    fresh.write("matrix.toml", TINY);
    fresh
}

fn refused(fresh: &Fresh, set: &[&str], words: &[&str]) {
    let mut args = vec!["bench", "matrix.toml", "--out", "results"];
    args.extend(set.iter().flat_map(|set| ["--set", set]));
    let ended = fresh.run(&args);
    assert_eq!(ended.code, Some(2), "{set:?}: {}{}", ended.out, ended.err);
    assert!(words.iter().all(|words| ended.err.contains(words)), "{set:?}: {}", ended.err);
    assert!(!fresh.path("results").exists(), "{set:?}");
}

#[test]
fn a_policy_that_slows_writes_by_a_quota_is_refused_before_anything_is_measured() {
    let fresh = tiny();
    let one = &["policy.preset=qemu-dirty-limit"];
    refused(&fresh, one, &["matrix.toml", "policy.preset = \"qemu-dirty-limit\"", "`dirty-limit`"]);
    fresh.write(
        "matrix.toml",
        format!("{TINY}[sweep]\n\"policy.preset\" = [\"qemu-default\", \"qemu-dirty-limit\"]\n"),
    );
    refused(&fresh, &[], &["matrix.toml", "cell 1 (policy.preset=qemu-dirty-limit)", "`dirty-limit`"]);
}

#[test]
fn encodings_that_are_written_down_are_used_or_refused() {
    let fresh = tiny();
    refused(
        &fresh,
        &["host.compression.method=foo"],
        &["host.compression.method = \"foo\"", "none, lz4, zstd, adaptive"],
    );
    fresh.write("matrix.toml", format!("{TINY}[host.compression]\nmethod = \"foo\"\n"));
    refused(&fresh, &[], &["matrix.toml", "host.compression.method = \"foo\""]);
    // What the engine chooses by default here, too; and nothing is random.
    fresh.write("matrix.toml", format!("{TINY}[host.compression]\nmethod = \"zstd\"\n"));
    fresh.ok(&["bench", "matrix.toml", "--out", "results", "--set", "guest.random-content=0"]);
    let row = &rows(&fresh.read("results/fidelity.jsonl"))[0];
    assert_eq!(row["encoding"], "zstd", "{row}");
    let sent = row["measured"]["sent_bytes"].as_f64().expect("a number");
    assert!(sent < f64::from(16 << 20) / 4.0, "{row}");
    assert!(
        (0.5..2.0).contains(&(row["forecast"]["sent_bytes"].as_f64().expect("a number") / sent)),
        "{row}"
    );
}

#[test]
fn pages_of_which_nothing_is_random_are_no_zero_pages_and_of_two_kinds_each_has_its_table() {
    let fresh = tiny();
    fresh.write("matrix.toml", format!("{TINY}[sweep]\n\"host.streams\" = [1, 2]\n"));
    fresh.ok(&["bench", "matrix.toml", "--out", "results", "--set", "guest.random-content=0"]);
    for row in rows(&fresh.read("results/fidelity.jsonl")) {
        assert_eq!(row["encoding"], "plain", "{row}");
        for of in ["measured", "forecast"] {
            let sent = row[of]["sent_bytes"].as_u64().expect("a number");
            assert!(((16 << 20)..(24 << 20)).contains(&sent), "{of}: {row}");
        }
    }
    let host: toml::Table = fresh.read("results/host.toml").parse().expect("TOML");
    let grounds = host["ground"].as_array().expect("tables");
    let streams: Vec<_> = grounds.iter().map(|ground| ground["of"]["streams"].as_integer()).collect();
    assert_eq!(streams, [Some(1), Some(2)]);
    for ground in grounds {
        assert_eq!(
            (ground["of"]["memory"].as_str(), ground["of"]["encoding"].as_str()),
            (Some("16MiB"), Some("plain"))
        );
        assert!(ground["host"]["page-cost"].is_str() && ground["link"]["round-trip"].is_str(), "{ground}");
    }
    // What pages went as is written down, so that it is so when they go again.
    let again = fresh.read("results/scenario.toml");
    assert!(again.contains("method = \"none\""), "{again}");
}
