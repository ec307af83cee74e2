//! OPTIONS (RFC 3261 §11): about ourselves and whatever an INVITE would be answered by ourselves (rooms, feature codes) answered here, to a
//! user sent on.

use sip::digest::Side;
use sip::message::Name;
use sip::{Incoming, Response, StatusCode, Transport};

use super::{Context, Outcome, Rejection, Sender, auth, forward};
use crate::route::Meant;

/// A datagram with less may come from anywhere, and is answered without the lists, which are optional: whoever writes the address of another in
/// it shall not have us send more than twice as much there (S11). What phones and proxies send is longer.
const SHORTEST: usize = 250;

pub(super) fn handle(context: &mut Context<'_>, incoming: &Incoming) -> Result<Outcome, Rejection> {
    let request = &incoming.request;
    let meant = context.route.find(&request.uri);
    let for_us = matches!(meant, Meant::Switch);
    let last_hop = request.headers.number(Name::MaxForwards) == Ok(Some(0));
    if !for_us && !last_hop {
        // who is not known learns of no room and no code (S5)
        let sender = auth::sender(context, incoming, Side::Proxy)?;
        if !is_served_here(&meant, &sender) {
            return forward::forward(context, incoming, &sender);
        }
    }
    let unsupported = sip::endpoint::unsupported(request);
    if !unsupported.is_empty() {
        let mut response = Response::to(request, StatusCode::BAD_EXTENSION);
        response.headers.push(Name::Unsupported, unsupported);
        return Ok(Outcome::Reply(Box::new(response)));
    }
    // §11.2: as a 200 to INVITE would. It tells a stranger nothing but methods, so it needs no password.
    let mut response = Response::to(request, StatusCode::OK);
    if incoming.flow.transport == Transport::Udp && request.encode().len() < SHORTEST {
        return Ok(Outcome::Reply(Box::new(response)));
    }
    response.headers.push(Name::Accept, sip::endpoint::ACCEPT);
    response.headers.push(Name::Allow, sip::endpoint::ALLOW);
    response.headers.push(Name::AllowEvents, sip::endpoint::ALLOW_EVENTS);
    response.headers.push(Name::Supported, sip::endpoint::SUPPORTED.join(", "));
    Ok(Outcome::Reply(Box::new(response)))
}

/// Whether an INVITE of this sender to the same would go into a room or do what a feature code stands for.
fn is_served_here(meant: &Meant<'_>, sender: &Sender) -> bool {
    match meant {
        Meant::Room(_) => true,
        Meant::Feature(_) => matches!(sender, Sender::User(_)),
        Meant::User(_) | Meant::Switch | Meant::Elsewhere | Meant::Nobody => false,
    }
}
