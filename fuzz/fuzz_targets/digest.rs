//! libFuzzer on `fuzz::digest::run`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = fuzz::digest::run(data);
});
