//! What moving costs here: idle guests are moved without a limit, and steps are timed one by one.
//!
//! Medians, because a machine has other things to do now and then. Nothing is taken from the moves that are forecast.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use whimbrel_core::dirty::PageSet;
use whimbrel_core::embed::{Guest as _, GuestRam as _};
use whimbrel_core::layout::{Gpa, PageNumber, PageRun};
use whimbrel_core::policy::RateLimit;
use whimbrel_core::report::{Ledger, Outcome};
use whimbrel_core::units::{Bandwidth, ByteCount, Pages, Share};
use whimbrel_engine::clock::SystemClock;
use whimbrel_guest::memory::GuestMemory;
use whimbrel_guest::processor::time_of_this_thread;
use whimbrel_lab::real::ground::Ground;
use whimbrel_lab::real::guest::lab_guest;
use whimbrel_lab::real::here::Here;
use whimbrel_lab::scenario::{PolicySpec, Setup};
use whimbrel_sim::config::GuestConfig;
use whimbrel_wire::pages::{Encoder, PageFrame};

use super::super::failure::Failure;
use super::moving::{Moved, Mover, Wanted};
use super::plan::{Method, Sending};

/// Idle guests that are moved.
const MOVES: usize = 5;

/// Pages that are written to learn what a first write costs.
const WRITES: u64 = 4096;

/// What moving a guest like that of `setup` costs; none if it was stopped.
pub(super) fn measure(
    between: &Mover,
    setup: &Setup,
    sending: Sending,
    stop: &AtomicBool,
) -> Result<Option<Ground>, Failure> {
    let guest = GuestConfig {
        memory: setup.guest.memory,
        page_size: setup.guest.page_size,
        vcpus: setup.guest.vcpus,
        random_content: setup.guest.random_content,
        ..GuestConfig::default()
    };
    let policy = PolicySpec::default();
    let plain = Sending { method: Method::None, delta_cache: 0, ..sending };
    let mut made = Vec::new();
    for seed in 0..MOVES as u64 {
        let wanted = Wanted {
            guest: &guest,
            policy: &policy,
            sending: plain,
            limit: RateLimit::Unlimited,
            time_limit: Duration::from_mins(1),
            seed,
            journal: None,
        };
        let Some(moved) = between.make(&wanted, stop)? else { return Ok(None) };
        if moved.report.outcome != Outcome::Completed {
            let why = anyhow::anyhow!("an idle guest could not be moved: {}", moved.report.why);
            return Err(Failure::Failed(why));
        }
        made.push(moved);
    }
    Ok(Some(ground(between, &guest, (sending, setup.link.bandwidth), &made)?))
}

fn ground(
    between: &Mover,
    guest: &GuestConfig,
    (sending, link): (Sending, Bandwidth),
    made: &[Moved],
) -> Result<Ground, Failure> {
    let ledger = |of: fn(&Ledger) -> Duration| median(made.iter().map(|moved| of(&moved.report.downtime)));
    let there = |of: fn(&super::destination::Ledger) -> f64| {
        let found = made.iter().filter_map(|moved| moved.found.as_ref());
        median(found.map(|found| Duration::try_from_secs_f64(of(&found.ledger) / 1e3).unwrap_or_default()))
    };
    let page = median(made.iter().filter_map(|moved| {
        let bulk = moved.report.rounds.first()?;
        let pages = bulk.sent_pages.0 * guest.page_size.bytes().0 / 4096;
        Some(bulk.length.div_f64(pages.max(1) as f64))
    }));
    let steps = Steps::timed(between, guest, sending, link)?;
    let round_trip = ledger(|ledger| ledger.transfer);
    Ok(Ground {
        memory: guest.memory,
        // A page takes time, if it was sent at all.
        page: page.max(Duration::from_nanos(1)),
        harvest: ledger(|ledger| ledger.harvest),
        begin: median(
            made.iter().filter_map(|moved| Some(moved.report.rounds.first()?.started.since(moved.began))),
        ),
        tracking_fault: steps.tracking_fault,
        zero_page: steps.zero_page,
        pause: ledger(|ledger| ledger.pause),
        save: ledger(|ledger| ledger.save),
        restore: there(|ledger| ledger.restore_ms),
        resume: there(|ledger| ledger.resume_ms),
        persist: persisting(ledger(|ledger| ledger.commit), round_trip, there(|ledger| ledger.persist_ms)),
        round_trip,
        state: steps.state,
        compression: steps.compression,
    })
}

/// A record's writing: the mean of the source's, which is in `commit` beside the way of *go*, and of the destination's.
fn persisting(commit: Duration, round_trip: Duration, there: Duration) -> Duration {
    (commit.saturating_sub(round_trip / 2) + there) / 2
}

/// The one in the middle; none is zero.
fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Steps that are timed one by one, on a guest that is not moved.
struct Steps {
    tracking_fault: Duration,
    zero_page: Duration,
    state: ByteCount,
    compression: Option<(Share, Bandwidth)>,
}

impl Steps {
    fn timed(
        between: &Mover,
        guest: &GuestConfig,
        sending: Sending,
        link: Bandwidth,
    ) -> Result<Self, Failure> {
        let lab = lab_guest(guest, 0).map_err(Failure::bad_input)?;
        let Here { memory, mut log, guest: mut lab, .. } =
            Here::new(guest, lab, between.backing, between.log).map_err(Failure::failed)?;
        let compression = match sending.method {
            Method::None => None,
            _ => Some(compressed(&memory, sending, link)?),
        };
        let zero_page = zero_page(between, guest, sending)?;
        let pages = memory.layout().pages().0.min(WRITES);
        let write_all = || -> Result<Duration, Failure> {
            // In processor time: where this thread is kept from its processor, that is no cost of writing, and may be more than all of it.
            let before = time_of_this_thread();
            for page in 0..pages {
                let at = memory.layout().address_of(PageNumber(page)).unwrap_or(Gpa(0));
                memory.write(at, &[1]).map_err(Failure::failed)?;
            }
            Ok(time_of_this_thread().saturating_sub(before))
        };
        log.start().map_err(Failure::failed)?;
        let mut found = PageSet::new(memory.layout().numbers());
        let (mut first, mut later) = (Vec::new(), Vec::new());
        for _ in 0..MOVES {
            log.harvest(&mut found).map_err(Failure::failed)?;
            first.push(write_all()?);
            later.push(write_all()?);
        }
        log.stop().map_err(Failure::failed)?;
        let (first, later) = (median(first.into_iter()), median(later.into_iter()));
        let tracking_fault = first.saturating_sub(later).div_f64(pages.max(1) as f64);
        let state = lab.save().map_err(Failure::failed)?;
        let state = state.iter().map(|section| (section.bytes.len() + section.kind.len()) as u64).sum();
        Ok(Self { tracking_fault, zero_page, state: ByteCount(state), compression })
    }
}

/// Pages of a batch.
const BATCH: u64 = 64;

/// What is left of the guest's pages, and bytes of pages a second by one thread; of an encoder that chooses, where a stream has its
/// part of `link`.
fn compressed(
    memory: &GuestMemory,
    sending: Sending,
    link: Bandwidth,
) -> Result<(Share, Bandwidth), Failure> {
    let share = Bandwidth::new((link.bytes_per_second() / u64::from(sending.streams.max(1))).max(1));
    let (bytes, took) = encoded(memory, Sending { delta_cache: 0, ..sending }, share)?;
    let whole = memory.layout().bytes();
    let speed = Bandwidth::measured(whole, took).unwrap_or(Bandwidth::FASTEST);
    let ratio = Share::new((bytes as f64 / whole.as_f64()).min(1.0)).unwrap_or(Share::ONE);
    Ok((ratio, speed))
}

/// What finding out takes that a page is zero and was never touched, streams working side by side as far as there are cores.
fn zero_page(between: &Mover, guest: &GuestConfig, sending: Sending) -> Result<Duration, Failure> {
    let zero = GuestConfig { zero_pages: Share::ONE, ..guest.clone() };
    let lab = lab_guest(&zero, 0).map_err(Failure::bad_input)?;
    let Here { memory, mut log, .. } =
        Here::new(&zero, lab, between.backing, between.log).map_err(Failure::failed)?;
    // As in a move: a page that was never touched is found with its fault, which costs more where writes are tracked.
    log.start().map_err(Failure::failed)?;
    let (_, took) = encoded(&memory, Sending { method: Method::None, delta_cache: 0, ..sending }, None)?;
    log.stop().map_err(Failure::failed)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = usize::from(sending.streams).min(cores);
    Ok(took.div_f64((memory.layout().pages().0.max(1) * threads as u64) as f64))
}

/// Bytes that all of memory becomes, and how long one thread takes for that.
fn encoded(
    memory: &GuestMemory,
    sending: Sending,
    bandwidth: Option<Bandwidth>,
) -> Result<(u64, Duration), Failure> {
    let layout = memory.layout();
    let clock = SystemClock::start();
    let encoder = Encoder::new(&sending.encoder(), layout.page_size()).map_err(Failure::failed)?;
    let mut encoder = encoder.with_clock(Box::new(move || clock.worked()));
    encoder.set_bandwidth(bandwidth);
    let (mut frame, mut bytes) = (PageFrame::default(), 0);
    let begun = Instant::now();
    let pages = layout.pages().0;
    for first in (0..pages).step_by(BATCH as usize) {
        let run = PageRun { first: PageNumber(first), count: Pages(BATCH.min(pages - first)) };
        bytes += encoder.encode(&[run], memory, &mut frame).map_err(Failure::failed)?.bytes.0;
    }
    Ok((bytes, begun.elapsed()))
}
