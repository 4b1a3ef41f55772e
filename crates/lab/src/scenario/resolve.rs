//! Turns a scenario as written into configurations, or into an error that names the key, its place and
//! what is accepted. Called on loading, after overrides and for every cell of a sweep.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};
use whimbrel_core::units::{ByteCount, duration};
use whimbrel_sim::config::{ConfigError, Pattern};

use super::document::{Document, Table, Value, quoted};
use super::error::{Place, ScenarioError, excerpt};
use super::keys::{Slot, hint, required_in, slot};
use super::policy::PolicySpec;
use super::{Fidelity, RunConfig, Setup};
use crate::measured::{self, MeasuredError};

/// Checks everything and builds the configurations. `presets` are the policies that run, see
/// [`PolicySpec::resolve`].
pub(super) fn resolve(document: &Document, presets: &[String]) -> Result<Setup, ScenarioError> {
    let mut sections = check(&document.root, true)?;
    let policy = PolicySpec::resolve(document, presets)?;
    let mut setup = Setup {
        guest: section(document, &mut sections, "guest")?,
        link: section(document, &mut sections, "link")?,
        host: section(document, &mut sections, "host")?,
        run: section(document, &mut sections, "run")?,
        policy,
    };
    load_traces(document, &mut setup)?;
    load_measured(document, &mut setup)?;
    let config = setup
        .guest
        .validate()
        .and_then(|()| setup.link.validate())
        .and_then(|()| setup.host.validate())
        .and_then(|()| setup.host.validate_for(setup.guest.page_size))
        .and_then(|()| validate_run(&setup.run))
        .and_then(|()| match setup.run.fidelity {
            Fidelity::Fluid => {
                setup.guest.validate_for_fluid().and_then(|()| setup.host.validate_for_fluid())
            }
            _ => Ok(()),
        });
    config.map_err(|mut fault| {
        // As it was written: nobody has to know that 5000B are 5kB.
        let path: Vec<_> = fault.key.split('.').collect();
        if let Some(Value::Text(text)) = document.root.find(&path).map(|node| &node.value)
            && text.parse::<ByteCount>().is_ok_and(|size| size.to_string() == fault.value)
        {
            fault.value = excerpt(text, 48);
        }
        ScenarioError::Config { at: document.place(&fault.key), fault }
    })?;
    Ok(setup)
}

/// Reads the traces that writers play back.
fn load_traces(document: &Document, setup: &mut Setup) -> Result<(), ScenarioError> {
    for (index, writer) in setup.guest.writers.iter_mut().enumerate() {
        let Some(trace) = writer.trace.as_mut().filter(|_| writer.pattern == Pattern::Trace) else {
            continue;
        };
        *trace = document.files.trace(trace.name()).map_err(|source| {
            let key = format!("guest.writers.{index}.trace");
            ScenarioError::Trace { at: document.place(&key), key, source: Box::new(source) }
        })?;
    }
    Ok(())
}

/// Fits the models of measured programs: to a curve or, without one, to a trace.
fn load_measured(document: &Document, setup: &mut Setup) -> Result<(), ScenarioError> {
    for (index, writer) in setup.guest.writers.iter_mut().enumerate() {
        if writer.pattern != Pattern::Measured {
            continue;
        }
        let fail = |key: &str, source: MeasuredError| {
            let key = format!("guest.writers.{index}.{key}");
            ScenarioError::Measured { at: document.place(&key), key, source: Box::new(source) }
        };
        writer.measured = match (&writer.curve, &writer.trace) {
            (Some(curve), _) => {
                Some(measured::load(curve, Path::new("")).map_err(|source| fail("curve", source))?)
            }
            (None, Some(trace)) => {
                let read = document.files.trace(trace.name()).map_err(MeasuredError::from);
                let model = read.and_then(|trace| measured::of_trace(&trace, writer.busy));
                Some(model.map_err(|source| fail("trace", source))?)
            }
            (None, None) => None,
        };
    }
    Ok(())
}

fn validate_run(run: &RunConfig) -> Result<(), ConfigError> {
    if run.time_limit.is_zero() || run.time_limit > LONGEST {
        return Err(ConfigError::new(
            "run.time-limit",
            duration::format(run.time_limit),
            format!("more than 0s, at most {}", duration::format(LONGEST)),
        ));
    }
    Ok(())
}

/// The longest virtual time, a year.
const LONGEST: std::time::Duration = std::time::Duration::from_hours(365 * 24);

fn section<T: DeserializeOwned + Default>(
    document: &Document,
    sections: &mut Map<String, Json>,
    name: &str,
) -> Result<T, ScenarioError> {
    let Some(json) = sections.remove(name) else {
        return Ok(T::default());
    };
    // Every value was read before, so this cannot fail; if it does, it is said and not hidden.
    serde_json::from_value(json).map_err(|error| ScenarioError::Value {
        at: document.place(name),
        key: name.to_owned(),
        message: error.to_string(),
    })
}

/// Checks keys and types. Tables that lack a key that must be given are refused if `complete`.
pub(super) fn check(root: &Table, complete: bool) -> Result<Map<String, Json>, ScenarioError> {
    Checker { path: Vec::new(), complete }.table(root, None)
}

struct Checker<'a> {
    path: Vec<std::borrow::Cow<'a, str>>,
    complete: bool,
}

impl<'a> Checker<'a> {
    fn segments(&self) -> Vec<&str> {
        self.path.iter().map(AsRef::as_ref).collect()
    }

    /// The dotted key as an error names it.
    fn key(&self) -> String {
        let segments: Vec<_> = self.path.iter().map(|segment| quoted(segment)).collect();
        excerpt(&segments.join("."), 100)
    }

    fn table(&mut self, table: &'a Table, at: Option<&Place>) -> Result<Map<String, Json>, ScenarioError> {
        let mut map = Map::new();
        for entry in &table.entries {
            self.path.push(entry.key.as_str().into());
            let Some(slot) = slot(&self.segments()) else {
                return Err(ScenarioError::UnknownKey {
                    at: entry.at.clone(),
                    key: self.key(),
                    hint: hint(&self.segments()),
                });
            };
            if let Some(json) = self.value(slot, &entry.node.value, &entry.node.at)? {
                map.insert(entry.key.clone(), json);
            }
            self.path.pop();
        }
        if let Some(at) = at.filter(|_| self.complete) {
            for name in required_in(&self.segments()) {
                if table.get(name).is_none() {
                    return Err(ScenarioError::Missing {
                        at: at.clone(),
                        key: format!("{}.{name}", self.key()),
                    });
                }
            }
        }
        Ok(map)
    }

    fn value(&mut self, slot: Slot, value: &'a Value, at: &Place) -> Result<Option<Json>, ScenarioError> {
        let refuse = |key: String, message: String| ScenarioError::Value { at: at.clone(), key, message };
        let expected =
            |value: &Value, what: &str| format!("{} is not accepted; write {what}", value.describe());
        match (slot, value) {
            (Slot::Leaf(key), Value::Text(text)) if key.optional && text == "none" => Ok(None),
            (Slot::Leaf(key), _) => match key.kind.read(value) {
                Ok(json) => Ok(Some(json)),
                Err(message) => Err(refuse(self.key(), message)),
            },
            (Slot::Table | Slot::Sweep, Value::Table(table)) => Ok(Some(self.table(table, Some(at))?.into())),
            (Slot::Table | Slot::Sweep, _) => Err(refuse(self.key(), expected(value, "a table"))),
            (Slot::List, Value::List(nodes)) => {
                let mut list = Vec::with_capacity(nodes.len());
                for (index, node) in nodes.iter().enumerate() {
                    self.path.push(index.to_string().into());
                    list.extend(self.value(Slot::Table, &node.value, &node.at)?);
                    self.path.pop();
                }
                Ok(Some(list.into()))
            }
            (Slot::List, _) => Err(refuse(self.key(), expected(value, "a list of tables"))),
            // The preset knows what it takes.
            (Slot::Parameter, Value::List(_) | Value::Table(_)) => {
                Err(refuse(self.key(), expected(value, "a text or a number")))
            }
            (Slot::Parameter, _) => Ok(None),
        }
    }
}
