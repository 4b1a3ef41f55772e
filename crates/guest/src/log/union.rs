//! Several dirty logs as one.
//!
//! A VMM needs it as soon as not all its writers are seen by the same log: vCPUs by KVM's, device emulation by a
//! software log.

use whimbrel_core::dirty::PageSet;
use whimbrel_core::embed::{DirtyLog, LogError};

/// Reports what any of its logs does. Started, harvested and stopped together.
///
/// If one of them cannot be started, none is. All are stopped even if one of them cannot be.
pub struct Union {
    logs: Vec<Box<dyn DirtyLog>>,
}

impl Union {
    /// The union of `logs`. Of none of them, it never reports anything.
    pub fn of(logs: Vec<Box<dyn DirtyLog>>) -> Self {
        Self { logs }
    }
}

impl std::fmt::Debug for Union {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.logs.iter().map(|log| log.name())).finish()
    }
}

/// Stops all, the last one first; gives the first error met.
fn stop_all(logs: &mut [Box<dyn DirtyLog>]) -> Result<(), LogError> {
    logs.iter_mut().rev().map(|log| log.stop()).fold(Ok(()), Result::and)
}

impl DirtyLog for Union {
    fn name(&self) -> &'static str {
        "union"
    }

    fn start(&mut self) -> Result<(), LogError> {
        let started = self.logs.iter_mut().try_for_each(|log| log.start());
        started.inspect_err(|_| {
            // Also those that recorded before this call. What matters is why it does not start.
            let _ = stop_all(&mut self.logs);
        })
    }

    fn harvest(&mut self, into: &mut PageSet) -> Result<(), LogError> {
        self.logs.iter_mut().try_for_each(|log| log.harvest(into))
    }

    fn stop(&mut self) -> Result<(), LogError> {
        stop_all(&mut self.logs)
    }
}
