//! Any bytes as the first message of a connection, in either direction.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whimbrel_wire::fuzzing::hello(data));
