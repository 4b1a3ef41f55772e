//! QEMU's own settings, as it tells them over its monitor: the reply to `query-migrate-parameters`, and to
//! `query-migrate-capabilities` where there is one, become one of the presets `qemu-*`.
//!
//! A file holds one or more JSON values: the whole reply (`{"return": …}`) or what is in it, in any order;
//! greetings and events between them are passed over. Without capabilities nobody knows whether the guest may
//! be slowed or fetched afterwards, so the preset is then `qemu-default`. QEMU that tells its capabilities
//! among the parameters (10.2 on) needs no second reply.
//!
//! Units and bounds are those of qapi/migration.json.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use whimbrel_core::units::{Bandwidth, duration};

use super::error::ImportError;
use super::setting::{Node, Setting, Value, place};
use super::{Draft, milliseconds, on_off, rate};
use crate::scenario::error::excerpt;

/// Words that only these replies have.
pub(super) const MARKS: [&str; 5] =
    ["\"downtime-limit\"", "\"max-bandwidth\"", "\"capability\"", "\"cpu-throttle-", "\"return\""];

/// Capabilities that decide which preset it is.
const DECIDING: [&str; 3] = ["auto-converge", "dirty-limit", "postcopy-ram"];

/// Capabilities that say how pages are sent, and which keys of a scenario do.
const SENDING: [(&str, &str); 5] = [
    (
        "xbzrle",
        "differences are sent if `host.xbzrle.cache` of the scenario is given; QEMU's is xbzrle-cache-size",
    ),
    (
        "multifd",
        "several connections send if `host.streams` of the scenario is given; QEMU's is multifd-channels",
    ),
    ("compress", "pages are compressed if `host.compression.ratio` of the scenario is given"),
    ("postcopy-preempt", "`host.post-copy-preempt` of the scenario is the same"),
    ("pause-before-switchover", "`host.switchover-gate` of the scenario says how long that is"),
];

/// Parameters with a part in the decision.
const LIMITS: [&str; 3] = ["downtime-limit", "avail-switchover-bandwidth", "max-bandwidth"];
const TRIGGER: &str = "throttle-trigger-threshold";
const THROTTLE: [&str; 4] =
    ["cpu-throttle-initial", "cpu-throttle-increment", "max-cpu-throttle", "cpu-throttle-tailslow"];
const DIRTY_LIMIT: [&str; 2] = ["vcpu-dirty-limit", "x-vcpu-dirty-limit-period"];

/// What the replies say, each with its file.
#[derive(Default)]
struct Told {
    parameters: BTreeMap<String, (usize, Node)>,
    /// None: nothing was said about capabilities.
    capabilities: Option<BTreeMap<String, bool>>,
    any_parameters: bool,
}

pub(super) fn import(files: &[(String, String)]) -> Result<Draft, ImportError> {
    let mut told = Told::default();
    for (index, (file, text)) in files.iter().enumerate() {
        for value in serde_json::Deserializer::from_str(text).into_iter::<Json>() {
            let value = value.map_err(|error| ImportError::Syntax {
                at: place(file, Some(error.line())),
                message: format!("not JSON: {}", excerpt(&error.to_string(), 120)),
            })?;
            told.value((index, file), value)?;
        }
    }
    if !told.any_parameters && told.capabilities.is_none() {
        let file = files.first().map_or_else(String::new, |(file, _)| excerpt(file, 200));
        let message = "there is no reply in it; accepted is what query-migrate-parameters or \
                       query-migrate-capabilities gives"
            .to_owned();
        return Err(ImportError::Nothing { file, message });
    }
    told.draft(files)
}

impl Told {
    /// One JSON value of a file.
    fn value(&mut self, (index, file): (usize, &str), value: Json) -> Result<(), ImportError> {
        let refuse = |message: String| ImportError::Syntax { at: place(file, None), message };
        let value = match value {
            Json::Object(mut map) => {
                if let Some(error) = map.get("error") {
                    let why = error.get("desc").and_then(Json::as_str).unwrap_or("no reason given");
                    return Err(refuse(format!("QEMU refused: {}", excerpt(why, 120))));
                }
                if map.contains_key("QMP") || map.contains_key("event") {
                    return Ok(());
                }
                map.remove("return").unwrap_or(Json::Object(map))
            }
            other => other,
        };
        match value {
            Json::Object(map) => {
                // The reply of a command that has nothing to say.
                self.any_parameters |= !map.is_empty();
                for (key, value) in map {
                    match (
                        &value,
                        DECIDING.contains(&key.as_str()) || SENDING.iter().any(|(name, _)| *name == key),
                    ) {
                        (Json::Bool(state), true) => self.capability(key, *state),
                        _ => {
                            self.parameters.insert(key, (index, node(value)));
                        }
                    }
                }
                Ok(())
            }
            Json::Array(list) => {
                self.capabilities.get_or_insert_default();
                for entry in list {
                    let name = entry.get("capability").and_then(Json::as_str);
                    let state = entry.get("state").and_then(Json::as_bool);
                    let (Some(name), Some(state)) = (name, state) else {
                        let text = excerpt(&entry.to_string(), 60);
                        return Err(refuse(format!(
                            "`{text}` is no capability; write {{\"capability\": \"auto-converge\", \"state\": true}}"
                        )));
                    };
                    self.capability(name.to_owned(), state);
                }
                Ok(())
            }
            other => {
                let text = excerpt(&other.to_string(), 60);
                Err(refuse(format!(
                    "`{text}` is no reply; accepted is an object of parameters or a list of capabilities"
                )))
            }
        }
    }

    fn capability(&mut self, name: String, state: bool) {
        self.capabilities.get_or_insert_default().insert(name, state);
    }

    fn on(&self, capability: &str) -> bool {
        self.capabilities.as_ref().is_some_and(|known| known.get(capability) == Some(&true))
    }

    /// The preset that the capabilities make it.
    fn preset(&self, files: &[(String, String)]) -> Result<&'static str, ImportError> {
        Ok(match (self.on("auto-converge"), self.on("dirty-limit"), self.on("postcopy-ram")) {
            (true, true, _) => {
                let file = files.first().map_or("", |(file, _)| file);
                return Err(ImportError::Value {
                    at: place(file, None),
                    key: "dirty-limit".to_owned(),
                    value: "`true` beside `auto-converge`".to_owned(),
                    accepted: "one of them: QEMU takes no two".to_owned(),
                });
            }
            (true, ..) => "qemu-auto-converge",
            (_, true, _) => "qemu-dirty-limit",
            (.., true) => "qemu-postcopy",
            _ => "qemu-default",
        })
    }

    fn draft(&self, files: &[(String, String)]) -> Result<Draft, ImportError> {
        let mut draft = Draft::new(self.preset(files)?);
        let mut rest = Vec::new();
        for (key, (file, node)) in &self.parameters {
            let file = files.get(*file).map_or("", |(file, _)| file.as_str());
            let setting = Setting { file, key: key.clone(), node };
            if node.value == Value::Null || take(&mut draft, &setting)? {
                continue;
            }
            if key == "max-postcopy-bandwidth" && draft.preset == "qemu-postcopy" && !setting.is("0") {
                draft.note(setting.note("not modelled: after the handover nothing is capped"));
            } else {
                rest.push(key.as_str());
            }
        }
        self.say_what_is_assumed(&mut draft);
        draft.note_rest("These parameters have no part in this preset's decision", &rest);
        Ok(draft)
    }

    fn say_what_is_assumed(&self, draft: &mut Draft) {
        if self.capabilities.is_none() {
            draft.note(
                "Nothing is said about capabilities: none is taken to be on. Import the reply to \
                 query-migrate-capabilities, too, if auto-converge, dirty-limit or postcopy-ram may be.",
            );
        }
        if !self.parameters.contains_key("max-bandwidth") {
            draft.note(
                "max-bandwidth is not said: nothing is capped here, while QEMU's own default is 128MiB/s.",
            );
        }
        if self.on("postcopy-ram") {
            draft.note(if draft.preset == "qemu-postcopy" {
                "QEMU starts post-copy only when it is told to: `postcopy-after` stands for whoever does, and \
                 its default is assumed."
            } else {
                "postcopy-ram is on, too, but QEMU starts post-copy only when it is told to, and here nobody \
                 does; the preset `qemu-postcopy` has somebody who does, and does not slow the guest."
            });
        }
        if draft.preset == "qemu-auto-converge" {
            draft.note("A timer that harvests every 5 s is assumed, as since QEMU 9.2; before: `periodic-sync = \"off\"`.");
        }
        for (name, why) in SENDING.iter().filter(|(name, _)| self.on(name)) {
            draft.note(format!("`{name}` is on: {why}."));
        }
    }
}

/// Takes over a parameter if this preset has it.
fn take(draft: &mut Draft, setting: &Setting<'_>) -> Result<bool, ImportError> {
    let key = setting.key.as_str();
    let has = LIMITS.contains(&key)
        || key == TRIGGER && matches!(draft.preset, "qemu-auto-converge" | "qemu-dirty-limit")
        || THROTTLE.contains(&key) && draft.preset == "qemu-auto-converge"
        || DIRTY_LIMIT.contains(&key) && draft.preset == "qemu-dirty-limit";
    if !has {
        return Ok(false);
    }
    let bytes = || setting.whole("bytes a second (0: none is set)", 0, u64::MAX);
    let percent = |least, most| Ok::<_, ImportError>(format!("{}%", setting.whole("per cent", least, most)?));
    match key {
        "downtime-limit" => {
            draft.set(key, milliseconds(setting.whole("milliseconds", 0, 2_000_000)?));
        }
        "avail-switchover-bandwidth" => draft.set("switchover-bandwidth", rate(bytes()?, "measured")),
        "max-bandwidth" => draft.set(key, rate(bytes()?, "unlimited")),
        TRIGGER => draft.set(key, percent(1, 100)?),
        "cpu-throttle-initial" => draft.set("throttle-initial", percent(1, 99)?),
        "cpu-throttle-increment" => draft.set("throttle-increment", percent(1, 99)?),
        "max-cpu-throttle" => draft.set("max-throttle", percent(1, 99)?),
        "cpu-throttle-tailslow" => draft.set("tailslow", on_off(setting.flag(&["true"], &["false"])?)),
        "vcpu-dirty-limit" => {
            let mib = setting.whole("MB a second, QEMU's word for MiB", 1, u64::MAX >> 20)?;
            draft.set(key, Bandwidth::new(mib << 20).unwrap_or(Bandwidth::SLOWEST).to_string());
        }
        _ => {
            let period = setting.whole("milliseconds", 1, 1_000)?;
            draft.set("vcpu-dirty-limit-period", duration::format(std::time::Duration::from_millis(period)));
        }
    }
    Ok(true)
}

/// JSON has no lines once it is read.
fn node(json: Json) -> Node {
    let value = match json {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Plain(flag.to_string()),
        Json::Number(number) => Value::Plain(number.to_string()),
        Json::String(text) => Value::Text(text),
        // No parameter that is read here is one.
        Json::Array(_) => Value::List(Vec::new()),
        Json::Object(_) => Value::Map(Vec::new()),
    };
    Node { line: None, value }
}
