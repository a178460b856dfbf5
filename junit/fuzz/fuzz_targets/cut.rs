//! A report and a beginning of it.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| evenkeel_junit_fuzz::cut(bytes));
