//! `tandem drain`: no new calls, and the wait until the last one is over. Then the switch ends, unless it is to stay.

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
    #[arg(long, value_name = "TIME", value_parser = text::duration, conflicts_with_all = ["stay", "cancel"])]
    deadline: Option<Duration>,
    /// The switch stays up without calls instead of ending
    #[arg(long, conflicts_with = "cancel")]
    stay: bool,
    /// Take new calls again
    #[arg(long)]
    cancel: bool,
    /// Do not wait for the last call
    #[arg(long)]
    no_wait: bool,
}

pub(super) fn run(options: &Options, args: &Args) -> anyhow::Result<()> {
    let deadline = args.deadline.map(|deadline| u32::try_from(deadline.as_secs()).unwrap_or(u32::MAX));
    let body = json!({ "deadline": deadline, "stay": args.stay.then_some(true), "cancel": args.cancel.then_some(true) });
    let command = Command::writes("admin", "drain", body, View::Record("", status::COLUMNS));
    if options.dry_run {
        return command.try_dry();
    }
    if !args.cancel {
        options.confirm(&question(args))?;
    }
    let last = with(options, async |client| {
        let told = working(command.send(client)).await?;
        if args.no_wait || args.cancel { Ok(told) } else { wait(client, told).await }
    })?;
    options.print(&command.view, &last)
}

fn question(args: &Args) -> String {
    let limit = args.deadline.map(|deadline| text::span(u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX)));
    let limit = limit.map_or_else(String::new, |limit| format!(", at the latest after {limit}"));
    let then = if args.stay { "stay up" } else { "end the switch" };
    format!("Take no new calls from now on, and {then} when the last one is over{limit}?")
}

/// Waits until the last call is over. A switch that ends after it has nothing more to say.
async fn wait(client: &mut Client, mut last: Value) -> anyhow::Result<Value> {
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
            // it ends only when no call is left
            Err(_) => {
                last["calls"] = json!(0);
                break;
            }
        }
    }
    bar.finish_and_clear();
    Ok(last)
}

fn calls(status: &Value) -> u64 {
    status["calls"].as_u64().unwrap_or(0)
}
