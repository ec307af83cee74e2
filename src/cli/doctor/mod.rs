//! `tandem doctor`: what is wrong with this switch and this host, line by line, each with what to do. It works with the switch up or down.

mod certificate;
mod host;
mod network;
mod switch;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use serde_json::{Value, json};

use super::command::{Options, block_on};
use super::failure::{Exit, Failure};
use super::table::say_json;
use super::text::printable;
use crate::config::Config;
use crate::net::Net;

#[derive(clap::Args)]
pub(super) struct Args {}

/// Returns what a switch can run with and should not: in the file, and on this host.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let found = certificate::ended(config).into_iter().chain(host::exposed(&config.data_dir));
    let found = found.map(|finding| format!("{}; {}", finding.found, finding.advice.unwrap_or_default()));
    config.warnings().into_iter().chain(found).collect()
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }

    /// The colour of its name on a terminal.
    fn colour(self) -> &'static str {
        match self {
            Self::Ok => "32",
            Self::Warn => "33",
            Self::Fail => "31",
        }
    }
}

/// What a check found, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), advice: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(check, found, advice) }
    }

    fn json(&self) -> Value {
        super::client::without_null(json!({
            "check": self.check, "verdict": self.verdict.name(), "found": self.found, "advice": self.advice,
        }))
    }
}

/// Whether the switch of this host runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Switch {
    Up,
    Down,
}

pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let mut report = Report { json: options.json, findings: Vec::new() };
    block_on(examine(options, &mut report))?;
    report.end()
}

async fn examine(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    if options.on.url.is_some() && options.on.config.is_none() {
        return report.add_all(switch::check(options).await.1); // it runs elsewhere, and this machine's folder says nothing of it
    }
    let config = match load(options.on.config.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            report.add(Finding::fail("configuration", error, "mend the file; `tandem config check FILE` says the same"))?;
            return report.add_all(switch::check(options).await.1); // nothing else can be known without the file
        }
    };
    report.add(configuration(&config))?;
    let advice = "name the addresses of the peer alone";
    report.add_all(config.warnings().into_iter().map(|warning| Finding::warn("configuration", warning, advice)).collect())?;
    report.add_all(host::check(&config))?;
    let (switch, findings) = switch::check(options).await;
    report.add_all(findings)?;
    report.add_all(network::ports(&config, switch).await)?;
    report.add_all(certificate::check(&config))?;
    report.add(network::advertised(&config))?;
    report.add(network::datagrams(&config).await)?;
    report.add(network::names(&config).await)
}

fn load(file: Option<&Path>) -> Result<Config, String> {
    file.map_or_else(Config::built_in, Config::load).map_err(|error| error.to_string())
}

fn configuration(config: &Config) -> Finding {
    match Net::check(config) {
        Ok(_) => {
            let (users, trunks) = (config.users.len(), config.trunks.len());
            Finding::ok("configuration", format!("domain {}, {users} users and {trunks} trunks in the file", config.domain.as_str()))
        }
        Err(error) => Finding::fail("configuration", error.to_string(), "mend the file; `tandem config check FILE` says the same"),
    }
}

/// What was found so far. Each line is printed at once: some checks take seconds.
struct Report {
    json: bool,
    findings: Vec<Finding>,
}

impl Report {
    fn add(&mut self, finding: Finding) -> anyhow::Result<()> {
        if !self.json {
            let mut out = std::io::stdout();
            let is_coloured = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            writeln!(out, "{}", line(&finding, is_coloured))?;
        }
        self.findings.push(finding);
        Ok(())
    }

    fn add_all(&mut self, findings: Vec<Finding>) -> anyhow::Result<()> {
        findings.into_iter().try_for_each(|finding| self.add(finding))
    }

    fn end(self) -> anyhow::Result<()> {
        let worst = self.findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
        if self.json {
            let checks: Vec<Value> = self.findings.iter().map(Finding::json).collect();
            say_json(&json!({ "verdict": worst.name(), "checks": checks }))?;
        }
        let failed = self.findings.iter().filter(|finding| finding.verdict == Verdict::Fail).count();
        match failed {
            0 => Ok(()),
            _ => Err(Failure::new(Exit::Unhealthy, format!("{failed} of {} checks failed", self.findings.len())).into()),
        }
    }
}

fn line(finding: &Finding, is_coloured: bool) -> String {
    let name = format!("{:<5}", finding.verdict.name());
    let name = if is_coloured { format!("\x1b[{}m{name}\x1b[0m", finding.verdict.colour()) } else { name };
    let advice = finding.advice.as_ref().map_or_else(String::new, |advice| format!("\n{:20}{}", "", printable(advice)));
    format!("{name} {:<14}{}{advice}", finding.check, printable(&finding.found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_what_to_do() {
        let finding = Finding::fail("ports", "udp 127.0.0.1:5060 is taken", "stop the other program");
        assert_eq!(line(&finding, false), "fail  ports         udp 127.0.0.1:5060 is taken\n                    stop the other program");
        assert!(line(&finding, true).starts_with("\x1b[31mfail \x1b[0m "));
        assert_eq!(finding.json()["advice"], "stop the other program");
        assert_eq!(Finding::ok("ports", "free").json(), json!({ "check": "ports", "verdict": "ok", "found": "free" }));
    }

    #[test]
    fn one_failure_is_exit_code_5_and_a_warning_is_none() {
        let report = |findings| Report { json: true, findings }.end();
        assert!(report(vec![Finding::ok("a", ""), Finding::warn("b", "", "")]).is_ok());
        let error = report(vec![Finding::ok("a", ""), Finding::fail("b", "", "")]).unwrap_err();
        assert_eq!(super::super::failure::report(&error), std::process::ExitCode::from(5));
    }
}
