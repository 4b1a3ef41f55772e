//! One machine, driven by bytes, against a peer that says anything at any time.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whimbrel_core::fuzzing::check_peer(data));
