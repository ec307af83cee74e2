//! The registrar (RFC 3261 §10.3, RFC 3327, RFC 5626 §6, RFC 8599 §4): a REGISTER and the old bindings of an AOR to its new bindings and
//! the response. Pure functions: it knows neither users nor storage nor connections. Who may register is decided before.

mod binding;
mod contact;
mod store;
mod target;
mod update;

use std::time::Duration;

use bytestring::ByteString;

use crate::message::{HeaderError, Headers, Host, Name, Request, Response, StatusCode};
use crate::time::UnixTime;
use crate::transport::Flow;

pub use binding::{Binding, Q, Received};
pub use store::{decode, encode};
pub use target::{Reach, Target, targets};

/// What the registrar allows.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Shortest expiry; a shorter one but 0 is refused with 423. Default: 60 s.
    pub min_expires: Duration,
    /// Expiry where none is asked for. Default: 1 hour.
    pub default_expires: Duration,
    /// Longest expiry granted. Default: 1 hour.
    pub max_expires: Duration,
    /// Most bindings of an AOR, 256 at the very most. A REGISTER that would add one more is refused with 403 and a Warning; none is dropped
    /// for it but an older one of the same instance: a phone without reg-id that began anew somewhere else does not lock itself out.
    /// Default: 10.
    pub max_contacts: usize,
    /// Our own host names and addresses with their ports: a binding to them would be a loop, and is refused with 403. Default: none.
    pub own: Vec<(Host, u16)>,
    /// Push services that can wake a device, such as `apns` (RFC 8599 §4.1). A REGISTER that names another one is refused with 555.
    /// Default: none; then pn- parameters are kept and not looked at.
    pub push: Vec<ByteString>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min_expires: Duration::from_secs(60),
            default_expires: Duration::from_secs(3600),
            max_expires: Duration::from_secs(3600),
            max_contacts: 10,
            own: Vec::new(),
            push: Vec::new(),
        }
    }
}

/// Reason of the [`Rejection`] of one binding more than there may be.
pub const TOO_MANY: &str = "too many bindings";

/// What a REGISTER changes, so that the caller knows how soon it must be on disk and whom to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: a query.
    None,
    /// Only expiry, Call-ID and CSeq of bindings that were there.
    Refreshed,
    /// More than that.
    Altered {
        /// How many bindings are new.
        added: usize,
        /// How many were removed by the request.
        removed: usize,
    },
}

/// What comes of a REGISTER that is accepted.
#[derive(Debug)]
pub struct Registered {
    /// The bindings of the AOR from now on, without those that have expired.
    pub bindings: Vec<Binding>,
    /// What the request changed.
    pub change: Change,
    /// Contact (all current bindings), Date and, where they apply, Path, Require and Feature-Caps of the 200.
    pub headers: Headers,
}

impl Registered {
    /// Makes the 200 (§10.3 step 8). The To tag is the caller's.
    #[must_use]
    pub fn response(&self, request: &Request) -> Response {
        let mut response = Response::to(request, StatusCode::OK);
        response.headers.copy_where(&self.headers, |_| true);
        response
    }
}

/// A REGISTER that is refused; nothing has changed (§10.3 step 7).
#[derive(Debug, thiserror::Error)]
#[error("{status}: {reason}")]
pub struct Rejection {
    /// 400, 403, 420, 423, 439, 500 or 555.
    pub status: StatusCode,
    /// What is wrong.
    pub reason: &'static str,
    /// Headers of the response, such as Min-Expires or Unsupported.
    pub headers: Headers,
}

impl Rejection {
    fn new(status: StatusCode, reason: &'static str) -> Box<Self> {
        Box::new(Self { status, reason, headers: Headers::default() })
    }

    fn with(status: StatusCode, reason: &'static str, name: Name, value: &str) -> Box<Self> {
        let mut rejection = Self::new(status, reason);
        rejection.headers.push(name, value);
        rejection
    }

    fn malformed(error: HeaderError) -> Box<Self> {
        let (HeaderError::Missing(name) | HeaderError::Malformed(name)) = error;
        let known = [
            (Name::Contact, "malformed Contact"),
            (Name::Path, "malformed Path"),
            (Name::Via, "malformed Via"),
            (Name::CSeq, "malformed CSeq"),
            (Name::CallId, "malformed Call-ID"),
        ];
        let reason = known.into_iter().find(|(known, _)| *known == name).map_or("malformed header", |(_, reason)| reason);
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    /// Makes the response. The To tag is the caller's.
    #[must_use]
    pub fn response(&self, request: &Request) -> Response {
        let mut response = Response::to(request, self.status);
        response.headers.copy_where(&self.headers, |_| true);
        response
    }
}

/// Applies a REGISTER (§10.3 steps 6 to 8) that came over `flow`. `old` are the bindings of the AOR in To, expired ones included.
///
/// # Errors
/// See [`Rejection`].
pub fn register(request: &Request, flow: &Flow, old: &[Binding], now: UnixTime, policy: &Policy) -> Result<Registered, Box<Rejection>> {
    let headers = &request.headers;
    let unsupported: Vec<&str> = headers.tokens(Name::Require).filter(|option| !is_supported(option)).collect();
    if !unsupported.is_empty() {
        return Err(Rejection::with(StatusCode::BAD_EXTENSION, "unsupported option", Name::Unsupported, &unsupported.join(", ")));
    }
    let mut table = update::Table::new(old, now);
    let is_wildcard = contact::is_wildcard(request)?;
    let contacts = if is_wildcard { Vec::new() } else { contact::read(request, policy)? };
    let sender = contact::Sender::of(request, flow, &contacts)?;
    if is_wildcard {
        table.remove_all(&sender)?;
    }
    for contact in contacts {
        table.apply(&sender, contact)?;
    }
    let most = policy.max_contacts.min(store::MAX_BINDINGS);
    table.displace(&sender, most)?;
    let (bindings, change) = table.finish();
    if bindings.len() > most && matches!(change, Change::Altered { added: 1.., .. }) {
        let warning = format!("399 tandem \"{TOO_MANY}: at most {most} devices of a user are registered\"");
        return Err(Rejection::with(StatusCode::FORBIDDEN, TOO_MANY, Name::Warning, &warning));
    }
    let headers = answer(request, &bindings, now, policy, sender.uses_outbound);
    Ok(Registered { bindings, change, headers })
}

/// Returns true for the option tags that a registrar may be required to know.
fn is_supported(option: &str) -> bool {
    ["path", "outbound"].iter().any(|known| known.eq_ignore_ascii_case(option))
}

fn answer(request: &Request, bindings: &[Binding], now: UnixTime, policy: &Policy, uses_outbound: bool) -> Headers {
    let mut headers = Headers::default();
    for binding in bindings {
        headers.push(Name::Contact, binding.to_contact(now));
    }
    headers.push(Name::Date, now.to_string());
    // RFC 3327 §5.3: the UA learns the Path only if it knows what that is.
    if request.headers.has_token(Name::Supported, "path") || request.headers.has_token(Name::Require, "path") {
        headers.copy(&request.headers, Name::Path);
    }
    if uses_outbound && request.headers.has_token(Name::Supported, "outbound") {
        headers.push(Name::Require, "outbound");
    }
    if bindings.iter().any(|binding| binding.contact.param("pn-provider").is_some()) {
        for service in &policy.push {
            headers.push(Name::FeatureCaps, format!("*;+sip.pns=\"{service}\""));
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, parse};
    use crate::transport::{ConnectionId, Transport};

    const NOW: UnixTime = UnixTime(1_785_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    /// The registrar and the bindings of bob.
    struct Scene {
        bindings: Vec<Binding>,
        now: UnixTime,
        policy: Policy,
        flow: Flow,
        cseq: u32,
        call_id: &'static str,
        via: &'static str,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                bindings: Vec::new(),
                now: NOW,
                policy: Policy::default(),
                flow: Flow {
                    transport: Transport::Udp,
                    local: "192.0.2.1:5060".parse().unwrap(),
                    remote: "192.0.2.4:5060".parse().unwrap(),
                    connection: None,
                },
                cseq: 1825,
                call_id: "843817637684230@998sdasdh09",
                via: "SIP/2.0/UDP 192.0.2.4;branch=z9hG4bKnashds7",
            }
        }

        fn request(&self, rows: &[&str]) -> Request {
            let text = format!(
                "REGISTER sip:registrar.biloxi.com SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nTo: Bob <sip:bob@biloxi.com>\r\n\
                 From: Bob <sip:bob@biloxi.com>;tag=456248\r\nCall-ID: {}\r\nCSeq: {} REGISTER\r\n{}\r\n",
                self.via,
                self.call_id,
                self.cseq,
                rows.iter().map(|row| format!("{row}\r\n")).collect::<String>()
            );
            match parse::parse(text.into_bytes().into()) {
                Ok(Message::Request(request)) => request,
                other => panic!("{other:?}"),
            }
        }

        /// Sends a REGISTER with the next CSeq; on success the bindings are kept.
        fn send(&mut self, rows: &[&str]) -> Result<Registered, Box<Rejection>> {
            self.cseq += 1;
            self.repeat(rows)
        }

        fn repeat(&mut self, rows: &[&str]) -> Result<Registered, Box<Rejection>> {
            let registered = register(&self.request(rows), &self.flow, &self.bindings, self.now, &self.policy)?;
            // What is kept is what is stored.
            self.bindings = decode(&encode(&registered.bindings)).unwrap();
            assert_eq!(self.bindings, registered.bindings);
            Ok(registered)
        }

        fn change(&mut self, rows: &[&str]) -> Change {
            self.send(rows).unwrap().change
        }

        fn status(&mut self, rows: &[&str]) -> u16 {
            let before = self.bindings.clone();
            let rejection = self.send(rows).unwrap_err();
            assert_eq!(self.bindings, before);
            rejection.status.code()
        }

        fn contacts(&self) -> Vec<&str> {
            self.bindings.iter().map(|binding| binding.contact.as_str()).collect()
        }
    }

    fn altered(added: usize, removed: usize) -> Change {
        Change::Altered { added, removed }
    }

    fn values(registered: &Registered, name: Name) -> Vec<String> {
        registered.headers.all(name).map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }

    #[test]
    fn the_example_of_section_24_1() {
        let mut scene = Scene::new();
        let rows = ["Contact: <sip:bob@192.0.2.4>", "Expires: 7200"];
        let registered = scene.send(&rows).unwrap();
        assert_eq!(registered.change, altered(1, 0));
        assert_eq!(values(&registered, Name::Contact), ["<sip:bob@192.0.2.4>;expires=3600"]);
        let response = registered.response(&scene.request(&rows));
        assert_eq!(response.status, StatusCode::OK);
        assert_eq!(response.headers.get(Name::Date), Some(b"Sat, 25 Jul 2026 17:20:00 GMT".as_slice()));
        assert_eq!(response.headers.call_id().unwrap(), scene.call_id);
    }

    #[test]
    fn a_query_lists_all_current_bindings_and_changes_nothing() {
        let mut scene = Scene::new();
        scene.send(&["Contact: <sip:a@192.0.2.4>;q=0.7;expires=100, <sip:b@192.0.2.5>;q=0.25"]).unwrap();
        scene.now = NOW.plus(Duration::from_secs(40));
        let registered = scene.send(&[]).unwrap();
        assert_eq!(registered.change, Change::None);
        assert_eq!(values(&registered, Name::Contact), ["<sip:a@192.0.2.4>;expires=60;q=0.7", "<sip:b@192.0.2.5>;expires=3560;q=0.25"]);
        scene.now = NOW.plus(Duration::from_secs(100));
        assert_eq!(values(&scene.send(&[]).unwrap(), Name::Contact).len(), 1, "the other has expired");
    }

    #[test]
    fn expiry_comes_from_the_contact_then_the_header_then_the_default() {
        let mut scene = Scene::new();
        scene.policy.default_expires = Duration::from_secs(900);
        scene.send(&["Contact: <sip:a@h>;expires=300, <sip:b@h>", "Expires: 600"]).unwrap();
        scene.send(&["Contact: <sip:c@h>"]).unwrap();
        scene.send(&["Contact: <sip:d@h>;expires=4294967296, <sip:e@h>", "Expires: soon"]).unwrap();
        scene.send(&["Contact: <sip:f@h>;expires=4294967295"]).unwrap();
        let granted: Vec<_> = scene.bindings.iter().map(|binding| binding.granted.as_secs()).collect();
        assert_eq!(granted, [300, 600, 900, 900, 900, 3600]);
    }

    #[test]
    fn a_short_expiry_is_refused_with_the_minimum() {
        let mut scene = Scene::new();
        let rejection = scene.send(&["Contact: <sip:a@h>;expires=59"]).unwrap_err();
        assert_eq!((rejection.status, rejection.headers.get(Name::MinExpires)), (StatusCode::INTERVAL_TOO_BRIEF, Some(b"60".as_slice())));
        assert_eq!(scene.change(&["Contact: <sip:a@h>;expires=60"]), altered(1, 0));
        assert_eq!(scene.change(&["Contact: <sip:a@h>;expires=0"]), altered(0, 1));
    }

    #[test]
    fn a_refresh_is_told_from_a_change() {
        let mut scene = Scene::new();
        let rows = ["Contact: <sip:a@192.0.2.4>;q=0.5", "User-Agent: x"];
        scene.send(&rows).unwrap();
        scene.now = NOW.plus(HOUR / 2);
        assert_eq!(scene.change(&rows), Change::Refreshed);
        assert_eq!(scene.bindings[0].expires_at, NOW.plus(HOUR / 2 + HOUR));
        assert_eq!(
            scene.change(&["Contact: <sip:%61@192.0.2.4>;q=0.5", "User-Agent: x"]),
            altered(0, 0),
            "the same URI, written otherwise"
        );
        assert_eq!(scene.contacts(), ["sip:%61@192.0.2.4"]);
        assert_eq!(scene.change(&["Contact: <sip:%61@192.0.2.4>;q=0.6", "User-Agent: x"]), altered(0, 0));
        scene.flow.remote.set_port(40_000);
        assert_eq!(scene.change(&["Contact: <sip:%61@192.0.2.4>;q=0.6", "User-Agent: x"]), altered(0, 0), "it moved");
        assert_eq!(scene.change(&["Contact: <sip:none@192.0.2.4>;expires=0"]), Change::None);
        assert_eq!(scene.change(&["Contact: <sip:a@192.0.2.4>, <sip:b@192.0.2.4>"]), altered(1, 0));
        assert_eq!(scene.change(&["Contact: <sip:a@192.0.2.4>;expires=0, <sip:c@192.0.2.4>"]), altered(1, 1));
    }

    #[test]
    fn an_old_or_repeated_request_fails_as_a_whole() {
        let mut scene = Scene::new();
        scene.send(&["Contact: <sip:a@h>"]).unwrap();
        let before = scene.bindings.clone();
        for number in [scene.cseq, scene.cseq - 1] {
            scene.cseq = number;
            let rejection = scene.repeat(&["Contact: <sip:new@h>, <sip:a@h>;expires=0"]).unwrap_err();
            assert_eq!(rejection.status, StatusCode::SERVER_INTERNAL_ERROR);
            assert_eq!(scene.repeat(&["Contact: *", "Expires: 0"]).unwrap_err().status, StatusCode::SERVER_INTERNAL_ERROR);
            assert_eq!(scene.bindings, before);
        }
        scene.call_id = "another";
        scene.cseq = 1;
        assert_eq!(scene.repeat(&["Contact: <sip:a@h>"]).unwrap().change, Change::Refreshed);
        assert_eq!((scene.bindings[0].cseq, &*scene.bindings[0].call_id), (1, "another"));
    }

    #[test]
    fn an_expired_binding_has_no_order() {
        let mut scene = Scene::new();
        scene.send(&["Contact: <sip:a@h>"]).unwrap();
        scene.now = NOW.plus(HOUR);
        assert_eq!(scene.repeat(&["Contact: <sip:a@h>"]).unwrap().change, altered(1, 0));
    }

    #[test]
    fn the_wildcard_removes_all_and_only_alone_and_with_expires_0() {
        let mut scene = Scene::new();
        scene.send(&["Contact: <sip:a@h>, <sip:b@h>"]).unwrap();
        assert_eq!(scene.status(&["Contact: *"]), 400);
        assert_eq!(scene.status(&["Contact: *", "Expires: 1"]), 400);
        assert_eq!(scene.status(&["Contact: *", "Expires: 0x"]), 400);
        assert_eq!(scene.status(&["Contact: *", "Contact: <sip:a@h>", "Expires: 0"]), 400);
        assert_eq!(scene.status(&["Contact: *, <sip:a@h>", "Expires: 0"]), 400);
        assert_eq!(scene.status(&["Contact: *;expires=0"]), 400);
        assert_eq!(scene.change(&["m: *", "Expires: 0"]), altered(0, 2));
        assert_eq!(scene.change(&["Contact: *", "Expires: 0"]), Change::None);
    }

    #[test]
    fn the_same_contact_twice_in_one_request_is_one_binding() {
        let mut scene = Scene::new();
        assert_eq!(scene.change(&["Contact: <sip:a@h>;q=0.1, <sip:a@H>;q=0.2"]), altered(1, 0));
        assert_eq!((scene.bindings.len(), scene.bindings[0].q.thousandths()), (1, 200));
        assert_eq!(scene.change(&["Contact: <sip:a@h>, <sip:a@h>;expires=0"]), altered(0, 1));
        assert!(scene.bindings.is_empty());
    }

    #[test]
    fn where_there_is_no_room_an_instance_takes_the_place_of_its_own_older_binding() {
        // S11
        let mut scene = Scene::new();
        scene.policy.max_contacts = 2;
        let at = |port: u16, instance: &str| format!("Contact: <sip:a@h:{port}>;+sip.instance=\"<urn:{instance}>\"");
        assert_eq!(scene.change(&[&at(1, "x")]), altered(1, 0));
        assert_eq!(scene.change(&[&at(2, "x")]), altered(1, 0), "it may be two");
        assert_eq!(scene.change(&[&at(3, "x")]), altered(1, 1));
        let contacts = |scene: &Scene| scene.bindings.iter().map(|binding| binding.contact.port()).collect::<Vec<_>>();
        assert_eq!(contacts(&scene), [Some(2), Some(3)], "the oldest goes");
        assert_eq!(scene.status(&[&at(4, "y")]), 403, "another instance");
        assert_eq!(scene.status(&["Contact: <sip:a@h:5>"]), 403, "no instance");
        assert_eq!(scene.status(&[&at(6, "x"), &at(7, "x"), &at(8, "x")]), 403, "more than its own");
        scene.call_id = "another";
        assert_eq!(scene.change(&[&at(9, "x")]), altered(1, 1));
        assert_eq!(contacts(&scene), [Some(3), Some(9)]);
    }

    #[test]
    fn an_aor_has_no_more_bindings_than_allowed() {
        // S8, S11
        let mut scene = Scene::new();
        scene.policy.max_contacts = 2;
        assert_eq!(scene.status(&["Contact: <sip:a@h>, <sip:b@h>, <sip:c@h>"]), 403);
        scene.send(&["Contact: <sip:a@h>, <sip:b@h>"]).unwrap();
        assert_eq!(scene.status(&["Contact: <sip:c@h>"]), 403);
        assert_eq!(scene.change(&["Contact: <sip:c@h>, <sip:a@h>;expires=0"]), altered(1, 1));
        let refused = scene.send(&["Contact: <sip:d@h>"]).unwrap_err();
        assert_eq!(
            refused.headers.get(Name::Warning).unwrap(),
            &b"399 tandem \"too many bindings: at most 2 devices of a user are registered\""[..]
        );
        scene.policy.max_contacts = 1;
        assert_eq!(scene.change(&["Contact: <sip:b@h>"]), Change::Refreshed, "who is in may stay");
        scene.policy.max_contacts = usize::MAX;
        let many: Vec<_> = (0..=Headers::MAX_LIST).map(|n| format!("<sip:{n}@h>")).collect();
        assert_eq!(scene.status(&[&format!("Contact: {}", many.join(","))]), 400);
    }

    #[test]
    fn contacts_that_cannot_be_called_are_refused() {
        let mut scene = Scene::new();
        scene.policy.own = vec![(Host::parse("192.0.2.1").unwrap(), 5060), (Host::parse("biloxi.com").unwrap(), 5061)];
        let long = format!("Contact: <sip:{}@h>", "x".repeat(Binding::MAX_CONTACT));
        for (row, status) in [
            ("Contact: <tel:+1>", 400),
            ("Contact: <http://x>", 400),
            ("Contact: sip:a@h?x=y", 400),
            ("Contact: <sip:a@h>,", 400),
            ("Contact: <sip:bob@192.0.2.1>", 403),
            ("Contact: <sip:bob@192.0.2.1:5060;transport=tcp>", 403),
            ("Contact: <sips:bob@Biloxi.com>", 403),
            // S11, S17: what is sent there reaches many, or nobody
            ("Contact: <sip:bob@0.0.0.0>", 400),
            ("Contact: <sip:bob@255.255.255.255>", 400),
            ("Contact: <sip:bob@224.0.0.1>", 400),
            ("Contact: <sip:bob@[::]>", 400),
            ("Contact: <sip:bob@[ff02::1]>", 400),
            ("Contact: <sip:bob@[::ffff:239.1.1.1]>", 400),
            (&long, 400),
        ] {
            assert_eq!(scene.status(&[row]), status, "{row}");
        }
        assert_eq!(scene.change(&["Contact: <sip:bob@192.0.2.1:5070>"]), altered(1, 0));
    }

    #[test]
    fn an_option_we_do_not_know_is_refused_by_name() {
        let mut scene = Scene::new();
        let rejection = scene.send(&["Require: path, gruu, x"]).unwrap_err();
        assert_eq!((rejection.status, rejection.headers.get(Name::Unsupported)), (StatusCode::BAD_EXTENSION, Some(b"gruu, x".as_slice())));
    }

    #[test]
    fn the_path_is_stored_and_returned_to_who_knows_it() {
        // RFC 3327 §5.5.1
        let mut scene = Scene::new();
        let rows = ["Contact: <sip:a@192.0.2.4>", "Supported: path", "Path: <sip:p2.x;lr>,<sip:p1.x;lr>"];
        let registered = scene.send(&rows).unwrap();
        assert_eq!(values(&registered, Name::Path), ["<sip:p2.x;lr>,<sip:p1.x;lr>"]);
        let target = targets(&scene.bindings, NOW).remove(0);
        assert_eq!((&*target.route, &target.reach), ("<sip:p2.x;lr>, <sip:p1.x;lr>", &Reach::Route));
        let silent = scene.send(&["Contact: <sip:a@192.0.2.4>", rows[2]]).unwrap();
        assert!(!silent.headers.has(Name::Path));
        assert_eq!(silent.change, Change::Refreshed);
        assert_eq!(scene.status(&["Contact: <sip:a@192.0.2.4>", "Path: <sip:p2"]), 400);
        let long = format!("Path: <sip:{}@h>", "x".repeat(Binding::MAX_PATH));
        assert_eq!(scene.status(&["Contact: <sip:a@192.0.2.4>", &long]), 400);
    }

    #[test]
    fn a_flow_is_replaced_under_its_number() {
        // RFC 5626 §6
        let mut scene = Scene::new();
        scene.flow.transport = Transport::Tls;
        scene.flow.connection = Some(ConnectionId(1));
        let contact = |user: &str, reg_id| format!("Contact: <sip:{user}@192.0.2.4>;reg-id={reg_id};+sip.instance=\"<urn:uuid:1>\"");
        let registered = scene.send(&[&contact("a", 1), "Supported: path, outbound"]).unwrap();
        assert_eq!(values(&registered, Name::Require), ["outbound"]);
        assert!(values(&registered, Name::Contact)[0].ends_with(";+sip.instance=\"<urn:uuid:1>\";reg-id=1"));
        scene.call_id = "after-a-restart";
        assert_eq!(scene.change(&[&contact("b", 1)]), altered(0, 0));
        assert_eq!(scene.change(&[&contact("c", 2)]), altered(1, 0));
        assert_eq!(scene.contacts(), ["sip:b@192.0.2.4", "sip:c@192.0.2.4"]);
        assert_eq!(scene.change(&[&contact("whatever", 1).replace(";reg-id", ";expires=0;reg-id")]), altered(0, 1));
        assert_eq!(scene.status(&[&contact("a", 0)]), 400);
        let registered = scene.send(&["Contact: <sip:d@h>;reg-id=1", "Supported: outbound"]).unwrap();
        assert!(!registered.headers.has(Name::Require), "no instance, no flow");
    }

    #[test]
    fn a_plain_binding_becomes_a_flow() {
        let mut scene = Scene::new();
        scene.send(&["Contact: <sip:a@h>, <sip:b@h>;reg-id=1;+sip.instance=\"<urn:x>\""]).unwrap();
        assert_eq!(scene.change(&["Contact: <sip:a@h>;reg-id=1;+sip.instance=\"<urn:x>\""]), altered(0, 1));
        assert_eq!(scene.contacts(), ["sip:a@h"]);
    }

    #[test]
    fn outbound_needs_a_first_hop_that_knows_it() {
        let mut scene = Scene::new();
        scene.via = "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKa, SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKb";
        let contact = "Contact: <sip:a@10.0.0.1>;reg-id=1;+sip.instance=\"<urn:x>\"";
        assert_eq!(scene.status(&[contact, "Supported: outbound"]), 439);
        assert_eq!(scene.status(&[contact, "Supported: outbound", "Path: <sip:edge;lr>"]), 439);
        scene.send(&[contact]).unwrap();
        assert_eq!(scene.bindings[0].reg_id, None, "ignored");
        scene.send(&[contact, "Supported: outbound", "Path: <sip:edge;lr;ob>"]).unwrap();
        assert_eq!((scene.bindings.len(), scene.bindings[0].reg_id), (1, Some(1)));
    }

    #[test]
    fn a_nat_is_seen_by_via_or_by_the_contact() {
        let mut scene = Scene::new();
        for (via, contact, is_behind_nat) in [
            ("SIP/2.0/UDP 192.0.2.4:9;branch=z9hG4bKa", "sip:a@10.0.0.1", false),
            ("SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKa;rport", "sip:a@192.0.2.4", true),
            ("SIP/2.0/UDP phone.local;branch=z9hG4bKa", "sip:a@10.0.0.1", true),
            ("SIP/2.0/UDP phone.local;branch=z9hG4bKa", "sip:a@192.0.2.4", false),
            ("SIP/2.0/UDP phone.local;branch=z9hG4bKa", "sip:a@phone.local", false),
        ] {
            scene.via = via;
            scene.bindings.clear();
            scene.send(&[&format!("Contact: <{contact}>")]).unwrap();
            assert_eq!(scene.bindings[0].behind_nat, is_behind_nat, "{via} {contact}");
        }
    }

    #[test]
    fn push_parameters_are_kept_and_an_unknown_service_is_refused() {
        // RFC 8599 §4.1
        let mut scene = Scene::new();
        let contact = "Contact: <sip:a@h;pn-provider=fcm;pn-param=p;pn-prid=ZTY4ZDJl>";
        let registered = scene.send(&[contact]).unwrap();
        assert!(!registered.headers.has(Name::FeatureCaps));
        let push = ["pn-provider", "pn-param", "pn-prid", "pn-x"].map(|name| scene.bindings[0].push(name));
        assert_eq!(push, [Some("fcm"), Some("p"), Some("ZTY4ZDJl"), None]);
        scene.policy.push = vec!["apns".into()];
        assert_eq!(scene.status(&[contact]), 555);
        assert_eq!(scene.change(&["Contact: <sip:a@h;pn-provider=fcm;pn-param=p;pn-prid=ZTY4ZDJl>;expires=0"]), altered(0, 1));
        let registered = scene.send(&["Contact: <sip:a@h;pn-provider=apns;pn-prid=x>"]).unwrap();
        assert_eq!(values(&registered, Name::FeatureCaps), ["*;+sip.pns=\"apns\""]);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_binding_longer() {
        let mut scene = Scene::new();
        scene.send(&["Contact: <sip:a@h>"]).unwrap();
        let yesterday = UnixTime(NOW.0 - 86_400);
        assert_eq!(scene.bindings[0].remaining(yesterday), HOUR);
        scene.bindings[0].clamp(yesterday);
        assert_eq!(scene.bindings[0].expires_at, yesterday.plus(HOUR));
        assert!(scene.bindings[0].is_expired(yesterday.plus(HOUR)));
    }

    #[test]
    fn a_user_agent_is_cut_at_a_character() {
        let mut scene = Scene::new();
        scene.send(&["Contact: <sip:a@h>", &format!("User-Agent: x{}", "\u{e9}".repeat(64))]).unwrap();
        assert_eq!(scene.bindings[0].user_agent.len(), Binding::MAX_USER_AGENT - 1);
    }
}
