//! libFuzzer on `fuzz::rtp`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = fuzz::rtp::run(data);
});
