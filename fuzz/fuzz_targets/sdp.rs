//! libFuzzer on `fuzz::sdp`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = fuzz::sdp::run(data);
});
