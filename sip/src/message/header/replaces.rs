//! Replaces (RFC 3891).

use std::fmt;

use bytestring::ByteString;

use super::{Header, Params};

/// Names the dialog that a new INVITE takes the place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaces {
    /// The Call-ID of that dialog.
    pub call_id: ByteString,
    /// Its tag at the end that receives this header.
    pub to_tag: ByteString,
    /// Its tag at the other end.
    pub from_tag: ByteString,
    /// True when only an early dialog may be replaced.
    pub early_only: bool,
}

impl Header for Replaces {
    fn parse(text: &ByteString) -> Option<Self> {
        let (call_id, params) = Params::behind_call_id(text)?;
        let early_only = params.get("early-only").is_some();
        Some(Self { call_id, to_tag: params.one("to-tag")?, from_tag: params.one("from-tag")?, early_only })
    }
}

impl fmt::Display for Replaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let early_only = if self.early_only { ";early-only" } else { "" };
        write!(f, "{};to-tag={};from-tag={}{early_only}", self.call_id, self.to_tag, self.from_tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tags_are_needed_once() {
        let replaces = Replaces::parse(&"12@10.0.0.1;from-tag=a;to-tag=b;early-only".into()).unwrap();
        assert_eq!((&*replaces.call_id, &*replaces.to_tag, &*replaces.from_tag, replaces.early_only), ("12@10.0.0.1", "b", "a", true));
        assert_eq!(Replaces::parse(&replaces.to_string().into()), Some(replaces));
        for text in ["x;to-tag=1", "x;from-tag=1", "x;to-tag=1;to-tag=2;from-tag=3", ";to-tag=1;from-tag=2", "x"] {
            assert_eq!(Replaces::parse(&text.into()), None, "{text}");
        }
    }
}
