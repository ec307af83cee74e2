//! A scripted device that lives by itself: it rings, talks and is hung up while the script does something else, and tells what it sees.
//! The script gives it orders and reads its reports.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use sip::DialogId;
use sip::random::Random;
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, interval};

use super::ends::{Came, Ends, Own, Ports};
use super::lines::offered;
use super::peer::Media;
use super::phone::{Account, News, Phone};
use super::picture::FRAME_TIME;
use super::sight::Sight;
use super::stream::Stream;
use super::talk::PTIME;
use super::tone::Tone;
use crate::clock;

/// Orders that may wait.
const ORDERS: usize = 4;

/// What kind of device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Make {
    /// Plain RTP: calls with sound, and takes video when it is offered.
    Desk,
    /// WebRTC: takes what it is offered.
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
    /// What it sees since then.
    pub(super) sight: Sight,
}

/// The script's end of a device.
pub(super) struct Remote {
    orders: mpsc::Sender<Order>,
    reports: watch::Receiver<Report>,
}

/// The device.
pub(super) struct Player {
    phone: Phone,
    random: Random,
    ip: IpAddr,
    ports: Ports,
    make: Make,
    own: Own,
    /// What it may hear.
    others: &'static [Tone],
    orders: mpsc::Receiver<Order>,
    reports: watch::Sender<Report>,
    ringing: Option<(DialogId, Bytes)>,
    call: Option<Call>,
}

struct Call {
    dialog: DialogId,
    ends: Ends,
    /// From one packet of sound, and from one frame, to the next.
    paces: (Interval, Interval),
}

/// What comes next.
enum Next {
    Order(Option<Order>),
    News(News),
    Came(Came),
    Speak,
    Show,
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
        (own, others): (Own, &'static [Tone]),
        random: &mut Random,
    ) -> anyhow::Result<(Self, Remote)> {
        let ip = account.switch.ip();
        let ports = Ports::open(ip).await.context("no port for media")?;
        let mut phone = Phone::open(account, random).await?;
        phone.register(Duration::from_secs(600)).await?;
        let (order, orders) = mpsc::channel(ORDERS);
        let (reports, report) = watch::channel(Report::default());
        let random = phone.random();
        let player = Self { phone, random, ip, ports, make, own, others, orders, reports, ringing: None, call: None };
        Ok((player, Remote { orders: order, reports: report }))
    }

    /// Does what it is told, and talks, until it is told to leave.
    pub(super) async fn live(mut self) -> anyhow::Result<()> {
        loop {
            match self.next().await? {
                Next::Order(None | Some(Order::Leave)) => return self.phone.register(Duration::ZERO).await,
                Next::Order(Some(order)) => self.obey(order).await?,
                Next::News(news) => self.take(news).await?,
                Next::Came(came) => self.note(&came),
                Next::Speak => {
                    if let Some(call) = &mut self.call {
                        call.ends.speak(&self.ports, self.own).await?;
                    }
                }
                Next::Show => {
                    if let Some(call) = &mut self.call {
                        call.ends.show(&self.ports, self.own).await?;
                    }
                }
            }
        }
    }

    async fn next(&mut self) -> anyhow::Result<Next> {
        let Self { phone, ports, orders, call, .. } = self;
        let Some(Call { ends, paces: (voice, camera), .. }) = call else {
            return tokio::select! {
                biased;
                order = orders.recv() => Ok(Next::Order(order)),
                news = phone.news() => news.map(Next::News),
            };
        };
        tokio::select! {
            biased;
            _ = voice.tick() => Ok(Next::Speak),
            _ = camera.tick() => Ok(Next::Show),
            came = ends.receive(ports) => came.map(Next::Came),
            order = orders.recv() => Ok(Next::Order(order)),
            news = phone.news() => news.map(Next::News),
        }
    }

    fn note(&self, came: &Came) {
        let now = clock::now();
        self.reports.send_modify(|report| match came {
            Came::Sound(block) => report.stream.hear(now, block, self.others),
            Came::Picture(piece) => report.sight.see(now, piece),
        });
    }

    async fn obey(&mut self, order: Order) -> anyhow::Result<()> {
        match order {
            Order::Call(number) => {
                let (dialog, ends) = match self.make {
                    Make::Desk => {
                        let (dialog, answer) = self.phone.call(number, self.ports.offer()).await?;
                        (dialog, Ends::rtp(&answer, self.own, &mut self.random)?)
                    }
                    Make::Mobile => {
                        let mut peer = Ends::webrtc(self.ip, &mut self.random).await?;
                        let offer = peer.offer(Media::AUDIO).await.context("no offer")?;
                        let (dialog, answer) = self.phone.call(number, offer).await?;
                        peer.answered(&answer).await.context("the answer cannot be used")?;
                        (dialog, Ends::WebRtc { peer, media: Media::AUDIO, sent: (0, 0) })
                    }
                };
                self.begin(dialog, ends).await
            }
            Order::Answer => {
                let (dialog, offer) = self.ringing.take().context("nothing rings")?;
                let (answer, ends) = match self.make {
                    Make::Desk => (self.ports.answer(&offer), Ends::rtp(&offer, self.own, &mut self.random)?),
                    Make::Mobile => {
                        let mut peer = Ends::webrtc(self.ip, &mut self.random).await?;
                        let answer = peer.answer(&offer).await.context("the offer cannot be used")?;
                        (answer, Ends::WebRtc { peer, media: offered(&offer), sent: (0, 0) })
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
                let call = self.call.as_mut().context("an offer came without a call")?;
                let answer = call.ends.take(&mut self.ports, &offer, self.own, &mut self.random).await?;
                self.phone.agree(dialog, answer).await
            }
            News::Over(dialog) => self.over(dialog).await,
        }
    }

    async fn begin(&mut self, dialog: DialogId, mut ends: Ends) -> anyhow::Result<()> {
        if let Ends::WebRtc { peer, .. } = &mut ends {
            peer.connected().await?;
        }
        self.call = Some(Call { dialog, ends, paces: (interval(PTIME), interval(FRAME_TIME)) });
        self.reports.send_modify(|report| {
            (report.rings, report.talks) = (false, true);
            (report.stream, report.sight) = (Stream::default(), Sight::default());
        });
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
            call.ends.close().await?;
        }
        Ok(())
    }
}
