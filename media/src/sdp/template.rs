//! How one leg's m-lines become the other's: what passes of them, and what is ours. Only what stands on a list passes, so that
//! neither the other side's topology nor its transport does. It knows no state: that is in `negotiate.rs`.

use super::{
    Attribute, Connection, Description, Direction, Format, MediaDescription, MediaKind, Text,
    fallback::{self, can_transcode},
    source::Sources,
    transport::{self, Profile, StreamAddress},
};

/// Attributes that pass from leg to leg besides `rtpmap`, `fmtp`, `ptime`, `maxptime` and direction. All others (candidates,
/// keys, ssrc, mid, source filters, vendors' own) speak of the other side's addresses or transport, or may.
const PASSED: [&[u8]; 9] =
    [b"framerate", b"framesize", b"imageattr", b"maxprate", b"quality", b"lang", b"content", b"silenceSupp", b"orient"];
/// Bandwidths that pass from leg to leg.
const PASSED_BANDWIDTH: [&[u8]; 5] = [b"AS", b"TIAS", b"CT", b"RS", b"RR"];

/// Formats of an m-line; a dynamic payload type without `rtpmap` means what it means in the other description.
pub(super) fn formats_with(media: &MediaDescription, other: &MediaDescription) -> Vec<Format> {
    let known = |payload_type| media.format_of(payload_type).or_else(|| other.format_of(payload_type));
    media.payload_types().filter_map(known).collect()
}

/// Whether an m-line is one that a port of ours can carry.
pub(super) fn is_carried(description: &Description, media: &MediaDescription) -> bool {
    media.port != 0 && Profile::of(description, media).is_some() && media.rtp_formats().iter().any(|format| !format.is_auxiliary())
}

/// The formats that we offer after a template: its own, and for sound that we can decode the other codecs we have, less wanted, so that
/// two ends without a common one can talk.
pub(super) fn offered_formats(template: &MediaDescription) -> Vec<Format> {
    let mut formats = template.rtp_formats();
    if template.kind != MediaKind::Audio || !formats.iter().any(can_transcode) {
        return formats;
    }
    let has_events = formats.iter().any(Format::is_telephone_event);
    for (name, clock_rate, channels, preferred) in fallback::OFFERED {
        if name == "telephone-event" && !has_events {
            continue;
        }
        let free = |payload_type: &u8| formats.iter().all(|format| format.payload_type != *payload_type);
        let Some(payload_type) = std::iter::once(preferred).chain(96..=127).find(free) else { continue };
        let format = Format { payload_type, encoding: name.into(), clock_rate, channels };
        if !formats.iter().any(|known| known.same_codec(&format)) {
            formats.push(format);
        }
    }
    formats
}

/// The formats of the other leg's answer that this leg's offer has; none when either refuses the line.
pub(super) fn answered_formats(offered: &MediaDescription, template: Option<&MediaDescription>) -> Vec<Format> {
    let Some(template) = template else {
        return Vec::new();
    };
    if offered.port == 0 || template.port == 0 || template.kind != offered.kind {
        return Vec::new();
    }
    let offers = offered.rtp_formats();
    let common: Vec<Format> =
        formats_with(template, offered).into_iter().filter(|format| offers.iter().any(|offer| offer.same_codec(format))).collect();
    if common.iter().any(|format| !format.is_auxiliary()) {
        return common;
    }
    transcoded(offers, &template.rtp_formats())
}

/// What to answer when the ends have no codec in common: what was offered of what we can translate.
fn transcoded(offers: Vec<Format>, others: &[Format]) -> Vec<Format> {
    if !others.iter().any(can_transcode) {
        return Vec::new();
    }
    let Some(best) = offers.iter().find(|format| can_transcode(format)).cloned() else { return Vec::new() };
    let events = offers.into_iter().find(|format| format.is_telephone_event() && format.clock_rate == best.clock_rate);
    std::iter::once(best).chain(events).collect()
}

/// What an m-line of ours does not take from its template.
pub(super) struct Ours<'a> {
    pub(super) protocol: Text,
    pub(super) mid: Option<Text>,
    pub(super) address: StreamAddress,
    pub(super) rtcp_mux: bool,
    /// The lines about keys, DTLS and ICE.
    pub(super) transport: Vec<Attribute>,
    pub(super) is_webrtc: bool,
    /// What our streams are called, where it is said.
    pub(super) sources: Option<Sources>,
    /// The offered line that bounds the feedback and header extensions of an answer.
    pub(super) feedback: Option<&'a MediaDescription>,
}

/// An m-line of ours after a template.
pub(super) fn active_line(
    template: &MediaDescription,
    formats: Vec<Format>,
    direction: Direction,
    ours: Ours<'_>,
    session: &Description,
) -> MediaDescription {
    let ip = Connection::Ip(ours.address.rtp.ip());
    let mut attributes = Vec::with_capacity(template.attributes.len() + formats.len() + 8);
    let sources = ours.sources.map_or_else(Vec::new, |sources| sources.lines(&formats));
    let names = formats.iter().map(|format| Text(format.payload_type.to_string().into())).collect();
    attributes.extend(ours.mid.map(|mid| transport::attribute("mid", mid)));
    let mut payload_types = 0_u128;
    for format in formats {
        payload_types |= 1 << format.payload_type;
        let parameters = parameters(template, &format);
        attributes.push(Attribute::Rtpmap(format));
        attributes.extend(parameters);
    }
    let offered = |attribute: &Attribute| match ours.feedback {
        Some(line) if is_bounded(attribute) => line.attributes.contains(attribute),
        Some(_) | None => true,
    };
    let kept = |attribute: &&Attribute| passes(attribute, payload_types) && offered(attribute);
    attributes.extend(template.attributes.iter().filter(kept).cloned());
    if ours.is_webrtc {
        attributes.extend(feedback(template, ours.feedback));
        // A browser shows a stream to its application under this name, and plays what is of one stream in step.
        attributes.push(transport::attribute("msid", Text::from(format!("tandem {}", kind_name(&template.kind)))));
        attributes.extend(sources);
    }
    attributes.push(Attribute::Direction(direction));
    attributes.extend(ours.transport);
    let rtp = ours.address.rtp;
    let rtcp = ours.address.rtcp;
    if !ours.rtcp_mux && (rtp.port().checked_add(1) != Some(rtcp.port()) || rtp.ip() != rtcp.ip()) {
        attributes.push(Attribute::Rtcp { port: rtcp.port(), address: Some(rtcp.ip()) });
    }
    if ours.rtcp_mux {
        attributes.push(Attribute::RtcpMux);
    }
    let bandwidth = template.bandwidth.iter();
    MediaDescription {
        kind: template.kind.clone(),
        port: rtp.port(),
        port_count: 1,
        protocol: ours.protocol,
        formats: names,
        connection: (session.connection.as_ref() != Some(&ip)).then_some(ip),
        bandwidth: bandwidth.filter(|line| PASSED_BANDWIDTH.contains(&line.kind.as_bytes())).cloned().collect(),
        lines: Vec::new(),
        attributes,
    }
}

/// The `fmtp` of a format: the template's where the payload type is of the template, else what we say of a codec of ours.
fn parameters(template: &MediaDescription, format: &Format) -> Option<Attribute> {
    if template.format_of(format.payload_type).is_none_or(|theirs| !theirs.same_codec(format)) {
        let parameters = fallback::parameters(format)?;
        return Some(Attribute::Fmtp { payload_type: format.payload_type, parameters: parameters.into() });
    }
    let is_its = |attribute: &&Attribute| matches!(attribute, Attribute::Fmtp { payload_type, .. } if *payload_type == format.payload_type);
    template.attributes.iter().find(is_its).cloned()
}

fn kind_name(kind: &MediaKind) -> &Text {
    static AUDIO: std::sync::LazyLock<Text> = std::sync::LazyLock::new(|| "audio".into());
    static VIDEO: std::sync::LazyLock<Text> = std::sync::LazyLock::new(|| "video".into());
    match kind {
        MediaKind::Audio => &AUDIO,
        MediaKind::Video => &VIDEO,
        MediaKind::Other(name) => name,
    }
}

/// Whether an attribute passes, and speaks of no payload type but those of the line.
fn passes(attribute: &Attribute, payload_types: u128) -> bool {
    match attribute {
        Attribute::Ptime(_) | Attribute::MaxPtime(_) => true,
        Attribute::Other { name, value } => match (name.as_bytes(), value) {
            (b"rtcp-fb", Some(value)) => passes_feedback(value.as_bytes(), payload_types),
            (b"extmap", Some(value)) => passes_extension(value.as_bytes()),
            (name, _) => PASSED.contains(&name),
        },
        Attribute::Rtpmap(_) | Attribute::Fmtp { .. } | Attribute::Direction(_) | Attribute::Rtcp { .. } | Attribute::RtcpMux => false,
    }
}

/// Feedback that passes from end to end (RFC 4585, RFC 5104): it names packets and pictures, which the relay leaves as they are.
/// Transport-wide congestion control numbers the packets of one hop.
fn passes_feedback(value: &[u8], payload_types: u128) -> bool {
    let Some(space) = value.iter().position(|octet| *octet == b' ') else { return false };
    let (of, what) = value.split_at(space);
    let is_ours = of == b"*" || super::parse::payload_type_of(of).is_some_and(|of| payload_types & (1 << of) != 0);
    is_ours && [b"nack".as_slice(), b"nack pli", b"ccm fir", b"goog-remb"].contains(&what.trim_ascii())
}

/// Header extensions that speak of the media and not of the hop (RFC 8285).
fn passes_extension(value: &[u8]) -> bool {
    const PASSED: [&[u8]; 5] = [
        b"urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        b"urn:ietf:params:rtp-hdrext:toffset",
        b"http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
        b"urn:3gpp:video-orientation",
        b"http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
    ];
    value.split(|octet| *octet == b' ').nth(1).is_some_and(|uri| PASSED.contains(&uri))
}

/// Whether an answer may have it only when the offer did, word for word.
fn is_bounded(attribute: &Attribute) -> bool {
    matches!(attribute, Attribute::Other { name, .. } if matches!(name.as_bytes(), b"rtcp-fb" | b"extmap"))
}

/// The key frame requests that a browser needs to be allowed, where the other end says nothing of feedback.
fn feedback(template: &MediaDescription, offered: Option<&MediaDescription>) -> Vec<Attribute> {
    let is_feedback = |attribute: &&Attribute| matches!(attribute, Attribute::Other { name, .. } if name.as_bytes() == b"rtcp-fb");
    if template.kind != MediaKind::Video || template.attributes.iter().any(|attribute| is_feedback(&attribute)) {
        return Vec::new();
    }
    match offered {
        None => ["* nack pli", "* ccm fir"].map(|value| transport::attribute("rtcp-fb", value)).into(),
        Some(line) => {
            let is_request = |value: &[u8]| value.ends_with(b" nack pli") || value.ends_with(b" ccm fir");
            let requests = line
                .attributes
                .iter()
                .filter(is_feedback)
                .filter(|attribute| matches!(attribute, Attribute::Other { value: Some(value), .. } if is_request(value.as_bytes())));
            requests.cloned().collect()
        }
    }
}

/// Whether an offer leaves the streams as they are: as many, in the same directions, with what was agreed still among the formats.
pub(super) fn keeps_streams(offer: &Description, before: &Description, ours: &Description) -> bool {
    let ptime = |media: &MediaDescription| media.attributes.iter().find(|attribute| matches!(attribute, Attribute::Ptime(_))).cloned();
    offer.media.len() == before.media.len()
        && offer.media.iter().zip(&before.media).zip(&ours.media).all(|((now, before_line), ours)| {
            let agreed = || ours.rtp_formats().into_iter().filter(|format| before_line.format_of(format.payload_type).is_some());
            let offers =
                |format: &Format| now.rtp_formats().contains(format) && parameters_of(now, format) == parameters_of(before_line, format);
            now.kind == before_line.kind
                && (now.port == 0) == (before_line.port == 0)
                && offer.direction_of(now) == before.direction_of(before_line)
                && ptime(now) == ptime(before_line)
                && (ours.port == 0 || agreed().filter(|format| !format.is_auxiliary()).all(|format| offers(&format)))
        })
}

pub(super) fn parameters_of<'a>(media: &'a MediaDescription, format: &Format) -> Option<&'a Text> {
    let is_its = |payload_type: u8| payload_type == format.payload_type;
    media.attributes.iter().find_map(|attribute| {
        if let Attribute::Fmtp { payload_type, parameters } = attribute { Some(parameters).filter(|_| is_its(*payload_type)) } else { None }
    })
}

/// The m-line that refuses, or offers as refused, a line like this one.
pub(super) fn refused_line(like: &MediaDescription, mid: Option<Text>) -> MediaDescription {
    MediaDescription {
        kind: like.kind.clone(),
        port: 0,
        port_count: 1,
        protocol: like.protocol.clone(),
        formats: like.formats.first().cloned().into_iter().collect(),
        connection: None,
        bandwidth: Vec::new(),
        lines: Vec::new(),
        attributes: mid.map(|mid| transport::attribute("mid", mid)).into_iter().collect(),
    }
}
