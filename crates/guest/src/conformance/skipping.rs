//! What a machine may lack: tests that need it say so and are skipped, or fail where it is required.
//!
//! Test runners hide what a passing test prints, and a test that skips itself passes. So it is said past them, and noted in a
//! file for whoever sums a whole run up. Never decides whether a facility is there: only its caller has tried.

#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::io::Write as _;

/// Names of facilities that tests must not do without, separated by spaces or commas.
const REQUIRED: &str = "WHIMBREL_REQUIRE";
/// A file that every skipped test adds a line to.
const NOTES: &str = "WHIMBREL_SKIPPED";

/// Called by a test that goes without `facility` (a short name, as `uffd` or `kvm`), which is missing because of `why`. Says so
/// on standard error past the test runner's capture, and adds the same line to the file that `WHIMBREL_SKIPPED` names, if it
/// names one.
///
/// # Panics
///
/// If `WHIMBREL_REQUIRE` names the facility: there a skip is a failure.
pub fn skip(facility: &str, why: &dyn Display) {
    let required = std::env::var(REQUIRED).unwrap_or_default();
    assert!(!required.split([' ', ',']).any(|name| name == facility), "{facility} is required here: {why}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("SKIPPED, no {facility}: {why} ({test})\n");
    // Not with `eprintln`, which is what a runner captures. Nobody to tell is no reason to fail.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(notes) = std::env::var_os(NOTES) {
        // Appended in one write: tests run side by side.
        let noted = std::fs::File::options().append(true).create(true).open(&notes);
        noted.and_then(|mut notes| notes.write_all(line.as_bytes())).expect("WHIMBREL_SKIPPED names a file");
    }
}
