//! What we call our streams towards a browser (RFC 5576, RFC 8830): SSRCs and CNAME, said in the SDP and used in what is sent. It
//! knows no negotiation; the numbers come from the secret of the leg.

use super::{Attribute, Format, Text, transport::attribute};

/// The synchronisation sources of one m-line of ours, and whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    /// SSRC of sound or pictures.
    pub media: u32,
    /// SSRC of what is sent again (RFC 4588).
    pub retransmission: u32,
    /// SSRC of FlexFEC (RFC 8627).
    pub repair: u32,
    /// CNAME, as [`cname`] prints it; that of all streams of the leg.
    pub cname: u64,
}

/// A CNAME as SDP and RTCP have it: sixteen hexadecimal digits (RFC 7022 §4.2).
#[must_use]
pub fn cname(number: u64) -> String {
    format!("{number:016x}")
}

impl Sources {
    /// The lines that say which sources the formats of an m-line have.
    pub(super) fn lines(&self, formats: &[Format]) -> Vec<Attribute> {
        let has = |names: &[&str]| formats.iter().any(|format| names.iter().any(|name| format.encoding.eq_ignore_case(name.as_bytes())));
        let beside = [("FID", self.retransmission, has(&["rtx"])), ("FEC-FR", self.repair, has(&["flexfec", "flexfec-03"]))];
        let beside = || beside.iter().filter(|(.., has)| *has);
        let group =
            |(semantics, ssrc, _): &(&str, u32, bool)| attribute("ssrc-group", Text::from(format!("{semantics} {} {ssrc}", self.media)));
        let named = |ssrc: u32| attribute("ssrc", Text::from(format!("{ssrc} cname:{}", cname(self.cname))));
        let all = std::iter::once(self.media).chain(beside().map(|(_, ssrc, _)| *ssrc));
        beside().map(group).chain(all.map(named)).collect()
    }
}
