//! What a REGISTER says: who sends it ([`Sender`]) and which contacts it asks for ([`Asked`]), checked against the policy.

use std::net::IpAddr;
use std::time::Duration;

use bytestring::ByteString;

use super::{Binding, Policy, Q, Received, Rejection};
use crate::locate;
use crate::message::header::CSeq;
use crate::message::header::params::{decimal, unquote};
use crate::message::uri::Scheme;
use crate::message::{HeaderError, Host, Name, NameAddr, Request, StatusCode, Uri, Via};
use crate::transport::{Flow, Transport};

/// The facts of a REGISTER that all its contacts share.
pub(super) struct Sender {
    pub(super) call_id: ByteString,
    pub(super) cseq: u32,
    pub(super) path: ByteString,
    pub(super) user_agent: ByteString,
    pub(super) received: Received,
    /// True when flows of RFC 5626 are registered; else reg-id is ignored.
    pub(super) uses_outbound: bool,
    /// The address in the topmost Via, if it is one.
    via: Option<IpAddr>,
}

impl Sender {
    pub(super) fn of(request: &Request, flow: &Flow, contacts: &[Asked]) -> Result<Self, Box<Rejection>> {
        let headers = &request.headers;
        let cseq: CSeq = headers.typed(Name::CSeq).map_err(Rejection::malformed)?;
        let via: Via = headers.first(Name::Via).map_err(Rejection::malformed)?;
        let path = path(request)?;
        Ok(Self {
            call_id: headers.call_id().map_err(Rejection::malformed)?,
            cseq: cseq.number,
            user_agent: user_agent(request),
            received: Received::from(flow),
            uses_outbound: contacts.iter().any(|contact| contact.reg_id.is_some()) && knows_outbound(request, &path)?,
            path: join(&path)?,
            via: via.host.ip(),
        })
    }

    /// Returns true if Via or, where that has a name only, the contact is not the address we see (RFC 3581 §4).
    pub(super) fn is_behind_nat(&self, contact: &Uri) -> bool {
        let seen = self.received.remote.ip().to_canonical();
        let named = self.via.or_else(|| contact.host().and_then(Host::ip));
        named.is_some_and(|named| named.to_canonical() != seen)
    }
}

/// Returns true for `Contact: *` under its conditions (§10.3 step 6): nothing beside it, and an expiry of zero.
pub(super) fn is_wildcard(request: &Request) -> Result<bool, Box<Rejection>> {
    if !request.headers.all(Name::Contact).any(|row| row == b"*") {
        return Ok(false);
    }
    let is_alone = request.headers.all(Name::Contact).count() == 1;
    if is_alone && request.headers.number(Name::Expires) == Ok(Some(0)) {
        return Ok(true);
    }
    Err(Rejection::new(StatusCode::BAD_REQUEST, "Contact: * needs Expires: 0 and no other contact"))
}

fn path(request: &Request) -> Result<Vec<NameAddr>, Box<Rejection>> {
    if !request.headers.has(Name::Path) {
        return Ok(Vec::new());
    }
    request.headers.list(Name::Path).map_err(Rejection::malformed)
}

fn join(path: &[NameAddr]) -> Result<ByteString, Box<Rejection>> {
    let text = path.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if text.len() > Binding::MAX_PATH {
        return Err(Rejection::new(StatusCode::BAD_REQUEST, "Path is too long"));
    }
    Ok(text.into())
}

/// Decides whether outbound applies to contacts with reg-id (RFC 5626 §6): the first hop must be us, or a proxy that says `ob` in its Path.
fn knows_outbound(request: &Request, path: &[NameAddr]) -> Result<bool, Box<Rejection>> {
    let is_direct = request.headers.list::<Via>(Name::Via).map_err(Rejection::malformed)?.len() == 1;
    if (is_direct && path.is_empty()) || path.iter().any(|hop| hop.uri.param("ob").is_some()) {
        return Ok(true);
    }
    if request.headers.has_token(Name::Supported, "outbound") {
        return Err(Rejection::new(StatusCode::FIRST_HOP_LACKS_OUTBOUND, "the first hop knows no outbound"));
    }
    Ok(false)
}

fn user_agent(request: &Request) -> ByteString {
    let Some(text) = request.headers.get_text(Name::UserAgent) else { return ByteString::new() };
    let mut end = text.len().min(Binding::MAX_USER_AGENT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.slice_ref(text.get(..end).unwrap_or(""))
}

/// One contact of a REGISTER.
pub(super) struct Asked {
    pub(super) uri: Uri,
    pub(super) q: Q,
    /// What is granted; zero removes the binding.
    pub(super) expires: Duration,
    pub(super) instance: ByteString,
    pub(super) reg_id: Option<u32>,
}

/// Reads and checks all contacts; none for a query.
pub(super) fn read(request: &Request, policy: &Policy) -> Result<Vec<Asked>, Box<Rejection>> {
    let contacts: Vec<NameAddr> = request.headers.list(Name::Contact).map_err(Rejection::malformed)?;
    let common = match request.headers.number(Name::Expires) {
        Ok(Some(seconds)) => Duration::from_secs(seconds.into()),
        // §20.10, §20.19: a malformed value is as good as none.
        Ok(None) | Err(HeaderError::Missing(_) | HeaderError::Malformed(_)) => policy.default_expires,
    };
    contacts.into_iter().map(|contact| check(&contact, common, policy)).collect()
}

fn check(contact: &NameAddr, common: Duration, policy: &Policy) -> Result<Asked, Box<Rejection>> {
    let refused = |reason| Err(Rejection::new(StatusCode::BAD_REQUEST, reason));
    let uri = &contact.uri;
    let port = match (uri.scheme(), uri.transport()) {
        (Scheme::Tel | Scheme::Other, _) => return refused("Contact is no SIP URI"),
        (Scheme::Sips, _) => 5061,
        (Scheme::Sip, transport) => transport.map_or(5060, Transport::default_port),
    };
    if uri.as_str().len() > Binding::MAX_CONTACT {
        return refused("Contact is too long");
    }
    let expires = expires(contact, common, policy)?;
    let host = uri.host().map(|host| (host, uri.port().unwrap_or(port)));
    if host.is_some_and(|(host, port)| policy.own.iter().any(|(ours, our_port)| ours == host && *our_port == port)) {
        return Err(Rejection::new(StatusCode::FORBIDDEN, "Contact is this server itself"));
    }
    if host.is_some_and(|(host, _)| host.ip().is_some_and(|ip| !locate::is_host(ip))) {
        return refused("Contact is no host's address");
    }
    let service = uri.param("pn-provider").map(unquote).unwrap_or_default();
    let is_known = service.is_empty() || policy.push.is_empty() || policy.push.iter().any(|known| **known == *service);
    if !is_known && !expires.is_zero() {
        return Err(Rejection::new(StatusCode::PUSH_SERVICE_NOT_SUPPORTED, "unknown push service"));
    }
    let instance = contact.params.get("+sip.instance").map(unquote).unwrap_or_default();
    let instance = instance.strip_prefix('<').and_then(|i| i.strip_suffix('>')).unwrap_or(&instance);
    if instance.len() > Binding::MAX_INSTANCE {
        return refused("the instance is too long");
    }
    let reg_id = match contact.params.get("reg-id").map(decimal::<u32>) {
        Some(Some(reg_id)) if (1..1 << 31).contains(&reg_id) => Some(reg_id),
        Some(_) => return refused("malformed reg-id"),
        None => None,
    };
    Ok(Asked {
        q: contact.params.get("q").and_then(Q::parse).unwrap_or(Q::MAX),
        expires,
        // RFC 5626 §6: without an instance reg-id means nothing.
        reg_id: reg_id.filter(|_| !instance.is_empty()),
        instance: instance.into(),
        uri: contact.uri.clone(),
    })
}

fn expires(contact: &NameAddr, common: Duration, policy: &Policy) -> Result<Duration, Box<Rejection>> {
    let asked = match contact.params.get("expires") {
        Some(text) => decimal::<u32>(text).map_or(policy.default_expires, |seconds| Duration::from_secs(seconds.into())),
        None => common,
    };
    if !asked.is_zero() && asked < policy.min_expires {
        let minimum = policy.min_expires.as_secs().to_string();
        return Err(Rejection::with(StatusCode::INTERVAL_TOO_BRIEF, "expires too soon", Name::MinExpires, &minimum));
    }
    Ok(asked.min(policy.max_expires))
}
