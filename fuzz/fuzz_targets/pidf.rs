//! libFuzzer on the switch's reader of presence documents.
#![no_main]
#[path = "../../tests/replay/pidf.rs"]
mod pidf;
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = pidf::run(data);
});
