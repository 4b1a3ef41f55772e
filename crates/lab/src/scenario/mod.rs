//! Scenarios: what is migrated, over what, by which policy and how often, as TOML.
//!
//! The command line loads a scenario from a file or takes a built-in one, applies overrides and asks
//! for the [`Setup`] of one migration or for the [`Grid`] of a sweep. Nothing is run here, and no text
//! may make it panic: every fault is a [`ScenarioError`] that names the place, the key, the value and
//! what is accepted.
//!
//! ```
//! use whimbrel_lab::scenario::Scenario;
//!
//! let mut scenario = Scenario::parse("[link]\nbandwidth = \"10Gbit/s\"", "example.toml")?;
//! scenario.apply_overrides(&["guest.writers.0.rate=5000"])?;
//! assert_eq!(scenario.setup().guest.writers.len(), 1);
//!
//! let error = Scenario::parse("[link]\nbandwith = \"10Gbit/s\"", "example.toml").unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "example.toml:2: unknown key `link.bandwith`; did you mean `link.bandwidth`?"
//! );
//! # Ok::<(), whimbrel_lab::scenario::ScenarioError>(())
//! ```

mod changes;
mod document;
pub(crate) mod error;
mod files;
pub mod keys;
mod kind;
mod named;
mod overrides;
mod policy;
mod resolve;
mod sweep;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use whimbrel_core::units::duration;
pub use whimbrel_sim::config::Fidelity;
use whimbrel_sim::config::{GuestConfig, HostConfig, LinkConfig};

pub use self::changes::PolicyChange;
use self::document::{Document, Lines, quoted};
use self::error::MAX_FILE;
pub use self::error::{Place, ScenarioError};
pub use self::kind::{AxisUnit, Kind};
pub use self::named::{PolicyError, check_name, named};
pub use self::policy::PolicySpec;
pub use self::sweep::{Axis, AxisValue, Cell, Coordinate, Grid, MAX_RUNS};
use crate::input;

/// Everything that one migration is made of. [`Setup::default`] is the empty scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Setup {
    /// The guest.
    pub guest: GuestConfig,
    /// The link.
    pub link: LinkConfig,
    /// The hosts.
    pub host: HostConfig,
    /// The policy.
    pub policy: PolicySpec,
    /// How it is run.
    pub run: RunConfig,
}

/// How a scenario is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct RunConfig {
    /// Seed of every random choice. Default 0: the same seed gives the same result.
    pub seed: u64,
    /// Runs of each cell of a sweep. Default 1.
    pub repeat: u32,
    /// Virtual time after which a migration that did not end is given up. Default 1h.
    #[serde(with = "duration")]
    pub time_limit: Duration,
    /// How finely the guest is simulated. Default `exact`.
    pub fidelity: Fidelity,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self { seed: 0, repeat: 1, time_limit: Duration::from_hours(1), fidelity: Fidelity::Exact }
    }
}

impl RunConfig {
    /// The seed of run number `repetition`, counted from 0: `seed + repetition`, wrapping around.
    ///
    /// Nothing else is mixed in, so any run of a sweep can be repeated alone with its cell's overrides
    /// and this seed. Cells share seeds on purpose: neighbours differ by what was swept, not by luck.
    pub fn seed_of(&self, repetition: u32) -> u64 {
        self.seed.wrapping_add(repetition.into())
    }
}

/// A scenario that was read and checked.
#[derive(Clone, Debug)]
pub struct Scenario {
    document: Document,
    setup: Setup,
    axes: Vec<Axis>,
    /// The policies that run: those swept, or the one given.
    presets: Vec<String>,
}

/// What [`Scenario::builtin`] knows: name and text.
const BUILTIN: &[(&str, &str)] = &[
    ("default", include_str!("../../../../scenarios/default.toml")),
    ("sweep", include_str!("../../../../scenarios/sweep.toml")),
    ("bench", include_str!("../../../../scenarios/bench.toml")),
];

impl Scenario {
    /// Reads a scenario from a file, a pipe, or with `-` from standard input.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is not TOML in UTF-8, or describes nothing that can exist.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ScenarioError> {
        let path = path.as_ref();
        let file = path.display().to_string();
        let fail = |source| ScenarioError::Read { file: file.clone(), source };
        let bytes = match input::read(path, MAX_FILE + 1) {
            Err(source) if source.kind() == io::ErrorKind::IsADirectory => {
                return Err(ScenarioError::Directory { file });
            }
            read => read.map_err(fail)?,
        };
        Self::of_file(&bytes, path)
    }

    /// Reads a scenario from the bytes of a file.
    pub(crate) fn of_file(bytes: &[u8], path: &Path) -> Result<Self, ScenarioError> {
        let file = path.display().to_string();
        if bytes.len() as u64 > MAX_FILE {
            return Err(ScenarioError::TooLarge { file });
        }
        Self::parse_bytes(bytes, &file, path.parent())
    }

    /// Reads a scenario from TOML; `name` is what messages call the file. Paths of files in it begin at the
    /// current folder.
    ///
    /// # Errors
    ///
    /// As [`Scenario::load`].
    pub fn parse(text: &str, name: &str) -> Result<Self, ScenarioError> {
        Self::resolve(Document::parse(text, name)?)
    }

    /// Paths begin at `folder`, if there is one.
    fn parse_bytes(bytes: &[u8], name: &str, folder: Option<&Path>) -> Result<Self, ScenarioError> {
        // What a full disk left of something is no wish for the defaults.
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(ScenarioError::Empty { file: name.to_owned() });
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = Lines::new(bytes).of(error.valid_up_to());
            ScenarioError::NotText { at: Place::Line(name.into(), line) }
        })?;
        // Some editors begin UTF-8 files with this mark.
        let mut document = Document::parse(text.strip_prefix('\u{feff}').unwrap_or(text), name)?;
        if let Some(folder) = folder {
            document.anchor(folder);
        }
        Self::resolve(document)
    }

    /// A scenario that is part of the program: `default` (one migration), `sweep` (the main job) or `bench` (real migrations).
    ///
    /// # Errors
    ///
    /// If there is none of this name.
    pub fn builtin(name: &str) -> Result<Self, ScenarioError> {
        let Some((_, text)) = BUILTIN.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = BUILTIN.iter().map(|(name, _)| format!("`{name}`")).collect();
            return Err(ScenarioError::NoBuiltin { name: name.to_owned(), known: known.join(", ") });
        };
        Self::parse(text, &format!("scenarios/{name}.toml"))
    }

    /// Applies overrides, each `KEY=VALUE`, in their order; afterwards the scenario is checked anew.
    ///
    /// A value is TOML where it can be read as such and plain text elsewhere. Setting the position
    /// behind the last of a list adds an entry. Setting a swept key ends its sweep. Nothing changes if
    /// one is refused.
    ///
    /// # Errors
    ///
    /// Names the override that is wrong.
    pub fn apply_overrides<S: AsRef<str>>(&mut self, overrides: &[S]) -> Result<(), ScenarioError> {
        self.change(None, overrides)
    }

    /// Takes the policy that a text names ([`named()`]), if there is one, and then applies overrides. A preset stands in
    /// place of the scenario's, whose parameters stay where it has them too; given parameters go over those; a file's
    /// policy replaces all of the scenario's. Nothing changes if one is refused.
    ///
    /// # Errors
    ///
    /// As [`named()`] and [`Scenario::apply_overrides`].
    pub fn change<S: AsRef<str>>(
        &mut self,
        policy: Option<&str>,
        overrides: &[S],
    ) -> Result<(), ScenarioError> {
        let mut document = self.document.clone();
        if let Some(text) = policy {
            document.name_policy(text, &Place::Policy(text.into())).map_err(Box::new)?;
        }
        for text in overrides {
            document.apply(text.as_ref())?;
        }
        *self = Self::resolve(document)?;
        Ok(())
    }

    /// Puts another policy in place of the scenario's own, which goes with its parameters, changes and
    /// sweeps; `from` is what messages call the place that it is from.
    ///
    /// # Errors
    ///
    /// If there is no such preset, or it does not take one of the parameters.
    pub fn replace_policy(&mut self, policy: &PolicySpec, from: &str) -> Result<(), ScenarioError> {
        let mut document = self.document.clone();
        document.replace_policy(policy, from);
        *self = Self::resolve(document)?;
        Ok(())
    }

    /// The policy that the file itself names, for files that were written for its sake (`policy.toml`).
    ///
    /// # Errors
    ///
    /// If it names none.
    pub fn own_policy(&self) -> Result<&PolicySpec, ScenarioError> {
        match self.document.preset {
            Some(_) => Ok(&self.setup.policy),
            None => Err(ScenarioError::Missing {
                at: Place::File(self.document.file.clone()),
                key: "policy.preset".to_owned(),
            }),
        }
    }

    fn resolve(mut document: Document) -> Result<Self, ScenarioError> {
        document.take_in_policies()?;
        let (axes, presets) = sweep::axes(&document)?;
        let setup = resolve::resolve(&document, &presets)?;
        // Parameters of a preset that was replaced have done their service.
        if let Some(table) = document.root.table_mut("policy", &Place::File(document.file.clone())) {
            policy::drop_left_over(table, &presets);
        }
        Ok(Self { document, setup, axes, presets })
    }

    /// Whether a dotted key of tables is written down, in the file or by an override, and not only there by default.
    pub fn says(&self, key: &str) -> bool {
        let mut keys = key.split('.');
        let mut node = keys.next().and_then(|key| self.document.root.get(key));
        for key in keys {
            node = match node.map(|node| &node.value) {
                Some(document::Value::Table(table)) => table.get(key),
                _ => None,
            };
        }
        node.is_some()
    }

    /// The scenario's file, as messages name it.
    pub fn name(&self) -> &str {
        &self.document.file
    }

    /// One migration: the scenario without its sweep.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// What is swept, in the order in which it was written.
    pub fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// The cells of the sweep, each checked; a single one if nothing is swept.
    ///
    /// # Errors
    ///
    /// If there are too many or one describes nothing that can exist.
    pub fn grid(&self) -> Result<Grid, ScenarioError> {
        Grid::new(self)
    }

    /// The scenario as TOML, defaults written out: with it, what was run can be run again, even by a
    /// version whose defaults differ.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for (name, value) in [
            ("guest", section(&self.setup.guest)),
            ("link", section(&self.setup.link)),
            ("host", section(&self.setup.host)),
        ] {
            let _ = write!(text, "[{name}]\n{value}\n");
        }
        let _ =
            writeln!(text, "[policy]\npreset = {}", document::Value::Text(self.setup.policy.preset.clone()));
        if let Some(document::Value::Table(table)) = self.document.root.get("policy").map(|node| &node.value)
        {
            for entry in table.entries.iter().filter(|entry| entry.key != "preset") {
                let _ = writeln!(text, "{} = {}", quoted(&entry.key), entry.node.value);
            }
        }
        let _ = write!(text, "\n[run]\n{}", section(&self.setup.run));
        if !self.document.sweep.is_empty() {
            text.push_str("\n[sweep]\n");
        }
        for axis in &self.document.sweep {
            let _ = writeln!(text, "\"{}\" = {}", axis.key, axis.node.value);
        }
        text
    }
}

/// A guest as a scenario of its own, with every default; `seed` decides what it does.
pub fn guest_toml(guest: &GuestConfig, seed: u64) -> String {
    format!("[guest]\n{}\n[run]\nseed = {seed}\n", section(guest))
}

/// The entries of a table, lists of tables in one line each.
fn section<T: Serialize>(config: &T) -> String {
    let mut text = String::new();
    if let Ok(serde_json::Value::Object(map)) = serde_json::to_value(config) {
        for (key, value) in &map {
            if !value.is_null() {
                let _ = writeln!(text, "{key} = {}", inline(value));
            }
        }
    }
    text
}

/// A value of a configuration as TOML in one line.
fn inline(value: &serde_json::Value) -> String {
    use serde_json::Value as Json;
    match value {
        Json::Array(list) => {
            let items: Vec<_> = list.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(map) => {
            let present = map.iter().filter(|(_, value)| !value.is_null());
            let items: Vec<_> = present.map(|(key, value)| format!("{key} = {}", inline(value))).collect();
            format!("{{ {} }}", items.join(", "))
        }
        Json::String(text) => document::Value::Text(text.clone()).to_string(),
        Json::Number(number) if number.is_f64() => {
            document::Value::Float(number.as_f64().unwrap_or_default()).to_string()
        }
        other => other.to_string(),
    }
}

/// Reads arbitrary bytes as a scenario, and as an override of the default one. Meant for fuzzing: it
/// must return, whatever the bytes are.
///
/// # Panics
///
/// If a scenario that was read does not read as itself when it is printed, which is a fault of ours.
pub fn check(data: &[u8]) {
    if let Ok(scenario) = Scenario::parse_bytes(data, "fuzz.toml", None) {
        let printed = scenario.to_toml();
        let again = Scenario::parse(&printed, "printed.toml");
        assert!(
            again.is_ok_and(|again| again.setup == scenario.setup && again.to_toml() == printed),
            "a printed scenario must read as itself:\n{printed}"
        );
        // A grid may be large, and large ones are not what is looked for here.
        let cells = scenario.axes.iter().map(|axis| axis.values.len() as u64).fold(1, u64::saturating_mul);
        if cells <= 64 {
            let _ = scenario.grid();
        }
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(mut scenario) = Scenario::builtin("default")
    {
        let _ = scenario.apply_overrides(&text.lines().collect::<Vec<_>>());
    }
}
