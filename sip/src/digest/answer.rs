//! The client's side (RFC 3261 §22.2, §22.3, RFC 8760 §2.5): answers to challenges for the configured realm only.

use std::fmt::Write as _;

use super::{Algorithm, Ha1, Qop, Side, Statement};
use crate::message::header::auth::{Parameters, Row, remove_credentials, unescape};
use crate::message::header::params::quote;
use crate::message::{Request, Response};

/// Most challenges of one response that are looked at; further ones are passed over.
const MAX_ROWS: usize = 16;

/// The user name and password we have at a peer. It has no `Debug`.
#[derive(Clone)]
pub struct Login {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: String,
    /// The one realm to answer; none answers whatever realm the peer names, so use it only for challenges of that very peer (S12).
    pub realm: Option<String>,
}

/// What was answered so far in one attempt to get a request through.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    /// Realm and nonce of each answer.
    nonces: Vec<(String, String)>,
}

impl Answered {
    /// Most answers of one attempt; after that the attempt has failed, whatever the server says (S12: no endless re-authentication).
    pub const MAX: usize = 4;

    fn may_answer(&self, realm: &str, challenge: &Parameters<'_>) -> bool {
        let is_stale = challenge.stale.is_some_and(|stale| stale.eq_ignore_ascii_case("true"));
        let of_realm = self.nonces.iter().filter(|(answered, _)| answered == realm).count();
        let is_new = self.nonces.iter().all(|(_, nonce)| Some(nonce.as_str()) != challenge.nonce);
        is_new && self.nonces.len() < Self::MAX && (of_realm == 0 || (of_realm == 1 && is_stale))
    }
}

/// Why a challenge is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No challenge is for our realm.
    #[error("challenged for another realm")]
    OtherRealm,
    /// None uses an algorithm and a qop that we know.
    #[error("no challenge we can answer")]
    Unsupported,
    /// Our last answer was refused: the user name or the password is wrong.
    #[error("the answer was refused")]
    Refused,
}

/// Answers the 401 or 407 to a request of ours: sets its Authorization or Proxy-Authorization for the challenged realm. The caller
/// then raises CSeq and sends it with a new branch. In each header only the topmost challenge that we support is answered (RFC 8760
/// §2.5), each nonce once, and a second one only if the server calls the first stale (S12).
///
/// `cnonce` is random, at least 64 bits, and of token characters.
///
/// # Errors
/// See [`Refusal`]; the request is unchanged then.
pub fn answer(answered: &mut Answered, login: &Login, response: &Response, request: &mut Request, cnonce: &str) -> Result<(), Refusal> {
    let mut rows = Vec::new();
    let mut fault = Refusal::OtherRealm;
    // A forking proxy may have put challenges of both kinds into one response (§22.3).
    for side in [Side::Server, Side::Proxy] {
        let found = response.headers.all(side.challenge_header()).take(MAX_ROWS).find_map(|row| {
            let (challenge, realm) = for_login(row, login)?;
            fault = Refusal::Unsupported;
            let (algorithm, qop) = supported(&challenge, request, cnonce)?;
            Some((challenge, realm, algorithm, qop))
        });
        let Some((challenge, realm, algorithm, qop)) = found else { continue };
        if !answered.may_answer(&realm, &challenge) {
            return Err(Refusal::Refused);
        }
        let row = credentials(login, &challenge, &realm, algorithm, qop, request);
        rows.push((side.credentials_header(), realm, challenge.nonce.unwrap_or_default().to_owned(), row));
    }
    if rows.is_empty() {
        return Err(fault);
    }
    for (header, realm, nonce, row) in rows {
        remove_credentials(&mut request.headers, header, &realm);
        request.headers.push(header, row);
        answered.nonces.push((realm, nonce));
    }
    Ok(())
}

/// Reads a challenge; none if it is not for the login's realm.
fn for_login<'r>(row: &'r [u8], login: &Login) -> Option<(Parameters<'r>, String)> {
    let Row::Digest(challenge) = Parameters::parse(row) else { return None };
    let realm = unescape(challenge.realm?).into_owned();
    login.realm.as_ref().is_none_or(|ours| *ours == realm).then_some((challenge, realm))
}

/// Chooses the algorithm and the qop; auth where it is offered, auth-int only where nothing else is.
fn supported<'a>(challenge: &Parameters<'_>, request: &'a Request, cnonce: &'a str) -> Option<(Algorithm, Qop<'a>)> {
    challenge.nonce?;
    let algorithm = Algorithm::parse(challenge.algorithm)?;
    let Some(offered) = challenge.qop else { return Some((algorithm, Qop::None)) };
    let offers = |wanted: &str| offered.split(',').any(|qop| qop.trim().eq_ignore_ascii_case(wanted));
    let nc = "00000001";
    match () {
        () if offers("auth") => Some((algorithm, Qop::Auth { nc, cnonce })),
        () if offers("auth-int") => Some((algorithm, Qop::AuthInt { nc, cnonce, body: &request.body })),
        () => None,
    }
}

fn credentials(login: &Login, challenge: &Parameters<'_>, realm: &str, algorithm: Algorithm, qop: Qop<'_>, request: &Request) -> String {
    let ha1 = Ha1::new(&login.username, realm, &login.password);
    let (uri, nonce) = (request.uri.as_str(), challenge.nonce.unwrap_or_default());
    let hash = super::response(algorithm, &ha1, &Statement { method: request.method.as_str(), uri, nonce, qop });
    let response = std::str::from_utf8(hash.as_bytes()).expect("hex is ASCII");
    let (username, realm) = (quote(&login.username), quote(realm));
    let mut row = format!("Digest username={username}, realm={realm}, nonce=\"{nonce}\", uri=\"{uri}\", response=\"{response}\"");
    let mut add = |text: std::fmt::Arguments<'_>| row.write_fmt(text).expect("a String takes all text");
    if challenge.algorithm.is_some() {
        add(format_args!(", algorithm={}", algorithm.token()));
    }
    match qop {
        Qop::None => {}
        Qop::Auth { nc, cnonce } => add(format_args!(", qop=auth, nc={nc}, cnonce=\"{cnonce}\"")),
        Qop::AuthInt { nc, cnonce, .. } => add(format_args!(", qop=auth-int, nc={nc}, cnonce=\"{cnonce}\"")),
    }
    if let Some(opaque) = challenge.opaque {
        add(format_args!(", opaque=\"{opaque}\""));
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Method, Name, StatusCode, Uri};

    fn login(realm: Option<&str>) -> Login {
        Login { username: "bob".into(), password: "zanzibar".into(), realm: realm.map(str::to_owned) }
    }

    fn request() -> Request {
        let mut request = Request::new(Method::Invite, Uri::parse(&"sip:bob@biloxi.com".into()).unwrap());
        request.body = bytes::Bytes::from_static(b"v=0\r\n");
        request
    }

    fn challenged(rows: &[(Name, &str)]) -> Response {
        let mut response = Response::new(StatusCode::UNAUTHORIZED);
        for (name, row) in rows {
            response.headers.push(*name, row);
        }
        response
    }

    fn try_answer(login: &Login, row: &str) -> Result<String, Refusal> {
        let mut request = request();
        answer(&mut Answered::default(), login, &challenged(&[(Name::WwwAuthenticate, row)]), &mut request, "0a4f113b")?;
        Ok(String::from_utf8(request.headers.get(Name::Authorization).unwrap().to_vec()).unwrap())
    }

    #[test]
    fn the_examples_of_the_digest_authentication_examples_draft() {
        // draft-smith-sipping-auth-examples-01, sections 3.1 to 3.4, computed there for the same user, URI and nonce.
        let challenge =
            "Digest realm=\"biloxi.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"";
        let plain = try_answer(&login(Some("biloxi.com")), challenge).unwrap();
        assert!(plain.contains("response=\"bf57e4e0d0bffc0fbaedce64d59add5e\""), "{plain}");
        assert!(plain.ends_with(", opaque=\"5ccc069c403ebaf9f0171e9517f40e41\""), "{plain}");
        let auth = try_answer(&login(None), &format!("{challenge}, qop=\"auth,auth-int\", algorithm=md5")).unwrap();
        assert!(auth.contains("response=\"89eb0059246c02b2f6ee02c7961d5ea3\""), "{auth}");
        assert!(auth.contains(", qop=auth, nc=00000001, cnonce=\"0a4f113b\""), "{auth}");
    }

    #[test]
    fn the_topmost_supported_challenge_for_our_realm_is_answered() {
        // RFC 8760 §2.5
        let rows = [
            (Name::WwwAuthenticate, "Digest realm=\"other\", nonce=\"1\", qop=\"auth\""),
            (Name::WwwAuthenticate, "Digest realm=\"r\", nonce=\"2\", algorithm=SHA-512-256, qop=\"auth\""),
            (Name::WwwAuthenticate, "Digest realm=\"r\", nonce=\"3\", algorithm=SHA-256, qop=\"auth\""),
            (Name::WwwAuthenticate, "Digest realm=\"r\", nonce=\"4\", algorithm=MD5, qop=\"auth\""),
        ];
        let mut request = request();
        answer(&mut Answered::default(), &login(Some("r")), &challenged(&rows), &mut request, "c").unwrap();
        let rows: Vec<_> = request.headers.all(Name::Authorization).map(String::from_utf8_lossy).collect();
        assert_eq!(rows.len(), 1);
        assert!(rows[0].contains("nonce=\"3\"") && rows[0].contains("algorithm=SHA-256"), "{}", rows[0]);
    }

    #[test]
    fn no_strange_realm_gets_an_answer() {
        // S12
        let ours = login(Some("biloxi.com"));
        assert_eq!(try_answer(&ours, "Digest realm=\"evil\", nonce=\"1\""), Err(Refusal::OtherRealm));
        assert_eq!(try_answer(&ours, "Digest nonce=\"1\""), Err(Refusal::OtherRealm));
        assert_eq!(try_answer(&ours, "Basic realm=\"biloxi.com\""), Err(Refusal::OtherRealm));
        assert_eq!(try_answer(&ours, "Digest realm=\"biloxi.com\", nonce=\"1\", qop=\"x\""), Err(Refusal::Unsupported));
        assert_eq!(try_answer(&ours, "Digest realm=\"biloxi.com\", nonce=\"1\", algorithm=MD5-sess"), Err(Refusal::Unsupported));
        assert_eq!(try_answer(&ours, "Digest realm=\"biloxi.com\""), Err(Refusal::Unsupported));
    }

    #[test]
    fn a_refused_answer_is_given_again_only_if_the_nonce_was_stale() {
        // S12: endless re-authentication
        let mut answered = Answered::default();
        let mut request = request();
        let mut turn = |row: &str| answer(&mut answered, &login(None), &challenged(&[(Name::WwwAuthenticate, row)]), &mut request, "c");
        assert_eq!(turn("Digest realm=\"r\", nonce=\"1\""), Ok(()));
        assert_eq!(turn("Digest realm=\"r\", nonce=\"1\", stale=true"), Err(Refusal::Refused));
        assert_eq!(turn("Digest realm=\"r\", nonce=\"2\", stale=false"), Err(Refusal::Refused));
        assert_eq!(turn("Digest realm=\"r\", nonce=\"2\", stale=TRUE"), Ok(()));
        assert_eq!(turn("Digest realm=\"r\", nonce=\"3\", stale=true"), Err(Refusal::Refused));
        for n in 0..10 {
            let done = turn(&format!("Digest realm=\"r{n}\", nonce=\"x{n}\""));
            assert_eq!(done.is_ok(), n < 2, "{n}");
        }
        assert_eq!(request.headers.all(Name::Authorization).filter(|row| row.windows(9).any(|w| w == b"realm=\"r\"")).count(), 1);
    }

    #[test]
    fn a_quoted_value_of_the_server_cannot_break_our_row() {
        // S7
        let row = try_answer(&login(None), "Digest realm=\"a\\\"b\", nonce=\"x\\\"y\", opaque=\"\\\\\"").unwrap();
        assert!(row.contains("realm=\"a\\\"b\", nonce=\"x\\\"y\""), "{row}");
        assert!(matches!(Parameters::parse(row.as_bytes()), Row::Digest(_)));
    }

    #[test]
    fn auth_int_covers_the_body() {
        let challenge = "Digest realm=\"biloxi.com\", nonce=\"1\", qop=\"auth-int\"";
        let one = try_answer(&login(None), challenge).unwrap();
        let mut request = request();
        request.body = bytes::Bytes::from_static(b"v=1\r\n");
        answer(&mut Answered::default(), &login(None), &challenged(&[(Name::WwwAuthenticate, challenge)]), &mut request, "0a4f113b")
            .unwrap();
        assert_ne!(one.as_bytes(), request.headers.get(Name::Authorization).unwrap());
        assert!(one.contains("qop=auth-int"));
    }
}
