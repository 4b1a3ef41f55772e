//! Somebody who watches while something else goes on, and is let go whatever becomes of that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Set when it is dropped: also by a panic, which would otherwise wait for ever for a thread that nobody has told.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does `act`, and beside it, on another thread, `watch`, which is to return soon after what it is given is set.
pub(super) fn beside<T>(watch: impl FnOnce(&AtomicBool) + Send, act: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| watch(&over));
        let _over = Over(&over);
        act()
    })
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Duration;

    use super::*;

    fn watch(over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn who_watches_is_let_go_when_it_is_done_and_when_it_panics() {
        assert_eq!(beside(watch, || 7), 7);
        let (tell, told) = channel();
        // On a thread of its own: a test must not wait for ever, either.
        thread::spawn(move || {
            let ended = catch_unwind(AssertUnwindSafe(|| beside(watch, || panic!("on purpose"))));
            tell.send(ended.is_err())
        });
        let ended = told.recv_timeout(Duration::from_mins(1));
        assert_ne!(ended, Err(RecvTimeoutError::Timeout), "it hangs");
        assert_eq!(ended, Ok(true));
    }
}
