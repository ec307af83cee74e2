//! `tandem history`: calls that are over. The number of a call leads on to `tandem call why`.

use cas::text::{DeviceId, EntryId, Prose, UserName};
use cas::topic::history::Kind;
use clap::builder::PossibleValuesParser;
use serde_json::json;
use std::time::Duration;

use super::command::{Command, Options, run as run_command};
use super::device::asks_as_host;
use super::failure::{Exit, Failure};
use super::table::{Column, Form, View};
use super::text;

#[derive(clap::Subcommand)]
pub(super) enum Verb {
    /// List calls of a user, the newest first
    List {
        /// Whose; absent: the caller's, who has to be signed in
        #[arg(long, value_parser = UserName::parse)]
        user: Option<UserName>,
        /// Only the calls of this device
        #[arg(long, value_parser = DeviceId::parse)]
        device: Option<DeviceId>,
        /// Only these; may be repeated
        #[arg(long = "kind", value_name = "KIND", value_parser = PossibleValuesParser::new(Kind::ALL.iter().map(|kind| kind.name())))]
        kinds: Vec<String>,
        /// Only calls that began no longer ago than this, such as 2h or 7d
        #[arg(long, value_name = "TIME", value_parser = text::duration)]
        since: Option<Duration>,
        /// How many at most
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=200))]
        limit: u16,
        /// Where the page before ended: its `next`
        #[arg(long, value_name = "ENTRY", value_parser = EntryId::parse)]
        after: Option<EntryId>,
    },
    /// Set the note on an entry; none without a text
    Set {
        /// The entry
        #[arg(value_parser = EntryId::parse)]
        entry: EntryId,
        /// The note
        #[arg(long, value_parser = Prose::parse)]
        note: Option<Prose>,
    },
    /// Delete an entry
    #[command(visible_alias = "remove")]
    Rm {
        /// The entry
        #[arg(value_parser = EntryId::parse)]
        entry: EntryId,
    },
}

const COLUMNS: &[Column] = &[
    Column("entry", "/id", Form::Plain),
    Column("kind", "/kind", Form::Plain),
    Column("began", "/started-at", Form::Moment),
    Column("talked", "/talked", Form::Span),
    Column("number", "/number", Form::Plain),
    Column("name", "/name", Form::Plain),
    Column("device", "/device", Form::Plain),
    Column("call", "/call", Form::Plain),
    Column("why", "/why", Form::Plain),
    Column("note", "/note", Form::Plain),
];

pub(super) fn run(options: &Options, verb: Verb) -> anyhow::Result<()> {
    let command = match verb {
        Verb::List { user: None, .. } if asks_as_host(options) => {
            return Err(Failure::new(Exit::Usage, "say whose calls with --user: the host's administrator has none").into());
        }
        Verb::List { user, device, kinds, since, limit, after } => {
            let since = since.map(|ago| text::now().saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)));
            let body = json!({ "user": user, "device": device, "kinds": kinds, "since": since, "limit": limit, "after": after });
            Command::reads("history", "list", body, View::List("/entries", COLUMNS, "There are no calls."))
        }
        Verb::Set { entry, note } => {
            Command::writes("history", "note", json!({ "entry": entry, "text": note }), View::Record("/entry", COLUMNS))
        }
        Verb::Rm { entry } => {
            let done = View::Says(format!("Entry {entry} is gone."));
            Command::destroys(format!("Delete entry {entry}?"), "history", "delete", json!({ "entry": entry }), done)
        }
    };
    run_command(options, &command)
}
