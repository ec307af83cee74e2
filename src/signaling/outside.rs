//! Requests outside a dialog: handed to `request/`, and what it decided carried out.

use media::sdp::transport::{Profile, Protection};
use sip::message::header::NameAddr;
use sip::message::{Headers, Name};
use sip::registrar::{self, Binding, Change, Reach, Received, Target as Reachable};
use sip::{Aor, Hop, Incoming, Method, Response, StatusCode, Transport, Uri, Within};
use tracing::info;

use super::resolve::{Job, Way};
use super::{Registered, Signaling, Unwritten, source};
use crate::call::party::{Person, Who};
use crate::call::{Plan, Target};
use crate::config::Srtp;
use crate::device;
use crate::pii::Pii;
use crate::request::identity;
use crate::request::{self, Context, Invitation, Outcome, Registration, Rejection, Sender};
use crate::retry::Retry;
use crate::route::Route;

impl Signaling {
    pub(super) fn handle_request(&mut self, incoming: Incoming) {
        if incoming.request.method == Method::Invite {
            // what takes the place of a dialog that there is, is no new call (RFC 3891)
            if self.draining.is_some() && incoming.request.headers.get(Name::Replaces).is_none() {
                return self.refuse_overload(&incoming);
            }
            let via = incoming.request.headers.get(Name::Via).unwrap_or_default();
            if !self.load.admits(self.now, via) {
                return self.refuse_overload(&incoming);
            }
        }
        match self.judge(&incoming, |context| request::handle(context, &incoming)) {
            Ok(outcome) => self.carry_out_request(incoming, outcome),
            Err((rejection, response)) => self.refuse(&incoming, rejection, &response),
        }
    }

    /// A request in a dialog of ours that came by another way than its peer's.
    pub(super) fn handle_elsewhere(&mut self, within: Within, incoming: Incoming) {
        let owner = match within {
            Within::Dialog(dialog) => self.calls.owner(dialog).map(|(_, _, person, _)| match &person.who {
                Who::User(name) => Sender::User(name.to_string()),
                Who::Outside { trunk, .. } => Sender::Trunk(trunk.to_string()),
            }),
            Within::Subscription(subscription) => self.watchers.watcher(subscription).map(|name| Sender::User(name.to_owned())),
        };
        match self.judge(&incoming, |context| request::within::check(context, &incoming, owner.as_ref())) {
            Ok(()) => self.sip.receive_within(self.now, incoming),
            Err(_) if incoming.request.method == Method::Ack => {}
            Err((rejection, response)) => self.refuse(&incoming, rejection, &response),
        }
    }

    /// Decides about a request; a refused one has its response.
    fn judge<R>(
        &mut self,
        incoming: &Incoming,
        decide: impl FnOnce(&mut Context<'_>) -> Result<R, Rejection>,
    ) -> Result<R, (Rejection, Box<Response>)> {
        let mut context = Context {
            now: self.now,
            unix: self.unix(),
            route: Route { domain: &self.domain, listeners: self.sip.listeners(), users: &self.users },
            trunks: &self.trunks,
            replaced: self.sip.replaced(&incoming.request),
            target_dialog: self.sip.target_dialog(&incoming.request),
            locations: &self.locations,
            inside: self.thin.device(&incoming.flow).map(|device| &*device.user),
            challenger: &mut self.challenger,
            registrar: &self.registrar,
            media: self.media_path,
            srtp: self.srtp,
        };
        decide(&mut context).map_err(|rejection| {
            let response = request::response(&mut context, incoming, rejection, &mut self.random);
            if !matches!(rejection, Rejection::Challenge(..)) {
                info!(method = %incoming.request.method, source = %incoming.flow.remote, status = %response.status, reason = %rejection, "refused");
            }
            (rejection, Box::new(response))
        })
    }

    /// Strangers are answered without a transaction (S11). Who is known gets one, so that an INVITE's ACK finds its end.
    fn refuse(&mut self, incoming: &Incoming, rejection: Rejection, response: &Response) {
        match rejection {
            Rejection::UnknownUser | Rejection::NotRegistered | Rejection::Dialog(_) | Rejection::Privacy
                if incoming.request.method == Method::Invite =>
            {
                let server = self.sip.admit(self.now, incoming);
                self.sip.respond(self.now, server, response);
            }
            Rejection::Challenge(..)
            | Rejection::Malformed(_)
            | Rejection::Forbidden(_)
            | Rejection::UnknownUser
            | Rejection::NotRegistered
            | Rejection::Dialog(_)
            | Rejection::TooManyHops
            | Rejection::Privacy
            | Rejection::UnsupportedScheme
            | Rejection::NotAllowed
            | Rejection::NotImplemented
            | Rejection::BadEvent
            | Rejection::NotAcceptable(_)
            | Rejection::UnsupportedMedia(_) => self.sip.respond_statelessly(incoming, response),
        }
    }

    fn refuse_overload(&mut self, incoming: &Incoming) {
        self.metrics.refused.increment(1);
        let mut response = self.sip.reply(&incoming.request, StatusCode::SERVICE_UNAVAILABLE);
        Retry::Soon.push(&mut response.headers, &mut self.random);
        self.sip.respond_statelessly(incoming, &response);
    }

    fn carry_out_request(&mut self, mut incoming: Incoming, outcome: Outcome) {
        match outcome {
            Outcome::Reply(mut response) => {
                response.set_to_tag(&self.random.token());
                self.sip.respond_statelessly(&incoming, &response);
            }
            Outcome::Register(registration) => self.register(&incoming, *registration),
            Outcome::Subscribe(watch) => self.watch(&incoming, watch),
            Outcome::Publish(publication) => self.publish(&incoming, *publication),
            Outcome::Nobody { user, dialled } => {
                info!(source = %incoming.flow.remote, "nobody is reached by what was dialled");
                let server = self.sip.admit(self.now, &incoming);
                let response = self.sip.reply(&incoming.request, StatusCode::NOT_FOUND);
                self.sip.respond(self.now, server, &response);
                self.note_unknown(&user, &dialled);
            }
            Outcome::Call(invitation) => self.call(incoming, *invitation),
            Outcome::Enter(entry) => self.enter(incoming, *entry),
            Outcome::Visit(visit) => self.visit(incoming, *visit),
            Outcome::Refer { user, session } => self.take_refer(incoming, &user, session),
            Outcome::Forward(targets, shown) => {
                identity::cleanse(&mut incoming.request, &shown);
                self.forward(&incoming, targets, &shown);
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
        let (batch, former) = self.locations.replace(&aor, &registered.bindings);
        self.write(&batch, Unwritten::Registered(Box::new(Registered { server, response, flow: incoming.flow, aor, former })));
    }

    fn call(&mut self, incoming: Incoming, invitation: Invitation) {
        let (signaling, flow) = (source(&incoming.flow), incoming.flow);
        let offer = incoming.session();
        let device = self.calling_device(&invitation.sender, &incoming);
        let Some(dialog) = self.sip.take(self.now, incoming) else { return };
        self.net.keep(&flow);
        let (srtp, callee) = (invitation.callee_srtp, invitation.callee);
        let bindings = self.locations.of(&callee);
        let devices = invitation.targets.iter().map(|target| self.device(target, &bindings, srtp));
        // A user who calls their own devices rings all but the one that calls.
        let is_own = matches!(&invitation.sender, Sender::User(name) if **name == *callee.user());
        let itself = device.as_ref().filter(|_| is_own);
        let (ways, targets) = devices.filter(|(_, target)| itself.is_none() || target.device.as_ref() != itself).unzip();
        let plan = Plan {
            dialog,
            offer,
            signaling,
            protection: protection(invitation.caller_srtp),
            caller: Person { who: who(&invitation.sender, &invitation.caller), address: invitation.caller.into(), shown: invitation.from },
            device,
            dialled: invitation.dialled,
            callee: Person { who: Who::User(callee.user().into()), address: callee.as_str().into(), shown: invitation.to },
            headers: invitation.headers,
            expires: invitation.expires,
            targets,
        };
        self.resolve_all(ways, Job::Call(Box::new(plan)));
    }

    /// Lets the devices ring whose next hops are known; what cannot be reached is left out.
    pub(super) fn start_call(&mut self, mut plan: Plan, hops: Vec<Vec<Hop>>) {
        for (target, hops) in plan.targets.iter_mut().zip(hops) {
            target.hops = hops;
        }
        let is_gone = |person: &Person| person.who.user().is_some_and(|name| self.users.named(name).is_none());
        let is_between_users = !is_gone(&plan.caller) && !is_gone(&plan.callee);
        plan.targets.retain(|target| is_between_users && !target.hops.is_empty());
        let (calls, mut switch) = self.calls();
        calls.start(&mut switch, plan);
    }

    /// Finds out by which of its devices a user calls: the one that registered the contact, else one that registered from there.
    pub(super) fn calling_device(&self, sender: &Sender, incoming: &Incoming) -> Option<device::Id> {
        let Sender::User(name) = sender else { return None };
        if let Some(device) = self.thin.device(&incoming.flow) {
            return Some(device.id());
        }
        let mut bindings = self.locations.of(&Aor::new(name, &self.domain)?);
        bindings.retain(|binding| !binding.is_expired(self.unix()));
        let contact: Option<NameAddr> = incoming.request.headers.first(Name::Contact).ok();
        let said = |binding: &&Binding| contact.as_ref().is_some_and(|contact| is_same_place(&contact.uri, &binding.contact));
        let came = |binding: &&Binding| binding.received == Received::from(&incoming.flow);
        let found = bindings.iter().find(said).or_else(|| bindings.iter().find(came));
        found.map(device::Id::of)
    }

    /// Finds the way to a device, which is one of these bindings.
    pub(super) fn device(&self, target: &Reachable, bindings: &[Binding], srtp: Srtp) -> (Way, Target) {
        let routes = routes(&target.route);
        let way = match &target.reach {
            Reach::Flow(received) => match self.locations.flow(received) {
                Some(flow) => Way::Hop(Hop::Flow(flow)),
                // After a restart a phone's own listener may still be reached; a browser has none.
                None if !received.transport.is_websocket() => Way::Locate(target.uri.clone()),
                None => Way::None,
            },
            Reach::Route => routes.first().map_or(Way::None, |route| Way::Locate(route.uri.clone())),
            Reach::Contact => Way::Locate(target.uri.clone()),
        };
        let is_it = |binding: &&Binding| {
            registrar::targets(std::slice::from_ref(*binding), self.unix())
                .iter()
                .any(|it| it.uri == target.uri && it.reach == target.reach)
        };
        let device = bindings.iter().find(is_it).map(device::Id::of);
        let profiles = profiles(target, srtp).to_vec();
        (way, Target { device, uri: target.uri.clone(), routes, hops: Vec::new(), protection: protection(srtp), profiles })
    }
}

/// Returns who sent an INVITE; somebody behind a trunk is `number@trunk` in the record.
pub(super) fn who(sender: &Sender, caller: &str) -> Who {
    match sender {
        Sender::User(name) => Who::User(name.as_str().into()),
        Sender::Trunk(trunk) => {
            let number = caller.rsplit_once('@').map_or(caller, |(number, _)| number);
            Who::Outside { trunk: trunk.as_str().into(), number: number.into() }
        }
    }
}

/// Whether two contacts lead to the same place, whatever their parameters say.
pub(super) fn is_same_place(one: &Uri, other: &Uri) -> bool {
    one.user() == other.user() && one.host() == other.host() && one.port() == other.port()
}

pub(super) fn protection(srtp: Srtp) -> Protection {
    match srtp {
        Srtp::Off => Protection::Off,
        Srtp::Prefer => Protection::Prefer,
        Srtp::Require => Protection::Require,
    }
}

/// The ways to carry a device's media, in the order to offer them. A device that came by WebSocket is a browser. To a phone keys are
/// offered beside plain RTP only where the signaling that carries them is encrypted; one that insists on them refuses the first offer.
fn profiles(target: &Reachable, srtp: Srtp) -> &'static [Profile] {
    let transport = target.transport();
    match srtp {
        _ if transport.is_some_and(Transport::is_websocket) => &[Profile::WebRtc],
        Srtp::Off => &[Profile::Plain],
        Srtp::Prefer if transport == Some(Transport::Tls) => &[Profile::Opportunistic, Profile::Sdes, Profile::Dtls],
        Srtp::Prefer => &[Profile::Plain, Profile::Sdes, Profile::Dtls],
        Srtp::Require => &[Profile::Sdes, Profile::Dtls],
    }
}

fn routes(header: &str) -> Vec<NameAddr> {
    let mut headers = Headers::default();
    if !header.is_empty() {
        headers.push(Name::Route, header);
    }
    headers.list(Name::Route).unwrap_or_default()
}
