//! How a peer wants to be sent to: the parameters of each codec (RFC 7587 §6.1, RFC 8866 §6.4), and how it is asked for a key frame
//! (RFC 4585, RFC 5104). It decides nothing; the port does as it says.

use super::super::{Attribute, Format, MediaDescription, template::parameters_of};
use crate::codec::Parameters;

/// What the peer's m-line says of what it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Wishes {
    /// Of each payload type of its that we can encode.
    codecs: Box<[(u8, Parameters)]>,
    /// How it is asked for a key frame.
    pub key_frame: KeyFrameRequest,
}

/// What asks a sender of pictures for a key frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KeyFrameRequest {
    /// Picture Loss Indication (RFC 4585 §6.3.1): also where nothing was agreed, for most take it all the same.
    #[default]
    Pli,
    /// Full Intra Request (RFC 5104 §3.5.1): where only that was agreed.
    Fir,
}

impl Wishes {
    /// Reads them of the peer's m-line, and what we said of feedback of ours. `send` is what the peer takes.
    pub(super) fn of(local: &MediaDescription, remote: &MediaDescription, send: &[Format]) -> Self {
        let times = remote.attributes.iter();
        let (mut ptime, mut maxptime) = (None, None);
        for attribute in times {
            match attribute {
                Attribute::Ptime(time) => ptime = ptime.or(Some(*time)),
                Attribute::MaxPtime(time) => maxptime = maxptime.or(Some(*time)),
                Attribute::Rtpmap(_)
                | Attribute::Fmtp { .. }
                | Attribute::Direction(_)
                | Attribute::Rtcp { .. }
                | Attribute::RtcpMux
                | Attribute::Other { .. } => {}
            }
        }
        let parameters = |format: &Format| {
            let fmtp = parameters_of(remote, format).and_then(|text| std::str::from_utf8(text.as_bytes()).ok());
            (format.payload_type, Parameters::agreed(fmtp.unwrap_or_default(), ptime, maxptime))
        };
        let codecs = send.iter().filter(|format| super::super::fallback::can_transcode(format)).map(parameters).collect();
        let agreed = |what: &[u8]| [local, remote].iter().all(|media| has_feedback(media, what));
        let key_frame = if agreed(b"ccm fir") && !agreed(b"nack pli") { KeyFrameRequest::Fir } else { KeyFrameRequest::Pli };
        Self { codecs, key_frame }
    }

    /// What it says of a codec of its, by payload type; the defaults where it says nothing.
    #[must_use]
    pub fn parameters(&self, payload_type: u8) -> Parameters {
        self.codecs.iter().find(|(of, _)| *of == payload_type).map(|(_, parameters)| *parameters).unwrap_or_default()
    }
}

/// Whether an `a=rtcp-fb` has that feedback for any format of the line.
fn has_feedback(media: &MediaDescription, what: &[u8]) -> bool {
    media.attributes.iter().any(|attribute| match attribute {
        Attribute::Other { name, value: Some(value) } if name.as_bytes() == b"rtcp-fb" => {
            value.as_bytes().splitn(2, |octet| *octet == b' ').nth(1).is_some_and(|said| said.trim_ascii() == what)
        }
        Attribute::Other { .. }
        | Attribute::Rtpmap(_)
        | Attribute::Fmtp { .. }
        | Attribute::Ptime(_)
        | Attribute::MaxPtime(_)
        | Attribute::Direction(_)
        | Attribute::Rtcp { .. }
        | Attribute::RtcpMux => false,
    })
}
