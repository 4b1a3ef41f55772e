//! What post-copy costs a guest, and what changes that.

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel_core::policy::presets;
use whimbrel_core::report::Outcome;
use whimbrel_core::units::{Bandwidth, ByteCount, Share};
use whimbrel_sim::config::{GuestConfig, Pattern, PostCopyOrder, WriterConfig};
use whimbrel_sim::{Run, Setup, simulate};

/// 512 MiB over 64 MiB/s, handed over after a second; a writer on the second half of memory.
fn setup(rate: f64) -> Setup {
    let writer = WriterConfig {
        pattern: Pattern::Uniform,
        working_set: ByteCount::mib(128),
        offset: Some(ByteCount::mib(256)),
        rate,
        ..WriterConfig::default()
    };
    let guest = GuestConfig { memory: ByteCount::mib(512), writers: vec![writer], ..GuestConfig::default() };
    let after = BTreeMap::from([("postcopy-after".to_owned(), "1s".to_owned())]);
    let mut setup = Setup::new(guest, presets::build("qemu-postcopy", &after).unwrap());
    setup.link.bandwidth = Bandwidth::new(64 << 20).unwrap();
    setup
}

fn run(setup: &Setup) -> Run {
    let run = simulate(&Setup { witness: true, ..setup.clone() }).unwrap();
    assert_eq!(run.report.outcome, Outcome::Completed, "{}", run.report.why);
    assert_eq!(run.copy_exact, Some(true));
    run
}

fn waited(run: &Run) -> f64 {
    run.disruption.post_copy.as_f64()
}

fn requests(run: &Run) -> u64 {
    run.report.post_copy.unwrap().requests
}

#[test]
fn what_the_guest_sees_is_far_more_than_the_handover() {
    let run = run(&setup(8_000.0));
    assert!(run.silence.unwrap() < Duration::from_millis(100));
    assert!(run.report.downtime.total() > Duration::from_millis(500), "{:?}", run.report.downtime);
}

#[test]
fn a_page_that_was_asked_for_waits_behind_the_bytes_in_flight() {
    let run = run(&setup(8_000.0));
    // 3 MiB at 64 MiB/s are 47 ms, of which up to a third is free again when the page is handed over.
    let each = waited(&run) / requests(&run) as f64;
    assert!((0.030..0.050).contains(&each), "{each}");
}

#[test]
fn what_follows_a_page_that_was_asked_for_comes_with_it() {
    let run = run(&setup(8_000.0));
    // The working set and the resume set, 192 MiB, in pieces of the 3 MiB that are sent while one waits.
    assert!((20..70).contains(&requests(&run)), "{}", requests(&run));
}

#[test]
fn a_connection_of_their_own_brings_pages_sooner_but_one_at_a_time() {
    let mut setup = setup(8_000.0);
    let one = run(&setup);
    setup.host.post_copy_preempt = true;
    let own = run(&setup);
    let each = |run: &Run| waited(run) / requests(run) as f64;
    // 1 MiB of queue at 64 MiB/s is 16 ms.
    assert!((0.010..0.020).contains(&each(&own)), "{}", each(&own));
    assert!(requests(&own) > 2 * requests(&one));
    assert_eq!(own.report.sent, one.report.sent);
}

#[test]
fn waiting_grows_with_the_round_trip() {
    let mut setup = setup(8_000.0);
    setup.host.post_copy_preempt = true;
    let near = run(&setup);
    setup.link.round_trip = Duration::from_millis(40);
    let far = run(&setup);
    let each = |run: &Run| waited(run) / requests(run) as f64;
    assert!((each(&far) - each(&near) - 0.040).abs() < 0.006, "{} {}", each(&near), each(&far));
}

#[test]
fn hot_pages_first_spares_a_guest_with_a_hot_part_its_waiting() {
    let mut setup = setup(20_000.0);
    setup.guest.writers[0].pattern = Pattern::HotCold;
    setup.guest.writers[0].hot_pages = Share::percent(5);
    setup.guest.writers[0].hot_writes = Share::percent(99);
    setup.guest.resume_pages = 0;
    // One page a request, so that what the guest needs next does not come with what it asked for.
    setup.host.post_copy_preempt = true;
    setup.guest.writers[0].offset = Some(ByteCount::mib(384));
    let by_address = run(&setup);
    setup.host.post_copy_order = PostCopyOrder::HotFirst;
    let hot_first = run(&setup);
    assert!(waited(&hot_first) < waited(&by_address), "{} {}", waited(&hot_first), waited(&by_address));
    assert_eq!(hot_first.report.sent, by_address.report.sent);
}

#[test]
fn a_guest_whose_pages_are_all_there_does_not_wait() {
    let mut setup = setup(0.0);
    setup.policy = presets::build("qemu-default", &BTreeMap::new()).unwrap();
    let run = run(&setup);
    assert!(waited(&run) <= 0.0);
    assert_eq!(run.report.post_copy, None);
    assert_eq!(run.report.downtime.total(), run.silence.unwrap());
}

#[test]
fn a_connection_that_is_lost_in_post_copy_loses_the_guest() {
    let mut setup = setup(8_000.0);
    setup.link.lost_at = Some(Duration::from_secs(3));
    let run = simulate(&setup).unwrap();
    assert_eq!(run.report.outcome, Outcome::GuestLost);
    assert!(run.report.why.contains("post-copy"), "{}", run.report.why);
}

#[test]
fn the_time_limit_ends_post_copy_also_if_it_comes_during_the_handover() {
    let whole = run(&setup(8_000.0));
    let handover = whole.report.rounds[1].started.since(whole.report.rounds[0].started);
    for milliseconds in [0, 2, 5, 20, 40, 100, 2_000] {
        let mut setup = setup(8_000.0);
        setup.time_limit = handover + Duration::from_millis(milliseconds);
        let run = simulate(&setup).unwrap();
        assert_eq!(run.report.outcome, Outcome::TimedOut, "{milliseconds}: {}", run.report.why);
        assert!(run.report.total < setup.time_limit + Duration::from_millis(200), "{:?}", run.report.total);
    }
}

#[test]
fn vcpus_that_wait_do_not_hold_up_the_others() {
    let mut setup = setup(8_000.0);
    setup.guest.resume_pages = 0;
    let one = run(&setup);
    // The same writes by four threads on four vCPUs.
    let writer = WriterConfig { rate: 2_000.0, ..setup.guest.writers[0].clone() };
    setup.guest.writers = vec![writer; 4];
    setup.guest.vcpus = 4;
    let four = run(&setup);
    assert!(waited(&four) > waited(&one), "more of them stand still at once");
    assert!(waited(&four) / 4.0 < waited(&one), "but each for a shorter time");
}
