//! Threads and descriptors of this process.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// A thread is gone a moment after it was joined.
const SOON: Duration = Duration::from_secs(20);

/// How many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    threads: usize,
    descriptors: usize,
}

impl Left {
    pub(crate) fn now() -> Self {
        let count = |what: &str| fs::read_dir(format!("/proc/self/{what}")).expect("of this process").count();
        Self { threads: count("task"), descriptors: count("fd") }
    }

    /// No more than these are left.
    pub(crate) fn check(self) {
        self.check_within(SOON);
    }

    pub(crate) fn check_within(self, soon: Duration) {
        let began = Instant::now();
        while Self::now() != self && began.elapsed() < soon {
            thread::sleep(Duration::from_millis(1));
        }
        let now = Self::now();
        assert_eq!(now, self, "left behind: {:?}", names());
    }
}

/// What the threads are called, and what descriptors are open.
fn names() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let threads = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    let files = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let files = files.filter_map(|file| fs::read_link(file.path()).ok());
    threads
        .map(|name| name.trim().to_owned())
        .chain(files.map(|path| path.to_string_lossy().into_owned()))
        .collect()
}
