//! `tandem demo`: a switch in a temporary store, and scripted phones and mobiles that call each other through it over real sockets. First the
//! story of one person with two devices (`story.rs`), with the graph of the call after each step; then calls over each transport
//! (`script.rs`), with figures. Then, unless told to end, it stays up for the visitor's own phones.
//!
//! What is public here is for tests of the whole switch: [`desk::Desk`] and [`mobile::Mobile`] on a switch of [`crate::app::run_beside`].

pub mod desk;
pub mod device;
mod ends;
mod film;
mod line;
mod lines;
pub mod mobile;
mod packet;
pub mod peer;
pub mod phone;
pub mod picture;
mod player;
mod record;
mod rtp;
mod script;
mod sight;
mod story;
mod stream;
pub mod talk;
mod tap;
pub mod tone;
mod wss;

use std::fmt::Display;
use std::future::Future;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use sip::Transport;
use sip::random::Random;
use tokio::net::{TcpListener, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};

use crate::app::{self, Running};
use crate::config::{Config, LogFormat};
use crate::net::Listener;
use crate::telemetry;

/// How long blocking work may go on after the loops have ended.
const SHUTDOWN: Duration = Duration::from_secs(2);
/// How long each step of the story stays as it is while somebody reads: with the calls after it that is a minute.
const READING: Duration = Duration::from_secs(8);
/// Where the switch listens. It is the domain too: a phone that is told `ann@127.0.0.1` knows all it needs.
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The ports that phones expect, tried first when the switch is to stay up.
const USUAL: [(Transport, u16); 5] =
    [(Transport::Udp, 5060), (Transport::Tcp, 5060), (Transport::Tls, 5061), (Transport::Ws, 5080), (Transport::Wss, 5443)];
/// What the scripted devices alone need, on free ports.
const NEEDED: [(Transport, u16); 3] = [(Transport::Udp, 0), (Transport::Tcp, 0), (Transport::Wss, 0)];
/// Pages that may connect: those that a visitor serves on this computer.
const ORIGINS: &str = r#"["http://127.0.0.1:*", "http://localhost:*"]"#;
/// The certificate that the switch makes for itself, in its data folder.
const CERTIFICATE: &str = "self-signed.pem";

#[derive(clap::Args)]
pub(super) struct Args {
    /// End after the scripted calls instead of staying up for phones of yours
    #[arg(long)]
    exit: bool,
    /// How long each step of the story stays, to read it [default: 8, with --exit 0]
    #[arg(long, value_name = "SECONDS")]
    pause: Option<u16>,
}

/// A user of the demonstration.
struct User {
    name: &'static str,
    number: &'static str,
    password: String,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    // The steps are what a visitor wants to read first; logs come among them only where asked for.
    let logs = std::env::var_os("TANDEM_LOG").is_some();
    if logs {
        telemetry::start(LogFormat::Text).map_err(anyhow::Error::msg)?;
    }
    let folder = tempfile::Builder::new().prefix("tandem-demo-").tempdir().context("no folder for the store can be made")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime cannot start")?;
    let done = runtime.block_on(demonstrate(args, logs, folder.path()));
    runtime.shutdown_timeout(SHUTDOWN);
    let removed = folder.close().context("the store cannot be removed");
    done.and(removed)
}

async fn demonstrate(args: &Args, logs: bool, folder: &Path) -> anyhow::Result<()> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("the operating system gives no random numbers")?;
    let mut random = Random::new(seed);
    let users = [("ann", "101"), ("bob", "102"), ("carol", "103"), ("dave", "104")].map(|(name, number)| User {
        name,
        number,
        password: password(&mut random),
    });
    let wanted = if args.exit { NEEDED.to_vec() } else { free_of(&USUAL).await };
    let config = Config::parse(&folder.join("demo.toml"), &configuration(&wanted, &users))?;
    let stop = stop_signal()?;
    tokio::pin!(stop);
    let pause = match args.pause {
        Some(seconds) => Duration::from_secs(u64::from(seconds)),
        None if args.exit => Duration::ZERO,
        None => READING,
    };
    let staying = async |running: Running| {
        let certificate = std::fs::read(config.data_dir.join(CERTIFICATE)).context("the switch made no certificate")?;
        tokio::select! {
            biased;
            () = &mut stop => anyhow::bail!("stopped before the demonstration was over"),
            done = script::play(&running, folder, certificate, &users, random, pause) => done?,
        }
        if !args.exit {
            if !logs {
                telemetry::start(LogFormat::Text).map_err(anyhow::Error::msg)?;
            }
            invite(running.listeners(), &users);
            stop.await;
        }
        Ok(())
    };
    app::run_beside(&config, staying).await
}

/// Sixteen would be safer than ten digits, but somebody has to type them.
fn password(random: &mut Random) -> String {
    random.token().chars().take(10).collect()
}

/// Puts 0, any free port, in the place of ports that are taken.
async fn free_of(usual: &[(Transport, u16)]) -> Vec<(Transport, u16)> {
    let mut free = Vec::new();
    for (transport, port) in usual.iter().copied() {
        let address = SocketAddr::new(HOST, port);
        let is_free =
            if transport.is_reliable() { TcpListener::bind(address).await.is_ok() } else { UdpSocket::bind(address).await.is_ok() };
        free.push((transport, if is_free { port } else { 0 }));
    }
    free
}

/// Writes the configuration; the store is beside it.
fn configuration(listeners: &[(Transport, u16)], users: &[User]) -> String {
    let mut text = format!("domain = \"{HOST}\"\n[media]\nwebrtc_port = 0\n[sip]\ndns = false\norigins = {ORIGINS}\n");
    for (transport, port) in listeners {
        text.push_str(&format!("{} = [\"{}\"]\n", transport.param(), SocketAddr::new(HOST, *port)));
    }
    for User { name, number, password } in users {
        text.push_str(&format!("[[user]]\nname = \"{name}\"\npassword = \"{password}\"\nnumbers = [\"{number}\"]\n"));
    }
    text
}

/// Returns what waits until somebody wants an end: Ctrl-C, SIGTERM, or the terminal is closed.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

/// Prints what a visitor enters in a phone.
fn invite(listeners: &[Listener], users: &[User]) {
    say("staying up", "for phones of yours on this computer; enter in a phone:");
    for listener in listeners {
        let note = if listener.transport.is_secure() { ", with a self-signed certificate" } else { "" };
        say("  server", format_args!("{} over {}{note}{}", listener.address, listener.transport, instead(*listener)));
    }
    for listener in listeners.iter().filter(|listener| listener.transport == Transport::Wss) {
        let address = listener.address;
        say("  browser", format_args!("wss://{address}, once https://{address} was opened and its certificate accepted"));
    }
    say("  domain", HOST);
    for user in users {
        say("  user", format_args!("{} with password {}, reached by dialling {} or {}", user.name, user.password, user.number, user.name));
    }
    say("  stop", "with Ctrl-C; the store and the passwords go with it");
}

/// Says which port a visitor would have expected.
fn instead(listener: Listener) -> String {
    let usual = USUAL.iter().find(|(transport, _)| *transport == listener.transport).map(|(_, port)| *port);
    let usual = usual.filter(|port| *port != listener.address.port());
    usual.map_or_else(String::new, |port| format!(" ({port} is taken by another program)"))
}

/// Prints a line: what, and its figures. Nobody may be reading, and that is no reason to stop.
fn say(what: &str, figures: impl Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{what:<14}{figures}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_gives_way_to_a_free_one() {
        let udp = UdpSocket::bind((HOST, 0)).await.unwrap();
        let tcp = TcpListener::bind((HOST, 0)).await.unwrap();
        let taken = [(Transport::Udp, udp.local_addr().unwrap().port()), (Transport::Tcp, tcp.local_addr().unwrap().port())];
        assert_eq!(free_of(&taken).await, [(Transport::Udp, 0), (Transport::Tcp, 0)]);
        drop((udp, tcp));
        assert_eq!(free_of(&taken).await, taken);
    }

    #[test]
    fn the_configuration_is_good() {
        let users = [User { name: "ann", number: "101", password: "secret".to_owned() }];
        for listeners in [&USUAL[..], &NEEDED] {
            let config = Config::parse(Path::new("/tmp/x/demo.toml"), &configuration(listeners, &users)).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(config.data_dir, Path::new("/tmp/x/data"));
            assert_eq!((config.sip.udp.len(), config.sip.tcp.len(), config.sip.wss.len(), config.users.len()), (1, 1, 1, 1));
        }
    }
}
