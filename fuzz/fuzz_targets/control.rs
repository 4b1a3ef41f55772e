//! Any bytes as a control message.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whimbrel_wire::fuzzing::control(data));
