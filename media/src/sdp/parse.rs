//! Octets to `Description` (RFC 8866 §9), in one pass over one copy of the body.
//!
//! What gives the description its shape (v, o, c, m) must be right; an attribute or bandwidth that is not is left out. Missing
//! `s=` and `t=` lines, LF line ends and any order of lines are accepted, because phones send them. It decides nothing.

use std::{net::IpAddr, str::FromStr, time::Duration};

use bytes::Bytes;

use super::{
    Attribute, Bandwidth, CLOCK_RATES, Connection, Description, Direction, Format, Line, MAX_ATTRIBUTES, MAX_BANDWIDTH, MAX_CANDIDATES,
    MAX_CHANNELS, MAX_FORMATS, MAX_LINES, MAX_MEDIA, MAX_PTIME, MAX_SIZE, MediaDescription, MediaKind, Origin, Text,
};

/// Why octets are no session description. The peer's fault in every case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Longer than [`MAX_SIZE`].
    #[error("the session description is longer than {MAX_SIZE} octets")]
    TooLong,
    /// A list is longer than its bound.
    #[error("line {line}: more than {limit} {what}")]
    TooMany {
        /// Where, counted from 1.
        line: usize,
        /// What there are too many of.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// A line breaks the grammar.
    #[error("line {line}: {fault}")]
    Line {
        /// Where, counted from 1.
        line: usize,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// It does not begin with `v=0`.
    #[error("the session description does not begin with v=0")]
    NoVersion,
    /// It has no `o=`.
    #[error("the session description has no o= line")]
    NoOrigin,
}

impl Description {
    /// Reads a description.
    ///
    /// # Errors
    /// [`ParseError`] when it is too large or its shape is wrong.
    pub fn parse(body: &[u8]) -> Result<Self, ParseError> {
        if body.len() > MAX_SIZE {
            return Err(ParseError::TooLong);
        }
        let body = Bytes::copy_from_slice(body);
        let mut reader = Reader::default();
        for (index, raw) in body.split(|octet| *octet == b'\n').enumerate() {
            let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
            if raw.is_empty() {
                continue;
            }
            reader.read(index + 1, raw, &body)?;
        }
        reader.finish()
    }
}

/// What has been read so far.
#[derive(Default)]
struct Reader {
    version: bool,
    origin: Option<Origin>,
    session_name: Text,
    session: Section,
    media: Vec<MediaDescription>,
    current: Option<(MediaHead, Section)>,
}

/// The lines that both the session and an m-line may have.
#[derive(Default)]
struct Section {
    connection: Option<Connection>,
    bandwidth: Vec<Bandwidth>,
    lines: Vec<Line>,
    attributes: Vec<Attribute>,
    candidates: usize,
    /// Payload types that have an `rtpmap`, that have an `fmtp`, and other attributes seen, a bit each.
    rtpmaps: u128,
    fmtps: u128,
    singles: u128,
}

struct MediaHead {
    kind: MediaKind,
    port: u16,
    port_count: u16,
    protocol: Text,
    formats: Vec<Text>,
}

impl Reader {
    fn read(&mut self, line: usize, raw: &[u8], body: &Bytes) -> Result<(), ParseError> {
        let fault = |fault| ParseError::Line { line, fault };
        // A lone CR or a NUL is one line to us and two, or an end, to the next reader: the way to smuggle a line past a filter.
        if raw.iter().any(|octet| matches!(octet, b'\r' | 0)) {
            return Err(fault("CR or NUL inside a line"));
        }
        let [kind, b'=', value @ ..] = raw else {
            return Err(fault("not of the form x=value"));
        };
        let value = body.slice_ref(value);
        if !self.version {
            self.version = *kind == b'v' && value.trim_ascii() == b"0";
            return if self.version { Ok(()) } else { Err(ParseError::NoVersion) };
        }
        match (*kind, &mut self.current) {
            (b'm', _) => {
                self.end_media();
                if self.media.len() == MAX_MEDIA {
                    return Err(ParseError::TooMany { line, what: "m= lines", limit: MAX_MEDIA });
                }
                self.current = Some((media_head(line, &value)?, Section::default()));
            }
            (b'o', None) if self.origin.is_none() => self.origin = Some(origin(&value).ok_or_else(|| fault("malformed o= line"))?),
            (b's', None) => self.session_name = Text(value),
            (b'o' | b's' | b'v', _) => {
                return Err(fault("this line may stand only once, before the first m= line"));
            }
            (_, Some((_, section))) => section.read(line, *kind, value)?,
            (_, None) => self.session.read(line, *kind, value)?,
        }
        Ok(())
    }

    fn end_media(&mut self) {
        let Some((head, mut section)) = self.current.take() else {
            return;
        };
        section.lines.sort_by_key(|line| !line.is_early());
        self.media.push(MediaDescription {
            kind: head.kind,
            port: head.port,
            port_count: head.port_count,
            protocol: head.protocol,
            formats: head.formats,
            connection: section.connection,
            bandwidth: section.bandwidth,
            lines: section.lines,
            attributes: section.attributes,
        });
    }

    fn finish(mut self) -> Result<Description, ParseError> {
        if !self.version {
            return Err(ParseError::NoVersion);
        }
        self.end_media();
        self.session.lines.sort_by_key(|line| !line.is_early());
        if self.session_name.as_bytes().is_empty() {
            self.session_name = " ".into(); // what RFC 8866 §5.3 wants for no name
        }
        if !self.session.lines.iter().any(|line| line.kind == b't') {
            push(&mut self.session.lines, Line { kind: b't', value: "0 0".into() }, 0, "lines", MAX_LINES)?;
        }
        Ok(Description {
            origin: self.origin.ok_or(ParseError::NoOrigin)?,
            session_name: self.session_name,
            connection: self.session.connection,
            bandwidth: self.session.bandwidth,
            lines: self.session.lines,
            attributes: self.session.attributes,
            media: self.media,
        })
    }
}

impl Section {
    fn read(&mut self, line: usize, kind: u8, value: Bytes) -> Result<(), ParseError> {
        match kind {
            b'c' => {
                let read = connection(&value).ok_or(ParseError::Line { line, fault: "malformed c= line" })?;
                self.connection.get_or_insert(read); // more than one is for multicast layers
            }
            b'b' => {
                if let Some(read) = bandwidth(&value) {
                    push(&mut self.bandwidth, read, line, "b= lines", MAX_LINES)?;
                }
            }
            b'a' => {
                let Some(read) = attribute(&value) else {
                    return Ok(());
                };
                if self.repeats(&read) {
                    return Ok(());
                }
                if matches!(&read, Attribute::Other { name, .. } if name.as_bytes() == b"candidate") {
                    self.candidates += 1;
                    if self.candidates > MAX_CANDIDATES {
                        return Err(ParseError::TooMany { line, what: "candidates", limit: MAX_CANDIDATES });
                    }
                }
                push(&mut self.attributes, read, line, "attributes", MAX_ATTRIBUTES)?;
            }
            _ => push(&mut self.lines, Line { kind, value: Text(value) }, line, "lines", MAX_LINES)?,
        }
        Ok(())
    }

    /// Whether an attribute of which there can be one is there already: the first counts.
    fn repeats(&mut self, read: &Attribute) -> bool {
        let (seen, bit) = match read {
            Attribute::Rtpmap(format) => (&mut self.rtpmaps, format.payload_type),
            Attribute::Fmtp { payload_type, .. } => (&mut self.fmtps, *payload_type),
            Attribute::Ptime(_) => (&mut self.singles, 0),
            Attribute::MaxPtime(_) => (&mut self.singles, 1),
            Attribute::Direction(_) => (&mut self.singles, 2),
            Attribute::Rtcp { .. } => (&mut self.singles, 3),
            Attribute::RtcpMux => (&mut self.singles, 4),
            Attribute::Other { .. } => return false,
        };
        let bit = 1_u128 << (bit & 127);
        let repeats = *seen & bit != 0;
        *seen |= bit;
        repeats
    }
}

fn push<T>(list: &mut Vec<T>, item: T, line: usize, what: &'static str, limit: usize) -> Result<(), ParseError> {
    if list.len() >= limit {
        return Err(ParseError::TooMany { line, what, limit });
    }
    list.push(item);
    Ok(())
}

/// An unsigned decimal number without sign or blanks.
fn number<T: FromStr>(text: &[u8]) -> Option<T> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn fields(value: &Bytes) -> impl Iterator<Item = &[u8]> {
    value.split(|octet| matches!(octet, b' ' | b'\t')).filter(|field| !field.is_empty())
}

fn origin(value: &Bytes) -> Option<Origin> {
    let mut parts = fields(value);
    let (username, session_id, version, net) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let _address_type_and_address = (parts.next()?, parts.next()?);
    let text = |field: &[u8]| Text(value.slice_ref(field));
    let start = net.as_ptr() as usize - value.as_ptr() as usize;
    Some(Origin { username: text(username), session_id: text(session_id), version: text(version), address: Text(value.slice(start..)) })
}

fn connection(value: &Bytes) -> Option<Connection> {
    let mut parts = fields(value);
    let (net, family, address) = (parts.next()?, parts.next()?, parts.next()?);
    let literal = address.split(|octet| *octet == b'/').next()?;
    if net.eq_ignore_ascii_case(b"IN")
        && let Some(ip) = ip(literal)
    {
        return Some(Connection::Ip(ip));
    }
    let mut kind = net.to_vec();
    kind.push(b' ');
    kind.extend_from_slice(family);
    Some(Connection::Name { kind: Text(kind.into()), name: Text(value.slice_ref(address)) })
}

fn ip(text: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn bandwidth(value: &Bytes) -> Option<Bandwidth> {
    let (kind, amount) = split_once(value, b':')?;
    let value_ = number(amount.trim_ascii()).filter(|amount| *amount <= MAX_BANDWIDTH)?;
    Some(Bandwidth { kind: Text(value.slice_ref(kind)), value: value_ })
}

fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|octet| *octet == at)?;
    Some((text.get(..place)?, text.get(place + 1..)?))
}

fn media_head(line: usize, value: &Bytes) -> Result<MediaHead, ParseError> {
    let malformed = ParseError::Line { line, fault: "malformed m= line" };
    let mut parts = fields(value);
    let (Some(kind), Some(ports), Some(protocol)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(malformed);
    };
    let (port, count) = split_once(ports, b'/').map_or((ports, None), |(port, count)| (port, Some(count)));
    let Some(port) = number(port) else {
        return Err(ParseError::Line { line, fault: "the port is not 0 to 65535" });
    };
    let Some(port_count) = count.map_or(Some(1), number).filter(|count| *count > 0) else {
        return Err(malformed);
    };
    let mut formats: Vec<Text> = Vec::new();
    for format in parts {
        if formats.iter().any(|known| known.as_bytes() == format) {
            continue; // CVE-2023-40019: a format named twice counts once
        }
        push(&mut formats, Text(value.slice_ref(format)), line, "formats", MAX_FORMATS)?;
    }
    let kind = match kind {
        b"audio" => MediaKind::Audio,
        b"video" => MediaKind::Video,
        other => MediaKind::Other(Text(value.slice_ref(other))),
    };
    Ok(MediaHead { kind, port, port_count, protocol: Text(value.slice_ref(protocol)), formats })
}

/// An attribute, or nothing when a known one is malformed or out of range.
fn attribute(value: &Bytes) -> Option<Attribute> {
    let (name, rest) = match split_once(value, b':') {
        Some((name, rest)) => (name, Some(rest)),
        None => (value.as_ref(), None),
    };
    Some(match (name, rest) {
        (b"rtpmap", rest) => Attribute::Rtpmap(rtpmap(value, rest?)?),
        (b"fmtp", rest) => {
            let (payload_type, parameters) = split_once(rest?.trim_ascii_start(), b' ')?;
            Attribute::Fmtp { payload_type: payload_type_of(payload_type)?, parameters: Text(value.slice_ref(parameters)) }
        }
        (b"ptime", rest) => Attribute::Ptime(ptime(rest?)?),
        (b"maxptime", rest) => Attribute::MaxPtime(ptime(rest?)?),
        (b"sendrecv", None) => Attribute::Direction(Direction::SendRecv),
        (b"sendonly", None) => Attribute::Direction(Direction::SendOnly),
        (b"recvonly", None) => Attribute::Direction(Direction::RecvOnly),
        (b"inactive", None) => Attribute::Direction(Direction::Inactive),
        (b"rtcp-mux", None) => Attribute::RtcpMux,
        (b"rtcp", rest) => rtcp(&value.slice_ref(rest?))?,
        (name, rest) => Attribute::Other { name: Text(value.slice_ref(name)), value: rest.map(|rest| Text(value.slice_ref(rest))) },
    })
}

/// A payload type, 0 to 127.
pub(super) fn payload_type_of(text: &[u8]) -> Option<u8> {
    number(text).filter(|payload_type| *payload_type < 128)
}

fn rtpmap(whole: &Bytes, rest: &[u8]) -> Option<Format> {
    let (payload_type, encoding) = split_once(rest.trim_ascii(), b' ')?;
    let mut parts = encoding.trim_ascii().split(|octet| *octet == b'/');
    let (name, rate, channels) = (parts.next()?, parts.next()?, parts.next());
    if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    Some(Format {
        payload_type: payload_type_of(payload_type)?,
        encoding: Text(whole.slice_ref(name)),
        clock_rate: number(rate).filter(|rate| CLOCK_RATES.contains(rate))?,
        channels: match channels {
            None | Some(b"") => 1,
            Some(text) => number(text).filter(|channels| (1..=MAX_CHANNELS).contains(channels))?,
        },
    })
}

fn ptime(rest: &[u8]) -> Option<Duration> {
    let time = Duration::from_millis(number::<u32>(rest.trim_ascii())?.into());
    (!time.is_zero() && time <= MAX_PTIME).then_some(time)
}

fn rtcp(rest: &Bytes) -> Option<Attribute> {
    let mut parts = fields(rest);
    let port = number(parts.next()?).filter(|port| *port != 0)?;
    let address = match (parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(_), Some(address)) => Some(ip(address)?),
        _ => None,
    };
    Some(Attribute::Rtcp { port, address })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "v=0\r\no=alice 2890844526 2890844526 IN IP4 host.example.com\r\n";

    fn parse(rest: &str) -> Result<Description, ParseError> {
        Description::parse(format!("{HEAD}{rest}").as_bytes())
    }

    fn attributes(lines: &str) -> Vec<Attribute> {
        parse(&format!("s=-\r\nm=audio 4 RTP/AVP 0\r\n{lines}")).unwrap().media.remove(0).attributes
    }

    #[test]
    fn the_example_of_rfc_8866_is_read_whole() {
        let text = "s=Call to John Smith\r\ni=SDP Offer #1\r\nu=http://www.jdoe.example.com/home.html\r\ne=Jane <jane@jdoe.example.com>\r\n\
            p=+1 617 555-6011\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\nm=audio 49170 RTP/AVP 0\r\nm=audio 49180 RTP/AVP 0\r\n\
            m=video 51372 RTP/AVP 99\r\nc=IN IP6 2001:db8::2\r\na=rtpmap:99 h263-1998/90000\r\n";
        let description = parse(text).unwrap();
        assert_eq!(description.origin.address.as_bytes(), b"IN IP4 host.example.com");
        assert_eq!(description.lines.iter().map(|line| line.kind).collect::<Vec<_>>(), *b"iuept");
        assert_eq!(description.media.len(), 3);
        assert_eq!(description.media[2].connection, Some(Connection::Ip("2001:db8::2".parse().unwrap())));
        assert_eq!(description.media[2].rtp_formats()[0].clock_rate, 90000);
        assert_eq!(description.to_bytes(), format!("{HEAD}{text}").as_bytes());
    }

    #[test]
    fn what_phones_send_is_accepted() {
        let text = "v=0\no=- 1 1 IN IP4 192.0.2.1\nc=IN IP4 224.2.1.1/127/3\nm=audio 4000/1 RTP/AVP 0\na=rtpmap:0 PCMU/8000/\n\n";
        let description = Description::parse(text.as_bytes()).unwrap();
        assert_eq!(description.connection, Some(Connection::Ip("224.2.1.1".parse().unwrap())));
        assert_eq!(description.media[0].rtp_formats()[0].channels, 1);
        let again = Description::parse(&description.to_bytes()).unwrap();
        assert_eq!(again, description, "s= and t= were missing and are there once");
    }

    #[test]
    fn other_encodings_and_unknown_lines_are_kept() {
        let mut body = format!("{HEAD}s=caf").into_bytes();
        body.extend_from_slice(b"\xe9\r\nt=0 0\r\nq=?\r\nx=1\r\na=X-vendor:\xff\xfe\r\na=flag\r\n");
        let description = Description::parse(&body).unwrap();
        assert_eq!(description.session_name.as_bytes(), b"caf\xe9");
        assert_eq!(description.attributes.len(), 2);
        assert_eq!(description.to_bytes(), body);
    }

    #[test]
    fn a_host_name_is_kept_but_is_no_address() {
        let description = parse("s=-\r\nc=IN IP4 media.example.com\r\nt=0 0\r\nm=audio 4 RTP/AVP 0\r\n").unwrap();
        assert_eq!(description.connection.as_ref().and_then(Connection::ip), None);
        assert!(String::from_utf8(description.to_bytes()).unwrap().contains("c=IN IP4 media.example.com\r\n"));
    }

    #[test]
    fn attributes_out_of_range_are_left_out() {
        // S18
        for line in [
            "ptime:0",
            "ptime:1001",
            "ptime:-20",
            "ptime:99999999999999999999",
            "ptime",
            "ptime:2.5",
            "maxptime:",
            "rtpmap:0 PCMU/0",
            "rtpmap:0 PCMU/4294967296",
            "rtpmap:0 PCMU/999999",
            "rtpmap:0 PCMU/8000/0",
            "rtpmap:0 PCMU/8000/255",
            "rtpmap:128 PCMU/8000",
            "rtpmap:0 /8000",
            "rtpmap:0",
            "rtpmap",
            "fmtp:300 a=b",
            "fmtp:0",
            "rtcp:0",
            "rtcp:65536",
            "rtcp",
            "rtcp:5 IN IP4 nowhere",
        ] {
            assert_eq!(attributes(&format!("a={line}\r\n")), [], "{line}");
        }
    }

    #[test]
    fn of_attributes_that_stand_twice_the_first_counts() {
        // S18
        let read = attributes(
            "a=ptime:20\r\na=ptime:30\r\na=sendonly\r\na=recvonly\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:0 opus/48000\r\na=fmtp:0 a\r\n\
             a=fmtp:0 b\r\na=rtcp:7\r\na=rtcp:9\r\na=rtcp-mux\r\na=rtcp-mux\r\na=maxptime:60\r\na=maxptime:61\r\n",
        );
        assert_eq!(read.len(), 7);
        assert_eq!(read[0], Attribute::Ptime(Duration::from_millis(20)));
        assert_eq!(read[1], Attribute::Direction(Direction::SendOnly));
        assert!(matches!(&read[2], Attribute::Rtpmap(format) if format.encoding.as_bytes() == b"PCMU"));
    }

    #[test]
    fn a_format_named_twice_counts_once() {
        // S18: CVE-2023-40019
        let description = parse("s=-\r\nm=audio 4 RTP/AVP 0 8 0 8 0\r\n").unwrap();
        assert_eq!(description.media[0].formats.len(), 2);
    }

    #[test]
    fn bandwidth_is_checked() {
        let description = parse("s=-\r\nb=AS:64\r\nb=TIAS:1000000001\r\nb=AS:-1\r\nb=AS\r\nb=X-Y:5\r\n").unwrap();
        let read: Vec<_> = description.bandwidth.iter().map(|line| (line.kind.to_string(), line.value)).collect();
        assert_eq!(read, [("AS".into(), 64), ("X-Y".into(), 5)]);
    }

    #[test]
    fn a_wrong_shape_is_an_error_that_names_the_line() {
        for (text, line) in [
            ("s=-\r\nm=audio 65536 RTP/AVP 0\r\n", 4),
            ("s=-\r\nm=audio -1 RTP/AVP 0\r\n", 4),
            ("s=-\r\nm=audio 4/0 RTP/AVP 0\r\n", 4),
            ("s=-\r\nm=audio 4\r\n", 4),
            ("s=-\r\nc=IN\r\n", 4),
            ("no line\r\n", 3),
            ("s=-\r\na=x\ry\r\n", 4),
            ("s=a\0b\r\n", 3),
            ("o=- 1 1 IN IP4 192.0.2.1\r\n", 3),
            ("s=-\r\nm=audio 4 RTP/AVP 0\r\ns=-\r\n", 5),
        ] {
            match parse(text) {
                Err(ParseError::Line { line: found, .. }) => assert_eq!(found, line, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert_eq!(Description::parse(b""), Err(ParseError::NoVersion));
        assert_eq!(Description::parse(b"v=1\r\n"), Err(ParseError::NoVersion));
        assert_eq!(Description::parse(b"v=0\r\ns=-\r\n"), Err(ParseError::NoOrigin));
        assert!(matches!(Description::parse(b"v=0\r\no=- 1 1 IN\r\n"), Err(ParseError::Line { line: 2, .. })));
    }

    #[test]
    fn every_list_ends_at_its_bound() {
        // S8, S18
        let many = |line: &str, count: usize| line.repeat(count);
        let formats = |count: usize| (0..count).map(|f| format!(" {f}")).collect::<String>();
        let cases: [(String, String, usize); 6] = [
            (many("m=audio 4 RTP/AVP 0\r\n", MAX_MEDIA), many("m=audio 4 RTP/AVP 0\r\n", MAX_MEDIA + 1), MAX_MEDIA),
            (many("a=x\r\n", MAX_ATTRIBUTES), many("a=x\r\n", MAX_ATTRIBUTES + 1), MAX_ATTRIBUTES),
            (many("b=AS:1\r\n", MAX_LINES), many("b=AS:1\r\n", MAX_LINES + 1), MAX_LINES),
            (many("i=x\r\n", MAX_LINES - 1), many("i=x\r\n", MAX_LINES + 1), MAX_LINES),
            (
                format!("m=audio 4 RTP/AVP 0\r\n{}", many("a=candidate:1\r\n", MAX_CANDIDATES)),
                format!("m=audio 4 RTP/AVP 0\r\n{}", many("a=candidate:1\r\n", MAX_CANDIDATES + 1)),
                MAX_CANDIDATES,
            ),
            (
                format!("m=audio 4 RTP/AVP{}\r\n", formats(MAX_FORMATS)),
                format!("m=audio 4 RTP/AVP{}\r\n", formats(MAX_FORMATS + 1)),
                MAX_FORMATS,
            ),
        ];
        for (most, more, bound) in cases {
            parse(&most).unwrap();
            assert!(matches!(parse(&more), Err(ParseError::TooMany { limit, .. }) if limit == bound), "{bound}");
        }
        assert_eq!(Description::parse(&vec![b'a'; MAX_SIZE + 1]), Err(ParseError::TooLong));
    }
}
