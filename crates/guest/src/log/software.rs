//! A dirty log that writers keep themselves.
//!
//! For device emulation, and for vCPUs that are threads of ours. It sees what is marked and nothing else: whoever writes
//! guest memory without marking needs another log beside it, in a [`Union`](super::Union).

use std::sync::Arc;

use whimbrel_core::dirty::{DirtyBitmap, PageSet};
use whimbrel_core::embed::{DirtyLog, LogError};
use whimbrel_core::layout::RamLayout;

const NAME: &str = "software";

/// Harvests a [`DirtyBitmap`] that writers share.
///
/// Writers mark whether the log is started or not. A mark costs some nanoseconds; to find out whether it is needed
/// would cost as much, because the question must not be answered before the write is visible.
///
/// ```
/// use std::sync::Arc;
/// use whimbrel_core::dirty::PageSet;
/// use whimbrel_core::embed::DirtyLog;
/// use whimbrel_core::layout::{PageNumber, PageSize, RamLayout};
/// use whimbrel_core::units::ByteCount;
/// use whimbrel_guest::log::SoftwareLog;
///
/// let layout = RamLayout::contiguous(ByteCount::mib(16), PageSize::Kib4)?;
/// let mut log = SoftwareLog::new(&layout);
/// let bitmap = Arc::clone(log.bitmap());
/// log.start()?;
/// bitmap.mark(PageNumber(7))?;
/// let mut dirty = PageSet::new(layout.numbers());
/// log.harvest(&mut dirty)?;
/// assert!(dirty.pages().eq([PageNumber(7)]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SoftwareLog {
    bitmap: Arc<DirtyBitmap>,
    /// What was marked before the start; empty otherwise.
    scratch: PageSet,
    started: bool,
}

impl SoftwareLog {
    /// A log for a guest with this memory.
    pub fn new(layout: &RamLayout) -> Self {
        Self::over(Arc::new(DirtyBitmap::new(layout.numbers())))
    }

    /// A log over a bitmap that writers have already. Nobody else may harvest it.
    pub fn over(bitmap: Arc<DirtyBitmap>) -> Self {
        let scratch = PageSet::new(bitmap.numbers());
        Self { bitmap, scratch, started: false }
    }

    /// What writers mark, each after its write.
    pub fn bitmap(&self) -> &Arc<DirtyBitmap> {
        &self.bitmap
    }
}

impl DirtyLog for SoftwareLog {
    fn name(&self) -> &'static str {
        NAME
    }

    fn start(&mut self) -> Result<(), LogError> {
        if !self.started {
            // Marks of old are nobody's business any more.
            self.bitmap
                .harvest_into(&mut self.scratch)
                .map_err(|cause| LogError::OtherGuest { log: NAME, cause })?;
            self.scratch.clear();
            self.started = true;
        }
        Ok(())
    }

    fn harvest(&mut self, into: &mut PageSet) -> Result<(), LogError> {
        if !self.started {
            return Err(LogError::NotStarted { log: NAME });
        }
        self.bitmap.harvest_into(into).map_err(|cause| LogError::OtherGuest { log: NAME, cause })?;
        Ok(())
    }

    fn stop(&mut self) -> Result<(), LogError> {
        self.started = false;
        Ok(())
    }
}
