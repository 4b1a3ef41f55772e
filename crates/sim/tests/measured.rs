//! Guests by measurement, from outside: what is dirtied has the distribution that the model says, pages keep what
//! they are, and the program's own time slows with the guest.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::{ByteCount, CpuShare, Pages, Share, Timestamp};
use whimbrel_sim::config::{
    Activity, Follows, GuestConfig, MeasuredWrites, PageClass, PageCycle, Pattern, WriteAt, WriterConfig,
};
use whimbrel_sim::guest::{Detail, Guest};

const PAGE: u64 = 4096;

fn class(pages: u64, rate: f64, follows: Follows) -> PageClass {
    PageClass { pages: Pages(pages), rate, follows, change: ByteCount(64), write_at: WriteAt::Fixed }
}

/// Half a second busy, half a second quiet.
fn program(classes: Vec<PageClass>, cycles: Vec<PageCycle>) -> MeasuredWrites {
    let busy = (0..20).map(|tick| f64::from(u8::from(tick < 10)) * 2.0).collect();
    let quiet = (0..20).map(|tick| f64::from(u8::from(tick >= 10)) * 2.0).collect();
    let activity = Activity { tick: Duration::from_millis(50), busy, quiet, block: 20 };
    MeasuredWrites { classes, cycles, activity, busy: Share::ONE, speed_spread: 0.0, change_spread: 0.0 }
}

fn guest(model: MeasuredWrites, seed: u64, detail: Detail) -> Guest {
    let writer = WriterConfig {
        pattern: Pattern::Measured,
        working_set: ByteCount(5000 * PAGE),
        offset: Some(ByteCount(37 * PAGE)),
        measured: Some(Arc::new(model)),
        ..WriterConfig::default()
    };
    let config = GuestConfig { memory: ByteCount::mib(32), writers: vec![writer], ..GuestConfig::default() };
    let mut guest = Guest::new(&config, seed).unwrap().with_detail(detail);
    guest.start_tracking(Timestamp::ZERO, Duration::ZERO);
    guest
}

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_nanos((seconds * 1e9).round() as u64)
}

/// The pages found at each of these times.
fn harvests(guest: &mut Guest, times: &[f64]) -> Vec<Vec<u64>> {
    let harvest = |&time: &f64| {
        let mut pages = Vec::new();
        guest.harvest(at(time), |word, mask| {
            pages.extend((0..64).filter(|lane| mask >> lane & 1 != 0).map(|lane| word as u64 * 64 + lane));
        });
        pages
    };
    times.iter().map(harvest).collect()
}

#[test]
fn over_whole_phases_as_many_pages_are_dirtied_as_the_classes_say() {
    let classes = vec![
        class(300, 40.0, Follows::Always),
        class(1000, 1.5, Follows::Busy),
        class(2000, 0.2, Follows::Quiet),
    ];
    let model = program(classes, vec![]);
    // Whole cycles: average activity. Independent pages: the variance is known.
    let (mut sum, seeds) = (0.0, 200);
    for seed in 0..seeds {
        sum += harvests(&mut guest(model.clone(), seed, Detail::Rounds), &[2.0])[0].len() as f64;
    }
    let chance = |rate: f64| 1.0 - (-2.0 * rate).exp();
    let expected = 300.0 * chance(40.0) + 1000.0 * chance(1.5) + 2000.0 * chance(0.2);
    let variance: f64 =
        [(1000.0, 1.5), (2000.0, 0.2)].map(|(n, r)| n * chance(r) * (1.0 - chance(r))).iter().sum();
    assert!((model.distinct(Duration::from_secs(2)) - expected).abs() < 1e-6);
    let off = (sum / seeds as f64 - expected) / (variance / seeds as f64).sqrt();
    assert!(off.abs() < 5.0, "{} {expected}: {off} deviations", sum / seeds as f64);
}

#[test]
fn phases_have_pages_of_their_own_and_a_hot_page_stays_hot() {
    let classes = vec![
        class(50, 600.0, Follows::Always),
        class(400, 100.0, Follows::Busy),
        class(300, 100.0, Follows::Quiet),
    ];
    for seed in 0..20 {
        let ticks: Vec<f64> = (1..=200).map(|tick| f64::from(tick) * 0.05).collect();
        let found = harvests(&mut guest(program(classes.clone(), vec![]), seed, Detail::Rounds), &ticks);
        let mut kinds = std::collections::BTreeMap::<u64, u32>::new();
        for tick in &found {
            // 450 pages while busy, 350 while quiet, whichever phase came first; some of each where one ends.
            assert!((330..=750).contains(&tick.len()), "{}", tick.len());
            for page in tick {
                *kinds.entry(*page).or_default() += 1;
            }
        }
        // The same 750 pages all the time, 50 of them in every tick.
        assert_eq!(kinds.len(), 750, "seed {seed}");
        assert_eq!(kinds.values().filter(|times| **times == 200).count(), 50, "seed {seed}");
        let (busy, quiet) =
            (found.iter().filter(|tick| tick.len() > 440), found.iter().filter(|tick| tick.len() < 360));
        assert!(busy.count() > 80 && quiet.count() > 80, "seed {seed}");
    }
}

#[test]
fn pages_in_turn_come_round_exactly_once_a_turn() {
    let cycle = PageCycle {
        pages: Pages(1000),
        period: Duration::from_secs(1),
        follows: Follows::Always,
        change: ByteCount(64),
        write_at: WriteAt::Fixed,
    };
    let found =
        harvests(&mut guest(program(vec![], vec![cycle]), 1, Detail::Rounds), &[0.25, 0.5, 0.75, 1.0, 1.5]);
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [250, 250, 250, 250, 500]);
    let mut first: Vec<u64> = found[..4].concat();
    first.sort_unstable();
    first.dedup();
    assert_eq!(first.len(), 1000, "no page twice in a turn");
}

#[test]
fn a_program_that_needs_its_whole_vcpu_lives_slower_under_a_throttle_and_stands_still_in_a_pause() {
    let cycle = PageCycle {
        pages: Pages(1000),
        period: Duration::from_secs(10),
        follows: Follows::Always,
        change: ByteCount(64),
        write_at: WriteAt::Fixed,
    };
    let found = |change: &dyn Fn(&mut Guest), busy| {
        let model = MeasuredWrites { busy, ..program(vec![], vec![cycle]) };
        let mut guest = guest(model, 1, Detail::Rounds);
        change(&mut guest);
        harvests(&mut guest, &[4.0])[0].len()
    };
    let throttle = |share| Throttle::duty_cycle(CpuShare::new(share).unwrap());
    assert_eq!(found(&|_| {}, Share::ONE), 400);
    let slowed = found(&|guest| guest.set_throttle(Timestamp::ZERO, throttle(0.75)), Share::ONE);
    assert!((99..=101).contains(&slowed), "{slowed}");
    // One that needs a tenth of it makes up for what it missed.
    let idle = found(&|guest| guest.set_throttle(Timestamp::ZERO, throttle(0.75)), Share::percent(10));
    assert!((398..=400).contains(&idle), "{idle}");
    let paused = |guest: &mut Guest| {
        guest.pause(at(1.0));
        guest.resume(at(3.0));
    };
    assert_eq!(found(&paused, Share::ONE), 200);
}

#[test]
fn seeds_differ_in_phase_place_and_speed_and_repeat_themselves() {
    let classes = vec![class(400, 3.0, Follows::Busy), class(50, 100.0, Follows::Quiet)];
    let model = MeasuredWrites { speed_spread: 0.1, ..program(classes, vec![]) };
    let times = [0.1, 0.2, 1.0, 7.0];
    let run = |seed| harvests(&mut guest(model.clone(), seed, Detail::Rounds), &times);
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
    let counts: std::collections::BTreeSet<usize> = (0..20).map(|seed| run(seed)[0].len()).collect();
    assert!(counts.len() > 5, "phases: {counts:?}");
}

#[test]
fn a_measured_guest_without_a_model_or_room_is_refused_by_name() {
    let writer = |model: Option<MeasuredWrites>| {
        let config = GuestConfig {
            memory: ByteCount::mib(32),
            writers: vec![WriterConfig {
                pattern: Pattern::Measured,
                working_set: ByteCount::mib(16),
                measured: model.map(Arc::new),
                ..WriterConfig::default()
            }],
            ..GuestConfig::default()
        };
        config.validate().unwrap_err().to_string()
    };
    assert_eq!(
        writer(None),
        "`guest.writers.0.curve` cannot be none: accepted is the measured program (`FILE#PROGRAM`), or a trace, for \
         the pattern `measured`"
    );
    let large = writer(Some(program(vec![class(4097, 1.0, Follows::Busy)], vec![])));
    assert!(
        large.starts_with("`guest.writers.0.working-set` cannot be 16MiB: accepted is at least 16388KiB"),
        "{large}"
    );
    let fast = writer(Some(program(vec![class(1, f64::NAN, Follows::Busy)], vec![])));
    assert!(fast.starts_with("`guest.writers.0.curve` cannot be NaN"), "{fast}");
    let empty = Activity { busy: vec![], quiet: vec![], ..program(vec![], vec![]).activity };
    let still = writer(Some(MeasuredWrites { activity: empty, ..program(vec![], vec![]) }));
    assert!(still.contains("`guest.writers.0.curve` cannot be no activity"), "{still}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A guest that is looked at word by word meanwhile dirties as many pages, and none but its own.
    #[test]
    fn looking_at_words_in_between_changes_no_mean(seed in 0u64..1000, rate in 0.1..30.0f64, end in 0.2..3.0f64) {
        let classes = vec![class(2000, rate, Follows::Busy), class(1500, rate / 3.0, Follows::Always)];
        let model = program(classes, vec![]);
        let plain = harvests(&mut guest(model.clone(), seed, Detail::Rounds), &[end])[0].len() as f64;
        let mut looked = guest(model, seed, Detail::Words);
        for word in (0..80).step_by(3) {
            looked.dirtied_mask(word, at(end * 0.4));
        }
        let found = harvests(&mut looked, &[end]);
        let pages = &found[0];
        prop_assert!(pages.iter().all(|page| (37..5037).contains(page)));
        // Both have the same law: twice the greatest variance of 3,500 pages, five deviations.
        prop_assert!((pages.len() as f64 - plain).abs() < 5.0 * (2.0 * 3500.0 / 4.0_f64).sqrt(), "{} {plain}", pages.len());
    }
}
