//! A trace as a configuration names it, and what replaying it takes, made once however many guests do.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Trace;
use crate::guest::{TraceHabits, TraceWords};

/// The name of a trace, a file's as a rule, and the trace itself once somebody has read it.
///
/// In configuration files it is the name alone. The simulator reads no files: what is not loaded is refused
/// when the guest is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTrace {
    name: Arc<str>,
    loaded: Option<Arc<Loaded>>,
}

/// A trace that is replayed.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) trace: Trace,
    habits: OnceLock<TraceHabits>,
    words: OnceLock<TraceWords>,
}

impl PartialEq for Loaded {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || self.trace == other.trace
    }
}

impl Eq for Loaded {}

impl Loaded {
    /// How often each page is written.
    pub(crate) fn habits(&self) -> &TraceHabits {
        self.habits.get_or_init(|| TraceHabits::of(&self.trace))
    }

    /// Its pages by words.
    pub(crate) fn words(&self) -> &TraceWords {
        self.words.get_or_init(|| TraceWords::of(&self.trace))
    }
}

impl NamedTrace {
    /// A trace that is there.
    pub fn new(name: &str, trace: Trace) -> Self {
        let loaded = Loaded { trace, habits: OnceLock::new(), words: OnceLock::new() };
        Self { name: name.into(), loaded: Some(Arc::new(loaded)) }
    }

    /// A name only.
    pub fn unloaded(name: &str) -> Self {
        Self { name: name.into(), loaded: None }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The trace; none if nobody has read it.
    pub fn trace(&self) -> Option<&Trace> {
        self.loaded.as_deref().map(|loaded| &loaded.trace)
    }

    pub(crate) fn loaded(&self) -> Option<&Arc<Loaded>> {
        self.loaded.as_ref()
    }
}

impl Serialize for NamedTrace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl<'de> Deserialize<'de> for NamedTrace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::unloaded(&String::deserialize(deserializer)?))
    }
}
