//! What parts of the engine cost: see the module.
#![allow(missing_docs)]

#[cfg(target_os = "linux")]
#[path = "parts/bench.rs"]
mod bench;

#[cfg(target_os = "linux")]
fn main() {
    bench::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("guest memory is for Linux");
}
