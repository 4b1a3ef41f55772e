use std::time::Duration;

use whimbrel_core::embed::Guest as _;
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::{Bandwidth, ByteCount, CpuShare};
use whimbrel_guest::memory::Backing;
use whimbrel_lab::real::guest::lab_guest;
use whimbrel_lab::real::here::{Here, LogChoice};
use whimbrel_sim::config::GuestConfig;

use super::*;

#[test]
fn a_lab_guest_can_what_is_said_of_it() {
    let config = GuestConfig { memory: ByteCount::mib(1), ..GuestConfig::default() };
    let lab = lab_guest(&config, 0).expect("a lab guest");
    let mut here = Here::new(&config, lab, Backing::Private, LogChoice::Software).expect("room for it");
    let mut can = |throttle| here.guest.throttle(throttle).expect("it answers");
    let (share, sleep) = (CpuShare::percent(1), Duration::from_micros(100));
    assert_eq!(can(Throttle::duty_cycle(share)), CAPABILITIES.throttle);
    assert_eq!(can(Throttle::MicroSleeps { share, sleep }), CAPABILITIES.throttle);
    let limit = Throttle::DirtyLimit { quota: Bandwidth::FASTEST, period: Duration::from_secs(1) };
    assert_eq!(can(limit), CAPABILITIES.dirty_limit);
}

#[test]
fn a_policy_that_needs_more_is_refused_by_its_name_and_every_other_is_not() {
    for preset in whimbrel_core::policy::presets::presets() {
        let policy = PolicySpec { preset: preset.name.to_owned(), ..PolicySpec::default() };
        let needs = policy.build().expect("its defaults").needs();
        let refused = suffices(&policy).err();
        assert_eq!(refused.is_some(), needs.post_copy || needs.dirty_limit, "{}: {refused:?}", preset.name);
        if let Some(why) = refused {
            assert!(why.contains(&format!("policy.preset = \"{}\" needs `", preset.name)), "{why}");
            assert!(
                why.contains(
                    "accepted are policies that need no more than throttle, harvest-on-demand and pause"
                ),
                "{why}"
            );
        }
    }
}
