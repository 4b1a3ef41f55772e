//! Policies of the field as values with parameters, and the register of their names.
//!
//! Scenario files and the command line name a preset and give its parameters as texts; [`build`] turns
//! them into a [`Policy`], `whimbrel policies` prints what [`PRESETS`] says about each. The register
//! must never hold a parameter without its default and source, nor accept a value that it would not
//! print again ([`Policy::parameters`]): journals repeat a run from these texts.
//!
//! What a preset answers follows from the moment, the progress record and its memory. A memory may change
//! only when a round starts or ends and at the moments that its last [`Until`](super::Until) names, so
//! skipping a tick before that can never lose anything.

mod bounds;
mod cloud_hypervisor;
mod cloud_hypervisor_legacy;
mod criu;
mod fixed_rounds;
mod hyperv;
mod managers;
mod parameters;
mod pure_postcopy;
mod qemu;
mod quick;
mod search;
mod vmware;
mod whimbrel;
mod xen;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

pub use self::bounds::Bounds;
pub use self::cloud_hypervisor::{CloudHypervisor, TimeoutStrategy};
pub use self::cloud_hypervisor_legacy::CloudHypervisorLegacy;
pub use self::criu::CriuPhaul;
pub use self::fixed_rounds::FixedRounds;
pub use self::hyperv::{HyperV, Release};
pub use self::parameters::{ParameterInfo, ParameterKind, PresetError, Value};
pub use self::pure_postcopy::PurePostcopy;
pub use self::qemu::{AutoConverge, Qemu, QemuDefault, QemuDirtyLimit, QemuPostCopy};
pub use self::quick::Quick;
pub use self::search::{Scale, Search};
pub use self::vmware::VmwareSdps;
pub use self::whimbrel::{Intent, Whimbrel};
pub use self::xen::{AdaptiveRate, Clark2005, Xen5, XenClassic};

use self::parameters::Given;
use super::{Policy, Quantity, Reason, Relation};

/// Every preset, in the order in which they are listed for people.
pub static PRESETS: &[PresetInfo] = &[
    fixed_rounds::INFO,
    quick::INFO,
    pure_postcopy::INFO,
    qemu::DEFAULT,
    qemu::AUTO_CONVERGE,
    qemu::DIRTY_LIMIT,
    qemu::POSTCOPY,
    xen::five::INFO,
    xen::classic::INFO,
    xen::clark::INFO,
    cloud_hypervisor::INFO,
    cloud_hypervisor_legacy::INFO,
    hyperv::INFO_5,
    hyperv::INFO_10,
    vmware::INFO,
    criu::INFO,
    managers::NOVA,
    managers::PROXMOX,
    managers::OVIRT_MINIMAL,
    managers::OVIRT_SUSPEND,
    managers::OVIRT_POSTCOPY,
    managers::KUBEVIRT_LEGACY,
    managers::KUBEVIRT_STEPPED,
    managers::KUBEVIRT_STALL,
    whimbrel::INFO,
];

/// What is known about a preset.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct PresetInfo {
    /// Its name in scenario files.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// If it only approximates the product whose name it bears: what is missing. Printed wherever the
    /// preset is.
    pub approximate: Option<&'static str>,
    /// Its rule in short, as pseudocode in lines of at most 78 characters, at the defaults.
    pub rule: &'static str,
    /// What is assumed, uncertain or not modelled, and what people would otherwise be surprised by.
    pub notes: &'static [&'static str],
    /// What it was made from; empty for a policy of ours.
    pub sources: &'static [Source],
    /// Its parameters.
    pub parameters: &'static [ParameterInfo],
    build: fn(&Given<'_>) -> Result<Box<dyn Policy>, PresetError>,
}

impl PresetInfo {
    /// The parameter of this name.
    pub fn parameter(&self, name: &str) -> Option<&'static ParameterInfo> {
        self.parameters.iter().find(|known| known.name == name)
    }

    /// The policy with these parameters; defaults for those not given.
    ///
    /// # Errors
    ///
    /// [`PresetError`] for a parameter that the preset does not have or a value that it does not take.
    pub fn build(&self, parameters: &BTreeMap<String, String>) -> Result<Box<dyn Policy>, PresetError> {
        (self.build)(&Given::new(self, parameters)?)
    }
}

impl fmt::Debug for PresetInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresetInfo").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Something that was read to make a preset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// A short name, used by [`ParameterInfo::source`].
    pub tag: &'static str,
    /// Where it is.
    pub what: &'static str,
    /// Which version was read.
    pub version: &'static str,
}

/// Every preset.
pub fn presets() -> &'static [PresetInfo] {
    PRESETS
}

/// The preset of this name.
pub fn find(name: &str) -> Option<&'static PresetInfo> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// The name of the preset that `name` most likely means; none if it resembles no preset.
pub fn nearest(name: &str) -> Option<&'static str> {
    nearest_name(name, PRESETS.iter().map(|preset| preset.name))
}

/// The policy `name` with these parameters; defaults for those not given.
///
/// ```
/// # use std::collections::BTreeMap;
/// # use whimbrel_core::policy::presets;
/// let limit = BTreeMap::from([("downtime-limit".to_owned(), "100ms".to_owned())]);
/// assert_eq!(presets::build("qemu-default", &limit)?.name(), "qemu-default");
/// let error = presets::build("qemu-defualt", &limit).unwrap_err();
/// assert!(error.to_string().contains("`qemu-default`"));
/// # Ok::<(), presets::PresetError>(())
/// ```
///
/// # Errors
///
/// [`PresetError`] for an unknown preset or parameter, with the nearest known name, and for a value
/// that the parameter does not take, with what it does take.
pub fn build(name: &str, parameters: &BTreeMap<String, String>) -> Result<Box<dyn Policy>, PresetError> {
    match find(name) {
        Some(preset) => preset.build(parameters),
        None => Err(PresetError::UnknownPreset { preset: name.to_owned(), nearest: nearest(name) }),
    }
}

/// The candidate that `word` most likely means: the one with the fewest edits, if those are few
/// for its length or `word` is how it begins. Case and the choice between `-` and `_` do not count. The first
/// of equals wins.
pub fn nearest_name<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A name is never this long; a hostile text must not cost its square.
    if word.len() > 64 {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace('_', "-");
    let word = plain(word);
    candidates
        .into_iter()
        .map(|candidate| (edits(&word, &plain(candidate)), candidate))
        .filter(|&(edits, candidate)| {
            let length = candidate.chars().count();
            let begun = word.len() >= 3 && plain(candidate).starts_with(&word);
            // Of a short word two edits leave nothing by which it could be known.
            let few = if length.min(word.chars().count()) <= 4 { 1 } else { 2.max(length / 3) };
            begun || edits <= few && edits < length.max(word.chars().count())
        })
        .min_by_key(|&(edits, _)| edits)
        .map(|(_, candidate)| candidate)
}

/// The fewest insertions, deletions and replacements of a character, and exchanges of two neighbours, that turn `from`
/// into `to`; no character is touched twice.
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, &a) in from.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, &b) in to.iter().enumerate() {
            let mut least = (row[j] + usize::from(a != b)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && a == to[j - 1] && from[i - 1] == b {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[to.len()]
}

/// Why a policy that compares what remains goes on at a round's end: what was dirtied meanwhile is
/// not known before the harvest, and the unknown counts as more than any bound.
fn unknown_above(left: &'static str, right: (&'static str, Quantity)) -> Reason {
    Reason::new((left, Quantity::Unknown), Relation::Above, right)
}
