//! A forecast as text for people, and as JSON.

use std::fmt;

use super::{Forecast, Quantiles};
use crate::chart::Unit;
use crate::table::{Align, Columns, wrap};

/// The verdict, what was assumed, and a row a policy.
impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&wrap(&self.words, "", 100))?;
        writeln!(f, "\nassumed: {}", self.assumed.join("; "))?;
        writeln!(f, "{} runs a policy; 5th, 50th and 95th percentile\n", self.samples)?;
        let mut columns = Columns::new(&[
            ("policy", Align::Left),
            ("arrives", Align::Right),
            ("keeps", Align::Right),
            ("total time", Align::Right),
            ("downtime", Align::Right),
            ("sent", Align::Right),
        ]);
        for policy in &self.policies {
            columns.row(vec![
                policy.policy.clone(),
                percent(policy.arrives),
                percent(policy.keeps),
                quantiles(Unit::Milliseconds, 1e3, &policy.total_s),
                quantiles(Unit::Milliseconds, 1e3, &policy.downtime_s),
                quantiles(Unit::Bytes, 1.0, &policy.sent_bytes),
            ]);
        }
        columns.lines().iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn quantiles(unit: Unit, factor: f64, quantiles: &Quantiles) -> String {
    let one =
        |value: Option<f64>| value.map_or_else(|| "never".to_owned(), |value| unit.format(value * factor));
    [quantiles.p5, quantiles.p50, quantiles.p95].map(one).join(", ")
}

impl Forecast {
    /// As JSON, its last line end included.
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}
