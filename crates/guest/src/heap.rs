//! How much of the heap a program has, and had at most: for tests and benches that hold a promise about memory.
//!
//! A test makes a [`Counted`] its global allocator. What C libraries take is not seen: they have their own way to the system.
//!
//! ```
//! use whimbrel_guest::heap::Counted;
//!
//! #[global_allocator]
//! static HEAP: Counted = Counted::new();
//!
//! # fn main() {
//! HEAP.begin();
//! let before = HEAP.now();
//! drop(vec![1_u8; 1 << 20]);
//! assert_eq!(HEAP.most() - before, 1 << 20);
//! assert_eq!(HEAP.now(), before);
//! # }
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, counting the bytes that were asked of it.
#[derive(Debug, Default)]
pub struct Counted {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Counted {
    /// Nothing was counted yet.
    pub const fn new() -> Self {
        Self { now: AtomicUsize::new(0), most: AtomicUsize::new(0) }
    }

    /// Bytes that are had now.
    pub fn now(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// The most that were had since [`Counted::begin`].
    pub fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// From here on the most counts.
    pub fn begin(&self) {
        self.most.store(self.now(), Ordering::Relaxed);
    }

    fn took(&self, bytes: usize) {
        // Each of these is exact; between the two another thread may have given something back, which makes the most too small
        // by no more than what is under way at that moment.
        let now = self.now.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.most.fetch_max(now, Ordering::Relaxed);
    }

    fn gave(&self, bytes: usize) {
        self.now.fetch_sub(bytes, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came, and what that gives is given.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.took(layout.size());
        // SAFETY: what the caller promises is what the system's allocator wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.took(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        self.gave(layout.size());
        // SAFETY: as above; all memory that comes back here came from there.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While it is moved there are both.
        self.took(size);
        self.gave(layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}
