//! The log that KVM keeps of what vCPUs write, slot by slot, as page numbers of the guest.
//!
//! What KVM is told and asked is in [`KvmSlots`]; here is what makes a [`DirtyLog`] of it.

use std::sync::Arc;

use whimbrel_core::dirty::PageSet;
use whimbrel_core::embed::{DirtyLog, LogError, check_set};
use whimbrel_core::layout::{NUMBERS_PER_WORD, PageNumber};

use crate::kvm::{KvmError, KvmSlots};

const NAME: &str = "KVM";

/// A dirty log that KVM keeps of what vCPUs write.
///
/// While a memory slot has `KVM_MEM_LOG_DIRTY_PAGES`, KVM write-protects its pages for the guest (or lets the processor log
/// them) and sets a bit for the first write to each. A harvest (`KVM_GET_DIRTY_LOG`) copies the bits out, clears them and
/// protects those pages again before it returns. See `Documentation/virt/kvm/api.rst` in the kernel.
///
/// It sees what vCPUs write, and what KVM writes on their behalf. It sees nothing that this process or the kernel writes to the
/// same memory by itself, as device emulation does: that belongs into a software log beside it, in a
/// [`Union`](super::Union). One log at a time can watch a VM, and none can if it has KVM's dirty ring.
///
/// Dropping it stops it.
#[derive(Debug)]
pub struct KvmLog {
    slots: Arc<KvmSlots>,
    /// A host page is so many times smaller than a guest page, as a power of two.
    shift: u32,
    started: bool,
}

impl KvmLog {
    /// A log of what vCPUs write to the memory in `slots`. Nothing is recorded yet.
    pub fn new(slots: Arc<KvmSlots>) -> Self {
        let host = rustix::param::page_size().ilog2();
        // Memory of smaller pages than the host's is never `Mapped`.
        let shift = slots.memory().layout().page_size().shift().saturating_sub(host);
        Self { slots, shift, started: false }
    }
}

fn failed(what: String, help: &'static str, cause: impl Into<whimbrel_core::embed::Cause>) -> LogError {
    LogError::Failed { log: NAME, what, help, cause: cause.into() }
}

fn harvest_help(cause: kvm_ioctls::Error) -> &'static str {
    match cause.errno() {
        libc::ENXIO => "this VM has KVM's dirty ring, which takes the place of this log",
        libc::ENOENT => "somebody else has switched this slot's log off, or replaced the slot",
        libc::ENOMEM => "the kernel has no memory left for it",
        _ => "",
    }
}

/// What went wrong in a call to KVM, as an error of the log.
fn refused(what: &str, error: KvmError) -> LogError {
    failed(what.to_owned(), "", error)
}

impl DirtyLog for KvmLog {
    fn name(&self) -> &'static str {
        NAME
    }

    fn start(&mut self) -> Result<(), LogError> {
        if self.started {
            return Ok(());
        }
        if !self.slots.watch() {
            let help = "stop the other one first: each would take what the other is to report";
            return Err(failed("watch memory that another KVM log watches".into(), help, "one at a time"));
        }
        self.slots.start_logging().map_err(|error| {
            self.slots.unwatch();
            refused("start", error)
        })?;
        self.started = true;
        Ok(())
    }

    fn harvest(&mut self, into: &mut PageSet) -> Result<(), LogError> {
        if !self.started {
            return Err(LogError::NotStarted { log: NAME });
        }
        check_set(NAME, self.slots.memory().layout().numbers(), into)?;
        let shift = self.shift;
        let failed = |what, cause| failed(what, harvest_help(cause), cause);
        self.slots.harvest(failed, |first, words| join(words, first, shift, into))
    }

    fn stop(&mut self) -> Result<(), LogError> {
        if self.started {
            // Asked again after a failure, it tries again.
            self.slots.stop_logging().map_err(|error| refused("stop", error))?;
            self.started = false;
            self.slots.unwatch();
        }
        Ok(())
    }
}

impl Drop for KvmLog {
    fn drop(&mut self) {
        if self.stop().is_err() {
            // Nobody is left to try again, and a later log finds more than it should, which is no harm.
            self.slots.unwatch();
        }
    }
}

/// Adds the pages of a region to `into`: `words` has a bit for each host page of it, and 2^`shift` of them are a guest page,
/// dirty if any of them is.
fn join(words: &[u64], first: PageNumber, shift: u32, into: &mut PageSet) {
    // Regions begin at full words.
    let base = (first.0 / NUMBERS_PER_WORD) as usize;
    for (index, &word) in words.iter().enumerate() {
        let (mut left, from) = (word, index as u64 * NUMBERS_PER_WORD);
        if shift == 0 {
            into.or_word(base + index, left);
            continue;
        }
        while left != 0 {
            let page = (from + u64::from(left.trailing_zeros())) >> shift;
            into.or_word(base + (page / NUMBERS_PER_WORD) as usize, 1 << (page % NUMBERS_PER_WORD));
            // The rest of this guest page says nothing new.
            let end = ((page + 1) << shift) - from;
            left = if end < NUMBERS_PER_WORD { left & (u64::MAX << end) } else { 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A guest page is dirty exactly if one of its host pages is, whatever their sizes and wherever the region begins.
        #[test]
        fn a_guest_page_is_dirty_if_any_host_page_of_it_is(
            words in prop::collection::vec(prop_oneof![Just(0), any::<u64>(), Just(1), Just(1 << 63)], 1..40),
            shift in 0_u32..12,
            region in 0_u64..3,
        ) {
            let first = PageNumber(region * NUMBERS_PER_WORD);
            let pages = (words.len() as u64 * NUMBERS_PER_WORD).div_ceil(1 << shift);
            let mut expected = PageSet::new(first.0 + pages.next_multiple_of(NUMBERS_PER_WORD));
            let mut found = expected.clone();
            for host in 0..words.len() as u64 * NUMBERS_PER_WORD {
                if words[(host / NUMBERS_PER_WORD) as usize] >> (host % NUMBERS_PER_WORD) & 1 != 0 {
                    expected.insert(PageNumber(first.0 + (host >> shift))).unwrap();
                }
            }
            join(&words, first, shift, &mut found);
            prop_assert_eq!(found, expected);
        }
    }
}
