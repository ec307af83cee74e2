//! A client of CAS: it finds the switch, signs in, asks and waits for answers. The command line does nothing by another way.

mod events;
mod place;
mod wire;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use cas::message::{Encoding, Message, PENDING, SUCCESS};
use cas::text::Name;
use http_body_util::Full;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use hyper::{Request, StatusCode};
use serde_json::{Map, Value, json};

pub(super) use events::Events;
pub(super) use place::{On, Place};

use super::failure::{Exit, Failure};
use super::text;
use wire::{AT_ONCE, Wire};

/// What the switch calls this application.
const APPLICATION: &str = "tandem command line";
/// How long the switch may take before it says that the answer comes later, in seconds.
const WAIT: u32 = 60;
/// How long a reply may take that may wait for people: [`WAIT`], and some more.
const REPLY: Duration = Duration::from_secs(75);

/// Whether messages are shown as they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    /// No.
    Nothing,
    /// Each, on standard error.
    Requests,
}

/// A client with a login.
pub(super) struct Client {
    on: On,
    place: Place,
    show: Show,
    wire: Wire,
    token: Option<String>,
    /// The login's number where it is ours to end.
    login: Option<Value>,
    requests: u64,
}

impl Client {
    /// Connects without a login, for what needs none.
    ///
    /// # Errors
    ///
    /// No switch answers.
    pub(super) async fn connect(on: &On, show: Show) -> anyhow::Result<Self> {
        let place = on.place()?;
        let wire = Wire::open(&place, on.ca.as_deref()).await?;
        Ok(Self { on: on.clone(), place, show, wire, token: None, login: None, requests: 0 })
    }

    /// Connects and signs in: with the token or the key that was given, or as the host's administrator.
    ///
    /// # Errors
    ///
    /// No switch answers, or it does not know the caller.
    pub(super) async fn sign_in(on: &On, show: Show) -> anyhow::Result<Self> {
        let mut client = Self::connect(on, show).await?;
        if on.token.is_some() {
            client.token.clone_from(&on.token);
            return Ok(client);
        }
        let credential = match (&on.key, &client.place) {
            (Some(key), _) => json!({ "key": key, "application": APPLICATION }),
            (None, Place::Socket(_)) => json!({ "application": APPLICATION }),
            (None, Place::Url(_)) => {
                let sentence = "a switch behind a URL wants to know who asks; give --token or --key, or TANDEM_TOKEN or TANDEM_KEY";
                return Err(Failure::new(Exit::Usage, sentence).into());
            }
        };
        let granted = client.ask("login", "login", credential).await?;
        client.token = granted["token"].as_str().map(str::to_owned);
        client.login = Some(granted["login"].clone());
        Ok(client)
    }

    /// Ends the login if it is ours, so that it takes nobody's place.
    pub(super) async fn sign_out(mut self) {
        if self.login.take().is_some() {
            self.show = Show::Nothing;
            // a login that cannot be ended now ends by itself
            let _ = self.ask("login", "logout", Value::Null).await;
        }
    }

    /// Returns whether the host's administrator asks: everybody's objects are theirs, and none is their own.
    pub(super) fn is_host(&self) -> bool {
        matches!(self.place, Place::Socket(_)) && self.on.token.is_none() && self.on.key.is_none()
    }

    /// Asks for something and returns the body of the final reply.
    ///
    /// # Errors
    ///
    /// What the switch said, or that it said nothing.
    pub(super) async fn ask(&mut self, topic: &str, message: &str, body: Value) -> anyhow::Result<Value> {
        self.requests += 1;
        let request = request(topic, message, self.requests, body)?;
        if self.show == Show::Requests {
            eprintln!("{}", shown(request.clone()));
        }
        let mut http = Request::post("/cas").header(CONTENT_TYPE, "application/json").header("prefer", format!("wait={WAIT}"));
        if let Some(token) = &self.token {
            http = http.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let http = http.body(Full::new(Bytes::from(request.encode(Encoding::Json)))).context("the token is no token")?;
        let (status, bytes) = self.exchange(http, limit(topic, message)).await?;
        let reply = Message::decode(Encoding::Json, &bytes).map_err(|_| self.strange(status))?;
        match reply.response {
            Some(SUCCESS) => Ok(reply.body),
            Some(PENDING) => self.completion(reply.pending_id).await,
            Some(_) => Err(refusal(reply.body)),
            None => Err(self.strange(status)),
        }
    }

    /// Asks for every page of a list and returns the reply with all of it.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`].
    pub(super) async fn ask_all(&mut self, topic: &str, message: &str, body: Value, pages: Pages) -> anyhow::Result<Value> {
        let mut whole = self.ask(topic, message, body.clone()).await?;
        let mut seen = BTreeSet::new();
        let mut more = whole["more"] == Value::Bool(true);
        while more {
            let last = whole[pages.list].as_array().and_then(|list| list.last()).map_or(Value::Null, |record| record[pages.name].clone());
            // a switch that ends no list would keep us here for ever
            if !seen.insert(last.to_string()) {
                break;
            }
            let mut next = body.as_object().cloned().unwrap_or_default();
            next.insert("after".into(), last);
            let mut page = self.ask(topic, message, Value::Object(next)).await?;
            more = page["more"] == Value::Bool(true);
            if let (Some(list), Some(further)) = (whole[pages.list].as_array_mut(), page[pages.list].as_array_mut()) {
                list.append(further);
            }
        }
        if let Some(members) = whole.as_object_mut() {
            members.remove("more");
        }
        Ok(whole)
    }

    /// Gets a page of the web listener, such as `/metrics`.
    ///
    /// # Errors
    ///
    /// No switch answers.
    pub(super) async fn get(&mut self, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut http = Request::get(path).header(ACCEPT, "*/*");
        if let Some(token) = &self.token {
            http = http.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        self.exchange(http.body(Full::default()).context("the token is no token")?, AT_ONCE).await
    }

    /// Waits for a reply that takes longer: it comes as an event.
    async fn completion(&mut self, pending_id: Option<u64>) -> anyhow::Result<Value> {
        let mut after = Value::Null;
        loop {
            let reply = Box::pin(self.ask("event", "get-event", without_null(json!({ "after": after, "wait": WAIT })))).await?;
            for event in reply["events"].as_array().into_iter().flatten() {
                after = event["sequence-id"].clone();
                if event["pending-id"].as_u64() == pending_id && pending_id.is_some() {
                    let body = event["body"].clone();
                    return if event["response"] == json!(SUCCESS) { Ok(body) } else { Err(refusal(body)) };
                }
            }
        }
    }

    async fn exchange(&mut self, http: Request<Full<Bytes>>, limit: Duration) -> anyhow::Result<(StatusCode, Bytes)> {
        if !self.wire.is_open() {
            self.wire = Wire::open(&self.place, self.on.ca.as_deref()).await?;
        }
        let exchanged = self.wire.exchange(http, limit).await;
        if exchanged.is_err() {
            self.login = None; // who does not answer is not kept waiting for a farewell
        }
        exchanged.with_context(|| format!("{} does not answer as it should", self.place))
    }

    fn strange(&self, status: StatusCode) -> anyhow::Error {
        Failure::new(Exit::Error, format!("{} answers {status} and no CAS message; is that a tandem switch?", self.place)).into()
    }
}

/// Returns how long the reply to a request may take: what is done with calls may wait for people, and so may events.
fn limit(topic: &str, message: &str) -> Duration {
    match (topic, message) {
        ("tel", "list" | "show" | "why") => AT_ONCE,
        ("tel" | "event", _) => REPLY,
        _ => AT_ONCE,
    }
}

/// Where the records of a list are, and by what the next page goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pages {
    /// The member that has the list.
    pub(super) list: &'static str,
    /// The member of a record that names it.
    pub(super) name: &'static str,
}

/// Makes a request as it is sent.
///
/// # Errors
///
/// The topic or the message is no name.
pub(super) fn request(topic: &str, message: &str, number: u64, body: Value) -> anyhow::Result<Message> {
    let name = |text: &str| Name::parse(text).map_err(|wrong| Failure::new(Exit::Usage, format!("{text:?}: {wrong}")));
    Ok(Message {
        topic: name(topic)?,
        message: name(message)?,
        timestamp: text::now(),
        sequence_id: number,
        request_id: Some(number),
        response: None,
        pending_id: None,
        headers: Map::new(),
        body,
    })
}

/// Writes a request for people to read: without its secrets.
pub(super) fn shown(mut request: Message) -> String {
    for secret in ["password", "key"] {
        // the name of a key is no secret, what signs in is
        if let Some(value) = request.body.get_mut(secret).filter(|_| secret == "password" || request.topic.as_str() == "login") {
            *value = "***".into();
        }
    }
    text::harmless_json(&String::from_utf8_lossy(&request.encode(Encoding::Json)))
}

/// Leaves out what was not given.
pub(super) fn without_null(mut body: Value) -> Value {
    if let Some(members) = body.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    body
}

fn refusal(body: Value) -> anyhow::Error {
    match serde_json::from_value::<cas::error::Error>(body) {
        Ok(error) => Failure::of_refusal(&error).into(),
        Err(_) => Failure::new(Exit::Error, "the switch refused and did not say why").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_shown_without_its_secrets() {
        let shown = |topic, message, body| shown(request(topic, message, 1, body).unwrap());
        assert!(!shown("admin", "add-user", json!({ "user": "ann", "password": "hidden" })).contains("hidden"));
        assert!(!shown("login", "login", json!({ "key": "hidden" })).contains("hidden"));
        assert!(shown("admin", "remove-key", json!({ "key": "crm" })).contains("crm"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_switch_that_takes_requests_and_does_not_answer_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("mute.sock");
        let _mute = tokio::net::UnixListener::bind(&socket).unwrap();
        let began = tokio::time::Instant::now();
        let failed = Client::sign_in(&On { socket: Some(socket), ..On::default() }, Show::Nothing).await.map(drop);
        assert_eq!(began.elapsed().as_secs(), AT_ONCE.as_secs());
        let failed = format!("{:#}", failed.unwrap_err());
        assert!(failed.contains("mute.sock does not answer") && failed.contains("within 10 s"), "{failed}");
        assert_eq!([limit("tel", "list"), limit("tel", "make-call"), limit("event", "get-event")], [AT_ONCE, REPLY, REPLY]);
    }

    #[test]
    fn a_refusal_that_cannot_be_read_is_still_one() {
        assert!(refusal(json!({ "error": "odd" })).to_string().contains("refused"));
        assert_eq!(refusal(json!({ "error": "not-found", "detail": "no such call" })).to_string(), "no such call");
    }
}
