//! The codecs that we offer besides those of a template, so that two ends without a common one can talk through us.

use super::Format;
use crate::codec;

/// What is offered last, the most wanted first: name, clock rate, channels, the payload type it usually has.
pub(super) const OFFERED: [(&str, u32, u8, u8); 6] = [
    ("PCMA", 8000, 1, 8),
    ("PCMU", 8000, 1, 0),
    ("G722", 8000, 1, 9),
    ("opus", 48000, 2, 111),
    ("telephone-event", 8000, 1, 101),
    ("telephone-event", 48000, 1, 110),
];

/// Whether we can decode and encode a format.
pub(super) fn can_transcode(format: &Format) -> bool {
    std::str::from_utf8(format.encoding.as_bytes()).is_ok_and(|name| codec::find(name, format.clock_rate).is_some())
}

/// The `fmtp` of a format that is not the template's.
pub(super) fn parameters(format: &Format) -> Option<&'static str> {
    if format.is_telephone_event() {
        return Some("0-16");
    }
    format.encoding.eq_ignore_case(b"opus").then_some("minptime=10;useinbandfec=1")
}
