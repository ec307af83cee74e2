//! Replaces (RFC 3891).

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
        let end = text.find(';')?;
        let call_id = text.get(..end)?.trim();
        let params = Params::parse(&text.slice_ref(text.get(end..)?))?;
        let one = |name: &str| {
            let mut all = params.iter().filter(|(n, v)| n.eq_ignore_ascii_case(name) && !v.is_empty());
            let value = all.next()?.1;
            all.next().is_none().then(|| ByteString::from(value))
        };
        let valid = !call_id.is_empty() && call_id.bytes().all(|b| b.is_ascii_graphic());
        valid.then_some(())?;
        Some(Self {
            call_id: text.slice_ref(call_id),
            to_tag: one("to-tag")?,
            from_tag: one("from-tag")?,
            early_only: params.get("early-only").is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tags_are_needed_once() {
        let replaces = Replaces::parse(&"12@10.0.0.1;from-tag=a;to-tag=b;early-only".into()).unwrap();
        assert_eq!((&*replaces.call_id, &*replaces.to_tag, &*replaces.from_tag, replaces.early_only), ("12@10.0.0.1", "b", "a", true));
        for text in ["x;to-tag=1", "x;from-tag=1", "x;to-tag=1;to-tag=2;from-tag=3", ";to-tag=1;from-tag=2", "x"] {
            assert_eq!(Replaces::parse(&text.into()), None, "{text}");
        }
    }
}
