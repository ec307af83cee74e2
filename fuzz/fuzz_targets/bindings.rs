//! libFuzzer on `fuzz::registrar::stored`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = fuzz::registrar::stored(data);
});
