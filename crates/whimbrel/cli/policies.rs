//! `whimbrel policies`: what is known about the presets, and which of them real settings are.

use std::path::PathBuf;

use whimbrel_core::policy::presets::{self, PRESETS};
use whimbrel_lab::import::{self, ImportError, Imported, Origin};
use whimbrel_lab::table;

use super::args::{PoliciesArgs, SettingsOf, TextFormat};
use super::failure::Failure;
use super::{print, width};

/// Reads real settings; wrong ones are bad input, as a wrong scenario is.
pub(super) fn imported(files: &[PathBuf], from: Option<SettingsOf>) -> Result<Imported, Failure> {
    let origin = from.map(|from| match from {
        SettingsOf::Kubevirt => Origin::Kubevirt,
        SettingsOf::Nova => Origin::Nova,
        SettingsOf::Qemu => Origin::Qemu,
    });
    import::load(files, origin).map_err(|error: ImportError| Failure::bad_input(error))
}

/// That there is no preset of this name.
pub(super) fn unknown(name: &str) -> Failure {
    let nearest = presets::nearest(name);
    Failure::bad_input(presets::PresetError::UnknownPreset { preset: name.to_owned(), nearest })
}

/// Lists all, tells about one, or says what real settings are.
pub(super) fn run(args: &PoliciesArgs) -> Result<(), Failure> {
    if !args.import.is_empty() {
        return print(&imported(&args.import, args.from)?.to_toml());
    }
    let text = match (&args.name, args.format) {
        (None, TextFormat::Table) => table::presets(PRESETS, width()),
        (None, TextFormat::Json) => json(&PRESETS.iter().map(table::preset_json).collect()),
        (Some(name), format) => match (presets::find(name), format) {
            (Some(preset), TextFormat::Table) => table::preset(preset, width()),
            (Some(preset), TextFormat::Json) => json(&table::preset_json(preset)),
            (None, _) => return Err(unknown(name)),
        },
    };
    print(&text)
}

fn json(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}
