//! Session descriptions (RFC 8866, RFC 4566): a `Description` and its parts, as they came.
//!
//! Reading is in `parse.rs`, writing in `print.rs`, offer and answer in `negotiate.rs`. Text keeps its bytes, whatever their
//! encoding; unknown lines and attributes keep their order. This module knows no SIP, no ports of ours and no policy.

pub mod crypto;
mod fallback;
pub mod negotiate;
mod parse;
mod print;
pub mod secret;
pub mod source;
mod template;
pub mod transport;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use bytes::Bytes;

pub use parse::ParseError;

/// Most octets of a description; a longer one is refused unread.
pub const MAX_SIZE: usize = 64 * 1024;
/// Most m-lines of a description; one more is an error.
pub const MAX_MEDIA: usize = 16;
/// Most formats of an m-line; one more is an error.
pub const MAX_FORMATS: usize = 64;
/// Most attributes of the session or of one m-line; one more is an error.
pub const MAX_ATTRIBUTES: usize = 512;
/// Most `a=candidate` lines of one m-line; one more is an error.
pub const MAX_CANDIDATES: usize = 64;
/// Most other lines (i, u, e, p, b, t, r, z, k and unknown ones) of the session or of one m-line; one more is an error.
pub const MAX_LINES: usize = 64;

/// Text of a description: octets without CR, LF or NUL, usually UTF-8.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Text(Bytes);

impl Text {
    const fn none() -> Self {
        Self(Bytes::new())
    }

    /// The octets as they came.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether both are the same text when ASCII letters are compared without case.
    #[must_use]
    pub fn eq_ignore_case(&self, other: &[u8]) -> bool {
        self.0.eq_ignore_ascii_case(other)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// A session description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// `o=`: who made it, and which version it is.
    pub origin: Origin,
    /// `s=`.
    pub session_name: Text,
    /// `c=` of the session; m-lines may have their own.
    pub connection: Option<Connection>,
    /// `b=` of the session.
    pub bandwidth: Vec<Bandwidth>,
    /// The other session lines in their order, those that stand before `c=` first.
    pub lines: Vec<Line>,
    /// `a=` of the session in their order.
    pub attributes: Vec<Attribute>,
    /// The m-lines and what belongs to them.
    pub media: Vec<MediaDescription>,
}

/// `o=`: the fields as text, since peers put numbers of any length there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// User name, `-` when there is none.
    pub username: Text,
    /// Session id.
    pub session_id: Text,
    /// Version of the description.
    pub version: Text,
    /// Network type, address type and address.
    pub address: Text,
}

/// `c=`: where media is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// A literal address; the TTL and count of a multicast address are left out, for nothing is sent to one.
    Ip(IpAddr),
    /// A host name or an address of another network: kept, but never a media address.
    Name {
        /// Network and address type, as in `IN IP4`.
        kind: Text,
        /// The name.
        name: Text,
    },
}

/// `b=`: a bandwidth of at most [`MAX_BANDWIDTH`]; others are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bandwidth {
    /// `AS`, `TIAS`, `RS`, `RR`, `CT` or another.
    pub kind: Text,
    /// In the unit of the kind: kilobits or bits a second.
    pub value: u32,
}

/// Largest value of a `b=` line; a larger one is left out.
pub const MAX_BANDWIDTH: u32 = 1_000_000_000;
/// Longest `ptime` and `maxptime`; a longer one, or zero, is left out.
pub const MAX_PTIME: Duration = Duration::from_millis(1000);
/// Clock rates of an `rtpmap`; with another the attribute is left out.
pub const CLOCK_RATES: std::ops::RangeInclusive<u32> = 1_000..=384_000;
/// Most channels of an `rtpmap`; with more, or none, the attribute is left out.
pub const MAX_CHANNELS: u8 = 8;

/// A line that is neither v, o, s, c, b, m nor a. Its `Debug` is without a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    /// The letter before `=`.
    pub kind: u8,
    /// What stands after it.
    pub value: Text,
}

impl Line {
    /// Whether it stands before c= and b= (RFC 8866 §9); the others stand after them.
    fn is_early(&self) -> bool {
        matches!(self.kind, b'i' | b'u' | b'e' | b'p')
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if self.kind == b'k' { &HIDDEN } else { &self.value };
        write!(f, "{}={value:?}", char::from(self.kind))
    }
}

/// What `Debug` shows in place of a secret.
static HIDDEN: Text = Text(Bytes::from_static(b"..."));

/// An m-line and the lines that belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaDescription {
    /// audio, video …
    pub kind: MediaKind,
    /// Port; 0 = the stream is refused or ended.
    pub port: u16,
    /// Number of ports; 1 unless the line says otherwise.
    pub port_count: u16,
    /// Transport and profile, as in `RTP/AVP`.
    pub protocol: Text,
    /// Formats in the order of preference: payload types for RTP. None stands twice.
    pub formats: Vec<Text>,
    /// `c=` of this m-line.
    pub connection: Option<Connection>,
    /// `b=` of this m-line.
    pub bandwidth: Vec<Bandwidth>,
    /// The other lines of this m-line in their order, those that stand before `c=` first.
    pub lines: Vec<Line>,
    /// `a=` of this m-line in their order.
    pub attributes: Vec<Attribute>,
}

/// The media of an m-line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaKind {
    /// `audio`.
    Audio,
    /// `video`.
    Video,
    /// Any other, by its name.
    Other(Text),
}

/// An attribute. One that is known but malformed or out of range is left out when it is read, as if it were not there: an
/// `a=ptime:0` must neither end a call nor reach the other side. Its `Debug` is without keys and passwords (S20).
#[derive(Clone, PartialEq, Eq)]
pub enum Attribute {
    /// `rtpmap`.
    Rtpmap(Format),
    /// `fmtp` of a payload type.
    Fmtp {
        /// The payload type it is about.
        payload_type: u8,
        /// Parameters, as they came.
        parameters: Text,
    },
    /// `ptime`: media in a packet.
    Ptime(Duration),
    /// `maxptime`.
    MaxPtime(Duration),
    /// `sendrecv`, `sendonly`, `recvonly` or `inactive`.
    Direction(Direction),
    /// `rtcp` (RFC 3605).
    Rtcp {
        /// Port for RTCP.
        port: u16,
        /// Address for RTCP, if not that of RTP.
        address: Option<IpAddr>,
    },
    /// `rtcp-mux` (RFC 5761).
    RtcpMux,
    /// Any other.
    Other {
        /// Its name.
        name: Text,
        /// What stands after the colon.
        value: Option<Text>,
    },
}

/// Attributes whose values are keys, passwords, or messages with them (RFC 4568, RFC 8839, RFC 4567).
const SECRET: [&[u8]; 3] = [b"crypto", b"ice-pwd", b"key-mgmt"];

impl fmt::Debug for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rtpmap(format) => f.debug_tuple("Rtpmap").field(format).finish(),
            Self::Fmtp { payload_type, parameters } => f.debug_tuple("Fmtp").field(payload_type).field(parameters).finish(),
            Self::Ptime(time) => f.debug_tuple("Ptime").field(time).finish(),
            Self::MaxPtime(time) => f.debug_tuple("MaxPtime").field(time).finish(),
            Self::Direction(direction) => f.debug_tuple("Direction").field(direction).finish(),
            Self::Rtcp { port, address } => f.debug_tuple("Rtcp").field(port).field(address).finish(),
            Self::RtcpMux => f.write_str("RtcpMux"),
            Self::Other { name, value: Some(value) } => {
                let is_secret = SECRET.iter().any(|secret| name.eq_ignore_case(secret));
                write!(f, "{name}:{:?}", if is_secret { &HIDDEN } else { value })
            }
            Self::Other { name, value: None } => write!(f, "{name}"),
        }
    }
}

/// What a payload type stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Encoding name, compared without case.
    pub encoding: Text,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    /// Audio channels; 1 for what is no audio.
    pub channels: u8,
}

impl Format {
    /// Whether both are the same codec, whatever their payload types.
    #[must_use]
    pub fn same_codec(&self, other: &Self) -> bool {
        self.encoding.eq_ignore_case(other.encoding.as_bytes()) && self.clock_rate == other.clock_rate && self.channels == other.channels
    }

    /// Whether it carries named events (RFC 4733) rather than sound.
    #[must_use]
    pub fn is_telephone_event(&self) -> bool {
        self.encoding.eq_ignore_case(b"telephone-event")
    }

    /// Whether it only accompanies a codec: events, comfort noise, retransmission, redundancy and forward error correction.
    #[must_use]
    pub fn is_auxiliary(&self) -> bool {
        const NAMES: [&[u8]; 7] = [b"telephone-event", b"CN", b"rtx", b"red", b"ulpfec", b"flexfec-03", b"flexfec"];
        NAMES.iter().any(|name| self.encoding.eq_ignore_case(name))
    }

    /// The payload types that need no `rtpmap` (RFC 3551 §6).
    #[must_use]
    pub fn of_static_type(payload_type: u8) -> Option<Self> {
        let (encoding, clock_rate, channels) = match payload_type {
            0 => ("PCMU", 8000, 1),
            3 => ("GSM", 8000, 1),
            4 => ("G723", 8000, 1),
            5 => ("DVI4", 8000, 1),
            6 => ("DVI4", 16000, 1),
            7 => ("LPC", 8000, 1),
            8 => ("PCMA", 8000, 1),
            9 => ("G722", 8000, 1),
            10 => ("L16", 44100, 2),
            11 => ("L16", 44100, 1),
            12 => ("QCELP", 8000, 1),
            13 => ("CN", 8000, 1),
            14 => ("MPA", 90000, 1),
            15 => ("G728", 8000, 1),
            16 => ("DVI4", 11025, 1),
            17 => ("DVI4", 22050, 1),
            18 => ("G729", 8000, 1),
            25 => ("CelB", 90000, 1),
            26 => ("JPEG", 90000, 1),
            28 => ("nv", 90000, 1),
            31 => ("H261", 90000, 1),
            32 => ("MPV", 90000, 1),
            33 => ("MP2T", 90000, 1),
            34 => ("H263", 90000, 1),
            _ => return None,
        };
        Some(Self { payload_type, encoding: encoding.into(), clock_rate, channels })
    }
}

/// Direction of a stream, from the point of view of whoever says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendRecv,
    /// Out only.
    SendOnly,
    /// In only.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// Made of its two halves.
    #[must_use]
    fn of(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    /// Whether the speaker sends.
    #[must_use]
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether the speaker receives.
    #[must_use]
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The same stream seen from the other end.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self::of(self.receives(), self.sends())
    }

    /// What both allow.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::of(self.sends() && other.sends(), self.receives() && other.receives())
    }

    /// Its attribute name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }
}

impl Description {
    /// The connection that holds for an m-line: its own, else that of the session.
    #[must_use]
    pub fn connection_of<'a>(&'a self, media: &'a MediaDescription) -> Option<&'a Connection> {
        media.connection.as_ref().or(self.connection.as_ref())
    }

    /// The direction that holds for an m-line. `c=0.0.0.0` says that the speaker does not receive (RFC 3264 §8.4, the hold of
    /// RFC 2543), unless it uses ICE: then it has only no candidate yet (RFC 8839 §4.3.1).
    #[must_use]
    pub fn direction_of(&self, media: &MediaDescription) -> Direction {
        let said = media.direction().or_else(|| direction_in(&self.attributes)).unwrap_or_default();
        match self.connection_of(media) {
            Some(Connection::Ip(ip)) if ip.is_unspecified() && !self.uses_ice(media) => said.and(Direction::SendOnly),
            Some(_) | None => said,
        }
    }
}

impl MediaDescription {
    /// Its own direction attribute.
    #[must_use]
    pub fn direction(&self) -> Option<Direction> {
        direction_in(&self.attributes)
    }

    /// Its payload types in the order of preference, each with what it stands for. One that is not 0 to 127, or has neither an
    /// `rtpmap` nor a static meaning, is left out; of two `rtpmap` lines the first counts.
    #[must_use]
    pub fn rtp_formats(&self) -> Vec<Format> {
        self.payload_types().filter_map(|payload_type| self.format_of(payload_type)).collect()
    }

    /// Its payload types in their order. One written twice (as `0` and `00`) counts once.
    fn payload_types(&self) -> impl Iterator<Item = u8> {
        let mut seen = 0_u128;
        self.formats.iter().filter_map(|text| parse::payload_type_of(text.as_bytes())).filter(move |payload_type| {
            let bit = 1_u128 << payload_type;
            let new = seen & bit == 0;
            seen |= bit;
            new
        })
    }

    /// What one payload type stands for.
    #[must_use]
    pub fn format_of(&self, payload_type: u8) -> Option<Format> {
        let mapped = self.attributes.iter().find_map(|attribute| {
            if let Attribute::Rtpmap(format) = attribute { Some(format).filter(|format| format.payload_type == payload_type) } else { None }
        });
        mapped.cloned().or_else(|| Format::of_static_type(payload_type))
    }

    /// Whether `a=rtcp-mux` is there.
    #[must_use]
    pub fn rtcp_mux(&self) -> bool {
        self.attributes.contains(&Attribute::RtcpMux)
    }
}

fn direction_in(attributes: &[Attribute]) -> Option<Direction> {
    attributes.iter().find_map(|attribute| if let Attribute::Direction(direction) = attribute { Some(*direction) } else { None })
}

impl Connection {
    /// The address media may be sent to, if it is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) if !ip.is_unspecified() => Some(*ip),
            Self::Ip(_) | Self::Name { .. } => None,
        }
    }
}

impl Default for Connection {
    fn default() -> Self {
        Self::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audio(lines: &str) -> Description {
        let text = format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n{lines}");
        Description::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn direction_of_the_line_counts_before_that_of_the_session() {
        let description = audio("c=IN IP4 192.0.2.1\r\na=inactive\r\nm=audio 4 RTP/AVP 0\r\na=recvonly\r\nm=audio 6 RTP/AVP 0\r\n");
        let directions: Vec<_> = description.media.iter().map(|media| description.direction_of(media)).collect();
        assert_eq!(directions, [Direction::RecvOnly, Direction::Inactive]);
    }

    #[test]
    fn unspecified_address_means_that_the_peer_does_not_receive() {
        let held = audio("c=IN IP4 0.0.0.0\r\nm=audio 4 RTP/AVP 0\r\nm=audio 6 RTP/AVP 0\r\nc=IN IP6 ::\r\na=recvonly\r\n");
        assert_eq!(held.direction_of(&held.media[0]), Direction::SendOnly);
        assert_eq!(held.direction_of(&held.media[1]), Direction::Inactive);
        assert_eq!(held.connection_of(&held.media[0]).and_then(Connection::ip), None);
    }

    #[test]
    fn formats_without_meaning_are_left_out() {
        // S18: RED without rtpmap, a payload type of 200, and one that is no number
        let description = audio("m=audio 4 RTP/AVP 0 96 97 00 200 x 9\r\na=rtpmap:97 opus/48000/2\r\na=rtpmap:97 PCMU/8000\r\n");
        let formats = description.media[0].rtp_formats();
        let read: Vec<_> = formats.iter().map(|f| (f.payload_type, f.encoding.to_string(), f.clock_rate, f.channels)).collect();
        assert_eq!(read, [(0, "PCMU".into(), 8000, 1), (97, "opus".into(), 48000, 2), (9, "G722".into(), 8000, 1)]);
    }

    #[test]
    fn encoding_names_have_no_case() {
        let one = Format { payload_type: 96, encoding: "OPUS".into(), clock_rate: 48000, channels: 2 };
        assert!(one.same_codec(&Format { payload_type: 111, encoding: "opus".into(), ..one.clone() }));
        assert!(!one.same_codec(&Format { channels: 1, ..one.clone() }));
    }

    #[test]
    fn debug_shows_no_secret() {
        // S20
        let description = audio(
            "k=clear:hush\r\na=Crypto:1 AEAD_AES_128_GCM inline:hush\r\nm=audio 4 RTP/SAVP 0\r\nk=base64:hush\r\n\
             a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:hush\r\na=ice-pwd:hush\r\na=key-mgmt:mikey hush\r\na=ice-ufrag:shown\r\n",
        );
        let shown = format!("{description:?}");
        assert!(!shown.contains("hush") && shown.contains("shown") && shown.contains("crypto"), "{shown}");
        assert_eq!(description.to_bytes().windows(4).filter(|window| window == b"hush").count(), 6, "the wire has them");
    }

    #[test]
    fn directions_combine_by_halves() {
        assert_eq!(Direction::SendOnly.reversed(), Direction::RecvOnly);
        assert_eq!(Direction::SendRecv.and(Direction::SendOnly), Direction::SendOnly);
        assert_eq!(Direction::RecvOnly.and(Direction::SendOnly), Direction::Inactive);
    }
}
