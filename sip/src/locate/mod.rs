//! The next hop of a URI (RFC 3263, RFC 2782, RFC 7118 §5): a machine that asks for DNS records and ends with an ordered list of addresses.
//! It sends no query itself and tries no address: the caller asks, and goes down the list until one takes the request.

mod look_up;
mod order;
mod permit;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytestring::ByteString;

use crate::message::uri::Scheme;
use crate::message::{Host, Uri};
use crate::transport::Transport;
use look_up::LookUps;
pub(crate) use permit::is_host;

/// A kind of DNS record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordKind {
    /// NAPTR (RFC 3403).
    Naptr,
    /// SRV (RFC 2782).
    Srv,
    /// A.
    A,
    /// AAAA.
    Aaaa,
}

/// A look-up for the caller to make.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Question {
    /// The kind of record.
    pub kind: RecordKind,
    /// The domain name, in lower case, without a dot at the end.
    pub name: ByteString,
}

/// A record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// NAPTR (RFC 3403 §4.1).
    Naptr {
        /// First to be used: the lowest.
        order: u16,
        /// Among the same order: the lowest first.
        preference: u16,
        /// Such as `s`.
        flags: ByteString,
        /// Such as `SIP+D2U`.
        service: ByteString,
        /// The name to ask for next.
        replacement: ByteString,
    },
    /// SRV (RFC 2782).
    Srv {
        /// First to be used: the lowest.
        priority: u16,
        /// Share among the same priority.
        weight: u16,
        /// The port.
        port: u16,
        /// The host name; `.` for "no such service".
        target: ByteString,
    },
    /// An address of A or AAAA.
    Address(IpAddr),
    /// The name is another one's alias; for resolvers that do not follow it themselves.
    Cname(ByteString),
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Records; an empty list means there are none of that kind, or no such name.
    Records(Vec<Record>),
    /// No answer: time-out, refusal or a broken one.
    Failed,
}

/// Which targets may be used (S17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Any unicast address: for URIs that we or our users' bindings name.
    Any,
    /// No loopback, private, shared, link-local or otherwise special address: for URIs that strangers name.
    Public,
}

/// Whether names may be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dns {
    /// They may.
    On,
    /// Only literal addresses are reachable.
    Off,
}

/// How to look for a next hop.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Whether names may be looked up.
    pub dns: Dns,
    /// Which targets may be used.
    pub permit: Permit,
    /// The transports we can send on, the preferred one first.
    pub transports: Vec<Transport>,
    /// The kinds of address we can send to (A, AAAA), the preferred one first.
    pub families: Vec<RecordKind>,
}

/// An address to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The transport.
    pub transport: Transport,
    /// The address.
    pub address: SocketAddr,
    /// What the certificate of a secure transport must be for: the host of the URI, never a name that DNS led to (RFC 5922 §7).
    pub server_name: Host,
}

/// Why there is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocateError {
    /// The URI has no host, as `tel:`.
    #[error("the URI names no host")]
    NoHost,
    /// The URI names a transport that we do not have, or needs a secure one.
    #[error("no transport for this URI")]
    NoTransport,
    /// Names are not looked up here.
    #[error("{0} is a name, and look-ups are switched off (sip.dns)")]
    DnsOff(ByteString),
    /// DNS knows no address.
    #[error("{0} has no address")]
    NotFound(ByteString),
    /// DNS did not answer.
    #[error("no answer from DNS for {0}")]
    NoAnswer(ByteString),
    /// All addresses are of a kind that is not permitted.
    #[error("the addresses of {0} are not permitted")]
    Forbidden(ByteString),
}

/// What [`Locate`] takes.
#[derive(Clone, Debug)]
pub enum Input {
    /// The answer to a question that was asked.
    Answer(Question, Answer),
}

/// What [`Locate`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Look this up.
    Ask(Question),
    /// The end: addresses in the order to try them, at least one.
    Found(Vec<Target>),
    /// The end.
    Failed(LocateError),
}

/// Looks for the next hop of one URI: NAPTR gives the transport, SRV the hosts and ports, A and AAAA the addresses; each step is left out
/// where the URI says it already (RFC 3263 §4.1, §4.2).
#[derive(Debug)]
pub struct Locate {
    policy: Policy,
    /// The name that is looked up.
    domain: ByteString,
    server_name: Host,
    is_secure: bool,
    /// The transport without NAPTR and SRV.
    default: Transport,
    random: u64,
    state: State,
    look_ups: LookUps,
    /// When the step ends without the answers that are missing then.
    deadline: Option<Instant>,
    /// True once an answer was missing.
    has_failed: bool,
    outputs: VecDeque<Output>,
}

/// The steps of RFC 3263 §4.
#[derive(Debug)]
enum State {
    /// Asked for NAPTR of the domain.
    Naptr,
    /// Asked for SRV of these services, the preferred one first.
    Srv(Vec<(Transport, ByteString)>),
    /// Asked for the addresses of these hosts, the preferred one first.
    Address(Vec<Hop>),
    Done,
}

/// A host and port to find the addresses of.
#[derive(Clone, Debug)]
struct Hop {
    transport: Transport,
    host: Host,
    port: u16,
}

impl Locate {
    /// Most targets; further ones are left out.
    pub const MAX_TARGETS: usize = 16;
    /// Most services of NAPTR, and most hosts of SRV, that are looked at: the preferred ones.
    const MAX_HOPS: usize = 8;
    /// How long one step may take.
    const STEP: Duration = Duration::from_secs(2);

    /// Starts the search. `random` decides between SRV records of the same priority (RFC 2782).
    #[must_use]
    pub fn new(now: Instant, uri: &Uri, policy: &Policy, random: u64) -> Self {
        let mut locate = Self {
            policy: policy.clone(),
            domain: ByteString::new(),
            server_name: Host::Name(ByteString::new()),
            is_secure: uri.scheme() == Scheme::Sips,
            default: Transport::Udp,
            random,
            state: State::Done,
            look_ups: LookUps::default(),
            deadline: None,
            has_failed: false,
            outputs: VecDeque::new(),
        };
        if let Err(error) = locate.start(now, uri) {
            locate.finish(Output::Failed(error));
        }
        locate
    }

    fn start(&mut self, now: Instant, uri: &Uri) -> Result<(), LocateError> {
        let host = uri.host().ok_or(LocateError::NoHost)?;
        self.server_name = host.clone();
        // §4: the value of maddr is what is looked up, if there is one (RFC 3261 §19.1.1).
        let host = uri.param("maddr").and_then(Host::parse).unwrap_or_else(|| host.clone());
        let named = self.named_transport(uri)?;
        self.default = named.or_else(|| self.default_transport()).ok_or(LocateError::NoTransport)?;
        let name = match &host {
            Host::Ip(_) => {
                self.find_addresses(now, vec![self.hop(host, uri.port())]);
                return Ok(());
            }
            Host::Name(name) => normal(name),
        };
        self.domain = name.clone();
        if self.policy.dns == Dns::Off {
            return Err(LocateError::DnsOff(name));
        }
        match (uri.port(), named) {
            (Some(port), _) => self.find_addresses(now, vec![self.hop(host, Some(port))]),
            (None, Some(transport)) => self.find_services(now, service(transport, &self.domain).into_iter().collect()),
            (None, None) => {
                self.state = State::Naptr;
                self.ask(now, vec![Question { kind: RecordKind::Naptr, name }]);
            }
        }
        Ok(())
    }

    fn hop(&self, host: Host, port: Option<u16>) -> Hop {
        Hop { transport: self.default, host, port: port.unwrap_or(self.default.default_port()) }
    }

    /// Returns the transport that the URI names; with sips the secure form of it (RFC 3261 §26.2.2, RFC 7118 §5).
    fn named_transport(&self, uri: &Uri) -> Result<Option<Transport>, LocateError> {
        let Some(text) = uri.param("transport") else { return Ok(None) };
        let named = Transport::parse(text).ok_or(LocateError::NoTransport)?;
        let transport = match named {
            Transport::Udp if self.is_secure => return Err(LocateError::NoTransport),
            Transport::Tcp if self.is_secure => Transport::Tls,
            Transport::Ws if self.is_secure => Transport::Wss,
            Transport::Udp | Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => named,
        };
        if self.is_usable(transport) { Ok(Some(transport)) } else { Err(LocateError::NoTransport) }
    }

    /// Returns UDP, or TLS for sips, or else what we have.
    fn default_transport(&self) -> Option<Transport> {
        let preferred = if self.is_secure { Transport::Tls } else { Transport::Udp };
        let others = self.policy.transports.iter().copied().find(|transport| self.is_usable(*transport));
        Some(preferred).filter(|transport| self.is_usable(*transport)).or(others)
    }

    fn is_usable(&self, transport: Transport) -> bool {
        self.policy.transports.contains(&transport) && (transport.is_secure() || !self.is_secure)
    }

    /// Takes an answer; one that was not asked for changes nothing.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        let Input::Answer(question, answer) = input;
        self.has_failed |= self.look_ups.is_open(&question) && answer == Answer::Failed;
        for next in self.look_ups.answer(&question, answer) {
            self.outputs.push_back(Output::Ask(next));
        }
        self.advance(now);
    }

    /// Goes on without the answers that have not come in time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        self.has_failed = true;
        self.look_ups.give_up();
        self.advance(now);
    }

    /// Takes the next step once all answers of this one are there.
    fn advance(&mut self, now: Instant) {
        if !self.look_ups.is_complete() {
            return;
        }
        match std::mem::replace(&mut self.state, State::Done) {
            State::Naptr => {
                let services = self.naptr_services();
                self.find_services(now, services);
            }
            State::Srv(services) => match self.srv_hops(&services) {
                Ok(hops) => self.find_addresses(now, hops),
                Err(error) => self.finish(Output::Failed(error)),
            },
            State::Address(hops) => self.end(&hops),
            State::Done => {}
        }
    }

    /// Chooses the services of a NAPTR answer that we can use; without any, those of all transports we have (§4.1).
    fn naptr_services(&mut self) -> Vec<(Transport, ByteString)> {
        let mut found = Vec::new();
        for record in self.look_ups.take(&Question { kind: RecordKind::Naptr, name: self.domain.clone() }) {
            if let Record::Naptr { order, preference, flags, service, replacement } = record
                && flags.eq_ignore_ascii_case("s")
                && let Some(transport) = naptr_transport(&service).filter(|transport| self.is_usable(*transport))
            {
                found.push((order, preference, transport, normal(&replacement)));
            }
        }
        found.sort_by_key(|(order, preference, ..)| (*order, *preference));
        if found.is_empty() {
            let usable = self.policy.transports.iter().copied().filter(|transport| self.is_usable(*transport));
            return usable.filter_map(|transport| service(transport, &self.domain)).collect();
        }
        found.into_iter().take(Self::MAX_HOPS).map(|(_, _, transport, name)| (transport, name)).collect()
    }

    fn find_services(&mut self, now: Instant, services: Vec<(Transport, ByteString)>) {
        let questions = services.iter().map(|(_, name)| Question { kind: RecordKind::Srv, name: name.clone() }).collect();
        self.state = State::Srv(services);
        self.ask(now, questions);
    }

    /// Orders the hosts of the first service that has any; without any, the domain itself is the host (§4.2).
    fn srv_hops(&mut self, services: &[(Transport, ByteString)]) -> Result<Vec<Hop>, LocateError> {
        let mut is_refused = false;
        for (transport, name) in services {
            let records = self.look_ups.take(&Question { kind: RecordKind::Srv, name: name.clone() });
            let hosts: Vec<order::Srv> = records.into_iter().filter_map(order::Srv::of).collect();
            is_refused |= !hosts.is_empty();
            let ordered = order::by_priority_and_weight(hosts, &mut self.random);
            // RFC 2782: a target of "." says that there is no such service.
            let hops = ordered.into_iter().filter(|srv| !srv.target.is_empty() && srv.port > 0);
            let hops = hops.filter_map(|srv| Some(Hop { transport: *transport, host: Host::parse(&srv.target)?, port: srv.port }));
            let hops: Vec<Hop> = hops.take(Self::MAX_HOPS).collect();
            if !hops.is_empty() {
                return Ok(hops);
            }
        }
        if is_refused {
            return Err(LocateError::NotFound(self.domain.clone()));
        }
        let host = Host::parse(&self.domain).ok_or_else(|| LocateError::NotFound(self.domain.clone()))?;
        Ok(vec![self.hop(host, None)])
    }

    fn find_addresses(&mut self, now: Instant, hops: Vec<Hop>) {
        let mut questions = Vec::new();
        for hop in &hops {
            if let Host::Name(name) = &hop.host {
                questions.extend(self.policy.families.iter().map(|kind| Question { kind: *kind, name: normal(name) }));
            }
        }
        self.state = State::Address(hops);
        self.ask(now, questions);
    }

    /// Makes the list of targets.
    fn end(&mut self, hops: &[Hop]) {
        let mut targets: Vec<Target> = Vec::new();
        let mut is_forbidden = false;
        for hop in hops {
            for ip in self.addresses(&hop.host) {
                let ip = ip.to_canonical();
                let target =
                    Target { transport: hop.transport, address: SocketAddr::new(ip, hop.port), server_name: self.server_name.clone() };
                if !permit::allows(self.policy.permit, ip) {
                    is_forbidden = true;
                } else if targets.len() < Self::MAX_TARGETS && !targets.contains(&target) {
                    targets.push(target);
                }
            }
        }
        let name = ByteString::from(self.server_name.to_string());
        self.finish(match () {
            () if !targets.is_empty() => Output::Found(targets),
            () if is_forbidden => Output::Failed(LocateError::Forbidden(name)),
            () if self.has_failed => Output::Failed(LocateError::NoAnswer(name)),
            () => Output::Failed(LocateError::NotFound(name)),
        });
    }

    fn addresses(&self, host: &Host) -> Vec<IpAddr> {
        let name = match host {
            Host::Ip(ip) => return vec![*ip],
            Host::Name(name) => normal(name),
        };
        let answers = self.policy.families.iter().flat_map(|kind| self.look_ups.get(&Question { kind: *kind, name: name.clone() }));
        let address = |record: &Record| match record {
            Record::Address(ip) => Some(*ip),
            Record::Naptr { .. } | Record::Srv { .. } | Record::Cname(_) => None,
        };
        answers.filter_map(address).collect()
    }

    fn ask(&mut self, now: Instant, questions: Vec<Question>) {
        self.deadline = Some(now + Self::STEP);
        for question in questions {
            if let Some(question) = self.look_ups.ask(question) {
                self.outputs.push_back(Output::Ask(question));
            }
        }
        // Nothing to wait for: a literal address, or no look-up left.
        self.advance(now);
    }

    fn finish(&mut self, output: Output) {
        self.state = State::Done;
        self.deadline = None;
        self.look_ups = LookUps::default();
        self.outputs.push_back(output);
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when to call [`Locate::handle_timeout`]; none after the end.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }
}

/// A name in lower case, without the dot of the root.
fn normal(name: &str) -> ByteString {
    name.trim_end_matches('.').to_ascii_lowercase().into()
}

/// Returns the SRV name of a transport (§4.1); WebSocket has none of its own.
fn service(transport: Transport, domain: &str) -> Option<(Transport, ByteString)> {
    let prefix = match transport {
        Transport::Udp => "_sip._udp",
        Transport::Tcp => "_sip._tcp",
        Transport::Tls => "_sips._tcp",
        Transport::Ws | Transport::Wss => return None,
    };
    Some((transport, format!("{prefix}.{domain}").into()))
}

/// Reads the service of a NAPTR record (§4.1, RFC 7118 §5.2.4).
fn naptr_transport(service: &str) -> Option<Transport> {
    let known = [
        ("SIP+D2U", Transport::Udp),
        ("SIP+D2T", Transport::Tcp),
        ("SIPS+D2T", Transport::Tls),
        ("SIP+D2W", Transport::Ws),
        ("SIPS+D2W", Transport::Wss),
    ];
    known.into_iter().find(|(text, _)| text.eq_ignore_ascii_case(service)).map(|(_, transport)| transport)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::time::origin;

    /// A zone, and what was asked of it.
    #[derive(Default)]
    struct Zone {
        records: BTreeMap<Question, Answer>,
        asked: Vec<Question>,
    }

    fn question(kind: RecordKind, name: &str) -> Question {
        Question { kind, name: name.into() }
    }

    impl Zone {
        fn add(&mut self, kind: RecordKind, name: &str, record: Record) {
            let answer = self.records.entry(question(kind, name)).or_insert(Answer::Records(Vec::new()));
            let Answer::Records(records) = answer else { panic!("fails") };
            records.push(record);
        }

        fn address(&mut self, name: &str, ip: &str) {
            let ip: IpAddr = ip.parse().unwrap();
            self.add(if ip.is_ipv4() { RecordKind::A } else { RecordKind::Aaaa }, name, Record::Address(ip));
        }

        fn srv(&mut self, name: &str, priority: u16, target: &str, port: u16) {
            self.add(RecordKind::Srv, name, Record::Srv { priority, weight: 1, port, target: target.into() });
        }

        fn naptr(&mut self, name: &str, order: u16, service: &str, replacement: &str) {
            let record =
                Record::Naptr { order, preference: 50, flags: "s".into(), service: service.into(), replacement: replacement.into() };
            self.add(RecordKind::Naptr, name, record);
        }

        fn cname(&mut self, kind: RecordKind, name: &str, target: &str) {
            self.add(kind, name, Record::Cname(target.into()));
        }

        fn fail(&mut self, kind: RecordKind, name: &str) {
            self.records.insert(question(kind, name), Answer::Failed);
        }

        /// Runs a search to its end.
        fn find(&mut self, uri: &str, policy: &Policy) -> Result<Vec<String>, LocateError> {
            let now = origin();
            let mut locate = Locate::new(now, &Uri::parse(&uri.into()).unwrap(), policy, 1);
            loop {
                match locate.poll_output().expect("a search asks or ends") {
                    Output::Ask(question) => {
                        let answer = self.records.get(&question).cloned().unwrap_or(Answer::Records(Vec::new()));
                        self.asked.push(question.clone());
                        locate.handle_input(now, Input::Answer(question, answer));
                    }
                    Output::Found(targets) => {
                        assert_eq!((locate.poll_timeout(), locate.poll_output()), (None, None));
                        return Ok(targets.iter().map(|t| format!("{} {} {}", t.transport, t.address, t.server_name)).collect());
                    }
                    Output::Failed(error) => return Err(error),
                }
            }
        }
    }

    fn policy() -> Policy {
        Policy {
            dns: Dns::On,
            permit: Permit::Any,
            transports: vec![Transport::Udp, Transport::Tcp, Transport::Tls],
            families: vec![RecordKind::A, RecordKind::Aaaa],
        }
    }

    /// The zone of RFC 3263 §4.1 and §4.2.
    fn example() -> Zone {
        let mut zone = Zone::default();
        // Not in their order: DNS keeps none.
        zone.naptr("example.com", 100, "SIP+D2U", "_sip._udp.example.com.");
        zone.naptr("example.com", 90, "SIP+D2T", "_sip._tcp.example.com");
        zone.naptr("example.com", 50, "SIPS+D2T", "_sips._tcp.example.com.");
        zone.srv("_sip._tcp.example.com", 0, "server1.example.com", 5060);
        zone.srv("_sip._tcp.example.com", 1, "Server2.example.com.", 5070);
        zone.srv("_sips._tcp.example.com", 0, "server1.example.com", 5061);
        zone.address("server1.example.com", "192.0.2.1");
        zone.address("server1.example.com", "2001:db8::1");
        zone.address("server2.example.com", "192.0.2.2");
        zone.address("example.com", "192.0.2.99");
        zone
    }

    #[test]
    fn the_example_of_rfc_3263_section_4_1() {
        let only_tcp_and_udp = Policy { transports: vec![Transport::Udp, Transport::Tcp], ..policy() };
        let found = example().find("sip:user@Example.com", &only_tcp_and_udp).unwrap();
        let expected = ["TCP 192.0.2.1:5060 example.com", "TCP [2001:db8::1]:5060 example.com", "TCP 192.0.2.2:5070 example.com"];
        assert_eq!(found, expected);
        let found = example().find("sip:user@example.com", &policy()).unwrap();
        assert_eq!(found, ["TLS 192.0.2.1:5061 example.com", "TLS [2001:db8::1]:5061 example.com"]);
        assert_eq!(example().find("sips:user@example.com", &policy()).unwrap(), found);
    }

    #[test]
    fn what_the_uri_says_is_not_looked_up() {
        for (uri, expected) in [
            ("sip:192.0.2.5", "UDP 192.0.2.5:5060 192.0.2.5"),
            ("sip:192.0.2.5:5080;transport=tcp", "TCP 192.0.2.5:5080 192.0.2.5"),
            ("sips:[2001:db8::5]", "TLS [2001:db8::5]:5061 [2001:db8::5]"),
            ("sips:192.0.2.5;transport=tcp", "TLS 192.0.2.5:5061 192.0.2.5"),
            ("sip:name;maddr=192.0.2.7", "UDP 192.0.2.7:5060 name"),
        ] {
            let mut zone = Zone::default();
            assert_eq!(zone.find(uri, &Policy { dns: Dns::Off, ..policy() }).unwrap(), [expected], "{uri}");
            assert!(zone.asked.is_empty());
        }
        let mut zone = example();
        assert_eq!(zone.find("sip:example.com:5090", &policy()).unwrap(), ["UDP 192.0.2.99:5090 example.com"]);
        assert!(zone.asked.iter().all(|q| matches!(q.kind, RecordKind::A | RecordKind::Aaaa)));
        let mut zone = example();
        assert_eq!(zone.find("sip:example.com;transport=tcp", &policy()).unwrap().len(), 3);
        assert!(zone.asked.iter().all(|q| q.kind != RecordKind::Naptr));
    }

    #[test]
    fn without_naptr_the_services_are_asked_for_and_without_them_the_host() {
        let mut zone = Zone::default();
        zone.srv("_sip._tcp.x.org", 0, "h.x.org", 5062);
        zone.address("h.x.org", "192.0.2.3");
        assert_eq!(zone.find("sip:x.org", &policy()).unwrap(), ["TCP 192.0.2.3:5062 x.org"]);
        let mut zone = Zone::default();
        zone.address("x.org", "192.0.2.4");
        assert_eq!(zone.find("sip:x.org", &policy()).unwrap(), ["UDP 192.0.2.4:5060 x.org"]);
        assert_eq!(zone.find("sips:x.org", &policy()).unwrap(), ["TLS 192.0.2.4:5061 x.org"]);
        let web = Policy { transports: vec![Transport::Wss], ..policy() };
        assert_eq!(zone.find("sip:x.org;transport=wss", &web).unwrap(), ["WSS 192.0.2.4:443 x.org"]);
        assert_eq!(zone.find("sips:x.org;transport=ws", &web).unwrap(), ["WSS 192.0.2.4:443 x.org"]);
    }

    #[test]
    fn a_service_that_is_refused_is_not_replaced_by_the_host() {
        let mut zone = Zone::default();
        zone.srv("_sip._udp.x.org", 0, ".", 0);
        zone.address("x.org", "192.0.2.4");
        assert_eq!(zone.find("sip:x.org", &policy()), Err(LocateError::NotFound("x.org".into())));
    }

    #[test]
    fn what_cannot_be_reached_is_said_clearly() {
        let mut zone = Zone::default();
        let off = Policy { dns: Dns::Off, ..policy() };
        let error = zone.find("sip:x.org", &off).unwrap_err();
        assert_eq!(error.to_string(), "x.org is a name, and look-ups are switched off (sip.dns)");
        assert_eq!(zone.find("tel:+1", &policy()), Err(LocateError::NoHost));
        for uri in ["sip:x.org;transport=sctp", "sips:x.org;transport=udp", "sip:x.org;transport=ws"] {
            assert_eq!(zone.find(uri, &policy()), Err(LocateError::NoTransport), "{uri}");
        }
        let udp = Policy { transports: vec![Transport::Udp], ..policy() };
        assert_eq!(zone.find("sips:x.org", &udp), Err(LocateError::NoTransport));
        assert_eq!(zone.find("sip:x.org", &policy()), Err(LocateError::NotFound("x.org".into())));
        zone.fail(RecordKind::A, "x.org");
        assert_eq!(zone.find("sip:x.org", &policy()), Err(LocateError::NoAnswer("x.org".into())));
        zone.address("x.org", "2001:db8::1");
        assert_eq!(zone.find("sip:x.org", &policy()).unwrap().len(), 1, "one family is enough");
    }

    #[test]
    fn a_stranger_cannot_send_us_to_our_own_inside() {
        // S17
        let public = Policy { permit: Permit::Public, ..policy() };
        let mut zone = Zone::default();
        zone.address("evil.org", "127.0.0.1");
        zone.address("evil.org", "::ffff:10.0.0.1");
        assert_eq!(zone.find("sip:evil.org", &public), Err(LocateError::Forbidden("evil.org".into())));
        zone.address("evil.org", "192.0.2.1");
        assert_eq!(zone.find("sip:evil.org", &public).unwrap(), ["UDP 192.0.2.1:5060 evil.org"]);
        assert!(matches!(zone.find("sip:169.254.169.254", &public), Err(LocateError::Forbidden(_))));
        assert!(matches!(zone.find("sip:x;maddr=[::1]", &public), Err(LocateError::Forbidden(_))));
        assert_eq!(zone.find("sip:127.0.0.1", &policy()).unwrap().len(), 1);
    }

    #[test]
    fn aliases_are_followed_and_loops_are_cut() {
        // S17
        let mut zone = Zone::default();
        zone.cname(RecordKind::Srv, "_sip._udp.x.org", "_sip._udp.host.net");
        zone.srv("_sip._udp.host.net", 0, "a.x.org", 5060);
        zone.cname(RecordKind::A, "a.x.org", "b.x.org.");
        zone.cname(RecordKind::A, "b.x.org", "C.x.org");
        zone.address("c.x.org", "192.0.2.6");
        assert_eq!(zone.find("sip:x.org;transport=udp", &policy()).unwrap(), ["UDP 192.0.2.6:5060 x.org"]);
        let mut zone = Zone::default();
        zone.cname(RecordKind::A, "x.org", "y.org");
        zone.cname(RecordKind::A, "y.org", "x.org");
        zone.cname(RecordKind::Aaaa, "x.org", "x.org");
        assert_eq!(zone.find("sip:x.org:5060", &policy()), Err(LocateError::NotFound("x.org".into())));
        assert_eq!(zone.asked.len(), 3, "each name once: {:?}", zone.asked);
        let mut zone = Zone::default();
        for n in 0..100 {
            zone.cname(RecordKind::A, &format!("n{n}.org"), &format!("n{}.org", n + 1));
        }
        zone.find("sip:n0.org:5060", &policy()).unwrap_err();
        assert!(zone.asked.len() <= 32, "{}", zone.asked.len());
    }

    #[test]
    fn look_ups_and_targets_are_bounded() {
        // S8, S17
        let mut zone = Zone::default();
        for n in 0..200 {
            zone.naptr("x.org", n, "SIP+D2U", &format!("_sip._udp.n{n}.org"));
            zone.srv("_sip._udp.n0.org", n, &format!("h{n}.org"), 5060);
            for host in 0..10 {
                zone.address(&format!("h{host}.org"), &format!("192.0.2.{n}"));
            }
        }
        assert_eq!(zone.find("sip:x.org", &policy()).unwrap().len(), Locate::MAX_TARGETS);
        assert!(zone.asked.len() <= 32, "{}", zone.asked.len());
    }

    #[test]
    fn a_silent_server_costs_two_seconds_a_step() {
        let start = origin();
        let mut locate = Locate::new(start, &Uri::parse(&"sip:x.org".into()).unwrap(), &policy(), 1);
        let ask = |kind, name: &str| Some(Output::Ask(question(kind, name)));
        assert_eq!(locate.poll_output(), ask(RecordKind::Naptr, "x.org"));
        assert_eq!(locate.poll_timeout(), Some(start + Locate::STEP));
        locate.handle_timeout(start + Locate::STEP / 2);
        assert_eq!(locate.poll_output(), None, "too early");
        let now = start + Locate::STEP;
        locate.handle_timeout(now);
        for name in ["_sip._udp.x.org", "_sip._tcp.x.org", "_sips._tcp.x.org"] {
            assert_eq!(locate.poll_output(), ask(RecordKind::Srv, name));
        }
        let late = Answer::Records(vec![Record::Address("192.0.2.1".parse().unwrap())]);
        locate.handle_input(now, Input::Answer(question(RecordKind::Naptr, "x.org"), late.clone()));
        locate.handle_timeout(now + Locate::STEP);
        assert_eq!(locate.poll_output(), ask(RecordKind::A, "x.org"));
        assert_eq!(locate.poll_output(), ask(RecordKind::Aaaa, "x.org"));
        locate.handle_input(now, Input::Answer(question(RecordKind::A, "x.org"), late));
        assert_eq!(locate.poll_output(), None, "waits for the other family");
        locate.handle_timeout(now + 2 * Locate::STEP);
        assert!(matches!(locate.poll_output(), Some(Output::Found(targets)) if targets.len() == 1));
        assert_eq!(locate.poll_timeout(), None);
        locate.handle_timeout(now + 9 * Locate::STEP);
        assert_eq!(locate.poll_output(), None);
    }
}
