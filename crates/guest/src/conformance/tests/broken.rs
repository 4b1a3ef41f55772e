//! Logs that are broken on purpose: the suite finds each of them, by the promise that it breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use whimbrel_core::dirty::{DirtyBitmap, PageSet, WORD_PAGES};
use whimbrel_core::embed::{Cause, DirtyLog, GuestRam, LogError, check_set};
use whimbrel_core::layout::{Gpa, PageNumber, PageRun, PageSize, RamLayout, Region};
use whimbrel_core::units::ByteCount;

use crate::conformance::{MemoryGround, Promise, WrittenRam, check, promises};
use crate::log::SoftwareLog;
use crate::memory::{Backing, GuestMemory};

/// Enough for what is broken all the time; whoever loses a write in a million is found by more.
const HARVESTS: u64 = 2_000;

/// The first number that is no page of [`memory`].
const PADDING: u64 = 1530;

fn memory() -> Arc<GuestMemory> {
    let region = |start: u64, pages: u64| Region { start: Gpa(start << 20), len: ByteCount(pages << 12) };
    let layout = RamLayout::new(PageSize::Kib4, vec![region(0, PADDING), region(16, 2560)]).unwrap();
    Arc::new(GuestMemory::new(layout, Backing::Private).unwrap())
}

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    ForgetsAPageNowAndThen,
    /// One of 20,000.
    ForgetsAPageSeldom,
    ForgetsTheLastPage,
    ForgetsWhatIsBehindTheHundredthRun,
    ClearsBeforeItReads,
    ReportsAPageTooMany,
    ReportsPadding,
    ReportsTwice,
    ReportsEverything,
    EmptiesTheSet,
    StartsDirty,
    NeverRecordsAgain,
    ForgetsAtTheSecondStart,
    FailsAtTheSecondStop,
    RecordsUnasked,
    HarvestsWhatIsNotStarted,
    ForgetsForAnotherGuest,
    HarvestsIntoAnotherGuest,
}

/// A software log with a fault.
struct Faulty {
    log: SoftwareLog,
    fault: Fault,
    started: bool,
    ever_stopped: bool,
    /// Pages reported so far.
    reported: u64,
    before: PageSet,
}

impl Faulty {
    fn new(log: SoftwareLog, fault: Fault) -> Self {
        let before = PageSet::new(log.bitmap().numbers());
        Self { log, fault, started: false, ever_stopped: false, reported: 0, before }
    }

    /// Does to what was found what is wrong with this log.
    fn spoil(&mut self, found: &mut PageSet) {
        let numbers = found.numbers();
        match self.fault {
            Fault::ForgetsAPageNowAndThen | Fault::ForgetsAPageSeldom => {
                let every = if self.fault == Fault::ForgetsAPageSeldom { 20_000 } else { 997 };
                for page in found.pages().collect::<Vec<_>>() {
                    self.reported += 1;
                    if self.reported.is_multiple_of(every) {
                        found.remove(page);
                    }
                }
            }
            Fault::ForgetsTheLastPage => drop(found.remove(PageNumber(numbers - 2))),
            Fault::ForgetsWhatIsBehindTheHundredthRun => {
                let first = found.runs().nth(100).map_or(numbers, |run| run.first.0);
                let rest = whimbrel_core::units::Pages(numbers - first);
                found.remove_run(PageRun { first: PageNumber(first), count: rest });
            }
            Fault::ReportsAPageTooMany if !found.is_empty() => drop(found.insert(PageNumber(3)).unwrap()),
            Fault::ReportsPadding if !found.is_empty() => drop(found.insert(PageNumber(PADDING)).unwrap()),
            Fault::ReportsEverything => {
                for page in (0..numbers).filter(|page| page % 4 != 3) {
                    found.insert(PageNumber(page)).unwrap();
                }
            }
            Fault::ReportsTwice => {
                let now = found.clone();
                found.union_with(&self.before).unwrap();
                self.before = now;
            }
            _ => {}
        }
    }
}

impl DirtyLog for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn start(&mut self) -> Result<(), LogError> {
        match self.fault {
            Fault::ForgetsAtTheSecondStart if self.started => {
                self.log.stop()?;
                self.log.start()?;
            }
            Fault::StartsDirty if !self.started => {
                self.log.start()?;
                for page in self.before.pages() {
                    self.log.bitmap().mark(page).unwrap();
                }
            }
            Fault::NeverRecordsAgain if self.ever_stopped => {}
            _ => self.log.start()?,
        }
        self.started = true;
        Ok(())
    }

    fn harvest(&mut self, into: &mut PageSet) -> Result<(), LogError> {
        let known = into.numbers() == self.before.numbers();
        match self.fault {
            Fault::HarvestsWhatIsNotStarted if !self.started => return Ok(()),
            Fault::NeverRecordsAgain if self.started && self.ever_stopped => return Ok(()),
            Fault::ClearsBeforeItReads => self.log.harvest(&mut self.before.clone())?,
            Fault::ForgetsForAnotherGuest if self.started && !known => {
                self.log.harvest(&mut self.before.clone())?;
            }
            Fault::HarvestsIntoAnotherGuest if !known => return Ok(()),
            Fault::EmptiesTheSet if self.started && known => into.clear(),
            _ => {}
        }
        let mut found = PageSet::new(into.numbers());
        self.log.harvest(&mut found)?;
        self.spoil(&mut found);
        if self.fault == Fault::StartsDirty {
            self.before = found.clone();
        }
        into.union_with(&found).unwrap();
        Ok(())
    }

    fn stop(&mut self) -> Result<(), LogError> {
        if self.fault == Fault::FailsAtTheSecondStop && !self.started {
            let cause = Cause::from("it is stopped");
            return Err(LogError::Failed { log: self.name(), what: "stop".into(), help: "", cause });
        }
        self.ever_stopped |= self.started;
        self.started = false;
        if self.fault == Fault::RecordsUnasked { Ok(()) } else { self.log.stop() }
    }
}

#[test]
fn each_fault_of_a_log_is_found() {
    use Fault::*;
    let cases = [
        (ForgetsAPageNowAndThen, Promise::Exact),
        (ForgetsTheLastPage, Promise::Exact),
        (ForgetsWhatIsBehindTheHundredthRun, Promise::Exact),
        (ClearsBeforeItReads, Promise::Exact),
        (ReportsAPageTooMany, Promise::Exact),
        (ReportsPadding, Promise::Exact),
        (ReportsTwice, Promise::Exact),
        (ReportsEverything, Promise::Exact),
        (EmptiesTheSet, Promise::Adds),
        (StartsDirty, Promise::StartsClean),
        (NeverRecordsAgain, Promise::Exact),
        (ForgetsAtTheSecondStart, Promise::StartIsIdempotent),
        (FailsAtTheSecondStop, Promise::StopIsIdempotent),
        (RecordsUnasked, Promise::NotStartedIsSaid),
        (HarvestsWhatIsNotStarted, Promise::NotStartedIsSaid),
        (ForgetsForAnotherGuest, Promise::OtherGuestIsRefused),
        (HarvestsIntoAnotherGuest, Promise::OtherGuestIsRefused),
    ];
    for (fault, promise) in cases {
        let memory = memory();
        let log = SoftwareLog::new(memory.layout());
        let bitmap = Arc::clone(log.bitmap());
        let log = Faulty::new(log, fault);
        let found = check(&mut MemoryGround::new(memory, Box::new(log), Some(bitmap)), HARVESTS);
        assert_eq!(found.expect_err(&format!("{fault:?}")).promise, promise, "{fault:?}");
    }
}

/// What is wrong with those who write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sloppy {
    KernelUnmarked,
    BalloonUnmarked,
    MarkedTooEarly,
}

/// Memory whose writers mark as they should not.
struct SloppyRam {
    memory: Arc<GuestMemory>,
    bitmap: Arc<DirtyBitmap>,
    fault: Sloppy,
    /// Writes so far.
    writes: AtomicU64,
    /// First byte of what was given back, and the one behind it.
    balloon: [AtomicU64; 2],
}

impl SloppyRam {
    fn mark(&self, at: Gpa) {
        self.bitmap.mark(self.memory.layout().page_at(at).unwrap()).unwrap();
    }
}

impl WrittenRam for SloppyRam {
    fn ram(&self) -> &dyn GuestRam {
        &*self.memory
    }

    fn add_one(&self, at: Gpa) {
        let write = || self.memory.word(at).unwrap().fetch_add(1, Ordering::Relaxed);
        if self.fault == Sloppy::MarkedTooEarly {
            self.mark(at);
            // Somebody else's turn, now and then.
            if self.writes.fetch_add(1, Ordering::Relaxed).is_multiple_of(16) {
                std::thread::yield_now();
            }
            write();
            return;
        }
        write();
        let [from, to] = &self.balloon;
        if !(from.load(Ordering::Relaxed)..to.load(Ordering::Relaxed)).contains(&at.0) {
            self.mark(at);
        }
    }

    fn kernel_write(&self, at: Gpa, value: u64) -> bool {
        self.memory.word(at).unwrap().store(value, Ordering::Relaxed);
        if self.fault != Sloppy::KernelUnmarked {
            self.mark(at);
        }
        true
    }

    fn discard(&self, run: PageRun) -> bool {
        self.memory.discard(run).unwrap();
        if self.fault == Sloppy::BalloonUnmarked {
            let from = self.memory.layout().address_of(run.first).unwrap();
            self.balloon[0].store(from.0, Ordering::Relaxed);
            self.balloon[1].store(from.0 + run.count.bytes(PageSize::Kib4).0, Ordering::Relaxed);
        }
        true
    }
}

fn sloppy(fault: Sloppy) -> MemoryGround {
    let memory = memory();
    let log = SoftwareLog::new(memory.layout());
    let bitmap = Arc::clone(log.bitmap());
    let (writes, balloon) = (AtomicU64::new(0), [AtomicU64::new(0), AtomicU64::new(0)]);
    MemoryGround::over(Arc::new(SloppyRam { memory, bitmap, fault, writes, balloon }), Box::new(log))
}

#[test]
fn each_fault_of_those_who_write_is_found() {
    let cases = [
        (Sloppy::KernelUnmarked, Promise::SeesTheKernel),
        (Sloppy::BalloonUnmarked, Promise::SurvivesBalloons),
        (Sloppy::MarkedTooEarly, Promise::NothingLost),
    ];
    for (fault, promise) in cases {
        let found = check(&mut sloppy(fault), HARVESTS);
        assert_eq!(found.expect_err(&format!("{fault:?}")).promise, promise, "{fault:?}");
    }
}

/// A bitmap that reads all its words and clears them afterwards.
struct NotAtomic {
    bits: Arc<Bits>,
    started: bool,
}

struct Bits(Vec<AtomicU64>);

impl DirtyLog for NotAtomic {
    fn name(&self) -> &'static str {
        "not atomic"
    }

    fn start(&mut self) -> Result<(), LogError> {
        if !self.started {
            self.bits.0.iter().for_each(|word| word.store(0, Ordering::SeqCst));
        }
        self.started = true;
        Ok(())
    }

    fn harvest(&mut self, into: &mut PageSet) -> Result<(), LogError> {
        if !self.started {
            return Err(LogError::NotStarted { log: self.name() });
        }
        check_set(self.name(), self.bits.0.len() as u64 * WORD_PAGES, into)?;
        for (index, word) in self.bits.0.iter().enumerate() {
            into.or_word(index, word.load(Ordering::SeqCst));
        }
        // What is marked here is lost.
        self.bits.0.iter().for_each(|word| word.store(0, Ordering::SeqCst));
        Ok(())
    }

    fn stop(&mut self) -> Result<(), LogError> {
        self.started = false;
        Ok(())
    }
}

/// Memory whose writers set [`Bits`].
struct MarkedInBits {
    memory: Arc<GuestMemory>,
    bits: Arc<Bits>,
}

impl WrittenRam for MarkedInBits {
    fn ram(&self) -> &dyn GuestRam {
        &*self.memory
    }

    fn add_one(&self, at: Gpa) {
        self.memory.word(at).unwrap().fetch_add(1, Ordering::Relaxed);
        let page = self.memory.layout().page_at(at).unwrap().0;
        self.bits.0[(page / WORD_PAGES) as usize].fetch_or(1 << (page % WORD_PAGES), Ordering::SeqCst);
    }
}

#[test]
fn a_bitmap_that_is_not_cleared_in_one_step_is_found() {
    let memory = memory();
    let words = memory.layout().numbers() / WORD_PAGES;
    let bits = Arc::new(Bits((0..words).map(|_| AtomicU64::new(0)).collect()));
    let log = NotAtomic { bits: bits.clone(), started: false };
    let found =
        check(&mut MemoryGround::over(Arc::new(MarkedInBits { memory, bits }), Box::new(log)), 10 * HARVESTS);
    assert_eq!(found.expect_err("not atomic").promise, Promise::NothingLost);
}

#[test]
fn a_page_that_is_seldom_forgotten_is_found() {
    let memory = memory();
    let log = SoftwareLog::new(memory.layout());
    let bitmap = Arc::clone(log.bitmap());
    let log = Faulty::new(log, Fault::ForgetsAPageSeldom);
    let mut ground = MemoryGround::new(memory, Box::new(log), Some(bitmap));
    promises::nothing_lost(&mut ground, 10 * HARVESTS).unwrap_err();
}

/// The same guests without a fault pass: it is not the wrappers that are found.
#[test]
fn what_is_not_broken_passes() {
    let memory = memory();
    let words = memory.layout().numbers() / WORD_PAGES;
    let bits = Arc::new(Bits((0..words).map(|_| AtomicU64::new(0)).collect()));
    let log = Atomic(NotAtomic { bits: bits.clone(), started: false });
    let mut ground = MemoryGround::over(Arc::new(MarkedInBits { memory, bits }), Box::new(log));
    check(&mut ground, HARVESTS).unwrap();
}

/// The same bitmap, cleared word by word as it is read.
struct Atomic(NotAtomic);

impl DirtyLog for Atomic {
    fn name(&self) -> &'static str {
        "atomic"
    }

    fn start(&mut self) -> Result<(), LogError> {
        self.0.start()
    }

    fn harvest(&mut self, into: &mut PageSet) -> Result<(), LogError> {
        // Says what is wrong with the call, or finds nothing.
        if !self.0.started || into.numbers() != self.0.bits.0.len() as u64 * WORD_PAGES {
            return self.0.harvest(into);
        }
        for (index, word) in self.0.bits.0.iter().enumerate() {
            into.or_word(index, word.swap(0, Ordering::SeqCst));
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<(), LogError> {
        self.0.stop()
    }
}
