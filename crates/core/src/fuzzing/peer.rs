//! One machine against a peer that says anything at any time, driven by bytes.
//!
//! The driver is honest: it does what it is asked, and reports only what happened. What this side promises then must hold
//! whatever the peer says; what the other side makes of it is the peer's own affair.

mod here;
mod there;

use std::sync::Arc;
use std::time::Duration;

use self::here::Here;
use self::there::There;
use super::{Choices, layout};
use crate::layout::PageNumber;
use crate::machine::handoff::{HandoffMessage, Standing};
use crate::machine::message::{Configuration, Message, MigrationId, Section};
use crate::machine::{Failure, Step};
use crate::units::Pages;

/// Drives a source or a destination by `data`, against a peer that is nobody's friend, and asserts what each promises.
///
/// # Panics
///
/// If a promise is broken.
pub fn check_peer(data: &[u8]) {
    let mut choices = Choices { data, at: 0 };
    let (side, seed) = (choices.next(), choices.next());
    if side.is_multiple_of(2) {
        let mut here = Here::new(seed);
        while let Some(choice) = choices.next_if_any() {
            here.step(choice, &mut choices);
        }
        here.end();
    } else {
        let mut there = There::new();
        while let Some(choice) = choices.next_if_any() {
            there.step(choice, &mut choices);
        }
        there.end();
    }
}

/// Anything that a peer can say.
fn message(choices: &mut Choices<'_>) -> Message {
    let choice = choices.next();
    let round = u32::from(choice >> 5);
    match choice % 32 {
        0 => Message::Accept,
        1 => Message::Refuse { reason: "why not".into() },
        2 => Message::Lost { reason: "so it goes".into() },
        // Rounds that are due, that are over, and that never come.
        3..=5 => Message::RoundEnd { round: round % 4 },
        6..=8 => Message::Acknowledge { round: round % 4 },
        9 => Message::Acknowledge { round: u32::MAX - round },
        10 | 11 => Message::PostCopy { missing: Pages(choices.next().into()) },
        12 => Message::Request { page: PageNumber(choices.next().into()) },
        13 => Message::Request { page: PageNumber(u64::MAX - u64::from(round)) },
        14 | 15 => Message::State(vec![Section { kind: "cpu".into(), version: round, bytes: vec![choice] }]),
        16 | 17 => Message::Configure(Arc::new(Configuration {
            id: MigrationId(round.into()),
            name: "theirs".into(),
            layout: layout(usize::from(choices.next()) + 1),
            vcpus: round,
        })),
        choice => Message::Handoff {
            message: match choice % 9 {
                0 => HandoffMessage::Ready,
                1 => HandoffMessage::Go,
                2 => HandoffMessage::Running,
                3 => HandoffMessage::Cancel,
                4 => HandoffMessage::Withdraw,
                5 => HandoffMessage::Ask,
                6 => HandoffMessage::Answer(Standing::Prepared),
                7 => HandoffMessage::Answer(Standing::Running),
                _ => HandoffMessage::Answer(Standing::Gone),
            },
            took: if round == 7 { Duration::MAX } else { Duration::from_millis(round.into()) },
        },
    }
}

fn failure(step: Step) -> Failure {
    Failure { step, detail: "made to fail".into() }
}

/// What a peer has said that allows this side something.
#[derive(Debug, Default)]
struct Heard {
    ready: bool,
    running: bool,
    gone: bool,
    lost: bool,
    go: bool,
    cancel: bool,
    state: bool,
    /// That pages are missing.
    missing: bool,
}

impl Heard {
    fn note(&mut self, message: &Message) {
        use HandoffMessage as H;
        match message {
            Message::Lost { .. } => self.lost = true,
            Message::State(_) => self.state = true,
            Message::PostCopy { missing } => self.missing |= *missing > Pages(0),
            Message::Handoff { message, .. } => match message {
                H::Ready | H::Answer(Standing::Prepared) => self.ready = true,
                H::Running | H::Answer(Standing::Running) => self.running = true,
                H::Answer(Standing::Gone) => self.gone = true,
                H::Go => self.go = true,
                H::Cancel => self.cancel = true,
                H::Withdraw | H::Ask => {}
            },
            _ => {}
        }
    }
}
