//! What the engine can do with a lab guest, and which policies need more: those are refused before a guest is made.

use whimbrel_core::progress::Capabilities;
use whimbrel_lab::scenario::PolicySpec;

/// What the engine can do with a lab guest: the same that it finds when it asks one.
const CAPABILITIES: Capabilities = Capabilities {
    throttle: true,
    dirty_limit: false,
    post_copy: false,
    harvest_on_demand: true,
    pause: true,
};

/// Whether a lab guest can be moved by this policy.
///
/// # Errors
///
/// Why not, for whoever has chosen it.
pub(in crate::cli) fn suffices(policy: &PolicySpec) -> Result<(), String> {
    let built = policy.build().map_err(|error| error.to_string())?;
    built.needs().missing_from(CAPABILITIES).map_or(Ok(()), |capability| {
        Err(format!(
            "policy.preset = \"{}\" needs `{capability}`, which a real move of a lab guest does not offer: accepted are policies that \
             need no more than throttle, harvest-on-demand and pause, see `whimbrel policies {0}`",
            policy.preset
        ))
    })
}

#[cfg(test)]
mod tests;
