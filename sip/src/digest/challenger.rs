//! The server's side (RFC 3261 §22.1 to §22.3, RFC 7616 §3.3 to §3.4).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytestring::ByteString;
use subtle::ConstantTimeEq as _;

use super::count::{NonceCounts, Use};
use super::nonce::Nonces;
use super::{Algorithm, Credentials, Guesses, Ha1, Qop, Standing, Statement};
use crate::message::header::auth::{Parameters, Row, unescape};
use crate::message::header::params::quote;
use crate::message::uri::Scheme;
use crate::message::{Method, Name, Request, Response, StatusCode, Uri};

/// Most rows of Authorization or Proxy-Authorization that are looked at; a request with more is malformed.
const MAX_ROWS: usize = 8;
/// How long a nonce may be answered without qop. Such an answer (RFC 2069) has no count and no cnonce, so it must come at once, and uses
/// the nonce up.
const WITHOUT_QOP: Duration = Duration::from_secs(30);

/// Who asks for credentials (§22.2, §22.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A UAS or registrar: 401, WWW-Authenticate, Authorization.
    Server,
    /// A proxy: 407, Proxy-Authenticate, Proxy-Authorization.
    Proxy,
}

impl Side {
    /// Returns the status of a challenge.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Server => StatusCode::UNAUTHORIZED,
            Self::Proxy => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
        }
    }

    /// Returns the header of a challenge.
    #[must_use]
    pub fn challenge_header(self) -> Name {
        match self {
            Self::Server => Name::WwwAuthenticate,
            Self::Proxy => Name::ProxyAuthenticate,
        }
    }

    /// Returns the header of the answer.
    #[must_use]
    pub fn credentials_header(self) -> Name {
        match self {
            Self::Server => Name::Authorization,
            Self::Proxy => Name::ProxyAuthorization,
        }
    }
}

/// Which nonces are bound to the address they were sent to. Those for REGISTER always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// Only those for REGISTER: for peers that send from several addresses.
    Register,
    /// All.
    All,
}

/// What the challenger allows.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Which nonces are bound to an address. Default: all.
    pub bind: Bind,
    /// How long a nonce is good for REGISTER. Default: 65 minutes, so that a refresh within the hour needs no second round trip;
    /// harmless, because a count is taken once.
    pub register_lifetime: Duration,
    /// How long a nonce is good for any other request. Default: 5 minutes.
    pub lifetime: Duration,
    /// Wrong answers per minute that one account, and one address, may give. Default: 10.
    pub guesses_per_minute: u32,
    /// The algorithms of a challenge, the preferred one first (RFC 8760 §2.4). Default: MD5 alone, because phones in use give up when
    /// they see another one (`docs/interop.md`).
    pub offered: Vec<Algorithm>,
    /// Our addresses: a digest-uri may name the server by one of them. Default: none.
    pub own: Vec<IpAddr>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            bind: Bind::All,
            register_lifetime: Duration::from_secs(65 * 60),
            lifetime: Duration::from_secs(5 * 60),
            guesses_per_minute: 10,
            offered: vec![Algorithm::Md5],
            own: Vec::new(),
        }
    }
}

/// Whether the answer was right but its nonce was not (RFC 7616 §3.3): then the client tries again without asking its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// `stale=true`
    Yes,
    /// No `stale` parameter.
    No,
}

/// The result of [`Challenger::verify`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The sender knows the password of `credentials.username()`. Whether that user may send this request is the caller's question.
    Ok,
    /// Challenge it (again).
    Challenge(Stale),
    /// Too many wrong answers for this account or from this address. Answer exactly as to `Challenge(Stale::No)`: whoever guesses must
    /// not learn that the guess did not count. It is a verdict of its own for the log.
    Blocked,
    /// 400 with this reason.
    Malformed(&'static str),
}

/// Makes challenges and checks the answers.
pub struct Challenger {
    realm: ByteString,
    policy: Policy,
    nonces: Nonces,
    counts: NonceCounts,
    guesses: Guesses,
    /// What an answer for an unknown user is checked against, so that it takes as long as any other.
    nobody: Ha1,
}

impl Challenger {
    /// Makes a challenger. The secret is random and of this process alone: with an old one, answers that were used before the start
    /// could be used again. `started` is any instant before the first call.
    #[must_use]
    pub fn new(secret: [u8; 32], realm: &str, policy: Policy, started: Instant) -> Self {
        Self {
            realm: realm.into(),
            nonces: Nonces::new(&secret, realm, started),
            counts: NonceCounts::new(),
            guesses: Guesses::new(policy.guesses_per_minute),
            nobody: Ha1 { md5: [0; 16], sha256: secret },
            policy,
        }
    }

    /// Returns the realm.
    #[must_use]
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Finds the credentials for our realm; those for other realms are passed over (§22.3). None means: challenge the request, there is
    /// nothing to verify.
    ///
    /// ACK and CANCEL are not challenged (§22.1); they belong to a request that was.
    ///
    /// # Errors
    /// A row is malformed: 400 with this reason.
    pub fn credentials<'r>(&self, request: &'r Request, side: Side) -> Result<Option<Credentials<'r>>, &'static str> {
        for (at, row) in request.headers.all(side.credentials_header()).enumerate() {
            if at == MAX_ROWS {
                return Err("too many credentials");
            }
            match Parameters::parse(row) {
                Row::OtherScheme => {}
                Row::Malformed => return Err("malformed credentials"),
                Row::Digest(row) if row.realm.is_some_and(|realm| unescape(realm) == *self.realm) => {
                    return Credentials::of(&row).map(Some).ok_or("credentials lack a parameter");
                }
                Row::Digest(_) => {}
            }
        }
        Ok(None)
    }

    /// Checks credentials. `ha1` is that of `credentials.username()`, none if there is no such user: the work and the verdict are the
    /// same as for a wrong password.
    pub fn verify(
        &mut self,
        now: Instant,
        request: &Request,
        credentials: &Credentials<'_>,
        ha1: Option<&Ha1>,
        source: IpAddr,
        standing: Standing,
    ) -> Verdict {
        let known = Algorithm::parse(credentials.algorithm)
            .filter(|algorithm| *algorithm == Algorithm::Sha256 || self.policy.offered.contains(algorithm));
        let Some(algorithm) = known else { return Verdict::Challenge(Stale::No) };
        let (qop, wanted) = match proof(credentials, algorithm) {
            Ok(proof) => proof,
            Err(reason) => return Verdict::Malformed(reason),
        };
        if !is_same_target(credentials.uri, &request.uri) && !self.is_ourselves(credentials.uri) {
            return Verdict::Malformed("the digest is for another URI");
        }
        let statement = Statement { method: request.method.as_str(), uri: credentials.uri, nonce: credentials.nonce, qop };
        let expected = super::response(algorithm, ha1.unwrap_or(&self.nobody), &statement);
        let is_equal = bool::from(expected.as_bytes().ct_eq(&lower(credentials.response)));
        let account = credentials.username();
        if self.guesses.is_blocked(now, &account, source, standing) {
            return Verdict::Blocked;
        }
        if !(is_equal & ha1.is_some()) {
            self.guesses.wrong(now, &account, source);
            return Verdict::Challenge(Stale::No);
        }
        // Only who knows the password learns whether the nonce is good.
        if self.use_nonce(now, &request.method, credentials.nonce, wanted, source) { Verdict::Ok } else { Verdict::Challenge(Stale::Yes) }
    }

    /// Returns true if the nonce is ours, young enough, bound as it must be, and the count was not taken before.
    fn use_nonce(&mut self, now: Instant, method: &Method, text: &str, wanted: Use, source: IpAddr) -> bool {
        let Some(nonce) = self.nonces.read(text, source) else { return false };
        let Some(age) = self.nonces.age(now, nonce) else { return false };
        let lifetime = match wanted {
            Use::Whole => WITHOUT_QOP,
            Use::Count(_) if *method == Method::Register => self.policy.register_lifetime,
            Use::Count(_) => self.policy.lifetime,
        };
        if age > lifetime || (self.is_bound(method) && !nonce.bound) {
            return false;
        }
        let longest = self.policy.register_lifetime.max(self.policy.lifetime).as_secs();
        let oldest = u64::from(self.nonces.seconds(now)).saturating_sub(longest);
        self.counts.take(nonce, wanted, u32::try_from(oldest).unwrap_or(u32::MAX))
    }

    /// Returns true for a digest-uri that names the server and nothing else, as SIPp writes it: it says less than the Request-URI, and
    /// nothing that contradicts it.
    fn is_ourselves(&self, digest: &str) -> bool {
        let Some(uri) = Uri::parse(&digest.into()) else { return false };
        let Some(host) = uri.host() else { return false };
        uri.user().is_empty() && (self.realm == host.to_string() || host.ip().is_some_and(|ip| self.policy.own.contains(&ip)))
    }

    fn is_bound(&self, method: &Method) -> bool {
        self.policy.bind == Bind::All || *method == Method::Register
    }

    /// Makes the 401 or 407 to a request, with one challenge for each algorithm offered. The To tag is the caller's. `unique` is
    /// another number for each call, such as a random one: two clients behind one address must not be given the same nonce.
    #[must_use]
    pub fn challenge(&self, now: Instant, request: &Request, side: Side, source: IpAddr, unique: u32, stale: Stale) -> Response {
        let nonce = self.nonces.issue(now, unique, self.is_bound(&request.method).then_some(source));
        let nonce = std::str::from_utf8(&nonce).expect("its digits are ASCII");
        let realm = quote(&self.realm);
        let stale = match stale {
            Stale::Yes => ", stale=true",
            Stale::No => "",
        };
        let mut response = Response::to(request, side.status());
        for algorithm in &self.policy.offered {
            let token = algorithm.token();
            let row = format!("Digest realm={realm}, nonce=\"{nonce}\", algorithm={token}, qop=\"auth\"{stale}");
            response.headers.push(side.challenge_header(), row);
        }
        response
    }
}

/// Reads qop with its cnonce and count.
fn proof<'a>(credentials: &Credentials<'a>, algorithm: Algorithm) -> Result<(Qop<'a>, Use), &'static str> {
    match credentials.qop {
        // RFC 2069 clients answer so even where qop is offered; SHA-256 came with qop (RFC 7616 §3.4).
        None if algorithm == Algorithm::Md5 => Ok((Qop::None, Use::Whole)),
        None => Err("SHA-256 without qop"),
        Some(qop) if qop.eq_ignore_ascii_case("auth") => {
            let (Some(nc), Some(cnonce)) = (credentials.nc, credentials.cnonce) else { return Err("qop without nc and cnonce") };
            let count = Some(nc).filter(|nc| nc.len() == 8 && nc.bytes().all(|b| b.is_ascii_hexdigit()));
            let count = count.and_then(|nc| u32::from_str_radix(nc, 16).ok()).ok_or("malformed nc")?;
            Ok((Qop::Auth { nc, cnonce }, Use::Count(count)))
        }
        Some(_) => Err("qop was not offered"),
    }
}

/// Returns the first 64 bytes in lower case, as hashes are compared; anything longer is no hash and stays unequal.
fn lower(response: &str) -> smallvec::SmallVec<[u8; 64]> {
    response.bytes().take(65).map(|b| b.to_ascii_lowercase()).collect()
}

/// Compares the digest-uri with the Request-URI (§22.4 item 4). Equivalence of §19.1.4, less what known phones leave out: parameters, and
/// the default port. Neither changes who we take the target to be, so an answer cannot be moved to another one.
fn is_same_target(digest: &str, request: &Uri) -> bool {
    if digest == request.as_str() {
        return true;
    }
    let Some(digest) = Uri::parse(&digest.into()) else { return false };
    match digest.scheme() {
        Scheme::Sip | Scheme::Sips => {}
        Scheme::Tel | Scheme::Other => return digest.is_equivalent(request),
    }
    let port = |uri: &Uri| uri.port().unwrap_or(if uri.scheme() == Scheme::Sips { 5061 } else { 5060 });
    let contradicts = |(name, value): (&str, &str)| request.param(name).is_some_and(|other| !other.eq_ignore_ascii_case(value));
    digest.scheme() == request.scheme()
        && digest.host() == request.host()
        && port(&digest) == port(request)
        && digest.user_unescaped().is_some_and(|user| request.user_unescaped() == Some(user))
        && !digest.params().iter().any(contradicts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Answered, Login, Refusal, answer};
    use crate::time::origin;

    const REALM: &str = "tandem.test";

    /// A switch that knows ann, and what it sees of one client.
    struct Scene {
        switch: Challenger,
        ann: Ha1,
        now: Instant,
        unique: u32,
        source: IpAddr,
        side: Side,
    }

    impl Scene {
        fn new() -> Self {
            Self::with(Policy { offered: Algorithm::ALL.to_vec(), ..Policy::default() })
        }

        fn with(policy: Policy) -> Self {
            let now = origin();
            let switch = Challenger::new([3; 32], REALM, policy, now);
            let ann = Ha1::new("ann", REALM, "secret");
            Self { switch, ann, now, unique: 0, source: "192.0.2.7".parse().unwrap(), side: Side::Server }
        }

        fn challenge(&mut self, method: &Method) -> Response {
            self.unique += 1;
            self.switch.challenge(self.now, &request(method.clone()), self.side, self.source, self.unique, Stale::No)
        }

        fn verify(&mut self, request: &Request) -> Verdict {
            let Some(credentials) = self.switch.credentials(request, self.side).unwrap() else { return Verdict::Challenge(Stale::No) };
            let ann = (credentials.username() == "ann").then_some(&self.ann);
            self.switch.verify(self.now, request, &credentials, ann, self.source, Standing::Stranger)
        }

        /// Sends a request, is challenged, and returns the request with the answer.
        fn answered(&mut self, method: Method, username: &str, password: &str) -> Request {
            self.answer(request(method), username, password)
        }

        fn answer(&mut self, mut request: Request, username: &str, password: &str) -> Request {
            let challenge = self.challenge(&request.method);
            let login = Login { username: username.into(), password: password.into(), realm: Some(REALM.into()) };
            answer(&mut Answered::default(), &login, &challenge, &mut request, "cnonce").unwrap();
            request
        }

        fn pass(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }
    }

    fn uri(text: &str) -> Uri {
        Uri::parse(&text.into()).unwrap()
    }

    fn request(method: Method) -> Request {
        Request::new(method, uri("sip:tandem.test"))
    }

    fn row(request: &Request) -> String {
        String::from_utf8(request.headers.get(Name::Authorization).unwrap().to_vec()).unwrap()
    }

    fn with_row(request: &Request, row: &str) -> Request {
        let mut request = request.clone();
        request.headers.set(Name::Authorization, row);
        request
    }

    /// An answer without SHA-256 or qop, computed by hand.
    fn legacy(scene: &mut Scene, algorithm: Algorithm, tail: &str) -> Request {
        let challenge = scene.challenge(&Method::Register);
        let Row::Digest(row) = Parameters::parse(challenge.headers.get(Name::WwwAuthenticate).unwrap()) else { panic!("no challenge") };
        let nonce = row.nonce.unwrap();
        let statement = Statement { method: "REGISTER", uri: "sip:tandem.test", nonce, qop: Qop::None };
        let hash = super::super::response(algorithm, &scene.ann, &statement);
        let hash = std::str::from_utf8(hash.as_bytes()).unwrap();
        let row = format!("Digest username=\"ann\",realm=\"{REALM}\",nonce=\"{nonce}\",uri=\"sip:tandem.test\",response=\"{hash}\"{tail}");
        with_row(&request(Method::Register), &row)
    }

    #[test]
    fn both_algorithms_are_offered_the_strong_one_first() {
        let mut scene = Scene::new();
        let response = scene.challenge(&Method::Register);
        let rows: Vec<_> = response.headers.all(Name::WwwAuthenticate).map(String::from_utf8_lossy).collect();
        assert!(rows[0].contains("algorithm=SHA-256") && rows[1].contains("algorithm=MD5"), "{rows:?}");
        assert!(rows.iter().all(|row| row.contains("qop=\"auth\"") && !row.contains("stale")));
    }

    #[test]
    fn the_right_password_is_accepted_with_either_algorithm_and_on_either_side() {
        let mut scene = Scene::new();
        let request = scene.answered(Method::Register, "ann", "secret");
        assert_eq!(scene.verify(&request), Verdict::Ok);
        let request = legacy(&mut scene, Algorithm::Md5, "");
        assert_eq!(scene.verify(&request), Verdict::Ok);
        scene.side = Side::Proxy;
        let request = scene.answered(Method::Invite, "ann", "secret");
        assert!(request.headers.has(Name::ProxyAuthorization));
        assert_eq!(scene.verify(&request), Verdict::Ok);
    }

    #[test]
    fn known_and_unknown_users_get_the_same_verdict() {
        let mut scene = Scene::new();
        for user in ["ann", "nobody"] {
            let request = scene.answered(Method::Register, user, "wrong");
            assert_eq!(scene.verify(&request), Verdict::Challenge(Stale::No), "{user}");
        }
        // Who computes with the hash that stands in for an unknown user is none the wiser.
        let nobody = Ha1 { md5: [0; 16], sha256: [3; 32] };
        scene.ann = nobody;
        let request = legacy(&mut scene, Algorithm::Md5, "");
        let request = with_row(&request, &row(&request).replace("\"ann\"", "\"nobody\""));
        assert_eq!(scene.verify(&request), Verdict::Challenge(Stale::No));
    }

    #[test]
    fn an_answer_is_taken_once_and_its_nonce_with_a_higher_count() {
        let mut scene = Scene::new();
        let request = scene.answered(Method::Register, "ann", "secret");
        assert_eq!(scene.verify(&request), Verdict::Ok);
        assert_eq!(scene.verify(&request), Verdict::Challenge(Stale::Yes)); // replayed
        let again = row(&request).replace("nc=00000001", "nc=00000002");
        assert_eq!(scene.verify(&with_row(&request, &again)), Verdict::Challenge(Stale::No), "the count is part of the proof");
    }

    #[test]
    fn an_answer_may_name_the_server_instead_of_the_target() {
        let own = "127.0.0.1".parse().unwrap();
        let mut scene = Scene::with(Policy { own: vec![own], ..Policy::default() });
        for (named, verdict) in [
            ("sip:tandem.test", Verdict::Ok),
            ("sip:127.0.0.1:5060", Verdict::Ok),
            ("sip:127.0.0.2:5060", Verdict::Malformed("the digest is for another URI")),
            ("sip:eve@127.0.0.1", Verdict::Malformed("the digest is for another URI")),
        ] {
            let mut request = scene.answer(Request::new(Method::Invite, uri(named)), "ann", "secret");
            request.uri = uri("sip:bob@tandem.test");
            assert_eq!(scene.verify(&request), verdict, "{named}");
        }
    }

    #[test]
    fn an_answer_for_another_method_or_uri_is_refused() {
        let mut scene = Scene::new();
        let mut request = scene.answered(Method::Register, "ann", "secret");
        request.method = Method::Invite;
        assert_eq!(scene.verify(&request), Verdict::Challenge(Stale::No));
        let mut request = scene.answer(Request::new(Method::Invite, uri("sip:bob@tandem.test")), "ann", "secret");
        request.uri = uri("sip:eve@tandem.test");
        assert_eq!(scene.verify(&request), Verdict::Malformed("the digest is for another URI"));
    }

    #[test]
    fn the_digest_uri_may_leave_out_parameters_and_the_default_port() {
        for (digest, target) in [
            ("sip:tandem.test", "sip:tandem.test;transport=tls"),
            ("sip:TANDEM.test:5060", "sip:tandem.test"),
            ("sip:%61nn@h", "sip:ann@h"),
            ("sip:ann@h;transport=UDP;x=1", "sip:ann@h;transport=udp"),
            ("tel:+1", "tel:+1"),
        ] {
            assert!(is_same_target(digest, &uri(target)), "{digest} {target}");
        }
        for (digest, target) in [
            ("sip:tandem.test", "sips:tandem.test"),
            ("sip:ann@h", "sip:Ann@h"),
            ("sip:h", "sip:ann@h"),
            ("sip:h:5062", "sip:h"),
            ("sip:h;transport=tcp", "sip:h;transport=udp"),
            ("tel:+1", "tel:+2"),
            ("*", "sip:h"),
            ("", "sip:h"),
        ] {
            assert!(!is_same_target(digest, &uri(target)), "{digest} {target}");
        }
    }

    #[test]
    fn an_old_nonce_is_stale() {
        let mut scene = Scene::new();
        let request = scene.answered(Method::Register, "ann", "secret");
        scene.pass(65 * 60 + 1);
        assert_eq!(scene.verify(&request), Verdict::Challenge(Stale::Yes));
        let request = scene.answered(Method::Invite, "ann", "secret");
        scene.pass(5 * 60 + 1);
        assert_eq!(scene.verify(&request), Verdict::Challenge(Stale::Yes));
        let request = scene.answered(Method::Invite, "ann", "secret");
        scene.pass(5 * 60);
        assert_eq!(scene.verify(&request), Verdict::Ok);
    }

    #[test]
    fn a_nonce_of_before_the_restart_is_stale_and_a_made_up_one_too() {
        let mut scene = Scene::new();
        let request = scene.answered(Method::Register, "ann", "secret");
        scene.switch = Challenger::new([4; 32], REALM, Policy::default(), scene.now);
        assert_eq!(scene.verify(&request), Verdict::Challenge(Stale::Yes));
    }

    #[test]
    fn a_nonce_for_register_is_bound_to_its_address() {
        let mut scene = Scene::with(Policy { bind: Bind::Register, ..Policy::default() });
        let register = scene.answered(Method::Register, "ann", "secret");
        let invite = scene.answered(Method::Invite, "ann", "secret");
        let home = std::mem::replace(&mut scene.source, "192.0.2.8".parse().unwrap());
        assert_eq!(scene.verify(&register), Verdict::Challenge(Stale::Yes));
        assert_eq!(scene.verify(&invite), Verdict::Ok, "bound only for REGISTER");
        // A nonce that was not bound does not become good for REGISTER.
        let mut request = request(Method::Register);
        let login = Login { username: "ann".into(), password: "secret".into(), realm: None };
        let challenge = scene.challenge(&Method::Invite);
        answer(&mut Answered::default(), &login, &challenge, &mut request, "c").unwrap();
        assert_eq!(scene.verify(&request), Verdict::Challenge(Stale::Yes));
        scene.source = home;
        assert_eq!(scene.verify(&register), Verdict::Ok);
    }

    #[test]
    fn an_answer_without_qop_must_come_at_once_and_uses_up_the_nonce() {
        let mut scene = Scene::new();
        let request = legacy(&mut scene, Algorithm::Md5, ",algorithm=MD5");
        assert_eq!(scene.verify(&request), Verdict::Ok);
        assert_eq!(scene.verify(&request), Verdict::Challenge(Stale::Yes));
        let request = legacy(&mut scene, Algorithm::Md5, "");
        scene.pass(31);
        assert_eq!(scene.verify(&request), Verdict::Challenge(Stale::Yes));
        let request = legacy(&mut scene, Algorithm::Sha256, ",algorithm=SHA-256");
        assert_eq!(scene.verify(&request), Verdict::Malformed("SHA-256 without qop"));
    }

    #[test]
    fn credentials_for_a_strange_realm_are_as_none() {
        // S12
        let scene = Scene::new();
        let mut request = request(Method::Register);
        request.headers.push(Name::Authorization, "Digest username=\"ann\",realm=\"other\",nonce=\"n\",uri=\"sip:h\",response=\"\"");
        request.headers.push(Name::Authorization, "Bearer x");
        assert!(matches!(scene.switch.credentials(&request, Side::Server), Ok(None)));
        request.headers.push(Name::Authorization, format!("Digest username=\"bob\",realm=\"{REALM}\",nonce=\"\",uri=\"\",response=\"\""));
        let found = scene.switch.credentials(&request, Side::Server).unwrap().unwrap();
        assert_eq!(found.username(), "bob");
        assert!(matches!(scene.switch.credentials(&request, Side::Proxy), Ok(None)));
    }

    #[test]
    fn broken_credentials_are_malformed() {
        // S12
        let mut scene = Scene::new();
        let good = scene.answered(Method::Register, "ann", "secret");
        let text = row(&good);
        for (from, to, reason) in [
            ("nc=00000001", "nc=1", "malformed nc"),
            ("nc=00000001", "nc=+0000001", "malformed nc"),
            ("nc=00000001, ", "", "qop without nc and cnonce"),
            ("qop=auth", "qop=auth-int", "qop was not offered"),
            ("qop=auth, ", "", "SHA-256 without qop"),
        ] {
            assert_eq!(scene.verify(&with_row(&good, &text.replace(from, to))), Verdict::Malformed(reason), "{to}");
        }
        let missing = with_row(&good, &text.replace("uri=", "xuri="));
        assert!(scene.switch.credentials(&missing, Side::Server).is_err());
        let double = with_row(&good, &format!("{text}, realm=\"{REALM}\""));
        assert!(scene.switch.credentials(&double, Side::Server).is_err());
        let mut many = good.clone();
        for _ in 0..=MAX_ROWS {
            many.headers.push_front(Name::Authorization, "Bearer x");
        }
        assert!(scene.switch.credentials(&many, Side::Server).is_err());
        let unknown = with_row(&good, &text.replace("algorithm=SHA-256", "algorithm=X"));
        assert_eq!(scene.verify(&unknown), Verdict::Challenge(Stale::No));
        for bad in ["", "\u{e9}", &"f".repeat(100_000), &"0".repeat(64)] {
            let start = text.find("response=\"").unwrap() + 10;
            let changed = format!("{}{bad}{}", &text[..start], &text[start + 64..]);
            assert_eq!(scene.verify(&with_row(&good, &changed)), Verdict::Challenge(Stale::No));
        }
    }

    #[test]
    fn guessing_ends_after_the_limit_even_with_the_right_password() {
        let mut scene = Scene::new();
        for user in ["ann", "nobody"] {
            for _ in 0..10 {
                let wrong = scene.answered(Method::Register, user, "wrong");
                assert_eq!(scene.verify(&wrong), Verdict::Challenge(Stale::No));
            }
            let right = scene.answered(Method::Register, user, "secret");
            assert_eq!(scene.verify(&right), Verdict::Blocked, "{user}");
            scene.pass(120);
        }
        let right = scene.answered(Method::Register, "ann", "secret");
        assert_eq!(scene.verify(&right), Verdict::Ok);
    }

    #[test]
    fn a_made_up_nonce_is_no_way_around_the_limit() {
        let mut scene = Scene::new();
        let wrong = scene.answered(Method::Register, "ann", "wrong");
        let nonce = row(&wrong).split("nonce=\"").nth(1).unwrap()[..28].to_owned();
        for n in 0..11 {
            let row = row(&wrong).replace(&nonce, &format!("{n:028}"));
            let expected = if n < 10 { Verdict::Challenge(Stale::No) } else { Verdict::Blocked };
            assert_eq!(scene.verify(&with_row(&wrong, &row)), expected);
        }
    }

    #[test]
    fn a_client_gives_up_when_the_password_is_wrong_and_not_when_the_nonce_is_stale() {
        let mut scene = Scene::new();
        let login = Login { username: "ann".into(), password: "secret".into(), realm: Some(REALM.into()) };
        let mut answered = Answered::default();
        let mut request = request(Method::Register);
        answer(&mut answered, &login, &scene.challenge(&Method::Register), &mut request, "c").unwrap();
        scene.pass(66 * 60);
        assert_eq!(scene.verify(&request), Verdict::Challenge(Stale::Yes));
        let response = scene.switch.challenge(scene.now, &request, Side::Server, scene.source, 99, Stale::Yes);
        answer(&mut answered, &login, &response, &mut request, "c").unwrap();
        assert_eq!(scene.verify(&request), Verdict::Ok);
        let again = scene.challenge(&Method::Register);
        assert_eq!(answer(&mut answered, &login, &again, &mut request, "c"), Err(Refusal::Refused));
    }
}
