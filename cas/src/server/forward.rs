//! Requests to plug-ins and what these say.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value};

use super::{Asked, Output, Server, StreamId};
use crate::error::{Error, Fault};
use crate::login::LoginId;
use crate::message::Message;
use crate::pending::{Pace, Prefer, ServeId, Worker};
use crate::permission::Caller;
use crate::plugin::{Said, json_rpc};
use crate::topic::Done;
use crate::topic::plugin::Dialect;

impl Server {
    /// Sends a request to the plug-in that serves its topic; the body goes as it is (004-98).
    pub(super) fn forward(&mut self, now: Instant, caller: &Arc<Caller>, prefer: Prefer, asked: Asked, body: Value) {
        let (stream, dialect) = match self.plugins.take(&asked.topic) {
            Ok(found) => found,
            Err(error) => return self.answer(now, asked, Err(error)),
        };
        let headers = [("user", Value::from(caller.user.as_str())), ("login", caller.login.0.into())];
        let mut message = Message {
            topic: asked.topic.clone(),
            message: asked.message.clone(),
            timestamp: self.unix(now),
            sequence_id: 0,
            request_id: None,
            response: None,
            pending_id: None,
            headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>(),
            body,
        };
        let patience = self.patience(&asked, prefer, &Pace::PLUGIN);
        let Some(serve) = self.begin(now, caller.login, asked, Worker::Plugin(stream), patience, Pace::PLUGIN.limit) else { return };
        message.request_id = Some(serve.0);
        message.sequence_id = serve.0;
        let encoding = self.streams.get(&stream).map(|stream| stream.encoding).unwrap_or_default();
        let body = match dialect {
            Dialect::Cas => message.encode(encoding),
            Dialect::JsonRpc => {
                let mut out = Vec::new();
                encoding.write(&json_rpc(serve.0, &message, caller.user.as_str()), &mut out);
                out
            }
        };
        self.output(Output::Forward { stream, body: body.into() });
        self.work_due(now, serve);
    }

    /// Takes what a plug-in said. A reply counts only for a request that was forwarded to it.
    pub(super) fn plugin_said(&mut self, now: Instant, stream: StreamId, login: Option<LoginId>, said: Said) {
        if let Some(login) = login {
            self.touch(now, login);
        }
        match said {
            Said::Reply(number, outcome) => {
                let is_its = self.pendings.find(ServeId(number)).is_some_and(|pending| pending.worker == Worker::Plugin(stream));
                if is_its {
                    self.finished(now, ServeId(number), outcome.map(|body| Done { body, effects: Vec::new() }));
                }
            }
            // A notification has no reply: what is refused is counted, in the plug-in's list.
            Said::Event(topic, message, body) => drop(self.publish(now, stream, topic, message, None, body)),
        }
    }

    /// Forgets a plug-in whose stream is closed; its requests are answered at once (004-90).
    pub(super) fn plugin_gone(&mut self, now: Instant, stream: StreamId) {
        if !self.plugins.remove(stream) {
            return;
        }
        for serve in self.pendings.which(|pending| pending.worker == Worker::Plugin(stream)) {
            self.finished(now, serve, Err(Error::new(Fault::Unavailable, "the plug-in went away")));
        }
    }
}
