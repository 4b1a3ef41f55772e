//! The state of a lab guest as sections, and back.
//!
//! Numbers are little-endian and in a fixed order. What is read comes from a peer: it is checked before anything believes it.
//!
//! | section | version | holds |
//! |---|---|---|
//! | `lab` | 1 | a fingerprint of the configuration |
//! | `vcpu-N` | 1 | writes, generator, time run in nanoseconds, writes given up |
//! | `device` | 1 | blocks written |
//! | `heartbeat` | 1 | beats, late beats, last beat, the longest gaps, in nanoseconds of the host's clock |

use std::time::Duration;

use whimbrel_core::embed::GuestError;
use whimbrel_core::machine::message::Section;

use super::config::LabConfig;
use super::heartbeat::{Gap, Heartbeat};
use super::pace::Pace;
use super::vcpu::VcpuRegisters;

const VERSION: u32 = 1;
const LAB: &str = "lab";
const VCPU: &str = "vcpu-";
const DEVICE: &str = "device";
const HEARTBEAT: &str = "heartbeat";

/// All of a guest that is not memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registers {
    pub(super) vcpus: Vec<VcpuRegisters>,
    /// Blocks that the device has written.
    pub(super) device: u64,
    pub(super) heartbeat: Heartbeat,
}

fn section(kind: String, numbers: impl IntoIterator<Item = u64>) -> Section {
    Section { kind, version: VERSION, bytes: numbers.into_iter().flat_map(u64::to_le_bytes).collect() }
}

/// Takes the numbers of section `kind` out of `sections`.
fn take(sections: &mut Vec<&Section>, kind: &str, name: &'static str) -> Result<Vec<u64>, GuestError> {
    let place = sections.iter().position(|section| section.kind == kind);
    let section = sections.remove(place.ok_or(GuestError::MissingSection { kind: name })?);
    if section.version != VERSION {
        return Err(GuestError::UnknownSection { kind: kind.to_owned(), version: section.version });
    }
    match section.bytes.as_chunks::<8>() {
        (numbers, []) => Ok(numbers.iter().map(|number| u64::from_le_bytes(*number)).collect()),
        _ => Err(damaged(name, format!("{} bytes are no whole numbers", section.bytes.len()))),
    }
}

fn damaged(kind: &'static str, fault: String) -> GuestError {
    GuestError::Damaged { kind, fault }
}

fn fields<const COUNT: usize>(kind: &'static str, numbers: &[u64]) -> Result<[u64; COUNT], GuestError> {
    let wrong = |_| damaged(kind, format!("{} numbers, not {COUNT}", numbers.len()));
    numbers.try_into().map_err(wrong)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Registers {
    /// As sections of a guest with this configuration.
    pub(super) fn write(&self, config: &LabConfig) -> Vec<Section> {
        let vcpu = |(index, vcpu): (usize, &VcpuRegisters)| {
            section(format!("{VCPU}{index}"), [vcpu.writes, vcpu.generator, vcpu.time, vcpu.forgone])
        };
        // How it came here is of this side alone.
        let Heartbeat { beats, last, late, longest, arrival: _ } = &self.heartbeat;
        let gaps = longest.iter().flat_map(|gap| [nanos(gap.ended), nanos(gap.length)]);
        let heartbeat = [*beats, *late, last.map_or(0, nanos)].into_iter().chain(gaps);
        let mut sections = vec![section(LAB.into(), [config.fingerprint()])];
        sections.extend(self.vcpus.iter().enumerate().map(vcpu));
        sections.push(section(DEVICE.into(), [self.device]));
        sections.push(section(HEARTBEAT.into(), heartbeat));
        sections
    }

    /// From sections of a guest with this configuration, in any order.
    pub(super) fn read(config: &LabConfig, sections: &[Section]) -> Result<Self, GuestError> {
        let mut left: Vec<&Section> = sections.iter().collect();
        let [found] = fields(LAB, &take(&mut left, LAB, LAB)?)?;
        if found != config.fingerprint() {
            return Err(damaged(LAB, "it is of a guest with another configuration".into()));
        }
        let mut vcpus = Vec::with_capacity(config.writers.len());
        for (index, writer) in config.writers.iter().enumerate() {
            let numbers = take(&mut left, &format!("{VCPU}{index}"), VCPU)?;
            vcpus.push(read_vcpu(&numbers, &Pace::new(writer))?);
        }
        let [device] = fields(DEVICE, &take(&mut left, DEVICE, DEVICE)?)?;
        let heartbeat = read_heartbeat(&take(&mut left, HEARTBEAT, HEARTBEAT)?)?;
        match left.first() {
            Some(unknown) => {
                Err(GuestError::UnknownSection { kind: unknown.kind.clone(), version: unknown.version })
            }
            None => Ok(Self { vcpus, device, heartbeat }),
        }
    }
}

fn read_vcpu(numbers: &[u64], pace: &Pace) -> Result<VcpuRegisters, GuestError> {
    let [writes, generator, time, forgone] = fields(VCPU, numbers)?;
    // Whoever plays the writes back plays no more than such a writer makes in its time.
    let wanted = pace.wanted(Duration::from_nanos(time)) + 1.0;
    if writes as f64 + forgone as f64 > wanted {
        return Err(damaged(VCPU, format!("{writes} writes, when {wanted:.0} at most were wanted")));
    }
    Ok(VcpuRegisters { writes, generator, time, forgone })
}

fn read_heartbeat(numbers: &[u64]) -> Result<Heartbeat, GuestError> {
    let &[beats, late, last, ref gaps @ ..] = numbers else {
        return Err(damaged(HEARTBEAT, format!("{} numbers", numbers.len())));
    };
    let (gaps, []) = gaps.as_chunks::<2>() else {
        return Err(damaged(HEARTBEAT, "half a gap".into()));
    };
    let nanos = Duration::from_nanos;
    let longest =
        gaps.iter().map(|&[ended, length]| Gap { ended: nanos(ended), length: nanos(length) }).collect();
    Ok(Heartbeat { beats, late, last: (beats > 0).then_some(nanos(last)), longest, arrival: None })
}
