//! libFuzzer on `fuzz::cas_message::served`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = fuzz::cas_message::served(data);
});
