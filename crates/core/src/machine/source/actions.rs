//! What the source wants done, in order.

use std::time::Duration;

use super::super::event::{PlainSourceAction, RoundAction, SourceAction, Transmit};
use super::super::message::Message;
use super::super::waiting::{Action, Waiting};

/// Actions that the driver has not taken yet. Those of a round, which is nearly all that are ever wanted, are kept
/// by name behind the others and never moved about.
#[derive(Clone, Debug, Default)]
pub(super) struct Actions {
    others: Waiting<SourceAction, PlainSourceAction>,
    /// The destination is to be told of the end of this round.
    ended: Option<u32>,
    then: Then,
    /// How to transmit, if that is wanted. By its parts: what was just written by parts is slow to read as a whole.
    slice: Option<Duration>,
    last: bool,
}

/// What is wanted last.
#[derive(Clone, Copy, Debug, Default)]
enum Then {
    #[default]
    Nothing,
    Transmit,
    Harvest,
}

impl Actions {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.others.is_empty() && self.ended.is_none() && matches!(self.then, Then::Nothing)
    }

    /// The first of all.
    pub(super) fn pop(&mut self) -> Option<Action<SourceAction, PlainSourceAction>> {
        self.others.pop().or_else(|| self.pop_of_round().map(|action| Action::Other(action.into())))
    }

    /// The first of all, if it is one of a round's.
    #[inline]
    pub(super) fn pop_of_round(&mut self) -> Option<RoundAction> {
        if !self.others.is_empty() {
            return None;
        }
        if let Some(round) = self.ended.take() {
            return Some(RoundAction::EndRound(round));
        }
        self.pop_last()
    }

    /// The first of all, if it is a plain one.
    #[inline]
    pub(super) fn pop_plain(&mut self) -> Option<PlainSourceAction> {
        self.others.pop_plain()
    }

    #[inline]
    fn pop_last(&mut self) -> Option<RoundAction> {
        match std::mem::take(&mut self.then) {
            Then::Nothing => None,
            Then::Transmit => Some(RoundAction::Transmit(Transmit { slice: self.slice, last: self.last })),
            Then::Harvest => Some(RoundAction::Harvest),
        }
    }

    /// After everything else.
    #[inline(always)]
    pub(super) fn push(&mut self, action: PlainSourceAction) {
        if self.ended.is_some() || !matches!(self.then, Then::Nothing) {
            self.line_up();
        }
        self.others.push_plain(action);
    }

    /// The same of one that is not plain.
    pub(super) fn push_any(&mut self, action: SourceAction) {
        if self.ended.is_some() || !matches!(self.then, Then::Nothing) {
            self.line_up();
        }
        self.others.push(action);
    }

    #[inline]
    pub(super) fn end_round(&mut self, round: u32) {
        if self.ended.is_some() || !matches!(self.then, Then::Nothing) {
            self.line_up();
        }
        self.ended = Some(round);
    }

    #[inline]
    pub(super) fn transmit(&mut self, transmit: Transmit) {
        self.begin(Then::Transmit);
        (self.slice, self.last) = (transmit.slice, transmit.last);
    }

    #[inline]
    pub(super) fn harvest(&mut self) {
        self.begin(Then::Harvest);
    }

    #[inline]
    fn begin(&mut self, then: Then) {
        if !matches!(self.then, Then::Nothing) {
            self.line_up();
        }
        self.then = then;
    }

    /// Something comes behind a round's: they wait their turn with all others.
    #[inline(never)]
    fn line_up(&mut self) {
        if let Some(round) = self.ended.take() {
            self.others.push_plain(PlainSourceAction::EndRound(round));
        }
        if let Some(last) = self.pop_last() {
            self.others.push(last.into());
        }
    }

    pub(super) fn clear(&mut self) {
        self.others.clear();
        (self.ended, self.then) = (None, Then::Nothing);
    }
}

impl From<RoundAction> for SourceAction {
    fn from(action: RoundAction) -> Self {
        match action {
            RoundAction::EndRound(round) => Self::Send(Message::RoundEnd { round }),
            RoundAction::Transmit(transmit) => Self::Transmit(transmit),
            RoundAction::Harvest => Self::Harvest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: Transmit = Transmit { slice: None, last: true };

    fn all(mut actions: Actions) -> Vec<Action<SourceAction, PlainSourceAction>> {
        std::iter::from_fn(|| actions.pop()).collect()
    }

    /// As it is given behind other actions.
    fn lined_up(round: u32) -> Action<SourceAction, PlainSourceAction> {
        Action::Plain(PlainSourceAction::EndRound(round))
    }

    #[test]
    fn they_come_in_the_order_in_which_they_were_wanted() {
        let mut actions = Actions::default();
        actions.push(PlainSourceAction::Pause);
        actions.end_round(1);
        actions.harvest();
        actions.end_round(2);
        actions.transmit(LAST);
        actions.push(PlainSourceAction::SaveState);
        actions.transmit(LAST);
        actions.harvest();
        let expected = [
            Action::Plain(PlainSourceAction::Pause),
            lined_up(1),
            Action::Other(SourceAction::Harvest),
            lined_up(2),
            Action::Other(SourceAction::Transmit(LAST)),
            Action::Plain(PlainSourceAction::SaveState),
            Action::Other(SourceAction::Transmit(LAST)),
            Action::Other(SourceAction::Harvest),
        ];
        assert_eq!(all(actions), expected);
    }

    #[test]
    fn those_of_a_round_are_given_by_name_when_nothing_is_before_them() {
        let mut actions = Actions::default();
        actions.push(PlainSourceAction::Pause);
        actions.end_round(7);
        actions.harvest();
        assert_eq!(actions.pop_of_round(), None);
        assert_eq!(actions.pop_plain(), Some(PlainSourceAction::Pause));
        assert_eq!(actions.pop_of_round(), Some(RoundAction::EndRound(7)));
        assert_eq!(actions.pop_of_round(), Some(RoundAction::Harvest));
        assert_eq!(actions.pop_of_round(), None);
        assert_eq!(all(actions), []);
    }

    #[test]
    fn none_is_left_when_they_are_called_off() {
        let mut actions = Actions::default();
        actions.push(PlainSourceAction::Pause);
        actions.end_round(7);
        actions.transmit(LAST);
        actions.clear();
        assert_eq!(all(actions), []);
    }
}
