//! Requests that we forward as a proxy (RFC 3261 §16): MESSAGE, INFO and OPTIONS to a user's devices, calls whose media goes from device
//! to device, and what follows in their dialogs. The response context is `sip::proxy`'s; here it meets transactions, flows and time.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher as _;
use std::time::{Duration, Instant};

use sip::message::header::{NameAddr, Reason};
use sip::message::{Header as _, Headers, Host, Name};
use sip::proxy::{self, Forward, Input, Options, Output, Proxy};
use sip::registrar::{self, Reach, Target};
use sip::{ClientId, Hop, Incoming, Method, Response, ServerId, StatusCode, Uri};

use super::Signaling;
use super::resolve::{Job, Way};
use crate::request::identity::{self, Shown};
use crate::retry::Retry;

/// How long a forwarded INVITE is kept after its final response: each repeated 2xx goes back, too (§16.7 step 5).
const LINGER: Duration = Duration::from_secs(32);

/// All forwarded requests of the loop.
#[derive(Default)]
pub(super) struct Forwards {
    forwards: BTreeMap<u64, Forwarding>,
    by_client: HashMap<ClientId, (u64, usize)>,
    by_server: HashMap<ServerId, u64>,
    deadlines: BTreeSet<(Instant, u64)>,
    next: u64,
    /// Keys the mark that Record-Route carries, so that only dialogs that we let through come back through us (S5).
    hasher: RandomState,
}

struct Forwarding {
    proxy: Proxy,
    server: ServerId,
    clients: BTreeMap<usize, ClientId>,
    deadline: Option<Instant>,
    /// What the devices are not to see, and the sender is to have back.
    hidden: Option<Box<Headers>>,
    /// Set once all is over: when to forget it.
    forget: Option<Instant>,
}

impl Forwards {
    /// Most requests forwarded at a time; further ones are refused with 503.
    const MAX: usize = 50_000;

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    fn mark(&self, call_id: &str) -> String {
        format!("{:016x}", self.hasher.hash_one(call_id))
    }

    fn remove(&mut self, id: u64) {
        let Some(forwarding) = self.forwards.remove(&id) else { return };
        self.by_server.remove(&forwarding.server);
        for client in forwarding.clients.values() {
            self.by_client.remove(client);
        }
        if let Some(at) = forwarding.deadline {
            self.deadlines.remove(&(at, id));
        }
    }
}

impl Signaling {
    /// Forwards a request to targets; an INVITE with us in its route, so that its dialog comes back through us.
    pub(super) fn forward(&mut self, incoming: &Incoming, targets: Vec<Target>, shown: &Shown) {
        let options = self.options(incoming);
        let ours = self.ours();
        let accepted = match proxy::accept(incoming.request.clone(), &ours) {
            Ok(accepted) if self.forwards.forwards.len() < Forwards::MAX => accepted,
            Ok(_) => {
                let mut response = self.sip.reply(&incoming.request, StatusCode::SERVICE_UNAVAILABLE);
                Retry::Soon.push(&mut response.headers, &mut self.random);
                return self.sip.respond_statelessly(incoming, &response);
            }
            Err(mut response) => {
                response.set_to_tag(&self.random.token());
                return self.sip.respond_statelessly(incoming, &response);
            }
        };
        let server = self.sip.admit(self.now, incoming);
        self.forwards.next += 1;
        let id = self.forwards.next;
        let hidden = matches!(shown, Shown::Nobody).then(|| Box::new(identity::hidden(&accepted.request)));
        let proxy = Proxy::new(self.now, accepted, targets, options);
        self.forwards.by_server.insert(server, id);
        self.forwards.forwards.insert(id, Forwarding { proxy, server, clients: BTreeMap::new(), deadline: None, hidden, forget: None });
        self.drive(id);
    }

    /// A request, or an ACK, in a dialog whose route leads through us.
    pub(super) fn forward_within(&mut self, incoming: &Incoming) {
        let ours = self.ours();
        let call_id = incoming.request.headers.call_id().unwrap_or_default();
        let mark = self.forwards.mark(&call_id);
        let accepted = match proxy::accept(incoming.request.clone(), &ours) {
            Ok(accepted) if accepted.route.as_ref().is_some_and(|route| route.user() == mark) => accepted,
            Ok(_) if incoming.request.method == Method::Ack => return,
            Ok(_) => {
                let response = self.sip.reply(&incoming.request, StatusCode::NO_TRANSACTION);
                return self.sip.respond_statelessly(incoming, &response);
            }
            Err(_) if incoming.request.method == Method::Ack => return,
            Err(mut response) => {
                response.set_to_tag(&self.random.token());
                return self.sip.respond_statelessly(incoming, &response);
            }
        };
        let target = self.registered(&accepted.request).unwrap_or_else(|| Target::new(accepted.request.uri.clone()));
        if incoming.request.method == Method::Ack {
            let forward = proxy::forward_ack(&accepted, &target, &self.options(incoming));
            return self.resolve(self.way_to(&forward), Job::Ack(Box::new(forward)));
        }
        self.forward(incoming, vec![target], &Shown::AsItCame);
    }

    /// Returns the registered device that a request in a dialog is for: what its contact says alone leads to nobody behind a NAT or a WebSocket.
    fn registered(&self, request: &sip::Request) -> Option<Target> {
        let same = |target: &Target| {
            (target.uri.user(), target.uri.host(), target.uri.port()) == (request.uri.user(), request.uri.host(), request.uri.port())
        };
        [Name::To, Name::From].into_iter().find_map(|name| {
            let party: NameAddr = request.headers.typed(name).ok()?;
            let bindings = self.locations.of(&party.uri.aor()?);
            registrar::targets(&bindings, self.unix()).into_iter().find(same)
        })
    }

    fn options(&mut self, incoming: &Incoming) -> Options {
        let unique = self.random.token();
        let in_dialog = incoming.request.to_tag().is_some();
        let call_id = incoming.request.headers.call_id().unwrap_or_default();
        let route = (incoming.request.method == Method::Invite && !in_dialog).then(|| self.record_route(incoming, &call_id)).flatten();
        Options { record_route: route.into_iter().collect(), unique, realm: self.domain.as_str().into() }
    }

    fn record_route(&self, incoming: &Incoming, call_id: &str) -> Option<Uri> {
        let local = self.sip.listeners().towards(&Hop::Flow(incoming.flow))?;
        let transport = incoming.flow.transport;
        let params = if transport.is_reliable() { format!(";transport={};lr", transport.param()) } else { ";lr".to_owned() };
        Uri::sip(&self.forwards.mark(call_id), &Host::Ip(local.ip()), Some(local.port()), &params)
    }

    fn ours(&self) -> impl Fn(&Host, Option<u16>) -> bool + use<> {
        let listeners = self.sip.listeners().clone();
        move |host, port| {
            let Some(ip) = host.ip() else { return false };
            listeners.0.iter().any(|(transport, address)| address.ip() == ip && address.port() == port.unwrap_or(transport.default_port()))
        }
    }

    fn way_to(&self, forward: &Forward) -> Way {
        match &forward.reach {
            Reach::Flow(received) => self.locations.flow(received).map_or(Way::None, |flow| Way::Hop(Hop::Flow(flow))),
            Reach::Route | Reach::Contact => Way::Locate(forward.next_hop.clone()),
        }
    }

    /// Carries out what a response context wants.
    fn drive(&mut self, id: u64) {
        while let Some(output) = self.forwards.forwards.get_mut(&id).and_then(|forwarding| forwarding.proxy.poll_output()) {
            match output {
                Output::Forward(forward) => self.resolve(self.way_to(&forward), Job::Forward(id, forward)),
                Output::Respond(response) => {
                    if let Some(forwarding) = self.forwards.forwards.get(&id) {
                        self.sip.respond(self.now, forwarding.server, &response);
                    }
                }
                Output::Cancel(branch, reason) => {
                    let client = self.forwards.forwards.get(&id).and_then(|forwarding| forwarding.clients.get(&branch)).copied();
                    if let Some(client) = client {
                        self.sip.cancel_request(self.now, client, Reason::parse(&reason).as_ref());
                    }
                }
                Output::Done => {
                    if let Some(forwarding) = self.forwards.forwards.get_mut(&id) {
                        forwarding.forget = Some(self.now + LINGER);
                    }
                }
            }
        }
        self.schedule_forward(id);
    }

    fn schedule_forward(&mut self, id: u64) {
        let Some(forwarding) = self.forwards.forwards.get_mut(&id) else { return };
        let at = forwarding.forget.or_else(|| forwarding.proxy.poll_timeout());
        if at == forwarding.deadline {
            return;
        }
        if let Some(old) = forwarding.deadline.take() {
            self.forwards.deadlines.remove(&(old, id));
        }
        if let Some(at) = at {
            forwarding.deadline = Some(at);
            self.forwards.deadlines.insert((at, id));
        }
    }

    /// The next hop of a branch is known.
    pub(super) fn send_forward(&mut self, id: u64, mut forward: Forward, hop: Option<Hop>) {
        let Some(hop) = hop else { return self.forward_input(id, Input::TransportError(forward.branch)) };
        if self.forwards.forwards.get(&id).is_some_and(|forwarding| forwarding.hidden.is_some()) {
            identity::hide(&mut forward.request, &self.random.token());
        }
        let client = self.sip.forward_request(self.now, forward.request, hop, forward.loop_hash);
        if let Some(forwarding) = self.forwards.forwards.get_mut(&id) {
            forwarding.clients.insert(forward.branch, client);
            self.forwards.by_client.insert(client, (id, forward.branch));
        }
    }

    fn forward_input(&mut self, id: u64, input: Input) {
        if let Some(forwarding) = self.forwards.forwards.get_mut(&id) {
            forwarding.proxy.handle_input(self.now, input);
            self.drive(id);
        }
    }

    /// A response to a forwarded request, or one that the endpoint made (408, 503).
    pub(super) fn forward_response(&mut self, client: ClientId, mut response: Response) {
        let Some((id, branch)) = self.forwards.by_client.get(&client).copied() else { return };
        let input = match response.status {
            _ if response.headers.has(Name::Via) => {
                if let Some(hidden) = self.forwards.forwards.get(&id).and_then(|forwarding| forwarding.hidden.as_ref()) {
                    identity::restore(&mut response, hidden);
                }
                Input::Response(branch, Box::new(response))
            }
            StatusCode::REQUEST_TIMEOUT => Input::Timeout(branch),
            _ => Input::TransportError(branch),
        };
        self.forward_input(id, input);
    }

    /// The sender of a forwarded INVITE gave it up.
    pub(super) fn forward_cancel(&mut self, server: ServerId) {
        if let Some(id) = self.forwards.by_server.get(&server).copied() {
            self.forward_input(id, Input::Cancel(None));
        }
    }

    pub(super) fn handle_forward_timeouts(&mut self) {
        while let Some((at, id)) = self.forwards.deadlines.first().copied().filter(|(at, _)| *at <= self.now) {
            self.forwards.deadlines.remove(&(at, id));
            let Some(forwarding) = self.forwards.forwards.get_mut(&id) else { continue };
            forwarding.deadline = None;
            if forwarding.forget.is_some() {
                self.forwards.remove(id);
                continue;
            }
            forwarding.proxy.handle_timeout(self.now);
            self.drive(id);
        }
    }
}
