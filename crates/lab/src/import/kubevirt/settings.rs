//! `KubeVirt`'s settings one by one: what each becomes, or why it becomes nothing.

use std::collections::BTreeMap;

use super::super::error::ImportError;
use super::super::setting::{Setting, Value};
use super::super::{Draft, milliseconds, on_off, quantity, rate, seconds};

/// Settings by their dotted key.
pub(super) type Merged<'a> = BTreeMap<String, Setting<'a>>;

/// The longest downtime that `KubeVirt` takes, in milliseconds.
const LONGEST: u64 = 2_000_000;
const MIB: u64 = 1 << 20;

const NO_PART: &str = "it has no part in the decision";
const ONE: &str = "one migration at a time is simulated";

/// Settings that are known and not taken over, and why.
const LEFT: [(&str, &str); 13] = [
    ("parallelMigrationsPerCluster", ONE),
    ("parallelOutboundMigrationsPerNode", ONE),
    ("network", "the network is the table `[link]` of the scenario"),
    ("disableTLS", "what encryption costs is not simulated"),
    ("nodeDrainTaintKey", NO_PART),
    ("unsafeMigrationOverride", NO_PART),
    ("matchSELinuxLevelOnMigration", NO_PART),
    ("utilityVolumesTimeout", NO_PART),
    ("selectors", "which guests it is for has no part in the decision"),
    ("migrationCompression", COMPRESSION),
    ("experimental.compression", COMPRESSION),
    ("experimental.stallDetector", ""),
    ("experimental.downtimeTuning", ""),
];
const COMPRESSION: &str = "how pages are compressed is said by `host.compression` of the scenario";

/// Takes over a setting, or notes why not; false if nobody knows it.
pub(super) fn take(draft: &mut Draft, setting: &Setting<'_>) -> Result<bool, ImportError> {
    if let Some((_, why)) = LEFT.iter().find(|(known, _)| *known == setting.key) {
        if !why.is_empty() {
            draft.note(setting.note(why));
        }
        return Ok(true);
    }
    if let Some(key) = setting.key.strip_prefix("experimental.stallDetector.") {
        return detector(draft, setting, key);
    }
    if let Some(key) = setting.key.strip_prefix("experimental.downtimeTuning.") {
        return tuning(draft, setting, key);
    }
    match setting.key.as_str() {
        "allowAutoConverge" => draft.set("allow-auto-converge", on_off(flag(setting)?)),
        "allowPostCopy" => draft.set("allow-post-copy", on_off(flag(setting)?)),
        "allowWorkloadDisruption" => draft.set("allow-workload-disruption", on_off(flag(setting)?)),
        "completionTimeoutPerGiB" => {
            let count = setting.whole("seconds for each GiB", 0, u64::MAX)?;
            draft.set("completion-timeout-per-gib", seconds(count));
        }
        "progressTimeout" => {
            let timeout = setting.whole("seconds", 0, u64::MAX)?;
            if draft.preset == "kubevirt-stall" {
                draft.note(setting.note("stall detection takes its place"));
            } else {
                draft.set("progress-timeout", seconds(timeout));
            }
        }
        "maxDowntimeMs" => {
            let limit = setting.whole("milliseconds", 1, LONGEST)?;
            if draft.preset != "kubevirt-legacy" {
                draft.set("max-downtime", milliseconds(limit));
            }
        }
        "bandwidthPerMigration" => bandwidth(draft, setting)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// A cap in bytes a second, as whole MiB.
fn bandwidth(draft: &mut Draft, setting: &Setting<'_>) -> Result<(), ImportError> {
    let bytes = setting.node.value.text().and_then(quantity::whole).ok_or_else(|| {
        setting.refuse("a quantity of bytes a second such as `64Mi`, `1Gi` or `100M`, or `0` for no cap")
    })?;
    let mib = match bytes {
        0 => 0,
        1..MIB => 1,
        more => more / MIB + u64::from(more % MIB >= MIB / 2),
    };
    let capped = mib.saturating_mul(MIB);
    if capped != bytes {
        draft.note(setting.note(&format!("KubeVirt hands it to libvirt in whole MiB a second, here {mib}")));
    }
    draft.set("max-bandwidth", rate(capped, "unlimited"));
    Ok(())
}

/// Of stall detection.
fn detector(draft: &mut Draft, setting: &Setting<'_>, key: &str) -> Result<bool, ImportError> {
    match key {
        "stallMargin" => {
            draft.set("stall-margin", format!("{}%", setting.whole("per cent", 0, 100)?));
        }
        "stallProgressTimeout" => {
            draft.set("stall-window", seconds(setting.whole("seconds", 0, u64::MAX)?));
        }
        "switchoverTimeout" => {
            draft.set("switchover-timeout", seconds(setting.whole("seconds", 0, u64::MAX)?));
        }
        "ewmaAlpha" => {
            let alpha = factor(setting, "more than 0, at most 1", |alpha| alpha > 0.0 && alpha <= 1.0)?;
            draft.set("bandwidth-smoothing", alpha.to_string());
        }
        "precopyPossibleFactor" => {
            draft.set("soft-factor", factor(setting, "1 or more", |soft| soft >= 1.0)?.to_string());
        }
        "patienceWindowDecayFactor" => {
            draft.set("patience-factor", factor(setting, "from 0 to 1", |decay| decay <= 1.0)?.to_string());
        }
        "searchLocalMinima" if flag(setting)? => {}
        "searchLocalMinima" => {
            draft.note(setting.note("not modelled: the preset always waits for a good moment"));
        }
        "completionTimeoutFactor" => {
            let times = factor(setting, "1 or more", |times| times >= 1.0)?;
            if (times - 2.0).abs() > f64::EPSILON {
                draft.note(setting.note("not modelled: the preset's factor is 2, the default"));
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Of a downtime limit that rises.
fn tuning(draft: &mut Draft, setting: &Setting<'_>, key: &str) -> Result<bool, ImportError> {
    let (parameter, value) = match key {
        "initialMs" => ("initial-downtime", milliseconds(setting.whole("milliseconds", 0, LONGEST)?)),
        // KubeVirt itself takes none for one, here and below.
        "steps" => ("downtime-steps", setting.whole("steps", 0, i32::MAX as u64)?.max(1).to_string()),
        "startAfterIteration" => {
            ("start-iteration", setting.whole("iterations", 0, u32::MAX.into())?.to_string())
        }
        "cooldownSeconds" => {
            ("downtime-cooldown", seconds(setting.whole("seconds", 0, i32::MAX as u64)?.max(1)))
        }
        _ => return Ok(false),
    };
    if draft.preset == "kubevirt-stepped" {
        draft.set(parameter, value);
    }
    Ok(true)
}

/// A flag as YAML 1.1 has it, which is what Kubernetes reads.
fn flag(setting: &Setting<'_>) -> Result<bool, ImportError> {
    setting.flag(&["true", "yes", "on", "y"], &["false", "no", "off", "n"])
}

/// A factor, written as a text or a number.
fn factor(setting: &Setting<'_>, accepted: &str, holds: fn(f64) -> bool) -> Result<f64, ImportError> {
    let value = match &setting.node.value {
        Value::Plain(text) | Value::Text(text) => quantity::number(text),
        _ => None,
    };
    value
        .filter(|value| value.is_finite() && holds(*value))
        .ok_or_else(|| setting.refuse(format!("a number such as \"1.5\", {accepted}")))
}
