//! What each preset decides by and what bounds a migration under it, in a few words, for people who compare
//! presets: the table in README.md is made of it.
//!
//! One table rather than a field of each preset, because the words of a column have to be read together. A
//! preset that is not in it has no words, and the README's row says so.

use super::PresetInfo;

/// A preset in a few words. For its defaults; "estimate" is an estimate that is not checked afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bounds {
    /// What it looks at to decide.
    pub decides_by: &'static str,
    /// What bounds the migration's time.
    pub time: &'static str,
    /// What bounds the bytes that are sent.
    pub bytes: &'static str,
    /// What bounds the downtime.
    pub downtime: &'static str,
    /// Who is slowed, and how.
    pub slows: &'static str,
}

impl PresetInfo {
    /// The preset in a few words; none if nobody has found them.
    pub fn bounds(&self) -> Option<Bounds> {
        let (_, [decides_by, time, bytes, downtime, slows]) =
            ALL.iter().find(|(name, _)| *name == self.name)?;
        Some(Bounds { decides_by, time, bytes, downtime, slows })
    }
}

/// QEMU's own rule.
const QEMU: &str = "what is pending at the bandwidth of the last 100 ms";
const ALL_VCPUS: &str = "all vCPUs, up to 99 %";

/// Name, and the columns in the order of [`Bounds`].
const ALL: &[(&str, [&str; 5])] = &[
    ("fixed-rounds", ["rounds", "5 rounds", "about 5 times the memory", "no", "no"]),
    ("quick", ["nothing", "one copy", "the memory, once", "no: all of it", "no"]),
    ("pure-postcopy", ["nothing", "one copy", "the memory, once", "the handover alone", "waits for pages"]),
    ("qemu-default", [QEMU, "no", "no", "estimate, 300 ms", "no"]),
    (
        "qemu-auto-converge",
        ["the same; what was dirtied against what was sent", "no", "no", "estimate, 300 ms", ALL_VCPUS],
    ),
    (
        "qemu-dirty-limit",
        [
            "the same; what was dirtied against what was sent",
            "no",
            "no",
            "estimate, 300 ms",
            "vCPUs that write",
        ],
    ),
    (
        "qemu-postcopy",
        [
            "the same; then the time passed",
            "10 s and one copy",
            "10 s of them and the memory, once",
            "estimate, 300 ms; then the handover alone",
            "waits for pages",
        ],
    ),
    ("xen-5", ["dirty pages and rounds", "5 rounds", "about 5 times the memory", "no", "no"]),
    ("xen-classic", ["pages sent and rounds", "29 rounds", "3 times the memory and a round", "no", "no"]),
    ("clark-2005", ["the dirty rate of the round before", "no", "no", "no", "no"]),
    (
        "cloud-hypervisor",
        [
            "what is pending at the last round's bandwidth, between rounds",
            "1 h, seen between rounds",
            "no",
            "estimate, 300 ms",
            "no",
        ],
    ),
    ("ch-legacy", ["rounds", "6 rounds", "about 6 times the memory", "no", "no"]),
    ("hyperv-5", ["dirty pages and passes", "5 passes", "about 5 times the memory", "no", "no"]),
    ("hyperv-10", ["dirty pages and passes", "10 passes", "about 10 times the memory", "no", "no"]),
    (
        "vmware-sdps",
        [
            "what is pending, and the dirty rate, at the rate of sending",
            "no",
            "no",
            "estimate, 1 s",
            "all vCPUs, up to 95 %, in short sleeps",
        ],
    ),
    ("criu-phaul", ["pages of the last rounds", "8 rounds", "about 8 times the memory", "no", "no"]),
    (
        "nova",
        [
            "the time passed; QEMU's rule below it",
            "800 s for each GiB, until the guest is paused",
            "no",
            "estimate, in steps up to 500 ms",
            "if permitted",
        ],
    ),
    (
        "proxmox",
        ["a rest that grows; QEMU's rule below it", "no", "no", "estimate, doubled up to 2000 s", ALL_VCPUS],
    ),
    (
        "ovirt-minimal",
        [
            "a rest that grows; QEMU's rule below it",
            "no: only stalls end it",
            "no",
            "estimate, up to 500 ms",
            ALL_VCPUS,
        ],
    ),
    (
        "ovirt-suspend",
        [
            "a rest that grows; QEMU's rule below it",
            "no: only stalls end it",
            "no",
            "estimate, up to 5 s",
            ALL_VCPUS,
        ],
    ),
    (
        "ovirt-postcopy",
        [
            "a rest that grows; QEMU's rule below it",
            "no: only stalls end it",
            "no",
            "estimate, up to 200 ms; then the handover alone",
            ALL_VCPUS,
        ],
    ),
    (
        "kubevirt-legacy",
        [
            "the time passed, and progress; QEMU's rule below it",
            "150 s for each GB, twice that if forced, until the guest is paused",
            "no",
            "estimate, 300 ms, unless forced",
            "if allowed",
        ],
    ),
    (
        "kubevirt-stepped",
        [
            "the time passed, and progress; QEMU's rule below it",
            "150 s for each GB, twice that if forced, until the guest is paused",
            "no",
            "estimate, in steps up to 900 ms, unless forced",
            "if allowed",
        ],
    ),
    (
        "kubevirt-stall",
        [
            "the least rest seen once it stalls; QEMU's rule below it",
            "150 s for each GB, twice that if forced, until the guest is paused",
            "no",
            "estimate, 900 ms, unless forced",
            "if allowed",
        ],
    ),
    (
        "whimbrel",
        [
            "what each choice is forecast to come to",
            "if a deadline is set",
            "no",
            "estimate of the whole, 300 ms",
            "if allowed",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::super::find;
    use super::*;

    #[test]
    fn words_are_of_presets_that_there_are() {
        for (name, words) in ALL {
            assert!(find(name).is_some_and(|preset| preset.bounds().is_some()), "{name}");
            assert!(words.iter().all(|word| !word.is_empty() && !word.contains('|')), "{name}");
        }
    }
}
