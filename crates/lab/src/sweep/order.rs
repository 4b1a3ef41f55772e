//! Work that is done by many and handed over in order.
//!
//! Threads take numbers from 0 on; what they make is consumed in the order of the numbers by the thread
//! that started them. Numbers are given out at most a window ahead of the next one to be consumed.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The exchange between the workers and the consumer.
pub(crate) struct InOrder<T> {
    state: Mutex<State<T>>,
    /// Something was made, or a worker left.
    made: Condvar,
    /// The window moved on, or the consumer gave up.
    room: Condvar,
    total: u64,
    window: u64,
}

struct State<T> {
    next_taken: u64,
    next_consumed: u64,
    made: BTreeMap<u64, T>,
    /// Numbers that were taken and not made yet.
    in_work: u64,
    closed: bool,
}

impl<T> InOrder<T> {
    /// Numbers from 0 to below `total`.
    pub(crate) fn new(total: u64, window: u64) -> Self {
        let state =
            State { next_taken: 0, next_consumed: 0, made: BTreeMap::new(), in_work: 0, closed: total == 0 };
        Self { state: Mutex::new(state), made: Condvar::new(), room: Condvar::new(), total, window }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // The state is whole between any two statements that can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker: makes what belongs to the numbers it takes until there are none left or `make` gives none,
    /// which ends it for all.
    pub(crate) fn work(&self, mut make: impl FnMut(u64) -> Option<T>) {
        while let Some(taken) = self.take() {
            match make(taken.number) {
                Some(thing) => taken.hand_over(thing),
                None => self.close(),
            }
        }
    }

    fn take(&self) -> Option<Taken<'_, T>> {
        let mut state = self.lock();
        loop {
            if state.closed || state.next_taken == self.total {
                return None;
            }
            if state.next_taken < state.next_consumed + self.window {
                let number = state.next_taken;
                state.next_taken += 1;
                state.in_work += 1;
                return Some(Taken { order: self, number });
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.room.notify_all();
        self.made.notify_all();
    }

    /// Takes what is made, in order, until everything is consumed or nothing more will come. A number
    /// that was never made is left out.
    ///
    /// # Errors
    ///
    /// The first that `consume` gives; the workers end then.
    pub(crate) fn consume<E>(&self, mut consume: impl FnMut(T) -> Result<(), E>) -> Result<(), E> {
        while let Some(thing) = self.next() {
            if let Err(error) = consume(thing) {
                self.close();
                return Err(error);
            }
        }
        Ok(())
    }

    fn next(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            let number = state.next_consumed;
            if let Some(thing) = state.made.remove(&number) {
                state.next_consumed += 1;
                self.room.notify_all();
                return Some(thing);
            }
            let ended = state.in_work == 0 && (state.closed || state.next_taken == self.total);
            if ended {
                // Gaps are left by workers that gave up.
                let (number, thing) = state.made.pop_first()?;
                state.next_consumed = number + 1;
                return Some(thing);
            }
            state = self.made.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A number that a worker took. Dropped, also by a panic, it no longer counts as being in work.
struct Taken<'a, T> {
    order: &'a InOrder<T>,
    number: u64,
}

impl<T> Taken<'_, T> {
    fn hand_over(self, thing: T) {
        self.order.lock().made.insert(self.number, thing);
    }
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        let mut state = self.order.lock();
        state.in_work -= 1;
        // Without this number nothing after it may wait for it.
        if std::thread::panicking() {
            state.closed = true;
        }
        drop(state);
        self.order.made.notify_all();
        self.order.room.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumed(
        total: u64,
        window: u64,
        workers: usize,
        make: impl Fn(u64) -> Option<u64> + Sync,
    ) -> Vec<u64> {
        let order = InOrder::new(total, window);
        let mut seen = Vec::new();
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| order.work(&make));
            }
            order
                .consume(|thing| {
                    seen.push(thing);
                    Ok::<(), ()>(())
                })
                .expect("no error");
        });
        seen
    }

    #[test]
    fn everything_arrives_once_and_in_order() {
        for workers in [1, 2, 7] {
            for window in [1, 3, 1000] {
                let seen = consumed(500, window, workers, |number| {
                    if number % 17 == 0 {
                        std::thread::yield_now();
                    }
                    Some(number)
                });
                assert_eq!(seen, (0..500).collect::<Vec<_>>(), "{workers} workers, window {window}");
            }
        }
    }

    #[test]
    fn nothing_to_do_ends_at_once() {
        assert!(consumed(0, 4, 2, Some).is_empty());
    }

    #[test]
    fn what_was_made_before_the_stop_is_kept() {
        let seen = consumed(1000, 16, 3, |number| (number < 100).then_some(number));
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn an_error_of_the_consumer_ends_the_workers() {
        let order = InOrder::new(u64::MAX, 8);
        std::thread::scope(|scope| {
            scope.spawn(|| order.work(Some));
            let result = order.consume(|number| if number < 20 { Ok(()) } else { Err(number) });
            assert_eq!(result, Err(20));
        });
    }

    #[test]
    fn a_panic_of_a_worker_does_not_hang_the_consumer() {
        let order = InOrder::new(100, 8);
        let mut seen = 0;
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    order.work(|number| {
                        assert!(number != 5, "on purpose");
                        Some(number)
                    });
                });
                let _ = order.consume(|_| {
                    seen += 1;
                    Ok::<(), ()>(())
                });
            });
        }));
        assert!(result.is_err());
        assert_eq!(seen, 5);
    }
}
