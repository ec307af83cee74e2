//! libFuzzer on `fuzz::dtls`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = fuzz::dtls::run(data);
});
