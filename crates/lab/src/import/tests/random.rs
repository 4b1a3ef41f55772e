//! Random settings: any text is imported or refused, and what is imported builds and prints as itself.

use proptest::prelude::*;

use super::*;

fn any_word() -> impl Strategy<Value = String> {
    let known = prop::sample::select(
        &[
            "kind",
            "KubeVirt",
            "MigrationPolicy",
            "List",
            "items",
            "spec",
            "configuration",
            "migrations",
            "experimental",
            "stallDetector",
            "downtimeTuning",
            "stallMargin",
            "ewmaAlpha",
            "steps",
            "maxDowntimeMs",
            "progressTimeout",
            "allowPostCopy",
            "bandwidthPerMigration",
            "completionTimeoutPerGiB",
            "[libvirt]",
            "live_migration_downtime",
            "live_migration_bandwidth",
            "live_migration_timeout_action",
            "\"return\"",
            "\"downtime-limit\"",
            "\"capability\"",
            "\"auto-converge\"",
            "\"state\"",
            "\"max-bandwidth\"",
            "\"cpu-throttle-initial\"",
            "true",
            "false",
            "null",
            "0",
            "1",
            "64Mi",
            "18446744073709551615",
            "-1",
            "1e30",
            "\"0.5\"",
            "force_complete",
        ][..],
    );
    prop_oneof![6 => known.prop_map(str::to_owned), 1 => "\\PC{0,6}", 1 => any::<char>().prop_map(String::from)]
}

fn any_mark() -> impl Strategy<Value = &'static str> {
    prop::sample::select(
        &[
            ": ", " = ", "\n", "\n  ", "\n    ", "\n- ", "{", "}", "[", "]", ", ", "\n---\n", "\t", "#", ";",
            "&a ", "*a", "|\n ", "? ", "!!x ", "\"", "'", "%", "\r\n", "", " ",
        ][..],
    )
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::collection::vec((any_word(), any_mark()), 0..30)
            .prop_map(|parts| parts.into_iter().flat_map(|(word, mark)| [word, mark.to_owned()]).collect::<String>()),
        1 => "(?s).{0,80}",
    ]
}

fn check(files: &[(String, String)], origin: Option<Origin>) {
    match parse(files, origin) {
        Ok(imported) => {
            assert!(imported.policy().build().is_ok());
            let printed = imported.to_toml();
            let scenario = crate::scenario::Scenario::parse(&printed, "printed.toml").expect(&printed);
            assert_eq!(scenario.setup().policy, imported.policy());
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && text.len() < 1_500 && !text.contains('\n'), "{text}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_text_is_imported_or_refused(texts in prop::collection::vec(any_text(), 1..3), name in "\\PC{0,9}") {
        let files: Vec<_> = texts.into_iter().map(|text| (name.clone(), text)).collect();
        check(&files, None);
        for origin in Origin::ALL {
            check(&files, Some(origin));
        }
    }

    /// A good file with one piece replaced.
    #[test]
    fn any_damaged_file_is_imported_or_refused(
        file in prop::sample::select(&FILES[..]),
        at in any::<prop::sample::Index>(),
        length in 0..12usize,
        piece in any_text(),
    ) {
        let mut text: Vec<char> = file.chars().collect();
        let at = at.index(text.len());
        text.splice(at..(at + length).min(text.len()), piece.chars());
        check(&[("f".to_owned(), text.into_iter().collect())], None);
    }
}

const FILES: [&str; 3] = [
    "kind: KubeVirt\nspec:\n  configuration:\n    migrations:\n      allowPostCopy: true\n      bandwidthPerMigration: 64Mi\n      \
     experimental: {stallDetector: {stallMargin: 5, ewmaAlpha: \"0.3\"}}\n",
    "[libvirt]\nlive_migration_downtime = 500\nlive_migration_permit_post_copy = true\nlive_migration_bandwidth = 100\n",
    "{\"return\": {\"downtime-limit\": 300, \"max-bandwidth\": 0, \"cpu-throttle-initial\": 20}}\n{\"return\": [{\"capability\": \
     \"auto-converge\", \"state\": true}]}\n",
];
