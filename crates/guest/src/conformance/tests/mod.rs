//! Every log of this crate passes the suite, and the suite finds a log that breaks any of its promises.
//!
//! `WHIMBREL_HARVESTS`: how often a running guest is harvested, 10,000 times if it is not set.

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod broken;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod logs;

use super::*;

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn harvests() -> u64 {
    std::env::var("WHIMBREL_HARVESTS").map_or(10_000, |text| text.parse().expect("a number of harvests"))
}

/// Fails if `ground` breaks a promise, or lacks what is needed to check one other than `lacks`.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn passes(ground: impl Ground, lacks: &[Promise]) {
    passes_after(harvests(), ground, lacks);
}

/// The same with another number of harvests.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn passes_after(harvests: u64, mut ground: impl Ground, lacks: &[Promise]) {
    match check(&mut ground, harvests) {
        Ok(missing) => assert_eq!(missing, lacks),
        Err(broken) => panic!("{broken}"),
    }
}

#[test]
fn promises_are_told_in_words() {
    let broken = Broken { log: "software", promise: Promise::Exact, how: "page 7 was written".into() };
    assert_eq!(
        broken.to_string(),
        "the software dirty log breaks its promise that a harvest has the pages written, and no others: page 7 was written"
    );
}
