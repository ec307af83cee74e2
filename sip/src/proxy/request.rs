//! The request on its way through (§16.3, §16.4, §16.6, RFC 5393).

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::{Forward, Options};
use crate::message::header::auth::remove_credentials;
use crate::message::{HeaderError, Host, Name, NameAddr, Request, Response, StatusCode, Uri, Via};
use crate::registrar::{Reach, Target};

/// Tells whether a host and port are ours: our domains, and what stands in our Via and Record-Route.
pub type Ours<'a> = &'a dyn Fn(&Host, Option<u16>) -> bool;

/// Max-Forwards of a request that has none (§16.6 item 3).
const MAX_FORWARDS: u32 = 70;
/// Max-Breadth of a request that has none (RFC 5393 §5.3.3).
const MAX_BREADTH: u32 = 60;

/// A request that may be forwarded: checked, and freed of what was meant for us.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The request.
    pub request: Request,
    /// Our own URI that was on top of Route; its user part is what we put there.
    pub route: Option<Uri>,
    /// The second part of our branch, by which we see a loop.
    loop_hash: u64,
    max_forwards: u32,
    pub(super) max_breadth: u32,
}

/// Checks a request (§16.3) and takes from it what was meant for us (§16.4).
///
/// # Errors
/// The response, without a To tag: 400, 420 (any Proxy-Require), 440, 482 or 483.
pub fn accept(request: Request, is_ours: Ours<'_>) -> Result<Accepted, Box<Response>> {
    let refuse = |status| Err(Box::new(Response::to(&request, status)));
    let Ok(facts) = Facts::of(&request) else { return refuse(StatusCode::BAD_REQUEST) };
    if facts.max_forwards == 0 {
        return refuse(StatusCode::TOO_MANY_HOPS);
    }
    if facts.max_breadth == 0 {
        return refuse(StatusCode::MAX_BREADTH_EXCEEDED);
    }
    let loop_hash = loop_hash(&request);
    if facts.vias.iter().any(|via| is_ours(&via.host, via.port) && is_loop(via, loop_hash)) {
        return refuse(StatusCode::LOOP_DETECTED);
    }
    if request.headers.has(Name::ProxyRequire) {
        let mut response = Response::to(&request, StatusCode::BAD_EXTENSION);
        let options: Vec<&str> = request.headers.tokens(Name::ProxyRequire).collect();
        response.headers.push(Name::Unsupported, options.join(", "));
        return Err(Box::new(response));
    }
    let Facts { max_forwards, max_breadth, routes, .. } = facts;
    let mut accepted = Accepted { request, route: None, loop_hash, max_forwards, max_breadth };
    accepted.take_ours(routes, is_ours);
    Ok(accepted)
}

/// The headers that decide, parsed.
struct Facts {
    vias: Vec<Via>,
    routes: Vec<NameAddr>,
    max_forwards: u32,
    max_breadth: u32,
}

impl Facts {
    fn of(request: &Request) -> Result<Self, HeaderError> {
        let headers = &request.headers;
        Ok(Self {
            vias: headers.list(Name::Via)?,
            routes: headers.list(Name::Route)?,
            max_forwards: headers.number(Name::MaxForwards)?.unwrap_or(MAX_FORWARDS + 1),
            max_breadth: headers.number(Name::MaxBreadth)?.unwrap_or(MAX_BREADTH),
        })
    }
}

/// Hashes what decides where a request goes. A loop brings the same values back, a spiral others (RFC 5393 §4.2).
fn loop_hash(request: &Request) -> u64 {
    let mut hasher = DefaultHasher::new();
    request.uri.as_str().hash(&mut hasher);
    for name in [Name::CallId, Name::From, Name::Route, Name::ProxyRequire] {
        for value in request.headers.all(name) {
            value.hash(&mut hasher);
        }
    }
    request.to_tag().hash(&mut hasher);
    // The number without the method, so that a CANCEL has the branch of its request.
    let cseq = request.headers.get(Name::CSeq).unwrap_or_default();
    cseq.split(|byte| !byte.is_ascii_digit()).next().hash(&mut hasher);
    hasher.finish()
}

fn is_loop(via: &Via, hash: u64) -> bool {
    let theirs = via.branch().and_then(|branch| branch.rsplit_once('.')).map(|(_, hash)| hash);
    theirs.and_then(|hash| u64::from_str_radix(hash, 16).ok()) == Some(hash)
}

impl Accepted {
    /// Undoes what a strict router did and takes our URI from the top of Route (§16.4).
    fn take_ours(&mut self, routes: Vec<NameAddr>, is_ours: Ours<'_>) {
        let is_our_uri = |uri: &Uri| uri.host().is_some_and(|host| is_ours(host, uri.port()));
        let mut routes = routes.into_iter();
        // A strict router put our Record-Route into the Request-URI, and the real one at the end of Route.
        if self.request.uri.is_loose_router()
            && is_our_uri(&self.request.uri)
            && let Some(last) = routes.next_back()
        {
            self.route = Some(std::mem::replace(&mut self.request.uri, last.uri));
            self.set_routes(routes.clone());
        }
        if routes.as_slice().first().is_some_and(|first| is_our_uri(&first.uri)) {
            self.route = routes.next().map(|first| first.uri);
            self.request.headers.pop_first(Name::Route);
        }
    }

    fn set_routes(&mut self, routes: impl Iterator<Item = NameAddr>) {
        self.request.headers.remove(Name::Route);
        for route in routes {
            self.request.headers.push(Name::Route, route.to_string());
        }
    }

    /// Prepares a copy for one target (§16.6 items 1 to 7).
    pub(super) fn forward(&self, branch: usize, target: &Target, options: &Options, breadth: u32) -> Forward {
        let mut request = self.request.clone();
        request.uri = target.uri.clone();
        request.headers.set(Name::MaxForwards, (self.max_forwards - 1).to_string());
        request.headers.set(Name::MaxBreadth, breadth.to_string());
        remove_credentials(&mut request.headers, Name::ProxyAuthorization, &options.realm);
        for uri in &options.record_route {
            request.headers.push_front(Name::RecordRoute, NameAddr::new(uri.clone()).to_string());
        }
        if !target.route.is_empty() {
            request.headers.push_front(Name::Route, &*target.route);
        }
        let next_hop = next_hop(&mut request);
        let reach = if next_hop.is_some() { Reach::Route } else { target.reach.clone() };
        let next_hop = next_hop.unwrap_or_else(|| request.uri.clone());
        Forward { branch, request, loop_hash: self.loop_hash, next_hop, reach }
    }
}

/// Returns the URI of the first Route; if that is a strict router, the request is written for it first (§16.6 item 6).
fn next_hop(request: &mut Request) -> Option<Uri> {
    let first: NameAddr = request.headers.first(Name::Route).ok()?;
    if first.uri.is_loose_router() {
        return Some(first.uri);
    }
    request.headers.pop_first(Name::Route);
    let last = std::mem::replace(&mut request.uri, first.uri.clone());
    request.headers.push(Name::Route, NameAddr::new(last).to_string());
    Some(first.uri)
}

/// Prepares the ACK for a 2xx, which is forwarded without state (§16.11).
#[must_use]
pub fn forward_ack(ack: &Accepted, target: &Target, options: &Options) -> Forward {
    // What is in the dialog stays on its route: an ACK adds no Record-Route (§16.6 item 4).
    let options = Options { record_route: Vec::new(), ..options.clone() };
    ack.forward(0, target, &options, ack.max_breadth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, parse};

    fn read(uri: &str, rows: &[&str]) -> Request {
        let rows: String = rows.iter().map(|row| format!("{row}\r\n")).collect();
        let text = format!(
            "MESSAGE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP a.net;branch=z9hG4bKa\r\nFrom: <sip:a@a.net>;tag=1\r\nTo: <sip:b@p.net>\r\n\
             Call-ID: c\r\nCSeq: 7 MESSAGE\r\n{rows}\r\n"
        );
        match parse::parse(text.into_bytes().into()) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn is_ours(host: &Host, port: Option<u16>) -> bool {
        host.to_string() == "p.net" && port.is_none_or(|port| port == 5060)
    }

    fn accepted(uri: &str, rows: &[&str]) -> Accepted {
        accept(read(uri, rows), &is_ours).unwrap()
    }

    fn refused(rows: &[&str]) -> u16 {
        accept(read("sip:b@p.net", rows), &is_ours).unwrap_err().status.code()
    }

    fn values(request: &Request, name: Name) -> Vec<String> {
        request.headers.all(name).map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }

    fn target(uri: &str) -> Target {
        Target::new(Uri::parse(&uri.into()).unwrap())
    }

    fn options() -> Options {
        Options { unique: "u1".into(), realm: "r".into(), record_route: Vec::new() }
    }

    #[test]
    fn hops_are_counted() {
        assert_eq!(refused(&["Max-Forwards: 0"]), 483);
        assert_eq!(refused(&["Max-Breadth: x"]), 400);
        assert_eq!(refused(&["Max-Breadth: 0"]), 440);
        let sent = |rows: &[&str]| accepted("sip:b@p.net", rows).forward(0, &target("sip:b@h"), &options(), 9).request;
        assert_eq!(values(&sent(&["Max-Forwards: 1"]), Name::MaxForwards), ["0"]);
        assert_eq!(values(&sent(&[]), Name::MaxForwards), ["70"]);
        assert_eq!(values(&sent(&["Max-Breadth: 20"]), Name::MaxBreadth), ["9"]);
    }

    #[test]
    fn an_extension_for_proxies_is_refused_by_name() {
        let response = accept(read("sip:b@p.net", &["Proxy-Require: a", "Proxy-Require: b"]), &is_ours).unwrap_err();
        assert_eq!((response.status, response.headers.get(Name::Unsupported)), (StatusCode::BAD_EXTENSION, Some(b"a, b".as_slice())));
    }

    #[test]
    fn a_loop_is_seen_and_a_spiral_is_none() {
        let first = accepted("sip:b@p.net", &["Proxy-Authorization: Digest realm=\"r\""]).forward(0, &target("sip:b@p.net"), &options(), 1);
        let via = format!("Via: SIP/2.0/UDP p.net;branch=z9hG4bK1.{:016x}", first.loop_hash);
        let foreign = via.replace("p.net", "q.net");
        assert_eq!(refused(&[&via]), 482);
        assert_eq!(refused(&["Via: SIP/2.0/UDP q.net;branch=z9hG4bKx", &via]), 482);
        accepted("sip:c@p.net", &[&via]);
        accepted("sip:b@p.net", &[&foreign]);
        accepted("sip:b@p.net", &["Route: <sip:x;lr>", &via]);
        for branch in [";branch=z9hG4bKx", ";branch=z9hG4bK.", ";branch=z9hG4bK.zz", ""] {
            accepted("sip:b@p.net", &[&format!("Via: SIP/2.0/UDP p.net{branch}")]);
        }
    }

    #[test]
    fn malformed_routing_headers_are_refused() {
        assert_eq!(refused(&["Route: <sip:x"]), 400);
        let vias: Vec<_> = (0..64).map(|n| format!("Via: SIP/2.0/UDP h{n};branch=z9hG4bK{n}")).collect();
        assert_eq!(refused(&vias.iter().map(String::as_str).collect::<Vec<_>>()), 400); // S8
    }

    #[test]
    fn our_own_route_is_taken_off() {
        let got = accepted("sip:b@h", &["Route: <sip:token@p.net;lr>, <sip:q.net;lr>"]);
        assert_eq!(got.route.as_ref().map(Uri::user), Some("token"));
        assert_eq!(values(&got.request, Name::Route), ["<sip:q.net;lr>"]);
        let got = accepted("sip:b@h", &["Route: <sip:q.net;lr>,<sip:p.net;lr>"]);
        assert_eq!((got.route, values(&got.request, Name::Route).len()), (None, 1));
    }

    #[test]
    fn what_a_strict_router_did_is_undone() {
        // §16.12.1.2
        let got = accepted("sip:token@p.net;lr", &["Route: <sip:q.net;lr>, <sip:b@h>"]);
        assert_eq!((got.request.uri.as_str(), got.route.as_ref().map(Uri::user)), ("sip:b@h", Some("token")));
        assert_eq!(values(&got.request, Name::Route), ["<sip:q.net;lr>"]);
        let got = accepted("sip:p.net;lr", &["Route: <sip:p.net;lr>, <sip:b@h>"]);
        assert_eq!((got.request.uri.as_str(), values(&got.request, Name::Route).len()), ("sip:b@h", 0));
        let got = accepted("sip:p.net;lr", &[]);
        assert_eq!(got.request.uri.as_str(), "sip:p.net;lr");
    }

    #[test]
    fn the_next_hop_is_the_route_or_the_target() {
        let flow = Reach::Flow(crate::registrar::Received {
            transport: crate::transport::Transport::Tcp,
            local: "192.0.2.1:5060".parse().unwrap(),
            remote: "192.0.2.2:5060".parse().unwrap(),
        });
        let plain = accepted("sip:b@p.net", &[]);
        let sent = plain.forward(3, &Target { reach: flow.clone(), ..target("sip:b@h") }, &options(), 1);
        assert_eq!((sent.next_hop.as_str(), sent.reach, sent.branch), ("sip:b@h", flow, 3));
        let path = Target { route: "<sip:e1;lr>, <sip:e2;lr>".into(), ..target("sip:b@h") };
        let sent = plain.forward(0, &path, &options(), 1);
        assert_eq!((sent.next_hop.as_str(), sent.reach), ("sip:e1;lr", Reach::Route));
        assert_eq!(values(&sent.request, Name::Route), ["<sip:e1;lr>, <sip:e2;lr>"]);
    }

    #[test]
    fn a_strict_router_gets_the_request_it_expects() {
        // §16.12.1.2
        let sent = accepted("sip:b@h", &["Route: <sip:strict.net>", "Route: <sip:q.net;lr>"]).forward(0, &target("sip:b@h"), &options(), 1);
        assert_eq!((sent.request.uri.as_str(), sent.next_hop.as_str()), ("sip:strict.net", "sip:strict.net"));
        assert_eq!(values(&sent.request, Name::Route), ["<sip:q.net;lr>", "<sip:b@h>"]);
    }

    #[test]
    fn we_stay_in_the_path_when_asked_and_keep_our_credentials() {
        let rows = ["Record-Route: <sip:q.net;lr>", "Proxy-Authorization: Digest realm=\"r\"", "Proxy-Authorization: Digest realm=\"s\""];
        let uris = ["sip:p.net;lr", "sip:p.net;transport=tcp;lr"].map(|uri| Uri::parse(&uri.into()).unwrap());
        let options = Options { record_route: uris.into(), ..options() };
        let sent = accepted("sip:b@p.net", &rows).forward(0, &target("sip:b@h"), &options, 1).request;
        assert_eq!(values(&sent, Name::RecordRoute), ["<sip:p.net;transport=tcp;lr>", "<sip:p.net;lr>", "<sip:q.net;lr>"]);
        assert_eq!(values(&sent, Name::ProxyAuthorization), ["Digest realm=\"s\""]); // S12
    }
}
