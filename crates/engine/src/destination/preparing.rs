//! Memory of the replica, made resident ahead of the pages that come: finding memory is what a stream would wait for longest.
//!
//! From the beginning of memory to its end, as the bulk round comes. It may fall behind or fail: then whoever writes a page
//! finds its memory itself.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use whimbrel_core::embed::{GuestRam, RamRange};
use whimbrel_core::layout::Gpa;
use whimbrel_core::units::ByteCount;

/// Made resident with one call: as much as may be in vain when the migration ends.
const STEP: u64 = 8 << 20;

/// The thread that does it. Dropped, it stops.
pub(super) struct Preparing {
    unwanted: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Preparing {
    pub(super) fn start(ram: Arc<dyn GuestRam>) -> io::Result<Self> {
        let unwanted = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&unwanted);
        let thread =
            thread::Builder::new().name("prepare".to_owned()).spawn(move || prepare(&*ram, &told))?;
        Ok(Self { unwanted, thread: Some(thread) })
    }
}

impl Drop for Preparing {
    fn drop(&mut self) {
        self.unwanted.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn prepare(ram: &dyn GuestRam, unwanted: &AtomicBool) {
    for region in ram.layout().regions() {
        let mut done = 0;
        while done < region.len.0 {
            let len = STEP.min(region.len.0 - done);
            let range = RamRange { at: Gpa(region.start.0 + done), len: ByteCount(len) };
            // Nothing is lost: memory is found when it is written.
            if unwanted.load(Ordering::Relaxed) || ram.prepare(range).is_err() {
                return;
            }
            done += len;
        }
    }
}
