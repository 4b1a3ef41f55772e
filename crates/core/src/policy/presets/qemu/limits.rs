//! The parameters that every QEMU preset has: the rule's limits. A preset lists them before or after its
//! own, reads them with [`QemuDefault::read`], and prints them with [`texts`].

use super::QemuDefault;
use crate::policy::presets::parameters::{self, Given, LONGEST_LIMIT, UNLIMITED, cap_text};
use crate::policy::presets::{ParameterInfo, ParameterKind, PresetError, PresetInfo};
use crate::policy::{ChangeError, Policy};
use crate::units::duration;

/// The word for a bandwidth that is not given.
const MEASURED: &str = "measured";

/// What `migrate-set-parameters` changes of them while a migration runs: all.
pub(super) const NAMES: [&str; 3] = [DOWNTIME.name, SWITCHOVER.name, MAX_BANDWIDTH.name];

pub(super) const DOWNTIME: ParameterInfo = ParameterInfo {
    name: "downtime-limit",
    kind: ParameterKind::Duration { most: Some(LONGEST_LIMIT) },
    default: "300ms",
    doc: "The downtime that the estimate must stay below.",
    source: "Q2",
};

pub(super) const SWITCHOVER: ParameterInfo = ParameterInfo {
    name: "switchover-bandwidth",
    kind: ParameterKind::OptionalBandwidth { none: MEASURED },
    default: MEASURED,
    doc: "The bandwidth that the estimate counts on (QEMU's avail-switchover-bandwidth) instead of \
          the measured one.",
    source: "Q2",
};

pub(super) const MAX_BANDWIDTH: ParameterInfo = ParameterInfo {
    name: "max-bandwidth",
    kind: ParameterKind::OptionalBandwidth { none: UNLIMITED },
    default: UNLIMITED,
    doc: "Cap of the sending rate until the switchover. QEMU's own default is 128MiB/s; libvirt and \
          the managers above it lift that, and so does ours.",
    source: "ours",
};

/// The limits as texts.
pub(super) fn texts(rule: &QemuDefault) -> Vec<(&'static str, String)> {
    let switchover = rule.switchover_bandwidth.map(|bandwidth| bandwidth.to_string());
    vec![
        (DOWNTIME.name, duration::format(rule.downtime_limit)),
        (SWITCHOVER.name, switchover.unwrap_or_else(|| MEASURED.to_owned())),
        (MAX_BANDWIDTH.name, cap_text(rule.max_bandwidth)),
    ]
}

/// What `read` makes of the policy's parameters after a change of `name` to `value`.
///
/// # Errors
///
/// [`ChangeError`] if `name` is none of `changeable` or does not take `value`.
pub(super) fn changed<P: Policy, T>(
    policy: &P,
    (info, changeable): (&PresetInfo, &[&str]),
    (name, value): (&str, &str),
    read: fn(&Given<'_>) -> Result<T, PresetError>,
) -> Result<T, ChangeError> {
    let texts = parameters::changed(policy, info, changeable, name, value)?;
    Given::new(info, &texts).and_then(|given| read(&given)).map_err(|error| ChangeError {
        policy: info.name.to_owned(),
        parameter: name.to_owned(),
        why: error.to_string(),
    })
}
