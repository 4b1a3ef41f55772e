//! The program as a user runs it: its commands, its files, its errors and its exit codes.
//!
//! Every test runs the real binary in a fresh directory of its own. What the numbers mean is tested
//! where they are made; here it is tested that they arrive.

mod bad_input;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod bench;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod bench_input;
mod compare;
mod explain;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod fields;
mod forecast;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod guest;
mod import;
mod interrupt;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod live;
mod measured;
mod named;
mod output;
mod pages;
mod policies;
mod run;
mod simulate;
mod sweep;
mod trace;
mod tune;
