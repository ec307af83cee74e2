//! libFuzzer on `fuzz::registrar::run`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = fuzz::registrar::run(data);
});
