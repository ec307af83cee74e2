//! `tandem drain`: no new calls, and the wait until the last one is over.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::client::Client;
use super::command::{Command, Options, with, working};
use super::failure::{Exit, Failure};
use super::status;
use super::table::View;
use super::text;

/// How often the switch is asked how many calls are left.
const PERIOD: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(super) struct Args {
    /// When the calls that are left are ended, such as 10m; absent: they end by themselves
    #[arg(long, value_name = "TIME", value_parser = text::duration)]
    deadline: Option<Duration>,
    /// Do not wait for the last call
    #[arg(long)]
    no_wait: bool,
}

pub(super) fn run(options: &Options, args: &Args) -> anyhow::Result<()> {
    let deadline = args.deadline.map(|deadline| u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX));
    let body = json!({ "deadline": deadline });
    let command = Command::writes("admin", "drain", body, View::Record("", status::COLUMNS));
    if options.dry_run {
        return command.try_dry();
    }
    let ends = match args.deadline {
        Some(deadline) => format!("and end its calls after {}", text::span(u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX))),
        None => "and wait for its last call".to_owned(),
    };
    options.confirm(&format!("Take no new calls from now on, {ends}?"))?;
    let last = with(options, async |client| {
        working(command.send(client)).await?;
        if args.no_wait { client.ask("admin", "status", json!({})).await } else { wait(client).await }
    })?;
    options.print(&command.view, &last)
}

/// Waits until the last call is over. A switch that ends after it has nothing more to say.
async fn wait(client: &mut Client) -> anyhow::Result<Value> {
    let mut last = client.ask("admin", "status", json!({})).await?;
    let bar = ProgressBar::new(calls(&last)); // it draws on standard error, and only where that is a terminal
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos} of {len} calls are over, {elapsed}") {
        bar.set_style(style);
    }
    while calls(&last) > 0 {
        let all = bar.length().unwrap_or(0).max(calls(&last));
        bar.set_length(all);
        bar.set_position(all - calls(&last));
        tokio::time::sleep(PERIOD).await;
        match client.ask("admin", "status", json!({})).await {
            Ok(status) if status["draining"] == false => {
                bar.finish_and_clear();
                return Err(Failure::new(Exit::Error, "somebody let the switch take new calls again").into());
            }
            Ok(status) => last = status,
            Err(_) => break,
        }
    }
    bar.finish_and_clear();
    Ok(last)
}

fn calls(status: &Value) -> u64 {
    status["calls"].as_u64().unwrap_or(0)
}
