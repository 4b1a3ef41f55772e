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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A log that fails when it is told to; it can be seen whether it records.
    #[derive(Clone, Default)]
    struct Failing {
        records: Arc<AtomicBool>,
        fails: Arc<AtomicBool>,
    }

    impl Failing {
        /// Does it, or fails.
        fn set(&self, records: bool, what: &str) -> Result<(), LogError> {
            if self.fails.load(Ordering::Relaxed) {
                let cause = "it is told to".into();
                return Err(LogError::Failed { log: self.name(), what: what.into(), help: "", cause });
            }
            self.records.store(records, Ordering::Relaxed);
            Ok(())
        }
    }

    impl DirtyLog for Failing {
        fn name(&self) -> &'static str {
            "failing"
        }

        fn start(&mut self) -> Result<(), LogError> {
            self.set(true, "start")
        }

        fn harvest(&mut self, _: &mut PageSet) -> Result<(), LogError> {
            Err(LogError::NotStarted { log: self.name() })
        }

        fn stop(&mut self) -> Result<(), LogError> {
            self.set(false, "stop")
        }
    }

    fn three() -> ([Failing; 3], Union) {
        let logs = [(); 3].map(|()| Failing::default());
        let union = Union::of(logs.iter().map(|log| Box::new(log.clone()) as Box<dyn DirtyLog>).collect());
        (logs, union)
    }

    fn recording(logs: &[Failing]) -> Vec<bool> {
        logs.iter().map(|log| log.records.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn if_one_cannot_be_started_none_is_not_even_those_that_were() {
        for before in [false, true] {
            let (logs, mut union) = three();
            if before {
                union.start().unwrap();
                // It has ended by itself.
                logs[1].records.store(false, Ordering::Relaxed);
            }
            logs[1].fails.store(true, Ordering::Relaxed);
            assert_eq!(union.start().unwrap_err().to_string(), "the failing dirty log cannot start");
            assert_eq!(recording(&logs), [false; 3], "{before}");
        }
    }

    #[test]
    fn all_are_stopped_though_one_cannot_be() {
        let (logs, mut union) = three();
        union.start().unwrap();
        assert_eq!(recording(&logs), [true; 3]);
        logs[1].fails.store(true, Ordering::Relaxed);
        assert_eq!(union.stop().unwrap_err().to_string(), "the failing dirty log cannot stop");
        assert_eq!(recording(&logs), [false, true, false]);
    }
}
