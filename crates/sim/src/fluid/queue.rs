//! The few events to come, in the order of time and then of their making.

use whimbrel_core::units::Timestamp;

/// Events to come; there are never many, so they are looked through. The first that is made is most often the only one,
/// and has a place of its own: worlds are copied.
#[derive(Clone, Debug)]
pub(super) struct Queue<E> {
    one: Option<(Timestamp, u64, E)>,
    others: Vec<(Timestamp, u64, E)>,
    /// The earliest of all.
    first: Timestamp,
    made: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { one: None, others: Vec::new(), first: Timestamp::MAX, made: 0 }
    }
}

impl<E> Queue<E> {
    pub(super) fn clear(&mut self) {
        self.one = None;
        self.others.clear();
        self.first = Timestamp::MAX;
        self.made = 0;
    }

    /// `event` happens at `at`.
    #[inline]
    pub(super) fn push(&mut self, at: Timestamp, event: E) {
        let number = self.number();
        self.push_numbered(at, number, event);
    }

    /// When the next event happens; at the end of time if there is none.
    #[inline]
    pub(super) fn earliest(&self) -> Timestamp {
        self.first
    }

    /// A place in the order of events: behind all that were made before.
    #[inline]
    pub(super) fn number(&mut self) -> u64 {
        self.made += 1;
        self.made - 1
    }

    /// `event` happens at `at`, and has had its place for a while.
    pub(super) fn push_numbered(&mut self, at: Timestamp, number: u64, event: E) {
        self.first = self.first.min(at);
        let entry = (at, number, event);
        if self.one.is_none() {
            self.one = Some(entry);
        } else {
            self.others.push(entry);
        }
    }

    fn all(&self) -> impl Iterator<Item = &(Timestamp, u64, E)> {
        self.one.iter().chain(&self.others)
    }

    /// When the next event happens of those that `counts`.
    pub(super) fn first(&self, counts: impl Fn(&E) -> bool) -> Option<Timestamp> {
        self.all().filter(|(.., event)| counts(event)).map(|event| event.0).min()
    }

    /// The next event and its time.
    pub(super) fn pop(&mut self) -> Option<(Timestamp, E)> {
        let next = self.all().map(|&(at, number, _)| (at, number)).min()?;
        let is_next = |(at, number, _): &(Timestamp, u64, E)| (*at, *number) == next;
        let (at, _, event) = match self.others.iter().position(is_next) {
            Some(index) => self.others.swap_remove(index),
            None => self.one.take()?,
        };
        self.first = self.all().map(|entry| entry.0).min().unwrap_or(Timestamp::MAX);
        Some((at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_of_time_and_then_of_their_making() {
        let mut queue = Queue::default();
        let mut order = String::new();
        for (at, name) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b'), (7, 'e')] {
            queue.push(Timestamp::from_nanos(at), name);
        }
        order.extend(queue.pop().map(|(_, name)| name));
        queue.push(Timestamp::from_nanos(5), 'x');
        queue.push(Timestamp::from_nanos(6), 'y');
        order.extend(std::iter::from_fn(|| queue.pop()).map(|(_, name)| name));
        assert_eq!(order, "abcdxye");
    }
}
