//! `tandem event tail`: the events of CAS as applications get them, resumable.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use cas::message::Message;
use cas::text::{Name, UserName};
use serde_json::{Value, json};

use super::client::{Client, Events, On};
use super::command::{Options, block_on};
use super::table::{plain, say, say_json_line};
use super::{call, presence, text};

/// What is followed where no topic is named.
const TOPICS: [&str; 4] = ["tel", "history", "presence", "admin"];

#[derive(clap::Subcommand)]
pub(super) enum Verb {
    /// Follow events
    Tail(Args),
}

#[derive(clap::Args)]
pub(super) struct Args {
    /// Only this topic, also one of a plug-in; may be repeated [default: tel, history, presence, admin]
    #[arg(long = "topic", value_name = "TOPIC", value_parser = Name::parse)]
    topics: Vec<Name>,
    /// Only what concerns this user; may be repeated
    #[arg(long = "user", value_name = "USER", value_parser = UserName::parse)]
    users: Vec<UserName>,
    /// Number of the last event that you have; needs the login that it was counted in: --token or --cursor
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// Leave out what happened longer ago than this, such as 5m
    #[arg(long, value_name = "TIME", value_parser = text::duration)]
    since: Option<Duration>,
    /// File that keeps the place: go on there if it has one. It has a token in it, and is readable for you alone
    #[arg(long, value_name = "FILE", conflicts_with = "after")]
    cursor: Option<PathBuf>,
    /// End after so many events
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
}

pub(super) fn run(options: &Options, verb: Verb) -> anyhow::Result<()> {
    let Verb::Tail(args) = verb;
    block_on(async {
        let mut events = match resume(options, &args).await? {
            Some(events) => events,
            None => begin(options, &args, args.after).await?,
        };
        let mut left = args.count.unwrap_or(u64::MAX);
        let mut tailed = tail(options, &args, &mut events, &mut left).await;
        while let Err(error) = &tailed
            && events.is_forgotten()
            && options.on.token.is_none()
        {
            eprintln!("tandem: the login is over ({error}); beginning anew, and what happened meanwhile is not shown");
            events = begin(options, &args, None).await?;
            tailed = tail(options, &args, &mut events, &mut left).await;
        }
        if args.cursor.is_none() {
            events.into_client().sign_out().await;
        }
        tailed
    })
}

/// Signs in and subscribes.
async fn begin(options: &Options, args: &Args, after: Option<u64>) -> anyhow::Result<Events> {
    let mut client = Client::sign_in(&options.on, options.show()).await?;
    let from = if options.on.token.is_some() { after } else { Some(after.unwrap_or(0)) };
    if after.is_none() {
        let users = (!args.users.is_empty()).then_some(&args.users);
        for topic in topics(args) {
            let wanted = super::client::without_null(json!({ "topic": topic, "users": users }));
            client.ask("subscription", "add", wanted).await?;
        }
    }
    Events::open(client, from).await
}

/// Goes on where the cursor is; none where there is none, or its login is over.
async fn resume(options: &Options, args: &Args) -> anyhow::Result<Option<Events>> {
    let Some(Place { token, after }) = args.cursor.as_deref().map(read).transpose()?.flatten() else { return Ok(None) };
    let on = On { token: Some(token), ..options.on.clone() };
    let client = Client::sign_in(&on, options.show()).await?;
    match Events::open(client, Some(after)).await {
        Ok(events) => Ok(Some(events)),
        Err(error) => {
            eprintln!("tandem: the place in the cursor is gone ({error}); what happened since is not shown");
            Ok(None)
        }
    }
}

fn topics(args: &Args) -> Vec<&str> {
    if args.topics.is_empty() { TOPICS.to_vec() } else { args.topics.iter().map(Name::as_str).collect() }
}

async fn tail(options: &Options, args: &Args, events: &mut Events, left: &mut u64) -> anyhow::Result<()> {
    let since = args.since.map_or(0, |ago| text::now().saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)));
    keep(args, events)?; // the place before the first event is one too
    while *left > 0 {
        let event = events.next().await?;
        let is_meant = args.topics.is_empty() || args.topics.contains(&event.topic) || event.topic.as_str() == "event";
        if is_meant && event.timestamp >= since {
            *left -= 1;
            print(options, event)?;
        }
        keep(args, events)?;
    }
    Ok(())
}

fn print(options: &Options, event: Message) -> anyhow::Result<()> {
    if options.json { say_json_line(&event.into_value()) } else { say(&line(&event)) }
}

/// Writes an event as one line.
fn line(event: &Message) -> String {
    let body = &event.body;
    let what = match event.topic.as_str() {
        "tel" if body["call"].is_object() => call::sentence(&body["call"]),
        "presence" if body["presence"].is_object() => presence::sentence(body),
        "history" if body["entry"].is_object() => {
            let entry = &body["entry"];
            let whom = ["name", "number"].iter().map(|member| plain(&entry[member])).find(|text| !text.is_empty()).unwrap_or_default();
            format!("{}: {} {whom}", plain(&entry["user"]), plain(&entry["kind"]))
        }
        _ if body.is_null() => String::new(),
        _ => body.to_string(),
    };
    let (number, topic, message) = (event.sequence_id, event.topic.as_str(), event.message.as_str());
    text::printable(&format!("{} {number} {topic}.{message} {what}", text::moment(event.timestamp)))
}

/// Where to go on.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    token: String,
    after: u64,
}

fn keep(args: &Args, events: &Events) -> anyhow::Result<()> {
    match (&args.cursor, events.token()) {
        (Some(file), Some(token)) => write(file, &Place { token: token.to_owned(), after: events.last().unwrap_or(0) }),
        _ => Ok(()),
    }
}

/// Replaces the file as a whole: a command that is stopped in between leaves the old place.
fn write(file: &Path, place: &Place) -> anyhow::Result<()> {
    let unwritable = || format!("the cursor {} cannot be written", file.display());
    let beside = file.with_extension("new");
    let mut new = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside).with_context(unwritable)?;
    writeln!(new, "{}", json!({ "token": place.token, "after": place.after })).with_context(unwritable)?;
    std::fs::rename(&beside, file).with_context(unwritable)
}

fn read(file: &Path) -> anyhow::Result<Option<Place>> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("the cursor {} cannot be read", file.display())),
    };
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    let place = value["token"].as_str().zip(value["after"].as_u64());
    let place = place.map(|(token, after)| Place { token: token.to_owned(), after });
    Ok(Some(place.with_context(|| format!("{} is no cursor; remove it, or name another file", file.display()))?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_cursor_is_for_its_owner_alone_and_says_where_to_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cursor");
        assert_eq!(read(&file).unwrap(), None);
        let place = Place { token: "t".to_owned(), after: 26 };
        write(&file, &place).unwrap();
        assert_eq!(read(&file).unwrap(), Some(place));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        for text in ["{}", ""] {
            std::fs::write(&file, text).unwrap();
            assert!(format!("{:#}", read(&file).unwrap_err()).ends_with("is no cursor; remove it, or name another file"));
        }
    }

    #[test]
    fn an_event_is_a_line() {
        let event = |topic: &str, body| {
            let message = json!({ "topic": topic, "message": "changed", "timestamp": 0, "sequence-id": 4, "body": body });
            line(&Message::from_value(message).unwrap())
        };
        assert_eq!(event("crm", json!({ "a": "\u{9b}" })), "1970-01-01 00:00:00Z 4 crm.changed {\"a\":\"\\u{9b}\"}");
        let entry = json!({ "entry": { "user": "ann", "kind": "missed", "number": "501" } });
        assert_eq!(event("history", entry), "1970-01-01 00:00:00Z 4 history.changed ann: missed 501");
    }
}
