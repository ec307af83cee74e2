//! Target-Dialog (RFC 4538): the dialog that a request outside of it is about.

use bytestring::ByteString;

use super::{Header, Params};

/// Names a dialog that the sender of a request knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetDialog {
    /// The Call-ID of that dialog.
    pub call_id: ByteString,
    /// Its tag at the one end.
    pub local_tag: ByteString,
    /// Its tag at the other end.
    pub remote_tag: ByteString,
}

impl Header for TargetDialog {
    fn parse(text: &ByteString) -> Option<Self> {
        let (call_id, params) = Params::behind_call_id(text)?;
        Some(Self { call_id, local_tag: params.one("local-tag")?, remote_tag: params.one("remote-tag")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tags_are_needed_once() {
        let target = TargetDialog::parse(&"f@h ;local-tag=kkaz- ; remote-tag=6544".into()).unwrap();
        assert_eq!((&*target.call_id, &*target.local_tag, &*target.remote_tag), ("f@h", "kkaz-", "6544"));
        for text in ["x", "x;local-tag=1", "x;remote-tag=1", "x;local-tag=1;local-tag=2;remote-tag=3", ";local-tag=1;remote-tag=2"] {
            assert_eq!(TargetDialog::parse(&text.into()), None, "{text}");
        }
    }
}
