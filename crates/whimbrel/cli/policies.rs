//! `whimbrel policies`: what is known about the presets.

use whimbrel_core::policy::presets::{self, PRESETS};
use whimbrel_lab::table;

use super::args::{PoliciesArgs, TextFormat};
use super::failure::Failure;
use super::{print, width};

/// Lists all, or tells about one.
pub(super) fn run(args: &PoliciesArgs) -> Result<(), Failure> {
    let text = match (&args.name, args.format) {
        (None, TextFormat::Table) => table::presets(PRESETS, width()),
        (None, TextFormat::Json) => json(&PRESETS.iter().map(table::preset_json).collect()),
        (Some(name), format) => match (presets::find(name), format) {
            (Some(preset), TextFormat::Table) => table::preset(preset, width()),
            (Some(preset), TextFormat::Json) => json(&table::preset_json(preset)),
            (None, _) => {
                let unknown = presets::PresetError::UnknownPreset {
                    preset: name.clone(),
                    nearest: presets::nearest(name),
                };
                return Err(Failure::bad_input(unknown));
            }
        },
    };
    print(&text)
}

fn json(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}
