//! nova's configuration, `nova.conf` of a compute host: the section `[libvirt]` becomes the preset `nova`.
//!
//! Several files are read one after another, as nova does with `nova.conf` and a folder of further files: of a
//! key that is there twice the last counts. Values and their bounds are those of nova/conf/libvirt.py.

use std::collections::BTreeMap;

use whimbrel_core::policy::presets::nearest_name;

use super::error::ImportError;
use super::setting::{Node, Setting};
use super::{Draft, ini, milliseconds, on_off, rate, seconds};
use crate::scenario::error::excerpt;

/// The section that is read.
const SECTION: &str = "libvirt";
/// The longest downtime that QEMU takes, in milliseconds.
const LONGEST: u64 = 2_000_000;
/// The most of what the preset counts.
const MOST_STEPS: u64 = u32::MAX as u64;

const TAKEN: [&str; 8] = [
    "live_migration_downtime",
    "live_migration_downtime_steps",
    "live_migration_downtime_delay",
    "live_migration_completion_timeout",
    "live_migration_timeout_action",
    "live_migration_permit_post_copy",
    "live_migration_permit_auto_converge",
    "live_migration_bandwidth",
];

/// Keys that are known and not taken over, and why.
const LEFT: [(&str, &str); 9] = [
    ("live_migration_scheme", NO_PART),
    ("live_migration_inbound_addr", NO_PART),
    ("live_migration_uri", NO_PART),
    ("live_migration_flag", NO_PART),
    ("live_migration_tunnelled", "what tunnelling costs is not simulated"),
    ("live_migration_with_native_tls", "what encryption costs is not simulated"),
    (
        "live_migration_parallel_connections",
        "how many connections send is said by `host.streams` of the scenario",
    ),
    ("live_migration_progress_timeout", "nova no longer has it, and gave up without progress for so long"),
    ("live_migration_retry_count", NO_PART),
];
const NO_PART: &str = "it has no part in the decision";

pub(super) fn import(files: &[(String, String)]) -> Result<Draft, ImportError> {
    let mut draft = Draft::new("nova");
    let mut settings: BTreeMap<String, (&str, Node)> = BTreeMap::new();
    let (mut any, mut found) = (false, false);
    for (file, text) in files {
        let mut sections = ini::parse(text, file)?;
        any |= !sections.is_empty();
        let general =
            sections.get("DEFAULT").and_then(|section| section.get("max_concurrent_live_migrations"));
        if let Some(node) = general {
            let setting = Setting { file, key: "max_concurrent_live_migrations".to_owned(), node };
            draft.note(setting.note("one migration at a time is simulated"));
        }
        if let Some(section) = sections.remove(SECTION) {
            found = true;
            settings.extend(section.into_iter().map(|(key, node)| (key, (file.as_str(), node))));
        }
    }
    if !any {
        let file = files.first().map_or_else(String::new, |(file, _)| excerpt(file, 200));
        let message = "there is no section in it; accepted is nova.conf with `[libvirt]`".to_owned();
        return Err(ImportError::Nothing { file, message });
    }
    if !found {
        draft.note("There is no section [libvirt]: all is as nova has it by default.");
    }
    for (key, (file, node)) in &settings {
        take(&mut draft, &Setting { file, key: key.clone(), node })?;
    }
    others(&mut draft, &settings);
    let on = |name: &str| draft.parameters.get(name).is_some_and(|value| value == "on");
    if on("permit-post-copy") && on("permit-auto-converge") {
        draft.note("nova does not use auto-converge where post-copy is permitted; the preset does the same.");
    }
    Ok(draft)
}

/// Takes over a setting, or notes why not.
fn take(draft: &mut Draft, setting: &Setting<'_>) -> Result<(), ImportError> {
    if let Some(text) = setting.node.value.text().filter(|text| text.starts_with('$'))
        && TAKEN.contains(&setting.key.as_str())
    {
        return Err(setting.refuse(format!("the value that `{}` stands for", excerpt(text, 48))));
    }
    let flag = || setting.flag(&["true", "1", "on", "yes"], &["false", "0", "off", "no"]);
    match setting.key.as_str() {
        "live_migration_downtime" => {
            draft.set("max-downtime", milliseconds(setting.whole("milliseconds", 100, LONGEST)?));
        }
        "live_migration_downtime_steps" => {
            draft.set("downtime-steps", setting.whole("steps", 3, MOST_STEPS)?.to_string());
        }
        "live_migration_downtime_delay" => {
            draft.set("downtime-delay", seconds(setting.whole("seconds for each GiB", 3, u64::MAX)?));
        }
        "live_migration_completion_timeout" => {
            draft.set("completion-timeout", seconds(setting.whole("seconds for each GiB", 0, u64::MAX)?));
        }
        "live_migration_timeout_action" => {
            let action = match setting.node.value.text() {
                Some("abort") => "abort",
                Some("force_complete") => "force-complete",
                _ => return Err(setting.refuse("`abort` or `force_complete`")),
            };
            draft.set("timeout-action", action);
        }
        "live_migration_permit_post_copy" => draft.set("permit-post-copy", on_off(flag()?)),
        "live_migration_permit_auto_converge" => draft.set("permit-auto-converge", on_off(flag()?)),
        "live_migration_bandwidth" => {
            let mib = setting.whole("MiB a second (0: no cap)", 0, u64::MAX >> 20)?;
            draft.set("max-bandwidth", rate(mib << 20, "unlimited"));
        }
        key => {
            if let Some((_, why)) = LEFT.iter().find(|(known, _)| *known == key) {
                draft.note(setting.note(why));
            }
        }
    }
    Ok(())
}

/// Notes what nobody knows: keys about migrations with what they resemble, all others in one line.
fn others(draft: &mut Draft, settings: &BTreeMap<String, (&str, Node)>) {
    let known = |key: &str| TAKEN.contains(&key) || LEFT.iter().any(|(name, _)| *name == key);
    let unknown: Vec<_> = settings.iter().filter(|(key, _)| !known(key)).collect();
    let (about, rest): (Vec<_>, Vec<_>) =
        unknown.into_iter().partition(|(key, _)| key.starts_with("live_migration"));
    for (key, (file, node)) in about.iter().take(MOST_NOTES) {
        let nearest = nearest_name(key, TAKEN);
        let meant = nearest.map_or_else(String::new, |name| format!("; is `{name}` meant?"));
        let setting = Setting { file, key: (*key).clone(), node };
        draft.note(setting.note(&format!("not known here, so it is left out{meant}")));
    }
    let names: Vec<_> =
        rest.iter().chain(about.iter().skip(MOST_NOTES)).map(|(key, _)| key.as_str()).collect();
    draft.note_rest("Of [libvirt] these have no part in the decision", &names);
}

/// The most keys that have a note of their own.
const MOST_NOTES: usize = 20;
