//! The machine of `embed_memory`, as its author had it before: it knows nothing of migrations, but that it notes what it writes.

use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use whimbrel::core::dirty::DirtyBitmap;
use whimbrel::core::layout::{PageNumber, RamLayout};

const PAGE: usize = 4096;

/// Memory, and one vCPU: a thread that counts up the first byte of page after page. Its only register says how many it did.
pub(crate) struct Machine {
    pub(crate) layout: RamLayout,
    /// The pages that were written.
    pub(crate) dirty: Arc<DirtyBitmap>,
    state: Mutex<State>,
}

/// Held by whoever reads or writes any of it, the vCPU too.
struct State {
    bytes: Vec<u8>,
    runs: bool,
    count: u64,
}

impl Machine {
    /// One that stands still. Its thread ends when it is the last that has it.
    pub(crate) fn new(layout: &RamLayout) -> Arc<Self> {
        let state = State { bytes: vec![0; layout.bytes().0 as usize], runs: false, count: 0 };
        let (layout, dirty) = (layout.clone(), Arc::new(DirtyBitmap::new(layout.numbers())));
        let machine = Arc::new(Self { layout, dirty, state: Mutex::new(state) });
        let vcpu = Arc::clone(&machine);
        thread::spawn(move || {
            while Arc::strong_count(&vcpu) > 1 {
                vcpu.step();
                thread::sleep(Duration::from_micros(50));
            }
        });
        machine
    }

    fn step(&self) {
        let mut state = self.state();
        if state.runs {
            let page = state.count % self.layout.pages().0;
            let byte = &mut state.bytes[page as usize * PAGE];
            *byte = byte.wrapping_add(1);
            state.count += 1;
            // After the write: whoever sees the mark sees the write too.
            self.dirty.mark(PageNumber(page)).expect("a page of this machine");
        }
    }

    /// Lets it run, or has it stand still: when this returns, no write is under way.
    pub(crate) fn run(&self, runs: bool) {
        self.state().runs = runs;
    }

    /// Its register; none while it runs.
    pub(crate) fn register(&self) -> Option<u64> {
        let state = self.state();
        (!state.runs).then_some(state.count)
    }

    pub(crate) fn set_register(&self, count: u64) {
        self.state().count = count;
    }

    /// Does something with `len` bytes of memory; none if they are not all there.
    pub(crate) fn with<T>(&self, at: u64, len: usize, act: impl FnOnce(&mut [u8]) -> T) -> Option<T> {
        let from = usize::try_from(at).ok()?;
        self.state().bytes.get_mut(from..from.checked_add(len)?).map(act)
    }

    /// Whether memory is what so many writes make of it: a page that was lost on the way, or is older than the register, is not.
    pub(crate) fn check(&self) -> Result<u64, String> {
        let (state, pages) = (self.state(), self.layout.pages().0);
        for page in 0..pages {
            let expected = ((state.count + pages - 1 - page) / pages) as u8;
            let found = state.bytes[page as usize * PAGE];
            if found != expected {
                return Err(format!("page {page:#x} was written {expected} times and says {found}"));
            }
        }
        Ok(state.count)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it in hand")
    }
}
