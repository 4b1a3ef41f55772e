//! The lab guest that does what a scenario's guest is said to do.

use std::ops::Range;

use whimbrel_guest::lab::config::{LabConfig, Pattern, Writer};
use whimbrel_sim::config::{GuestConfig, Pattern as SimPattern, WriterConfig};

/// What a scenario's guest does and the lab guest cannot.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// A pattern that is only simulated.
    #[error(
        "guest.writers.{writer}.pattern = \"{pattern}\" is only simulated; the lab guest writes `uniform`, `sequential`, \
         `hot-cold` and `zipf`, or is `idle`"
    )]
    Pattern {
        /// Which writer.
        writer: usize,
        /// As in the scenario.
        pattern: String,
    },
    /// Writes that change nothing.
    #[error(
        "guest.unchanged-pages = {share} is only simulated: each write of the lab guest changes its page"
    )]
    UnchangedPages {
        /// As in the scenario.
        share: f64,
    },
    /// Fewer vCPUs than threads want.
    #[error(
        "guest.vcpus = {vcpus} for {writers} writers that need {need:.2}: in the lab guest each has a vCPU of its own, so accepted \
         are at least as many as they need"
    )]
    Vcpus {
        /// As in the scenario.
        vcpus: u32,
        /// Writers that write.
        writers: usize,
        /// vCPUs that they keep busy.
        need: f64,
    },
}

/// The lab guest for `config`, which was checked; `seed` decides what it holds and where it writes.
///
/// # Errors
///
/// What of it is only simulated.
pub fn lab_guest(config: &GuestConfig, seed: u64) -> Result<LabConfig, Unsupported> {
    if config.unchanged_pages.as_f64() > 0.0 {
        return Err(Unsupported::UnchangedPages { share: config.unchanged_pages.as_f64() });
    }
    let sets = config.working_sets().into_iter().zip(&config.writers).enumerate();
    let writers: Vec<Writer> =
        sets.filter_map(|(index, (set, writer))| lab_writer(index, writer, set)).collect::<Result<_, _>>()?;
    let need: f64 = config.writers.iter().map(busy).sum();
    if writers.len() > config.vcpus as usize && need > f64::from(config.vcpus) {
        return Err(Unsupported::Vcpus { vcpus: config.vcpus, writers: writers.len(), need });
    }
    let GuestConfig { zero_pages, random_content, .. } = *config;
    Ok(LabConfig { seed, writers, zero_pages, random_content, ..LabConfig::default() })
}

/// The part of a vCPU that a writer uses at its highest rate.
fn busy(writer: &WriterConfig) -> f64 {
    let rates = writer.phases.iter().map(|phase| phase.rate);
    let rate = if writer.phases.is_empty() { writer.rate } else { rates.fold(0.0, f64::max) };
    if writer.pattern == SimPattern::Idle { 0.0 } else { (rate * writer.write_cost.as_secs_f64()).min(1.0) }
}

/// A vCPU; none for a writer that never writes.
fn lab_writer(index: usize, writer: &WriterConfig, set: Range<u64>) -> Option<Result<Writer, Unsupported>> {
    let pattern = match writer.pattern {
        SimPattern::Uniform => Pattern::Uniform,
        SimPattern::Sequential => Pattern::Sequential,
        SimPattern::HotCold => {
            Pattern::HotCold { hot_pages: writer.hot_pages, hot_writes: writer.hot_writes }
        }
        SimPattern::Zipf => Pattern::Zipf { exponent: writer.exponent },
        SimPattern::Idle => return None,
        SimPattern::Measured => return Some(Err(only_simulated(index, "measured"))),
        SimPattern::Trace => return Some(Err(only_simulated(index, "trace"))),
    };
    Some(Ok(Writer {
        pattern,
        pages: set,
        rate: writer.rate,
        phases: writer.phases.iter().map(|phase| (phase.length, phase.rate)).collect(),
        start: writer.start,
        end: writer.end,
        write_cost: writer.write_cost,
        catch_up: writer.catch_up,
    }))
}

fn only_simulated(writer: usize, pattern: &str) -> Unsupported {
    Unsupported::Pattern { writer, pattern: pattern.to_owned() }
}
