//! The event stream of a login (server-sent events, WHATWG HTML §9.2): taken up again after a break where it broke off, and the token
//! renewed before it expires.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use cas::error::{Error, Fault};
use http_body_util::Full;
use hyper::header::{ACCEPT, AUTHORIZATION};
use hyper::{Request, StatusCode};
use serde_json::Value;

use super::wire::{Stream, Wire};
use super::{Client, Encoding, Message, refusal};
use crate::cli::failure::Failure;
use crate::clock;

/// Longest event that is read, in bytes; a longer one breaks the stream.
const MAX_FRAME: usize = 2 * cas::message::MAX_MESSAGE;
/// How often a broken stream is opened again before the command gives up.
const TRIES: u32 = 20;
/// How long it waits before each further try.
const PAUSE: Duration = Duration::from_millis(500);
/// When a token of unknown age is renewed; a fresh one is good for longer.
const RENEW: Duration = Duration::from_secs(5 * 60);

/// The events of a login.
pub(in crate::cli) struct Events {
    client: Client,
    stream: Option<Stream>,
    frames: Frames,
    after: Option<u64>,
    renew_at: Instant,
    /// Whether the switch knows the login no more and never said that it ends.
    is_forgotten: bool,
}

impl Events {
    /// Opens the stream, after an event that the caller has.
    ///
    /// # Errors
    ///
    /// The switch refuses it.
    pub(in crate::cli) async fn open(client: Client, after: Option<u64>) -> anyhow::Result<Self> {
        let renew_at = clock::now() + RENEW;
        let mut events = Self { client, stream: None, frames: Frames::default(), after, renew_at, is_forgotten: false };
        events.stream = Some(events.connect().await?);
        Ok(events)
    }

    /// Returns the number of the last event.
    pub(in crate::cli) fn last(&self) -> Option<u64> {
        self.after
    }

    /// Returns the token that the login has now.
    pub(in crate::cli) fn token(&self) -> Option<&str> {
        self.client.token.as_deref()
    }

    /// Returns whether the switch forgot the login, as it does when it starts anew: another login may begin.
    pub(in crate::cli) fn is_forgotten(&self) -> bool {
        self.is_forgotten
    }

    /// Gives back the client whose login it was.
    pub(in crate::cli) fn into_client(self) -> Client {
        self.client
    }

    /// Waits for the next event. Nothing is lost where the future is dropped.
    ///
    /// # Errors
    ///
    /// The switch is gone, or the login is over.
    pub(in crate::cli) async fn next(&mut self) -> anyhow::Result<Message> {
        loop {
            if let Some(data) = self.frames.pop() {
                let Ok(event) = Message::decode(Encoding::Json, &data) else {
                    farewell(&data)?;
                    continue;
                };
                self.after = Some(event.sequence_id);
                return Ok(event);
            }
            if clock::now() >= self.renew_at {
                self.renew().await?;
            }
            let Some(stream) = &mut self.stream else {
                self.reconnect().await?;
                continue;
            };
            tokio::select! {
                biased;
                piece = stream.next() => match piece {
                    Ok(Some(bytes)) if self.frames.push(&bytes).is_ok() => {}
                    Ok(_) | Err(_) => self.stream = None,
                },
                () = tokio::time::sleep_until(self.renew_at.into()) => {}
            }
        }
    }

    async fn renew(&mut self) -> anyhow::Result<()> {
        self.renew_at = clock::now() + RENEW;
        match self.client.ask("login", "refresh", Value::Null).await {
            Ok(granted) => {
                self.client.token = granted["token"].as_str().map(str::to_owned).or(self.client.token.take());
                Ok(())
            }
            // a key that is not for this: its login lasts as long as it lasts
            Err(error) if is_refusal(&error) => Ok(()),
            // the stream is no better: it is taken up again, or given up
            Err(_) => {
                self.stream = None;
                Ok(())
            }
        }
    }

    async fn reconnect(&mut self) -> anyhow::Result<()> {
        eprintln!("tandem: the event stream broke; taking it up again");
        self.frames = Frames::default();
        for _ in 1..TRIES {
            tokio::time::sleep(PAUSE).await;
            match self.connect().await {
                Ok(stream) => {
                    self.stream = Some(stream);
                    return Ok(());
                }
                // the login is over: asking again changes nothing
                Err(error) if is_refusal(&error) => {
                    self.is_forgotten = true;
                    return Err(error);
                }
                Err(_) => {}
            }
        }
        self.stream = Some(self.connect().await?);
        Ok(())
    }

    async fn connect(&mut self) -> anyhow::Result<Stream> {
        let path = self.after.map_or_else(|| "/cas/events".to_owned(), |after| format!("/cas/events?after={after}"));
        let mut http = Request::get(path).header(ACCEPT, "text/event-stream");
        if let Some(token) = &self.client.token {
            http = http.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let http = http.body(Full::<Bytes>::default()).context("the token is no token")?;
        let wire = Wire::open(&self.client.place, self.client.on.ca.as_deref()).await?;
        let (status, mut stream) = wire.stream(http).await?;
        if status == StatusCode::OK {
            return Ok(stream);
        }
        let mut body = Vec::new();
        while let Some(bytes) = stream.next().await?.filter(|bytes| body.len() + bytes.len() <= MAX_FRAME) {
            body.extend_from_slice(&bytes);
        }
        let reply = Message::decode(Encoding::Json, &body).map_err(|_| self.client.strange(status))?;
        Err(refusal(reply.body))
    }
}

fn is_refusal(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(Failure::is_refusal)
}

/// Reads the last word of a stream: that the login is over ends more than the stream.
fn farewell(data: &[u8]) -> anyhow::Result<()> {
    match serde_json::from_slice::<Error>(data) {
        Ok(why) if why.fault == Fault::LoginRequired => Err(Failure::of_refusal(&why).into()),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Server-sent events out of bytes: the data of each. At most [`MAX_FRAME`] bytes of an unfinished one are kept.
#[derive(Default)]
struct Frames {
    line: Vec<u8>,
    data: Vec<u8>,
    whole: VecDeque<Vec<u8>>,
}

/// An event was longer than any that a switch sends.
#[derive(Debug, PartialEq, Eq)]
struct TooLong;

impl Frames {
    fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let last = lines.next_back().unwrap_or_default();
        for line in lines {
            self.line.extend_from_slice(line);
            self.end_line();
        }
        self.line.extend_from_slice(last);
        if self.line.len() + self.data.len() > MAX_FRAME { Err(TooLong) } else { Ok(()) }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line.is_empty() && !self.data.is_empty() {
            self.whole.push_back(std::mem::take(&mut self.data));
        } else if let Some(data) = line.strip_prefix(b"data:") {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
        }
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        self.whole.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_of_any_pieces() {
        let text = b": hello\n\nid: 1\ndata: {\"a\":\ndata: 1}\n\nevent: x\r\ndata:2\r\n\r\ndata: unfinished\n";
        for size in 1..text.len() {
            let mut frames = Frames::default();
            text.chunks(size).for_each(|piece| frames.push(piece).unwrap());
            assert_eq!(frames.pop().unwrap(), b"{\"a\":\n1}", "{size}");
            assert_eq!(frames.pop().unwrap(), b"2");
            assert_eq!(frames.pop(), None);
        }
    }

    #[test]
    fn a_login_that_is_over_ends_its_stream_for_good_and_nothing_else_does() {
        let said = |fault| farewell(&serde_json::to_vec(&Error::new(fault, "why")).unwrap());
        assert!(is_refusal(&said(Fault::LoginRequired).unwrap_err()));
        assert!(said(Fault::TooMany).is_ok() && farewell(b"{}").is_ok());
    }

    #[test]
    fn an_event_without_an_end_is_given_up() {
        // S9
        let mut frames = Frames::default();
        let piece = vec![b'x'; 64 * 1024];
        let pushed = (0..).map(|_| frames.push(&piece)).take_while(Result::is_ok).count();
        assert!(pushed <= MAX_FRAME / piece.len());
    }
}
