//! Whether what is wanted can be kept, and what would do: found by running the simulator, not by a formula.
//!
//! "Kept" means in at least 19 of 20 runs over the uncertainty of the inputs. What would do is bisected: the least
//! bandwidth, and the least throttle from the beginning, with which one of the likeliest policies keeps it. Bisection
//! takes it that more of either never harms.

use serde::Serialize;
use whimbrel_core::units::{Bandwidth, CpuShare};

use super::inputs::scale_link;
use super::slowed::Slowed;
use super::{Options, PolicyForecast, runs};
use crate::compare::{CompareError, Contender};
use crate::scenario::Setup;

/// The share of runs that have to keep what is wanted.
const ENOUGH: f64 = 0.95;

/// Runs of each step of the search.
const RUNS: u32 = 40;

/// How many policies the search tries: those that are nearest to keeping it.
const TRIED: usize = 3;

/// How many times the scenario's bandwidth is tried at most, and its inverse at least.
const WIDEST: f64 = 64.0;

/// How near bisection comes to the least bandwidth: 2 %.
const PRECISE: f64 = 1.02;

/// Whether what is wanted can be kept, and what would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The policies that keep it, the surest first.
    pub keep: Vec<String>,
    /// The policy that comes nearest, and in which share of its runs.
    pub nearest: Option<(String, f64)>,
    /// The least bandwidth of the link at its beginning with which it is kept, bits a second, and by whom. Below the
    /// scenario's if it is kept already. None: none that was tried.
    pub bandwidth_bits_per_s: Option<(f64, String)>,
    /// The least share of CPU that a throttle has to take from the beginning, and with whom; none if none is needed or
    /// none is enough.
    pub throttle: Option<(f64, String)>,
}

/// Finds it.
pub(super) fn verdict(
    setup: &Setup,
    contenders: &[Contender],
    forecasts: &[PolicyForecast],
    options: &Options<'_>,
) -> Result<Verdict, CompareError> {
    let mut order: Vec<usize> = (0..forecasts.len()).collect();
    // Of equals the one that pauses the guest for the shorter time.
    let downtime = |at: &usize| forecasts[*at].downtime_s.p50.unwrap_or(f64::INFINITY);
    order.sort_by(|a, b| {
        forecasts[*b].keeps.total_cmp(&forecasts[*a].keeps).then(downtime(a).total_cmp(&downtime(b)))
    });
    let keep: Vec<String> = order
        .iter()
        .filter(|at| forecasts[**at].keeps >= ENOUGH)
        .map(|at| forecasts[*at].policy.clone())
        .collect();
    let nearest = order.first().map(|at| (forecasts[*at].policy.clone(), forecasts[*at].keeps));
    let tried: Vec<&Contender> = order.iter().take(TRIED).map(|at| &contenders[*at]).collect();
    let bandwidth = least_bandwidth(setup, &tried, options, !keep.is_empty())?;
    let throttle = if keep.is_empty() { least_throttle(setup, &tried, options)? } else { None };
    Ok(Verdict { keep, nearest, bandwidth_bits_per_s: bandwidth, throttle })
}

/// Whether one of the policies keeps what is wanted; the first that does.
fn kept_by<'a>(
    setup: &Setup,
    tried: &'a [&'a Contender],
    options: &Options<'_>,
    changed: impl Fn(&Contender) -> Contender,
) -> Result<Option<&'a Contender>, CompareError> {
    for contender in tried {
        let figures = runs(setup, &changed(contender), options, RUNS)?;
        let kept = figures.iter().filter(|figures| options.kept(figures)).count();
        if kept as f64 >= ENOUGH * f64::from(RUNS) {
            return Ok(Some(contender));
        }
    }
    Ok(None)
}

fn least_bandwidth(
    setup: &Setup,
    tried: &[&Contender],
    options: &Options<'_>,
    kept: bool,
) -> Result<Option<(f64, String)>, CompareError> {
    let at = |factor: f64| {
        let mut scaled = setup.clone();
        scale_link(&mut scaled, factor);
        let who = kept_by(&scaled, tried, options, Contender::clone)?;
        Ok::<_, CompareError>(who.map(|who| (scaled.link.bandwidth.as_f64() * 8.0, who.name.clone())))
    };
    let (mut low, mut high) = if kept { (1.0 / WIDEST, 1.0) } else { (1.0, WIDEST) };
    // The two ends first: at one it may be kept already, at the other it may not be even then.
    if let Some(found) = at(low)? {
        return Ok(Some(found));
    }
    let mut best = at(high)?;
    while best.is_some() && high / low > PRECISE {
        let middle = (low * high).sqrt();
        match at(middle)? {
            Some(found) => (best, high) = (Some(found), middle),
            None => low = middle,
        }
    }
    Ok(best)
}

fn least_throttle(
    setup: &Setup,
    tried: &[&Contender],
    options: &Options<'_>,
) -> Result<Option<(f64, String)>, CompareError> {
    let at = |percent: u32| {
        let share = CpuShare::percent(percent as u8);
        let slowed = |contender: &Contender| Contender {
            policy: Box::new(Slowed { inner: contender.policy.clone(), share, begun: false }),
            ..contender.clone()
        };
        let who = kept_by(setup, tried, options, slowed)?;
        Ok::<_, CompareError>(who.map(|who| (f64::from(percent) / 100.0, who.name.clone())))
    };
    // QEMU takes at most 99 %.
    let (mut low, mut high) = (0, 99);
    let mut best = at(high)?;
    while best.is_some() && high - low > 1 {
        let middle = u32::midpoint(low, high);
        match at(middle)? {
            Some(found) => (best, high) = (Some(found), middle),
            None => low = middle,
        }
    }
    Ok(best)
}

impl Verdict {
    /// The verdict in words.
    pub(super) fn words(&self, setup: &Setup, options: &Options<'_>) -> String {
        let wanted = wanted(options);
        let here = setup.link.bandwidth.human();
        let width =
            |bits: f64| Bandwidth::new((bits / 8.0) as u64).map_or_else(String::new, Bandwidth::human);
        if let Some(first) = self.keep.first() {
            let others = match self.keep.len() - 1 {
                0 => String::new(),
                1 => ", and 1 other policy does".to_owned(),
                others => format!(", and {others} other policies do"),
            };
            let least = match &self.bandwidth_bits_per_s {
                None => String::new(),
                // Within 1 % of the scenario's.
                Some((bits, _)) if *bits > setup.link.bandwidth.as_f64() * 7.92 => {
                    "; hardly less would do".to_owned()
                }
                Some((bits, who)) => format!("; {} would still do ({who})", width(*bits)),
            };
            return format!("{first} {wanted} at {here}{others}{least}");
        }
        let nearest = self.nearest.as_ref().map_or_else(String::new, |(who, share)| {
            format!(" (nearest: {who}, in {:.0} % of the runs)", share * 100.0)
        });
        let wider = self.bandwidth_bits_per_s.as_ref().map(|(bits, who)| format!("{} ({who})", width(*bits)));
        let slower =
            self.throttle.as_ref().map(|(share, who)| format!("a {:.0} % throttle ({who})", share * 100.0));
        let would = match (wider, slower) {
            (Some(wider), Some(slower)) => format!("{wider} or {slower} would do"),
            (Some(one), None) => format!("{one} would do, and no throttle"),
            (None, Some(one)) => {
                let most = width(setup.link.bandwidth.as_f64() * 8.0 * WIDEST);
                format!("{one} would do, and no bandwidth up to {most}")
            }
            (None, None) => {
                let most = width(setup.link.bandwidth.as_f64() * 8.0 * WIDEST);
                format!("neither a bandwidth of up to {most} nor a throttle would do")
            }
        };
        let cannot = wanted.replacen("stays", "no policy stays", 1);
        format!("{cannot} at {here}{nearest}; {would}")
    }
}

/// `stays below 300 ms`, and within what time.
fn wanted(options: &Options<'_>) -> String {
    use whimbrel_core::units::duration::human;
    let deadline =
        options.deadline.map_or_else(String::new, |time| format!(" and ends within {}", human(time)));
    format!("stays below {}{deadline}", human(options.downtime))
}
