//! Plug-ins: topics that another process serves. A plug-in is a login with the right `plugin.register` on a stream; requests are
//! forwarded on the stream as messages with a `request-id` of ours, and it answers with messages that have a `response`. This is the
//! table of who serves what, and the bounds. It sends nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Error, Fault};
use crate::login::LoginId;
use crate::message::{Message, SUCCESS};
use crate::permission::{Reach, Right};
use crate::server::StreamId;
use crate::text::Name;
use crate::topic::operations;
use crate::topic::plugin::Dialect;

/// The version of the interface.
pub const VERSION: u32 = 1;

/// How long a plug-in may take for a reply. Then the client is told `timeout`.
pub const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Most requests that wait for one plug-in. A further one is answered `unavailable` at once, so that a slow plug-in fills nothing.
pub const MAX_WAITING: u32 = 256;

/// Events that a plug-in may publish in a second. Further ones are refused and counted.
pub const EVENTS_PER_SECOND: u32 = 500;

/// Most topics of one plug-in. A registration that would go past it is refused.
pub const MAX_TOPICS: usize = 256;

/// Most plug-ins. A further one is refused.
pub const MAX_PLUGINS: usize = 256;

/// Most topics that are remembered after their plug-in went. Where one more goes, the first in the alphabet is forgotten: its clients
/// are told `no-provider` instead of `unavailable`.
pub const MAX_PAST: usize = 1024;

/// Topics that have no operations and yet are the switch's: its refusals of what could not be read have the first, a kind of subscription
/// the last.
pub(crate) const RESERVED: [&str; 3] = ["cas", "error", crate::topic::tel::PICKUP];

/// Returns the right that a plug-in's message needs: users have those.
pub(crate) fn right<'a>(topic: &'a str, message: &'a str) -> Right<'a> {
    Right { topic, message, user: Reach::All }
}

/// One plug-in.
#[derive(Debug)]
pub(crate) struct Plugin {
    pub(crate) login: LoginId,
    pub(crate) topics: BTreeSet<Name>,
    pub(crate) dialect: Dialect,
    pub(crate) waiting: u32,
    pub(crate) timeouts: u64,
    pub(crate) refused_events: u64,
    /// When the events counted now began, and how many there were.
    second: (Instant, u32),
}

impl Plugin {
    /// Returns whether it may publish one more event now.
    pub(crate) fn may_publish(&mut self, now: Instant) -> bool {
        if now >= self.second.0 + Duration::from_secs(1) {
            self.second = (now, 0);
        }
        let may = self.second.1 < EVENTS_PER_SECOND;
        if may {
            self.second.1 += 1;
        } else {
            self.refused_events += 1;
        }
        may
    }
}

/// Who serves what.
#[derive(Debug, Default)]
pub(crate) struct Plugins {
    by_topic: BTreeMap<Name, StreamId>,
    by_stream: BTreeMap<StreamId, Plugin>,
    past: BTreeSet<Name>,
}

impl Plugins {
    /// Registers topics for a stream: all or none.
    pub(crate) fn register(
        &mut self,
        now: Instant,
        stream: StreamId,
        login: LoginId,
        topics: Vec<Name>,
        dialect: Dialect,
    ) -> Result<(), Error> {
        let own = self.by_stream.get(&stream).map_or(0, |plugin| plugin.topics.len());
        if topics.is_empty() || own + topics.len() > MAX_TOPICS || (own == 0 && self.by_stream.len() >= MAX_PLUGINS) {
            return Err(Error::field("topics", format!("field topics: expected 1 to {MAX_TOPICS}, and at most {MAX_PLUGINS} plug-ins")));
        }
        for topic in &topics {
            if operations(topic.as_str()).is_some() || RESERVED.contains(&topic.as_str()) {
                return Err(Error {
                    field: Some("topics".into()),
                    ..Error::new(Fault::RestrictedTopic, format!("the topic {topic} is the switch's own"))
                });
            }
            if self.by_topic.get(topic).is_some_and(|holder| *holder != stream) {
                return Err(Error {
                    field: Some("topics".into()),
                    ..Error::new(Fault::Conflict, format!("another plug-in serves the topic {topic}"))
                });
            }
        }
        let fresh = || Plugin { login, topics: BTreeSet::new(), dialect, waiting: 0, timeouts: 0, refused_events: 0, second: (now, 0) };
        let plugin = self.by_stream.entry(stream).or_insert_with(fresh);
        plugin.dialect = dialect;
        for topic in topics {
            self.past.remove(&topic);
            self.by_topic.insert(topic.clone(), stream);
            plugin.topics.insert(topic);
        }
        Ok(())
    }

    /// Gives topics back; all where none is named.
    pub(crate) fn unregister(&mut self, stream: StreamId, topics: &[Name]) {
        let Some(plugin) = self.by_stream.get_mut(&stream) else { return };
        let going: Vec<Name> = plugin.topics.iter().filter(|topic| topics.is_empty() || topics.contains(topic)).cloned().collect();
        for topic in going {
            plugin.topics.remove(&topic);
            self.by_topic.remove(&topic);
            self.past.insert(topic);
            if self.past.len() > MAX_PAST {
                self.past.pop_first();
            }
        }
    }

    /// Forgets a plug-in whose stream is closed.
    pub(crate) fn remove(&mut self, stream: StreamId) -> bool {
        self.unregister(stream, &[]);
        self.by_stream.remove(&stream).is_some()
    }

    pub(crate) fn find_mut(&mut self, stream: StreamId) -> Option<&mut Plugin> {
        self.by_stream.get_mut(&stream)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Plugin> {
        self.by_stream.values()
    }

    /// Returns whether somebody serves the topic.
    pub(crate) fn serves(&self, topic: &str) -> bool {
        self.by_topic.contains_key(topic)
    }

    /// Finds who serves a topic and has room for one more request.
    pub(crate) fn take(&mut self, topic: &Name) -> Result<(StreamId, Dialect), Error> {
        let Some(stream) = self.by_topic.get(topic) else {
            return Err(if self.past.contains(topic) {
                Error::new(Fault::Unavailable, format!("the plug-in that serves the topic {topic} is away"))
            } else {
                Error::new(Fault::NoProvider, format!("nothing serves the topic {topic}"))
            });
        };
        let plugin = self.by_stream.get_mut(stream).filter(|plugin| plugin.waiting < MAX_WAITING);
        let busy =
            || Error::new(Fault::Unavailable, format!("the plug-in that serves the topic {topic} has {MAX_WAITING} requests waiting"));
        let plugin = plugin.ok_or_else(busy)?;
        plugin.waiting += 1;
        Ok((*stream, plugin.dialect))
    }
}

/// What a plug-in sent, in either dialect.
#[derive(Debug)]
pub(crate) enum Said {
    /// The reply to a request of ours.
    Reply(u64, Result<Value, Error>),
    /// An event.
    Event(Name, Name, Value),
}

/// Writes a request in JSON-RPC.
pub(crate) fn json_rpc(number: u64, message: &Message, user: &str) -> Value {
    let method = format!("{}.{}", message.topic, message.message);
    json!({ "jsonrpc": "2.0", "id": number, "method": method, "params": { "user": user, "body": message.body } })
}

/// Reads what a plug-in sent in JSON-RPC; none if it is a request of its own in CAS messages.
pub(crate) fn of_json_rpc(value: &Value) -> Option<Result<Said, Error>> {
    value.get("jsonrpc")?;
    let member = |name: &str| value.get(name).filter(|member| !member.is_null()).cloned();
    if let Some(method) = value.get("method").and_then(Value::as_str) {
        let names = method.rsplit_once('.').and_then(|(topic, message)| Some((Name::parse(topic).ok()?, Name::parse(message).ok()?)));
        let names = names.ok_or_else(|| Error::field("method", "field method: expected topic.message"));
        return Some(names.map(|(topic, message)| Said::Event(topic, message, member("params").unwrap_or_default())));
    }
    let Some(number) = value.get("id").and_then(Value::as_u64) else {
        return Some(Err(Error::field("id", "field id: expected the number of a request")));
    };
    let error = member("error").map(|error| {
        let detail = error.get("message").and_then(Value::as_str).unwrap_or("the plug-in refused");
        Error::new(Fault::BadMessage, detail)
    });
    Some(Ok(Said::Reply(number, error.map_or_else(|| Ok(member("result").unwrap_or_default()), Err))))
}

/// Reads a plug-in's reply in a CAS message: its own refusal goes to the client as it is.
pub(crate) fn of_reply(message: Message) -> Option<Said> {
    let (number, response) = (message.request_id?, message.response?);
    if response == SUCCESS {
        return Some(Said::Reply(number, Ok(message.body)));
    }
    let given = serde_json::from_value::<Error>(message.body).ok();
    let fault = Fault::ALL.into_iter().find(|fault| fault.response() == response).unwrap_or(Fault::BadMessage);
    let error = given.unwrap_or_else(|| Error::new(fault, format!("the plug-in refused with {response}")));
    Some(Said::Reply(number, Err(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> Vec<Name> {
        texts.iter().map(|text| Name::parse(text).unwrap()).collect()
    }

    #[expect(clippy::disallowed_methods, reason = "a test's time begins somewhere")]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_topic_has_one_plug_in_and_the_switchs_have_none() {
        // 004-95, 004-96, 004-97, 004-99
        let (mut plugins, now) = (Plugins::default(), now());
        let mut register = |stream, topics: &[&str]| plugins.register(now, StreamId(stream), LoginId(1), names(topics), Dialect::Cas);
        assert!(register(1, &["weather", "tel.cloud"]).is_ok());
        for topic in operations("tel").iter().map(|_| "tel").chain([
            "admin",
            "login",
            "bulk",
            "event",
            "plugin",
            "permission",
            "cas",
            "error",
            "pickup",
        ]) {
            assert_eq!(register(2, &["other", topic]).unwrap_err().fault, Fault::RestrictedTopic, "{topic}");
        }
        assert_eq!(register(2, &["weather"]).unwrap_err().fault, Fault::Conflict);
        let fifty: Vec<String> = (0..50).map(|n| format!("t{n}")).collect();
        assert!(register(2, &fifty.iter().map(String::as_str).collect::<Vec<_>>()).is_ok());
        assert_eq!(plugins.take(&names(&["other"])[0]).unwrap_err().fault, Fault::NoProvider);
        assert_eq!(plugins.take(&names(&["weather"])[0]).unwrap().0, StreamId(1));
    }

    #[test]
    fn a_topic_whose_plug_in_went_is_unavailable_until_another_comes() {
        // 004-90
        let (mut plugins, now, topics) = (Plugins::default(), now(), names(&["weather"]));
        plugins.register(now, StreamId(1), LoginId(1), topics.clone(), Dialect::Cas).unwrap();
        assert!(plugins.remove(StreamId(1)));
        assert_eq!(plugins.take(&topics[0]).unwrap_err().fault, Fault::Unavailable);
        plugins.register(now, StreamId(2), LoginId(2), topics.clone(), Dialect::Cas).unwrap();
        assert_eq!(plugins.take(&topics[0]).unwrap().0, StreamId(2));
    }

    #[test]
    fn a_slow_plug_in_and_one_that_floods_are_bounded() {
        // 004-101
        let (mut plugins, now, topics) = (Plugins::default(), now(), names(&["weather"]));
        plugins.register(now, StreamId(1), LoginId(1), topics.clone(), Dialect::Cas).unwrap();
        (0..MAX_WAITING).for_each(|_| assert!(plugins.take(&topics[0]).is_ok()));
        assert_eq!(plugins.take(&topics[0]).unwrap_err().fault, Fault::Unavailable);
        let plugin = plugins.find_mut(StreamId(1)).unwrap();
        assert_eq!((0..2 * EVENTS_PER_SECOND).filter(|_| plugin.may_publish(now)).count(), EVENTS_PER_SECOND as usize);
        assert_eq!(plugin.refused_events, u64::from(EVENTS_PER_SECOND));
        assert!(plugin.may_publish(now + Duration::from_secs(1)));
    }

    #[test]
    fn json_rpc_is_translated() {
        // 004-12
        assert!(of_json_rpc(&json!({"topic": "x"})).is_none());
        let read = |value: Value| of_json_rpc(&value).unwrap();
        assert!(matches!(read(json!({"jsonrpc": "2.0", "id": 7, "result": [1]})), Ok(Said::Reply(7, Ok(body))) if body == json!([1])));
        assert!(
            matches!(read(json!({"jsonrpc": "2.0", "id": 7, "error": {"message": "no"}})), Ok(Said::Reply(7, Err(error))) if &*error.detail == "no")
        );
        assert!(
            matches!(read(json!({"jsonrpc": "2.0", "method": "a.b.c", "params": 1})), Ok(Said::Event(topic, message, _)) if topic.as_str() == "a.b" && message.as_str() == "c")
        );
        for wrong in [json!({"jsonrpc": "2.0", "id": "x"}), json!({"jsonrpc": "2.0", "method": "x"})] {
            assert!(read(wrong).is_err());
        }
    }
}
