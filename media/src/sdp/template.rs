//! How one leg's m-lines become the other's: what passes of them, and what is ours. Only what stands on a list passes, so that
//! neither the other side's topology nor its transport does. It knows no state: that is in `negotiate.rs`.

use super::{Attribute, Connection, Description, Direction, Format, MediaDescription, Text, negotiate::StreamAddress};

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
pub(super) fn is_carried(media: &MediaDescription) -> bool {
    media.port != 0 && media.is_plain_rtp() && media.rtp_formats().iter().any(|format| !format.is_auxiliary())
}

/// The formats of the other leg's answer that this leg's offer has; none when either refuses the line.
pub(super) fn answered_formats(offered: &MediaDescription, template: Option<&MediaDescription>) -> Vec<Format> {
    let Some(template) = template else {
        return Vec::new();
    };
    if !is_carried(offered) || template.port == 0 || template.kind != offered.kind {
        return Vec::new();
    }
    let offers = offered.rtp_formats();
    let common: Vec<Format> =
        formats_with(template, offered).into_iter().filter(|format| offers.iter().any(|offer| offer.same_codec(format))).collect();
    if common.iter().all(Format::is_auxiliary) { Vec::new() } else { common }
}

/// An m-line of ours after a template.
pub(super) fn active_line(
    template: &MediaDescription,
    formats: Vec<Format>,
    direction: Direction,
    address: &StreamAddress,
    rtcp_mux: bool,
    session: &Description,
) -> MediaDescription {
    let ip = Connection::Ip(address.rtp.ip());
    let mut attributes = Vec::with_capacity(template.attributes.len() + formats.len() + 2);
    let names = formats.iter().map(|format| Text(format.payload_type.to_string().into())).collect();
    let fmtp = |format: &Format| {
        template
            .attributes
            .iter()
            .find(|attribute| matches!(attribute, Attribute::Fmtp { payload_type, .. } if *payload_type == format.payload_type))
    };
    for format in formats {
        let parameters = fmtp(&format).cloned();
        attributes.push(Attribute::Rtpmap(format));
        attributes.extend(parameters);
    }
    attributes.extend(template.attributes.iter().filter(|attribute| passes(attribute)).cloned());
    attributes.push(Attribute::Direction(direction));
    if address.rtp.port().checked_add(1) != Some(address.rtcp.port()) || address.rtp.ip() != address.rtcp.ip() {
        attributes.push(Attribute::Rtcp { port: address.rtcp.port(), address: Some(address.rtcp.ip()) });
    }
    if rtcp_mux {
        attributes.push(Attribute::RtcpMux);
    }
    let bandwidth = template.bandwidth.iter();
    MediaDescription {
        kind: template.kind.clone(),
        port: address.rtp.port(),
        port_count: 1,
        protocol: "RTP/AVP".into(),
        formats: names,
        connection: (session.connection.as_ref() != Some(&ip)).then_some(ip),
        bandwidth: bandwidth.filter(|line| PASSED_BANDWIDTH.contains(&line.kind.as_bytes())).cloned().collect(),
        lines: Vec::new(),
        attributes,
    }
}

fn passes(attribute: &Attribute) -> bool {
    match attribute {
        Attribute::Ptime(_) | Attribute::MaxPtime(_) => true,
        Attribute::Other { name, .. } => PASSED.contains(&name.as_bytes()),
        Attribute::Rtpmap(_) | Attribute::Fmtp { .. } | Attribute::Direction(_) | Attribute::Rtcp { .. } | Attribute::RtcpMux => false,
    }
}

/// The m-line that refuses, or offers as refused, a line like this one.
pub(super) fn refused_line(like: &MediaDescription) -> MediaDescription {
    MediaDescription {
        kind: like.kind.clone(),
        port: 0,
        port_count: 1,
        protocol: like.protocol.clone(),
        formats: like.formats.first().cloned().into_iter().collect(),
        connection: None,
        bandwidth: Vec::new(),
        lines: Vec::new(),
        attributes: Vec::new(),
    }
}
