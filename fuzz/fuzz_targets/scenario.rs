//! Any bytes as a scenario file, and as overrides of the built-in one.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whimbrel_lab::scenario::check(data));
