//! Requests outside a dialog: handed to `request/`, and what it decided carried out.

use std::net::SocketAddr;

use sip::message::header::NameAddr;
use sip::message::{Headers, Name};
use sip::registrar::{Change, Reach, Target as Binding};
use sip::{Hop, Incoming, Method, Response, StatusCode, Transport, Uri};
use tracing::info;

use super::{Signaling, Unwritten, source};
use crate::call::{Plan, Target};
use crate::pii::Pii;
use crate::request::{self, Context, Invitation, Outcome, Registration, Rejection};

impl Signaling {
    pub(super) fn handle_request(&mut self, incoming: Incoming) {
        if incoming.request.method == Method::Invite && self.load.is_over(self.now) {
            return self.refuse_overload(&incoming);
        }
        let mut context = Context {
            now: self.now,
            unix: self.unix(),
            domain: &self.domain,
            listeners: self.sip.listeners(),
            users: &self.users,
            trunks: &self.trunks,
            locations: &self.locations,
            challenger: &mut self.challenger,
            registrar: &self.registrar,
            media: self.media_path,
        };
        match request::handle(&mut context, &incoming) {
            Ok(outcome) => self.carry_out_request(incoming, outcome),
            Err(rejection) => {
                let response = request::response(&mut context, &incoming, rejection, &mut self.random);
                if !matches!(rejection, Rejection::Challenge(..)) {
                    info!(method = %incoming.request.method, source = %incoming.flow.remote, status = %response.status, reason = %rejection, "refused");
                }
                self.refuse(&incoming, rejection, &response);
            }
        }
    }

    /// Strangers are answered without a transaction (S11). Who is known gets one, so that an INVITE's ACK finds its end.
    fn refuse(&mut self, incoming: &Incoming, rejection: Rejection, response: &Response) {
        match rejection {
            Rejection::UnknownUser | Rejection::NotRegistered if incoming.request.method == Method::Invite => {
                let server = self.sip.admit(self.now, incoming);
                self.sip.respond(self.now, server, response);
            }
            Rejection::Challenge(..)
            | Rejection::Malformed(_)
            | Rejection::Forbidden(_)
            | Rejection::UnknownUser
            | Rejection::NotRegistered
            | Rejection::TooManyHops
            | Rejection::UnsupportedScheme
            | Rejection::NotAllowed
            | Rejection::NotImplemented
            | Rejection::BadEvent => self.sip.respond_statelessly(incoming, response),
        }
    }

    fn refuse_overload(&mut self, incoming: &Incoming) {
        let mut response = self.sip.reply(&incoming.request, StatusCode::SERVICE_UNAVAILABLE);
        response.headers.push(Name::RetryAfter, (1 + self.random.below(10)).to_string());
        self.sip.respond_statelessly(incoming, &response);
    }

    fn carry_out_request(&mut self, incoming: Incoming, outcome: Outcome) {
        match outcome {
            Outcome::Reply(mut response) => {
                response.set_to_tag(&self.random.token());
                self.sip.respond_statelessly(&incoming, &response);
            }
            Outcome::Register(registration) => self.register(&incoming, *registration),
            Outcome::Call(invitation) => self.call(incoming, *invitation),
            Outcome::Forward(_) => {
                let response = self.sip.reply(&incoming.request, StatusCode::NOT_IMPLEMENTED);
                self.sip.respond_statelessly(&incoming, &response);
            }
        }
    }

    fn register(&mut self, incoming: &Incoming, registration: Registration) {
        let Registration { aor, registered } = registration;
        let server = self.sip.admit(self.now, incoming);
        let mut response = registered.response(&incoming.request);
        response.set_to_tag(&self.random.token());
        match registered.change {
            Change::None => return self.sip.respond(self.now, server, &response),
            Change::Refreshed => {}
            Change::Altered { added, removed } => {
                info!(aor = %Pii(&aor), source = %incoming.flow.remote, transport = %incoming.flow.transport, added, removed, "registered");
            }
        }
        let batch = self.locations.replace(&aor, &registered.bindings);
        self.write(&batch, Unwritten { server, response, flow: incoming.flow });
    }

    fn call(&mut self, incoming: Incoming, invitation: Invitation) {
        let signaling = source(&incoming.flow);
        let offer = incoming.request.body.clone();
        let targets: Vec<Target> = invitation.targets.iter().filter_map(|binding| self.reach(binding)).collect();
        let Some(dialog) = self.sip.take(self.now, incoming) else { return };
        if targets.is_empty() {
            let _gone = self.sip.refuse(self.now, dialog, StatusCode::TEMPORARILY_UNAVAILABLE, &Headers::default());
            return;
        }
        let plan = Plan {
            dialog,
            offer,
            signaling,
            caller: invitation.caller,
            dialled: invitation.dialled,
            callee: invitation.callee.to_string(),
            from: invitation.from,
            to: invitation.to,
            headers: invitation.headers,
            targets,
        };
        let (calls, mut switch) = self.calls();
        calls.start(&mut switch, plan);
    }

    /// Finds the way to a binding; none where its connection is gone and nothing else leads there.
    fn reach(&self, binding: &Binding) -> Option<Target> {
        let routes = routes(&binding.route);
        let hop = match &binding.reach {
            Reach::Flow(received) => match self.locations.flow(received) {
                Some(flow) => Some(Hop::Flow(flow)),
                // After a restart a phone's own listener may still be reached (RFC 3261 §18.1.1); a browser's connection may not.
                None if !received.transport.is_websocket() => address(&binding.uri, Some(received.transport)),
                None => None,
            },
            Reach::Route => routes.first().and_then(|route| address(&route.uri, None)),
            Reach::Contact => address(&binding.uri, None),
        }?;
        Some(Target { uri: binding.uri.clone(), routes, hop })
    }
}

fn routes(header: &str) -> Vec<NameAddr> {
    let mut headers = Headers::default();
    if !header.is_empty() {
        headers.push(Name::Route, header);
    }
    headers.list(Name::Route).unwrap_or_default()
}

/// Returns where a URI with a literal address leads.
fn address(uri: &Uri, transport: Option<Transport>) -> Option<Hop> {
    let ip = uri.host()?.ip()?;
    let transport = uri.transport().or(transport).unwrap_or(Transport::Udp);
    let port = uri.port().unwrap_or_else(|| transport.default_port());
    Some(Hop::Address { transport, remote: SocketAddr::new(ip, port), name: None })
}
