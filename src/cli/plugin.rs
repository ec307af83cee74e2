//! `tandem plugin`: the processes that offer topics of their own.

use serde_json::{Value, json};

use super::command::{Command, Options, run as run_command, with, working};
use super::failure::{Exit, Failure};
use super::table::{Column, Form, View};

#[derive(clap::Subcommand)]
pub(super) enum Verb {
    /// List plug-ins and their topics
    List,
    /// Put a plug-in out; it may register again as long as its key is good
    #[command(visible_alias = "remove")]
    Rm {
        /// One of its topics, or the number of its login
        plugin: String,
    },
}

const COLUMNS: &[Column] = &[
    Column("login", "/login", Form::Plain),
    Column("user", "/user", Form::Plain),
    Column("topics", "/topics", Form::Plain),
    Column("waiting", "/waiting", Form::Plain),
    Column("timeouts", "/timeouts", Form::Plain),
    Column("refused events", "/refused-events", Form::Plain),
];

pub(super) fn run(options: &Options, verb: Verb) -> anyhow::Result<()> {
    let all = Command::reads("plugin", "list", json!({}), View::List("/plugins", COLUMNS, "There are no plug-ins."));
    let Verb::Rm { plugin } = verb else { return run_command(options, &all) };
    let login = match plugin.parse::<u64>() {
        Ok(login) => login,
        Err(_) => {
            let reply = with(options, async |client| working(all.send(client)).await)?;
            login_of(&reply, &plugin).ok_or_else(|| {
                Failure::new(Exit::NotFound, format!("no plug-in serves the topic {plugin}; `tandem plugin list` has them"))
            })?
        }
    };
    let done = View::Says(format!("The plug-in of {plugin} is out."));
    run_command(
        options,
        &Command::destroys(format!("Put the plug-in of {plugin} out?"), "login", "revoke", json!({ "login": login }), done),
    )
}

fn login_of(plugins: &Value, topic: &str) -> Option<u64> {
    let mut plugins = plugins["plugins"].as_array()?.iter();
    let serves = |plugin: &&Value| plugin["topics"].as_array().is_some_and(|topics| topics.iter().any(|name| name == topic));
    plugins.find(serves)?["login"].as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_found_by_any_of_its_topics() {
        let plugins = json!({ "plugins": [{ "login": 3, "topics": ["a", "b"] }, { "login": 4, "topics": ["c"] }] });
        assert_eq!([login_of(&plugins, "b"), login_of(&plugins, "c"), login_of(&plugins, "d")], [Some(3), Some(4), None]);
    }
}
