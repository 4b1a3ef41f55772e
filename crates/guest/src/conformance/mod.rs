//! What every dirty log promises, as one suite.
//!
//! A [`Ground`] is a dirty log together with the guest that it watches. [`check`] puts it through all promises of
//! [`DirtyLog`] and gives the first that it breaks. It runs on every log of this crate and on simulated guests; whoever writes
//! a log of their own implements a ground and runs it too. It trusts nothing but the content of memory: a page has to be
//! reported if what it holds has changed, whoever changed it.

#[cfg(all(feature = "kvm", target_os = "linux", target_arch = "x86_64"))]
mod kvm;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod real;
#[cfg(test)]
mod tests;

use std::fmt;

use whimbrel_core::dirty::PageSet;
use whimbrel_core::embed::{DirtyLog, LogError};
use whimbrel_core::layout::{PageNumber, PageRun, RamLayout};
use whimbrel_core::units::Pages;

#[cfg(all(feature = "kvm", target_os = "linux", target_arch = "x86_64"))]
pub use self::kvm::KvmGround;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub use self::real::MemoryGround;

/// A dirty log, the guest that it watches, and ways to make that write.
pub trait Ground {
    /// The guest's memory.
    fn layout(&self) -> RamLayout;

    /// The log.
    fn log(&mut self) -> &mut dyn DirtyLog;

    /// A number that every write to `page` changes, and that never returns to an earlier value.
    fn content(&self, page: PageNumber) -> u64;

    /// Whether the guest ever writes `page`. Some it must, and some not, or reports of too much go unnoticed.
    fn writes(&self, page: PageNumber) -> bool;

    /// Lets the guest write, and returns when it is still again. It writes to `wanted`, where it can be told; all of these
    /// are pages that it writes.
    fn write(&mut self, wanted: &[PageNumber]);

    /// Calls `act` while the guest writes to all its pages at the same time, as fast as it can. It is still when this
    /// returns.
    fn while_writing(&mut self, act: &mut dyn FnMut(&mut dyn Running));

    /// Lets the kernel write to `page` on the guest's behalf, as `read(2)` does; false if this ground has no such thing.
    fn kernel_write(&mut self, page: PageNumber) -> bool {
        let _ = page;
        false
    }

    /// Gives the memory of `run` back to the system, as a balloon does, so that it reads as zeroes; false if this ground has
    /// no such thing. Content may return to an earlier value here.
    fn discard(&mut self, run: PageRun) -> bool {
        let _ = run;
        false
    }
}

/// A guest that is writing.
pub trait Running {
    /// As [`DirtyLog::harvest`].
    ///
    /// # Errors
    ///
    /// The log's.
    fn harvest(&mut self, into: &mut PageSet) -> Result<(), LogError>;

    /// As [`Ground::content`], of this moment or a later one.
    fn content(&self, page: PageNumber) -> u64;
}

/// What a dirty log promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Promise {
    /// A harvest has the pages written since the one before, and no others.
    Exact,
    /// Of a guest that writes all the time, no write is ever missing, and no page reported that is not written.
    NothingLost,
    /// What the set to harvest into has already stays in it.
    Adds,
    /// Starting twice forgets nothing.
    StartIsIdempotent,
    /// Stopping twice is stopping.
    StopIsIdempotent,
    /// Who is not started says so instead of reporting nothing.
    NotStartedIsSaid,
    /// What was written before a start is not reported after it.
    StartsClean,
    /// A set of another guest is refused.
    OtherGuestIsRefused,
    /// Writes by the kernel count.
    SeesTheKernel,
    /// Memory that was given back and is written again is reported.
    SurvivesBalloons,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "a harvest has the pages written, and no others",
            Self::NothingLost => "no write is lost while the guest runs",
            Self::Adds => "a harvest adds to the set",
            Self::StartIsIdempotent => "starting twice forgets nothing",
            Self::StopIsIdempotent => "stopping twice is stopping",
            Self::NotStartedIsSaid => "a log that is not started says so",
            Self::StartsClean => "a start begins clean",
            Self::OtherGuestIsRefused => "a set of another guest is refused",
            Self::SeesTheKernel => "writes by the kernel are seen",
            Self::SurvivesBalloons => "memory given back and written again is reported",
        })
    }
}

/// A promise that was broken.
#[derive(Debug, thiserror::Error)]
#[error("the {log} dirty log breaks its promise that {promise}: {how}")]
pub struct Broken {
    /// The log's name.
    pub log: &'static str,
    /// Which promise.
    pub promise: Promise,
    /// How.
    pub how: String,
}

/// Puts `ground` through all promises, with so many harvests while the guest writes. Gives what could not be checked,
/// because the ground has no such thing. The log is stopped before and after.
///
/// # Errors
///
/// The first promise that is [`Broken`].
pub fn check(ground: &mut dyn Ground, harvests: u64) -> Result<Vec<Promise>, Broken> {
    type Check = fn(&mut dyn Ground) -> Result<Found, String>;
    let checks: [(Promise, Check); 9] = [
        (Promise::NotStartedIsSaid, not_started_is_said),
        (Promise::Exact, exact),
        (Promise::Adds, adds),
        (Promise::StartsClean, starts_clean),
        (Promise::StartIsIdempotent, start_is_idempotent),
        (Promise::StopIsIdempotent, stop_is_idempotent),
        (Promise::OtherGuestIsRefused, other_guest_is_refused),
        (Promise::SeesTheKernel, sees_the_kernel),
        (Promise::SurvivesBalloons, survives_balloons),
    ];
    let log = ground.log().name();
    let mut missing = Vec::new();
    for (promise, check) in checks {
        match check(ground).and_then(|found| stop(ground).map(|()| found)) {
            Ok(Found::Kept) => {}
            Ok(Found::NoSuchThing) => missing.push(promise),
            Err(how) => return Err(Broken { log, promise, how }),
        }
    }
    let lost = |how| Broken { log, promise: Promise::NothingLost, how };
    nothing_lost(ground, harvests).and_then(|()| stop(ground)).map_err(lost)?;
    Ok(missing)
}

/// What came of a check.
enum Found {
    Kept,
    NoSuchThing,
}

/// The system's errors as part of how a promise was broken.
fn said<T>(result: Result<T, LogError>) -> Result<T, String> {
    result.map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        format!("{error}{}", cause.unwrap_or_default())
    })
}

fn start(ground: &mut dyn Ground) -> Result<(), String> {
    said(ground.log().start())
}

fn stop(ground: &mut dyn Ground) -> Result<(), String> {
    said(ground.log().stop())
}

fn harvest(ground: &mut dyn Ground) -> Result<PageSet, String> {
    let mut found = PageSet::new(ground.layout().numbers());
    said(ground.log().harvest(&mut found))?;
    Ok(found)
}

fn all_pages(layout: &RamLayout) -> impl Iterator<Item = PageNumber> {
    let runs: Vec<_> = layout.runs().collect();
    runs.into_iter().flat_map(|run| run.range().map(PageNumber))
}

fn written_pages(ground: &dyn Ground) -> Vec<PageNumber> {
    all_pages(&ground.layout()).filter(|&page| ground.writes(page)).collect()
}

fn contents(ground: &dyn Ground) -> Vec<(PageNumber, u64)> {
    all_pages(&ground.layout()).map(|page| (page, ground.content(page))).collect()
}

/// The pages whose content is not what it was.
fn changed(ground: &dyn Ground, before: &[(PageNumber, u64)]) -> Result<PageSet, String> {
    let mut changed = PageSet::new(ground.layout().numbers());
    for &(page, content) in before {
        if ground.content(page) != content {
            changed.insert(page).map_err(|error| error.to_string())?;
        }
    }
    Ok(changed)
}

/// Says how two sets of pages differ.
fn same(reported: &PageSet, written: &PageSet) -> Result<(), String> {
    let lacking = written.pages().find(|&page| !reported.contains(page));
    let surplus = reported.pages().find(|&page| !written.contains(page));
    let counts = format!("{} reported, {} written", reported.count().0, written.count().0);
    match (lacking, surplus) {
        (Some(page), _) => Err(format!("page {page} was written and not reported ({counts})")),
        (None, Some(page)) => Err(format!("page {page} was reported and not written ({counts})")),
        (None, None) => Ok(()),
    }
}

/// The guest writes to `wanted`; gives what it has written, and fails if that is nothing though something was wanted.
fn write(ground: &mut dyn Ground, wanted: &[PageNumber]) -> Result<PageSet, String> {
    let before = contents(ground);
    ground.write(wanted);
    let written = changed(ground, &before)?;
    if !wanted.is_empty() && written.is_empty() {
        Err("the guest writes nothing".into())
    } else {
        Ok(written)
    }
}

/// Choices of pages that a log may trip over.
fn choices(pages: &[PageNumber]) -> Vec<Vec<PageNumber>> {
    let (first, last) = (pages[..1].to_vec(), pages[pages.len() - 1..].to_vec());
    let every = |step: usize| pages.iter().copied().step_by(step).collect::<Vec<_>>();
    let middle = pages[pages.len() / 3..pages.len() / 2].to_vec();
    // All of them twice: the second time they are armed, not new.
    vec![first, last, every(7), middle, every(1), every(1), Vec::new(), every(64), pages[..1].to_vec()]
}

fn exact(ground: &mut dyn Ground) -> Result<Found, String> {
    start(ground)?;
    for wanted in choices(&written_pages(ground)) {
        let written = write(ground, &wanted)?;
        same(&harvest(ground)?, &written)?;
    }
    // What was reported is not reported again.
    same(&harvest(ground)?, &PageSet::new(ground.layout().numbers()))?;
    Ok(Found::Kept)
}

fn adds(ground: &mut dyn Ground) -> Result<Found, String> {
    start(ground)?;
    let pages = written_pages(ground);
    let mut expected = write(ground, &pages[..pages.len() / 2])?;
    let mut found = harvest(ground)?;
    let later = write(ground, &pages[pages.len() / 4..])?;
    said(ground.log().harvest(&mut found))?;
    expected.union_with(&later).map_err(|error| error.to_string())?;
    same(&found, &expected)?;
    Ok(Found::Kept)
}

fn starts_clean(ground: &mut dyn Ground) -> Result<Found, String> {
    let pages = written_pages(ground);
    write(ground, &pages)?;
    start(ground)?;
    same(&harvest(ground)?, &PageSet::new(ground.layout().numbers()))?;
    // Once more, now that it has recorded before.
    write(ground, &pages)?;
    stop(ground)?;
    write(ground, &pages)?;
    start(ground)?;
    let written = write(ground, &pages[..1])?;
    same(&harvest(ground)?, &written)?;
    Ok(Found::Kept)
}

fn start_is_idempotent(ground: &mut dyn Ground) -> Result<Found, String> {
    start(ground)?;
    let pages = written_pages(ground);
    let written = write(ground, &pages[..pages.len() / 2])?;
    start(ground)?;
    same(&harvest(ground)?, &written)?;
    Ok(Found::Kept)
}

fn stop_is_idempotent(ground: &mut dyn Ground) -> Result<Found, String> {
    stop(ground)?;
    start(ground)?;
    stop(ground)?;
    stop(ground)?;
    not_started(ground)?;
    Ok(Found::Kept)
}

fn not_started_is_said(ground: &mut dyn Ground) -> Result<Found, String> {
    not_started(ground)?;
    start(ground)?;
    stop(ground)?;
    not_started(ground)?;
    Ok(Found::Kept)
}

fn not_started(ground: &mut dyn Ground) -> Result<(), String> {
    let mut into = PageSet::new(ground.layout().numbers());
    match ground.log().harvest(&mut into) {
        Err(LogError::NotStarted { .. }) if into.is_empty() => Ok(()),
        Err(LogError::NotStarted { .. }) => Err("it reports pages all the same".into()),
        other => Err(format!("not started, it says {other:?}")),
    }
}

fn other_guest_is_refused(ground: &mut dyn Ground) -> Result<Found, String> {
    start(ground)?;
    let pages = written_pages(ground);
    let written = write(ground, &pages)?;
    let mut other = PageSet::new(ground.layout().numbers() + 64);
    match ground.log().harvest(&mut other) {
        Err(LogError::OtherGuest { .. }) => {}
        answer => return Err(format!("asked to harvest into it, it says {answer:?}")),
    }
    // And the pages are not gone with it.
    same(&harvest(ground)?, &written)?;
    Ok(Found::Kept)
}

fn sees_the_kernel(ground: &mut dyn Ground) -> Result<Found, String> {
    start(ground)?;
    let pages = written_pages(ground);
    let before = contents(ground);
    for &page in pages.iter().step_by(5) {
        if !ground.kernel_write(page) {
            return Ok(Found::NoSuchThing);
        }
    }
    let written = changed(ground, &before)?;
    if written.is_empty() {
        return Err("the kernel writes nothing".into());
    }
    same(&harvest(ground)?, &written)?;
    Ok(Found::Kept)
}

/// How many pages a balloon takes at a time: a huge page, where there are so many.
const BALLOON: u64 = 512;

fn survives_balloons(ground: &mut dyn Ground) -> Result<Found, String> {
    let pages = written_pages(ground);
    write(ground, &pages)?;
    start(ground)?;
    let Some(run) = ground.layout().runs().max_by_key(|run| run.count) else { return Ok(Found::NoSuchThing) };
    let count = BALLOON.min(run.count.0);
    let first = PageNumber((run.end().0 - count) / count * count);
    let balloon = PageRun { first: PageNumber(first.0.max(run.first.0)), count: Pages(count) };
    for _ in 0..2 {
        if !ground.discard(balloon) {
            return Ok(Found::NoSuchThing);
        }
        // A log may report what was given back; it need not.
        harvest(ground)?;
        let again: Vec<_> = pages.iter().copied().filter(|&page| balloon.contains(page)).collect();
        let written = write(ground, &again)?;
        let found = harvest(ground)?;
        if let Some(page) = written.pages().find(|&page| !found.contains(page)) {
            return Err(format!("page {page} was given back, written and not reported"));
        }
    }
    Ok(Found::Kept)
}

/// As a migration does it: everything once, then what is reported, and in the end the rest of a guest that stands still.
fn nothing_lost(ground: &mut dyn Ground, harvests: u64) -> Result<(), String> {
    let layout = ground.layout();
    let mut copy = vec![0; layout.numbers() as usize];
    let written: Vec<bool> = (0..layout.numbers()).map(|page| ground.writes(PageNumber(page))).collect();
    start(ground)?;
    let mut outcome = Ok(());
    ground.while_writing(&mut |running| {
        for page in all_pages(&layout) {
            copy[page.0 as usize] = running.content(page);
        }
        let mut found = PageSet::new(layout.numbers());
        for _ in 0..harvests {
            outcome = said(running.harvest(&mut found)).and_then(|()| {
                let stray = found.pages().find(|page| !written[page.0 as usize]);
                stray.map_or(Ok(()), |page| Err(format!("page {page} was reported and is never written")))
            });
            if outcome.is_err() {
                return;
            }
            for page in found.pages() {
                copy[page.0 as usize] = running.content(page);
            }
            found.clear();
        }
    });
    outcome?;
    for page in harvest(ground)?.pages() {
        copy[page.0 as usize] = ground.content(page);
    }
    let stale: Vec<_> =
        all_pages(&layout).filter(|&page| copy[page.0 as usize] != ground.content(page)).collect();
    match stale.first() {
        Some(page) => Err(format!(
            "after {harvests} harvests the last write to page {page} is missing, and to {} others",
            stale.len() - 1
        )),
        None => Ok(()),
    }
}
