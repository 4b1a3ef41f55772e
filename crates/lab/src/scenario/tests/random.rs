//! Random scenarios and overrides.

use proptest::prelude::*;

use super::*;

/// A key, mostly one that exists.
fn any_key() -> impl Strategy<Value = String> {
    let known = prop::sample::select(keys::KEYS).prop_map(|key| key.name.to_owned());
    let place = prop_oneof![Just(""), Just("sweep."), Just("policy.")];
    let last = prop_oneof![3 => known, 1 => "[a-z0-9.\"' -]{0,20}".prop_map(|text| text)];
    (place, last, 0_u32..3).prop_map(|(place, key, n)| format!("{place}{}", key.replace('N', &n.to_string())))
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
                "clark-2005",
                "max-bandwidth",
                "downtime-limit",
                "{ at = \"1s\", parameter = \"max-bandwidth\", value = \"1Gbit/s\" }",
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
    let quoted = plain.clone().prop_map(|text| toml::Value::String(text).to_string());
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
        1 => (0..2_u32, any_value()).prop_map(|(n, value)| format!("policy.changes.{n}={value}")),
        1 => any_value().prop_map(|value| format!("policy.preset={value}")),
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
