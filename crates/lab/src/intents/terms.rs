//! An intent in each preset's own parameters.

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel_core::forecast::HostPair;
use whimbrel_core::units::duration;

use super::{Intent, copy};
use crate::scenario::Setup;

/// A throttle that goes up to this is allowed if an intent allows as much, else it is left off.
const FULL: f64 = 0.99;

fn on_off(on: bool) -> String {
    if on { "on" } else { "off" }.to_owned()
}

/// The parameters that say `intent` to `preset` as far as it can take it; what it has no word for stays at its
/// default.
///
/// Limits of downtime are set to the intent's. Time limits are set so that they end with the deadline, and
/// what may be slowed or post-copied is switched on if that is allowed and off if not. Post-copy that a
/// person has to ask for is asked for after the first two rounds, or when what is left of the deadline is one copy
/// of the memory. `host` is told to a policy that can use it.
pub fn terms(preset: &str, intent: &Intent, setup: &Setup, host: &HostPair) -> BTreeMap<String, String> {
    let time = duration::format;
    let (downtime, deadline) = (time(intent.downtime), intent.deadline(setup));
    let slowed = intent.slowdown.as_f64() >= FULL;
    let gib = setup.guest.memory.as_f64();
    let for_each = |unit: f64, least: f64| time(deadline.div_f64((gib / unit).ceil().max(least)));
    let terms: Vec<(&str, String)> = match preset {
        "qemu-default" | "qemu-dirty-limit" => vec![("downtime-limit", downtime)],
        "qemu-auto-converge" => vec![
            ("downtime-limit", downtime),
            ("throttle-initial", intent.slowdown.as_f64().min(0.2).to_string()),
            ("max-throttle", intent.slowdown.to_string()),
        ],
        "qemu-postcopy" => {
            let after = deadline.saturating_sub(copy(setup).mul_f64(1.1)).max(Duration::from_secs(1));
            let never = || "never".to_owned();
            vec![
                ("downtime-limit", downtime),
                ("postcopy-after", if intent.post_copy { time(after) } else { never() }),
                ("postcopy-after-rounds", if intent.post_copy { "3".to_owned() } else { never() }),
            ]
        }
        "cloud-hypervisor" => vec![("downtime-limit", downtime), ("timeout", time(deadline))],
        "vmware-sdps" => vec![("goal", downtime), ("most", intent.slowdown.to_string())],
        "nova" => vec![
            ("max-downtime", downtime),
            ("downtime-steps", "3".to_owned()),
            ("downtime-delay", "3s".to_owned()),
            ("completion-timeout", for_each((1u64 << 30) as f64, 2.0)),
            ("permit-post-copy", on_off(intent.post_copy)),
            ("permit-auto-converge", on_off(slowed)),
            ("timeout-action", if intent.post_copy { "force-complete" } else { "abort" }.to_owned()),
        ],
        "proxmox" => vec![("downtime", downtime)],
        "ovirt-minimal" | "ovirt-suspend" | "ovirt-postcopy" => {
            let mut terms = vec![("initial-downtime", downtime.clone()), ("auto-converge", on_off(slowed))];
            if preset == "ovirt-suspend" {
                terms.push(("last-downtime", downtime));
            }
            terms
        }
        "kubevirt-legacy" | "kubevirt-stepped" | "kubevirt-stall" => {
            let mut terms = vec![
                ("completion-timeout-per-gib", for_each(1e9, 1.0)),
                ("allow-auto-converge", on_off(slowed)),
                ("allow-post-copy", on_off(intent.post_copy)),
                ("allow-workload-disruption", on_off(intent.post_copy)),
            ];
            if preset != "kubevirt-legacy" {
                terms.push(("max-downtime", downtime.clone()));
            }
            if preset == "kubevirt-stepped" {
                terms.push(("initial-downtime", downtime));
            }
            terms
        }
        "whimbrel" => vec![
            ("downtime", downtime),
            ("deadline", time(deadline)),
            ("slowdown", intent.slowdown.to_string()),
            ("post-copy", on_off(intent.post_copy)),
            ("host-fixed", time(host.fixed)),
            ("host-harvest", time(host.harvest)),
            ("host-state", host.state.to_string()),
            ("host-bandwidth", host.bandwidth.map_or("unknown".to_owned(), |rate| rate.to_string())),
        ],
        _ => vec![],
    };
    terms.into_iter().map(|(name, text)| (name.to_owned(), text)).collect()
}
