//! Event (RFC 6665 §8.2.1).

use bytestring::ByteString;

use super::{Header, Params};
use crate::message::is_token;

/// An event package with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The package and its templates, such as `presence.winfo`.
    pub package: ByteString,
    /// The parameters, `id` among them.
    pub params: Params,
}

impl Header for Event {
    fn parse(text: &ByteString) -> Option<Self> {
        let end = text.find(';').unwrap_or(text.len());
        let package = text.get(..end)?.trim();
        is_token(package).then_some(())?;
        Some(Self { package: text.slice_ref(package), params: Params::parse(&text.slice_ref(text.get(end..)?))? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_and_id_are_read() {
        let event = Event::parse(&"dialog;id=7".into()).unwrap();
        assert_eq!((&*event.package, event.params.get("id")), ("dialog", Some("7")));
        assert_eq!(Event::parse(&";id=7".into()), None);
    }
}
