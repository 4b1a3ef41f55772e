//! What a bench has measured of its machine, as changes of a scenario: its results are then explained by what moving cost there.

/// What a bench has written, as changes of a scenario: those of each table.
///
/// # Errors
///
/// If it is no TOML, or holds no such tables.
pub fn costs_in(text: &str) -> Result<Vec<Vec<String>>, toml::de::Error> {
    #[derive(serde::Deserialize)]
    struct Hosts {
        ground: Vec<toml::Table>,
    }
    let Hosts { ground } = toml::from_str(text)?;
    let costs = |mut table: toml::Table| {
        table.remove("of");
        let mut changes = Vec::new();
        keys_of("", &toml::Value::Table(table), &mut changes);
        changes
    };
    Ok(ground.into_iter().map(costs).collect())
}

/// Each key with its value, as a scenario takes it.
fn keys_of(name: &str, value: &toml::Value, into: &mut Vec<String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                keys_of(&name, value, into);
            }
        }
        toml::Value::String(text) => into.push(format!("{name}={text}")),
        other => into.push(format!("{name}={other}")),
    }
}
