//! `tandem device`: phones and apps.

use cas::text::{DeviceId, UserName};
use serde_json::{Value, json};

use super::call::{Move, Split};
use super::client::{Client, Pages};
use super::command::{Command, Options, run as run_command, with, working};
use super::failure::{Exit, Failure};
use super::table::{Column, Form, View, plain};

#[derive(clap::Subcommand)]
pub(super) enum Verb {
    /// List devices: everybody's for the administrator, else one's own
    List {
        /// Only this user's
        #[arg(long, value_parser = UserName::parse)]
        user: Option<UserName>,
        /// Everybody's
        #[arg(long, conflicts_with = "user")]
        all: bool,
    },
    /// Show a device
    Show {
        /// The device, as the list names it
        #[arg(value_parser = DeviceId::parse)]
        device: DeviceId,
        /// Whose; absent: whoever has a device of this name
        #[arg(long, value_parser = UserName::parse)]
        user: Option<UserName>,
    },
    /// Remove a device; it must register again
    #[command(visible_alias = "remove")]
    Rm {
        /// The device, as the list names it
        #[arg(value_parser = DeviceId::parse)]
        device: DeviceId,
        /// Whose; absent: whoever has a device of this name
        #[arg(long, value_parser = UserName::parse)]
        user: Option<UserName>,
    },
    /// Move a user's side of a call to a device, like `tandem call move`
    Move(Move),
    /// Split a user's side of a call over two devices, like `tandem call split`
    Split(Split),
}

const COLUMNS: &[Column] = &[
    Column("device", "/device", Form::Plain),
    Column("user", "/user", Form::Plain),
    Column("agent", "/agent", Form::Plain),
    Column("transport", "/transport", Form::Plain),
    Column("registered until", "/expires-at", Form::Moment),
    Column("wakeable", "/wakeable", Form::Plain),
    Column("actions", "/actions", Form::Plain),
];
const PAGES: Pages = Pages { list: "devices", name: "device" };

pub(super) fn run(options: &Options, verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::List { user, all } => {
            let is_all = all || (user.is_none() && asks_as_host(options));
            run_command(options, &list(user.as_ref(), is_all))
        }
        Verb::Show { device, user } => show(options, &device, user.as_ref()),
        Verb::Rm { device, user } => remove(options, &device, user),
        Verb::Move(args) => run_command(options, &args.command()),
        Verb::Split(args) => run_command(options, &args.command()),
    }
}

/// The host's administrator has no devices, so they mean everybody's.
pub(super) fn asks_as_host(options: &Options) -> bool {
    options.on.url.is_none() && options.on.token.is_none() && options.on.key.is_none()
}

fn list(user: Option<&UserName>, is_all: bool) -> Command {
    let all = is_all.then_some(true);
    Command::lists(
        "admin",
        "list-devices",
        json!({ "user": user, "all": all }),
        PAGES,
        View::List("/devices", COLUMNS, "There are no devices."),
    )
}

async fn find(client: &mut Client, device: &DeviceId, user: Option<&UserName>) -> anyhow::Result<Value> {
    let list = list(user, user.is_none() && client.is_host());
    let found = super::user::find(client, &list, &[("device", device.as_str())]).await?;
    let sentence = || format!("there is no device {device}{}", user.map_or_else(String::new, |user| format!(" of {user}")));
    found.ok_or_else(|| Failure::new(Exit::NotFound, sentence()).into())
}

fn show(options: &Options, device: &DeviceId, user: Option<&UserName>) -> anyhow::Result<()> {
    if options.dry_run {
        return list(user, user.is_none() && asks_as_host(options)).try_dry();
    }
    let found = with(options, async |client| working(find(client, device, user)).await)?;
    options.print(&View::Record("", COLUMNS), &found)
}

fn remove(options: &Options, device: &DeviceId, user: Option<UserName>) -> anyhow::Result<()> {
    let owner = match user {
        Some(user) => user.to_string(),
        None => plain(&with(options, async |client| working(find(client, device, None)).await)?["user"]),
    };
    let body = json!({ "device": device, "user": owner });
    let done = View::Says(format!("Device {device} of {owner} is gone until it registers again."));
    run_command(options, &Command::destroys(format!("Remove device {device} of {owner}?"), "admin", "remove-device", body, done))
}
