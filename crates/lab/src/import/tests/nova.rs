//! nova.conf.

use super::*;

const FULL: &str = "\
[DEFAULT]
max_concurrent_live_migrations = 4
[libvirt]
; a comment
virt_type = kvm
live_migration_downtime = 800
live_migration_downtime_steps: 5
live_migration_downtime_delay=30
live_migration_completion_timeout = '0'
live_migration_timeout_action = force_complete
live_migration_permit_post_copy = True
live_migration_permit_auto_converge = yes
live_migration_bandwidth = 100
live_migration_with_native_tls = true
live_migration_downtime_stpes = 3
[neutron]
url = http://example.org:9696
";

#[test]
fn every_setting_of_the_decision_is_taken_over_and_the_others_are_noted() {
    let imported = of("nova.conf", FULL).unwrap();
    assert_eq!(
        policy(&imported),
        [
            "nova",
            "completion-timeout = 0s",
            "downtime-delay = 30s",
            "downtime-steps = 5",
            "max-bandwidth = 100MiB/s",
            "max-downtime = 800ms",
            "permit-auto-converge = on",
            "permit-post-copy = on",
            "timeout-action = force-complete",
        ]
    );
    assert_eq!(
        imported.notes,
        [
            "`max_concurrent_live_migrations` (nova.conf:2): one migration at a time is simulated",
            "`live_migration_with_native_tls` (nova.conf:14): what encryption costs is not simulated",
            "`live_migration_downtime_stpes` (nova.conf:15): not known here, so it is left out; is \
             `live_migration_downtime_steps` meant?",
            "Of [libvirt] these have no part in the decision: `virt_type`.",
            "nova does not use auto-converge where post-copy is permitted; the preset does the same.",
        ]
    );
}

#[test]
fn of_a_key_that_is_there_twice_the_last_counts_and_so_do_later_files() {
    let one = "[libvirt]\nlive_migration_downtime = 200\nlive_migration_downtime = 300\nlive_migration_bandwidth = 0\n";
    assert_eq!(policy(&of("a", one).unwrap()), ["nova", "max-bandwidth = unlimited", "max-downtime = 300ms"]);
    let later = all(&[one, "[libvirt]\nlive_migration_downtime = 400\n"]).unwrap();
    assert_eq!(later.parameters["max-downtime"], "400ms");
}

#[test]
fn a_file_without_the_section_is_nova_as_it_comes() {
    let files = [("nova.conf".to_owned(), "[DEFAULT]\ndebug = true\n".to_owned())];
    let imported = parse(&files, Some(Origin::Nova)).unwrap();
    assert!(imported.parameters.is_empty());
    assert_eq!(imported.notes, ["There is no section [libvirt]: all is as nova has it by default."]);
}

#[test]
fn a_value_that_nova_would_not_take_is_refused_with_its_line() {
    for (line, message) in [
        (
            "live_migration_downtime = 50",
            "nova.conf:2: `live_migration_downtime`: `50` is not accepted; write a whole number of milliseconds, from 100 to \
             2000000",
        ),
        (
            "live_migration_downtime = 300ms",
            "nova.conf:2: `live_migration_downtime`: `300ms` is not accepted; write a whole number of milliseconds, from 100 \
             to 2000000",
        ),
        (
            "live_migration_downtime_steps = 2",
            "nova.conf:2: `live_migration_downtime_steps`: `2` is not accepted; write a whole number of steps, from 3 to \
             4294967295",
        ),
        (
            "live_migration_completion_timeout = -1",
            "nova.conf:2: `live_migration_completion_timeout`: `-1` is not accepted; write a whole number of seconds for each \
             GiB, 0 or more",
        ),
        (
            "live_migration_timeout_action = force-complete",
            "nova.conf:2: `live_migration_timeout_action`: `force-complete` is not accepted; write `abort` or \
             `force_complete`",
        ),
        (
            "live_migration_permit_post_copy = maybe",
            "nova.conf:2: `live_migration_permit_post_copy`: `maybe` is not accepted; write `true` or `false`",
        ),
        (
            "live_migration_bandwidth = $other",
            "nova.conf:2: `live_migration_bandwidth`: `$other` is not accepted; write the value that `$other` stands for",
        ),
        (
            "live_migration_bandwidth = 1\n  0",
            "nova.conf:2: `live_migration_bandwidth`: `1 0` is not accepted; write a whole number of MiB a second (0: no cap), \
             from 0 to 17592186044415",
        ),
        (
            "live_migration_bandwidth",
            "nova.conf:2: `live_migration_bandwidth` is not accepted; write `key = value`",
        ),
        (
            "# comment\n  continued",
            "nova.conf:3: a line that begins with a space continues a value, and there is none above",
        ),
        ("[neutron", "nova.conf:2: `[neutron` is no section; write `[name]`"),
    ] {
        assert_eq!(of("nova.conf", &format!("[libvirt]\n{line}\n")).unwrap_err().to_string(), message);
    }
    assert_eq!(
        of("nova.conf", "live_migration_downtime = 300").unwrap_err().to_string(),
        "nova.conf:1: `live_migration_downtime` stands before any section; write `[libvirt]` above"
    );
}
