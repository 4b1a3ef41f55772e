//! The progress of work in several parts, shown on a terminal only.

use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};

/// The progress bar; each part of the work has its own.
pub(super) struct Bar(Mutex<ProgressBar>);

const KNOWN: &str = "{msg}: {bar:32} {pos}/{len} migrations, {per_sec}, {eta} left";
/// Where nobody knows how many there will be.
const OPEN: &str = "{msg}: {spinner} {pos} migrations, {per_sec}";

impl Bar {
    pub(super) fn new() -> Self {
        Self(Mutex::new(ProgressBar::hidden()))
    }

    fn with(&self, act: impl FnOnce(&mut ProgressBar)) {
        act(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// Begins a part of so many runs; 0: nobody knows how many.
    pub(super) fn begin(&self, what: &str, runs: u64) {
        let (bar, template) =
            if runs == 0 { (ProgressBar::new_spinner(), OPEN) } else { (ProgressBar::new(runs), KNOWN) };
        // The templates are checked by a test; without one the default is drawn.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        self.with(|shown| {
            shown.finish_and_clear();
            *shown = bar;
        });
    }

    pub(super) fn advance(&self) {
        self.with(|bar| bar.inc(1));
    }

    pub(super) fn clear(&self) {
        self.with(|bar| bar.finish_and_clear());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_bars_have_valid_templates() {
        for template in [KNOWN, OPEN] {
            ProgressStyle::with_template(template).expect("a template");
        }
    }
}
