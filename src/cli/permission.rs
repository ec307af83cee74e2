//! `tandem permission`: what a user may do. A change reaches the user's applications at once.

use cas::permission::{Pattern, Reach, Role};
use cas::text::{DeviceId, UserName};
use serde_json::{Value, json};

use super::command::{Command, Options, with, working};
use super::failure::{Exit, Failure};
use super::table::{View, plain};

#[derive(clap::Subcommand)]
pub(super) enum Verb {
    /// Show what a user may do
    Show {
        /// Name of the user; absent: the caller
        #[arg(value_parser = UserName::parse)]
        user: Option<UserName>,
    },
    /// Change what a user may do
    Set {
        /// Name of the user
        #[arg(value_parser = UserName::parse)]
        user: UserName,
        /// RIGHT=REACH with a right such as history.delete, history.* or * and a reach of none, own, all or default;
        /// role=user|administrator|application; history-days=NUMBER|all
        #[arg(required = true, value_name = "RIGHT=REACH", value_parser = change)]
        changes: Vec<Change>,
        /// Only from this device; a device can only take away
        #[arg(long, value_parser = DeviceId::parse)]
        device: Option<DeviceId>,
    },
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// How far a right reaches; none: what the role says.
    Right(Pattern, Option<Reach>),
    /// What the user is.
    Role(Role),
    /// How many days of their history they see; none: all.
    HistoryDays(Option<u16>),
}

fn change(text: &str) -> Result<Change, String> {
    let (name, value) = text.split_once('=').ok_or("expected RIGHT=REACH, such as history.delete=none")?;
    match name {
        "role" => Ok(Change::Role(match value {
            "user" => Role::User,
            "administrator" => Role::Administrator,
            "application" => Role::Application,
            _ => return Err("expected role=user, role=administrator or role=application".to_owned()),
        })),
        "history-days" if value == "all" => Ok(Change::HistoryDays(None)),
        "history-days" => {
            value.parse().map(|days| Change::HistoryDays(Some(days))).map_err(|_| "expected a number of days, or all".to_owned())
        }
        _ => {
            let reach = match value {
                "deny" | "none" => Some(Reach::None),
                "own" => Some(Reach::Own),
                "all" | "allow" => Some(Reach::All),
                "default" => None,
                _ => return Err("expected a reach of none, own, all or default".to_owned()),
            };
            Pattern::parse(name).map(|right| Change::Right(right, reach)).map_err(str::to_owned)
        }
    }
}

pub(super) fn run(options: &Options, verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Show { user } => {
            let command = Command::reads("permission", "get", json!({ "user": user }), View::By(rights));
            super::command::run(options, &command)
        }
        Verb::Set { user, changes, device } => set(options, &user, changes, device.as_ref()),
    }
}

fn set(options: &Options, user: &UserName, changes: Vec<Change>, device: Option<&DeviceId>) -> anyhow::Result<()> {
    if device.is_some() && !changes.iter().all(|change| matches!(change, Change::Right(..))) {
        return Err(Failure::new(Exit::Usage, "role and history-days belong to the user; they cannot be set for a --device").into());
    }
    let commands: Vec<Command> = changes.into_iter().map(|change| command(user, change, device)).collect();
    if options.dry_run {
        return commands.iter().try_for_each(Command::try_dry);
    }
    let reply = with(options, async |client| {
        let mut reply = Value::Null;
        for command in &commands {
            reply = working(command.send(client)).await?;
        }
        Ok(reply)
    })?;
    options.print(&View::By(rights), &reply)
}

fn command(user: &UserName, change: Change, device: Option<&DeviceId>) -> Command {
    let (message, body) = match change {
        Change::Right(right, reach) => ("set", json!({ "user": user, "device": device, "right": right, "reach": reach })),
        Change::Role(role) => ("set-role", json!({ "user": user, "role": role })),
        Change::HistoryDays(days) => ("set-history-days", json!({ "user": user, "days": days })),
    };
    Command::writes("permission", message, body, View::By(rights))
}

/// Writes what the user is, what is special about them, and every right.
fn rights(snapshot: &Value) -> String {
    let rights = &snapshot["rights"];
    let mut lines = vec![format!("{} is {}", plain(&snapshot["user"]), plain(&rights["role"]))];
    if let Some(days) = rights["history-days"].as_u64() {
        lines.push(format!("sees {days} days of history"));
    }
    let exceptions = |of: &Value, device: &str| {
        let members = of.as_object().into_iter().flatten();
        members.map(|(right, reach)| format!("{right}={}{device}", plain(reach))).collect::<Vec<_>>()
    };
    lines.extend(exceptions(&rights["exceptions"], ""));
    for (device, of) in rights["devices"].as_object().into_iter().flatten() {
        lines.extend(exceptions(of, &format!(" from device {device}")));
    }
    lines.push(String::new());
    let effective = snapshot["effective"].as_object().into_iter().flatten();
    lines.extend(effective.map(|(right, reach)| format!("{:<10}{right}", plain(reach))));
    lines.iter().map(|line| super::text::printable(line)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_a_right_a_role_or_days() {
        let right = |text| Pattern::parse(text).unwrap();
        assert_eq!(change("history.delete=deny"), Ok(Change::Right(right("history.delete"), Some(Reach::None))));
        assert_eq!(change("tel.*=default"), Ok(Change::Right(right("tel.*"), None)));
        assert_eq!(change("role=administrator"), Ok(Change::Role(Role::Administrator)));
        assert_eq!(change("history-days=30"), Ok(Change::HistoryDays(Some(30))));
        assert_eq!(change("history-days=all"), Ok(Change::HistoryDays(None)));
        for text in ["history.delete", "history.delete=maybe", "role=king", "history-days=-1", "history=deny", "=deny"] {
            assert!(change(text).is_err(), "{text}");
        }
    }

    #[test]
    fn exceptions_are_shown_before_the_rights_that_follow_from_them() {
        let snapshot = json!({
            "user": "ann", "version": 2,
            "rights": { "role": "user", "exceptions": { "tel.*": "none" }, "devices": { "lobby": { "history.*": "none" } }, "history-days": 7 },
            "effective": { "tel.hold": "none", "tel.list": "own" },
        });
        let text = rights(&snapshot);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..4], ["ann is user", "sees 7 days of history", "tel.*=none", "history.*=none from device lobby"]);
        assert_eq!(lines[5..], ["none      tel.hold", "own       tel.list"]);
    }
}
