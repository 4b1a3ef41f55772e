//! Any bytes as a trace, and as a table to import one from.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whimbrel_lab::trace::check(data));
