#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pgbr_fuzz_targets::run("block_map", bytes));
