//! Decisions and verdicts in plain sentences.

use std::fmt::Write as _;

use whimbrel_core::policy::{Decision, Input, Quantity, Reason, Relation, SwitchoverWhen};
use whimbrel_core::units::{Bandwidth, ByteCount};

use super::decision::DecisionRecord;

/// What was decided, why, and what would have had to be otherwise.
pub(super) fn decision(record: &DecisionRecord, decision: Decision, measured: Option<Bandwidth>) -> String {
    let mut text = format!("{}, because {}.", did(decision, record.moment), because(&record.reason));
    if let Some(throttle) = &record.throttle {
        let _ = write!(text, " From then on the throttle was {throttle}.");
    }
    let pending = record.pending_bytes as f64;
    match record.would_end_at_bytes {
        Some(0) => text.push_str(" It would have handed the guest over only with nothing pending"),
        Some(most) if record.last => {
            let more = per_cent(most as f64 / pending.max(1.0) - 1.0);
            let _ = write!(
                text,
                " It would have decided the same with up to {} pending ({more} more)",
                human(most)
            );
        }
        Some(most) => {
            let _ = write!(
                text,
                " It would have handed the guest over with {} or less pending; there were {}",
                human(most),
                human(record.pending_bytes)
            );
            let _ = match pending / most as f64 {
                near if near < 2.0 => write!(text, " ({} too much)", per_cent(near - 1.0)),
                far => write!(text, " ({far:.1} times as much)"),
            };
        }
        None if record.last && matches!(decision, Decision::Switchover { .. } | Decision::Pause) => {
            text.push_str(" What was pending made no difference.");
            return text;
        }
        None => return text,
    }
    let bandwidth = record.would_end_with_bytes_per_s.and_then(Bandwidth::new);
    if let (Some(bandwidth), Some(measured)) = (bandwidth, measured) {
        let _ = match bandwidth.as_f64() / measured.as_f64() {
            near if near < 2.0 => {
                write!(
                    text,
                    "; or with a bandwidth {} above the {} measured",
                    per_cent(near - 1.0),
                    measured.human()
                )
            }
            far => write!(text, "; or with {far:.1} times the {} measured", measured.human()),
        };
    }
    text.push('.');
    text
}

/// How near a decision to go on was to the handover.
pub(super) fn missed(record: &DecisionRecord) -> String {
    let most = record.would_end_at_bytes.unwrap_or_default();
    let ratio = record.pending_bytes as f64 / most.max(1) as f64;
    let far = if ratio < 2.0 {
        format!("{} too much", per_cent(ratio - 1.0))
    } else {
        format!("{ratio:.1} times as much")
    };
    let at = std::time::Duration::from_secs_f64((record.at_ms / 1e3).max(0.0));
    format!(
        "Where it went on it came nearest to the handover in round {} at {}: {} were pending where {} would have \
         done ({far}).",
        record.round,
        whimbrel_core::units::duration::human(at),
        human(record.pending_bytes),
        human(most),
    )
}

fn did(decision: Decision, moment: &str) -> &'static str {
    use SwitchoverWhen::{AfterRound, Now};
    match decision {
        Decision::Continue if moment == "round-end" => "It went on to the next harvest",
        Decision::Continue => "It went on sending",
        Decision::Harvest => "It fetched the dirty log before all was sent",
        Decision::Switchover { when: Now, forced: false } => "It handed the guest over",
        Decision::Switchover { when: Now, forced: true } => {
            "It handed the guest over though the rest was not small enough"
        }
        Decision::Switchover { when: AfterRound, forced: false } => {
            "It sent what was pending and then handed the guest over"
        }
        Decision::Switchover { when: AfterRound, forced: true } => {
            "It sent what was pending and then handed the guest over, though the rest was not small enough"
        }
        Decision::PostCopy => "It handed the guest over before its pages (post-copy)",
        Decision::Pause => "It paused the guest and sent on",
        Decision::Abort => "It gave up",
        _ => "It decided",
    }
}

/// A reason as a clause: `pending 34.4 MiB was below threshold 36.0 MiB (by 4 %)`.
pub(super) fn because(reason: &Reason) -> String {
    let (left, right) = (reason.left(), reason.right());
    if left.value == Quantity::Unknown {
        return format!("{} was not known yet, and so not compared with {}", left.name, side(&right));
    }
    let stands = match reason.relation() {
        Relation::Below => "was below",
        Relation::AtMost => "was no more than",
        Relation::AtLeast => "was no less than",
        Relation::Above => "was above",
        Relation::Equal => "was just",
    };
    let mut text = format!("{} {stands} {}", side(&left), side(&right));
    let apart = left.value.as_f64().zip(right.value.as_f64()).filter(|(_, right)| *right > 0.0);
    if let Some((left, right)) = apart.filter(|_| reason.relation() != Relation::Equal) {
        let ratio = left / right;
        let _ = match ratio {
            far if far >= 2.0 => write!(text, " ({far:.1} times as much)"),
            near if (near - 1.0).abs() < 5e-5 => write!(text, " (just)"),
            near => write!(text, " (by {})", per_cent((near - 1.0).abs())),
        };
    }
    text
}

fn side(input: &Input) -> String {
    match input.value {
        Quantity::Unknown => format!("an unknown {}", input.name),
        value => format!("{} {value}", input.name),
    }
}

/// A share in per cent, with a digit more where it is small.
pub(super) fn per_cent(share: f64) -> String {
    let share = share * 100.0;
    if share < 10.0 { format!("{share:.1} %") } else { format!("{share:.0} %") }
}

pub(super) fn human(bytes: u64) -> String {
    ByteCount(bytes).human()
}
