//! `tandem status`: how the switch is, in a few lines.

use serde_json::json;

use super::command::{Command, Options, run as run_command};
use super::table::{Column, Form, View};

#[derive(clap::Args)]
pub(super) struct Args {}

/// What a status has.
pub(super) const COLUMNS: &[Column] = &[
    Column("version", "/version", Form::Plain),
    Column("up for", "/uptime", Form::Span),
    Column("users", "/users", Form::Plain),
    Column("devices", "/devices", Form::Plain),
    Column("calls", "/calls", Form::Plain),
    Column("draining", "/draining", Form::Plain),
    Column("warnings", "/warnings", Form::Plain),
];

pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    run_command(options, &Command::reads("admin", "status", json!({}), View::Record("", COLUMNS)))
}
