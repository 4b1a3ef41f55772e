//! Any bytes as the body of a pages frame, or as what a guest does while it is moved.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whimbrel_wire::fuzzing::pages(data));
