//! Work that is done by many and handed over in order.
//!
//! Threads take numbers from 0 on; what they make is consumed in the order of the numbers: by the thread that started
//! them ([`InOrder::work`] and [`InOrder::consume`]), or by whichever of them comes by when the next is there
//! ([`InOrder::share`]), so that as many threads are at work as there are. Numbers are given out at most a window ahead
//! of the next one to be consumed. A number that is never made ends it: nothing behind it is consumed.

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

/// What there is to do.
enum Duty<'a, T> {
    Make(Taken<'a, T>),
    Consume(Ready<'a, T>),
}

impl<T> InOrder<T> {
    /// Numbers from 0 to below `total`.
    pub(crate) fn new(total: u64, window: u64) -> Self {
        let (made, closed) = (BTreeMap::new(), total == 0);
        let state = State { next_taken: 0, next_consumed: 0, made, in_work: 0, closed };
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
            if let Some(number) = state.take(self.window) {
                return Some(Taken { order: self, number });
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A thread that does both: it makes what belongs to the numbers it takes, as [`InOrder::work`] does, and consumes
    /// what is next in order whenever it is made and no other thread consumes. `consume` is called by one thread at a
    /// time, and not again once it gave nothing, which ends it for all.
    pub(crate) fn share(&self, mut make: impl FnMut(u64) -> Option<T>, consume: impl Fn(T) -> Option<()>) {
        while let Some(duty) = self.duty() {
            match duty {
                Duty::Make(taken) => match make(taken.number) {
                    Some(thing) => taken.hand_over(thing),
                    None => self.close(),
                },
                Duty::Consume(mut ready) => {
                    ready.done = ready.thing.take().and_then(&consume).is_some();
                }
            }
        }
    }

    /// The next duty of a thread that shares in both; none if others will do what is left.
    fn duty(&self) -> Option<Duty<'_, T>> {
        let mut state = self.lock();
        loop {
            let next = state.next_consumed;
            // Until it is done nobody finds another: the number stays.
            if let Some(thing) = state.made.remove(&next) {
                return Some(Duty::Consume(Ready { order: self, thing: Some(thing), done: false }));
            }
            // Who hands the next one over finds it here.
            if state.closed || state.next_taken == self.total {
                return None;
            }
            if let Some(number) = state.take(self.window) {
                return Some(Duty::Make(Taken { order: self, number }));
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.room.notify_all();
        self.made.notify_all();
    }

    /// Takes what is made, in order, until everything is consumed or nothing more will come.
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
            if state.in_work == 0 && (state.closed || state.next_taken == self.total) {
                return None;
            }
            state = self.made.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> State<T> {
    /// The next number, unless it lies beyond the window.
    fn take(&mut self, window: u64) -> Option<u64> {
        let number = self.next_taken;
        (number < self.next_consumed + window).then(|| {
            self.next_taken += 1;
            self.in_work += 1;
            number
        })
    }
}

/// What is next in order. Dropped before it is done, also by a panic, it ends everything.
struct Ready<'a, T> {
    order: &'a InOrder<T>,
    thing: Option<T>,
    done: bool,
}

impl<T> Drop for Ready<'_, T> {
    fn drop(&mut self) {
        let mut state = self.order.lock();
        if self.done {
            state.next_consumed += 1;
        } else {
            // The number stays: nothing behind it is consumed.
            state.closed = true;
        }
        drop(state);
        self.order.room.notify_all();
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

    /// What is consumed, in its order, by the thread that started the workers; by these themselves it is the same.
    fn consumed(
        total: u64,
        window: u64,
        workers: usize,
        make: impl Fn(u64) -> Option<u64> + Sync,
    ) -> Vec<u64> {
        let order = InOrder::new(total, window);
        let shared = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    order.share(&make, |thing| {
                        shared.try_lock().expect("one at a time").push(thing);
                        Some(())
                    });
                });
            }
        });
        let shared = shared.into_inner().unwrap();
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
        assert_eq!(shared, seen);
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

    /// A worker that gives up while another makes what comes behind leaves a gap.
    #[test]
    fn nothing_behind_a_gap_is_consumed() {
        for _ in 0..20 {
            let begun = std::sync::Barrier::new(2);
            let seen = consumed(2, 16, 2, |number| {
                begun.wait();
                (number > 0).then_some(number)
            });
            assert_eq!(seen, [0_u64; 0]);
        }
    }

    #[test]
    fn an_error_of_who_consumes_ends_those_that_share() {
        let (order, seen) = (InOrder::new(u64::MAX, 8), Mutex::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    order.share(Some, |number| {
                        *seen.lock().unwrap() += 1;
                        (number < 20).then_some(())
                    });
                });
            }
        });
        assert_eq!(seen.into_inner().unwrap(), 21);
    }

    #[test]
    fn a_panic_of_those_that_share_does_not_hang_the_others() {
        for panics in ["make", "consume"] {
            let (order, seen) = (InOrder::new(100, 2), Mutex::new(0));
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                std::thread::scope(|scope| {
                    for _ in 0..3 {
                        scope.spawn(|| {
                            let make = |number| {
                                assert!(panics != "make" || number != 5, "on purpose");
                                Some(number)
                            };
                            order.share(make, |number| {
                                assert!(panics != "consume" || number != 5, "on purpose");
                                *seen.lock().unwrap() += 1;
                                Some(())
                            });
                        });
                    }
                });
            }));
            assert!(result.is_err());
            assert_eq!(seen.into_inner().unwrap(), 5, "{panics}");
        }
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
