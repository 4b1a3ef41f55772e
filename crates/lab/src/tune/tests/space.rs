//! Points of the cube and the parameters that they are.

use std::collections::BTreeMap;

use proptest::prelude::*;
use whimbrel_core::policy::presets;

use crate::tune::Space;

fn space(preset: &str) -> Space {
    Space::new(presets::find(preset).expect("a preset"), BTreeMap::new()).expect("a space")
}

fn dimension<'a>(space: &'a Space, name: &str) -> &'a crate::tune::Dimension {
    space.dimensions().iter().find(|known| known.name() == name).expect("a dimension")
}

#[test]
fn the_eleven_constants_of_kubevirt_stall_are_searched_and_its_permissions_are_not() {
    let space = space("kubevirt-stall");
    let names: Vec<_> = space.dimensions().iter().map(super::super::space::Dimension::name).collect();
    assert_eq!(names.len(), 11, "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("allow") || *name == "vfio"), "{names:?}");
}

#[test]
fn the_start_is_the_defaults_exactly() {
    for preset in presets::presets() {
        let space = space(preset.name);
        let texts = space.parameters(&space.start());
        for parameter in preset.parameters {
            if let Some(text) = texts.get(parameter.name) {
                assert_eq!(text, parameter.default, "{}", preset.name);
            }
        }
    }
}

#[test]
fn a_range_is_narrowed_and_a_parameter_is_fixed() {
    let mut space = space("kubevirt-stall");
    space.range("max-downtime=500ms..2s").expect("a range");
    let limit = dimension(&space, "max-downtime");
    assert_eq!(
        (limit.text(0.0), limit.text(0.5), limit.text(1.0)),
        ("500ms".into(), "1s".into(), "2s".into())
    );
    assert_eq!(limit.describe(), "500ms..2s");
    space.fix("max-downtime=700ms").expect("a value");
    space.fix("stall-window").expect("a name");
    assert_eq!(space.dimensions().len(), 9);
    let texts = space.parameters(&space.start());
    assert_eq!(texts.get("max-downtime").map(String::as_str), Some("700ms"));
    assert_eq!(texts.get("stall-window"), None);
}

#[test]
fn words_are_searched_when_asked_for() {
    let mut space = space("kubevirt-stall");
    space.range("allow-post-copy=off,on").expect("words");
    let post_copy = dimension(&space, "allow-post-copy");
    assert_eq!((post_copy.text(0.0), post_copy.text(1.0)), ("off".into(), "on".into()));
    assert_eq!(post_copy.text(space.start()[11]), "off");
}

#[test]
fn bad_ranges_are_refused_by_name() {
    for (text, told) in [
        ("max-downtme=1s..2s", "did you mean `max-downtime`?"),
        ("max-downtime=2s..1s", "`max-downtime` cannot be searched through `2s..1s`: expected FROM..TO"),
        ("max-downtime=1s..1s", "FROM less than TO"),
        ("max-downtime=1..2", "each a duration such as"),
        ("max-downtime=1s", "FROM..TO"),
        ("max-downtime", "`max-downtime` has no range"),
        ("allow-post-copy=off", "two or more of off,on"),
        ("allow-post-copy=off,maybe", "two or more of off,on"),
    ] {
        let error = space("kubevirt-stall").range(text).expect_err(text);
        assert!(error.to_string().contains(told), "{text}: {error}");
    }
    let error = space("kubevirt-stall").fix("soft-factor=-1").expect_err("refused");
    assert!(error.to_string().contains("cannot be `-1`"), "{error}");
}

#[test]
fn a_search_starts_from_a_policy_as_it_stands() {
    let given = BTreeMap::from([
        ("soft-factor".to_owned(), "2".to_owned()),
        ("allow-post-copy".to_owned(), "on".to_owned()),
        ("stall-window".to_owned(), "40s".to_owned()),
    ]);
    let policy = presets::build("kubevirt-stall", &given).expect("a policy");
    let space = Space::of(&*policy).expect("a space");
    let names: Vec<&String> = space.given().keys().collect();
    assert_eq!(names, ["allow-post-copy", "soft-factor"], "what is the default is not given");
    let texts = space.parameters(&space.start());
    assert_eq!((&*texts["soft-factor"], &*texts["stall-window"]), ("2", "40s"));
    assert_eq!(space.dimensions().len(), 11);
}

proptest! {
    #[test]
    fn every_point_is_a_policy_within_the_ranges(
        which in 0..presets::presets().len(),
        point in proptest::collection::vec(0.0..=1.0f64, 16),
    ) {
        let preset = &presets::presets()[which];
        let space = space(preset.name);
        let texts = space.parameters(&point);
        prop_assert!(preset.build(&texts).is_ok(), "{texts:?}");
        for dimension in space.dimensions() {
            let (low, high) = (dimension.text(0.0), dimension.text(1.0));
            let kind = preset.parameter(dimension.name()).expect("known").kind;
            let number = |text: &str| kind.number(kind.parse(text).expect("parses")).expect("a number");
            let value = number(&texts[dimension.name()]);
            prop_assert!(number(&low) <= value && value <= number(&high), "{value} not in {low}..{high}");
        }
    }
}
