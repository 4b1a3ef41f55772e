//! The few events to come, in the order of time and then of their making.

use whimbrel_core::units::Timestamp;

/// Events to come; there are never many, so they are looked through.
#[derive(Clone, Debug)]
pub(super) struct Queue<E> {
    events: Vec<(Timestamp, u64, E)>,
    made: u64,
}

impl<E> Queue<E> {
    pub(super) const fn new() -> Self {
        Self { events: Vec::new(), made: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.events.clear();
        self.made = 0;
    }

    /// `event` happens at `at`.
    #[inline]
    pub(super) fn push(&mut self, at: Timestamp, event: E) {
        self.events.push((at, self.made, event));
        self.made += 1;
    }

    /// When the next event happens of those that `counts`.
    pub(super) fn first(&self, counts: impl Fn(&E) -> bool) -> Option<Timestamp> {
        self.events.iter().filter(|(.., event)| counts(event)).map(|event| event.0).min()
    }

    /// The next event and its time.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<(Timestamp, E)> {
        let mut first = 0;
        let &(mut at, mut number, _) = self.events.first()?;
        for (index, &(other, made, _)) in self.events.iter().enumerate().skip(1) {
            if (other, made) < (at, number) {
                (first, at, number) = (index, other, made);
            }
        }
        let (at, _, event) = self.events.swap_remove(first);
        Some((at, event))
    }
}
