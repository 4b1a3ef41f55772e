//! Actions that a driver has not taken yet.

use std::collections::VecDeque;

/// So many plain actions have places of their own: more than ever wait where all goes well.
const PLACES: usize = 4;

/// Actions in the order in which they were wanted. Nearly all are plain: they own nothing, and as long as no other kind
/// waits they stay where they were put down until they are taken. With anything else they line up, as what they stand for.
#[derive(Clone, Debug)]
pub(super) struct Waiting<A, P> {
    places: [Option<P>; PLACES],
    /// The places that are taken: none if the others wait.
    first: usize,
    end: usize,
    others: VecDeque<A>,
    /// How many there are in all.
    count: usize,
}

impl<A, P> Default for Waiting<A, P> {
    fn default() -> Self {
        Self { places: [const { None }; PLACES], first: 0, end: 0, others: VecDeque::new(), count: 0 }
    }
}

impl<A, P: Copy + Into<A>> Waiting<A, P> {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The first of all.
    pub(super) fn pop(&mut self) -> Option<A> {
        if let Some(plain) = self.pop_plain() {
            return Some(plain.into());
        }
        let first = self.others.pop_front()?;
        self.count -= 1;
        Some(first)
    }

    /// The first of all, if no other kind waits.
    #[inline]
    pub(super) fn pop_plain(&mut self) -> Option<P> {
        let first = self.places.get_mut(self.first).and_then(Option::take)?;
        self.first += 1;
        if self.first == self.end {
            (self.first, self.end) = (0, 0);
        }
        self.count -= 1;
        Some(first)
    }

    /// The last of all, if it is not a plain one in its place.
    #[inline]
    pub(super) fn last_of_others(&self) -> Option<&A> {
        self.others.back()
    }

    #[inline(always)]
    pub(super) fn push_plain(&mut self, action: P) {
        match self.places.get_mut(self.end) {
            Some(place) if self.others.is_empty() => {
                *place = Some(action);
                self.end += 1;
                self.count += 1;
            }
            _ => self.push(action.into()),
        }
    }

    #[inline(never)]
    pub(super) fn push(&mut self, action: A) {
        while let Some(plain) = self.pop_plain() {
            self.others.push_back(plain.into());
            self.count += 1;
        }
        self.others.push_back(action);
        self.count += 1;
    }

    pub(super) fn clear(&mut self) {
        if self.count > 0 {
            *self = Self { others: std::mem::take(&mut self.others), ..Self::default() };
            self.others.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers below ten are plain.
    #[derive(Clone, Debug, PartialEq)]
    struct Number(u8);

    impl From<u8> for Number {
        fn from(number: u8) -> Self {
            Self(number)
        }
    }

    fn waiting(numbers: impl IntoIterator<Item = u8>) -> Waiting<Number, u8> {
        let mut waiting = Waiting::default();
        for number in numbers {
            if number < 10 {
                waiting.push_plain(number)
            } else {
                waiting.push(Number(number))
            }
            assert!(waiting.last_of_others().is_none_or(|last| last.0 == number));
            assert!(!waiting.is_empty());
        }
        waiting
    }

    fn all(mut waiting: Waiting<Number, u8>) -> Vec<u8> {
        std::iter::from_fn(|| waiting.pop()).map(|number| number.0).collect()
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
    fn plain_ones_are_given_as_such_unless_others_wait() {
        let mut some = waiting([1, 2]);
        assert_eq!(some.pop_plain(), Some(1));
        some.push_plain(3);
        assert_eq!((some.pop_plain(), some.pop_plain(), some.pop_plain()), (Some(2), Some(3), None));
        assert!(some.is_empty());
        let mut mixed = waiting([1, 10, 2]);
        assert_eq!(mixed.pop_plain(), None);
        assert_eq!((mixed.pop(), mixed.pop()), (Some(Number(1)), Some(Number(10))));
        mixed.push_plain(3);
        assert_eq!(all(mixed), [2, 3]);
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
