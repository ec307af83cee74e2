//! `tandem presence`: who can be reached, and what they say of themselves.

use std::time::Duration;

use cas::text::{Line, UserName};
use cas::topic::presence::{MAX_USERS, Status};
use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};

use super::client::{Client, Events, Pages};
use super::command::{Command, Options, block_on, run as run_command, with, working};
use super::failure::{Exit, Failure};
use super::table::{Column, Form, View, plain, say, say_json_line};
use super::text;

/// The status of somebody who says nothing: their devices say it.
const AUTO: &str = "auto";

#[derive(clap::Subcommand)]
pub(super) enum Verb {
    /// List the presence of every user
    List,
    /// Show the presence of users
    Show {
        /// Names of users
        #[arg(required = true, value_name = "USER", value_parser = UserName::parse)]
        users: Vec<UserName>,
    },
    /// Set what a user says of themself
    Set {
        /// Name of the user
        #[arg(value_parser = UserName::parse)]
        user: UserName,
        /// The status; auto: whatever the devices say
        #[arg(value_parser = PossibleValuesParser::new(Status::ALL.iter().map(|status| status.name()).chain([AUTO])))]
        status: String,
        /// A line about it
        #[arg(long, value_parser = Line::parse)]
        note: Option<Line>,
        /// When it ends by itself, such as 30m or 2h from now
        #[arg(long = "for", value_name = "TIME", value_parser = text::duration)]
        lasts: Option<Duration>,
    },
    /// Follow the presence of users
    Watch {
        /// Names of users
        #[arg(required = true, value_name = "USER", value_parser = UserName::parse)]
        users: Vec<UserName>,
        /// End after so many lines
        #[arg(long, value_name = "NUMBER")]
        count: Option<u64>,
    },
}

const COLUMNS: &[Column] = &[
    Column("user", "/user", Form::Plain),
    Column("telephony", "/presence/telephony", Form::Plain),
    Column("status", "/presence/status", Form::Plain),
    Column("note", "/presence/note", Form::Plain),
    Column("mobile", "/presence/mobile", Form::Plain),
    Column("messages", "/presence/im", Form::Plain),
    Column("most available", "/presence/most-available", Form::Plain),
    Column("semi-available", "/presence/semi-available", Form::Plain),
];
const LIST: View = View::List("/users", COLUMNS, "There is nobody.");

pub(super) fn run(options: &Options, verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::List => list(options),
        Verb::Show { users } => show(options, &users),
        Verb::Set { user, status, note, lasts } => {
            let until = lasts.map(|lasts| text::now().saturating_add(u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX)));
            let status = (status != AUTO).then_some(status);
            let body = json!({ "user": user, "status": status, "note": note, "until": until });
            run_command(options, &Command::writes("presence", "set", body, LIST))
        }
        Verb::Watch { users, count } => watch(options, &users, count.unwrap_or(u64::MAX)),
    }
}

fn show(options: &Options, users: &[UserName]) -> anyhow::Result<()> {
    let command = get(users.iter().map(|user| json!(user)).collect());
    if options.dry_run {
        return command.try_dry();
    }
    let reply = with(options, async |client| working(command.send(client)).await)?;
    // the switch leaves unknown users out
    let is_known = |user: &&UserName| reply["users"].as_array().is_some_and(|known| known.iter().any(|one| one["user"] == user.as_str()));
    let unknown: Vec<_> = users.iter().filter(|user| !is_known(user)).map(UserName::as_str).collect();
    if unknown.is_empty() {
        return options.print(&command.view, &reply);
    }
    Err(Failure::new(Exit::NotFound, format!("there is no user {}", unknown.join(", "))).into())
}

fn get(users: Vec<Value>) -> Command {
    Command::reads("presence", "get", json!({ "users": users }), LIST)
}

fn list(options: &Options) -> anyhow::Result<()> {
    let all = Command::lists("admin", "list-users", json!({}), Pages { list: "users", name: "user" }, LIST);
    if options.dry_run {
        return all.try_dry();
    }
    let reply = with(options, async |client| {
        let users = working(all.send(client)).await?["users"].as_array().cloned().unwrap_or_default();
        let mut found = Vec::new();
        for some in users.chunks(MAX_USERS) {
            let mut page = get(some.iter().map(|user| user["user"].clone()).collect()).send(client).await?;
            found.extend(page["users"].as_array_mut().map(std::mem::take).unwrap_or_default());
        }
        Ok(json!({ "users": found }))
    })?;
    options.print(&LIST, &reply)
}

fn watch(options: &Options, users: &[UserName], mut left: u64) -> anyhow::Result<()> {
    block_on(async {
        let mut client = Client::sign_in(&options.on, options.show()).await?;
        let mut now = client.ask("presence", "get", json!({ "users": users, "subscribe": true })).await?;
        let mut events = Events::open(client, Some(0)).await?;
        let mut ready = now["users"].as_array_mut().map(std::mem::take).unwrap_or_default();
        let followed = async {
            loop {
                for user in ready.drain(..) {
                    if left == 0 {
                        return Ok(());
                    }
                    left -= 1;
                    print(options, &user)?;
                }
                if left == 0 {
                    return Ok(());
                }
                let mut event = events.next().await?;
                match (event.topic.as_str(), event.message.as_str()) {
                    ("presence", "changed") => ready.push(event.body),
                    ("event", "snapshot") => ready = event.body["presence"]["users"].as_array_mut().map(std::mem::take).unwrap_or_default(),
                    _ => {}
                }
            }
        }
        .await;
        events.into_client().sign_out().await;
        followed
    })
}

fn print(options: &Options, user: &Value) -> anyhow::Result<()> {
    if options.json {
        // a presence that the caller may not see is none
        let presence = if user["presence"].is_null() { json!({}) } else { user["presence"].clone() };
        return say_json_line(&json!({ "user": user["user"], "presence": presence }));
    }
    say(&format!("{} {}", text::moment(text::now()), sentence(user)))
}

/// Writes a presence as one line.
pub(super) fn sentence(user: &Value) -> String {
    let presence = &user["presence"];
    let parts = ["telephony", "status", "note"].iter().map(|part| plain(&presence[part])).filter(|part| !part.is_empty());
    let parts: Vec<_> = parts.collect();
    let said = if parts.is_empty() { "not to be seen".to_owned() } else { parts.join(", ") };
    text::printable(&format!("{}: {said}", plain(&user["user"])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_presence_is_a_line() {
        let user = json!({ "user": "ann", "presence": { "telephony": "on-call", "status": "busy", "note": "in a\nmeeting" } });
        assert_eq!(sentence(&user), "ann: on-call, busy, in a\\u{a}meeting");
        assert_eq!(sentence(&json!({ "user": "bob" })), "bob: not to be seen");
    }
}
