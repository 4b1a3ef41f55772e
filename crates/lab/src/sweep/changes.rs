//! What is not the same in two scenarios, in words.
//!
//! Whoever goes on with a sweep or a bench that was cut is told by it which key was changed meanwhile. Of scenarios that have every
//! default written out: what is left to a default would otherwise not be seen.

use crate::scenario::error::excerpt;

/// What is not the same in two scenarios that have every default written out, as the end of a sentence: the first key, with what it
/// was and is, and how many more there are. Empty if nothing is, or one cannot be read.
pub fn changes(old: &str, new: &str) -> String {
    let (Ok(old), Ok(new)) = (old.parse(), new.parse()) else { return String::new() };
    let mut found = Vec::new();
    compare(&toml::Value::Table(old), &toml::Value::Table(new), "", &mut found);
    match found.as_slice() {
        [] => String::new(),
        [one] => format!(": {one}"),
        [first, others @ ..] => {
            let keys = if others.len() == 1 { "key" } else { "keys" };
            format!(": {first}; so it is with {} more {keys}", others.len())
        }
    }
}

/// Adds a phrase to `found` for every key below `key` that is not the same.
fn compare(old: &toml::Value, new: &toml::Value, key: &str, found: &mut Vec<String>) {
    use toml::Value::{Array, Table};
    let brief = |value: &toml::Value| excerpt(&value.to_string(), 60);
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match (old, new) {
        (Table(old), Table(new)) => {
            for (name, value) in old {
                match new.get(name) {
                    Some(other) => compare(value, other, &below(name), found),
                    None => {
                        found.push(format!("`{} = {}` was there, now it is not", below(name), brief(value)));
                    }
                }
            }
            let added = new.iter().filter(|(name, _)| !old.contains_key(*name));
            found.extend(added.map(|(name, value)| format!("`{} = {}` is new", below(name), brief(value))));
        }
        (Array(old), Array(new)) if old.len() == new.len() => {
            let pairs = old.iter().zip(new).enumerate();
            pairs.for_each(|(at, (old, new))| compare(old, new, &below(&at.to_string()), found));
        }
        (Array(old), Array(new)) => {
            found.push(format!("`{key}` had {} entries, now {}", old.len(), new.len()));
        }
        _ if old == new => {}
        _ => found.push(format!("`{key} = {}` was there, now `{key} = {}`", brief(old), brief(new))),
    }
}
