//! `tandem user`: the people that the switch serves.

use std::path::PathBuf;

use anyhow::Context as _;
use cas::text::{Destination, Line, UserName};
use serde_json::{Value, json};

use super::client::{Client, Pages};
use super::command::{Command, Options, run as run_command, with, working};
use super::failure::{Exit, Failure};
use super::table::{Column, Form, View};

#[derive(clap::Subcommand)]
pub(super) enum Verb {
    /// List users
    List,
    /// Show a user
    Show {
        /// Name of the user
        #[arg(value_parser = UserName::parse)]
        user: UserName,
    },
    /// Add a user; the password is asked for where --password does not say where it is
    Add {
        /// Name of the user: the user part of their address
        #[arg(value_parser = UserName::parse)]
        user: UserName,
        /// Name to show
        #[arg(long, value_parser = Line::parse)]
        name: Option<Line>,
        /// Number that reaches the user; may be repeated
        #[arg(long = "number", value_name = "NUMBER", value_parser = Destination::parse)]
        numbers: Vec<Destination>,
        /// Where the password is: file:PATH, env:NAME, or - for standard input
        #[arg(long, value_name = "SOURCE", value_parser = source)]
        password: Option<Source>,
    },
    /// Change the name to show or the password of a user
    Set {
        /// Name of the user
        #[arg(value_parser = UserName::parse)]
        user: UserName,
        /// New name to show
        #[arg(long, value_parser = Line::parse, required_unless_present = "password")]
        name: Option<Line>,
        /// Where the new password is: file:PATH, env:NAME, - for standard input; asked for where nothing is said
        #[arg(long, value_name = "SOURCE", value_parser = source, num_args = 0..=1, default_missing_value = "ask")]
        password: Option<Source>,
    },
    /// Remove a user with their devices, numbers and history; their calls end
    #[command(visible_alias = "remove")]
    Rm {
        /// Name of the user
        #[arg(value_parser = UserName::parse)]
        user: UserName,
    },
}

const COLUMNS: &[Column] = &[
    Column("user", "/user", Form::Plain),
    Column("name", "/name", Form::Plain),
    Column("numbers", "/numbers", Form::Plain),
    Column("managed by", "/managed", Form::Plain),
    Column("actions", "/actions", Form::Plain),
];
const PAGES: Pages = Pages { list: "users", name: "user" };

pub(super) fn run(options: &Options, verb: Verb) -> anyhow::Result<()> {
    let command = match verb {
        Verb::List => Command::lists("admin", "list-users", json!({}), PAGES, View::List("/users", COLUMNS, "There are no users.")),
        Verb::Show { user } => return show(options, &user),
        Verb::Add { user, name, numbers, password } => {
            let password = secret(options, password.unwrap_or(Source::Ask))?;
            let body = json!({ "user": user, "name": name, "numbers": numbers, "password": password });
            Command::writes("admin", "add-user", body, View::Says(format!("User {user} is there.")))
        }
        Verb::Set { user, name, password } => {
            let password = password.map(|source| secret(options, source)).transpose()?;
            let body = json!({ "user": user, "name": name, "password": password });
            Command::writes("admin", "set-user", body, View::Says(format!("User {user} is changed.")))
        }
        Verb::Rm { user } => {
            let question = format!("Remove user {user} with their devices, numbers and history, and end their calls?");
            let done = View::Says(format!("User {user} is gone."));
            Command::destroys(question, "admin", "remove-user", json!({ "user": user }), done)
        }
    };
    run_command(options, &command)
}

fn show(options: &Options, user: &UserName) -> anyhow::Result<()> {
    let all = Command::lists("admin", "list-users", json!({}), PAGES, View::Record("", COLUMNS));
    if options.dry_run {
        return all.try_dry();
    }
    let found = with(options, async |client| working(find(client, &all, &[("user", user.as_str())])).await)?;
    let found = found.ok_or_else(|| Failure::new(Exit::NotFound, format!("there is no user {user}")))?;
    options.print(&all.view, &found)
}

/// Finds the record of a list whose members have these values.
///
/// # Errors
///
/// What the switch said.
pub(super) async fn find(client: &mut Client, list: &Command, members: &[(&str, &str)]) -> anyhow::Result<Option<Value>> {
    let reply = list.send(client).await?;
    let records = list.pages.and_then(|pages| reply[pages.list].as_array().cloned()).unwrap_or_default();
    Ok(records.into_iter().find(|record| members.iter().all(|(name, value)| record[name] == *value)))
}

/// Where a secret is: never on the command line, which everybody on the host can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// In a file, without its last line end.
    File(PathBuf),
    /// In a variable.
    Variable(String),
    /// On standard input: its first line.
    Input,
    /// In somebody's head.
    Ask,
}

/// Reads where a secret is.
///
/// # Errors
///
/// What is accepted.
pub(super) fn source(text: &str) -> Result<Source, &'static str> {
    match text.split_once(':') {
        Some(("file", path)) if !path.is_empty() => Ok(Source::File(path.into())),
        Some(("env", name)) if !name.is_empty() => Ok(Source::Variable(name.to_owned())),
        None if text == "-" => Ok(Source::Input),
        None if text == "ask" => Ok(Source::Ask),
        _ => Err("expected file:PATH, env:NAME, or - for standard input; a secret itself would be seen by others on this host"),
    }
}

/// Gets a secret; a command that is tried dry needs none.
///
/// # Errors
///
/// It is not where it should be, or nobody can be asked.
pub(super) fn secret(options: &Options, source: Source) -> anyhow::Result<String> {
    if options.dry_run {
        return Ok("***".to_owned());
    }
    let secret = match source {
        Source::File(path) => {
            std::fs::read_to_string(&path).with_context(|| format!("the password in {} cannot be read", path.display()))?
        }
        Source::Variable(name) => std::env::var(&name).with_context(|| format!("there is no password in the variable {name}"))?,
        Source::Input => std::io::stdin().lines().next().transpose()?.context("there is no password on standard input")?,
        Source::Ask => rpassword::prompt_password("Password: ").map_err(|_| {
            let sentence = "nobody can be asked for the password here; say where it is: --password file:PATH, env:NAME or -";
            Failure::new(Exit::Usage, sentence)
        })?,
    };
    let line = secret.strip_suffix('\n').unwrap_or(&secret);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() || line.contains(char::is_control) {
        return Err(Failure::new(Exit::Usage, "the password is empty or has control characters in it; accepted: text of one line").into());
    }
    Ok(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_named_by_where_it_is() {
        assert_eq!(source("file:/a"), Ok(Source::File("/a".into())));
        assert_eq!(source("env:PW"), Ok(Source::Variable("PW".to_owned())));
        assert_eq!(source("-"), Ok(Source::Input));
        for text in ["hunter2", "file:", "env:", "plain:x", ""] {
            assert!(source(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_line_end_of_a_file_is_no_part_of_its_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "pass word\r\n").unwrap();
        let read = |options: &Options| secret(options, Source::File(file.path().to_owned())).unwrap();
        let refused = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            secret(&Options::default(), Source::File(file.path().to_owned())).is_err()
        };
        assert_eq!(read(&Options::default()), "pass word");
        assert_eq!(read(&Options { dry_run: true, ..Options::default() }), "***");
        assert!(["two\nlines\n", "two\n\n", "\n", "", "a\tb"].into_iter().all(refused));
    }
}
