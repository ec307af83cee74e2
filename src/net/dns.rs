//! The next hop of a URI (RFC 3263): `sip::locate` asks, the system's resolver answers. Work that ends with its request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use sip::Uri;
use sip::locate::{Answer, Input, Locate, LocateError, Output, Policy, Question, Record, RecordKind, Target};

use crate::clock;

/// Looks up names; clones share one cache.
#[derive(Clone)]
pub(crate) struct Dns(Option<Arc<TokioResolver>>);

/// How long one query may take; a step of the search has its own limit.
const QUERY: Duration = Duration::from_secs(2);

impl Dns {
    /// Starts with the system's name servers.
    ///
    /// # Errors
    /// The system's configuration cannot be read.
    pub(crate) fn system() -> Result<Self, String> {
        let builder = TokioResolver::builder_tokio().map_err(|error| error.to_string())?;
        Self::build(builder, QUERY)
    }

    fn build(mut builder: ResolverBuilder<TokioRuntimeProvider>, query: Duration) -> Result<Self, String> {
        builder.options_mut().timeout = query;
        builder.options_mut().attempts = 1;
        let resolver = builder.build().map_err(|error| error.to_string())?;
        Ok(Self(Some(Arc::new(resolver))))
    }

    /// Looks nothing up.
    pub(crate) fn off() -> Self {
        Self(None)
    }

    /// Finds the addresses of a URI in the order to try them.
    ///
    /// # Errors
    /// See [`LocateError`].
    pub(crate) async fn locate(&self, uri: &Uri, policy: &Policy, random: u64) -> Result<Vec<Target>, LocateError> {
        let mut locate = Locate::new(clock::now(), uri, policy, random);
        let mut asked = FuturesUnordered::new();
        loop {
            while let Some(output) = locate.poll_output() {
                match output {
                    Output::Ask(question) => {
                        asked.push(async move {
                            let answer = self.ask(&question).await;
                            (question, answer)
                        });
                    }
                    Output::Found(targets) => return Ok(targets),
                    Output::Failed(error) => return Err(error),
                }
            }
            let deadline = locate.poll_timeout().unwrap_or_else(|| clock::now() + QUERY);
            tokio::select! {
                biased;
                Some((question, answer)) = asked.next() => locate.handle_input(clock::now(), Input::Answer(question, answer)),
                () = tokio::time::sleep_until(deadline.into()) => locate.handle_timeout(clock::now()),
            }
        }
    }

    async fn ask(&self, question: &Question) -> Answer {
        let Some(resolver) = &self.0 else { return Answer::Failed };
        let kind = match question.kind {
            RecordKind::Naptr => RecordType::NAPTR,
            RecordKind::Srv => RecordType::SRV,
            RecordKind::A => RecordType::A,
            RecordKind::Aaaa => RecordType::AAAA,
        };
        // The dot at the end keeps the system's search list out.
        match resolver.lookup(format!("{}.", question.name), kind).await {
            Ok(lookup) => Answer::Records(lookup.answers().iter().filter_map(|record| record_of(&record.data)).collect()),
            Err(error) if error.is_no_records_found() || error.is_nx_domain() => Answer::Records(Vec::new()),
            Err(_) => Answer::Failed,
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "records that we did not ask for, of a foreign and growing enum")]
fn record_of(data: &RData) -> Option<Record> {
    let name = |name: &hickory_resolver::proto::rr::Name| name.to_ascii().trim_end_matches('.').to_ascii_lowercase().into();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned().into();
    match data {
        RData::A(address) => Some(Record::Address(IpAddr::V4(address.0))),
        RData::AAAA(address) => Some(Record::Address(IpAddr::V6(address.0))),
        RData::CNAME(alias) => Some(Record::Cname(name(&alias.0))),
        RData::SRV(srv) => {
            let target = if srv.target.is_root() { ".".into() } else { name(&srv.target) };
            Some(Record::Srv { priority: srv.priority, weight: srv.weight, port: srv.port, target })
        }
        RData::NAPTR(naptr) => Some(Record::Naptr {
            order: naptr.order,
            preference: naptr.preference,
            flags: text(&naptr.flags),
            service: text(&naptr.services),
            replacement: name(&naptr.replacement),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    //! The driver against a name server of our own, on loopback, that does what the name says.

    use std::net::SocketAddr;

    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::proto::op::{Message, ResponseCode};
    use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, NAPTR, SRV};
    use hickory_resolver::proto::rr::{Name, Record as Row};
    use sip::Transport;
    use sip::locate::{Dns as LookUps, Permit};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, UdpSocket};

    use super::*;

    /// Longer than the server needs, and no longer than a test has patience.
    const SHORT: Duration = Duration::from_millis(400);

    /// What is known of `example.test`, and of the names whose server misbehaves.
    fn rows(name: &str, kind: RecordType) -> Vec<RData> {
        let name_of = |text: &str| Name::from_ascii(text).unwrap();
        let naptr = |order, service: &[u8], replacement| {
            RData::NAPTR(NAPTR::new(order, 10, (*b"s").into(), service.into(), Box::default(), name_of(replacement)))
        };
        match (name, kind) {
            ("example.test.", RecordType::NAPTR) => {
                vec![naptr(20, b"SIP+D2U", "_sip._udp.example.test."), naptr(10, b"SIP+D2T", "_sip._tcp.Example.Test.")]
            }
            ("_sip._tcp.example.test.", RecordType::SRV) => vec![
                RData::SRV(SRV::new(2, 0, 5062, name_of("b.example.test."))),
                RData::SRV(SRV::new(1, 0, 5061, name_of("a.example.test."))),
            ],
            ("_sip._udp.example.test.", RecordType::SRV) => vec![RData::SRV(SRV::new(1, 0, 5063, name_of("a.example.test.")))],
            ("a.example.test.", RecordType::A) => vec![RData::A(A::new(192, 0, 2, 1))],
            ("a.example.test.", RecordType::AAAA) => vec![RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))],
            ("b.example.test.", RecordType::A) => vec![RData::A(A::new(192, 0, 2, 2))],
            ("alias.test.", RecordType::A | RecordType::AAAA) => vec![RData::CNAME(CNAME(name_of("a.example.test.")))],
            ("long.test." | "forged.test." | "spoofed.test.", RecordType::A) => vec![RData::A(A::new(192, 0, 2, 9))],
            _ => Vec::new(),
        }
    }

    fn answer(query: &Message, rows: Vec<RData>) -> Message {
        let mut answer = query.clone().into_response();
        answer.additionals.clear();
        answer.edns = None;
        for data in rows {
            answer.add_answer(Row::from_rdata(query.queries[0].name().clone(), 60, data));
        }
        answer
    }

    /// What the server does with one query that came as a datagram.
    async fn reply(socket: &UdpSocket, stranger: &UdpSocket, from: SocketAddr, query: &Message) {
        let name = query.queries[0].name().to_ascii().to_ascii_lowercase();
        let mut told = answer(query, rows(&name, query.queries[0].query_type()));
        match &*name {
            "silent.test." => return,
            "none.test." => told.metadata.response_code = ResponseCode::NXDomain,
            "broken.test." => told.metadata.response_code = ResponseCode::ServFail,
            "long.test." => {
                told.answers.clear();
                told.metadata.truncation = true;
            }
            "garbage.test." => {
                let id = query.metadata.id.to_be_bytes();
                socket.send_to(&[&id[..], &[0x81, 0x80, 0, 1, 0xff, 0xff, 0, 0, 0, 0, 0xc0, 0x0c, 1]].concat(), from).await.unwrap();
                return;
            }
            "forged.test." => {
                // S17: the right id from the wrong place comes first
                let forged = answer(query, vec![RData::A(A::new(203, 0, 113, 66))]);
                stranger.send_to(&forged.to_vec().unwrap(), from).await.unwrap();
            }
            "spoofed.test." => {
                // S17: the right place and a wrong id
                let mut forged = answer(query, vec![RData::A(A::new(203, 0, 113, 66))]);
                forged.metadata.id = query.metadata.id.wrapping_add(1);
                socket.send_to(&forged.to_vec().unwrap(), from).await.unwrap();
            }
            _ => {}
        }
        socket.send_to(&told.to_vec().unwrap(), from).await.unwrap();
    }

    /// Serves queries for as long as it is polled.
    async fn serve(socket: UdpSocket, listener: TcpListener) {
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut datagram = [0; 4096];
        loop {
            tokio::select! {
                biased;
                received = socket.recv_from(&mut datagram) => {
                    let (length, from) = received.unwrap();
                    reply(&socket, &stranger, from, &Message::from_vec(&datagram[..length]).unwrap()).await;
                }
                accepted = listener.accept() => {
                    let mut stream = accepted.unwrap().0;
                    let length = stream.read_u16().await.unwrap();
                    let mut query = vec![0; length.into()];
                    stream.read_exact(&mut query).await.unwrap();
                    let query = Message::from_vec(&query).unwrap();
                    let told = answer(&query, rows(&query.queries[0].name().to_ascii(), query.queries[0].query_type()));
                    let told = told.to_vec().unwrap();
                    stream.write_u16(told.len().try_into().unwrap()).await.unwrap();
                    stream.write_all(&told).await.unwrap();
                }
            }
        }
    }

    /// Opens both sockets of a server at one port.
    async fn listen() -> (UdpSocket, TcpListener) {
        loop {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
                return (socket, listener);
            }
        }
    }

    async fn find(uri: &str) -> Result<Vec<String>, LocateError> {
        let (socket, listener) = listen().await;
        let address = socket.local_addr().unwrap();
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = address.port();
            connection
        });
        let server = NameServerConfig::new(address.ip(), true, connections.into());
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let dns = Dns::build(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()), SHORT).unwrap();
        let policy = Policy {
            dns: LookUps::On,
            permit: Permit::Any,
            transports: vec![Transport::Udp, Transport::Tcp, Transport::Tls],
            families: vec![RecordKind::A, RecordKind::Aaaa],
        };
        let uri = Uri::parse(&uri.into()).unwrap();
        let targets = tokio::select! {
            biased;
            found = dns.locate(&uri, &policy, 1) => found?,
            () = serve(socket, listener) => unreachable!("the server serves on"),
        };
        Ok(targets.iter().map(|target| format!("{} {} {}", target.transport, target.address, target.server_name)).collect())
    }

    #[tokio::test]
    async fn naptr_leads_to_srv_and_that_to_addresses_of_both_families() {
        let found = find("sip:bob@example.test").await.unwrap();
        // of the best order alone (RFC 3263 §4.1)
        let wanted = ["TCP 192.0.2.1:5061 example.test", "TCP [2001:db8::1]:5061 example.test", "TCP 192.0.2.2:5062 example.test"];
        assert_eq!(found, wanted);
    }

    #[tokio::test]
    async fn a_port_asks_for_addresses_alone_and_aliases_are_followed() {
        assert_eq!(find("sip:bob@b.example.test:5070").await.unwrap(), ["UDP 192.0.2.2:5070 b.example.test"]);
        assert_eq!(find("sip:bob@alias.test:5070").await.unwrap(), ["UDP 192.0.2.1:5070 alias.test", "UDP [2001:db8::1]:5070 alias.test"]);
    }

    #[tokio::test]
    async fn what_the_server_does_not_know_is_not_found_and_what_it_does_not_say_is_no_answer() {
        for (host, error) in [
            ("none.test", LocateError::NotFound("none.test".into())),
            ("empty.test", LocateError::NotFound("empty.test".into())),
            ("silent.test", LocateError::NoAnswer("silent.test".into())),
            ("broken.test", LocateError::NoAnswer("broken.test".into())),
            ("garbage.test", LocateError::NoAnswer("garbage.test".into())),
        ] {
            assert_eq!(find(&format!("sip:bob@{host}:5060")).await, Err(error));
        }
    }

    #[tokio::test]
    async fn a_truncated_answer_is_asked_for_again_over_tcp() {
        assert_eq!(find("sip:bob@long.test:5060").await.unwrap(), ["UDP 192.0.2.9:5060 long.test"]);
    }

    #[tokio::test]
    async fn answers_from_elsewhere_or_to_another_question_are_not_believed() {
        // S17
        for host in ["forged.test", "spoofed.test"] {
            assert_eq!(find(&format!("sip:bob@{host}:5060")).await.unwrap(), [format!("UDP 192.0.2.9:5060 {host}")]);
        }
    }

    #[tokio::test]
    async fn switched_off_it_asks_nobody() {
        let question = Question { kind: RecordKind::A, name: "a.example.test".into() };
        assert_eq!(Dns::off().ask(&question).await, Answer::Failed);
    }
}
