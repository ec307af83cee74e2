//! Wiring.

use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::net::{BindError, Listener, Net};

/// Runs the switch until SIGTERM or SIGINT; `ready` is called once every socket is open.
///
/// # Errors
///
/// Where a listener cannot be opened.
pub async fn serve(config: Config, ready: impl FnOnce(&[Listener])) -> Result<(), BindError> {
    let mut net = Net::bind(&config)?;
    let mut terminate = signal(SignalKind::terminate()).expect("the runtime has signals");
    let mut interrupt = signal(SignalKind::interrupt()).expect("the runtime has signals");
    ready(net.listeners());
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            event = net.next() => tracing::trace!(?event),
        }
    }
}
