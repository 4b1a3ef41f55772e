//! How each promise is checked.

use whimbrel_core::dirty::PageSet;
use whimbrel_core::embed::LogError;
use whimbrel_core::layout::{PageNumber, PageRun};
use whimbrel_core::units::Pages;

use super::{Ground, Promise, Running, pages_of};

/// What came of a check.
pub(super) enum Found {
    Kept,
    NoSuchThing,
}

type Check = fn(&mut dyn Ground) -> Result<Found, String>;

/// The promises that are checked on a guest that writes only when it is told to.
pub(super) const STILL: [(Promise, Check); 9] = [
    (Promise::StopIsIdempotent, stop_is_idempotent),
    (Promise::NotStartedIsSaid, not_started_is_said),
    (Promise::Exact, exact),
    (Promise::Adds, adds),
    (Promise::StartsClean, starts_clean),
    (Promise::StartIsIdempotent, start_is_idempotent),
    (Promise::OtherGuestIsRefused, other_guest_is_refused),
    (Promise::SeesTheKernel, sees_the_kernel),
    (Promise::SurvivesBalloons, survives_balloons),
];

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

pub(super) fn stop(ground: &mut dyn Ground) -> Result<(), String> {
    said(ground.log().stop())
}

fn harvest(ground: &mut dyn Ground) -> Result<PageSet, String> {
    let mut found = PageSet::new(ground.layout().numbers());
    said(ground.log().harvest(&mut found))?;
    Ok(found)
}

fn written_pages(ground: &dyn Ground) -> Vec<PageNumber> {
    pages_of(&ground.layout()).filter(|&page| ground.writes(page)).collect()
}

fn contents(ground: &dyn Ground) -> Vec<(PageNumber, u64)> {
    pages_of(&ground.layout()).map(|page| (page, ground.content(page))).collect()
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
fn choices(ground: &dyn Ground) -> Vec<Vec<PageNumber>> {
    let pages = written_pages(ground);
    let every = |step: usize| pages.iter().copied().step_by(step).collect::<Vec<_>>();
    let middle = pages[pages.len() / 3..pages.len() / 2].to_vec();
    let runs: Vec<_> = ground.layout().runs().collect();
    let edge = |page: PageNumber| {
        runs.iter().any(|run| page == run.first || page.0 + 1 == run.end().0 || page.0 + 2 == run.end().0)
    };
    let edges = pages.iter().copied().filter(|&page| edge(page)).collect();
    // About one in sixteen, without order (a multiplicative hash).
    let any = |page: PageNumber| (page.0 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60 == 0;
    let scattered = pages.iter().copied().filter(|&page| any(page)).collect();
    let (first, last) = (pages[..1].to_vec(), pages[pages.len() - 1..].to_vec());
    // All of them twice: the second time they are armed, not new.
    vec![
        first.clone(),
        last,
        every(7),
        middle,
        every(1),
        every(1),
        Vec::new(),
        scattered,
        every(64),
        edges,
        first,
    ]
}

/// The guest is one on which the suite can see something.
fn sensible(ground: &dyn Ground) -> Result<(), String> {
    match (written_pages(ground).len() as u64, ground.layout().pages().0) {
        (0, _) => Err("the guest writes none of its pages: the suite can check nothing".into()),
        (some, all) if some == all => {
            Err("the guest writes all of its pages: a report of too much would go unnoticed".into())
        }
        _ => Ok(()),
    }
}

fn exact(ground: &mut dyn Ground) -> Result<Found, String> {
    start(ground)?;
    for wanted in choices(ground) {
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
    // Whoever asks may have had reasons of its own.
    if let Some(page) = pages_of(&ground.layout()).find(|&page| !ground.writes(page)) {
        found.insert(page).and_then(|_| expected.insert(page)).map_err(|error| error.to_string())?;
    }
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
    sensible(ground)?;
    stop(ground)?;
    start(ground)?;
    stop(ground)?;
    stop(ground)?;
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

/// How often a running guest is stopped to be looked at as a whole.
const BURSTS: u64 = 20;

/// What a migration has of the guest.
struct Copy {
    /// By page number.
    contents: Vec<u64>,
    written: Vec<bool>,
    /// Where the next look for writes begins.
    next: usize,
}

/// Pages of a running guest that are looked at before each harvest.
const LOOKED_AT: usize = 64;

/// As a migration does it: everything once, then what is reported, and in the end the rest of a guest that stands still. Now and
/// then it stands still and is compared, because what is lost of a running guest soon is overwritten.
pub(super) fn nothing_lost(ground: &mut dyn Ground, harvests: u64) -> Result<(), String> {
    let layout = ground.layout();
    let written = (0..layout.numbers()).map(|page| ground.writes(PageNumber(page))).collect();
    let mut copy = Copy { contents: vec![0; layout.numbers() as usize], written, next: 0 };
    start(ground)?;
    let bursts = BURSTS.min(harvests).max(1);
    for burst in 0..bursts {
        let share = harvests * (burst + 1) / bursts - harvests * burst / bursts;
        let mut outcome = Ok(());
        ground.while_writing(&mut |running| {
            if burst == 0 {
                pages_of(&layout).for_each(|page| copy.contents[page.0 as usize] = running.content(page));
            }
            let pages: Vec<_> = pages_of(&layout).collect();
            outcome = (0..share).try_for_each(|_| follow(running, &pages, &mut copy));
        });
        outcome?;
        for page in harvest(ground)?.pages() {
            copy.contents[page.0 as usize] = ground.content(page);
        }
        let is_stale = |page: &PageNumber| copy.contents[page.0 as usize] != ground.content(*page);
        let stale: Vec<_> = pages_of(&layout).filter(is_stale).collect();
        if let Some(page) = stale.first() {
            let (so_far, others) = (harvests * (burst + 1) / bursts, stale.len() - 1);
            return Err(format!(
                "after {so_far} harvests the last write to page {page} is missing, and to {others} others"
            ));
        }
    }
    Ok(())
}

/// One harvest of a running guest.
fn follow(running: &mut dyn Running, pages: &[PageNumber], copy: &mut Copy) -> Result<(), String> {
    let mut owed = Vec::new();
    for _ in 0..LOOKED_AT.min(pages.len()) {
        let page = pages[copy.next % pages.len()];
        copy.next += 1;
        if running.settled(page).is_some_and(|content| content != copy.contents[page.0 as usize]) {
            owed.push(page);
        }
    }
    let mut found = PageSet::new(copy.written.len() as u64);
    said(running.harvest(&mut found))?;
    if let Some(page) = owed.into_iter().find(|&page| !found.contains(page)) {
        return Err(format!("page {page} was written while the guest ran and is not in the next harvest"));
    }
    if let Some(page) = found.pages().find(|page| !copy.written[page.0 as usize]) {
        return Err(format!("page {page} was reported and is never written"));
    }
    for page in found.pages() {
        copy.contents[page.0 as usize] = running.content(page);
    }
    Ok(())
}
