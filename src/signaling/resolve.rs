//! What waits for the address of a next hop (RFC 3263): calls, forwarded requests, ACKs. Literal addresses wait for nothing.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use futures_util::future::join_all;
use sip::locate::{Dns as Lookups, Permit, Policy, RecordKind, Target as Located};
use sip::proxy::Forward;
use sip::{Hop, Transport, Uri};
use tracing::{info, warn};

use super::Signaling;
use super::command::{Planned, Prepared};
use crate::call::party::PartyId;
use crate::call::transfer::Referral;
use crate::call::{Id, Plan, Target};
use crate::net::dns::Dns;

/// Most jobs that wait for a look-up; for a further one, names lead nowhere.
const MAX_RESOLVING: usize = 4096;

/// How to get somewhere.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// By this hop.
    Hop(Hop),
    /// To wherever this URI leads.
    Locate(Uri),
    /// Nothing leads there any more.
    None,
}

/// What goes on once its ways are known.
pub(super) enum Job {
    /// A call whose devices are to ring: the dialog is taken.
    Call(Box<Plan>),
    /// A party of a call that is sent to these devices.
    Transfer { call: Id, party: PartyId, referral: Box<Referral> },
    /// Devices of a user who is called back into a call.
    Recall { call: Id, targets: Vec<Target> },
    /// An order to a call, which brings devices into it.
    Order(Box<Prepared>),
    /// A call that a client application wants.
    Make(Box<Planned>),
    /// A branch of a forwarded request.
    Forward(u64, Box<Forward>),
    /// An ACK that is passed on.
    Ack(Box<Forward>),
}

/// A job with the hops of its ways, in the order to try them.
pub(super) type Resolved = (Job, Vec<Vec<Hop>>);
pub(super) type Resolving = Pin<Box<dyn Future<Output = Resolved> + Send>>;

impl Signaling {
    /// Goes on with a job that has one way, at once if that needs no look-up.
    pub(super) fn resolve(&mut self, way: Way, job: Job) {
        self.resolve_all(vec![way], job);
    }

    pub(super) fn resolve_all(&mut self, ways: Vec<Way>, job: Job) {
        let known: Option<Vec<Vec<Hop>>> = ways.iter().map(literal).collect();
        if let Some(hops) = known {
            return self.handle_resolved((job, hops));
        }
        if self.resolving.len() >= MAX_RESOLVING {
            warn!("there are too many look-ups: no further name is looked up");
            let hops = ways.iter().map(|way| literal(way).unwrap_or_default()).collect();
            return self.handle_resolved((job, hops));
        }
        let (dns, policy) = (self.dns.clone(), self.locate_policy());
        let random = self.random.number();
        self.resolving.push(Box::pin(async move {
            // all at once: a name that nobody knows keeps the others waiting once, not once each
            let searches = ways.iter().map(async |way| match literal(way) {
                Some(hops) => hops,
                None => look_up(&dns, way, &policy, random).await,
            });
            let hops = join_all(searches).await;
            (job, hops)
        }));
    }

    /// Goes on with a job whose ways are known.
    pub(super) fn handle_resolved(&mut self, (job, hops): Resolved) {
        let first = |hops: Vec<Vec<Hop>>| hops.into_iter().flatten().next();
        match job {
            Job::Call(plan) => self.start_call(*plan, hops),
            Job::Transfer { call, party, referral } => self.start_transfer(call, party, *referral, hops),
            Job::Recall { call, targets } => self.start_recall(call, targets, hops),
            Job::Make(planned) => self.start_made(*planned, hops),
            Job::Order(prepared) => self.carry_out_order(*prepared, hops),
            Job::Forward(id, forward) => self.send_forward(id, *forward, first(hops)),
            Job::Ack(forward) => {
                if let Some(hop) = first(hops) {
                    self.sip.forward(forward.request, hop);
                }
            }
        }
    }

    fn locate_policy(&self) -> Policy {
        let listeners = &self.sip.listeners().0;
        let has = |transport| listeners.iter().any(|(t, _)| *t == transport);
        let has_v4 = listeners.iter().any(|(_, address)| address.is_ipv4());
        let has_v6 = listeners.iter().any(|(_, address)| address.is_ipv6());
        Policy {
            dns: if self.looks_up { Lookups::On } else { Lookups::Off },
            permit: Permit::Any,
            transports: [Transport::Udp, Transport::Tcp, Transport::Tls].into_iter().filter(|t| has(*t)).collect(),
            families: [(has_v4, RecordKind::A), (has_v6, RecordKind::Aaaa)]
                .into_iter()
                .filter(|(has, _)| *has)
                .map(|(_, kind)| kind)
                .collect(),
        }
    }
}

/// Returns the hops of a way that needs no look-up.
fn literal(way: &Way) -> Option<Vec<Hop>> {
    match way {
        Way::Hop(hop) => Some(vec![hop.clone()]),
        Way::None => Some(Vec::new()),
        Way::Locate(uri) => {
            let ip = uri.host()?.ip().filter(|_| uri.param("maddr").is_none())?;
            let secure = uri.scheme() == sip::message::Scheme::Sips;
            let transport = match uri.transport() {
                Some(Transport::Tcp) if secure => Transport::Tls,
                Some(transport) => transport,
                None if secure => Transport::Tls,
                None => Transport::Udp,
            };
            let port = uri.port().unwrap_or_else(|| transport.default_port());
            Some(vec![Hop::Address { transport, remote: SocketAddr::new(ip, port), name: None }])
        }
    }
}

async fn look_up(dns: &Dns, way: &Way, policy: &Policy, random: u64) -> Vec<Hop> {
    let Way::Locate(uri) = way else { return Vec::new() };
    match dns.locate(uri, policy, random).await {
        Ok(targets) => targets.into_iter().map(hop).collect(),
        Err(error) => {
            info!(%error, "no way to a device");
            Vec::new()
        }
    }
}

fn hop(target: Located) -> Hop {
    Hop::Address { transport: target.transport, remote: target.address, name: Some(target.server_name.to_string().into()) }
}
