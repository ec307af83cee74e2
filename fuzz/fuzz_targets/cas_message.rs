//! libFuzzer on `fuzz::cas_message::run`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = fuzz::cas_message::run(data);
});
