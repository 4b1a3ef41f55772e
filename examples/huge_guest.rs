//! One migration of a 1 TiB guest, for measuring memory: `/usr/bin/time -v target/release/examples/huge_guest`.

use std::collections::BTreeMap;
use std::error::Error;

use whimbrel::core::policy::presets;
use whimbrel::core::units::ByteCount;
use whimbrel::sim::config::{GuestConfig, WriterConfig};
use whimbrel::sim::{Setup, simulate};

fn main() -> Result<(), Box<dyn Error>> {
    let writer =
        WriterConfig { working_set: ByteCount::gib(256), rate: 1_000_000.0, ..WriterConfig::default() };
    let guest = GuestConfig { memory: ByteCount::gib(1024), writers: vec![writer], ..GuestConfig::default() };
    let mut setup = Setup::new(guest, presets::build("qemu-default", &BTreeMap::new())?);
    setup.link.bandwidth = "100Gbit/s".parse()?;
    setup.journal = false;
    let run = simulate(&setup)?;
    println!(
        "{}, {} rounds, {} in {}",
        run.report.outcome,
        run.report.rounds.len(),
        run.report.sent.human(),
        whimbrel::core::units::duration::human(run.report.total),
    );
    Ok(())
}
