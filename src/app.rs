//! Wiring: the only file that knows every part.

use std::time::Duration;

use cas::server::Settings;
use media::port::destination::Loopback;
use media::port::webrtc::Certificate;
use sip::digest::{self, Challenger};
use sip::message::Host;
use sip::random::Random;
use sip::{Endpoint, Listeners, Setup, UnixTime, registrar};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::warn;

use crate::call::{self, Calls};
use crate::clients::Clients;
use crate::clock;
use crate::config::Config;
use crate::history::{Retention, detail};
use crate::http::{self, Http};
use crate::location::Locations;
use crate::net::dns::Dns;
use crate::net::rtp::{self, Media, music};
use crate::net::{Listener, Net, Place};
use crate::presence::watch::Found;
use crate::presence::{Kept, publication};
use crate::provider::Provider;
use crate::signaling::{self, Parts, Signaling};
use crate::storage::{Options, Storage, StorageError};
use crate::thin::Thin;
use crate::user::Users;

/// Media events that may wait for the signaling loop; beyond it the media threads drop reports, never packets.
const MEDIA_EVENTS: usize = 16 * 1024;
/// Threads for reads of the disk that client applications ask for; more wait.
const BLOCKING: usize = 4;
/// How long such a read may go on after the loops have ended.
const SHUTDOWN: Duration = Duration::from_secs(2);
/// What tells the endpoint of thin clients from the switch's.
const INSIDE: u8 = 255;
/// The session interval that we propose (RFC 4028 §4: 30 minutes).
const SESSION_INTERVAL: Duration = Duration::from_secs(1800);

/// A switch that runs in this process.
pub struct Running {
    listeners: Vec<Listener>,
    storage: Storage,
}

impl Running {
    /// Returns the open listeners in the order of the configuration.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Returns the call detail records in the store, the oldest first. It may read the disk.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub fn records(&self) -> Result<Vec<serde_json::Map<String, serde_json::Value>>, StorageError> {
        detail::all(&self.storage)
    }
}

/// Runs the switch until SIGTERM, SIGINT, or the end of draining; `ready` is called once every socket is open.
///
/// # Errors
///
/// One sentence: a listener, the store or the media ports cannot be opened. Nothing is half started then.
pub async fn serve(config: Config, ready: impl FnOnce(&[Listener])) -> anyhow::Result<()> {
    let until_told = async |running: Running| {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        ready(running.listeners()); // from here on a signal is an orderly end
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    };
    match run_beside(&config, until_told).await {
        Err(error) if error.is::<Drained>() => Ok(()),
        done => done,
    }
}

/// The switch was drained: there are no calls any more, and there were to be no new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the switch was drained")]
pub struct Drained;

/// Runs the switch for as long as `work` goes on, in the same task, and returns what that comes to. It begins once every socket is open.
///
/// # Errors
///
/// Those of `work`, those of [`serve`], and [`Drained`].
pub async fn run_beside<T>(config: &Config, work: impl AsyncFnOnce(Running) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let (stop, stopped) = watch::channel(false);
    let (signaling, web, running) = build(config).await?;
    let web = web.start(stopped.clone())?;
    let run = signaling.run(stopped);
    tokio::pin!(run);
    let mut drained = None;
    let done = tokio::select! {
        biased;
        done = work(running) => done,
        ended = &mut run => {
            drained = Some(ended);
            Err(Drained.into())
        }
    };
    let _ended = stop.send(true);
    if drained.is_none() {
        run.await;
    }
    if web.join().is_err() {
        anyhow::bail!("the web's thread panicked");
    }
    done
}

/// The loops that serve client applications. They have a thread of their own: what they do delays no call.
struct Web {
    clients: Clients,
    http: Http,
    retention: Retention,
    storage: Storage,
}

impl Web {
    fn start(self, stopped: watch::Receiver<bool>) -> anyhow::Result<std::thread::JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING).build()?;
        let Self { clients, http, retention, storage } = self;
        let run = move || {
            let keep = retention.run(storage, stopped.clone());
            runtime.block_on(async { tokio::join!(biased; clients.run(stopped.clone()), http.run(stopped), keep) });
            runtime.shutdown_timeout(SHUTDOWN);
        };
        Ok(std::thread::Builder::new().name("web".to_owned()).spawn(run)?)
    }
}

async fn build(config: &Config) -> anyhow::Result<(Signaling, Web, Running)> {
    let mut net = Net::bind(config)?;
    let storage = Storage::open(&config.data_dir, &Options::default())?;
    let interrupted = detail::take_up(&storage).await?;
    if interrupted > 0 {
        warn!(calls = interrupted, "the switch stopped without warning while calls went on: their records say so");
    }
    let mut users = Users::new(config);
    users.keep(&storage).await?;
    let said = Kept::load(&storage)?;
    let (watches, published) = (Found::load(&storage).await?, publication::load(&storage)?);
    let locations = Locations::load(&storage, UnixTime(clock::unix().as_secs()))?;
    let listeners = Listeners(net.listeners().iter().filter(|l| l.place == Place::Sip).map(|l| (l.transport, l.address)).collect());
    let local = http::listen(&config.data_dir)?;
    let (handle, asks) = signaling::Handle::new();
    let (news, told) = signaling::Feed::new();
    let settings = Settings { failed_logins_per_minute: config.limits.failed_logins_per_minute.get(), ..Settings::default() };
    let provider = Provider::new(handle, storage.clone(), news.beside(), clock::now());
    let (clients, to_clients) = Clients::new(settings, seed()?, provider, told);
    let guests = net.guests().ok_or_else(|| anyhow::anyhow!("the web's connections are taken"))?;
    let http = Http::new(to_clients, net.origins(config), guests, local);
    let (events, media_events) = mpsc::channel(MEDIA_EVENTS);
    let mut random = Random::new(seed()?);
    let media = Media::start(media_config(config, &net, random.number())?, events)?;
    let guesses = digest::Policy {
        guesses_per_minute: config.limits.failed_logins_per_minute.get(),
        offer: config.sip.digest.clone(),
        own: listeners.0.iter().map(|(_, address)| address.ip()).collect(),
        ..digest::Policy::default()
    };
    let parts = Parts {
        sip: Endpoint::new(setup(listeners.clone(), 0)?),
        thin: Thin::new(setup(Listeners::default(), INSIDE)?),
        calls: Calls::new(call::Policy {
            no_answer: config.policy.no_answer,
            media_timeout: config.media.timeout,
            park: config.features.park_timeout,
            calls_per_user: count(config.limits.calls_per_user),
            calls_per_trunk: count(config.limits.calls_per_trunk),
        }),
        media,
        media_events,
        writer: storage.writer(),
        users,
        locations,
        said,
        published,
        watches,
        challenger: Challenger::new(seed()?, config.domain.as_str(), guesses, clock::now()),
        random,
        registrar: registrar::Policy {
            min_expires: config.sip.min_expires,
            default_expires: config.sip.default_expires,
            max_expires: config.sip.max_expires,
            own: net.listeners().iter().map(|listener| (Host::Ip(listener.address.ip()), listener.address.port())).collect(),
            ..registrar::Policy::default()
        },
        dns: if config.sip.dns { Dns::system().map_err(|error| anyhow::anyhow!("sip.dns: {error}"))? } else { Dns::off() },
        net,
        asks,
        news,
    };
    let running = Running { listeners: parts.net.listeners().to_vec(), storage: storage.clone() };
    let retention = Retention { days: config.history.days(), most: config.history.most() };
    Ok((Signaling::new(parts, config), Web { clients, http, retention, storage }, running))
}

/// A limit that was not set is none: reading the configuration sets it.
fn count(limit: Option<std::num::NonZeroU32>) -> usize {
    limit.and_then(|limit| usize::try_from(limit.get()).ok()).unwrap_or(usize::MAX)
}

/// What an endpoint starts from that listens there.
fn setup(listeners: Listeners, node: u8) -> anyhow::Result<Setup> {
    let product = concat!("tandem/", env!("CARGO_PKG_VERSION")).to_owned();
    Ok(Setup { listeners, node, seed: seed()?, product, session_interval: SESSION_INTERVAL })
}

fn media_config(config: &Config, net: &Net, seed: u64) -> anyhow::Result<rtp::Config> {
    Ok(rtp::Config {
        address: config.media.address,
        advertise: config.media.advertise,
        ports: config.media.rtp_ports.range(),
        loopback: if config.media.allow_loopback { Loopback::Allowed } else { Loopback::Refused },
        listeners: net.listeners().iter().map(|listener| listener.address).collect(),
        threads: None,
        seed,
        webrtc_port: config.media.webrtc_port,
        certificate: certificate()?,
        music: music::of(config)?,
    })
}

/// Makes the certificate that DTLS shows. It lives as long as the process: SDP carries its fingerprint to each peer.
fn certificate() -> anyhow::Result<Certificate> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let made = rcgen::CertificateParams::new(vec!["tandem".to_owned()])?.self_signed(&key)?;
    Ok(Certificate::new(made.der().to_vec(), &key.serialize_der())?)
}

/// Takes a seed from the operating system.
fn seed() -> anyhow::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("the operating system gives no random numbers: {error}"))?;
    Ok(seed)
}
