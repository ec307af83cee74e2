//! Bodies of the fuzz targets: what must hold of a parser whatever the bytes are. `tests/replay.rs` runs them on stable, over `corpus/`
//! and over mutations of it ([`mutate`]); `fuzz_targets/` wraps them for libFuzzer.
//!
//! A body panics where something does not hold. It returns whether the input was accepted, so that a run can show that it went deep.
//! To add a target: a file here, a line in [`TARGETS`], a folder in `corpus/`, a wrapper in `fuzz_targets/`.

pub mod cas_message;
pub mod crypto;
pub mod digest;
pub mod dtls;
pub mod framing;
pub mod mutate;
pub mod registrar;
pub mod rewrite;
pub mod rtcp;
pub mod rtp;
pub mod sdp;
pub mod sip_header;
pub mod sip_message;
pub mod sip_uri;
pub mod srtp;
pub mod stun;
#[path = "../../sip/tests/common/torture.rs"]
pub mod torture;

/// One parser under test.
pub struct Target {
    /// Its name, that of its folder in `corpus/`, and that of its wrapper.
    pub name: &'static str,
    /// Tries one input; true where it was accepted.
    pub run: fn(&[u8]) -> bool,
    /// Seeds besides those of the corpus.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that mean something to the parser; none for binary formats, whose mutations know no lines either.
    pub dictionary: &'static [&'static [u8]],
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "sip_message", run: sip_message::run, seeds: sip_message::seeds, dictionary: mutate::SIP },
    Target { name: "sip_header", run: sip_header::run, seeds: sip_header::seeds, dictionary: mutate::SIP },
    Target { name: "sip_uri", run: sip_uri::run, seeds: sip_uri::seeds, dictionary: mutate::SIP },
    Target { name: "framing", run: framing::run, seeds: sip_message::seeds, dictionary: mutate::SIP },
    Target { name: "digest", run: digest::run, seeds: Vec::new, dictionary: mutate::SIP },
    Target { name: "registrar", run: registrar::run, seeds: sip_message::seeds, dictionary: mutate::SIP },
    Target { name: "bindings", run: registrar::stored, seeds: registrar::stored_seeds, dictionary: &[] },
    Target { name: "sdp", run: sdp::run, seeds: sdp::seeds, dictionary: mutate::SDP },
    Target { name: "rtp", run: rtp::run, seeds: Vec::new, dictionary: &[] },
    Target { name: "rtcp", run: rtcp::run, seeds: Vec::new, dictionary: &[] },
    Target { name: "srtp", run: srtp::run, seeds: srtp::seeds, dictionary: &[] },
    Target { name: "crypto", run: crypto::run, seeds: Vec::new, dictionary: mutate::SDP },
    Target { name: "stun", run: stun::run, seeds: stun::seeds, dictionary: &[] },
    Target { name: "dtls", run: dtls::run, seeds: dtls::seeds, dictionary: &[] },
    Target { name: "rewrite", run: rewrite::run, seeds: Vec::new, dictionary: &[] },
    Target { name: "cas_message", run: cas_message::run, seeds: Vec::new, dictionary: mutate::CAS },
    Target { name: "cas_server", run: cas_message::served, seeds: Vec::new, dictionary: mutate::CAS },
];
