//! The parameters that every QEMU preset has: the rule's limits. A preset lists them before or after its
//! own, reads them with [`QemuDefault::read`], and prints them with [`texts`].

use std::time::Duration;

use super::QemuDefault;
use crate::policy::presets::parameters::{self, Given};
use crate::policy::presets::{ParameterInfo, ParameterKind, PresetError, PresetInfo};
use crate::policy::{ChangeError, Policy};
use crate::units::{Bandwidth, duration};

/// The longest downtime limit that QEMU accepts.
const LONGEST_LIMIT: Duration = Duration::from_secs(2_000);
/// The words for an optional bandwidth that is not given.
const MEASURED: &str = "measured";
const UNLIMITED: &str = "unlimited";

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
    let text = |bandwidth: Option<Bandwidth>, none: &str| {
        bandwidth.map_or_else(|| none.to_owned(), |bandwidth| bandwidth.to_string())
    };
    vec![
        (DOWNTIME.name, duration::format(rule.downtime_limit)),
        (SWITCHOVER.name, text(rule.switchover_bandwidth, MEASURED)),
        (MAX_BANDWIDTH.name, text(rule.max_bandwidth, UNLIMITED)),
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
