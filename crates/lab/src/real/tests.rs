//! A real guest dirties what its simulation does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use whimbrel_core::units::ByteCount;
use whimbrel_guest::memory::Backing;
use whimbrel_sim::config::{GuestConfig, Pattern, WriterConfig};
use whimbrel_sim::trace::record_like;

use super::beside::Beside;
use super::guest::{Unsupported, lab_guest};
use super::here::LogChoice;
use super::run::{Watch, watch};

fn config(pattern: Pattern) -> GuestConfig {
    let writer =
        WriterConfig { pattern, working_set: ByteCount::mib(16), rate: 20_000.0, ..WriterConfig::default() };
    GuestConfig { memory: ByteCount::mib(64), writers: vec![writer], ..GuestConfig::default() }
}

fn beside(pattern: Pattern, log: LogChoice) -> Beside {
    let config = config(pattern);
    let how = Watch {
        length: Duration::from_secs(1),
        interval: Duration::from_millis(25),
        backing: Backing::Private,
        log,
    };
    let lab = lab_guest(&config, 3).unwrap();
    let watched = watch(&config, lab, &how, &AtomicBool::new(false), |_| {}).unwrap();
    let model = record_like(&config, Duration::ZERO, 3, &watched.trace).unwrap();
    Beside::new(&watched, &model).unwrap()
}

#[test]
fn dirty_rate_and_working_set_curve_are_those_of_the_simulation() {
    for pattern in [Pattern::Uniform, Pattern::HotCold, Pattern::Zipf, Pattern::Sequential] {
        for log in [LogChoice::Software, LogChoice::Best] {
            // Real threads on a machine that others use: who was held up may try again, who writes wrongly fails each time.
            let mut found = beside(pattern, log);
            for _ in 0..2 {
                if !found.agrees {
                    found = beside(pattern, log);
                }
            }
            assert!(found.agrees, "{pattern:?}, {}:\n{}", found.log, super::text::beside(&found));
            assert!(found.harvests.len() > 5 && found.dirty_rate.measured > 1000.0);
        }
    }
}

#[test]
fn who_asks_it_to_stop_does_not_wait_for_a_harvest() {
    let config = config(Pattern::Uniform);
    let minute = Duration::from_mins(1);
    let how = Watch { length: minute, interval: minute, backing: Backing::Private, log: LogChoice::Software };
    let (stop, lab) = (AtomicBool::new(false), lab_guest(&config, 3).unwrap());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // When it runs, most likely; and if not, it must end as well.
            std::thread::sleep(Duration::from_secs(2));
            stop.store(true, Ordering::Relaxed);
        });
        watch(&config, lab, &how, &stop, |_| {}).unwrap();
    });
    assert!(begun.elapsed() < minute / 2, "{:?}", begun.elapsed());
}

#[test]
fn what_is_only_simulated_is_refused_by_name() {
    let refused = lab_guest(&config(Pattern::Trace), 0).unwrap_err();
    assert!(refused.to_string().contains("guest.writers.0.pattern = \"trace\""), "{refused}");
    let mut unchanged = config(Pattern::Uniform);
    unchanged.unchanged_pages = whimbrel_core::units::Share::percent(10);
    assert_eq!(lab_guest(&unchanged, 0), Err(Unsupported::UnchangedPages { share: 0.1 }));
    let mut crowded = config(Pattern::Uniform);
    crowded.writers[0].write_cost = Duration::from_millis(1);
    crowded.writers.push(crowded.writers[0].clone());
    assert!(matches!(lab_guest(&crowded, 0), Err(Unsupported::Vcpus { vcpus: 1, writers: 2, .. })));
    assert!(lab_guest(&config(Pattern::Idle), 0).unwrap().writers.is_empty());
}
