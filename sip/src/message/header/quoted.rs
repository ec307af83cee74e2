//! Where quoted strings (§25.1) begin and end in a header value: the one scan behind lists, parameters and angle brackets.

/// What a search outside quoted strings came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The byte is here.
    At(usize),
    /// It is nowhere.
    Nowhere,
    /// A quoted string does not end.
    OpenQuote,
}

/// Finds the first byte outside quoted strings that is wanted. In them a backslash takes the byte behind it along.
pub(super) fn find(text: &[u8], mut is_wanted: impl FnMut(u8) -> bool) -> Found {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in text.iter().copied().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if !quoted && is_wanted(byte) => return Found::At(at),
            _ => {}
        }
    }
    if quoted { Found::OpenQuote } else { Found::Nowhere }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_strings_are_passed_over_with_their_escapes() {
        let comma = |text: &str| find(text.as_bytes(), |byte| byte == b',');
        assert_eq!(comma("a,b"), Found::At(1));
        assert_eq!(comma("\"a,b\",c"), Found::At(5));
        assert_eq!(comma("\"a\\\",b\",c"), Found::At(7));
        assert_eq!(comma("\"a\\\\\",c"), Found::At(5));
        assert_eq!(comma("a\\\",b\""), Found::Nowhere, "outside of quotes a backslash is a byte like any other");
        assert_eq!(comma("\"a,"), Found::OpenQuote);
        assert_eq!(comma("\"a\\"), Found::OpenQuote);
        assert_eq!(comma("\"a,b\""), Found::Nowhere);
        assert_eq!(comma(""), Found::Nowhere);
    }
}
