//! The media of a scripted mobile: one connection of the `webrtc` crate a call, so that ICE, DTLS-SRTP, BUNDLE and the packets of RTP are not
//! ours at this end (RFC 8829). It knows no SIP.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use rtc::interceptor::Slot;
use rtc::media::Sample;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_PCMU, MIME_TYPE_VP8};
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::rtp::Packet;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use tokio::sync::{mpsc, watch};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_sample::TrackLocalStaticSample;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState, RTCPeerConnectionState,
    RTCSessionDescription, Registry, SettingEngineBuilder, register_default_interceptors,
};
use webrtc::rtp_transceiver::RtpSender;

use super::lines::offered;
use super::tap::Tap;
use crate::clock;

/// Where the tap is in the chain of interceptors: before all that may hold a packet back.
const TAP: Slot = Slot::Custom(500);

/// From one connectivity check to the next (RFC 8445 §14.2). The library's own 200 ms make each call begin later than a browser's.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// Checks of a pair that are sent before it has failed.
const CHECKS: u16 = 100;

/// What a call carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Media {
    /// Sound.
    pub audio: bool,
    /// Pictures.
    pub video: bool,
}

impl Media {
    /// Sound alone.
    pub const AUDIO: Self = Self { audio: true, video: false };
    /// Sound and pictures.
    pub const BOTH: Self = Self { audio: true, video: true };
}

/// A connection, with a track of ours for each kind of media that it ever had.
pub struct Peer {
    connection: Box<dyn PeerConnection>,
    audio: Option<Sending>,
    video: Option<Sending>,
    ssrcs: [u32; 2],
    signals: Signals,
    packets: mpsc::Receiver<Packet>,
}

/// A packet of the other side.
pub enum Received {
    /// Of its sound.
    Audio(Packet),
    /// Of its pictures.
    Video(Packet),
}

impl Peer {
    /// Makes a connection with one UDP port on an address. The two numbers name its streams.
    ///
    /// # Errors
    /// There is no port, or no cryptography.
    pub async fn open(ip: IpAddr, ssrcs: [u32; 2]) -> anyhow::Result<Self> {
        let (handler, signals) = signals();
        let mut engine = MediaEngine::default();
        engine.register_codec(parameters(codec(RtpCodecKind::Audio), 0), RtpCodecKind::Audio)?;
        engine.register_codec(parameters(codec(RtpCodecKind::Video), 96), RtpCodecKind::Video)?;
        let (tap, packets) = Tap::new();
        let interceptors = register_default_interceptors(Registry::new(), &mut engine)?.with(TAP, tap);
        let builder = PeerConnectionBuilder::new().with_media_engine(engine).with_interceptor_registry(interceptors);
        let settings = SettingEngineBuilder::new().with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(CHECKS));
        let settings = settings.with_answering_dtls_role(RTCDtlsRole::Client).build(); // as browsers do (RFC 8842 §5.3)
        let builder = builder.with_setting_engine(settings).with_handler(Arc::new(handler)).with_udp_addrs(vec![SocketAddr::new(ip, 0)]);
        let connection: Box<dyn PeerConnection> = Box::new(builder.build().await?);
        Ok(Self { connection, audio: None, video: None, ssrcs, signals, packets })
    }

    /// Makes sure that there is a track for each kind.
    async fn give(&mut self, media: Media) -> anyhow::Result<()> {
        let [one, other] = self.ssrcs;
        if media.audio && self.audio.is_none() {
            self.audio = Some(Sending::open(&*self.connection, RtpCodecKind::Audio, one).await?);
        }
        if media.video && self.video.is_none() {
            self.video = Some(Sending::open(&*self.connection, RtpCodecKind::Video, other).await?);
        }
        Ok(())
    }

    /// Returns an offer with every candidate in it.
    ///
    /// # Errors
    /// The library's.
    pub async fn offer(&mut self, media: Media) -> anyhow::Result<Bytes> {
        self.give(media).await?;
        let offer = self.connection.create_offer(None).await?;
        self.connection.set_local_description(offer).await?;
        self.description().await
    }

    /// Returns the answer to an offer, with every candidate in it: what is offered is taken.
    ///
    /// # Errors
    /// The library refuses the offer.
    pub async fn answer(&mut self, offer: &[u8]) -> anyhow::Result<Bytes> {
        self.give(offered(offer)).await?;
        let offer = RTCSessionDescription::offer(text(offer)?)?;
        self.connection.set_remote_description(offer).await?;
        let answer = self.connection.create_answer(None).await?;
        self.connection.set_local_description(answer).await?;
        self.description().await
    }

    /// Takes the answer to our offer.
    ///
    /// # Errors
    /// The library refuses it.
    pub async fn answered(&mut self, answer: &[u8]) -> anyhow::Result<()> {
        Ok(self.connection.set_remote_description(RTCSessionDescription::answer(text(answer)?)?).await?)
    }

    async fn description(&mut self) -> anyhow::Result<Bytes> {
        self.signals.gathered.wait_for(|gathered| *gathered).await.context("the connection ended")?;
        let description = self.connection.local_description().await.context("there is no description")?;
        Ok(Bytes::from(description.sdp))
    }

    /// Waits until ICE and DTLS are done, and what was agreed can be sent.
    ///
    /// # Errors
    /// They failed.
    pub async fn connected(&mut self) -> anyhow::Result<()> {
        let is_final = |state: &RTCPeerConnectionState| {
            use RTCPeerConnectionState::{Closed, Connected, Failed};
            matches!(state, Connected | Failed | Closed)
        };
        let state = *self.signals.state.wait_for(is_final).await.context("the connection ended")?;
        if state != RTCPeerConnectionState::Connected {
            bail!("the connection is {state}");
        }
        for sending in [&mut self.audio, &mut self.video].into_iter().flatten() {
            sending.negotiated().await?;
        }
        Ok(())
    }

    /// Returns whether this end sends pictures.
    #[must_use]
    pub fn has_video(&self) -> bool {
        self.video.is_some()
    }

    /// Sends a packet of sound; nothing where the call has none.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn speak(&self, block: Bytes, lasts: Duration) -> anyhow::Result<()> {
        match &self.audio {
            Some(audio) => audio.send(clock::now(), block, lasts).await,
            None => Ok(()),
        }
    }

    /// Sends a frame; nothing where the call has no video.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn show(&self, frame: Bytes, lasts: Duration) -> anyhow::Result<()> {
        match &self.video {
            Some(video) => video.send(clock::now(), frame, lasts).await,
            None => Ok(()),
        }
    }

    /// Waits for a packet; nothing is lost where the future is dropped.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn receive(&mut self) -> anyhow::Result<Received> {
        loop {
            let packet = self.packets.recv().await.context("the connection ended")?;
            let payload_type = Some(packet.header.payload_type);
            if self.audio.as_ref().is_some_and(|audio| payload_type == audio.payload_type) {
                return Ok(Received::Audio(packet));
            }
            if self.video.as_ref().is_some_and(|video| payload_type == video.payload_type) {
                return Ok(Received::Video(packet));
            }
        }
    }

    /// Ends the connection.
    ///
    /// # Errors
    /// The library's.
    pub async fn close(self) -> anyhow::Result<()> {
        Ok(self.connection.close().await?)
    }
}

/// A track of ours.
struct Sending {
    track: Arc<TrackLocalStaticSample>,
    sender: Arc<dyn RtpSender>,
    ssrc: u32,
    /// What offer and answer came to, for as long as there is the connection.
    payload_type: Option<u8>,
}

impl Sending {
    async fn open(connection: &dyn PeerConnection, kind: RtpCodecKind, ssrc: u32) -> anyhow::Result<Self> {
        let coding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..RTCRtpCodingParameters::default() },
            codec: codec(kind),
            ..RTCRtpEncodingParameters::default()
        };
        let track = MediaStreamTrack::new("demo".to_owned(), kind.to_string(), kind.to_string(), kind, vec![coding]);
        let track = Arc::new(TrackLocalStaticSample::new(clock::now(), track)?);
        let sender = connection.add_track(Arc::clone(&track) as Arc<dyn TrackLocal>).await?;
        Ok(Self { track, sender, ssrc, payload_type: None })
    }

    /// Looks up the payload type.
    async fn negotiated(&mut self) -> anyhow::Result<()> {
        if self.payload_type.is_none() {
            let parameters = self.sender.get_parameters().await?.rtp_parameters;
            self.payload_type = Some(parameters.codecs.first().context("the other side takes no such media")?.payload_type);
        }
        Ok(())
    }

    async fn send(&self, now: Instant, data: Bytes, lasts: Duration) -> anyhow::Result<()> {
        let sample = Sample { data, duration: lasts, ..Sample::new(now) };
        let payload_type = self.payload_type.context("nothing was agreed")?;
        Ok(self.track.write_sample(self.ssrc, payload_type, &sample, &[]).await?)
    }
}

/// What the connection tells.
struct Signals {
    gathered: watch::Receiver<bool>,
    state: watch::Receiver<RTCPeerConnectionState>,
}

/// The connection's end of it.
struct Handler {
    gathered: watch::Sender<bool>,
    state: watch::Sender<RTCPeerConnectionState>,
}

fn signals() -> (Handler, Signals) {
    let (gathered, is_gathered) = watch::channel(false);
    let (state, has_state) = watch::channel(RTCPeerConnectionState::New);
    (Handler { gathered, state }, Signals { gathered: is_gathered, state: has_state })
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.gathered.send_replace(state == RTCIceGatheringState::Complete);
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.state.send_replace(state);
    }
}

fn codec(kind: RtpCodecKind) -> RTCRtpCodec {
    let (name, clock_rate, channels) = if kind == RtpCodecKind::Video { (MIME_TYPE_VP8, 90_000, 0) } else { (MIME_TYPE_PCMU, 8000, 0) };
    RTCRtpCodec { mime_type: name.to_owned(), clock_rate, channels, ..RTCRtpCodec::default() }
}

fn parameters(rtp_codec: RTCRtpCodec, payload_type: u8) -> RTCRtpCodecParameters {
    RTCRtpCodecParameters { rtp_codec, payload_type }
}

/// Returns a description of the switch as the library takes it.
fn text(description: &[u8]) -> anyhow::Result<String> {
    Ok(std::str::from_utf8(description).context("the description is no text")?.to_owned())
}
