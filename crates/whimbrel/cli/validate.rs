//! `whimbrel validate`: measured migrations beside their predictions.

use std::path::PathBuf;

use whimbrel_lab::table;
use whimbrel_lab::validate::profile::{BUILTIN, HostProfile};
use whimbrel_lab::validate::{ValidateError, validate};

use super::args::{TextFormat, ValidateArgs};
use super::failure::Failure;
use super::{print, width};

/// A validation whose host profile is read.
pub(super) struct Validating {
    files: Vec<PathBuf>,
    profile: HostProfile,
    format: TextFormat,
    samples: u32,
}

impl Validating {
    /// Reads the profile.
    pub(super) fn ready(args: ValidateArgs) -> Result<Self, Failure> {
        let name = args.host.as_deref().unwrap_or(BUILTIN.0);
        let profile = HostProfile::load(name).map_err(Failure::bad_input)?;
        Ok(Self { files: args.files, profile, format: args.format, samples: args.repeat })
    }

    /// Predicts every run and tells how well.
    pub(super) fn run(self) -> Result<(), Failure> {
        let validation = validate(&self.files, &self.profile, self.samples).map_err(|error| match error {
            // What the files and the profile hold is the user's; that it can be simulated is ours.
            ValidateError::Simulation { .. } => Failure::failed(error),
            _ => Failure::bad_input(error),
        })?;
        print(&match self.format {
            TextFormat::Table => table::validation(&validation, width()),
            TextFormat::Json => serde_json::to_string_pretty(&validation).map_err(Failure::failed)? + "\n",
        })
    }
}
