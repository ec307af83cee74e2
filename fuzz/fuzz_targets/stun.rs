//! libFuzzer on `fuzz::stun`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = fuzz::stun::run(data);
});
