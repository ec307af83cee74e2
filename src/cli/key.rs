//! `tandem key`: API keys, by which applications sign in.

use cas::permission::Pattern;
use cas::text::{Line, UserName};
use serde_json::{Value, json};

use super::client::Pages;
use super::command::{Command, Options, run as run_command};
use super::table::{Column, Form, View, plain};

#[derive(clap::Subcommand)]
pub(super) enum Verb {
    /// List API keys, without their secrets
    List,
    /// Make an API key; its secret is printed, and never again
    Add {
        /// What it is called
        #[arg(value_parser = Line::parse)]
        key: Line,
        /// As whom it signs in
        #[arg(long, value_parser = UserName::parse)]
        user: UserName,
        /// What it is for: a right such as tel.hold, tel.* or *; may be repeated
        #[arg(long = "scope", value_name = "RIGHT", required = true, value_parser = Pattern::parse)]
        scopes: Vec<Pattern>,
    },
    /// Remove an API key; its logins end
    #[command(visible_alias = "remove")]
    Rm {
        /// What it is called
        #[arg(value_parser = Line::parse)]
        key: Line,
    },
}

const COLUMNS: &[Column] = &[
    Column("key", "/key", Form::Plain),
    Column("user", "/user", Form::Plain),
    Column("scopes", "/scopes", Form::Plain),
    Column("actions", "/actions", Form::Plain),
];
const PAGES: Pages = Pages { list: "keys", name: "key" };

pub(super) fn run(options: &Options, verb: Verb) -> anyhow::Result<()> {
    let command = match verb {
        Verb::List => Command::lists("admin", "list-keys", json!({}), PAGES, View::List("/keys", COLUMNS, "There are no API keys.")),
        Verb::Add { key, user, scopes } => {
            let body = json!({ "key": key, "user": user, "scopes": scopes });
            Command::writes("admin", "add-key", body, View::By(made))
        }
        Verb::Rm { key } => {
            let done = View::Says(format!("API key {key} is gone."));
            Command::destroys(format!("Remove API key {key}?"), "admin", "remove-key", json!({ "key": key }), done)
        }
    };
    run_command(options, &command)
}

fn made(reply: &Value) -> String {
    format!("{}\nKeep it: the switch does not show it again.", plain(&reply["secret"]))
}
