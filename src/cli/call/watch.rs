//! `tandem call watch`: what is now, then each change.

use cas::message::Message;
use cas::text::CallId;
use serde_json::{Value, json};

use super::show::sentence;
use crate::cli::client::{Client, Events};
use crate::cli::command::{Options, block_on};
use crate::cli::table::{say, say_json_line};
use crate::cli::text::moment;

#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Number of the call; absent: all calls. A call that is named is followed to its end.
    #[arg(value_parser = CallId::parse)]
    call: Option<CallId>,
    /// End after so many lines
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
}

pub(super) fn run(options: &Options, args: &Args) -> anyhow::Result<()> {
    block_on(async {
        let mut client = Client::sign_in(&options.on, options.show()).await?;
        client.ask("subscription", "add", json!({ "topic": "tel" })).await?;
        let mut printer = Printer { json: options.json, call: args.call.as_ref(), left: args.count.unwrap_or(u64::MAX) };
        let now = match &args.call {
            Some(call) => vec![client.ask("tel", "show", json!({ "call": call })).await?["call"].take()],
            None => client.ask("tel", "list", json!({})).await?["calls"].as_array().cloned().unwrap_or_default(),
        };
        let mut events = Events::open(client, Some(0)).await?;
        let followed = follow(&mut events, &mut printer, now).await;
        events.into_client().sign_out().await;
        followed
    })
}

async fn follow(events: &mut Events, printer: &mut Printer<'_>, now: Vec<Value>) -> anyhow::Result<()> {
    for call in now {
        if printer.print(&call, crate::cli::text::now())? == Then::End {
            return Ok(());
        }
    }
    loop {
        let Message { topic, message, timestamp, mut body, .. } = events.next().await?;
        let calls = match (topic.as_str(), message.as_str()) {
            ("tel", _) => vec![body["call"].take()],
            // what takes the place of events that are gone
            ("event", "snapshot") => body["tel"]["calls"].as_array().cloned().unwrap_or_default(),
            _ => continue,
        };
        for call in calls {
            if printer.print(&call, timestamp)? == Then::End {
                return Ok(());
            }
        }
    }
}

/// Whether there is more to see.
#[derive(Debug, PartialEq, Eq)]
enum Then {
    More,
    End,
}

struct Printer<'a> {
    json: bool,
    call: Option<&'a CallId>,
    left: u64,
}

impl Printer<'_> {
    fn print(&mut self, call: &Value, at: u64) -> anyhow::Result<Then> {
        let is_meant = self.call.is_none_or(|id| call["id"] == id.as_str());
        if !is_meant || call.is_null() {
            return Ok(Then::More);
        }
        if self.left == 0 {
            return Ok(Then::End);
        }
        self.left -= 1;
        if self.json {
            say_json_line(&json!({ "call": call }))?;
        } else {
            say(&format!("{} {}", moment(at), sentence(call)))?;
        }
        let is_over = self.call.is_some() && call["state"] == "ended";
        Ok(if is_over || self.left == 0 { Then::End } else { Then::More })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_call_is_followed_to_its_end_and_no_other() {
        let id = CallId::parse("7").unwrap();
        let mut printer = Printer { json: true, call: Some(&id), left: u64::MAX };
        let mut print = |call: &str, state: &str| printer.print(&json!({ "id": call, "state": state }), 0).unwrap();
        assert_eq!(print("7", "connected"), Then::More);
        assert_eq!(print("8", "ended"), Then::More);
        assert_eq!(print("7", "ended"), Then::End);
        let mut printer = Printer { json: true, call: None, left: 2 };
        let mut print = || printer.print(&json!({ "id": "1", "state": "ended" }), 0).unwrap();
        assert_eq!([print(), print()], [Then::More, Then::End]);
    }
}
