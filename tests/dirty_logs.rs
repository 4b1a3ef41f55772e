//! The simulated guest's dirty log keeps the promises that the logs of real guests keep: the suite is the same, and so is
//! what a migration may expect on either ground.

use std::cell::RefCell;
use std::ops::Range;
use std::time::Duration;

use whimbrel::core::dirty::PageSet;
use whimbrel::core::embed::{DirtyLog, LogError, check_set};
use whimbrel::core::layout::{PageNumber, RamLayout};
use whimbrel::core::units::{ByteCount, Timestamp};
use whimbrel::guest::conformance::{Ground, Promise, Running, check};
use whimbrel::sim::config::{GuestConfig, Pattern, WriterConfig};
use whimbrel::sim::guest::{Detail, Guest};

const MIB: u64 = 1 << 20;

/// Where the writers write, in pages.
const WRITTEN: [Range<u64>; 3] = [256..1280, 2048..2560, 2816..4096];

/// A guest of 16 MiB with three writers.
fn guest() -> Guest {
    let patterns = [Pattern::Uniform, Pattern::Sequential, Pattern::Zipf];
    let writer = |(pattern, pages): (Pattern, &Range<u64>)| WriterConfig {
        pattern,
        offset: Some(ByteCount(pages.start * 4096)),
        working_set: ByteCount((pages.end - pages.start) * 4096),
        rate: 200_000.0,
        ..WriterConfig::default()
    };
    let config = GuestConfig {
        memory: ByteCount(16 * MIB),
        vcpus: 3,
        writers: patterns.into_iter().zip(&WRITTEN).map(writer).collect(),
        ..GuestConfig::default()
    };
    Guest::new(&config, 7).expect("a valid guest").with_detail(Detail::Versions)
}

/// The simulated guest and its time, which passes only when it is told to.
struct World {
    guest: Guest,
    now: Timestamp,
    /// How often it has run while nobody recorded: its versions stand still then.
    unrecorded: u64,
}

impl World {
    fn pass(&mut self, time: Duration) {
        self.now = Timestamp::from_nanos(self.now.as_nanos() + time.as_nanos() as u64);
        self.guest.advance(self.now);
    }

    fn content(&mut self, page: PageNumber) -> u64 {
        self.guest.dirtied_mask((page.0 / 64) as usize, self.now);
        let unrecorded = if writes(page) { self.unrecorded } else { 0 };
        self.guest.version(page) + (unrecorded << 32)
    }
}

fn writes(page: PageNumber) -> bool {
    WRITTEN.iter().any(|pages| pages.contains(&page.0))
}

/// What is wrong with a log, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// As the simulated guest does it: a second start is a new one.
    StartsAnew,
    /// Pages 3,200 to 3,263 are forgotten.
    SkipsAWord,
}

/// The log that a simulated guest keeps.
struct SimulatedLog(RefCell<World>, Fault);

impl DirtyLog for SimulatedLog {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn start(&mut self) -> Result<(), LogError> {
        let World { guest, now, .. } = self.0.get_mut();
        if !guest.is_tracking() || self.1 == Fault::StartsAnew {
            guest.start_tracking(*now, Duration::from_micros(1));
        }
        Ok(())
    }

    fn harvest(&mut self, into: &mut PageSet) -> Result<(), LogError> {
        let World { guest, now, .. } = self.0.get_mut();
        if !guest.is_tracking() {
            return Err(LogError::NotStarted { log: "simulated" });
        }
        check_set("simulated", guest.layout().numbers(), into)?;
        let skipped = if self.1 == Fault::SkipsAWord { 50 } else { usize::MAX };
        guest.harvest(*now, |word, mask| {
            if word != skipped {
                into.or_word(word, mask);
            }
        });
        Ok(())
    }

    fn stop(&mut self) -> Result<(), LogError> {
        let World { guest, now, .. } = self.0.get_mut();
        guest.stop_tracking(*now);
        Ok(())
    }
}

struct SimulatedGround(SimulatedLog);

impl SimulatedGround {
    fn new(fault: Fault) -> Self {
        let world = World { guest: guest(), now: Timestamp::from_nanos(0), unrecorded: 0 };
        Self(SimulatedLog(RefCell::new(world), fault))
    }
}

impl Ground for SimulatedGround {
    fn layout(&self) -> RamLayout {
        self.0.0.borrow().guest.layout().clone()
    }

    fn log(&mut self) -> &mut dyn DirtyLog {
        &mut self.0
    }

    fn content(&self, page: PageNumber) -> u64 {
        self.0.0.borrow_mut().content(page)
    }

    fn writes(&self, page: PageNumber) -> bool {
        writes(page)
    }

    fn write(&mut self, wanted: &[PageNumber]) {
        let world = self.0.0.get_mut();
        if wanted.is_empty() {
            return;
        }
        // It cannot be told where to: a page or so, or about as many as are wanted.
        world.pass(Duration::from_micros(10 + 2 * wanted.len() as u64));
        world.unrecorded += u64::from(!world.guest.is_tracking());
    }

    fn while_writing(&mut self, act: &mut dyn FnMut(&mut dyn Running)) {
        act(self);
    }
}

impl Running for SimulatedGround {
    fn harvest(&mut self, into: &mut PageSet) -> Result<(), LogError> {
        self.0.0.get_mut().pass(Duration::from_micros(300));
        self.0.harvest(into)
    }

    fn content(&self, page: PageNumber) -> u64 {
        Ground::content(self, page)
    }

    fn settled(&self, page: PageNumber) -> Option<u64> {
        Some(Ground::content(self, page))
    }
}

fn harvests() -> u64 {
    std::env::var("WHIMBREL_HARVESTS").map_or(10_000, |text| text.parse().expect("a number of harvests"))
}

#[test]
fn the_simulated_log_keeps_its_promises() {
    match check(&mut SimulatedGround::new(Fault::None), harvests()) {
        // There is no kernel and no balloon.
        Ok(missing) => assert_eq!(missing, [Promise::SeesTheKernel, Promise::SurvivesBalloons]),
        Err(broken) => panic!("{broken}"),
    }
}

#[test]
fn a_simulated_log_that_breaks_them_is_found() {
    let broken = |fault| check(&mut SimulatedGround::new(fault), 100).expect_err("broken").promise;
    assert_eq!(broken(Fault::StartsAnew), Promise::StartIsIdempotent);
    assert_eq!(broken(Fault::SkipsAWord), Promise::Exact);
}
