//! A lab guest goes on at another place as if nothing had been, and memory that is not as it left it is found.

use super::config::{Pattern, Writer};
use super::*;
use crate::log::{SoftwareLog, UserfaultfdLog};
use crate::memory::Backing;
use crate::surroundings::{Refuse, has_userfaultfd, refusing};
use std::thread::sleep;
use whimbrel_core::dirty::PageSet;
use whimbrel_core::embed::{DirtyLog, GuestRam};
use whimbrel_core::layout::{PageSize, RamLayout};
use whimbrel_core::units::{ByteCount, CpuShare, Share};

fn memory() -> Arc<GuestMemory> {
    let layout = RamLayout::contiguous(ByteCount::mib(16), PageSize::Kib4).unwrap();
    Arc::new(GuestMemory::new(layout, Backing::Private).unwrap())
}

fn busy() -> LabConfig {
    let writer = |pattern, pages| Writer { pattern, pages, rate: 200_000.0, ..Writer::default() };
    LabConfig {
        seed: 7,
        writers: vec![
            writer(Pattern::Uniform, 0..1024),
            writer(Pattern::Zipf { exponent: 0.99 }, 512..2048),
            writer(
                Pattern::HotCold { hot_pages: Share::percent(10), hot_writes: Share::percent(90) },
                2048..3000,
            ),
            writer(Pattern::Sequential, 100..3100),
        ],
        zero_pages: Share::percent(20),
        device_rate: 2000.0,
        heartbeat: true,
        ..LabConfig::default()
    }
}

fn run(guest: &mut LabGuest, millis: u64) {
    guest.resume().unwrap();
    sleep(Duration::from_millis(millis));
    guest.pause().unwrap();
}

#[test]
fn what_memory_holds_follows_from_the_registers() {
    let mut guest = LabGuest::new(memory(), busy(), None).unwrap();
    guest.fill();
    for _ in 0..5 {
        let state = guest.save().unwrap();
        let expected = guest.expected(&state).unwrap();
        expected.check(&**guest.memory()).unwrap();
        assert_eq!(expected.checksum(), expected::checksum(&**guest.memory()).unwrap());
        run(&mut guest, 30);
    }
    assert!((0..4).all(|index| guest.work(index).writes > 1000), "{:?}", guest.work(3));
}

#[test]
fn a_single_stale_line_is_found() {
    let mut guest = LabGuest::new(memory(), busy(), None).unwrap();
    guest.fill();
    run(&mut guest, 50);
    let expected = guest.expected(&guest.registers().write(guest.config())).unwrap();
    for page in [0, 700, 2500, 3090, 3276, 4095] {
        let words = guest.memory().page(PageNumber(page)).unwrap();
        let word = &words[busy_word(page)];
        let right = word.fetch_xor(1, std::sync::atomic::Ordering::Relaxed);
        let Err(Stale::Pages { page: found, others: 0, .. }) = expected.check(&**guest.memory()) else {
            panic!("page {page} passes")
        };
        assert_eq!(found, PageNumber(page));
        word.store(right, std::sync::atomic::Ordering::Relaxed);
    }
    expected.check(&**guest.memory()).unwrap();
}

/// A word of some line that matters.
fn busy_word(page: u64) -> usize {
    if page < 1024 { 3 } else { 511 }
}

#[test]
fn a_paused_guest_writes_nothing() {
    let mut guest = LabGuest::new(memory(), busy(), None).unwrap();
    guest.fill();
    for _ in 0..20 {
        run(&mut guest, 3);
        let state = guest.save().unwrap();
        sleep(Duration::from_millis(5));
        assert_eq!(guest.save().unwrap(), state);
        guest.expected(&state).unwrap().check(&**guest.memory()).unwrap();
    }
}

/// Moves the guest as a migration does, and gives it back at its destination, paused.
fn moved(mut source: LabGuest, mut log: Box<dyn DirtyLog>, forget: Option<u64>) -> LabGuest {
    let mut destination = LabGuest::new(memory(), source.config().clone(), None).unwrap();
    let layout = GuestRam::layout(&**source.memory()).clone();
    let copy = |pages: &PageSet| {
        let mut bytes = vec![0; 4096];
        for page in pages.pages().filter(|page| Some(page.0) != forget) {
            let at = layout.address_of(page).unwrap();
            source.memory().read(at, &mut bytes).unwrap();
            destination.memory().write(at, &bytes).unwrap();
        }
    };
    log.start().unwrap();
    source.shared.control.resume();
    copy(&PageSet::full_from(&layout));
    for _ in 0..10 {
        let mut dirty = PageSet::new(layout.numbers());
        log.harvest(&mut dirty).unwrap();
        copy(&dirty);
    }
    source.shared.control.pause();
    let mut dirty = PageSet::new(layout.numbers());
    log.harvest(&mut dirty).unwrap();
    copy(&dirty);
    log.stop().unwrap();
    destination.restore(source.save().unwrap()).unwrap();
    destination
}

fn arrives_whole(log: impl FnOnce(&Arc<GuestMemory>) -> (Box<dyn DirtyLog>, Option<Arc<DirtyBitmap>>)) {
    let memory = memory();
    let (log, marks) = log(&memory);
    let mut source = LabGuest::new(memory, busy(), marks).unwrap();
    source.fill();
    run(&mut source, 20);
    let before = source.work(0);
    let mut destination = moved(source, log, None);
    let after = destination.work(0);
    assert!(after.writes > before.writes && after.ran > before.ran);
    for _ in 0..3 {
        let state = destination.save().unwrap();
        destination.expected(&state).unwrap().check(&**destination.memory()).unwrap();
        run(&mut destination, 20);
    }
    assert!(destination.work(0).writes > after.writes);
}

#[test]
fn a_guest_that_was_moved_under_the_software_log_goes_on_exactly() {
    arrives_whole(|memory| {
        let log = SoftwareLog::new(memory.layout());
        let marks = Arc::clone(log.bitmap());
        (Box::new(log), Some(marks))
    });
}

#[test]
fn a_guest_that_was_moved_under_userfaultfd_goes_on_exactly() {
    if !has_userfaultfd() {
        return;
    }
    arrives_whole(|memory| (Box::new(UserfaultfdLog::new(memory.clone()).unwrap()), None));
}

#[test]
fn a_page_forgotten_on_the_way_is_found() {
    if !has_userfaultfd() {
        return;
    }
    let memory = memory();
    let log = UserfaultfdLog::new(memory.clone()).unwrap();
    let source = LabGuest::new(memory, busy(), None).unwrap();
    source.fill();
    let mut destination = moved(source, Box::new(log), Some(600));
    let state = destination.save().unwrap();
    let found = destination.expected(&state).unwrap().check(&**destination.memory());
    assert!(matches!(found, Err(Stale::Pages { page: PageNumber(600), others: 0, .. })), "{found:?}");
}

#[test]
fn the_heartbeat_sees_how_long_the_guest_was_away() {
    let mut guest = LabGuest::new(memory(), LabConfig::default(), None).unwrap();
    guest.fill();
    run(&mut guest, 50);
    let before = guest.heartbeat();
    assert!(before.beats > 1, "{before:?}");
    sleep(Duration::from_millis(80));
    run(&mut guest, 30);
    let after = guest.heartbeat();
    let away = after.longest.iter().find(|gap| gap.ended.checked_sub(gap.length) == before.last);
    assert!(away.is_some_and(|gap| gap.length >= Duration::from_millis(80)), "{before:?}, then {after:?}");
}

#[test]
fn a_throttled_vcpu_writes_no_more_than_the_time_that_is_left_to_it() {
    // As much as it can: what a throttle takes away is not caught up.
    let cost = Duration::from_micros(2);
    let writer =
        Writer { pages: 0..1024, rate: 1e9, write_cost: cost, catch_up: Duration::ZERO, ..Writer::default() };
    let config =
        LabConfig { writers: vec![writer], device_rate: 0.0, heartbeat: false, ..LabConfig::default() };
    let mut guest = LabGuest::new(memory(), config, None).unwrap();
    guest.fill();
    assert!(guest.throttle(Throttle::duty_cycle(CpuShare::percent(75))).unwrap());
    let begun = std::time::Instant::now();
    run(&mut guest, 300);
    // A quarter of the time, and a piece of 10 ms that may be cut at each end.
    let runs = begun.elapsed().as_secs_f64() / 4.0 + 0.02;
    let most = runs / cost.as_secs_f64();
    let made = guest.work(0).writes;
    assert!(made > 0 && made as f64 <= most, "{made}, at most {most}");
    let limit = Throttle::DirtyLimit {
        quota: whimbrel_core::units::Bandwidth::new(1).unwrap(),
        period: Duration::from_secs(1),
    };
    assert!(!guest.throttle(limit).unwrap());
    assert!(!guest.throttle(Throttle::duty_cycle(CpuShare::ALL)).unwrap());
}

#[test]
fn state_that_is_not_the_guests_own_changes_nothing() {
    let mut guest = LabGuest::new(memory(), busy(), None).unwrap();
    guest.fill();
    run(&mut guest, 20);
    let state = guest.save().unwrap();
    let change = |change: &dyn Fn(&mut Vec<Section>)| {
        let mut state = state.clone();
        change(&mut state);
        state
    };
    let mut refused = |state: Vec<Section>, says: &str| {
        let error = guest.restore(state).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    refused(change(&|state| drop(state.remove(1))), "the state of `vcpu-` is missing");
    refused(change(&|state| state[2].version = 9), "`vcpu-1`, version 9");
    refused(
        change(&|state| state.push(Section { kind: "floppy".into(), ..state[0].clone() })),
        "`floppy`, version 1",
    );
    refused(change(&|state| state[1].bytes.truncate(12)), "12 bytes are no whole numbers");
    refused(change(&|state| state[1].bytes.truncate(8)), "1 numbers, not 4");
    refused(change(&|state| state[1].bytes[..8].fill(0xff)), "writes, when");
    refused(change(&|state| state[0].bytes[0] ^= 1), "another configuration");
    refused(change(&|state| state.last_mut().unwrap().bytes.extend([0; 8])), "half a gap");
    assert_eq!(guest.save().unwrap(), state);
    guest.resume().unwrap();
    assert!(matches!(guest.save(), Err(GuestError::WrongMoment { .. })));
    assert!(matches!(guest.restore(state), Err(GuestError::WrongMoment { .. })));
}

#[test]
fn a_writer_is_never_further_behind_than_it_catches_up_and_never_ahead() {
    let mut guest = LabGuest::new(memory(), busy(), None).unwrap();
    guest.fill();
    run(&mut guest, 500);
    for index in 0..4 {
        let work = guest.work(index);
        let behind = work.wanted - (work.writes + work.forgone) as f64;
        // 50 ms that are caught up, and 5 ms that are not counted as missed.
        assert!((0.0..=200_000.0 * 0.055 + 1.0).contains(&behind) && work.writes > 0, "{work:?}");
    }
}

#[test]
fn a_guest_that_cannot_have_its_device_says_so() {
    let new = || LabGuest::new(memory(), LabConfig::default(), None).map(drop);
    let refused = refusing(&[Refuse::call(libc::SYS_pipe2, rustix::io::Errno::MFILE)], new).unwrap_err();
    assert!(refused.to_string().contains("raise the limit of open files (`ulimit -n`)"), "{refused}");
    new().unwrap();
}

#[test]
fn a_write_that_would_never_end_is_refused() {
    let writer = Writer { pages: 0..1, write_cost: Duration::MAX, ..Writer::default() };
    let refused = LabGuest::new(memory(), LabConfig { writers: vec![writer], ..LabConfig::default() }, None);
    let text = refused.unwrap_err().to_string();
    assert!(text.ends_with("is not accepted: at most 3600s"), "{text}");
}

#[test]
fn a_throttle_slows_vcpus_and_no_device() {
    let writer = Writer { pages: 0..1024, rate: 10_000.0, ..Writer::default() };
    let config = LabConfig { writers: vec![writer], device_rate: 1000.0, ..LabConfig::default() };
    let mut guest = LabGuest::new(memory(), config, None).unwrap();
    guest.fill();
    // Ten milliseconds, and then nothing for ten seconds.
    assert!(guest.throttle(Throttle::duty_cycle(CpuShare::clamped(0.999))).unwrap());
    run(&mut guest, 50);
    let (blocks, beats) = (guest.device.registers(), guest.heartbeat().beats);
    run(&mut guest, 300);
    assert!(guest.device.registers() > blocks + 20, "{blocks} blocks, then {}", guest.device.registers());
    assert_eq!(guest.heartbeat().beats, beats);
}

#[test]
fn no_page_is_zero_that_is_not_said_to_be() {
    for random_content in [Share::ZERO, Share::percent(50), Share::ONE] {
        for seed in [0, 1] {
            let config =
                LabConfig { seed, random_content, zero_pages: Share::percent(50), ..LabConfig::default() };
            let guest = LabGuest::new(memory(), config, None).unwrap();
            guest.fill();
            let region = guest.memory().region(0).unwrap();
            let zero = |page: &[std::sync::atomic::AtomicU64]| {
                page.iter().all(|word| word.load(std::sync::atomic::Ordering::Relaxed) == 0)
            };
            assert_eq!(
                region.chunks_exact(512).filter(|page| zero(page)).count(),
                2048,
                "{random_content:?}, {seed}"
            );
        }
    }
}
