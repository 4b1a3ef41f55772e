//! Actions that a driver has not taken yet.

use std::collections::VecDeque;

/// So many plain actions have places of their own: more than ever wait where all goes well.
const PLACES: usize = 4;

/// Actions in the order in which they were wanted. Nearly all are plain, those that own nothing, and have places of their
/// own as long as they are few and no other kind waits.
#[derive(Clone, Debug)]
pub(super) struct Waiting<A, P> {
    places: [Option<P>; PLACES],
    /// The places that are taken; where none is, both are zero.
    first: usize,
    end: usize,
    /// What comes behind them.
    others: VecDeque<Action<A, P>>,
}

/// One of either kind.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action<A, P> {
    Plain(P),
    Other(A),
}

impl<A, P> Default for Waiting<A, P> {
    fn default() -> Self {
        Self { places: [const { None }; PLACES], first: 0, end: 0, others: VecDeque::new() }
    }
}

impl<A, P: Copy> Waiting<A, P> {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.end == 0 && self.others.is_empty()
    }

    /// The first of all.
    pub(super) fn pop(&mut self) -> Option<Action<A, P>> {
        if let Some(plain) = self.pop_plain() {
            return Some(Action::Plain(plain));
        }
        self.others.pop_front()
    }

    /// The first of all, if it is plain.
    #[inline(always)]
    pub(super) fn pop_plain(&mut self) -> Option<P> {
        if self.first == self.end {
            return if self.others.is_empty() { None } else { self.pop_plain_of_others() };
        }
        let first = self.places.get(self.first).copied().flatten();
        self.first += 1;
        if self.first == self.end {
            (self.first, self.end) = (0, 0);
        }
        first
    }

    #[inline(never)]
    fn pop_plain_of_others(&mut self) -> Option<P> {
        let Some(&Action::Plain(first)) = self.others.front() else { return None };
        self.others.pop_front();
        Some(first)
    }

    /// The last of all, if it is not plain.
    #[inline]
    pub(super) fn last_of_others(&self) -> Option<&A> {
        match self.others.back() {
            Some(Action::Other(last)) => Some(last),
            _ => None,
        }
    }

    #[inline(always)]
    pub(super) fn push_plain(&mut self, action: P) {
        match self.places.get_mut(self.end) {
            Some(place) if self.others.is_empty() => {
                *place = Some(action);
                self.end += 1;
            }
            _ => self.line_up(Action::Plain(action)),
        }
    }

    pub(super) fn push(&mut self, action: A) {
        self.line_up(Action::Other(action));
    }

    #[inline(never)]
    fn line_up(&mut self, action: Action<A, P>) {
        self.others.push_back(action);
    }

    pub(super) fn clear(&mut self) {
        self.others.clear();
        (self.first, self.end) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers below ten are plain.
    fn waiting(numbers: impl IntoIterator<Item = u8>) -> Waiting<u8, u8> {
        let mut waiting = Waiting::default();
        for number in numbers {
            if number < 10 {
                waiting.push_plain(number);
                assert_eq!(waiting.last_of_others(), None);
            } else {
                waiting.push(number);
                assert_eq!(waiting.last_of_others(), Some(&number));
            }
            assert!(!waiting.is_empty());
        }
        waiting
    }

    fn all(mut waiting: Waiting<u8, u8>) -> Vec<u8> {
        let all = std::iter::from_fn(|| waiting.pop()).map(|action| match action {
            Action::Plain(number) | Action::Other(number) => number,
        });
        let all = all.collect();
        assert!(waiting.is_empty());
        all
    }

    #[test]
    fn they_come_in_the_order_in_which_they_were_wanted_whatever_they_are() {
        for numbers in
            [&[][..], &[1, 2], &[1, 2, 3, 4, 5, 6], &[10, 1, 2], &[1, 2, 11, 3], &[1, 10, 11, 2, 12]]
        {
            assert_eq!(all(waiting(numbers.iter().copied())), numbers);
        }
    }

    #[test]
    fn plain_ones_are_given_as_such_when_they_are_the_first() {
        let mut some = waiting([1, 2]);
        assert_eq!(some.pop_plain(), Some(1));
        some.push_plain(3);
        assert_eq!((some.pop_plain(), some.pop_plain(), some.pop_plain()), (Some(2), Some(3), None));
        assert!(some.is_empty());
        let mut mixed = waiting([1, 10, 2]);
        assert_eq!((mixed.pop_plain(), mixed.pop_plain()), (Some(1), None));
        assert_eq!(mixed.pop(), Some(Action::Other(10)));
        mixed.push_plain(3);
        assert_eq!(mixed.pop_plain(), Some(2));
        assert_eq!(all(mixed), [3]);
    }

    #[test]
    fn places_are_used_again() {
        let mut some = waiting([]);
        for round in 0..10 {
            for number in 0..PLACES as u8 {
                some.push_plain(number);
            }
            assert!(some.others.is_empty(), "round {round}");
            assert_eq!(std::iter::from_fn(|| some.pop_plain()).collect::<Vec<_>>(), [0, 1, 2, 3]);
        }
    }

    #[test]
    fn none_is_left_when_they_are_called_off() {
        for numbers in [&[1, 2][..], &[1, 10, 2]] {
            let mut some = waiting(numbers.iter().copied());
            some.clear();
            assert!(some.is_empty());
            some.push_plain(7);
            assert_eq!(all(some), [7]);
        }
    }
}
