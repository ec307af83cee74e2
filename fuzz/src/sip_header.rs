//! Each typed header on any text: what is accepted reads the same after printing.

use std::fmt::Display;

use bytestring::ByteString;
use sip::message::header::params::{quote, unquote};
use sip::message::header::{CSeq, Event, Header, Params, RAck, Reason, ReferTo, Replaces, SessionExpires, TargetDialog};
use sip::message::{NameAddr, Via};

use crate::torture;

/// The header values of RFC 4475's messages.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let text = |torture: &torture::Torture| String::from_utf8_lossy(torture.bytes).replace("\r\n ", " ");
    let rows = |text: String| text.lines().filter_map(|row| Some(row.split_once(':')?.1.trim().into())).collect::<Vec<_>>();
    torture::MESSAGES.iter().flat_map(|torture| rows(text(torture))).collect()
}

/// Tries one value.
#[must_use]
pub fn run(data: &[u8]) -> bool {
    every_type(&String::from_utf8_lossy(data))
}

/// Tries every type on one value; true where one takes it.
pub(crate) fn every_type(text: &str) -> bool {
    let text = ByteString::from(text);
    let address = round::<NameAddr>(&text);
    if let Some(address) = &address {
        assert!(address.display_name().is_none_or(|name| !name.contains(char::is_control))); // S6
        params(&address.params);
        params(&address.uri.params());
    }
    let via = round::<Via>(&text);
    if let Some(via) = &via {
        params(&via.params);
        let _ = (via.branch(), via.received(), via.response_address());
        let stamped = via.stamped(std::net::SocketAddr::from(([192, 0, 2, 9], 5066)));
        // One more than the most can be too many.
        assert!(Via::parse(&stamped.to_string().into()).is_some() || stamped.params.iter().count() > Params::MAX);
    }
    let others = [
        round::<CSeq>(&text).is_some(),
        round::<RAck>(&text).is_some(),
        round::<Reason>(&text).is_some(),
        round::<SessionExpires>(&text).is_some(),
        Event::parse(&text).is_some_and(|event| params(&event.params)),
        round::<Replaces>(&text).is_some(),
        ReferTo::parse(&text).is_some(),
        TargetDialog::parse(&text).is_some(),
        Params::parse(&text).is_some_and(|list| params(&list)),
    ];
    assert!(unquote(&quote(&text)).chars().eq(text.chars().filter(|c| !c.is_control())));
    address.is_some() || via.is_some() || others.contains(&true)
}

fn round<H: Header + Display>(text: &ByteString) -> Option<H> {
    let first = H::parse(text)?;
    let printed = first.to_string();
    let second = H::parse(&printed.clone().into()).unwrap_or_else(|| panic!("what we print is refused: {printed:?}"));
    assert_eq!(second.to_string(), printed);
    Some(first)
}

fn params(list: &Params) -> bool {
    let count = list.iter().count();
    assert!(count <= Params::MAX);
    for (name, value) in list.iter() {
        assert!(list.get(name).is_some() && !name.is_empty(), "{name:?} {value:?}");
        let without = list.without(name);
        assert!(Params::parse(&without.to_string().into()).is_some(), "{list} without {name}");
        assert_eq!(without.get(name), None);
        if count == 1 || count < Params::MAX {
            let with = list.with(name, "1");
            assert_eq!(Params::parse(&with.to_string().into()).as_ref().and_then(|p| p.get(name)), Some("1"), "{list} with {name}");
        }
    }
    true
}
