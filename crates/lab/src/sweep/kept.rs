//! Records of cells as they are kept while a sweep is not finished: numbers without names, the same on every machine.

use std::io::{self, Read};

use super::cell::{CellRecord, Levels, Spread};
use super::values::{outcome_in_file, outcome_of_file};

/// What of a spread is there.
const NOTHING: u8 = 0;
const MIDDLE: u8 = 1;
const LEVELS: u8 = 2;

/// Adds a record.
pub(super) fn store(record: &CellRecord, into: &mut Vec<u8>) {
    into.extend_from_slice(&record.cell.to_le_bytes());
    into.extend_from_slice(&record.runs.to_le_bytes());
    into.extend_from_slice(&record.representative.to_le_bytes());
    into.extend_from_slice(&record.converged.to_le_bytes());
    into.push(record.outcomes.len() as u8);
    for (outcome, count) in &record.outcomes {
        into.push(outcome_in_file(*outcome));
        into.extend_from_slice(&count.to_le_bytes());
    }
    for spread in record.spreads() {
        store_spread(&spread, into);
    }
}

/// The next record that was stored; none at the end.
pub(super) fn load(from: &mut impl Read) -> io::Result<Option<CellRecord>> {
    let mut cell = [0; 8];
    // A file ends between two records.
    match from.read(&mut cell[..1])? {
        0 => return Ok(None),
        _ => from.read_exact(&mut cell[1..])?,
    }
    let (runs, representative) = (u32::from_le_bytes(bytes(from)?), u32::from_le_bytes(bytes(from)?));
    let converged = f64::from_le_bytes(bytes(from)?);
    let [kinds] = bytes(from)?;
    let outcomes = (0..kinds).map(|_| {
        let [outcome] = bytes(from)?;
        let outcome = outcome_of_file(outcome).ok_or(io::ErrorKind::InvalidData)?;
        Ok((outcome, u32::from_le_bytes(bytes(from)?)))
    });
    let outcomes = outcomes.collect::<io::Result<_>>()?;
    Ok(Some(CellRecord {
        cell: u64::from_le_bytes(cell),
        runs,
        representative,
        converged,
        outcomes,
        total_ms: load_spread(from)?,
        downtime_ms: load_spread(from)?,
        sent_bytes: load_spread(from)?,
        rounds: load_spread(from)?,
        disruption_vcpu_s: load_spread(from)?,
    }))
}

fn store_spread(spread: &Spread, into: &mut Vec<u8>) {
    let (Some(median), Some(p90)) = (spread.median, spread.p90) else { return into.push(NOTHING) };
    into.push(if spread.levels.is_some() { LEVELS } else { MIDDLE });
    let levels = spread.levels.map(|Levels { p5, p25, p75, p95, p99 }| [p5, p25, p75, p95, p99]);
    for number in [median, p90].into_iter().chain(levels.into_iter().flatten()) {
        into.extend_from_slice(&number.to_le_bytes());
    }
}

fn load_spread(from: &mut impl Read) -> io::Result<Spread> {
    let [kind] = bytes(from)?;
    let mut number = || Ok::<_, io::Error>(f64::from_le_bytes(bytes(from)?));
    let levels = match kind {
        NOTHING => return Ok(Spread::default()),
        MIDDLE => false,
        LEVELS => true,
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    let (median, p90) = (Some(number()?), Some(number()?));
    let levels = if levels {
        let (p5, p25, p75, p95, p99) = (number()?, number()?, number()?, number()?, number()?);
        Some(Levels { p5, p25, p75, p95, p99 })
    } else {
        None
    };
    Ok(Spread { median, p90, levels })
}

fn bytes<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use whimbrel_core::report::Outcome;

    use super::*;

    fn record(levels: Option<Levels>) -> CellRecord {
        let spread = |median| Spread { median: Some(median), p90: Some(2.0 * median), levels };
        CellRecord {
            cell: u64::MAX - 3,
            runs: 12,
            representative: 7,
            converged: 0.1,
            outcomes: vec![(Outcome::Aborted, 3), (Outcome::Completed, 9)],
            total_ms: spread(1e300),
            downtime_ms: Spread::default(),
            sent_bytes: spread(-0.0),
            rounds: spread(3.0),
            disruption_vcpu_s: spread(f64::MIN_POSITIVE),
        }
    }

    #[test]
    fn records_are_loaded_as_they_were_stored() {
        let levels = Levels { p5: 0.5, p25: 0.25, p75: 0.75, p95: 0.95, p99: 0.99 };
        let (first, second) = (record(None), record(Some(levels)));
        let mut stored = Vec::new();
        store(&first, &mut stored);
        store(&second, &mut stored);
        let mut from = stored.as_slice();
        assert_eq!(load(&mut from).expect("whole"), Some(first));
        assert_eq!(load(&mut from).expect("whole"), Some(second));
        assert_eq!(load(&mut from).expect("the end"), None);
    }

    #[test]
    fn half_a_record_is_none() {
        let mut stored = Vec::new();
        store(&record(None), &mut stored);
        for length in 1..stored.len() {
            assert!(load(&mut &stored[..length]).is_err(), "{length} bytes");
        }
        // Behind the numbers of the cell: an outcome that there is not.
        stored[25] = 250;
        assert!(load(&mut stored.as_slice()).is_err());
    }
}
