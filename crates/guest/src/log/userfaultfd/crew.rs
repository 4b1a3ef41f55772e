//! Threads that look through page tables together: a guest stands still for the last harvest, and that is a walk over all of its
//! page tables.
//!
//! [`UserfaultfdLog`](super::UserfaultfdLog) has a crew from its start to its stop where there is enough to walk over. Threads are kept, for
//! to start one takes longer than they save, and needs the lock that walks hold. A crew never decides what a
//! walk is: it shares out ranges, and brings back what was found in each, or why one could not be looked through.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, getpid};

use super::sys::Written;
use super::{Stuck, scan};

/// Ranges that somebody is to look through, each by one thread.
struct Walk {
    pagemap: Arc<OwnedFd>,
    /// Runs that one call may report.
    room: usize,
    parts: Vec<Range<u64>>,
    /// The first that nobody has taken.
    next: AtomicUsize,
}

/// What one of them found. What was found before it was stuck is written all the same, and protected again.
#[derive(Default)]
pub(super) struct Found {
    pub(super) runs: Vec<Written>,
    pub(super) stuck: Option<Stuck>,
}

impl Walk {
    /// Takes part until no range is left.
    fn take_part(&self) -> Found {
        let (mut found, mut buffer) = (Found::default(), vec![Written::default(); self.room]);
        // Whoever comes first takes it; what is in it was there before the walk was shared.
        while let Some(part) = self.parts.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let runs = &mut found.runs;
            let scanned =
                scan(&self.pagemap, part.clone(), &mut buffer, |written| runs.extend_from_slice(written));
            if let Err(stuck) = scanned {
                found.stuck.get_or_insert(stuck);
            }
        }
        found
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Crew {
    hands: Vec<Hand>,
    found: Receiver<Found>,
    /// Whose threads they are.
    process: Pid,
}

#[derive(Debug)]
struct Hand {
    walks: Sender<Arc<Walk>>,
    thread: JoinHandle<()>,
}

impl Crew {
    /// So many threads, or as many as there are to be had.
    pub(super) fn of(hands: usize) -> Self {
        let (tell, found) = channel();
        let hand = |_| {
            let (walks, wanted) = channel::<Arc<Walk>>();
            let tell = tell.clone();
            let work = move || {
                for walk in wanted {
                    let found = walk.take_part();
                    // The log must not find that somebody still has the page tables open.
                    drop(walk);
                    if tell.send(found).is_err() {
                        return;
                    }
                }
            };
            let thread = thread::Builder::new().name("harvest".to_owned()).spawn(work).ok()?;
            Some(Hand { walks, thread })
        };
        Self { hands: (0..hands).map_while(hand).collect(), found, process: getpid() }
    }

    /// Looks through `parts`; gives what each thread found, this one's first. All are done when this ends.
    pub(super) fn walk(
        &self,
        pagemap: &Arc<OwnedFd>,
        room: usize,
        parts: Vec<Range<u64>>,
        mut take: impl FnMut(Found),
    ) {
        let walk = Arc::new(Walk { pagemap: Arc::clone(pagemap), room, parts, next: AtomicUsize::new(0) });
        // A thread that is gone has taken nothing.
        let helping = self.hands.iter().filter(|hand| hand.walks.send(Arc::clone(&walk)).is_ok()).count();
        take(walk.take_part());
        for _ in 0..helping {
            // Each sends once for a walk.
            if let Ok(found) = self.found.recv() {
                take(found);
            }
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let hands = std::mem::take(&mut self.hands);
        // A child has no threads but the one that forked: there is nobody to wait for.
        if self.process != getpid() {
            return std::mem::forget(hands);
        }
        for Hand { walks, thread } in hands {
            drop(walks);
            let _ = thread.join();
        }
    }
}
