//! What every command of CAS has in common: it is one request with a view of its reply, and it can be shown, tried dry, confirmed, paged
//! and printed as JSON in the same way.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::client::{Client, On, Pages, Show, request, shown, without_null};
use super::failure::{Exit, Failure};
use super::table::{View, render, say, say_json};

/// How long a command works before it shows that it does.
const PATIENCE: Duration = Duration::from_millis(400);

/// What every command of CAS takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) on: On,
    /// Print JSON; its schema is stable
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Print each message that is sent, on standard error
    #[arg(long, global = true)]
    pub(super) print_request: bool,
    /// Print what would be sent and send nothing
    #[arg(long, global = true)]
    pub(super) dry_run: bool,
    /// Do not ask before something is removed or ended
    #[arg(long, short, global = true)]
    pub(super) yes: bool,
}

/// A noun on the command line: its verb, and what every command takes.
#[derive(clap::Args)]
pub(super) struct Noun<V: clap::Subcommand> {
    #[command(flatten)]
    pub(super) options: Options,
    #[command(subcommand)]
    pub(super) verb: V,
}

/// A verb without a noun, or one that stands for itself.
#[derive(clap::Args)]
pub(super) struct Alone<A: clap::Args> {
    #[command(flatten)]
    pub(super) options: Options,
    #[command(flatten)]
    pub(super) args: A,
}

/// What a request does to the switch.
pub(super) enum Does {
    /// Nothing.
    Reads,
    /// Something that can be taken back.
    Writes,
    /// Something that cannot; the question is asked first.
    Destroys(String),
}

/// One request and how its reply is shown.
pub(super) struct Command {
    /// The topic.
    pub(super) topic: &'static str,
    /// The message.
    pub(super) message: &'static str,
    /// The body; members that are null are left out.
    pub(super) body: Value,
    /// What it does.
    pub(super) does: Does,
    /// Where the list is, if the reply comes in pages.
    pub(super) pages: Option<Pages>,
    /// How the reply is shown.
    pub(super) view: View,
}

impl Command {
    /// Makes a request that changes nothing.
    pub(super) fn reads(topic: &'static str, message: &'static str, body: Value, view: View) -> Self {
        Self { topic, message, body: without_null(body), does: Does::Reads, pages: None, view }
    }

    /// Makes a request that changes something.
    pub(super) fn writes(topic: &'static str, message: &'static str, body: Value, view: View) -> Self {
        Self { does: Does::Writes, ..Self::reads(topic, message, body, view) }
    }

    /// Makes a request that is confirmed first.
    pub(super) fn destroys(question: String, topic: &'static str, message: &'static str, body: Value, view: View) -> Self {
        Self { does: Does::Destroys(question), ..Self::reads(topic, message, body, view) }
    }

    /// Makes a request for a list in pages.
    pub(super) fn lists(topic: &'static str, message: &'static str, body: Value, pages: Pages, view: View) -> Self {
        Self { pages: Some(pages), ..Self::reads(topic, message, body, view) }
    }

    /// Sends it and returns the body of the reply.
    ///
    /// # Errors
    ///
    /// What the switch said, or that it said nothing.
    pub(super) async fn send(&self, client: &mut Client) -> anyhow::Result<Value> {
        match self.pages {
            Some(pages) => client.ask_all(self.topic, self.message, self.body.clone(), pages).await,
            None => client.ask(self.topic, self.message, self.body.clone()).await,
        }
    }

    /// Prints the message that would be sent.
    ///
    /// # Errors
    ///
    /// Nobody reads it.
    pub(super) fn try_dry(&self) -> anyhow::Result<()> {
        say(&shown(request(self.topic, self.message, 1, self.body.clone())?))
    }
}

impl Options {
    /// Returns whether messages are shown.
    pub(super) fn show(&self) -> Show {
        if self.print_request { Show::Requests } else { Show::Nothing }
    }

    /// Prints a reply.
    ///
    /// # Errors
    ///
    /// Nobody reads it.
    pub(super) fn print(&self, view: &View, reply: &Value) -> anyhow::Result<()> {
        if self.json { say_json(reply) } else { say(&render(view, reply)) }
    }

    /// Asks before something is destroyed.
    ///
    /// # Errors
    ///
    /// The answer is no, or nobody can be asked.
    pub(super) fn confirm(&self, question: &str) -> anyhow::Result<()> {
        if self.yes {
            return Ok(());
        }
        let (input, mut output) = (std::io::stdin(), std::io::stderr());
        if !(input.is_terminal() && output.is_terminal()) {
            return Err(Failure::new(Exit::Usage, format!("{question} Nobody can be asked here: add --yes")).into());
        }
        write!(output, "{question} [y/N] ").context("nobody can be asked")?;
        let mut answer = String::new();
        input.lock().read_line(&mut answer).context("nobody answers")?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Failure::new(Exit::Error, "nothing was done").into()),
        }
    }
}

/// Runs a command from the question to the print.
///
/// # Errors
///
/// One sentence and an exit code.
pub(super) fn run(options: &Options, command: &Command) -> anyhow::Result<()> {
    if options.dry_run {
        return command.try_dry();
    }
    if let Does::Destroys(question) = &command.does {
        options.confirm(question)?;
    }
    let reply = with(options, async |client| working(command.send(client)).await)?;
    options.print(&command.view, &reply)
}

/// Does some work as a client that has a login, which ends with it.
///
/// # Errors
///
/// Those of the work, or that there is no login.
pub(super) fn with<T>(options: &Options, work: impl AsyncFnOnce(&mut Client) -> anyhow::Result<T>) -> anyhow::Result<T> {
    block_on(async {
        let mut client = Client::sign_in(&options.on, options.show()).await?;
        let done = work(&mut client).await;
        client.sign_out().await;
        done
    })
}

/// Runs a future to its end.
///
/// # Errors
///
/// Those of the future, or that the runtime cannot start.
pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime cannot start")?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}

/// Shows that work goes on, once it takes long and somebody looks.
pub(super) async fn working<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return done,
        () = tokio::time::sleep(PATIENCE) => {}
    }
    let bar = ProgressBar::new_spinner(); // it draws on standard error, and only where that is a terminal
    if let Ok(style) = ProgressStyle::with_template("{spinner} waiting for the switch, {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    let done = work.await;
    bar.finish_and_clear();
    done
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_not_given_is_not_sent() {
        let command = Command::reads("tel", "list", json!({ "user": null, "call": "1" }), View::Says(String::new()));
        assert_eq!(command.body, json!({ "call": "1" }));
    }
}
