//! Both machines, driven by bytes: each is a delivery, a loss, a write, a failure, or an event out of turn.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whimbrel_core::fuzzing::check_machines(data));
