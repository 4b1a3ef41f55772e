//! What `whimbrel policies` tells about a preset.

use crate::run::Fresh;

#[test]
fn policies_tell_the_rule_what_is_assumed_and_what_a_ground_must_be_able_to_do() {
    let printed = Fresh::new().ok(&["policies", "kubevirt-stall"]);
    let sections = ["Rule", "Notes", "Needs", "Parameters", "Sources"];
    let found: Vec<_> = printed.lines().filter(|line| sections.contains(line)).collect();
    assert_eq!(found, sections, "{printed}");
    assert!(printed.contains("\n      not stalled: stalled if r >= 0.96"), "{printed}");
    assert!(printed.contains("\n  - Not modelled: polls go on"), "{printed}");
    assert!(printed.contains("\nNeeds\n  harvest-on-demand\n"), "{printed}");
}

#[test]
fn policies_tell_the_same_as_json() {
    let printed = Fresh::new().ok(&["policies", "qemu-auto-converge", "--format", "json"]);
    for part in ["\"rule\": \"what qemu-default does, and\\n", "\"notes\": [", "\"needs\": [", "\"throttle\""]
    {
        assert!(printed.contains(part), "no `{part}` in {printed}");
    }
}
