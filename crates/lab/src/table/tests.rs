use super::*;
use crate::result::{DisruptionRecord, EncodingRecord, LedgerRecord, NearThresholdRecord, SCHEMA};

/// A record with every field given.
pub(super) fn record() -> MigrationRecord {
    let round = |round, paused| RoundRecord {
        round,
        paused,
        post_copy: false,
        started_ms: f64::from(round) * 1000.0,
        length_ms: 1000.0,
        dirtied_pages: 1000,
        left_over_pages: 0,
        pending_pages: 1000,
        sent_pages: 1000,
        zero_pages: 10,
        sent_bytes: 4_104_000,
        dirty_pages_per_s: Some(1000.0),
        bandwidth_bytes_per_s: Some(4_104_000),
        throttle: 0.0,
        throttled: None,
        progress: Some(0.25),
        eta: Some(crate::result::EtaRecord {
            remaining_ms: Some(3000.0),
            low_ms: 2000.0,
            high_ms: (round < 2).then_some(4000.0),
        }),
        decision: Some("continue"),
        reason: Some(
            "pending 3.9 MiB >= threshold 1.2 MiB (by 233 %; bandwidth 32.8 Mbit/s, downtime-limit 300 ms)"
                .into(),
        ),
    };
    MigrationRecord {
        schema: SCHEMA,
        outcome: "completed",
        converged: true,
        why: "the remainder was small enough".into(),
        seed: 7,
        total_ms: 3004.0,
        downtime_ms: 1004.0,
        unreachable_ms: 1004.0,
        paused_in_vain_ms: 0.0,
        sent_bytes: 12_312_000,
        rounds: 3,
        amplification: 3.0,
        disruption_vcpu_s: 1.0,
        disruption: DisruptionRecord::default(),
        downtime: LedgerRecord::default(),
        post_copy: crate::result::PostCopyRecord::default(),
        unchanged_pages: 0,
        encoding: EncodingRecord::default(),
        near_threshold: Some(NearThresholdRecord { round: 1, pending_pages: 1000, deviations: 0.5 }),
        round: vec![round(0, false), round(1, false), round(2, true)],
    }
}

#[test]
fn sentences_are_broken_at_the_width_and_nothing_is_lost() {
    let text = "pending 35.1 MiB >= threshold 19.2 MiB (by 83 %; bandwidth 64.0 MiB/s)";
    for width in 20..90 {
        let wrapped = wrap(text, "    ", width);
        assert!(wrapped.lines().all(|line| line.chars().count() <= width), "{width}: {wrapped}");
        assert_eq!(
            wrapped.split_whitespace().collect::<Vec<_>>(),
            text.split_whitespace().collect::<Vec<_>>()
        );
    }
    assert_eq!(wrap("incomprehensibilities", "  ", 5), "  incomprehensibilities\n");
}

#[test]
fn a_migration_fits_into_a_hundred_columns_and_names_what_matters() {
    let text = migration(&Setup::default(), &record(), 100);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    for word in ["2 paused", "continue: pending 3.9 MiB", "last pages", "completed, converged", "seed      7"]
    {
        assert!(text.contains(word), "no `{word}` in\n{text}");
    }
}

#[test]
fn rounding_never_says_all_or_none_where_it_is_not_so() {
    assert_eq!(per_cent(0.0), "0.0 %");
    assert_eq!(per_cent(1.0), "100.0 %");
    assert_eq!(per_cent(0.9999), "> 99.9 %");
    assert_eq!(per_cent(0.0001), "< 0.1 %");
    assert_eq!(per_cent(0.5), "50.0 %");
}

#[test]
fn every_preset_is_told_with_its_parameters_and_sources() {
    for known in presets::PRESETS {
        let text = preset(known, 80);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for parameter in known.parameters {
            assert!(text.contains(&format!("{} = {}", parameter.name, parameter.default)), "{text}");
        }
        assert!(text.contains("Approximate") == known.approximate.is_some());
        for line in known.rule.lines() {
            assert!(text.contains(&format!("\n  {line}\n")), "`{line}` is not told verbatim: {text}");
        }
        for note in known.notes {
            let first = note.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
            assert!(text.contains(&format!("\n  - {first}")), "{text}");
        }
        assert_eq!(preset_json(known)["rule"], known.rule);
        assert_eq!(preset_json(known)["notes"], serde_json::json!(known.notes));
        assert_eq!(preset_json(known)["parameters"].as_array().map(Vec::len), Some(known.parameters.len()));
    }
}

#[test]
fn what_a_ground_must_be_able_to_do_is_told_by_the_names_in_configuration_files() {
    let known = |name| presets::find(name).expect("a preset");
    assert_eq!(preset_json(known("xen-5"))["needs"], serde_json::json!([]));
    assert_eq!(preset_json(known("vmware-sdps"))["needs"], serde_json::json!(["throttle"]));
    assert!(preset(known("xen-5"), 80).contains("\nNeeds\n  nothing\n"));
    assert!(preset(known("qemu-dirty-limit"), 80).contains("\nNeeds\n  dirty-limit, harvest-on-demand\n"));
}

#[test]
fn a_traced_guest_is_described_by_its_trace_and_not_by_keys_that_it_replaces() {
    let folder = std::env::temp_dir().join(format!("whimbrel-written-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let trace = "# whimbrel-trace schema=1 page_size=4KiB memory=1MiB\nstart_ns,length_ns,first_page,pages\n\
                 0,1000000000,3,5\n1000000000,1000000000,4,1\n";
    std::fs::write(folder.join("t.csv"), trace).expect("written");
    let file = folder.join("s.toml");
    let text = "[guest]\nmemory = \"1MiB\"\n[[guest.writers]]\npattern = \"trace\"\ntrace = \"t.csv\"\n";
    std::fs::write(&file, text).expect("written");
    let scenario = crate::scenario::Scenario::load(&file).expect("a scenario");
    let Written { what, over, rate } = written(&scenario.setup().guest.writers[0]);
    assert!(what.starts_with("trace ") && what.ends_with("t.csv"), "{what}");
    assert_eq!((over, rate.as_str()), (None, ", 5 pages of it in 2.00 s, again and again"));
    // It lasts two seconds.
    std::fs::write(&file, format!("{text}trace-from = \"2s\"\n")).expect("written");
    let error = crate::scenario::Scenario::load(&file).expect_err("refused").to_string();
    assert!(error.contains("trace-from") && error.contains("less than the length of"), "{error}");
    std::fs::remove_dir_all(folder).expect("removed");
}

#[test]
fn of_a_migration_that_paused_nothing_no_downtime_is_told_by_parts() {
    let record = MigrationRecord { outcome: "cancelled", downtime_ms: 0.0, rounds: 1, ..record() };
    let text = migration(&Setup::default(), &record, 100);
    assert!(text.contains("downtime    none\n") && !text.contains("last pages"), "{text}");
    assert!(text.contains(" in 1 round\n"), "{text}");
}

#[test]
fn of_more_rounds_than_anybody_reads_the_first_and_the_last_are_shown_and_how_many_lie_between() {
    let of = |count: u32| {
        let one = record().round.remove(0);
        let all: Vec<_> = (0..count).map(|round| RoundRecord { round, ..one.clone() }).collect();
        rounds(&all, 100)
    };
    let numbers = |text: &str| -> Vec<u32> {
        let first = |line: &str| line.split_whitespace().next().and_then(|word| word.parse().ok());
        text.lines().filter(|line| !line.starts_with("       ")).filter_map(first).collect()
    };
    assert_eq!(numbers(&of(60)), (0..60).collect::<Vec<_>>());
    let many = of(811);
    assert_eq!(numbers(&many), (0..20).chain(791..811).collect::<Vec<_>>(), "{many}");
    assert!(many.contains("… 771 rounds more, all of them in --format json"), "{many}");
}
