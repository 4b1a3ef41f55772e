//! What streams carry: see the module.
#![allow(missing_docs)]

#[cfg(target_os = "linux")]
#[path = "streams/bench.rs"]
mod bench;

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    bench::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("guest memory is for Linux");
}
