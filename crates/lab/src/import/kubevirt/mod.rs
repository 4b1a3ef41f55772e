//! `KubeVirt`'s settings of migrations, in YAML or JSON, become one of the presets `kubevirt-*`.
//!
//! Read are the cluster's (`spec.configuration.migrations` of a `KubeVirt` resource, `liveMigrationConfig` of a
//! `HyperConverged`, or the settings alone) and a `MigrationPolicy`, whose settings go before the
//! cluster's. Lists of resources, as `kubectl get -o yaml` prints them, are looked through.
//!
//! ```text
//! stall detection set (experimental.stallDetector), or its feature gate on: kubevirt-stall
//! downtime tuning set (experimental.downtimeTuning):                       kubevirt-stepped
//! maxDowntimeMs set, and nothing known of feature gates:                   kubevirt-stall
//! else:                                                                    kubevirt-legacy
//! ```
//!
//! Names, bounds and defaults are those of `KubeVirt`'s `types.go` and its admission webhooks. `KubeVirt` hands a
//! bandwidth to libvirt in whole MiB a second, and so does this.

mod resources;
mod settings;

use std::collections::BTreeMap;

use self::resources::Resources;
use self::settings::{Merged, take};
use super::error::ImportError;
use super::setting::Setting;
use super::{Draft, yaml};
use crate::scenario::error::excerpt;

/// Words that only these resources have.
pub(super) const MARKS: [&str; 10] = [
    "kubevirt.io/",
    "MigrationPolicy",
    "HyperConverged",
    "allowAutoConverge",
    "allowPostCopy",
    "allowWorkloadDisruption",
    "bandwidthPerMigration",
    "completionTimeoutPerGiB",
    "parallelMigrationsPerCluster",
    "progressTimeout",
];

/// The feature gates that say which monitor runs.
const STALL_GATE: &str = "MigrationStallDetection";
const TUNING_GATE: &str = "MigrationDowntimeTuning";

pub(super) fn import(files: &[(String, String)]) -> Result<Draft, ImportError> {
    let documents: Vec<_> = files
        .iter()
        .map(|(file, text)| Ok((file.as_str(), yaml::parse(text, file)?)))
        .collect::<Result<_, ImportError>>()?;
    let mut resources = Resources::default();
    for (file, nodes) in &documents {
        for node in nodes {
            resources.look_at(file, node)?;
        }
    }
    if !resources.any {
        let file = files.first().map_or_else(String::new, |(file, _)| excerpt(file, 200));
        let message = "there are no settings of migrations in it; accepted are a KubeVirt resource \
                       (spec.configuration.migrations), a MigrationPolicy, or the settings alone"
            .to_owned();
        return Err(ImportError::Nothing { file, message });
    }
    let merged = merged(&resources)?;
    let mut draft = Draft::new(preset(&resources, &merged));
    draft.notes.append(&mut resources.notes);
    if merged.is_empty() {
        draft.note("No setting of migrations is given: all is as KubeVirt has it by default.");
    }
    say_what_is_assumed(&mut draft, &resources, &merged);
    let mut unknown = Vec::new();
    for setting in merged.values() {
        if !take(&mut draft, setting)? {
            unknown.push(setting.key.as_str());
        }
    }
    draft.note_rest("Not known here, so they are left out", &unknown);
    disruption(&mut draft);
    Ok(draft)
}

/// The settings that hold, the policy's before the cluster's; `experimental` in its parts.
fn merged<'a>(resources: &Resources<'a>) -> Result<Merged<'a>, ImportError> {
    let mut merged = BTreeMap::new();
    for table in resources.cluster.iter().chain(&resources.policy) {
        for setting in table.entries()? {
            match setting.key.as_str() {
                "experimental" => flatten(&setting, &mut merged)?,
                _ => {
                    merged.insert(setting.key.clone(), setting);
                }
            }
        }
    }
    Ok(merged)
}

/// `experimental.stallDetector.stallMargin` and its like.
fn flatten<'a>(experimental: &Setting<'a>, merged: &mut Merged<'a>) -> Result<(), ImportError> {
    for part in experimental.entries()? {
        let parts = match part.own_name() {
            "stallDetector" | "downtimeTuning" => part.entries()?,
            _ => Vec::new(),
        };
        // The part itself counts too: an empty one turns it on.
        for setting in parts.into_iter().chain([part]) {
            merged.insert(setting.key.clone(), setting);
        }
    }
    Ok(())
}

fn preset(resources: &Resources<'_>, merged: &Merged<'_>) -> &'static str {
    let gate = |name| resources.gates.as_ref().map(|gates| gates.contains(name));
    let tuned = merged.contains_key("experimental.downtimeTuning");
    let stall = merged.contains_key("experimental.stallDetector")
        || gate(STALL_GATE) == Some(true)
        || merged.contains_key("maxDowntimeMs") && !tuned && resources.gates.is_none();
    match (stall, tuned) {
        (true, _) => "kubevirt-stall",
        (_, true) => "kubevirt-stepped",
        _ => "kubevirt-legacy",
    }
}

fn say_what_is_assumed(draft: &mut Draft, resources: &Resources<'_>, merged: &Merged<'_>) {
    let detector = merged.contains_key("experimental.stallDetector");
    let tuning = merged.contains_key("experimental.downtimeTuning");
    if let Some(setting) = merged.get("maxDowntimeMs") {
        if draft.preset == "kubevirt-stall" && !detector && resources.gates.is_none() {
            draft.note(setting.note(&format!(
                "KubeVirt takes it only with the feature gate {STALL_GATE} or {TUNING_GATE}; which gates are on \
                 is not said, and the first is assumed"
            )));
        } else if draft.preset == "kubevirt-legacy" {
            draft
                .note(setting.note("it does nothing without stall detection or experimental.downtimeTuning"));
        }
    }
    if draft.preset == "kubevirt-stall" && tuning {
        draft
            .note("Downtime tuning together with stall detection is not modelled: stall detection alone is.");
    }
    if resources.gates.is_none() && draft.preset == "kubevirt-legacy" && !merged.is_empty() {
        draft.note(format!(
            "Which feature gates are on is not said: {STALL_GATE} is taken to be off. With it the preset is \
             `kubevirt-stall`."
        ));
    }
}

/// Whoever allows post-copy allows disruption, unless it says otherwise.
fn disruption(draft: &mut Draft) {
    const DISRUPTION: &str = "allow-workload-disruption";
    if draft.parameters.get("allow-post-copy").is_none_or(|value| value != "on") {
        return;
    }
    match draft.parameters.get(DISRUPTION).map(String::as_str) {
        None => {
            draft.set(DISRUPTION, "on");
            draft.note("allowWorkloadDisruption is as allowPostCopy where it is not given.");
        }
        Some("off") => {
            draft.note("Newer KubeVirt refuses allowPostCopy without allowWorkloadDisruption.");
        }
        Some(_) => {}
    }
}
