//! Import of real settings: what an administrator has configured, as a preset and its parameters.
//!
//! The command line hands over the texts of one or more files of one product and gets an [`Imported`]: what
//! can be decided with is taken over, and everything else that was written is named in a note with the
//! reason why it is not. Nothing is guessed: a value that cannot be read is an [`ImportError`] that names
//! file, line, key, value and what is accepted. A key that nobody knows is a note, because products grow
//! keys faster than this does. No text may make it panic.
//!
//! | origin | what is read | becomes |
//! |---|---|---|
//! | `kubevirt` | `KubeVirt` and `MigrationPolicy` resources, or their settings alone (YAML, JSON) | `kubevirt-*` |
//! | `nova` | `nova.conf`, its section `[libvirt]` | `nova` |
//! | `qemu` | the replies to `query-migrate-parameters` and `query-migrate-capabilities` (JSON) | `qemu-*` |
//!
//! A setting that is not written is not in the parameters either: the presets' defaults are the products'.
//! Where that is not so, a note says it.

mod error;
mod ini;
mod kubevirt;
mod nova;
mod qemu;
mod quantity;
mod setting;
#[cfg(test)]
mod tests;
mod yaml;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use whimbrel_core::policy::presets;

pub use self::error::ImportError;
use crate::input;
use crate::scenario::PolicySpec;
use crate::scenario::error::{MAX_FILE, excerpt};
use crate::table::wrap;

/// Whose settings they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// `KubeVirt`'s resources.
    Kubevirt,
    /// `OpenStack` nova's configuration.
    Nova,
    /// QEMU's replies.
    Qemu,
}

impl Origin {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kubevirt, Self::Nova, Self::Qemu];

    /// The word for it on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kubevirt => "kubevirt",
            Self::Nova => "nova",
            Self::Qemu => "qemu",
        }
    }

    /// What `text` looks like; none if it resembles nothing that is known.
    ///
    /// Looks for words that only one of them has, so that a file with a fault is still read, and its fault
    /// named, as what it was meant to be.
    pub fn of(text: &str) -> Option<Self> {
        let line = |begin: fn(&str) -> bool| text.lines().map(str::trim).any(begin);
        if line(|line| line == "[libvirt]" || line.starts_with("live_migration_")) {
            Some(Self::Nova)
        } else if kubevirt::MARKS.iter().any(|mark| text.contains(mark)) {
            Some(Self::Kubevirt)
        } else {
            qemu::MARKS.iter().any(|mark| text.contains(mark)).then_some(Self::Qemu)
        }
    }
}

/// What an import gives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// Whose settings they were.
    pub origin: Origin,
    /// The files, as messages call them.
    pub files: Vec<String>,
    /// The preset's name.
    pub preset: &'static str,
    /// Its parameters as they were written; those not written have the preset's defaults.
    pub parameters: BTreeMap<String, String>,
    /// What was not taken over or was assumed, and why; a sentence each.
    pub notes: Vec<String>,
}

/// Imports the settings in `files`, of `origin` or of what they look like.
///
/// # Errors
///
/// If a file cannot be read, they are of different products or of none that is known, or hold a value that
/// the product would not take.
pub fn load(files: &[impl AsRef<Path>], origin: Option<Origin>) -> Result<Imported, ImportError> {
    let texts: Vec<_> = files.iter().map(|file| read(file.as_ref())).collect::<Result<_, _>>()?;
    parse(&texts, origin)
}

/// The same from texts, each with what messages call its file.
///
/// # Errors
///
/// As [`load`].
pub fn parse(files: &[(String, String)], origin: Option<Origin>) -> Result<Imported, ImportError> {
    let origin = match origin {
        Some(origin) => origin,
        None => recognise(files)?,
    };
    let draft = match origin {
        Origin::Kubevirt => kubevirt::import(files)?,
        Origin::Nova => nova::import(files)?,
        Origin::Qemu => qemu::import(files)?,
    };
    let imported = Imported {
        origin,
        files: files.iter().map(|(name, _)| name.clone()).collect(),
        preset: draft.preset,
        parameters: draft.parameters,
        notes: draft.notes,
    };
    // Each value was checked where it was read; whether they go together, the preset knows.
    presets::build(imported.preset, &imported.parameters)?;
    Ok(imported)
}

fn recognise(files: &[(String, String)]) -> Result<Origin, ImportError> {
    let mut first: Option<(Origin, &str)> = None;
    for (name, text) in files {
        let origin = Origin::of(text).ok_or_else(|| ImportError::Unknown { file: excerpt(name, 200) })?;
        let (known, file) = *first.get_or_insert((origin, name));
        if known != origin {
            let word = Origin::word;
            return Err(ImportError::Mixed {
                first: (excerpt(file, 200), word(known)),
                second: (excerpt(name, 200), word(origin)),
            });
        }
    }
    first.map(|(origin, _)| origin).ok_or_else(|| ImportError::Unknown { file: "no file".to_owned() })
}

fn read(path: &Path) -> Result<(String, String), ImportError> {
    let name = path.display().to_string();
    let file = excerpt(&name, 200);
    let fail = |source| ImportError::Read { file: file.clone(), source };
    let bytes = match input::read(path, MAX_FILE + 1) {
        Err(source) if source.kind() == io::ErrorKind::IsADirectory => {
            return Err(ImportError::Directory { file });
        }
        read => read.map_err(fail)?,
    };
    if bytes.len() as u64 > MAX_FILE {
        return Err(ImportError::TooLarge { file });
    }
    let text = String::from_utf8(bytes).map_err(|_| ImportError::NotText { file })?;
    // Some editors begin UTF-8 files with this mark.
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    Ok((name, text))
}

impl Imported {
    /// As the policy of a scenario.
    pub fn policy(&self) -> PolicySpec {
        let preset = self.preset.to_owned();
        PolicySpec { preset, parameters: self.parameters.clone(), ..PolicySpec::default() }
    }

    /// As the table `[policy]` of a scenario, with the notes as comments: a whole TOML document.
    pub fn to_toml(&self) -> String {
        let mut text = wrap(&format!("Imported from {}.", self.names()), "# ", WIDTH);
        let _ = writeln!(text, "[policy]\npreset = \"{}\"", self.preset);
        for (name, value) in &self.parameters {
            let _ = writeln!(text, "{name} = {}", toml::Value::from(value.as_str()));
        }
        for (index, note) in self.notes.iter().enumerate() {
            text.push_str(if index == 0 { "\n" } else { "" });
            let lines = wrap(note, "#   ", WIDTH);
            text.push_str(&lines.replacen("#   ", "# * ", 1));
        }
        text
    }

    /// The files, for people.
    pub fn names(&self) -> String {
        let names: Vec<_> = self.files.iter().map(|name| excerpt(name, 200)).collect();
        names.join(" and ")
    }
}

const WIDTH: usize = 100;

/// What a source makes of its settings.
struct Draft {
    preset: &'static str,
    parameters: BTreeMap<String, String>,
    notes: Vec<String>,
}

impl Draft {
    fn new(preset: &'static str) -> Self {
        Self { preset, parameters: BTreeMap::new(), notes: Vec::new() }
    }

    fn set(&mut self, parameter: &str, value: impl Into<String>) {
        self.parameters.insert(parameter.to_owned(), value.into());
    }

    fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// One note about all of `names`, if there are any.
    fn note_rest(&mut self, what: &str, names: &[&str]) {
        const MOST: usize = 40;
        let listed: Vec<_> = names.iter().take(MOST).map(|name| format!("`{}`", excerpt(name, 60))).collect();
        let more = match names.len().saturating_sub(MOST) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        if !listed.is_empty() {
            self.note(format!("{what}: {}{more}.", listed.join(", ")));
        }
    }
}

/// The text of a switch.
fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// The text of a number of milliseconds.
fn milliseconds(count: u64) -> String {
    whimbrel_core::units::duration::format(std::time::Duration::from_millis(count))
}

/// The text of a number of seconds.
fn seconds(count: u64) -> String {
    whimbrel_core::units::duration::format(std::time::Duration::from_secs(count))
}

/// The text of a cap in bytes a second; `none` for zero.
fn rate(bytes_per_second: u64, none: &str) -> String {
    let rate = whimbrel_core::units::Bandwidth::new(bytes_per_second);
    rate.map_or_else(|| none.to_owned(), |rate| rate.to_string())
}
