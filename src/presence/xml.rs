//! Text in the XML documents that we write.

use sip::Aor;

/// Appends the URI of an address of record.
pub(super) fn push_uri(out: &mut String, aor: &Aor) {
    match aor.uri() {
        Some(uri) => push_escaped(out, uri.as_str()),
        None => push_escaped(out, aor.as_str()),
    }
}

/// Appends text for an element or an attribute in double quotes: nothing in it is markup, and what XML cannot hold is left out (S16).
pub(super) fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_markup() {
        // S16
        let mut out = String::new();
        push_escaped(&mut out, "<a href=\"x\">&\u{0}\r\n\u{ffff}\u{e9}</a>");
        assert_eq!(out, "&lt;a href=&quot;x&quot;&gt;&amp;\u{e9}&lt;/a&gt;");
    }
}
