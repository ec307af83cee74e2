//! Requests that the server serves itself: logins, subscriptions, waiting for events, bulks and plug-ins.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::{Asked, Sender, Server, Sink, StreamId};
use crate::bulk::{Bulk, MAX_BULKS};
use crate::error::{Error, Fault};
use crate::event::Event;
use crate::login::{LoginId, login_required};
use crate::message::Message;
use crate::pending::{Pace, Prefer};
use crate::permission::{Caller, Owner, Reach, Right, Rights, decide};
use crate::plugin::{EVENTS_PER_SECOND, MAX_WAITING, TIME_LIMIT, VERSION};
use crate::text::{Name, UserName};
use crate::topic::event::{Bulk as BulkRequest, BulkReply, Replies, bulk, poll};
use crate::topic::known::{self, Then};
use crate::topic::login::{Listed, Logins, Nothing};
use crate::topic::plugin::{Dialect, Plugin, Plugins, Registered};
use crate::topic::subscription::{MAX_SUBSCRIPTIONS, MAX_USERS, Subscription, Subscriptions};
use crate::topic::{Happening, Mode, Request, login, may_subscribe, permission, plugin, subscription};

const LIST: Right<'static> = Right { topic: "login", message: "list", user: Reach::Own };
const REVOKE: Right<'static> = Right { topic: "login", message: "revoke", user: Reach::Own };

impl Server {
    pub(super) fn serve_own(
        &mut self,
        now: Instant,
        caller: &Arc<Caller>,
        stream: Option<StreamId>,
        prefer: Prefer,
        asked: Asked,
        body: Value,
    ) {
        let outcome = match asked.topic.as_str() {
            "login" => match login::Request::decode(asked.message.as_str(), body) {
                Ok(login::Request::Logout(_)) => return self.log_out(now, caller.login, asked),
                Ok(login::Request::Revoke(request)) => return self.revoke(now, caller, asked, LoginId(request.login)),
                Ok(login::Request::List(request)) => return self.list_logins(now, caller, prefer, asked, *request),
                Ok(request) => self.serve_login(now, caller, request),
                Err(error) => Err(error),
            },
            "subscription" => {
                let request = subscription::Request::decode(asked.message.as_str(), body);
                match request.and_then(|request| Ok((self.check_subscription(caller, &request)?, request))) {
                    Ok((users, request)) => return self.serve_of(now, caller, prefer, asked, users, Then::Subscription(request)),
                    Err(error) => Err(error),
                }
            }
            "plugin" => {
                let request = plugin::Request::decode(asked.message.as_str(), body);
                request.and_then(|request| self.serve_plugin(now, caller, stream, request))
            }
            "bulk" => match bulk::Request::decode(asked.message.as_str(), body) {
                Ok(bulk::Request::Bulk(request)) => return self.serve_bulk(now, caller.login, stream, prefer, asked, *request),
                Err(error) => Err(error),
            },
            _ => match poll::Request::decode(asked.message.as_str(), body) {
                Ok(poll::Request::GetEvent(request)) => return self.wait_for_events(now, caller.login, asked, &request),
                Err(error) => Err(error),
            },
        };
        self.answer(now, asked, outcome);
    }

    fn serve_login(&mut self, now: Instant, caller: &Caller, request: login::Request) -> Result<Value, Error> {
        match request {
            login::Request::Refresh(_) => {
                let token = self.logins.refresh(now, self.settings.token_lifetime, caller.login);
                self.granted(caller.login, &token.ok_or_else(|| login_required("the login is over"))?)
            }
            // These have been served before.
            login::Request::Login(_) | login::Request::Logout(_) | login::Request::Revoke(_) | login::Request::List(_) => {
                Err(Error::new(Fault::BadMessage, "this message stands alone: it cannot be part of a bulk"))
            }
        }
    }

    fn list_logins(&mut self, now: Instant, caller: &Arc<Caller>, prefer: Prefer, asked: Asked, request: login::List) {
        let user = request.user.clone().or((!request.all).then(|| caller.user.clone()));
        let owner = user.as_ref().map_or(Owner::Users(&[]), Owner::User);
        match decide(caller, LIST, owner) {
            // whoever is signed in exists
            Ok(()) if user.as_ref().is_none_or(|user| !self.logins.of_user(user).is_empty()) => {
                let listed = self.logins_of(now, caller, user.as_ref());
                self.answer(now, asked, listed);
            }
            Ok(()) => self.serve_of(now, caller, prefer, asked, user.into_iter().collect(), Then::Logins(request)),
            Err(error) => self.answer(now, asked, Err(error)),
        }
    }

    fn logins_of(&self, now: Instant, caller: &Caller, user: Option<&UserName>) -> Result<Value, Error> {
        let logins = self.logins.all().filter(|login| user.is_none_or(|user| login.caller.user == *user));
        let listed = logins.map(|login| Listed {
            login: login.caller.login.0,
            user: login.caller.user.clone(),
            application: login.caller.application.clone(),
            device: login.caller.device.clone(),
            scopes: login.caller.scopes.iter().flat_map(|scopes| scopes.iter().cloned()).collect(),
            since: login.since,
            actions: decide(caller, REVOKE, Owner::User(&login.caller.user)).map(|()| "revoke".to_owned()).into_iter().collect(),
            idle: u64::try_from(now.saturating_duration_since(login.last_active).as_millis()).unwrap_or(u64::MAX),
        });
        value(&Logins { logins: listed.collect() })
    }

    /// Serves a request about users, once the host knows that they exist; the caller does.
    fn serve_of(&mut self, now: Instant, caller: &Arc<Caller>, prefer: Prefer, asked: Asked, users: Vec<UserName>, then: Then) {
        if users.iter().all(|user| *user == caller.user) {
            let outcome = self.serve_known(now, caller.login, then);
            return self.answer(now, asked, outcome);
        }
        let request = Request::Known(known::Request { users, then });
        self.ask_provider(now, caller.clone(), prefer, asked, request, &Pace::of(Mode::Quick));
    }

    /// Serves a request whose users exist.
    pub(super) fn serve_known(&mut self, now: Instant, login: LoginId, then: Then) -> Result<Value, Error> {
        match then {
            Then::Subscription(request) => self.serve_subscription(login, request),
            Then::Logins(request) => {
                let caller = self.logins.find(login).map(|login| login.caller.clone());
                self.logins_of(now, &*caller.ok_or_else(|| login_required("the login is over"))?, request.user.as_ref())
            }
        }
    }

    /// Decides whether the caller may have a subscription; returns the users whom it names.
    fn check_subscription(&self, caller: &Caller, request: &subscription::Request) -> Result<Vec<UserName>, Error> {
        let (topic, users) = match request {
            subscription::Request::Add(request) => (Some(&request.topic), request.users.as_deref()),
            subscription::Request::Modify(request) => {
                let of_login = self.logins.find(caller.login).map(|login| login.subscriptions.iter());
                let known = of_login.into_iter().flatten().find(|subscription| subscription.id == request.id);
                (known.map(|subscription| &subscription.topic), request.users.as_deref())
            }
            subscription::Request::Delete(_) | subscription::Request::List(_) => (None, None),
        };
        check_users(users)?;
        // what there is not, is refused later
        topic.map_or(Ok(()), |topic| may_subscribe(caller, topic.as_str(), users))?;
        Ok(users.unwrap_or_default().to_vec())
    }

    fn log_out(&mut self, now: Instant, login: LoginId, asked: Asked) {
        if matches!(asked.sink, Sink::Slot(..)) {
            return self.answer(now, asked, Err(Error::new(Fault::BadMessage, "a logout stands alone: it cannot be part of a bulk")));
        }
        self.answer(now, asked, value(&Nothing {}));
        self.end_login(now, login, &login_required("the login was ended by its client"));
    }

    fn revoke(&mut self, now: Instant, caller: &Caller, asked: Asked, login: LoginId) {
        let found = self.logins.find(login).map(|login| login.caller.user.clone());
        let right = REVOKE;
        let allowed = match &found {
            // Who may not end others' logins learns nothing of which there are.
            None => decide(caller, right, Owner::Users(&[])).and(Err(Error::new(Fault::NotFound, format!("no login {login}")))),
            Some(user) => decide(caller, right, Owner::User(user)),
        };
        let is_slot = matches!(asked.sink, Sink::Slot(..));
        let outcome = allowed
            .and_then(|()| if is_slot && login == caller.login { Err(login_required("log out instead")) } else { value(&Nothing {}) });
        let ends = outcome.is_ok();
        self.answer(now, asked, outcome);
        if ends {
            self.end_login(now, login, &login_required("the login was revoked"));
        }
    }

    fn serve_subscription(&mut self, login: LoginId, request: subscription::Request) -> Result<Value, Error> {
        let id = match request {
            subscription::Request::Add(request) => {
                let topic = request.topic.as_str();
                if crate::topic::operations(topic).is_none() && !self.plugins.serves(topic) {
                    let error = Error::new(Fault::NoProvider, format!("nothing serves the topic {topic}"));
                    return Err(Error { field: Some("topic".into()), ..error });
                }
                Some(self.add_subscription(login, Subscription { id: 0, topic: request.topic, users: request.users })?)
            }
            subscription::Request::Modify(request) => {
                let subscription::Modify { id, users } = *request;
                self.change_subscription(login, id, |subscription| {
                    subscription.users = users;
                    true
                })?;
                Some(id)
            }
            subscription::Request::Delete(request) => {
                self.change_subscription(login, request.id, |_| false)?;
                None
            }
            subscription::Request::List(_) => None,
        };
        let subscriptions = self.logins.find(login).map(|login| login.subscriptions.clone()).unwrap_or_default();
        value(&Subscriptions { id, subscriptions })
    }

    /// Adds a subscription to a login; returns its number.
    pub(super) fn add_subscription(&mut self, login: LoginId, subscription: Subscription) -> Result<u32, Error> {
        let known = self.logins.find_mut(login).ok_or_else(|| login_required("the login is over"))?;
        if known.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            return Err(Error::new(Fault::TooMany, format!("a login has at most {MAX_SUBSCRIPTIONS} subscriptions")));
        }
        known.subscription_ids += 1;
        let subscription = Subscription { id: known.subscription_ids, ..subscription };
        self.subscribers.add(&known.caller, std::slice::from_ref(&subscription));
        known.subscriptions.push(subscription);
        Ok(known.subscription_ids)
    }

    /// Changes a subscription, or deletes it where `keep` says no.
    fn change_subscription(&mut self, login: LoginId, id: u32, keep: impl FnOnce(&mut Subscription) -> bool) -> Result<(), Error> {
        let known = self.logins.find_mut(login).ok_or_else(|| login_required("the login is over"))?;
        let missing = || Error { field: Some("id".into()), ..Error::new(Fault::NotFound, format!("no subscription {id}")) };
        let position = known.subscriptions.iter().position(|subscription| subscription.id == id).ok_or_else(missing)?;
        self.subscribers.remove(&known.caller, &known.subscriptions);
        let mut subscription = known.subscriptions.remove(position);
        if keep(&mut subscription) {
            known.subscriptions.insert(position, subscription);
        }
        self.subscribers.add(&known.caller, &known.subscriptions);
        Ok(())
    }

    fn serve_plugin(&mut self, now: Instant, caller: &Caller, stream: Option<StreamId>, request: plugin::Request) -> Result<Value, Error> {
        let no_stream = || Error::new(Fault::BadMessage, "a plug-in speaks on a stream: it must open a WebSocket first");
        match request {
            plugin::Request::Register(request) => {
                if request.version != VERSION {
                    return Err(Error::field("version", format!("field version: this switch speaks version {VERSION}")).accepting(["1"]));
                }
                let stream = stream.ok_or_else(no_stream)?;
                self.plugins.register(now, stream, caller.login, request.topics, request.dialect.unwrap_or(Dialect::Cas))?;
                self.registered(stream)
            }
            plugin::Request::Unregister(request) => {
                let stream = stream.ok_or_else(no_stream)?;
                self.plugins.unregister(stream, &request.topics);
                self.registered(stream)
            }
            plugin::Request::Publish(request) => {
                let stream = stream.ok_or_else(no_stream)?;
                check_users(request.users.as_deref())?;
                self.publish(now, stream, request.topic, request.message, request.users, request.body)?;
                value(&Nothing {})
            }
            plugin::Request::List(_) => {
                let plugins = self.plugins.all().map(|plugin| Plugin {
                    login: plugin.login.0,
                    user: self.logins.find(plugin.login).map_or_else(|| caller.user.clone(), |login| login.caller.user.clone()),
                    topics: plugin.topics.iter().cloned().collect(),
                    waiting: plugin.waiting,
                    timeouts: plugin.timeouts,
                    refused_events: plugin.refused_events,
                });
                value(&Plugins { plugins: plugins.collect() })
            }
        }
    }

    fn registered(&mut self, stream: StreamId) -> Result<Value, Error> {
        let topics = self.plugins.find_mut(stream).map(|plugin| plugin.topics.iter().cloned().collect()).unwrap_or_default();
        value(&Registered {
            topics,
            version: VERSION,
            time_limit: u64::try_from(TIME_LIMIT.as_millis()).unwrap_or(u64::MAX),
            most_requests: MAX_WAITING,
            events_per_second: EVENTS_PER_SECOND,
        })
    }

    /// Tells an event of a plug-in.
    pub(super) fn publish(
        &mut self,
        now: Instant,
        stream: StreamId,
        topic: Name,
        message: Name,
        users: Option<Vec<UserName>>,
        body: Value,
    ) -> Result<(), Error> {
        let plugin = self.plugins.find_mut(stream).filter(|plugin| plugin.topics.contains(&topic));
        let stranger = || Error {
            field: Some("topic".into()),
            ..Error::new(Fault::RestrictedTopic, format!("this plug-in has not registered {topic}"))
        };
        if !plugin.ok_or_else(stranger)?.may_publish(now) {
            return Err(Error::new(Fault::TooMany, format!("a plug-in publishes at most {EVENTS_PER_SECOND} events a second")));
        }
        self.happened(now, &Happening::Plugin { topic, message, users, body });
        Ok(())
    }

    fn serve_bulk(&mut self, now: Instant, login: LoginId, stream: Option<StreamId>, prefer: Prefer, asked: Asked, request: BulkRequest) {
        if matches!(asked.sink, Sink::Slot(..)) {
            return self.answer(now, asked, Err(Error::new(Fault::BadMessage, "a bulk cannot be part of a bulk")));
        }
        if self.bulks.len() >= MAX_BULKS {
            return self.answer(now, asked, Err(Error::new(Fault::Unavailable, format!("{MAX_BULKS} bulks wait already"))));
        }
        let mut bulk = match Bulk::new(login, &request, || self.next_pending_id(login)) {
            Ok(bulk) => bulk,
            Err(error) => return self.answer(now, asked, Err(error)),
        };
        self.last_bulk += 1;
        let number = self.last_bulk;
        let pending = bulk.pending_ids();
        if bulk.replies == Replies::Bulk {
            bulk.asked = Some(asked);
            self.bulks.insert(number, bulk);
        } else {
            self.bulks.insert(number, bulk);
            let body = BulkReply { replies: Vec::new(), pending };
            self.answer(now, asked, value(&body));
        }
        for (position, request) in request.requests.into_iter().enumerate() {
            let (sink, sender) = (Sink::Slot(number, position), Sender { login: Some(login), stream: None });
            let read = Message::from_value(request).and_then(|message| match message.number() {
                Ok(request_id) => Ok((message, request_id)),
                Err(error) => {
                    Err(Box::new(crate::message::Unreadable { topic: Some(message.topic), message: Some(message.message), ..error.into() }))
                }
            });
            match read {
                Ok((message, request_id)) => {
                    let request_id = Some(request_id);
                    let asked = Asked { topic: message.topic, message: message.message, request_id, sender, sink };
                    self.dispatch(now, login, stream, prefer, asked, message.body);
                }
                Err(unreadable) => self.refuse(now, sink, sender, *unreadable),
            }
        }
    }

    /// Replaces a user's rights and tells their logins (004-73).
    pub(super) fn change_rights(&mut self, now: Instant, user: &UserName, rights: &Arc<Rights>) {
        for login in self.logins.of_user(user) {
            let Some(known) = self.logins.find_mut(login) else { continue };
            self.subscribers.remove(&known.caller, &known.subscriptions);
            known.caller = Arc::new(Caller { rights: rights.clone(), ..Caller::clone(&known.caller) });
            self.subscribers.add(&known.caller, &known.subscriptions);
            let caller = known.caller.clone();
            let name = |text| Name::parse(text).expect("a plain word");
            let message = Message {
                topic: name("permission"),
                message: name("changed"),
                timestamp: self.unix(now),
                sequence_id: 0,
                request_id: None,
                response: None,
                pending_id: None,
                headers: serde_json::Map::new(),
                body: serde_json::to_value(permission::Snapshot::of(&caller)).expect("text keys"),
            };
            self.push(now, login, Event::new(&message));
        }
    }
}

fn check_users(users: Option<&[UserName]>) -> Result<(), Error> {
    match users {
        Some(users) if users.len() > MAX_USERS => Err(Error::field("users", format!("field users: at most {MAX_USERS}"))),
        Some(_) | None => Ok(()),
    }
}

fn value<T: Serialize>(body: &T) -> Result<Value, Error> {
    serde_json::to_value(body).map_err(|_| Error::new(Fault::Internal, "the reply cannot be written"))
}
