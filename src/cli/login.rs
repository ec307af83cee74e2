//! `tandem login`: who is signed in to CAS.

use cas::text::UserName;
use serde_json::{Value, json};

use super::client::Client;
use super::command::{Command, Options, block_on, run as run_command, working};
use super::table::{Column, Form, View, plain};
use super::user::{Source, secret, source};

#[derive(clap::Subcommand)]
pub(super) enum Verb {
    /// List logins
    List {
        /// Only this user's
        #[arg(long, value_parser = UserName::parse)]
        user: Option<UserName>,
    },
    /// Sign in as a user and print the token
    Add {
        /// Name of the user
        #[arg(value_parser = UserName::parse)]
        user: UserName,
        /// Where the password is: file:PATH, env:NAME, or - for standard input; asked for where nothing is said
        #[arg(long, value_name = "SOURCE", value_parser = source)]
        password: Option<Source>,
    },
    /// End a login
    #[command(visible_alias = "remove")]
    Rm {
        /// Number of the login
        login: u64,
    },
}

const COLUMNS: &[Column] = &[
    Column("login", "/login", Form::Plain),
    Column("user", "/user", Form::Plain),
    Column("application", "/application", Form::Plain),
    Column("device", "/device", Form::Plain),
    Column("since", "/since", Form::Moment),
    Column("idle", "/idle", Form::Span),
    Column("scopes", "/scopes", Form::Plain),
];

pub(super) fn run(options: &Options, verb: Verb) -> anyhow::Result<()> {
    let command = match verb {
        Verb::List { user } => {
            let body = json!({ "all": user.is_none(), "user": user });
            Command::reads("login", "list", body, View::List("/logins", COLUMNS, "Nobody is signed in."))
        }
        Verb::Add { user, password } => return add(options, &user, password.unwrap_or(Source::Ask)),
        Verb::Rm { login } => {
            let done = View::Says(format!("Login {login} is over."));
            Command::destroys(format!("End login {login}?"), "login", "revoke", json!({ "login": login }), done)
        }
    };
    run_command(options, &command)
}

fn add(options: &Options, user: &UserName, source: Source) -> anyhow::Result<()> {
    let body = json!({ "user": user, "password": secret(options, source)?, "application": "tandem command line" });
    let command = Command::writes("login", "login", body, View::By(|granted: &Value| plain(&granted["token"])));
    if options.dry_run {
        return command.try_dry();
    }
    let granted = block_on(async {
        let mut client = Client::connect(&options.on, options.show()).await?;
        working(command.send(&mut client)).await
    })?;
    options.print(&command.view, &granted)
}
