//! `tandem number`: which number reaches whom.

use cas::text::{Destination, UserName};
use serde_json::json;

use super::client::Pages;
use super::command::{Command, Options, run as run_command};
use super::table::{Column, Form, View};

#[derive(clap::Subcommand)]
pub(super) enum Verb {
    /// List numbers and whose they are
    List,
    /// Give a number to a user
    Add {
        /// The number, as it is dialled: digits, * and #, with an optional + first
        #[arg(value_parser = Destination::parse)]
        number: Destination,
        /// Whose it becomes
        #[arg(long, value_parser = UserName::parse)]
        user: UserName,
    },
    /// Take a number away
    #[command(visible_alias = "remove")]
    Rm {
        /// The number
        #[arg(value_parser = Destination::parse)]
        number: Destination,
    },
}

const COLUMNS: &[Column] = &[
    Column("number", "/number", Form::Plain),
    Column("user", "/user", Form::Plain),
    Column("managed by", "/managed", Form::Plain),
    Column("actions", "/actions", Form::Plain),
];
const PAGES: Pages = Pages { list: "numbers", name: "number" };

pub(super) fn run(options: &Options, verb: Verb) -> anyhow::Result<()> {
    let command = match verb {
        Verb::List => Command::lists("admin", "list-numbers", json!({}), PAGES, View::List("/numbers", COLUMNS, "There are no numbers.")),
        Verb::Add { number, user } => {
            let done = View::Says(format!("Number {number} reaches {user}."));
            Command::writes("admin", "add-number", json!({ "number": number, "user": user }), done)
        }
        Verb::Rm { number } => {
            let done = View::Says(format!("Number {number} reaches nobody now."));
            Command::destroys(format!("Take number {number} away?"), "admin", "remove-number", json!({ "number": number }), done)
        }
    };
    run_command(options, &command)
}
