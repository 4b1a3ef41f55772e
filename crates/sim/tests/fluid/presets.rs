//! Every preset with every pattern: a new one cannot be forgotten.

use std::collections::BTreeMap;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use whimbrel_core::policy::presets;
use whimbrel_sim::config::{Fidelity, GuestConfig, Pattern, WriterConfig};
use whimbrel_sim::{Setup, simulate};

use super::cases::{Kind, PATTERNS, Parameters};
use super::comparison::{Comparison, compare};

/// With what a preset is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Guests {
    /// Any, on links of 20 MB/s to 1.5 GB/s.
    Any,
    /// Those for policies with ticks.
    Slow,
    /// Guests that write too much, on such links.
    Busy,
    /// Larger guests on links of 1 to 25 Gbit/s.
    Fast,
}

/// A preset with parameters at which small guests meet its rules within a minute, and its guests.
type Row = (&'static str, &'static [Parameters], Guests);

/// Limits that keep a guest of some 100 MB from switching over at once.
const TIGHT: Parameters = &[("downtime-limit", "60ms")];

const TABLE: &[Row] = &[
    ("fixed-rounds", &[&[]], Guests::Any),
    ("quick", &[&[]], Guests::Any),
    ("qemu-default", &[&[], TIGHT], Guests::Slow),
    ("qemu-default", &[&[], TIGHT], Guests::Fast),
    ("qemu-auto-converge", &[&[], TIGHT], Guests::Busy),
    (
        "qemu-dirty-limit",
        &[&[], TIGHT, &[("downtime-limit", "60ms"), ("vcpu-dirty-limit", "8MiB/s")]],
        Guests::Busy,
    ),
    ("xen-5", &[&[]], Guests::Any),
    ("xen-classic", &[&[], &[("adaptive-rate", "on")]], Guests::Any),
    ("clark-2005", &[&[]], Guests::Any),
    ("cloud-hypervisor", &[&[], &[("downtime-limit", "50ms")]], Guests::Any),
    ("ch-legacy", &[&[]], Guests::Any),
    ("hyperv-5", &[&[]], Guests::Any),
    ("hyperv-10", &[&[]], Guests::Any),
    ("vmware-sdps", &[&[("goal", "200ms")]], Guests::Busy),
    ("criu-phaul", &[&[], &[("max-growth-pages", "32")]], Guests::Any),
    ("nova", &[&[("downtime-delay", "1s")]], Guests::Busy),
    ("proxmox", &[&[("downtime", "50ms")]], Guests::Busy),
    ("ovirt-minimal", &[&[("poll-interval", "2s")]], Guests::Busy),
    ("ovirt-suspend", &[&[("poll-interval", "2s")]], Guests::Busy),
    ("kubevirt-legacy", &[&[]], Guests::Busy),
    (
        "kubevirt-stepped",
        &[&[("downtime-cooldown", "2s"), ("max-downtime", "400ms"), ("initial-downtime", "50ms")]],
        Guests::Busy,
    ),
    ("kubevirt-stall", &[&[("stall-window", "4s"), ("initial-downtime", "50ms")]], Guests::Busy),
    ("pure-postcopy", &[&[]], Guests::Any),
    (
        "qemu-postcopy",
        &[
            &[("postcopy-after", "1s"), ("downtime-limit", "60ms")],
            &[("postcopy-after-rounds", "2"), ("downtime-limit", "60ms")],
        ],
        Guests::Busy,
    ),
    ("ovirt-postcopy", &[&[("poll-interval", "2s")]], Guests::Busy),
    ("whimbrel", &[&[], &[("downtime", "100ms")]], Guests::Any),
];

/// Presets that a fluid simulation refuses.
const REFUSED: &[&str] = &[];

/// Whether a fluid simulation has a model of the pattern. A new one does not compile before it is here.
const fn is_covered(pattern: Pattern) -> bool {
    match pattern {
        Pattern::Uniform | Pattern::Sequential | Pattern::HotCold | Pattern::Zipf | Pattern::Idle => true,
        // Their pages keep identities, and their phases are those of a recording.
        Pattern::Trace | Pattern::Measured => false,
    }
}

fn kind(&(name, parameters, guests): &Row, pattern: &'static [Pattern]) -> Kind {
    let mut kind = Kind::of(&[]);
    kind.policies = parameters.iter().map(|&parameters| (name, parameters)).collect();
    kind.patterns = pattern;
    match guests {
        Guests::Any => kind,
        Guests::Slow => kind.slow(),
        Guests::Busy => kind.slow().busy(),
        Guests::Fast => kind.fast(),
    }
}

/// How many cases there are of a kind.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// They say that they hung on chance.
    near: u32,
    within: u32,
    beyond: u32,
    /// The guest was slowed.
    slowed: u32,
}

impl Count {
    fn compared(self) -> u32 {
        self.within + self.beyond
    }
}

/// Compares so many cases of a preset, all the same every time.
fn count(row: &Row, pattern: &'static [Pattern], cases: u32) -> Count {
    let mut runner = TestRunner::deterministic();
    let setups = kind(row, pattern).setups();
    let mut count = Count::default();
    for case in 0..cases {
        let setup = setups.new_tree(&mut runner).unwrap().current();
        match compare(&setup) {
            Comparison::Near => count.near += 1,
            Comparison::Within => count.within += 1,
            Comparison::Beyond(difference) => {
                count.beyond += 1;
                println!("{} {:?} case {case}: {difference}", row.0, pattern);
            }
        }
        let fluid = simulate(&Setup { fidelity: Fidelity::Fluid, ..setup }).unwrap();
        count.slowed += u32::from(fluid.disruption.throttle.as_f64() > 0.0);
    }
    count
}

/// Every preset with guests of this pattern: of those that do not say that they hung on chance, 99 of 100 are the
/// mean of exact runs.
fn every_preset_is_the_mean(pattern: &'static [Pattern]) {
    let (mut compared, mut beyond) = (0, 0);
    for row in TABLE {
        let count = count(row, pattern, 4);
        compared += count.compared();
        beyond += count.beyond;
    }
    assert!(compared >= TABLE.len() as u32, "{compared} compared");
    assert!(100 * beyond <= compared.max(100), "{beyond} of {compared} beyond the bounds");
}

#[test]
fn every_preset_is_the_mean_with_uniform_writers() {
    every_preset_is_the_mean(&[Pattern::Uniform]);
}

#[test]
fn every_preset_is_the_mean_with_sequential_writers() {
    every_preset_is_the_mean(&[Pattern::Sequential]);
}

#[test]
fn every_preset_is_the_mean_with_hot_and_cold_pages() {
    every_preset_is_the_mean(&[Pattern::HotCold]);
}

#[test]
fn every_preset_is_the_mean_with_zipf_writers() {
    every_preset_is_the_mean(&[Pattern::Zipf]);
}

#[test]
fn every_preset_is_the_mean_with_idle_guests() {
    every_preset_is_the_mean(&[Pattern::Idle]);
}

#[test]
fn every_preset_is_covered_or_refused_by_name() {
    let mut known: Vec<&str> = TABLE.iter().map(|row| row.0).chain(REFUSED.iter().copied()).collect();
    let mut presets: Vec<&str> = presets::presets().iter().map(|preset| preset.name).collect();
    known.sort_unstable();
    known.dedup();
    presets.sort_unstable();
    assert_eq!(known, presets);
    for &name in REFUSED {
        let policy = presets::build(name, &BTreeMap::new()).unwrap();
        let mut setup = Setup::new(GuestConfig::default(), policy);
        setup.fidelity = Fidelity::Fluid;
        let error = simulate(&setup).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("exact"), "{error}");
    }
}

#[test]
fn every_pattern_is_covered_or_refused_by_name() {
    let all = [Pattern::Trace, Pattern::Measured];
    assert!(PATTERNS.iter().all(|&pattern| is_covered(pattern)));
    for pattern in all.into_iter().filter(|&pattern| !is_covered(pattern)) {
        let writer = WriterConfig { pattern, ..WriterConfig::default() };
        let error = writer_refused(writer);
        let name = format!("{pattern:?}").to_lowercase();
        assert!(error.contains(&name) && error.contains("exact"), "{error}");
    }
}

fn writer_refused(writer: WriterConfig) -> String {
    let guest = GuestConfig { writers: vec![writer], ..GuestConfig::default() };
    guest.validate_for_fluid().unwrap_err().to_string()
}

/// More than the tests above can afford. `docs/fluid.md` says for which presets it fails.
#[test]
#[ignore = "24 exact runs a case, and 26,000 cases: minutes"]
fn few_of_a_thousand_cases_of_each_preset_are_beyond_the_bounds() {
    let (mut compared, mut beyond) = (0, 0);
    let mut too_many = Vec::new();
    for row in TABLE {
        let mut sum = Count::default();
        print!("| `{}` |", row.0);
        for index in 0..PATTERNS.len() {
            let count = count(row, &PATTERNS[index..=index], 200);
            print!(" {} of {} |", count.beyond, count.compared());
            sum.near += count.near;
            sum.within += count.within;
            sum.beyond += count.beyond;
            sum.slowed += count.slowed;
        }
        println!(" {} near, {} slowed", sum.near, sum.slowed);
        compared += sum.compared();
        beyond += sum.beyond;
        // One of a hundred, and what so few cases leave to chance.
        let most = f64::from(sum.compared()) / 100.0;
        if f64::from(sum.beyond) > most + 3.0 * most.sqrt() {
            too_many.push((row.0, sum));
        }
    }
    println!("{beyond} of {compared}");
    assert!(too_many.is_empty(), "{too_many:?}");
    assert!(100 * beyond <= compared, "{beyond} of {compared}");
}
