//! The guest in the mean: how often its writers wrote, and how memory is divided between them.
//!
//! For the fluid simulation, which asks what the exact one draws: how many pages are expected to be dirty.
//! Paces, throttles, pauses and accounts are those of every guest; what is missing is where single pages
//! lie, so nothing can be drawn.

use std::ops::Range;

use rand_core::SeedableRng as _;
use whimbrel_core::layout::{LayoutError, PageRun, RamLayout};
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::{Pages, Share, Timestamp};

use super::shape::Shape;
use super::writer::Writer;
use super::zero::{ZeroMap, free_runs};
use super::zipf::Group;
use super::{Generator, Guest};
use crate::config::{ConfigError, GuestConfig, ZeroPlacement};

/// Neighbouring pages that the same writers write to in the same way, or that nobody does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Piece {
    pub(crate) pages: Range<f64>,
    /// Which of the layers lie on it.
    pub(crate) layers: Range<u32>,
    /// The share of zero pages, evenly spread.
    pub(crate) zero: f64,
}

/// What one writer does to a piece.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Layer {
    /// Which writer.
    pub(crate) writer: u32,
    pub(crate) form: Form,
}

/// How writes are spread over a piece.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    /// Each page gets this share of the writer's writes.
    Even(f64),
    /// Pages of the groups of the writer's law, mixed.
    Mixed,
    /// In turn, once in so many writes; where the writer stands is anywhere.
    InTurn(f64),
}

/// What is needed to find out how memory is divided, kept for the next time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Division {
    /// Parts of working sets, with their writers.
    bands: Vec<(u32, Range<u64>, Form)>,
    edges: Vec<u64>,
}

impl Guest {
    /// The guest that `config`, which must be valid, describes, in the mean.
    ///
    /// # Errors
    ///
    /// If its memory can't be numbered.
    pub(crate) fn expected(config: &GuestConfig) -> Result<Self, ConfigError> {
        let layout = RamLayout::contiguous(config.memory, config.page_size);
        let layout = layout.map_err(|error| not_numbered(config, &error))?;
        let mut writers = Vec::with_capacity(config.writers.len());
        config.for_each_working_set(|writer, set| writers.extend(Writer::in_the_mean(writer, &set)));
        Ok(Self::with(config, layout, ZeroMap::empty(), writers, Generator::seed_from_u64(0)))
    }

    /// Makes it what [`Guest::expected`] gives, in the memory that it has.
    ///
    /// # Errors
    ///
    /// As [`Guest::expected`].
    pub(crate) fn expect_anew(&mut self, config: &GuestConfig) -> Result<(), ConfigError> {
        let laid_out = self.layout.lay_out_contiguous(config.memory, config.page_size);
        laid_out.map_err(|error| not_numbered(config, &error))?;
        let mut count = 0;
        config.for_each_working_set(|writer, set| {
            if let Some(old) = self.writers.get_mut(count) {
                count += usize::from(old.become_in_the_mean(writer, &set));
            } else {
                self.writers.extend(Writer::in_the_mean(writer, &set));
                count = self.writers.len();
            }
        });
        self.writers.truncate(count);
        self.vcpus = config.vcpus;
        self.unchanged.0 = config.unchanged_pages;
        self.begin();
        Ok(())
    }

    /// How many writers write.
    pub(crate) fn writers(&self) -> usize {
        self.writers.len()
    }

    /// The most writes a second that a writer ever wants.
    pub(crate) fn peak(&self, writer: usize) -> f64 {
        self.writers.get(writer).map_or(0.0, Writer::peak)
    }

    /// Adds to `counts` how often each writer has written up to `now`.
    pub(crate) fn count_writes(&mut self, now: Timestamp, counts: &mut Vec<f64>) {
        self.advance(now);
        let (clock, held) = (self.clock, self.held);
        counts.extend(self.writers.iter_mut().map(|writer| writer.writes(clock, &held)));
    }

    /// The dirty log is fetched and cleared at `now`: adds to `counts` how often each writer has written.
    /// [`Guest::found`] must follow.
    #[inline(always)]
    pub(crate) fn fetch(&mut self, now: Timestamp, counts: &mut Vec<f64>) {
        if self.held.hinders() {
            return self.fetch_hindered(now, counts);
        }
        // The usual case: no account is to be settled.
        self.clock = self.clock.max(now.as_nanos());
        self.lost_since = self.clock;
        for writer in &mut self.writers {
            writer.go_on(self.clock, &self.held);
            writer.clean();
            counts.push(writer.made());
        }
    }

    /// Lets it run again, neither tracked nor slowed, as at the destination. To stop
    /// tracking, lift the throttle and resume one after the other gives the same; but of a guest that stands still and was
    /// tracked the accounts are settled once.
    pub(crate) fn resume_free(&mut self, now: Timestamp) {
        self.stop_tracking(now);
        if self.is_paused() && self.clock == now.as_nanos() && self.lost_since == self.clock {
            self.lift_throttle();
            self.held.paused = false;
            self.plan_correction();
        } else {
            self.set_throttle(now, Throttle::Off);
            self.resume(now);
        }
    }

    /// The same where writers are held up.
    #[inline(never)]
    fn fetch_hindered(&mut self, now: Timestamp, counts: &mut Vec<f64>) {
        self.change(now);
        counts.extend(self.writers.iter().map(Writer::made));
        self.writers.iter_mut().for_each(Writer::clean);
        if self.held.limited {
            self.writers.iter_mut().for_each(Writer::empty_ring);
        }
    }

    /// So many pages were found dirty; gives how many of them hold the same as before.
    pub(crate) fn found(&mut self, dirty: f64) -> f64 {
        self.faults += dirty * self.held.fault;
        dirty * self.unchanged.0.as_f64()
    }

    /// The groups of a writer's law.
    pub(crate) fn groups(&self, writer: u32) -> &[Group] {
        match self.writers.get(writer as usize).map(Writer::shape) {
            Some(Shape::Zipf(zipf)) => zipf.groups(),
            _ => &[],
        }
    }

    /// Of a writer with a law, its pages, the shares of writes that the `first` hottest get, and the groups behind them.
    pub(crate) fn ranks(&self, writer: usize, first: u64) -> Option<(Range<u64>, Vec<f64>, Vec<Group>)> {
        let Shape::Zipf(zipf) = self.writers.get(writer)?.shape() else { return None };
        let ((start, end), (hottest, behind)) = (zipf.extent(), zipf.ranks(first));
        Some((start..end, hottest, behind))
    }

    /// Divides memory into pieces, in order and without gaps; `zero_runs` are its zero pages, if they are
    /// known better than by the configuration.
    ///
    /// # Errors
    ///
    /// If a run of zero pages is outside memory or touches a working set.
    pub(crate) fn pieces(
        &self,
        config: &GuestConfig,
        zero_runs: Option<&[PageRun]>,
        (pieces, layers): (&mut Vec<Piece>, &mut Vec<Layer>),
        Division { bands, edges }: &mut Division,
    ) -> Result<(), ConfigError> {
        let pages = self.layout.pages().0;
        pieces.clear();
        layers.clear();
        bands.clear();
        edges.clear();
        for (index, writer) in (0..).zip(&self.writers) {
            add_bands(index, writer, bands);
        }
        edges.push(0);
        edges.extend(bands.iter().flat_map(|(_, band, _)| [band.start, band.end]));
        edges.push(pages);
        let (zeroes, share) = zero_pages(config, pages, zero_runs, edges)?;
        // Mostly they are in order.
        if !edges.is_sorted() {
            edges.sort_unstable();
        }
        edges.dedup();
        for pair in edges.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            let first = layers.len() as u32;
            let here = bands.iter().filter(|(_, band, _)| band.start <= from && to <= band.end);
            layers.extend(here.map(|&(writer, _, form)| Layer { writer, form }));
            let end = layers.len() as u32;
            let zero = match &zeroes {
                Some(runs) => f64::from(u8::from(runs.iter().any(|run| run.start <= from && to <= run.end))),
                None if end > first => 0.0,
                None => share,
            };
            pieces.push(Piece { pages: from as f64..to as f64, layers: first..end, zero });
        }
        Ok(())
    }
}

#[cold]
fn not_numbered(config: &GuestConfig, error: &LayoutError) -> ConfigError {
    let memory = format!("{} ({error})", config.memory);
    ConfigError::new("guest.memory", memory, "memory that can be numbered")
}

/// Adds the parts of a writer's working set.
fn add_bands(index: u32, writer: &Writer, to: &mut Vec<(u32, Range<u64>, Form)>) {
    match writer.shape() {
        Shape::Bands(bands) => {
            let part = |band: &super::shape::Band| (index, band.pages.clone(), Form::Even(band.weight));
            to.extend(bands.iter().map(part));
        }
        Shape::Cycle(set, _) => to.push((index, set.clone(), Form::InTurn((set.end - set.start) as f64))),
        Shape::Zipf(zipf) => {
            let (start, end) = zipf.extent();
            to.push((index, start..end, Form::Mixed));
        }
        Shape::Replay(_) | Shape::Measured(_) => {}
    }
}

/// Runs that are zero, if it is known which; and the share of zero pages where it is not.
type ZeroPages = (Option<Vec<Range<u64>>>, f64);

/// Runs that are zero, if they are known; else the share of zero pages outside of all working sets.
fn zero_pages(
    config: &GuestConfig,
    pages: u64,
    zero_runs: Option<&[PageRun]>,
    edges: &mut Vec<u64>,
) -> Result<ZeroPages, ConfigError> {
    let runs = match (zero_runs, config.zero_placement) {
        (Some(runs), _) => ZeroMap::runs(pages, &config.working_sets(), runs)?,
        (None, _) if config.zero_pages == Share::ZERO => return Ok((None, 0.0)),
        (None, placement) => {
            let written = config.written_pages().min(pages);
            let count = config.zero_pages.of(Pages(pages)).0.min(pages - written);
            if count == 0 || placement == ZeroPlacement::Spread {
                let free = (pages - written).max(1);
                return Ok((None, count as f64 / free as f64));
            }
            ZeroMap::last(&free_runs(pages, &config.working_sets()), count)
        }
    };
    edges.extend(runs.iter().flat_map(|run| [run.start, run.end]));
    Ok((Some(runs), 0.0))
}
