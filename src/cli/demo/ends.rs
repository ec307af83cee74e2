//! Where the media of a scripted device's call goes, and what it carries: plain RTP from the device's own ports, or a WebRTC connection.

use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use bytes::Bytes;
use sip::random::Random;

use super::film::{Film, Screen};
use super::lines::{self, audio_address, offered, video_address};
use super::peer::{Media, Peer, Received};
use super::picture::{Camera, FRAME_TIME};
use super::rtp::{Sound, Voice};
use super::sight::Piece;
use super::stream::Block;
use super::talk::PTIME;
use super::tone::{BLOCK, Tone};

/// What a device says and shows.
#[derive(Clone, Copy)]
pub(super) struct Own {
    pub(super) tone: Tone,
    pub(super) camera: Camera,
}

/// The ports of a desk phone, the same in each call.
pub(super) struct Ports {
    sound: Sound,
    screen: Screen,
    /// How often the other side was told of them.
    version: u32,
}

/// What came.
pub(super) enum Came {
    Sound(Block),
    Picture(Piece),
}

/// The media of a call.
pub(super) enum Ends {
    /// To each of its addresses goes a stream.
    Rtp { sound: Option<(SocketAddr, Voice)>, film: Option<(SocketAddr, Film)> },
    /// What is to flow, and how many packets and frames were sent.
    WebRtc { peer: Box<Peer>, media: Media, sent: (u32, u32) },
}

impl Ports {
    /// Opens them.
    pub(super) async fn open(ip: IpAddr) -> io::Result<Self> {
        Ok(Self { sound: Sound::open(ip).await?, screen: Screen::open(ip).await?, version: 1 })
    }

    /// Offers sound.
    pub(super) fn offer(&self) -> Bytes {
        self.sound.description()
    }

    /// Answers an offer with all that this phone has of it.
    pub(super) fn answer(&mut self, offer: &[u8]) -> Bytes {
        self.version = self.version.wrapping_add(1);
        lines::answer(offer, self.version, self.sound.address(), self.screen.address())
    }
}

impl Ends {
    /// Has plain RTP flow as the other side says.
    pub(super) fn rtp(description: &[u8], own: Own, random: &mut Random) -> anyhow::Result<Self> {
        let mut ends = Self::Rtp { sound: None, film: None };
        ends.follow(description, own, random)?;
        Ok(ends)
    }

    /// Makes a WebRTC connection that carries nothing yet.
    pub(super) async fn webrtc(ip: IpAddr, random: &mut Random) -> anyhow::Result<Box<Peer>> {
        let [a, b, c, d, e, f, g, h] = random.number().to_be_bytes();
        let ssrcs = [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])];
        Ok(Box::new(Peer::open(ip, ssrcs).await.context("no WebRTC")?))
    }

    /// Follows what the other side says now: a stream that goes on is the same one.
    fn follow(&mut self, description: &[u8], own: Own, random: &mut Random) -> anyhow::Result<()> {
        match self {
            Self::Rtp { sound, film } => {
                let (at, pictures) = (audio_address(description), video_address(description));
                anyhow::ensure!(at.is_some() || pictures.is_some(), "there is neither sound nor video");
                let voice = sound.take().map(|(_, voice)| voice);
                *sound = at.map(|at| (at, voice.unwrap_or_else(|| Voice::new(own.tone, random.number()))));
                let before = film.take().map(|(_, film)| film);
                *film = pictures.map(|(at, payload_type)| {
                    let before = before.filter(|film| film.payload_type() == payload_type);
                    (at, before.unwrap_or_else(|| Film::new(own.camera, payload_type, random.number())))
                });
            }
            Self::WebRtc { media, .. } => *media = offered(description),
        }
        Ok(())
    }

    /// Takes an offer within the call, and returns the answer to it.
    pub(super) async fn take(&mut self, ports: &mut Ports, offer: &[u8], own: Own, random: &mut Random) -> anyhow::Result<Bytes> {
        self.follow(offer, own, random)?;
        match self {
            Self::Rtp { .. } => Ok(ports.answer(offer)),
            Self::WebRtc { peer, .. } => {
                let answer = peer.answer(offer).await.context("the offer cannot be used")?;
                peer.connected().await?;
                Ok(answer)
            }
        }
    }

    /// Sends the next packet of sound.
    pub(super) async fn speak(&mut self, ports: &Ports, own: Own) -> anyhow::Result<()> {
        match self {
            Self::Rtp { sound: Some((remote, voice)), .. } => Ok(ports.sound.speak(*remote, voice).await?),
            Self::WebRtc { peer, media: Media { audio: true, .. }, sent: (packets, _) } => {
                let block = own.tone.block(packets.wrapping_mul(BLOCK as u32));
                *packets = packets.wrapping_add(1);
                peer.speak(Bytes::copy_from_slice(&block), PTIME).await
            }
            Self::Rtp { .. } | Self::WebRtc { .. } => Ok(()),
        }
    }

    /// Sends the next frame.
    pub(super) async fn show(&mut self, ports: &Ports, own: Own) -> anyhow::Result<()> {
        match self {
            Self::Rtp { film: Some((remote, film)), .. } => ports.screen.show(*remote, film).await,
            Self::WebRtc { peer, media: Media { video: true, .. }, sent: (_, frames) } => {
                let frame = own.camera.frame(*frames);
                *frames = frames.wrapping_add(1);
                peer.show(frame, FRAME_TIME).await
            }
            Self::Rtp { .. } | Self::WebRtc { .. } => Ok(()),
        }
    }

    /// Waits for a packet; nothing is lost where the future is dropped.
    pub(super) async fn receive(&mut self, ports: &Ports) -> anyhow::Result<Came> {
        match self {
            Self::Rtp { sound, film } => {
                let listen = async {
                    match sound {
                        Some((remote, _)) => ports.sound.listen(*remote).await,
                        None => pending().await,
                    }
                };
                let watch = async {
                    match film {
                        Some((remote, film)) => ports.screen.watch(*remote, film.payload_type()).await,
                        None => pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    block = listen => Ok(Came::Sound(block?)),
                    piece = watch => Ok(Came::Picture(piece?)),
                }
            }
            Self::WebRtc { peer, .. } => Ok(match peer.receive().await? {
                Received::Audio(packet) => {
                    let (header, payload) = (packet.header, packet.payload);
                    Came::Sound(Block { ssrc: header.ssrc, sequence: header.sequence_number, timestamp: header.timestamp, payload })
                }
                Received::Video(packet) => {
                    let (header, payload) = (packet.header, packet.payload);
                    Came::Picture(Piece { ssrc: header.ssrc, sequence: header.sequence_number, marker: header.marker, payload })
                }
            }),
        }
    }

    /// Ends what has to be ended.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Rtp { .. } => Ok(()),
            Self::WebRtc { peer, .. } => peer.close().await,
        }
    }
}
