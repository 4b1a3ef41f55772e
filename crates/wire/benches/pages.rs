//! What encoding and decoding pages costs: see the module.
#![allow(missing_docs)]

#[cfg(target_os = "linux")]
#[path = "pages/bench.rs"]
mod bench;

#[cfg(target_os = "linux")]
fn main() {
    bench::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("guest memory is for Linux");
}
