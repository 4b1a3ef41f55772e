//! Any bytes as a frame.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whimbrel_wire::fuzzing::frame(data));
