//! The switch itself: whether it answers, is ready, and is of this version.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{Finding, Switch};
use crate::cli::client::Client;
use crate::cli::command::Options;
use crate::cli::text::span;

const CHECK: &str = "switch";
/// With what the sentence of a switch begins whose store failed.
const STORE: &str = "the storage failed";

pub(super) async fn check(options: &Options) -> (Switch, Vec<Finding>) {
    let mut client = match Client::connect(&options.on, options.show()).await {
        Ok(client) => client,
        Err(error) => {
            let advice = "start it: `tandem serve --config FILE`";
            return (Switch::Down, vec![Finding::fail(CHECK, error.to_string(), advice)]);
        }
    };
    let ready = match client.get("/ready").await {
        Ok((StatusCode::OK, _)) => Finding::ok(CHECK, "it answers and is ready"),
        Ok((status, body)) => {
            let said = String::from_utf8_lossy(&body).trim().chars().take(200).collect::<String>();
            let advice = if said.contains(STORE) {
                "make room or mend the disk, then restart it; calls go on meanwhile"
            } else {
                "new calls go elsewhere while it drains; if it does not, its log says why"
            };
            Finding::fail(CHECK, format!("it answers and is not ready ({status}) {said}"), advice)
        }
        // it would not say how it is either
        Err(error) => return (Switch::Up, vec![Finding::fail(CHECK, format!("{error:#}"), "its log says why; restart it if it hangs")]),
    };
    let mut findings = vec![ready];
    findings.extend(status(options).await);
    (Switch::Up, findings)
}

async fn status(options: &Options) -> Vec<Finding> {
    let asked = async {
        let mut client = Client::sign_in(&options.on, options.show()).await?;
        let status = client.ask("admin", "status", json!({})).await;
        client.sign_out().await;
        status
    };
    match asked.await {
        Ok(status) => std::iter::once(of_status(&status)).chain(of_users(&status)).collect(),
        Err(error) => {
            vec![Finding::warn(
                "status",
                format!("it does not say how it is: {error}"),
                "ask as its administrator: on its host, or with --key",
            )]
        }
    }
}

fn of_users(status: &Value) -> impl Iterator<Item = Finding> {
    let warnings = status["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let of_users = warnings.filter(|warning| !warning.starts_with(STORE)); // readiness says that
    of_users.map(|warning| Finding::warn("users", warning, "give one of the two another: `tandem number`, `tandem user`, or the file"))
}

fn of_status(status: &Value) -> Finding {
    const CHECK: &str = "status";
    let (version, ours) = (status["version"].as_str().unwrap_or("unknown"), env!("CARGO_PKG_VERSION"));
    let figures = format!(
        "up for {}, {} users, {} devices, {} calls",
        span(status["uptime"].as_u64().unwrap_or(0)),
        status["users"],
        status["devices"],
        status["calls"]
    );
    if version != ours {
        return Finding::warn(
            CHECK,
            format!("version {version} runs and this is {ours}; {figures}"),
            "restart the switch to run the new one",
        );
    }
    if status["draining"] == true {
        return Finding::warn(CHECK, format!("it drains and takes no new calls; {figures}"), "restart it when its last call is over");
    }
    Finding::ok(CHECK, format!("version {version}, {figures}"))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn another_version_and_draining_are_warnings() {
        let status = |version: &str, draining: bool| {
            of_status(&json!({ "version": version, "uptime": 61_000, "users": 1, "devices": 2, "calls": 3, "draining": draining }))
        };
        let ours = env!("CARGO_PKG_VERSION");
        assert_eq!(status(ours, false), Finding::ok("status", format!("version {ours}, up for 1m 1s, 1 users, 2 devices, 3 calls")));
        let shadowed = json!({ "warnings": ["800 is a number of eve in the store, and is the number of a room"] });
        assert_eq!(of_users(&shadowed).map(|finding| finding.verdict).collect::<Vec<_>>(), [Verdict::Warn]);
        assert_eq!(status("0.0.0", false).verdict, Verdict::Warn);
        assert_eq!(status(ours, true).verdict, Verdict::Warn);
    }
}
