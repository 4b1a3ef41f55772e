//! The state of a search on the disk: what was searched, and the population after the last generation.
//!
//! Written whole after every generation, so that whatever ends a search, it goes on from the last one. A state
//! is of one search only: everything that a result follows from stands beside it, and is compared before it is
//! continued. More generations of the same search are the same search.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::nsga2::Nsga2;
use super::{Plan, TuneError};
use crate::output::write_whole;

/// The version of the file.
const SCHEMA: u32 = 1;
/// No state of a sane search is larger.
const MAX_FILE: u64 = 1 << 28;

/// What is stored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    schema: u32,
    /// All that a result follows from, in words.
    of: BTreeMap<String, String>,
    search: Nsga2,
}

/// What tells a search from others.
pub(super) fn identity(plan: &Plan) -> BTreeMap<String, String> {
    let space = &plan.space;
    let given = space.given().iter().map(|(name, text)| format!("{name}={text}"));
    let ranges = space.dimensions().iter().map(|known| format!("{}={}", known.name(), known.describe()));
    let workloads = plan
        .workloads
        .iter()
        .map(|workload| format!("{}:{:016x}", workload.name, fnv(&workload.scenario.to_toml())));
    let joined = |texts: &mut dyn Iterator<Item = String>| texts.collect::<Vec<_>>().join(" ");
    BTreeMap::from(
        [
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("policy", space.preset().name.to_owned()),
            ("parameters", joined(&mut given.into_iter())),
            ("ranges", joined(&mut ranges.into_iter())),
            ("objectives", joined(&mut plan.objectives.iter().map(ToString::to_string))),
            ("workloads", joined(&mut workloads.into_iter())),
            ("fidelity", plan.fidelity.map_or_else(|| "as written".to_owned(), |known| format!("{known:?}"))),
            ("seed", plan.seed.to_string()),
            ("repeat", plan.repeat.to_string()),
            ("population", plan.population.to_string()),
        ]
        .map(|(name, text)| (name.to_owned(), text)),
    )
}

/// Puts the state into its file.
pub(super) fn write(path: &Path, plan: &Plan, search: &Nsga2) -> Result<(), TuneError> {
    let stored = Stored { schema: SCHEMA, of: identity(plan), search: search.clone() };
    let text = serde_json::to_string(&stored)
        .map_err(|source| TuneError::NotState { path: path.to_owned(), why: source.to_string() })?;
    Ok(write_whole(path, &(text + "\n"))?)
}

/// Reads the state of this very search.
pub(super) fn read(path: &Path, plan: &Plan) -> Result<Nsga2, TuneError> {
    let fail = |source| TuneError::ReadState { path: path.to_owned(), source };
    let not = |why: String| TuneError::NotState { path: path.to_owned(), why };
    if fs::metadata(path).map_err(fail)?.len() > MAX_FILE {
        return Err(not("it is too large".to_owned()));
    }
    let text = fs::read_to_string(path).map_err(fail)?;
    let stored: Stored = serde_json::from_str(&text).map_err(|error| not(error.to_string()))?;
    if stored.schema != SCHEMA {
        return Err(not(format!("its schema is {}, not {SCHEMA}", stored.schema)));
    }
    for (name, ours) in identity(plan) {
        let theirs = stored.of.get(&name).map_or("", String::as_str);
        if theirs != ours {
            let (what, stored, asked) = (name, theirs.to_owned(), ours);
            return Err(TuneError::OtherSearch { path: path.to_owned(), what, stored, asked });
        }
    }
    let (genes, objectives) = (plan.space.dimensions().len(), plan.objectives.len());
    if !stored.search.is_sound(genes, plan.population as usize, objectives) {
        return Err(not("its population does not fit the search".to_owned()));
    }
    Ok(stored.search)
}

/// 64-bit FNV-1a; tells texts apart, no more.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
