//! libFuzzer on `fuzz::sip_uri`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = fuzz::sip_uri::run(data);
});
