//! The session description in a body (RFC 3261 §7.4, §8.2.3, §20.11): the body itself or, in a multipart one (RFC 2046 §5.1, RFC 5621 §3 and
//! §4), the part that is SDP. What need not be understood (`handling=optional`) is passed over. It knows nothing of what SDP says.

use bytes::Bytes;
use memchr::memmem::Finder;

use crate::message::header::params;
use crate::message::{Headers, Name};

/// Most parts of one multipart body; one with more is not understood.
const MAX_PARTS: usize = 16;

/// Most multipart bodies within each other; one that is deeper is not understood.
const MAX_DEPTH: usize = 2;

/// Most characters of a boundary (RFC 2046 §5.1.1).
const MAX_BOUNDARY: usize = 70;

/// The body, or a part of it that has to be understood, is of a type or encoding that is read nowhere here (415).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotUnderstood;

/// Returns the session description of a message; empty for none.
pub(crate) fn session(headers: &Headers, body: &Bytes) -> Result<Bytes, NotUnderstood> {
    if body.is_empty() {
        return Ok(Bytes::new());
    }
    let value = |name| headers.get(name).map_or("", text);
    let entity = Entity {
        kind: value(Name::ContentType),
        disposition: value(Name::ContentDisposition),
        is_encoded: !is_one_of(value(Name::ContentEncoding), &["", "identity"]),
        body,
    };
    Ok(entity.session(MAX_DEPTH)?.map_or_else(Bytes::new, |found| body.slice_ref(found)))
}

/// A body, or a part of one.
struct Entity<'a> {
    kind: &'a str,
    disposition: &'a str,
    /// It has an encoding that is not undone here.
    is_encoded: bool,
    body: &'a [u8],
}

impl<'a> Entity<'a> {
    /// Returns its session description, if it has one.
    fn session(&self, depth: usize) -> Result<Option<&'a [u8]>, NotUnderstood> {
        match self.read(depth) {
            Err(NotUnderstood) if self.is_optional() => Ok(None),
            read => read,
        }
    }

    fn read(&self, depth: usize) -> Result<Option<&'a [u8]>, NotUnderstood> {
        let (kind, params) = self.kind.split_at(self.kind.find(';').unwrap_or(self.kind.len()));
        let kind = kind.trim();
        if self.is_encoded {
            return Err(NotUnderstood);
        }
        if kind.eq_ignore_ascii_case("application/sdp") {
            return Ok(Some(self.body));
        }
        let is_choice = kind.eq_ignore_ascii_case("multipart/alternative");
        let depth = depth.checked_sub(1).filter(|_| is_choice || kind.eq_ignore_ascii_case("multipart/mixed")).ok_or(NotUnderstood)?;
        let boundary = params::find(params, "boundary").map(params::unquote).unwrap_or_default();
        let read: Vec<_> = parts(self.body, &boundary)?.into_iter().map(|part| Self::of(part).session(depth)).collect();
        if is_choice {
            // RFC 2046 §5.1.4: the last of those that are understood is the best
            return read.into_iter().rev().find(Result::is_ok).unwrap_or(Err(NotUnderstood));
        }
        let read: Result<Vec<_>, _> = read.into_iter().collect();
        Ok(read?.into_iter().flatten().next())
    }

    /// Reads the header fields of a part. A line that continues the one before is of no field that counts here.
    fn of(part: &'a [u8]) -> Self {
        let mut entity = Self { kind: "text/plain", disposition: "", is_encoded: false, body: part };
        while let Some(end) = memchr::memchr(b'\n', entity.body) {
            let (line, rest) = entity.body.split_at(end);
            entity.body = rest.get(1..).unwrap_or_default();
            let line = text(line).trim_end();
            if line.is_empty() {
                return entity;
            }
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match name.trim_end().to_ascii_lowercase().as_str() {
                "content-type" | "c" => entity.kind = value,
                "content-disposition" => entity.disposition = value,
                "content-encoding" | "e" => entity.is_encoded |= !is_one_of(value, &["identity"]),
                "content-transfer-encoding" => entity.is_encoded |= !is_one_of(value, &["binary", "8bit", "7bit"]),
                _ => {}
            }
        }
        // without an empty line there is no body
        Self { body: &[], ..entity }
    }

    fn is_optional(&self) -> bool {
        let params = self.disposition.find(';').and_then(|at| self.disposition.get(at..)).unwrap_or("");
        params::find(params, "handling").is_some_and(|handling| handling.eq_ignore_ascii_case("optional"))
    }
}

/// Returns the parts of a multipart body, between lines that begin with `--` and the boundary.
fn parts<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<&'a [u8]>, NotUnderstood> {
    if boundary.is_empty() || boundary.len() > MAX_BOUNDARY {
        return Err(NotUnderstood);
    }
    let delimiter = format!("--{boundary}");
    let finder = Finder::new(&delimiter);
    let mut parts = Vec::new();
    // where the part that is open begins
    let mut begun: Option<usize> = None;
    for at in finder.find_iter(body) {
        let (before, after) = (body.get(..at).unwrap_or_default(), body.get(at + delimiter.len()..).unwrap_or_default());
        let is_last = after.starts_with(b"--");
        let line = memchr::memchr(b'\n', after).unwrap_or(after.len());
        let is_alone = is_last || after.get(..line).is_some_and(|rest| rest.trim_ascii().is_empty());
        if !(before.is_empty() || before.ends_with(b"\n")) || !is_alone {
            continue;
        }
        if let Some(part) = begun.and_then(|begun| before.get(begun..)) {
            // the end of the line before belongs to the delimiter
            let part = part.strip_suffix(b"\n").unwrap_or(part);
            parts.push(part.strip_suffix(b"\r").unwrap_or(part));
        }
        if is_last {
            return Ok(parts);
        }
        if parts.len() == MAX_PARTS {
            return Err(NotUnderstood);
        }
        begun = Some(body.len().min(at + delimiter.len() + line + 1));
    }
    // no end: it was cut off
    Err(NotUnderstood)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or("")
}

fn is_one_of(value: &str, names: &[&str]) -> bool {
    names.iter().any(|name| value.trim().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\r\n";
    const OTHER: &str =
        "--b\r\nContent-Type: application/isup;version=x\r\nContent-Disposition: signal; Handling=Optional\r\n\r\n\0--b\x7f\r\n";

    fn read(kind: &str, disposition: &str, encoding: &str, body: &str) -> Result<Bytes, NotUnderstood> {
        let mut headers = Headers::default();
        headers.push(Name::ContentType, kind);
        for (name, value) in [(Name::ContentDisposition, disposition), (Name::ContentEncoding, encoding)] {
            if !value.is_empty() {
                headers.push(name, value);
            }
        }
        session(&headers, &Bytes::copy_from_slice(body.as_bytes()))
    }

    fn mixed(body: &str) -> Result<Bytes, NotUnderstood> {
        read("multipart/mixed;boundary=b", "", "", body)
    }

    #[test]
    fn a_body_is_sdp_or_need_not_be_understood() {
        for (kind, disposition, encoding, found) in [
            ("application/sdp", "", "", Ok("x")),
            ("Application/SDP ; charset=utf-8", "session", "identity", Ok("x")),
            ("application/sdp", "", "gzip", Err(NotUnderstood)),
            ("application/sdp", "session;handling=optional", "gzip", Ok("")),
            ("text/plain", "", "", Err(NotUnderstood)),
            ("text/plain", "render;handling=required", "", Err(NotUnderstood)),
            ("text/plain", "render;handling=optional", "", Ok("")),
            ("multipart/related;boundary=b", "", "", Err(NotUnderstood)),
        ] {
            assert_eq!(read(kind, disposition, encoding, "x"), found.map(Bytes::from), "{kind} {disposition} {encoding}");
        }
        assert_eq!(read("text/plain", "", "", ""), Ok(Bytes::new()));
    }

    #[test]
    fn the_part_with_sdp_is_found() {
        let required = OTHER.replace("; Handling=Optional", "");
        let kinds = ["multipart/mixed;boundary=b", "Multipart/Mixed; x=y; Boundary=\"b\""];
        for kind in kinds {
            assert_eq!(read(kind, "", "", &format!("preamble\r\n{SDP}{OTHER}--b--\r\n")), Ok("v=0\r\n".into()), "{kind}");
        }
        assert_eq!(mixed(&format!("{OTHER}{SDP}--b--")), Ok("v=0\r\n".into()));
        assert_eq!(mixed(&format!("{OTHER}--b--")), Ok("".into()), "no offer");
        assert_eq!(mixed(&format!("{SDP}{required}--b--")), Err(NotUnderstood), "RFC 5621 §4");
        assert_eq!(
            mixed(&format!("{}--b--", SDP.replace("\r\n\r\nv", "\r\nContent-Transfer-Encoding: base64\r\n\r\nv"))),
            Err(NotUnderstood)
        );
        let lines = SDP.replace("\r\n", "\n");
        assert_eq!(mixed(&format!("{lines}--b--\n")), Ok("v=0\n".into()));
    }

    #[test]
    fn of_alternatives_the_last_that_is_understood_counts() {
        let html = "--b\r\nContent-Type: text/html\r\n\r\n\r\n";
        let kind = "multipart/alternative;boundary=b";
        assert_eq!(read(kind, "", "", &format!("{SDP}{html}--b--")), Ok("v=0\r\n".into()));
        assert_eq!(read(kind, "", "", &format!("{SDP}{}--b--", SDP.replace("v=0", "v=1"))), Ok("v=1\r\n".into()));
        assert_eq!(read(kind, "", "", &format!("{html}--b--")), Err(NotUnderstood));
    }

    #[test]
    fn what_is_cut_off_too_deep_or_too_long_is_not_understood() {
        // S8
        let nested = |inner: &str, outer: &str, body: &str| {
            format!("--{outer}\r\nContent-Type: multipart/mixed;boundary={inner}\r\n\r\n{body}\r\n--{outer}--\r\n")
        };
        let one = nested("b", "c", &format!("{SDP}--b--"));
        assert_eq!(read("multipart/mixed;boundary=c", "", "", &one), Ok("v=0\r\n".into()));
        assert_eq!(read("multipart/mixed;boundary=d", "", "", &nested("c", "d", &one)), Err(NotUnderstood));
        assert_eq!(mixed(&format!("{}--b--", SDP.repeat(MAX_PARTS))), Ok("v=0\r\n".into()));
        assert_eq!(mixed(&format!("{}--b--", SDP.repeat(MAX_PARTS + 1))), Err(NotUnderstood));
        let whole = format!("{OTHER}{SDP}--b--");
        for end in 0..whole.len() {
            assert!(mixed(&whole[..end]).is_err() || end == 0, "{end}");
        }
        assert_eq!(read("multipart/mixed", "", "", &whole), Err(NotUnderstood));
        let boundary = "b".repeat(MAX_BOUNDARY + 1);
        assert_eq!(read(&format!("multipart/mixed;boundary={boundary}"), "", "", &format!("--{boundary}--")), Err(NotUnderstood));
    }
}
