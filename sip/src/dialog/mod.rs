//! Dialogs (RFC 3261 §12): the state two peers share, and the requests made from it. The INVITE usage is in [`invite`].

pub mod invite;
pub(crate) mod refresh;
pub(crate) mod uac;
mod uas;

use bytestring::ByteString;

use crate::message::header::CSeq;
use crate::message::{Headers, Method, Name, NameAddr, Request, Response, Uri};
use crate::transport::Hop;

/// Most routes of a dialog; a message with more is refused.
const MAX_ROUTES: usize = 20;

/// The state of §12: who we are to each other, the route set, the next sequence number.
#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    pub(crate) call_id: ByteString,
    /// Our address, with our tag.
    pub(crate) local: NameAddr,
    /// The peer's address, with its tag once we know it.
    pub(crate) remote: NameAddr,
    pub(crate) local_seq: u32,
    pub(crate) remote_seq: Option<u32>,
    routes: Vec<NameAddr>,
    /// The peer's Contact.
    pub(crate) target: Uri,
    hop: Hop,
}

/// Why a request or response makes no dialog; the caller answers 400 or ends the leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialogError {
    /// A header that a dialog needs is missing or malformed.
    #[error(transparent)]
    Header(#[from] crate::message::HeaderError),
    /// Contact is missing, or not one SIP URI.
    #[error("a dialog needs one Contact with a SIP URI")]
    Contact,
}

impl Dialog {
    /// The dialog of a request we received (§12.1.1).
    pub(crate) fn uas(request: &Request, tag: &str, hop: Hop) -> Result<Self, DialogError> {
        let routes = routes(&request.headers)?;
        let target = contact(&request.headers)?.ok_or(DialogError::Contact)?;
        let cseq: CSeq = request.headers.typed(Name::CSeq)?;
        Ok(Self {
            call_id: request.headers.call_id()?,
            local: request.headers.typed::<NameAddr>(Name::To)?.with_tag(tag),
            remote: request.headers.typed(Name::From)?,
            local_seq: 0,
            remote_seq: Some(cseq.number),
            hop: towards(&routes, &target, hop),
            routes,
            target,
        })
    }

    /// The dialog of a request we are about to send: without a remote tag and a target of its own yet.
    pub(crate) fn uac(call_id: ByteString, local: NameAddr, remote: NameAddr, target: Uri, hop: Hop) -> Self {
        Self { call_id, local, remote, local_seq: 0, remote_seq: None, routes: Vec::new(), target, hop }
    }

    /// The dialog that a response to it makes (§12.1.2). A provisional response may lack the Contact.
    pub(crate) fn answered(&self, response: &Response, hop: Hop) -> Result<Self, DialogError> {
        let mut routes = routes(&response.headers)?;
        routes.reverse();
        let target = match contact(&response.headers)? {
            Some(target) => target,
            None if response.status.is_provisional() => self.target.clone(),
            None => return Err(DialogError::Contact),
        };
        let remote = response.headers.typed(Name::To)?;
        let hop = towards(&routes, &target, hop);
        Ok(Self { remote, routes, target, hop, ..self.clone() })
    }

    pub(crate) fn local_tag(&self) -> &str {
        self.local.tag().unwrap_or("")
    }

    pub(crate) fn remote_tag(&self) -> &str {
        self.remote.tag().unwrap_or("")
    }

    pub(crate) fn hop(&self) -> &Hop {
        &self.hop
    }

    /// Takes over the peer's Contact of a target refresh request or its 2xx (§12.2).
    pub(crate) fn refresh_target(&mut self, headers: &Headers) {
        if let Ok(Some(target)) = contact(headers) {
            if target != self.target && self.routes.is_empty() {
                self.hop = towards(&[], &target, self.hop.clone());
            }
            self.target = target;
        }
    }

    /// Makes a request within the dialog (§12.2.1.1), less its Via and Contact.
    pub(crate) fn request(&mut self, method: Method) -> Request {
        self.local_seq += 1;
        self.request_at(method, self.local_seq)
    }

    /// As [`Dialog::request`], with the number of an earlier request: the ACK of its 2xx.
    pub(crate) fn request_at(&self, method: Method, number: u32) -> Request {
        // A strict router first in the route set gets the request at its own URI (§12.2.1.1).
        let strict = self.routes.first().filter(|route| !route.uri.is_loose_router());
        let mut request = Request::new(method.clone(), strict.map_or(&self.target, |route| &route.uri).clone());
        for route in self.routes.iter().skip(usize::from(strict.is_some())) {
            request.headers.push(Name::Route, route.to_string());
        }
        if strict.is_some() {
            request.headers.push(Name::Route, format!("<{}>", self.target));
        }
        request.headers.push(Name::MaxForwards, "70");
        request.headers.push(Name::From, self.local.to_string());
        request.headers.push(Name::To, self.remote.to_string());
        request.headers.push(Name::CallId, &*self.call_id);
        request.headers.push(Name::CSeq, CSeq { number, method }.to_string());
        request
    }
}

fn routes(headers: &Headers) -> Result<Vec<NameAddr>, DialogError> {
    let routes: Vec<NameAddr> = headers.list(Name::RecordRoute)?;
    if routes.len() > MAX_ROUTES {
        return Err(crate::message::HeaderError::Malformed(Name::RecordRoute).into());
    }
    Ok(routes)
}

fn contact(headers: &Headers) -> Result<Option<Uri>, DialogError> {
    let mut contacts = headers.list::<NameAddr>(Name::Contact).map_err(|_| DialogError::Contact)?;
    match (contacts.len(), contacts.pop()) {
        (0, _) => Ok(None),
        (1, Some(contact)) if contact.uri.host().is_some() => Ok(Some(contact.uri)),
        _ => Err(DialogError::Contact),
    }
}

/// Chooses where in-dialog requests go. A flow is followed: the peer may sit behind a NAT, and its Contact mean nothing here (RFC 5626).
/// To a peer reached by address, the first route or the Contact says where, if it is literal; a name stays with the address found for it.
fn towards(routes: &[NameAddr], target: &Uri, hop: Hop) -> Hop {
    let Hop::Address { transport, remote, name } = hop else { return hop };
    let uri = routes.first().map_or(target, |route| &route.uri);
    let Some(ip) = uri.host().and_then(crate::message::Host::ip) else {
        return Hop::Address { transport, remote, name };
    };
    let transport = uri.transport().unwrap_or(transport);
    let port = uri.port().unwrap_or_else(|| transport.default_port());
    let same = remote == std::net::SocketAddr::new(ip, port);
    Hop::Address { transport, remote: std::net::SocketAddr::new(ip, port), name: name.filter(|_| same) }
}
