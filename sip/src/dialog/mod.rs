//! Dialogs (RFC 3261 §12): the state two peers share, and the requests made from it. The INVITE usage is in [`invite`], the
//! notifier's side of subscriptions in [`subscription`].

pub(crate) mod body;
mod event;
mod interval;
pub mod invite;
mod kept;
mod offer;
pub(crate) mod refer;
mod refresh;
pub mod subscription;
pub(crate) mod uac;
mod uas;

use std::net::IpAddr;

use bytestring::ByteString;

use crate::message::header::name_addr::params_of;
use crate::message::header::{CSeq, params};
use crate::message::{Headers, Method, Name, NameAddr, Request, Response, Uri};
use crate::transaction::{Order, Outgoing, Owner};
use crate::transport::{Flow, Hop};

/// Most routes of a dialog; a message with more is refused.
const MAX_ROUTES: usize = 20;

/// The state of §12: who we are to each other, the route set, the next sequence number. All text is in one buffer of its own: the
/// datagrams it came in are let go.
#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    pub(crate) call_id: ByteString,
    local: Party,
    remote: Party,
    pub(crate) local_seq: u32,
    pub(crate) remote_seq: Option<u32>,
    routes: Vec<NameAddr>,
    /// The peer's Contact.
    target: Uri,
    hop: Hop,
    /// The peer's host as it was first seen, or called: where its Contact is another one, it may send from either.
    host: IpAddr,
}

/// One end of a dialog.
#[derive(Clone, Debug)]
struct Party {
    /// From or To, tag and all.
    address: ByteString,
    /// The tag; empty while it is unknown.
    tag: ByteString,
}

impl Party {
    fn of(address: &NameAddr) -> Self {
        Self::from_text(address.to_string())
    }

    /// A From or To that the parser has found well-formed.
    fn from_text(address: String) -> Self {
        let address = ByteString::from(address);
        let tag = params::find(params_of(&address), "tag").map(|tag| address.slice_ref(tag)).unwrap_or_default();
        Self { address, tag }
    }

    fn from_header(headers: &Headers, name: Name) -> Result<Self, DialogError> {
        let text = headers.single(name).ok_or(crate::message::HeaderError::Missing(name))?;
        Ok(Self::from_text(text.to_string()))
    }
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
            call_id: ByteString::from(&*request.headers.call_id()?),
            local: Party::of(&request.headers.typed::<NameAddr>(Name::To)?.with_tag(tag)),
            remote: Party::from_header(&request.headers, Name::From)?,
            local_seq: 0,
            remote_seq: Some(cseq.number),
            host: hop.remote().ip(),
            hop: towards(&routes, &target, hop),
            routes,
            target,
        })
    }

    /// The dialog of a request we are about to send: without a remote tag and a target of its own yet.
    pub(crate) fn uac(call_id: ByteString, local: &NameAddr, remote: &NameAddr, target: Uri, hop: Hop) -> Self {
        let (local, remote) = (Party::of(local), Party::of(remote));
        let host = hop.remote().ip();
        Self { call_id, local, remote, local_seq: 0, remote_seq: None, routes: Vec::new(), target, hop, host }
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
        let hop = towards(&routes, &target, hop);
        Ok(Self { routes, target, hop, ..self.with_remote(response)? })
    }

    /// The same with the tag of a response that is no good otherwise: what can be acknowledged and hung up is.
    pub(crate) fn with_remote(&self, response: &Response) -> Result<Self, DialogError> {
        Ok(Self { remote: Party::from_header(&response.headers, Name::To)?, ..self.clone() })
    }

    pub(crate) fn local_tag(&self) -> &str {
        &self.local.tag
    }

    pub(crate) fn remote_tag(&self) -> &str {
        &self.remote.tag
    }

    pub(crate) fn hop(&self) -> &Hop {
        &self.hop
    }

    /// Returns true for a flow that the peer is known to send by: its connection, or its host where it was called by address or sends
    /// datagrams. Who sent what comes by another flow is not known (S5).
    pub(crate) fn is_from_peer(&self, flow: &Flow) -> bool {
        match &self.hop {
            Hop::Flow(known) => known.is_of_same_peer(flow),
            Hop::Address { remote, .. } => [remote.ip(), self.host].contains(&flow.remote.ip()),
        }
    }

    /// Where a request goes when the connection of its flow is gone: to the Contact, if that is the host the connection came from (§18.1.1:
    /// a peer without NAT may close idle connections). No other address is tried because a peer names it.
    fn otherwise(&self) -> Option<Hop> {
        let Hop::Flow(flow) = &self.hop else { return None };
        let named = towards(&self.routes, &self.target, Hop::Address { transport: flow.transport, remote: flow.remote, name: None });
        (flow.transport.is_reliable() && named.remote().ip() == flow.remote.ip() && named.remote() != flow.remote).then_some(named)
    }

    /// Makes it ready to be sent.
    pub(crate) fn outgoing(&self, request: Request, owner: Owner) -> Outgoing {
        Outgoing { request, hop: self.hop.clone(), otherwise: self.otherwise(), owner, order: Order::Within, loop_hash: None }
    }

    /// Requests go another way from now on.
    pub(crate) fn reroute(&mut self, hop: Hop) {
        self.hop = hop;
    }

    /// Takes over the peer's Contact of a target refresh request or its 2xx, and the flow that a request came by (§12.2, RFC 5626 §5.3).
    pub(crate) fn refresh_target(&mut self, headers: &Headers, flow: Option<Flow>) {
        if let Some(new) = flow {
            self.host = new.remote.ip();
            if let Hop::Flow(old) = &mut self.hop {
                *old = new;
            }
        }
        if let Ok(Some(target)) = contact(headers)
            && target != self.target
        {
            if self.routes.is_empty() {
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
        request.headers.push(Name::From, &*self.local.address);
        request.headers.push(Name::To, &*self.remote.address);
        request.headers.push(Name::CallId, &*self.call_id);
        request.headers.push(Name::CSeq, CSeq { number, method }.to_string());
        request
    }
}

/// Reads a list header out of a copy of its own, so that no datagram is pinned.
fn addresses(headers: &Headers, name: Name) -> Result<Vec<NameAddr>, DialogError> {
    let mut owned = Headers::default();
    owned.copy(headers, name);
    Ok(owned.list(name)?)
}

fn routes(headers: &Headers) -> Result<Vec<NameAddr>, DialogError> {
    if !headers.has(Name::RecordRoute) {
        return Ok(Vec::new());
    }
    let routes = addresses(headers, Name::RecordRoute)?;
    if routes.len() > MAX_ROUTES {
        return Err(crate::message::HeaderError::Malformed(Name::RecordRoute).into());
    }
    Ok(routes)
}

fn contact(headers: &Headers) -> Result<Option<Uri>, DialogError> {
    let mut contacts = addresses(headers, Name::Contact).map_err(|_| DialogError::Contact)?;
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
