//! Which dirty logs this machine has, found out by trying, and which of them is the best for some memory.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use whimbrel_core::dirty::{DirtyBitmap, PageSet};
use whimbrel_core::embed::{DirtyLog, GuestRam as _, LogError};
use whimbrel_core::layout::{Gpa, PageSize, RamLayout};

use super::{SoftwareLog, UserfaultfdLog};
use crate::memory::{Backing, GuestMemory, Mapped};

/// What came of trying each kind of dirty log, the best one first. Printed, it has a line for each.
#[derive(Debug)]
pub struct Probe {
    /// Its name, and why it does not work here.
    pub logs: Vec<(&'static str, Result<(), LogError>)>,
}

impl Probe {
    /// What came of trying the log of this name; none if there is no such log.
    pub fn of(&self, log: &str) -> Option<&Result<(), LogError>> {
        self.logs.iter().find(|(name, _)| *name == log).map(|(_, outcome)| outcome)
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, outcome)) in self.logs.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "\n" })?;
            match outcome {
                Ok(()) => write!(f, "{name}: works here")?,
                Err(error) => write!(f, "{name}: {}", Causes(error))?,
            }
        }
        Ok(())
    }
}

/// An error and its causes, in a line.
struct Causes<'a>(&'a dyn Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let causes = std::iter::successors(self.0.source(), |&cause| cause.source());
        causes.into_iter().try_for_each(|cause| write!(f, " ({cause})"))
    }
}

/// Tries all logs that need something of the machine, each on a page of memory of its own.
pub fn probe() -> Probe {
    Probe { logs: vec![("userfaultfd", try_userfaultfd()), ("software", Ok(()))] }
}

/// Records one write.
fn try_userfaultfd() -> Result<(), LogError> {
    let failed = |what: &str, help, cause: Box<dyn Error + Send + Sync>| LogError::Failed {
        log: "userfaultfd",
        what: what.to_owned(),
        help,
        cause,
    };
    // Whatever the pages of the host are.
    let layout = RamLayout::contiguous(PageSize::Mib2.bytes(), PageSize::Mib2);
    let layout = layout.map_err(|error| failed("be tried", "", error.into()))?;
    let mut found = PageSet::new(layout.numbers());
    let memory = GuestMemory::new(layout, Backing::Private);
    let memory = Arc::new(memory.map_err(|error| failed("be tried", "", error.into()))?);
    let mut log = UserfaultfdLog::new(memory.clone())?;
    log.start()?;
    memory.write(Gpa(0), &[1]).map_err(|error| failed("be tried", "", error.into()))?;
    log.harvest(&mut found)?;
    log.stop()?;
    if found.count().0 == 1 {
        return Ok(());
    }
    let cause = io::Error::other("a page was written and the kernel does not report it");
    Err(failed("be relied on", "take the software log", cause.into()))
}

/// The dirty log that was chosen for some memory. Printed, it says which and why.
pub struct Choice {
    /// The log.
    pub log: Box<dyn DirtyLog>,
    /// What writers have to mark after each write; none if the log sees writes by itself.
    pub marks: Option<Arc<DirtyBitmap>>,
    /// Why better ones were not taken.
    pub passed_over: Vec<LogError>,
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Choice")
            .field("log", &self.log.name())
            .field("passed_over", &self.passed_over)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sees = match self.marks {
            None => "the kernel records all writes of this process",
            Some(_) => "writers mark what they write",
        };
        write!(f, "{}: {sees}", self.log.name())?;
        self.passed_over.iter().try_for_each(|error| write!(f, "; {}", Causes(error)))
    }
}

/// The best log that works here for `memory`: the kernel's if it can watch it, otherwise a software log, for which all writers
/// have to mark. Never fails, because the software log needs nothing; whoever cannot mark looks at
/// [`Choice::marks`] and gives up.
///
/// A KVM guest needs KVM's log for its vCPUs and has to choose by itself: neither of these sees a vCPU's writes.
pub fn best(memory: Arc<dyn Mapped>) -> Choice {
    let layout = memory.layout().clone();
    let watched = try_userfaultfd().and_then(|()| {
        let log = UserfaultfdLog::new(memory)?;
        log.try_memory()?;
        Ok(log)
    });
    match watched {
        Ok(log) => Choice { log: Box::new(log), marks: None, passed_over: Vec::new() },
        Err(error) => {
            let log = SoftwareLog::new(&layout);
            let marks = Some(Arc::clone(log.bitmap()));
            Choice { log: Box::new(log), marks, passed_over: vec![error] }
        }
    }
}
