//! `tandem serve`.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::net::Listener;
use crate::{app, telemetry};

/// How long blocking work may go on after the loops have ended.
const SHUTDOWN: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub(super) struct Args {
    /// Configuration file; without one the switch listens on loopback only
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let config = match &args.config {
        Some(path) => Config::load(path)?,
        None => Config::built_in()?,
    };
    telemetry::start(config.log.format).map_err(anyhow::Error::msg)?;
    // What the store and the certificate hold is nobody else's business (S20).
    umask(Mode::from_bits_truncate(0o077));
    raise_file_limit();
    for warning in super::doctor::warnings(&config) {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("the runtime cannot start")?;
    let served = runtime.block_on(async {
        // whoever listens for it is not ended by it: a write beyond the limit of a file's size fails like every other one
        let _file_size = signal(SignalKind::from_raw(Signal::SIGXFSZ as i32)).context("signals cannot be taken")?;
        app::serve(config, ready).await
    });
    runtime.shutdown_timeout(SHUTDOWN);
    served
}

/// Says that every socket is open.
fn ready(listeners: &[Listener]) {
    let listeners: String = listeners.iter().map(|listener| format!(" {listener}")).collect();
    let mut out = std::io::stdout().lock();
    // nobody may be reading, and that is no reason to stop
    let _ = writeln!(out, "ready{listeners}").and_then(|()| out.flush());
}

/// Each connection and each media port is a file descriptor, and the usual limit of 1024 is for programs that use select.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
