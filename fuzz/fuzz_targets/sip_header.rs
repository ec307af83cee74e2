//! libFuzzer on `fuzz::sip_header`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = fuzz::sip_header::run(data);
});
