//! What imports promise: each setting becomes what the product would do with it, wrong ones are refused with
//! their place, and no text makes the reader panic.

mod kubevirt;
mod nova;
mod qemu;
mod random;

use super::*;

/// The settings in one file of this name.
fn of(name: &str, text: &str) -> Result<Imported, ImportError> {
    parse(&[(name.to_owned(), text.to_owned())], None)
}

/// The settings in several files, `a` to `z`.
fn all(texts: &[&str]) -> Result<Imported, ImportError> {
    let names = ["a", "b", "c"];
    let files: Vec<_> =
        names.iter().zip(texts).map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    parse(&files, None)
}

/// Preset and parameters as the lines of a scenario.
fn policy(imported: &Imported) -> Vec<String> {
    let parameters = imported.parameters.iter().map(|(name, value)| format!("{name} = {value}"));
    [imported.preset.to_owned()].into_iter().chain(parameters).collect()
}

#[test]
fn files_of_different_products_and_of_none_are_refused_by_name() {
    let nova = "[libvirt]\nlive_migration_downtime = 300\n";
    let qemu = "{\"downtime-limit\": 300}";
    assert_eq!(
        all(&[nova, qemu]).unwrap_err().to_string(),
        "a is of nova and b of qemu: import those of one product together"
    );
    let message = of("x.txt", "hello").unwrap_err().to_string();
    assert!(
        message.starts_with("x.txt: not recognised; accepted are a KubeVirt or MigrationPolicy resource"),
        "{message}"
    );
    assert!(parse(&[], None).is_err());
    let text = ("x.txt".to_owned(), "hello".to_owned());
    for origin in Origin::ALL {
        let message = parse(std::slice::from_ref(&text), Some(origin)).unwrap_err().to_string();
        assert!(message.starts_with("x.txt"), "{message}");
    }
}

#[test]
fn an_import_prints_as_a_scenario_with_just_this_policy() {
    let kubevirt = "maxDowntimeMs: 700\nbandwidthPerMigration: 64Mi\nallowPostCopy: true\nnetwork: \"x\\u007f\\ny\"\nfuture\u{1}: 1\n";
    for imported in [
        of("kv.yaml", kubevirt).ok(),
        of("a\nb.conf", "[libvirt]\nlive_migration_downtme = 3\nlive_migration_downtime_steps = 5").ok(),
        of("q.json", "{\"downtime-limit\": 100, \"max-bandwidth\": 0, \"tls-creds\": \"\"}").ok(),
    ]
    .into_iter()
    .flatten()
    {
        let text = imported.to_toml();
        let scenario = crate::scenario::Scenario::parse(&text, "printed.toml").unwrap();
        assert_eq!(scenario.setup().policy, imported.policy(), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    assert!(
        load(&[folder], None).unwrap_err().to_string().ends_with("it is a directory, accepted is a file")
    );
    assert!(load(&["missing.yaml"], None).unwrap_err().to_string().contains("cannot read missing.yaml"));
}
