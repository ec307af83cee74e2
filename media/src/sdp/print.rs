//! `Description` to octets (RFC 8866 §5), lines in the order of the grammar. It adds nothing.

use std::net::IpAddr;

use super::{Attribute, Bandwidth, Connection, Description, Format, MediaDescription, MediaKind, Text};

impl Description {
    /// Writes the description.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(b"v=0\r\n");
        line(&mut out, b'o', |out| {
            for (text, end) in [(&self.origin.username, " "), (&self.origin.session_id, " "), (&self.origin.version, " ")] {
                out.extend_from_slice(text.as_bytes());
                out.extend_from_slice(end.as_bytes());
            }
            out.extend_from_slice(self.origin.address.as_bytes());
        });
        text_line(&mut out, b's', self.session_name.as_bytes());
        self.lines.iter().filter(|line| line.is_early()).for_each(|l| text_line(&mut out, l.kind, l.value.as_bytes()));
        connection(&mut out, self.connection.as_ref());
        bandwidth(&mut out, &self.bandwidth);
        self.lines.iter().filter(|line| !line.is_early()).for_each(|l| text_line(&mut out, l.kind, l.value.as_bytes()));
        self.attributes.iter().for_each(|a| attribute(&mut out, a));
        self.media.iter().for_each(|m| media(&mut out, m));
        out
    }
}

fn line(out: &mut Vec<u8>, kind: u8, value: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[kind, b'=']);
    value(out);
    out.extend_from_slice(b"\r\n");
}

fn text_line(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    line(out, kind, |out| out.extend_from_slice(value));
}

fn decimal(out: &mut Vec<u8>, number: impl Into<u64>) {
    let mut number: u64 = number.into();
    let start = out.len();
    loop {
        out.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

/// `IN IP4 192.0.2.1`, as in c=, o= and a=rtcp.
pub(super) fn address(out: &mut Vec<u8>, ip: IpAddr) {
    out.extend_from_slice(if ip.is_ipv4() { b"IN IP4 " } else { b"IN IP6 " });
    out.extend_from_slice(ip.to_string().as_bytes());
}

fn connection(out: &mut Vec<u8>, connection: Option<&Connection>) {
    match connection {
        None => {}
        Some(Connection::Ip(ip)) => line(out, b'c', |out| address(out, *ip)),
        Some(Connection::Name { kind, name }) => line(out, b'c', |out| {
            out.extend_from_slice(kind.as_bytes());
            out.push(b' ');
            out.extend_from_slice(name.as_bytes());
        }),
    }
}

fn bandwidth(out: &mut Vec<u8>, list: &[Bandwidth]) {
    for bandwidth in list {
        line(out, b'b', |out| {
            out.extend_from_slice(bandwidth.kind.as_bytes());
            out.push(b':');
            decimal(out, bandwidth.value);
        });
    }
}

fn media(out: &mut Vec<u8>, media: &MediaDescription) {
    line(out, b'm', |out| {
        out.extend_from_slice(match &media.kind {
            MediaKind::Audio => b"audio",
            MediaKind::Video => b"video",
            MediaKind::Other(name) => name.as_bytes(),
        });
        out.push(b' ');
        decimal(out, media.port);
        if media.port_count != 1 {
            out.push(b'/');
            decimal(out, media.port_count);
        }
        out.push(b' ');
        out.extend_from_slice(media.protocol.as_bytes());
        for format in &media.formats {
            out.push(b' ');
            out.extend_from_slice(format.as_bytes());
        }
    });
    media.lines.iter().filter(|line| line.is_early()).for_each(|l| text_line(out, l.kind, l.value.as_bytes()));
    connection(out, media.connection.as_ref());
    bandwidth(out, &media.bandwidth);
    media.lines.iter().filter(|line| !line.is_early()).for_each(|l| text_line(out, l.kind, l.value.as_bytes()));
    media.attributes.iter().for_each(|a| attribute(out, a));
}

fn attribute(out: &mut Vec<u8>, attribute: &Attribute) {
    let named = |out: &mut Vec<u8>, name: &[u8], value: &dyn Fn(&mut Vec<u8>)| {
        out.extend_from_slice(name);
        out.push(b':');
        value(out);
    };
    line(out, b'a', |out| match attribute {
        Attribute::Rtpmap(format) => named(out, b"rtpmap", &|out| rtpmap(out, format)),
        Attribute::Fmtp { payload_type, parameters } => named(out, b"fmtp", &|out| {
            decimal(out, *payload_type);
            out.push(b' ');
            out.extend_from_slice(parameters.as_bytes());
        }),
        Attribute::Ptime(time) => named(out, b"ptime", &|out| decimal(out, time.as_millis() as u64)),
        Attribute::MaxPtime(time) => named(out, b"maxptime", &|out| decimal(out, time.as_millis() as u64)),
        Attribute::Direction(direction) => out.extend_from_slice(direction.name().as_bytes()),
        Attribute::RtcpMux => out.extend_from_slice(b"rtcp-mux"),
        Attribute::Rtcp { port, address: ip } => named(out, b"rtcp", &|out| {
            decimal(out, *port);
            if let Some(ip) = ip {
                out.push(b' ');
                address(out, *ip);
            }
        }),
        Attribute::Other { name, value: None } => out.extend_from_slice(name.as_bytes()),
        Attribute::Other { name, value: Some(value) } => named(out, name.as_bytes(), &|out| out.extend_from_slice(value.as_bytes())),
    });
}

fn rtpmap(out: &mut Vec<u8>, format: &Format) {
    decimal(out, format.payload_type);
    out.push(b' ');
    out.extend_from_slice(format.encoding.as_bytes());
    out.push(b'/');
    decimal(out, format.clock_rate);
    if format.channels != 1 {
        out.push(b'/');
        decimal(out, format.channels);
    }
}

/// The address part of an `o=` line.
pub(super) fn origin_address(ip: IpAddr) -> Text {
    let mut out = Vec::with_capacity(24);
    address(&mut out, ip);
    Text(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_reads_the_same() {
        let text = "v=0\r\no=- 1 1 IN IP6 2001:db8::1\r\ns= \r\na=tool:x\r\nb=AS:70\r\nc=IN IP6 2001:db8::1\r\nr=1\r\nz=0\r\nt=1 2\r\nq=unknown\r\ne=late\r\n\
            m=application 9 UDP/BFCP *\r\ni=title\r\nk=clear:x\r\na=floorctrl:c-only\r\nm=Video 8/2 RTP/AVP 96 0\r\nb=TIAS:5\r\n\
            a=rtpmap:96 VP8/90000\r\na=fmtp:96 x=y; z\r\na=fmtp:0 \r\na=ptime:20\r\na=maxptime:1000\r\na=rtcp:9 IN IP4 192.0.2.9\r\na=rtcp-mux\r\n\
            a=sendonly:odd\r\na=:empty\r\na=\r\nm=audio 0 RTP/AVP\r\n";
        let read = Description::parse(text.as_bytes()).unwrap();
        let printed = read.to_bytes();
        let again = Description::parse(&printed).unwrap();
        assert_eq!(again, read, "{}", String::from_utf8_lossy(&printed));
        assert_eq!(again.to_bytes(), printed);
    }

    #[test]
    fn numbers_are_printed_whole() {
        for number in [0, 7, 10, 65535, u64::MAX] {
            let mut out = b"x".to_vec();
            decimal(&mut out, number);
            assert_eq!(out, format!("x{number}").as_bytes());
        }
    }
}
