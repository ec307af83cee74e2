//! Replies: a message with the request's headers, to a client that waits, into a place of a bulk, or later as an event.

use std::time::Instant;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Asked, Output, Sender, Server, Sink};
use crate::bulk::Whole;
use crate::error::Error;
use crate::event::{Event, Frame};
use crate::login::LoginId;
use crate::message::{Encoding, Message, PENDING, SUCCESS, Unreadable};
use crate::text::Name;
use crate::topic::event::{BulkReply, Replies};

/// A reply's bytes, and how the request went.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The header `response`.
    pub response: u16,
    /// The encoding, for the header Content-Type.
    pub encoding: Encoding,
    /// The message.
    pub body: Bytes,
}

impl Reply {
    /// Returns the status code over HTTP: 200 for success, else the header `response`.
    #[must_use]
    pub fn status(&self) -> u16 {
        if self.response == SUCCESS { 200 } else { self.response }
    }
}

impl Asked {
    fn is_slot(&self) -> bool {
        matches!(self.sink, Sink::Slot(..))
    }
}

impl Server {
    /// Answers a request.
    pub(super) fn answer(&mut self, now: Instant, asked: Asked, outcome: Result<Value, Error>) {
        let (response, body) = told(outcome);
        let message = self.reply_message(now, &asked, response, None, body);
        self.deliver_reply(now, asked.sink, message);
    }

    /// Tells that the answer takes longer (004-19).
    pub(super) fn answer_pending(&mut self, now: Instant, asked: Asked, pending_id: u64) {
        let message = self.reply_message(now, &asked, PENDING, Some(pending_id), json!({ "id": pending_id }));
        self.deliver_reply(now, asked.sink, message);
    }

    /// Gives the final answer after a pending one, as an event (004-20).
    pub(super) fn complete(&mut self, now: Instant, login: LoginId, asked: &Asked, pending_id: u64, outcome: Result<Value, Error>) {
        let (response, body) = told(outcome);
        let message = self.reply_message(now, asked, response, Some(pending_id), body);
        self.push(now, login, Event::new(&message));
    }

    /// Refuses what could not be read.
    pub(super) fn refuse(&mut self, now: Instant, sink: Sink, sender: Sender, unreadable: Unreadable) {
        let Unreadable { error, topic, message, request_id } = unreadable;
        let name = |name: Option<Name>, otherwise| name.unwrap_or_else(|| Name::parse(otherwise).expect("a plain word"));
        let (topic, message) = (name(topic, "cas"), name(message, "error"));
        self.answer(now, Asked { topic, message, request_id, sender, sink }, Err(error));
    }

    /// Answers a request for events.
    pub(super) fn answer_events(&mut self, now: Instant, asked: Asked, frames: &[Frame]) {
        let Sink::Exchange(exchange, encoding) = asked.sink else {
            return self.answer(now, asked, Ok(json!({ "events": [] })));
        };
        let message = self.reply_message(now, &asked, SUCCESS, None, Value::Null);
        let body = with_events(message, encoding, frames);
        self.output(Output::Reply { exchange, reply: Reply { response: SUCCESS, encoding, body } });
    }

    fn reply_message(&mut self, now: Instant, asked: &Asked, response: u16, pending_id: Option<u64>, body: Value) -> Message {
        Message {
            topic: asked.topic.clone(),
            message: asked.message.clone(),
            timestamp: self.unix(now),
            sequence_id: if asked.is_slot() { 0 } else { self.next_reply(asked.sender) },
            request_id: asked.request_id,
            response: Some(response),
            pending_id,
            headers: Map::new(),
            body,
        }
    }

    /// Returns the number of the next reply to somebody: their login's, before it their stream's. Who has neither gets one reply.
    fn next_reply(&mut self, sender: Sender) -> u64 {
        let of_login = sender.login.and_then(|login| self.logins.find_mut(login)).map(|login| &mut login.replies);
        let counter = of_login.or_else(|| Some(&mut self.streams.get_mut(&sender.stream?)?.replies));
        counter.map_or(1, |counter| {
            *counter += 1;
            *counter
        })
    }

    fn deliver_reply(&mut self, now: Instant, sink: Sink, message: Message) {
        match sink {
            Sink::Exchange(exchange, encoding) => {
                let response = message.response.unwrap_or(SUCCESS);
                let body = message.encode(encoding).into();
                self.output(Output::Reply { exchange, reply: Reply { response, encoding, body } });
            }
            Sink::Slot(number, position) => {
                let Some(bulk) = self.bulks.get_mut(&number) else { return };
                let whole = bulk.fill(position, message.into_value());
                if let Some(whole) = whole {
                    self.bulk_whole(now, number, whole);
                }
            }
        }
    }

    /// Tells the replies of a group that is whole.
    fn bulk_whole(&mut self, now: Instant, number: u64, mut whole: Whole) {
        let Some(bulk) = self.bulks.get_mut(&number) else { return };
        let (login, replies, is_over) = (bulk.login, bulk.replies, bulk.is_over());
        let asked = if replies == Replies::Bulk { bulk.asked.take() } else { None };
        let bulk = if is_over { self.bulks.remove(&number) } else { None };
        drop(bulk);
        // The replies of a bulk are numbered when they leave, in the order in which the client reads them.
        for reply in &mut whole.replies {
            reply["sequence-id"] = self.next_reply(Sender { login: Some(login), stream: None }).into();
        }
        match (replies, asked) {
            (Replies::Bulk, Some(asked)) => {
                let body = BulkReply { replies: whole.replies, pending: Vec::new() };
                self.answer(now, asked, Ok(serde_json::to_value(body).expect("text keys")));
            }
            (Replies::Bulk, None) => {}
            (Replies::Serial, _) => {
                for reply in whole.replies {
                    let Ok(message) = Message::from_value(reply) else { continue };
                    let message = Message { pending_id: Some(whole.pending_id), ..message };
                    self.push(now, login, Event::new(&message));
                }
            }
            (Replies::Mixed, _) => {
                let body = BulkReply { replies: whole.replies, pending: Vec::new() };
                let name = Name::parse("bulk").expect("a plain word");
                let message = Message {
                    topic: name.clone(),
                    message: name,
                    timestamp: self.unix(now),
                    sequence_id: 0,
                    request_id: None,
                    response: Some(SUCCESS),
                    pending_id: Some(whole.pending_id),
                    headers: Map::new(),
                    body: serde_json::to_value(body).expect("text keys"),
                };
                self.push(now, login, Event::new(&message));
            }
        }
    }
}

fn told(outcome: Result<Value, Error>) -> (u16, Value) {
    match outcome {
        Ok(body) => (SUCCESS, body),
        Err(error) => (error.fault.response(), serde_json::to_value(error).expect("text keys")),
    }
}

/// Writes a reply with events, which are written already, in its body.
fn with_events(message: Message, encoding: Encoding, frames: &[Frame]) -> Bytes {
    let (close, open, middle, end): (&[u8], &[u8], &[u8], &[u8]) = match encoding {
        Encoding::Json => (b"}", b",\"body\":{\"events\":[", b",", b"]}}"),
        Encoding::Xml => (b"</cas>", b"<body type=\"object\"><events type=\"array\">", b"", b"</events></body></cas>"),
    };
    let mut out = message.encode(encoding);
    out.truncate(out.len() - close.len());
    out.reserve(frames.iter().map(|frame| frame.len() + 64).sum::<usize>() + 64);
    out.extend_from_slice(open);
    for (count, frame) in frames.iter().enumerate() {
        if count > 0 {
            out.extend_from_slice(middle);
        }
        frame.write_item(encoding, &mut out);
    }
    out.extend_from_slice(end);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::message;

    #[test]
    fn a_reply_with_events_is_one_message_in_both_encodings() {
        let frames: Vec<Frame> = (1..=2).map(|number| Frame::new(number, Event::new(&message(number)))).collect();
        for encoding in [Encoding::Json, Encoding::Xml] {
            for count in 0..=2 {
                let head = Message { body: Value::Null, request_id: Some(7), ..message(0) };
                let body = with_events(head, encoding, &frames[..count]);
                let read = Message::decode(encoding, &body).unwrap();
                let events = read.body["events"].as_array().unwrap();
                let numbers: Vec<u64> = events.iter().map(|event| event["sequence-id"].as_u64().unwrap()).collect();
                assert_eq!(numbers, (1..=count as u64).collect::<Vec<_>>());
                assert!(events.iter().all(|event| event["body"]["text"] == message(0).body["text"]));
            }
        }
    }
}
