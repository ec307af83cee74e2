//! A scripted mobile: SIP over secure WebSocket, media by WebRTC. Tests of the whole switch may use it too.

use std::net::IpAddr;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use sip::DialogId;
use sip::random::Random;
use tokio::time::{interval, sleep};

use super::device::Device;
use super::peer::{Media, Peer, Received};
use super::phone::{Account, Phone};
use super::picture::{Camera, FRAME_TIME};
use super::talk::{GRACE, PACKETS, PTIME, Pictures, Talk};
use super::tone::{BLOCK, Tone};
use crate::clock;

/// Frames that each side sends.
pub const FRAMES: u32 = 60;

/// The mobile.
pub struct Mobile {
    phone: Phone,
    ip: IpAddr,
    /// What its own calls carry. A call that comes gets what it offers.
    pub media: Media,
}

/// A call that is up.
pub struct Call {
    dialog: DialogId,
    peer: Peer,
}

impl Mobile {
    /// Connects to the switch.
    ///
    /// # Errors
    /// The switch cannot be reached, or shows another certificate.
    pub async fn open(account: Account<'_>, random: &mut Random) -> anyhow::Result<Self> {
        let ip = account.switch.ip();
        Ok(Self { phone: Phone::open(account, random).await?, ip, media: Media::AUDIO })
    }

    async fn peer(&mut self) -> anyhow::Result<Peer> {
        let [a, b, c, d, e, f, g, h] = self.phone.number().to_be_bytes();
        let ssrcs = [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])];
        Peer::open(self.ip, ssrcs).await.context("no WebRTC")
    }
}

impl Device for Mobile {
    type Call = Call;

    fn phone(&mut self) -> &mut Phone {
        &mut self.phone
    }

    async fn call(&mut self, number: &str) -> anyhow::Result<Call> {
        let mut peer = self.peer().await?;
        let offer = peer.offer(self.media).await.context("no offer")?;
        let (dialog, answer) = self.phone.call(number, offer).await?;
        peer.answered(&answer).await.context("the answer cannot be used")?;
        Ok(Call { dialog, peer })
    }

    async fn answer(&mut self) -> anyhow::Result<Call> {
        let (dialog, offer) = self.phone.ring().await?;
        let mut peer = self.peer().await?;
        let answer = peer.answer(&offer).await.context("the offer cannot be used")?;
        self.phone.accept(dialog, answer).await?;
        Ok(Call { dialog, peer })
    }

    async fn connected(&mut self, call: &mut Call) -> anyhow::Result<()> {
        call.peer.connected().await
    }

    async fn talk(&mut self, call: &mut Call, own: Tone, others: Tone) -> anyhow::Result<Talk> {
        tokio::select! {
            biased;
            ended = self.phone.until_over(call.dialog) => ended.and_then(|()| bail!("the call ended too early")),
            talk = talk(&mut call.peer, own, others) => talk,
        }
    }

    async fn hang_up(&mut self, call: Call) -> anyhow::Result<()> {
        self.phone.hang_up(call.dialog).await?;
        call.peer.close().await
    }

    async fn until_over(&mut self, call: Call) -> anyhow::Result<()> {
        self.phone.until_over(call.dialog).await?;
        call.peer.close().await
    }
}

/// Sends a tone, and pictures where there is video, and listens and looks at what comes.
async fn talk(peer: &mut Peer, own: Tone, others: Tone) -> anyhow::Result<Talk> {
    let mut talk = Talk::new(own, others);
    let mut pictures = Pictures::default();
    let frames = if peer.has_video() { FRAMES } else { 0 };
    let (mut voice, mut camera) = (interval(PTIME), interval(FRAME_TIME));
    let end = sleep(PTIME * PACKETS + GRACE);
    tokio::pin!(end);
    while talk.sent < PACKETS || talk.received < PACKETS || pictures.sent < frames || pictures.album.whole < frames {
        tokio::select! {
            biased;
            _ = voice.tick(), if talk.sent < PACKETS => {
                let block = own.block(talk.sent * BLOCK as u32);
                peer.speak(Bytes::copy_from_slice(&block), PTIME).await?;
                talk.sent += 1;
            }
            _ = camera.tick(), if pictures.sent < frames => {
                peer.show(Camera::default().frame(pictures.sent), FRAME_TIME).await?;
                pictures.sent += 1;
            }
            packet = peer.receive() => match packet? {
                Received::Audio(packet) => talk.hear(clock::now(), packet.header.timestamp, &packet.payload),
                Received::Video(packet) => {
                    pictures.album.take(&packet.payload, packet.header.marker);
                }
            },
            () = &mut end => break,
        }
    }

    talk.pictures = peer.has_video().then_some(pictures);
    Ok(talk)
}
