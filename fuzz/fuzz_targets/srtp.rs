//! libFuzzer on `fuzz::srtp`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = fuzz::srtp::run(data);
});
