//! What a measured run used beside plain pre-copy: its capabilities and their parameters, as the simulator
//! has them.
//!
//! Read from a run's configuration alone. A capability or parameter that is not known here is a reason
//! not to predict the run.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use whimbrel_core::units::ByteCount;

use super::measured::Configuration;

/// What a run used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// The preset that decides, and its parameters beside the limits that every run has.
    pub policy: Option<(&'static str, BTreeMap<String, String>)>,
    /// Connections that carry pages side by side.
    pub streams: u32,
    /// Size of the cache of xbzrle, if that is on.
    pub xbzrle_cache: Option<ByteCount>,
    /// Requested pages have a connection of their own.
    pub preempt: bool,
    /// The guest is handed over before its pages.
    pub post_copy: bool,
    /// The source waits for the destination's word that it runs.
    pub return_path: bool,
}

impl Features {
    /// What `run` used.
    ///
    /// # Errors
    ///
    /// Why the run can't be predicted from its configuration.
    pub fn of(run: &Configuration) -> Result<Self, String> {
        // The writes of a program are known from its own measurement.
        let known = ["uniform", "seq", "hotcold", "zipf", "idle"].contains(&run.pattern.as_str());
        if run.prog.is_none() && !known {
            return Err(format!("its pattern `{}` is not known", run.pattern));
        }
        let mut features = Self { streams: 1, ..Self::default() };
        for capability in &run.caps {
            features.take(capability, run)?;
        }
        if run.postcopy_after_ms.is_some() && !features.post_copy {
            return Err("asks for post-copy without its capability".to_owned());
        }
        match run.params.keys().find(|name| !KNOWN_PARAMETERS.contains(&name.as_str())) {
            Some(unknown) => Err(format!("sets `{unknown}`, which is not simulated")),
            None => Ok(features),
        }
    }

    fn decide_by(
        &mut self,
        preset: &'static str,
        parameters: BTreeMap<String, String>,
    ) -> Result<(), String> {
        match self.policy.replace((preset, parameters)) {
            Some((other, _)) => Err(format!("is `{other}` and `{preset}` at once, which no preset is")),
            None => Ok(()),
        }
    }

    fn take(&mut self, capability: &str, run: &Configuration) -> Result<(), String> {
        match capability {
            "multifd" => {
                let channels = whole(run, "multifd-channels")?.unwrap_or(2);
                self.streams = u32::try_from(channels).map_err(|_| format!("has {channels} channels"))?;
            }
            "xbzrle" => {
                self.xbzrle_cache = Some(whole(run, "xbzrle-cache-size")?.map_or(DEFAULT_CACHE, ByteCount));
            }
            "auto-converge" => self.decide_by("qemu-auto-converge", throttle(run)?)?,
            // Without the command it is pre-copy.
            "postcopy-ram" if run.postcopy_after_ms.is_none() => {}
            "postcopy-ram" => {
                let after = run.postcopy_after_ms.map(|after| format!("{after}ms")).unwrap_or_default();
                self.decide_by("qemu-postcopy", BTreeMap::from([("postcopy-after".to_owned(), after)]))?;
                self.post_copy = true;
            }
            "postcopy-preempt" => self.preempt = true,
            "return-path" => self.return_path = true,
            // It measures and changes nothing.
            "postcopy-blocktime" => {}
            unknown => return Err(format!("uses `{unknown}`, which is not simulated")),
        }
        Ok(())
    }
}

/// QEMU's own size of the cache of xbzrle.
const DEFAULT_CACHE: ByteCount = ByteCount::mib(64);

/// Parameters of auto-converge: QEMU's name and the preset's.
const THROTTLE: [(&str, &str); 3] = [
    ("cpu-throttle-initial", "throttle-initial"),
    ("cpu-throttle-increment", "throttle-increment"),
    ("max-cpu-throttle", "max-throttle"),
];

const KNOWN_PARAMETERS: [&str; 6] = [
    "multifd-channels",
    "xbzrle-cache-size",
    "cpu-throttle-initial",
    "cpu-throttle-increment",
    "max-cpu-throttle",
    "cpu-throttle-tailslow",
];

/// The preset's parameters. QEMU 7.2 does not look at the dirty log between rounds.
fn throttle(run: &Configuration) -> Result<BTreeMap<String, String>, String> {
    let mut parameters = BTreeMap::from([("periodic-sync".to_owned(), "off".to_owned())]);
    for (theirs, ours) in THROTTLE {
        if let Some(percent) = whole(run, theirs)? {
            parameters.insert(ours.to_owned(), format!("{percent}%"));
        }
    }
    if run.params.get("cpu-throttle-tailslow") == Some(&Json::Bool(true)) {
        parameters.insert("tailslow".to_owned(), "on".to_owned());
    }
    Ok(parameters)
}

fn whole(run: &Configuration, name: &str) -> Result<Option<u64>, String> {
    match run.params.get(name) {
        None => Ok(None),
        Some(value) => {
            value.as_u64().map(Some).ok_or_else(|| format!("`{name}` is {value}, not a whole number"))
        }
    }
}
