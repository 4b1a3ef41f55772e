//! The few events to come, in the order of time and then of their making.

use whimbrel_core::units::Timestamp;

/// Events to come; there are never many, so they are looked through. What one side answers at once is most
/// often what happens next, and has a place of its own.
#[derive(Clone, Debug)]
pub(super) struct Queue<E> {
    soon: Option<(Timestamp, u64, E)>,
    events: Vec<(Timestamp, u64, E)>,
    /// The earliest of `events`.
    first: Timestamp,
    /// The earliest of all.
    next: Timestamp,
    made: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { soon: None, events: Vec::new(), first: Timestamp::MAX, next: Timestamp::MAX, made: 0 }
    }
}

impl<E> Queue<E> {
    pub(super) fn clear(&mut self) {
        self.soon = None;
        self.events.clear();
        (self.first, self.next) = (Timestamp::MAX, Timestamp::MAX);
        self.made = 0;
    }

    /// `event` happens at `at`.
    #[inline]
    pub(super) fn push(&mut self, at: Timestamp, event: E) {
        let entry = (at, self.number(), event);
        self.next = self.next.min(at);
        if self.soon.is_none() {
            self.soon = Some(entry);
        } else {
            self.first = self.first.min(at);
            self.events.push(entry);
        }
    }

    /// When the next event happens; at the end of time if there is none.
    #[inline]
    pub(super) fn earliest(&self) -> Timestamp {
        self.next
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
        self.next = self.next.min(at);
        self.events.push((at, number, event));
    }

    /// When the next event happens of those that `counts`.
    pub(super) fn first(&self, counts: impl Fn(&E) -> bool) -> Option<Timestamp> {
        let all = self.events.iter().chain(&self.soon);
        all.filter(|(.., event)| counts(event)).map(|event| event.0).min()
    }

    /// The next event and its time.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<(Timestamp, E)> {
        match &self.soon {
            Some((at, ..)) if *at < self.first => {
                self.next = self.first;
                self.soon.take().map(|(at, _, event)| (at, event))
            }
            _ => self.pop_any(),
        }
    }

    fn pop_any(&mut self) -> Option<(Timestamp, E)> {
        self.events.extend(self.soon.take());
        let key = |entry: &(Timestamp, u64, E)| (entry.0, entry.1);
        let first = (0..self.events.len()).min_by_key(|&index| key(&self.events[index]))?;
        let (at, _, event) = self.events.swap_remove(first);
        self.first = self.events.iter().map(|entry| entry.0).min().unwrap_or(Timestamp::MAX);
        self.next = self.first;
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
