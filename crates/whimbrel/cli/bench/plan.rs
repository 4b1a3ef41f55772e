//! What a cell asks of the engine, and what of it cannot be.

use std::fmt;

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use whimbrel_core::units::{Bandwidth, ByteCount};
use whimbrel_guest::memory::available;
use whimbrel_lab::real::guest::lab_guest;
use whimbrel_lab::scenario::{Cell, Grid, Scenario, ScenarioError, Setup};
use whimbrel_sim::config::HostConfig;
use whimbrel_wire::pages::{Compression, EncoderConfig, Encoding, Encodings};

use super::super::failure::Failure;
use super::super::live::offered;

/// The most streams that the engine has.
const STREAMS: u32 = 64;

/// The key that names encodings.
const METHOD: &str = "host.compression.method";
/// The keys about encodings; with the point behind them.
const COMPRESSION: &str = "host.compression.";

/// How pages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Method {
    None,
    Lz4,
    Zstd,
    Adaptive,
}

/// How a guest is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Sending {
    pub(super) streams: u16,
    pub(super) method: Method,
    /// Memory for pages as they were sent last; zero: no deltas.
    pub(super) delta_cache: u64,
}

impl fmt::Display for Sending {
    /// How pages are encoded, for tables.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = match self.method {
            Method::None => "plain",
            Method::Lz4 => "lz4",
            Method::Zstd => "zstd",
            Method::Adaptive => "adaptive",
        };
        match (self.method, self.delta_cache) {
            (_, 0) => f.write_str(method),
            (Method::None, _) => f.write_str("delta"),
            _ => write!(f, "{method} and delta"),
        }
    }
}

impl Sending {
    /// As a cell says it.
    pub(super) fn of(setup: &Setup) -> Result<Self, String> {
        let HostConfig { streams, compression, xbzrle, .. } = &setup.host;
        let Some(streams) = u16::try_from(*streams).ok().filter(|_| *streams <= STREAMS) else {
            return Err(format!("host.streams = {streams}: the engine has 1 to {STREAMS}"));
        };
        let method = match compression.method.as_str() {
            "none" => Method::None,
            "lz4" => Method::Lz4,
            "zstd" => Method::Zstd,
            "adaptive" => Method::Adaptive,
            other => return Err(format!("{METHOD} = {other:?}: accepted are none, lz4, zstd, adaptive")),
        };
        let delta_cache = xbzrle.cache.map_or(0, |cache| cache.0);
        Ok(Self { streams, method, delta_cache })
    }

    pub(super) fn encoder(self) -> EncoderConfig {
        let mut config = EncoderConfig::default();
        let (encodings, compression) = match self.method {
            Method::None => (Encodings::PLAIN, Compression::Off),
            Method::Lz4 => (Encodings::PLAIN.with(Encoding::Lz4), Compression::Lz4),
            Method::Zstd => (Encodings::PLAIN.with(Encoding::Zstd), Compression::Zstd),
            Method::Adaptive => (Encodings::available().without(Encoding::Delta), Compression::Adaptive),
        };
        config.encodings = encodings;
        config.compression = compression;
        if self.delta_cache > 0 {
            config.encodings = config.encodings.with(Encoding::Delta);
            config.delta_cache = ByteCount(self.delta_cache);
        }
        config
    }
}

/// What moving costs depends on this of a cell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Key {
    memory: u64,
    page_size: u64,
    /// In millionths.
    random_content: u64,
    sending: Sending,
    /// What an encoder that chooses weighs its work against; none of others.
    link: Option<Bandwidth>,
}

impl Key {
    pub(super) fn of(setup: &Setup, sending: Sending) -> Self {
        let guest = &setup.guest;
        let link = (sending.method == Method::Adaptive).then_some(setup.link.bandwidth);
        let random_content = (guest.random_content.as_f64() * 1e6) as u64;
        Self { memory: guest.memory.0, page_size: guest.page_size.bytes().0, random_content, sending, link }
    }

    /// As entries of a TOML table: of what a ground is.
    pub(super) fn to_toml(&self) -> String {
        let Self { memory, page_size, random_content, sending, link } = self;
        let link = link.map_or_else(String::new, |link| format!("of.bandwidth = \"{link}\"\n"));
        format!(
            "of.memory = \"{}\"\nof.page-size = \"{}\"\nof.random-content = {:?}\nof.streams = {}\nof.encoding = \"{sending}\"\n\
             of.delta-cache = \"{}\"\n{link}",
            ByteCount(*memory),
            ByteCount(*page_size),
            *random_content as f64 / 1e6,
            sending.streams,
            ByteCount(sending.delta_cache),
        )
    }
}

/// Says that pages go plain, where the matrix says nothing of encodings: the simulator's method has a name by default, and is not used
/// without a ratio.
pub(super) fn say_how(scenario: &mut Scenario) -> Result<(), ScenarioError> {
    let swept = scenario.axes().iter().any(|axis| axis.key.starts_with(COMPRESSION));
    if swept || scenario.says(METHOD) || scenario.setup().host.compression.ratio.is_some() {
        return Ok(());
    }
    scenario.apply_overrides(&[format!("{METHOD}=none")])
}

/// A cell that cannot be.
pub(super) fn wrong(cell: &Cell, what: &str) -> Failure {
    let values = cell.overrides().join(" ");
    let place = if values.is_empty() { String::new() } else { format!("cell {} ({values}): ", cell.index) };
    Failure::BadInput(anyhow!("{place}{what}"))
}

/// Whether every cell of the matrix in this file can be moved here.
pub(super) fn check(grid: &Grid, file: &str) -> Result<(), Failure> {
    for index in 0..grid.cells() {
        let cell = grid.cell(index).map_err(Failure::bad_input)?;
        check_cell(&cell).map_err(|what| match wrong(&cell, &what) {
            Failure::BadInput(error) => Failure::BadInput(error.context(file.to_owned())),
            other => other,
        })?;
    }
    Ok(())
}

fn check_cell(cell: &Cell) -> Result<(), String> {
    let Setup { guest, link, policy, run, .. } = &cell.setup;
    Sending::of(&cell.setup)?;
    lab_guest(guest, run.seed).map_err(|error| error.to_string())?;
    if !link.changes.is_empty() || !link.outages.is_empty() || link.lost_at.is_some() {
        return Err("link.changes, link.outages and link.lost-at are only simulated: the link here is the engine's limit".to_owned());
    }
    offered::suffices(policy)?;
    let both = ByteCount(guest.memory.0.saturating_mul(2));
    match available().filter(|available| both > *available) {
        Some(available) => Err(format!(
            "guest.memory = {}: source and destination need it both, and {} are free on this machine",
            guest.memory,
            available.human()
        )),
        None => Ok(()),
    }
}
