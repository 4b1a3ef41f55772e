//! The guest by itself: what it writes, pauses, throttles, state. Its migrations are in `migration`, its log in `log`.

mod log;
mod migration;
mod state;

use super::*;
use std::num::NonZeroU64;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use whimbrel_core::layout::{PageSize, Region};
use whimbrel_core::units::{ByteCount, CpuShare, Pages};

use crate::memory::Backing;

/// Whether there is KVM; says so if not.
pub(super) fn kvm() -> bool {
    super::super::tests::kvm()
}

/// Two regions with a hole between them, 16 MiB together.
fn layout() -> RamLayout {
    let mib = |start: u64, len: u64| Region { start: Gpa(start << 20), len: ByteCount::mib(len) };
    RamLayout::new(PageSize::Kib4, vec![mib(0, 6), mib(16, 10)]).unwrap()
}

pub(super) fn memory() -> Arc<GuestMemory> {
    Arc::new(GuestMemory::new(layout(), Backing::Private).unwrap())
}

fn run(first: u64, count: u64) -> PageRun {
    PageRun { first: PageNumber(first), count: Pages(count) }
}

/// Three vCPUs: all over a region, round and round in pages that the first writes too, and in the other region.
pub(super) fn shape(pace: Pace) -> Shape {
    let writers = vec![
        Writer { pages: run(0, 1024), pattern: Pattern::Uniform { seed: 7 } },
        Writer { pages: run(1000, 64), pattern: Pattern::Sequential },
        Writer { pages: run(1536, 2048), pattern: Pattern::Uniform { seed: 8 } },
    ];
    Shape { writers, pace }
}

fn paced(rate: u64) -> Pace {
    Pace::PerSecond(NonZeroU64::new(rate).unwrap())
}

fn let_run(guest: &mut KvmGuest, time: Duration) {
    guest.resume().unwrap();
    std::thread::sleep(time);
    guest.pause().unwrap();
}

/// Writes of the first vCPU in such a time.
fn writes_in(guest: &mut KvmGuest, time: Duration) -> u64 {
    let before = guest.writes().unwrap()[0];
    let_run(guest, time);
    guest.writes().unwrap()[0] - before
}

#[test]
fn memory_holds_what_the_registers_say_wherever_they_stop() {
    if !kvm() {
        return;
    }
    let memory = memory();
    let mut guest = KvmGuest::boot(memory.clone(), &shape(Pace::Free)).unwrap();
    assert_eq!(guest.writes().unwrap(), [0, 0, 0]);
    guest.verify(&*memory).unwrap();
    let mut before = vec![0; 3];
    let mut stopped_at = std::collections::BTreeSet::new();
    for _ in 0..60 {
        let_run(&mut guest, Duration::from_micros(100));
        guest.verify(&*memory).unwrap();
        let writes = guest.writes().unwrap();
        assert!(writes.iter().zip(&before).all(|(now, before)| now >= before), "{before:?} {writes:?}");
        before = writes;
        stopped_at.extend(guest.states("").unwrap().iter().map(|state| state.regs.rip));
    }
    assert!(before.iter().all(|&writes| writes > 1000), "{before:?}");
    assert!(stopped_at.len() > 2, "{stopped_at:x?}");
}

#[test]
fn nothing_is_written_after_a_pause() {
    if !kvm() {
        return;
    }
    let memory = memory();
    let mut guest = KvmGuest::boot(memory.clone(), &shape(Pace::Free)).unwrap();
    // The pages that the second vCPU writes some hundred thousand times a second, each.
    let busy = || -> Vec<u64> {
        let word = |page| memory.page(PageNumber(page)).unwrap()[1].load(Ordering::Relaxed);
        (1000..1064).map(word).collect()
    };
    for _ in 0..300 {
        let_run(&mut guest, Duration::from_micros(100));
        let when_it_paused = busy();
        std::thread::sleep(Duration::from_micros(100));
        assert_eq!(busy(), when_it_paused);
    }
    let copy = copy(&memory);
    guest.verify(&copy).unwrap();
    guest.verify(&*memory).unwrap();
}

/// All of it, once more.
fn copy(memory: &GuestMemory) -> GuestMemory {
    let copy = GuestMemory::new(GuestRam::layout(memory).clone(), Backing::Private).unwrap();
    for index in 0..GuestRam::layout(memory).regions().len() {
        for (to, from) in copy.region(index).unwrap().iter().zip(memory.region(index).unwrap()) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
    copy
}

/// Writes a second of the first vCPU, in a short time.
fn rate(guest: &mut KvmGuest) -> f64 {
    let begin = Instant::now();
    let writes = writes_in(guest, Duration::from_millis(100));
    writes as f64 / begin.elapsed().as_secs_f64()
}

/// Measures until it `holds`; a host that is busy with others slows every guest now and then.
fn holds_some_time(guest: &mut KvmGuest, holds: impl Fn(f64) -> bool) {
    let rates: Vec<f64> = (0..100).map(|_| rate(guest)).take_while(|&rate| !holds(rate)).collect();
    assert!(rates.len() < 100, "{rates:.0?}");
}

#[test]
fn a_pace_is_held_and_a_pause_is_not_made_up_for() {
    if !kvm() {
        return;
    }
    let mut guest = KvmGuest::boot(memory(), &shape(paced(20_000))).unwrap();
    holds_some_time(&mut guest, |rate| (15_000.0..20_500.0).contains(&rate));
    for _ in 0..5 {
        // With the pause made up for it would be 30,000. Portions at both ends, and a host that is busy when the time is
        // taken, make some of the difference.
        std::thread::sleep(Duration::from_millis(50));
        let rate = rate(&mut guest);
        assert!(rate < 25_000.0, "{rate} writes a second after a pause, at a pace of 20,000");
    }
    let memory = Arc::clone(guest.memory());
    guest.verify(&*memory).unwrap();
}

#[test]
fn a_duty_cycle_takes_its_share() {
    if !kvm() {
        return;
    }
    let mut guest = KvmGuest::boot(memory(), &shape(paced(200_000))).unwrap();
    let cycle = Throttle::DutyCycle { share: CpuShare::percent(80), run: Duration::from_millis(4) };
    // In turn, so that what else the host has to do slows both alike.
    let mut turn = |throttle| {
        assert!(guest.throttle(throttle).unwrap());
        rate(&mut guest)
    };
    let rates: Vec<_> = (0..9).map(|_| (turn(Throttle::Off), turn(cycle))).collect();
    let median = |mut rates: Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let [free, slowed] = [|pair: &(f64, f64)| pair.0, |pair: &(f64, f64)| pair.1]
        .map(|which| median(rates.iter().map(which).collect()));
    // A fifth, and more where kicks come late; for 100 ms do not end with a period.
    assert!(slowed < free / 2.0, "with a fifth of the time: {rates:.0?}");
    assert!(slowed > free / 20.0, "with a fifth of the time: {rates:.0?}");
    let memory = Arc::clone(guest.memory());
    guest.verify(&*memory).unwrap();
}

#[test]
fn a_pause_does_not_wait_for_a_nap() {
    if !kvm() {
        return;
    }
    let mut guest = KvmGuest::boot(memory(), &shape(Pace::Free)).unwrap();
    let hour = Throttle::MicroSleeps { share: CpuShare::percent(99), sleep: Duration::from_hours(1) };
    guest.throttle(hour).unwrap();
    let cycle = Throttle::DutyCycle { share: CpuShare::clamped(0.9999), run: Duration::from_millis(1) };
    guest.throttle(cycle).unwrap();
    let begin = Instant::now();
    let_run(&mut guest, Duration::from_millis(20));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[test]
fn throttles_that_it_does_not_know_change_nothing() {
    if !kvm() {
        return;
    }
    let mut guest = KvmGuest::boot(memory(), &shape(Pace::Free)).unwrap();
    let limit = Throttle::DirtyLimit {
        quota: whimbrel_core::units::Bandwidth::new(1 << 20).unwrap(),
        period: Duration::from_secs(1),
    };
    assert!(!guest.throttle(limit).unwrap());
    let all = Throttle::DutyCycle { share: CpuShare::clamped(1.0), run: Duration::from_millis(1) };
    assert!(!guest.throttle(all).unwrap());
    assert!(guest.throttle(Throttle::Off).unwrap());
}

#[test]
fn it_writes_the_pages_that_it_is_told_to() {
    if !kvm() {
        return;
    }
    let memory = memory();
    let mut guest = KvmGuest::boot(memory.clone(), &shape(Pace::Free)).unwrap();
    let_run(&mut guest, Duration::from_millis(1));
    // More than fit in a list, and some of them twice.
    let pages: Vec<_> = (0..1536).chain(1536..4096).chain(0..100).map(PageNumber).collect();
    guest.write_to(&pages).unwrap();
    let told = |page| memory.page(PageNumber(page)).unwrap()[TOLD_WORD].load(Ordering::Relaxed);
    assert_eq!((told(0), told(99), told(100), told(4095)), (2, 2, 1, 1));
    let error = guest.write_to(&[PageNumber(5), PageNumber(5000)]).unwrap_err();
    assert!(matches!(error, GuestError::Failed { what: "write to pages", .. }), "{error}");
    assert_eq!(told(5), 2);
    // What it does by itself does not notice.
    guest.verify(&*memory).unwrap();
    let_run(&mut guest, Duration::from_millis(1));
    guest.verify(&*memory).unwrap();
}

#[test]
fn what_cannot_be_is_refused() {
    if !kvm() {
        return;
    }
    let writer = Writer { pages: run(0, 1), pattern: Pattern::Sequential };
    let refused = |writers: Vec<Writer>| {
        KvmGuest::boot(memory(), &Shape { writers, pace: Pace::Free }).map(|_| ()).unwrap_err()
    };
    let error = refused(vec![writer; MAX_VCPUS + 1]).to_string();
    assert_eq!(error, "17 vCPUs asked for, from 1 to 16 are possible: each needs a word of every page");
    assert!(matches!(refused(Vec::new()), KvmError::Vcpus { asked: 0, .. }));
    let hole = refused(vec![Writer { pages: run(1535, 2), ..writer }]);
    let cause = std::error::Error::source(&hole).unwrap().to_string();
    assert_eq!(cause, "pages 1535 to 1536 are not guest memory without a hole");
}

/// A vCPU that runs into nowhere, which no guest of ours does.
#[test]
fn a_vcpu_that_fails_is_told_of_and_holds_up_nobody() {
    if !kvm() {
        return;
    }
    let mut guest = KvmGuest::boot(memory(), &shape(Pace::Free)).unwrap();
    let mut state = guest.vcpus[1].state().unwrap();
    state.regs.rip = guest.board.device().0;
    guest.vcpus[1].set_state(&state).unwrap();
    guest.resume().unwrap();
    while guest.vcpus[1].failure().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let error = guest.pause().unwrap_err();
    assert_eq!(error.to_string(), "the guest cannot pause");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.starts_with("its code leads nowhere: "), "{cause}");
    assert_eq!(guest.resume().unwrap_err().to_string(), "the guest cannot resume");
}
