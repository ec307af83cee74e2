//! Requests outside a dialog: handed to `request/`, and what it decided carried out.

use media::sdp::transport::{Profile, Protection};
use sip::message::header::{NameAddr, Replaces};
use sip::message::{Headers, Name};
use sip::registrar::{Change, Reach, Target as Binding};
use sip::{Hop, Incoming, Method, Response, StatusCode, Transport};
use tracing::info;

use super::resolve::{Job, Way};
use super::{Registered, Signaling, Unwritten, source};
use crate::call::{Plan, Target};
use crate::config::Srtp;
use crate::pii::Pii;
use crate::request::{self, Context, Invitation, Outcome, Registration, Rejection};

impl Signaling {
    pub(super) fn handle_request(&mut self, incoming: Incoming) {
        if incoming.request.method == Method::Invite {
            let via = incoming.request.headers.get(Name::Via).unwrap_or_default();
            if !self.load.admits(self.now, via) {
                return self.refuse_overload(&incoming);
            }
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
            srtp: self.srtp,
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

    fn carry_out_request(&mut self, mut incoming: Incoming, outcome: Outcome) {
        match outcome {
            Outcome::Reply(mut response) => {
                response.set_to_tag(&self.random.token());
                self.sip.respond_statelessly(&incoming, &response);
            }
            Outcome::Register(registration) => self.register(&incoming, *registration),
            Outcome::Call(invitation) => self.call(incoming, *invitation),
            Outcome::Forward(targets, asserted) => {
                if let Some(asserted) = asserted {
                    assert_identity(&mut incoming.request.headers, &asserted);
                }
                self.forward(&incoming, targets);
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
        self.write(&batch, Unwritten::Registered(Registered { server, response, flow: incoming.flow, aor }));
    }

    fn call(&mut self, incoming: Incoming, invitation: Invitation) {
        if let Some(status) = self.replaced(&incoming.request.headers) {
            let server = self.sip.admit(self.now, &incoming);
            let response = self.sip.reply(&incoming.request, status);
            return self.sip.respond(self.now, server, &response);
        }
        let (signaling, flow) = (source(&incoming.flow), incoming.flow);
        let offer = incoming.request.body.clone();
        let Some(dialog) = self.sip.take(self.now, incoming) else { return };
        self.net.keep(&flow);
        let srtp = invitation.callee_srtp;
        let (ways, targets) = invitation.targets.iter().map(|binding| self.device(binding, srtp)).unzip();
        let plan = Plan {
            dialog,
            offer,
            signaling,
            protection: protection(invitation.caller_srtp),
            caller: invitation.caller,
            dialled: invitation.dialled,
            callee: invitation.callee.to_string(),
            from: invitation.from,
            to: invitation.to,
            headers: invitation.headers,
            targets,
        };
        self.resolve_all(ways, Job::Call(Box::new(plan)));
    }

    /// Refuses an INVITE that is to take the place of a dialog (RFC 3891): rather no call than a second one beside the first. The dialog is
    /// looked for, but calls cannot change hands yet, so Supported does not name the extension.
    fn replaced(&self, headers: &Headers) -> Option<StatusCode> {
        match headers.optional::<Replaces>(Name::Replaces) {
            Ok(None) => None,
            Ok(Some(replaces)) if self.sip.replaced(&replaces).is_some() => Some(StatusCode::NOT_IMPLEMENTED),
            Ok(Some(_)) => Some(StatusCode::NO_TRANSACTION),
            Err(_) => Some(StatusCode::BAD_REQUEST),
        }
    }

    /// Lets the devices ring whose next hops are known; what cannot be reached is left out.
    pub(super) fn start_call(&mut self, mut plan: Plan, hops: Vec<Vec<Hop>>) {
        for (target, hops) in plan.targets.iter_mut().zip(hops) {
            target.hops = hops;
        }
        plan.targets.retain(|target| !target.hops.is_empty());
        let (calls, mut switch) = self.calls();
        calls.start(&mut switch, plan);
    }

    /// Finds the way to a device.
    fn device(&self, binding: &Binding, srtp: Srtp) -> (Way, Target) {
        let routes = routes(&binding.route);
        let way = match &binding.reach {
            Reach::Flow(received) => match self.locations.flow(received) {
                Some(flow) => Way::Hop(Hop::Flow(flow)),
                // After a restart a phone's own listener may still be reached; a browser has none.
                None if !received.transport.is_websocket() => Way::Locate(binding.uri.clone()),
                None => Way::None,
            },
            Reach::Route => routes.first().map_or(Way::None, |route| Way::Locate(route.uri.clone())),
            Reach::Contact => Way::Locate(binding.uri.clone()),
        };
        let profiles = profiles(binding, srtp).to_vec();
        (way, Target { uri: binding.uri.clone(), routes, hops: Vec::new(), protection: protection(srtp), profiles })
    }
}

fn protection(srtp: Srtp) -> Protection {
    match srtp {
        Srtp::Off => Protection::Off,
        Srtp::Prefer => Protection::Prefer,
        Srtp::Require => Protection::Require,
    }
}

/// The ways to carry a device's media, in the order to offer them. A device that came by WebSocket is a browser. To a phone keys are
/// offered beside plain RTP only where the signaling that carries them is encrypted; one that insists on them refuses the first offer.
fn profiles(binding: &Binding, srtp: Srtp) -> &'static [Profile] {
    let transport = binding.transport();
    match srtp {
        _ if transport.is_some_and(Transport::is_websocket) => &[Profile::WebRtc],
        Srtp::Off => &[Profile::Plain],
        Srtp::Prefer if transport == Some(Transport::Tls) => &[Profile::Opportunistic, Profile::Sdes, Profile::Dtls],
        Srtp::Prefer => &[Profile::Plain, Profile::Sdes, Profile::Dtls],
        Srtp::Require => &[Profile::Sdes, Profile::Dtls],
    }
}

/// Puts our word in the place of what a user says of itself (S6).
fn assert_identity(headers: &mut Headers, identity: &NameAddr) {
    for name in [Name::PPreferredIdentity, Name::RemotePartyId, Name::Diversion, Name::HistoryInfo] {
        headers.remove(name);
    }
    headers.set(Name::PAssertedIdentity, identity.to_string());
}

fn routes(header: &str) -> Vec<NameAddr> {
    let mut headers = Headers::default();
    if !header.is_empty() {
        headers.push(Name::Route, header);
    }
    headers.list(Name::Route).unwrap_or_default()
}
