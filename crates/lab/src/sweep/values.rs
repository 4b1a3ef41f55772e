//! What is kept of a run until its cell is summed up: a few numbers, without a text.

use whimbrel_core::report::Outcome;
use whimbrel_sim::{Run, Totals};

use crate::result::MigrationRecord;

/// Bytes of a run in a file.
pub(super) const STORED: usize = 42;

/// The numbers of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Values {
    pub(super) outcome: Outcome,
    pub(super) converged: bool,
    pub(super) total_ms: f64,
    pub(super) downtime_ms: f64,
    pub(super) sent_bytes: f64,
    pub(super) rounds: f64,
    pub(super) disruption_vcpu_s: f64,
}

/// All outcomes, in an order that files rely on.
const OUTCOMES: [Outcome; 9] = [
    Outcome::InProgress,
    Outcome::Completed,
    Outcome::Refused,
    Outcome::Aborted,
    Outcome::Cancelled,
    Outcome::Failed,
    Outcome::TimedOut,
    Outcome::InDoubt,
    Outcome::GuestLost,
];

/// An outcome in a file.
pub(super) fn outcome_in_file(outcome: Outcome) -> u8 {
    OUTCOMES.iter().position(|other| *other == outcome).map_or(u8::MAX, |place| place as u8)
}

/// The outcome that was put in a file so, if there is one.
pub(super) fn outcome_of_file(byte: u8) -> Option<Outcome> {
    OUTCOMES.get(usize::from(byte)).copied()
}

impl Values {
    /// Of a run, as its record has them.
    pub(super) fn of(run: &Run) -> Self {
        let report = &run.report;
        Self {
            outcome: report.outcome,
            converged: report.converged,
            total_ms: crate::result::milliseconds(report.total),
            downtime_ms: crate::result::milliseconds(report.downtime.total()),
            sent_bytes: report.sent.as_f64(),
            rounds: report.rounds.len() as f64,
            disruption_vcpu_s: run.disruption.total().as_f64(),
        }
    }

    /// Of a run of which nothing else is known.
    pub(super) fn of_totals(totals: &Totals) -> Self {
        Self {
            outcome: totals.outcome,
            converged: totals.converged,
            total_ms: crate::result::milliseconds(totals.total),
            downtime_ms: crate::result::milliseconds(totals.downtime.total()),
            sent_bytes: totals.sent.as_f64(),
            rounds: f64::from(totals.rounds),
            disruption_vcpu_s: totals.disruption.total().as_f64(),
        }
    }

    /// Of a run that was made elsewhere.
    pub(super) fn of_record(outcome: Outcome, record: &MigrationRecord) -> Self {
        Self {
            outcome,
            converged: record.converged,
            total_ms: record.total_ms,
            downtime_ms: record.downtime_ms,
            sent_bytes: record.sent_bytes as f64,
            rounds: record.rounds as f64,
            disruption_vcpu_s: record.disruption_vcpu_s,
        }
    }

    pub(super) fn completed(&self) -> bool {
        self.outcome == Outcome::Completed
    }

    /// As bytes, the same on every machine.
    pub(super) fn store(&self, into: &mut Vec<u8>) {
        into.push(outcome_in_file(self.outcome));
        into.push(self.converged.into());
        for number in [self.total_ms, self.downtime_ms, self.sent_bytes, self.rounds, self.disruption_vcpu_s]
        {
            into.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// What was stored; none if these bytes never were.
    pub(super) fn load(bytes: &[u8; STORED]) -> Option<Self> {
        let (numbers, _) = bytes[2..].as_chunks::<8>();
        let [total_ms, downtime_ms, sent_bytes, rounds, disruption_vcpu_s] = *numbers else { return None };
        let number = f64::from_le_bytes;
        Some(Self {
            outcome: outcome_of_file(bytes[0])?,
            converged: bytes[1] != 0,
            total_ms: number(total_ms),
            downtime_ms: number(downtime_ms),
            sent_bytes: number(sent_bytes),
            rounds: number(rounds),
            disruption_vcpu_s: number(disruption_vcpu_s),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_loaded_as_it_was_stored() {
        for outcome in OUTCOMES {
            let values = Values {
                outcome,
                converged: true,
                total_ms: 0.1,
                downtime_ms: -0.0,
                sent_bytes: 1e300,
                rounds: 3.0,
                disruption_vcpu_s: f64::MIN_POSITIVE,
            };
            let mut bytes = Vec::new();
            values.store(&mut bytes);
            let bytes: [u8; STORED] = bytes.try_into().expect("the stated length");
            assert_eq!(Values::load(&bytes), Some(values));
        }
        assert_eq!(Values::load(&[255; STORED]), None);
    }
}
