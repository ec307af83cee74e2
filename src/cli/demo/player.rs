//! A scripted device that lives by itself: it rings, talks and is hung up while the script does something else, and tells what it sees.
//! The script gives it orders and reads its reports.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use sip::DialogId;
use sip::random::Random;
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, interval};

use super::peer::{Media, Peer, Received};
use super::phone::{Account, News, Phone};
use super::rtp::{Sound, Voice, audio_address};
use super::stream::{Block, Stream};
use super::talk::PTIME;
use super::tone::{BLOCK, Tone};
use crate::clock;

/// Orders that may wait.
const ORDERS: usize = 4;

/// What kind of device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Make {
    /// Plain RTP.
    Desk,
    /// WebRTC.
    Mobile,
}

/// What the script wants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Call this number.
    Call(&'static str),
    /// Answer the call that rings.
    Answer,
    /// Hang up.
    HangUp,
    /// Take the registration back, and end.
    Leave,
}

/// What it sees.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    /// A call waits to be answered.
    pub(super) rings: bool,
    /// A call is up.
    pub(super) talks: bool,
    /// re-INVITEs and UPDATEs with an offer that it got.
    pub(super) offers: u32,
    /// What it hears since the call is up.
    pub(super) stream: Stream,
}

/// The script's end of a device.
pub(super) struct Remote {
    orders: mpsc::Sender<Order>,
    reports: watch::Receiver<Report>,
}

/// The device.
pub(super) struct Player {
    phone: Phone,
    sound: Sound,
    make: Make,
    /// What it says, and what it may hear.
    tones: (Tone, &'static [Tone]),
    orders: mpsc::Receiver<Order>,
    reports: watch::Sender<Report>,
    ringing: Option<(DialogId, Bytes)>,
    call: Option<Call>,
}

struct Call {
    dialog: DialogId,
    ends: Ends,
    pace: Interval,
}

/// Where its media goes.
enum Ends {
    Rtp(std::net::SocketAddr, Voice),
    WebRtc(Box<Peer>, u32),
}

/// What comes next.
enum Next {
    Order(Option<Order>),
    News(News),
    Heard(Block),
    Speak,
}

impl Remote {
    /// Gives an order.
    pub(super) async fn order(&self, order: Order) -> anyhow::Result<()> {
        self.orders.send(order).await.ok().context("the device is gone")
    }

    /// Waits until it sees something.
    pub(super) async fn until(&mut self, sees: impl FnMut(&Report) -> bool) -> anyhow::Result<()> {
        self.reports.wait_for(sees).await.map(drop).context("the device is gone")
    }

    /// Returns what it sees now.
    pub(super) fn report(&self) -> Report {
        self.reports.borrow().clone()
    }
}

impl Player {
    /// Connects to the switch and registers.
    pub(super) async fn open(
        account: Account<'_>,
        make: Make,
        tones: (Tone, &'static [Tone]),
        random: &mut Random,
    ) -> anyhow::Result<(Self, Remote)> {
        let sound = Sound::open(account.switch.ip()).await.context("no port for media")?;
        let mut phone = Phone::open(account, random).await?;
        phone.register(Duration::from_secs(600)).await?;
        let (order, orders) = mpsc::channel(ORDERS);
        let (reports, report) = watch::channel(Report::default());
        let player = Self { phone, sound, make, tones, orders, reports, ringing: None, call: None };
        Ok((player, Remote { orders: order, reports: report }))
    }

    /// Does what it is told, and talks, until it is told to leave.
    pub(super) async fn live(mut self) -> anyhow::Result<()> {
        loop {
            match self.next().await? {
                Next::Order(None | Some(Order::Leave)) => return self.phone.register(Duration::ZERO).await,
                Next::Order(Some(order)) => self.obey(order).await?,
                Next::News(news) => self.take(news).await?,
                Next::Heard(block) => {
                    let now = clock::now();
                    self.reports.send_modify(|report| report.stream.hear(now, &block, self.tones.1));
                }
                Next::Speak => self.speak().await?,
            }
        }
    }

    async fn next(&mut self) -> anyhow::Result<Next> {
        let Self { phone, sound, orders, call, .. } = self;
        let Some(Call { ends, pace, .. }) = call else {
            return tokio::select! {
                biased;
                order = orders.recv() => Ok(Next::Order(order)),
                news = phone.news() => news.map(Next::News),
            };
        };
        tokio::select! {
            biased;
            _ = pace.tick() => Ok(Next::Speak),
            block = listen(sound, ends) => block.map(Next::Heard),
            order = orders.recv() => Ok(Next::Order(order)),
            news = phone.news() => news.map(Next::News),
        }
    }

    async fn obey(&mut self, order: Order) -> anyhow::Result<()> {
        match order {
            Order::Call(number) => {
                let (dialog, ends) = match self.make {
                    Make::Desk => {
                        let (dialog, answer) = self.phone.call(number, self.sound.description()).await?;
                        (dialog, self.rtp(&answer)?)
                    }
                    Make::Mobile => {
                        let mut peer = self.peer().await?;
                        let offer = peer.offer().await.context("no offer")?;
                        let (dialog, answer) = self.phone.call(number, offer).await?;
                        peer.answered(&answer).await.context("the answer cannot be used")?;
                        (dialog, Ends::WebRtc(Box::new(peer), 0))
                    }
                };
                self.begin(dialog, ends).await
            }
            Order::Answer => {
                let (dialog, offer) = self.ringing.take().context("nothing rings")?;
                let (answer, ends) = match self.make {
                    Make::Desk => (self.sound.description(), self.rtp(&offer)?),
                    Make::Mobile => {
                        let mut peer = self.peer().await?;
                        let answer = peer.answer(&offer).await.context("the offer cannot be used")?;
                        (answer, Ends::WebRtc(Box::new(peer), 0))
                    }
                };
                self.phone.accept(dialog, answer).await?;
                self.begin(dialog, ends).await
            }
            Order::HangUp => {
                let dialog = self.call.as_ref().context("there is no call")?.dialog;
                self.phone.hang_up(dialog).await?;
                self.over(dialog).await
            }
            Order::Leave => Ok(()),
        }
    }

    async fn take(&mut self, news: News) -> anyhow::Result<()> {
        match news {
            News::Rings { dialog, offer } => {
                self.ringing = Some((dialog, offer));
                self.reports.send_modify(|report| report.rings = true);
                Ok(())
            }
            News::Offered { dialog, offer } => {
                self.reports.send_modify(|report| report.offers += 1);
                let answer = match &mut self.call {
                    Some(Call { ends: Ends::WebRtc(peer, _), .. }) => peer.answer(&offer).await.context("the offer cannot be used")?,
                    Some(_) | None => self.sound.description(),
                };
                self.phone.agree(dialog, answer).await
            }
            News::Over(dialog) => self.over(dialog).await,
        }
    }

    async fn begin(&mut self, dialog: DialogId, mut ends: Ends) -> anyhow::Result<()> {
        if let Ends::WebRtc(peer, _) = &mut ends {
            peer.connected().await?;
        }
        self.call = Some(Call { dialog, ends, pace: interval(PTIME) });
        self.reports.send_modify(|report| (report.rings, report.talks, report.stream) = (false, true, Stream::default()));
        Ok(())
    }

    /// A call is over, answered or not.
    async fn over(&mut self, dialog: DialogId) -> anyhow::Result<()> {
        if self.ringing.as_ref().is_some_and(|(ringing, _)| *ringing == dialog) {
            self.ringing = None;
            self.reports.send_modify(|report| report.rings = false);
        }
        if let Some(call) = self.call.take_if(|call| call.dialog == dialog) {
            self.reports.send_modify(|report| report.talks = false);
            if let Ends::WebRtc(peer, _) = call.ends {
                peer.close().await?;
            }
        }
        Ok(())
    }

    async fn speak(&mut self) -> anyhow::Result<()> {
        match self.call.as_mut().map(|call| &mut call.ends) {
            Some(Ends::Rtp(remote, voice)) => Ok(self.sound.speak(*remote, voice).await?),
            Some(Ends::WebRtc(peer, packets)) => {
                let block = self.tones.0.block(packets.wrapping_mul(BLOCK as u32));
                *packets = packets.wrapping_add(1);
                peer.speak(Bytes::copy_from_slice(&block), PTIME).await
            }
            None => Ok(()),
        }
    }

    fn rtp(&mut self, description: &[u8]) -> anyhow::Result<Ends> {
        let remote = audio_address(description).context("there is no audio")?;
        Ok(Ends::Rtp(remote, Voice::new(self.tones.0, self.phone.number())))
    }

    async fn peer(&mut self) -> anyhow::Result<Peer> {
        let [a, b, c, d, e, f, g, h] = self.phone.number().to_be_bytes();
        let ssrcs = [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])];
        Peer::open(self.sound.ip(), Media::Audio, ssrcs).await.context("no WebRTC")
    }
}

async fn listen(sound: &Sound, ends: &mut Ends) -> anyhow::Result<Block> {
    match ends {
        Ends::Rtp(remote, _) => Ok(sound.listen(*remote).await?),
        Ends::WebRtc(peer, _) => loop {
            if let Received::Audio(packet) = peer.receive().await? {
                let (header, payload) = (packet.header, packet.payload);
                return Ok(Block { ssrc: header.ssrc, sequence: header.sequence_number, timestamp: header.timestamp, payload });
            }
        },
    }
}
