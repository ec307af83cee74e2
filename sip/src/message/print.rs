//! Message to bytes. Content-Length is always ours and always right (§18.3).

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{Headers, Message, Name, Request, Response};

impl Request {
    /// Prints the request.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let line = self.method.as_str().len() + self.uri.as_str().len() + 11;
        let mut out = BytesMut::with_capacity(line + length(&self.headers, &self.body));
        out.put_slice(self.method.as_str().as_bytes());
        out.put_u8(b' ');
        out.put_slice(self.uri.as_str().as_bytes());
        out.put_slice(b" SIP/2.0\r\n");
        finish(&mut out, &self.headers, &self.body);
        out.freeze()
    }
}

impl Response {
    /// Prints the response.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(14 + self.reason().len() + length(&self.headers, &self.body));
        out.put_slice(b"SIP/2.0 ");
        number(&mut out, self.status.code().into());
        out.put_u8(b' ');
        let reason = out.len();
        out.put_slice(self.reason());
        // No reason that an application gives can start a new line (S7).
        out.iter_mut().skip(reason).filter(|b| b.is_ascii_control() && **b != b'\t').for_each(|b| *b = b' ');
        out.put_slice(b"\r\n");
        finish(&mut out, &self.headers, &self.body);
        out.freeze()
    }
}

impl Message {
    /// Prints the message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Request(request) => request.encode(),
            Self::Response(response) => response.encode(),
        }
    }
}

/// Returns how long headers and body are when printed: a buffer of the very size is handed on without another allocation.
fn length(headers: &Headers, body: &[u8]) -> usize {
    let own = Name::ContentLength.as_str();
    let rows = headers.iter().filter(|(name, _)| *name != own.as_bytes()).map(|(name, value)| name.len() + value.len() + 4);
    let digits = body.len().checked_ilog10().map_or(1, |power| power as usize + 1);
    rows.sum::<usize>() + own.len() + 2 + digits + 4 + body.len()
}

fn finish(out: &mut BytesMut, headers: &Headers, body: &[u8]) {
    let length = Name::ContentLength.as_str().as_bytes();
    for (name, value) in headers.iter().filter(|(name, _)| *name != length) {
        out.put_slice(name);
        out.put_slice(b": ");
        out.put_slice(value);
        out.put_slice(b"\r\n");
    }
    out.put_slice(length);
    out.put_slice(b": ");
    number(out, body.len());
    out.put_slice(b"\r\n\r\n");
    out.put_slice(body);
}

fn number(out: &mut BytesMut, number: usize) {
    let mut digits = [0; 20];
    let mut rest = number;
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).expect("a digit is below ten");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::parse::parse;

    #[test]
    fn a_printed_message_reads_back_the_same_with_its_real_length() {
        let text = "MESSAGE sip:b@h SIP/2.0\r\nv: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1\r\nf: \"\u{e9}\" <sip:a@h>;tag=1\r\nt: sip:b@h\r\ni: c\r\n\
                    cseq: 1 MESSAGE\r\nX-Any: \u{1F600}\r\nl: 2\r\n\r\nhi there";
        let first = parse(Bytes::copy_from_slice(text.as_bytes())).unwrap().encode();
        let second = parse(first.clone()).unwrap().encode();
        assert_eq!(first, second);
        let Message::Request(request) = parse(first.clone()).unwrap() else { panic!("a response") };
        assert_eq!("MESSAGE sip:b@h SIP/2.0\r\n".len() + length(&request.headers, &request.body), first.len());
        assert!(first.ends_with(b"Content-Length: 2\r\n\r\nhi"));
        assert!(first.windows(12).any(|w| w == b"X-Any: \xF0\x9F\x98\x80\r"));
    }

    #[test]
    fn no_reason_can_start_a_new_line() {
        // S7
        let mut response = Response::new(crate::StatusCode::OK);
        response.reason = Bytes::from_static(b"a\r\nX: y");
        assert!(response.encode().starts_with(b"SIP/2.0 200 a  X: y\r\n"));
    }

    #[test]
    fn numbers_are_printed_whole() {
        for value in [0, 7, 10, 65_535] {
            let mut out = BytesMut::new();
            number(&mut out, value);
            assert_eq!(std::str::from_utf8(&out).unwrap(), value.to_string());
        }
    }
}
