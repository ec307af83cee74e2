//! The stored form of an AOR's bindings: versioned, compact, read without a panic whatever the bytes are.
//!
//! One byte of version, then each binding: one byte of flags, numbers as varints (seven bits a byte, lowest first), addresses, and texts
//! with a varint of their length before them.

use std::time::Duration;

use super::{Binding, Q, Received};
use crate::message::Uri;
use crate::stored::{Reader, TRANSPORT, number_of, push_address, push_text, push_varint, transport_of};
use crate::time::UnixTime;

const VERSION: u8 = 1;
/// Most bindings that are read of one AOR; bytes that hold more are refused.
pub(super) const MAX_BINDINGS: usize = 256;

const BEHIND_NAT: u8 = 0b0000_1000;
const REG_ID: u8 = 0b0001_0000;
const LOCAL_V6: u8 = 0b0010_0000;
const REMOTE_V6: u8 = 0b0100_0000;

/// Writes the bindings of one AOR.
#[must_use]
pub fn encode(bindings: &[Binding]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + bindings.iter().map(size_hint).sum::<usize>());
    out.push(VERSION);
    for binding in bindings {
        write(&mut out, binding);
    }
    out
}

fn texts(binding: &Binding) -> [&str; 5] {
    [binding.contact.as_str(), &binding.call_id, &binding.path, &binding.instance, &binding.user_agent]
}

fn size_hint(binding: &Binding) -> usize {
    48 + texts(binding).iter().map(|text| text.len()).sum::<usize>()
}

fn write(out: &mut Vec<u8>, binding: &Binding) {
    let Received { transport, local, remote } = binding.received;
    let mut flags = number_of(transport);
    let mut set = |condition, flag| flags |= if condition { flag } else { 0 };
    set(binding.behind_nat, BEHIND_NAT);
    set(binding.reg_id.is_some(), REG_ID);
    set(local.is_ipv6(), LOCAL_V6);
    set(remote.is_ipv6(), REMOTE_V6);
    out.push(flags);
    for address in [local, remote] {
        push_address(out, address);
    }
    push_varint(out, binding.q.thousandths().into());
    push_varint(out, binding.expires_at.0);
    push_varint(out, binding.granted.as_secs());
    push_varint(out, binding.cseq.into());
    if let Some(reg_id) = binding.reg_id {
        push_varint(out, reg_id.into());
    }
    for text in texts(binding) {
        push_text(out, text);
    }
}

/// Reads what [`encode`] wrote; none for other bytes, those of a later version among them. The texts of all bindings share one buffer.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Vec<Binding>> {
    let mut reader = Reader::new(bytes);
    if reader.byte()? != VERSION {
        return None;
    }
    let mut bindings = Vec::new();
    while !reader.is_empty() {
        if bindings.len() == MAX_BINDINGS {
            return None;
        }
        bindings.push(read(&mut reader)?);
    }
    Some(bindings)
}

fn read(reader: &mut Reader) -> Option<Binding> {
    let flags = reader.byte()?;
    if flags >= REMOTE_V6 << 1 {
        return None;
    }
    let transport = transport_of(flags & TRANSPORT)?;
    let local = reader.address(flags & LOCAL_V6 != 0)?;
    let remote = reader.address(flags & REMOTE_V6 != 0)?;
    let q = u16::try_from(reader.varint()?).ok().filter(|q| *q <= 1000)?;
    let expires_at = UnixTime(reader.varint()?);
    let granted = Duration::from_secs(reader.varint()?);
    let cseq = reader.number()?;
    let reg_id = if flags & REG_ID == 0 { None } else { Some(reader.number()?) };
    Some(Binding {
        contact: Uri::parse(&reader.text()?)?,
        call_id: reader.text()?,
        path: reader.text()?,
        instance: reader.text()?,
        user_agent: reader.text()?,
        q: Q::from_thousandths(q),
        expires_at,
        granted,
        cseq,
        reg_id,
        received: Received { transport, local, remote },
        behind_nat: flags & BEHIND_NAT != 0,
    })
}

#[cfg(test)]
mod tests {
    use bytestring::ByteString;

    use super::*;
    use crate::transport::Transport;

    fn binding(contact: &str) -> Binding {
        Binding {
            contact: Uri::parse(&contact.into()).unwrap(),
            q: Q::MAX,
            expires_at: UnixTime(1_785_000_000),
            granted: Duration::from_secs(3600),
            call_id: "a84b4c76e66710-8f7e6d5c@192.0.2.17".into(),
            cseq: 21,
            path: ByteString::new(),
            instance: ByteString::new(),
            reg_id: None,
            user_agent: "baresip v1.0.0 (x86_64/linux)".into(),
            received: Received {
                transport: Transport::Udp,
                local: "192.0.2.1:5060".parse().unwrap(),
                remote: "192.0.2.17:5060".parse().unwrap(),
            },
            behind_nat: false,
        }
    }

    fn all_set() -> Binding {
        Binding {
            q: Q::from_thousandths(5),
            expires_at: UnixTime(u64::MAX),
            cseq: u32::MAX,
            path: "<sip:p1.example.com;lr>, <sip:p2.example.com;lr;ob>".into(),
            instance: "urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF".into(),
            reg_id: Some(7),
            received: Received {
                transport: Transport::Wss,
                local: "[2001:db8::1]:443".parse().unwrap(),
                remote: "[2001:db8::2]:65535".parse().unwrap(),
            },
            behind_nat: true,
            ..binding("sips:x@[::1];pn-provider=apns;pn-prid=ZTY4ZDJlMzODE1NmUgKi0K")
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for list in [vec![], vec![binding("sip:ann@192.0.2.17:5060")], vec![all_set(), binding("sip:b@h"), all_set()]] {
            assert_eq!(decode(&encode(&list)), Some(list));
        }
    }

    #[test]
    fn a_typical_binding_takes_less_than_200_bytes() {
        let length = encode(&[binding("sip:ann-0x55d3a1e2@192.0.2.17:5060;transport=udp")]).len();
        assert!(length < 150, "{length}");
    }

    #[test]
    fn no_bytes_panic_and_what_is_read_is_what_was_written() {
        let whole = encode(&[all_set(), binding("sip:b@h")]);
        for end in 0..whole.len() {
            // A list may end after any binding; anything else is cut.
            let read = decode(&whole[..end]);
            assert!(read.is_none_or(|list| encode(&list) == whole[..end]), "{end}");
        }
        for at in 0..whole.len() {
            for flip in [1, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] ^= flip;
                if let Some(list) = decode(&changed) {
                    assert_eq!(encode(&list), changed, "{at}");
                }
            }
        }
        for bytes in [&[][..], &[2], &[VERSION, 0xff], &[0xff; 64]] {
            assert_eq!(decode(bytes), None);
        }
    }

    #[test]
    fn more_bindings_than_the_bound_are_refused() {
        let one = binding("sip:b@h");
        assert!(decode(&encode(&vec![one.clone(); MAX_BINDINGS])).is_some());
        assert!(decode(&encode(&vec![one; MAX_BINDINGS + 1])).is_none());
    }
}
