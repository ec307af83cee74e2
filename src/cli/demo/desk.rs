//! A scripted desk phone: plain RTP with PCMU.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use sip::DialogId;
use sip::random::Random;

use super::device::Device;
use super::lines::audio_address;
use super::phone::{Account, Phone};
use super::rtp::Sound;
use super::talk::Talk;
use super::tone::Tone;

/// The phone.
pub struct Desk {
    phone: Phone,
    sound: Sound,
}

/// A call that is up.
pub struct Call {
    dialog: DialogId,
    /// Where the other side wants our media.
    remote: SocketAddr,
}

impl Desk {
    /// Opens the phone's sockets.
    ///
    /// # Errors
    /// The switch cannot be reached, or there is no port for media.
    pub async fn open(account: Account<'_>, random: &mut Random) -> anyhow::Result<Self> {
        let sound = Sound::open(account.switch.ip()).await.context("no port for media")?;
        let phone = Phone::open(account, random).await?;
        Ok(Self { phone, sound })
    }
}

impl Device for Desk {
    type Call = Call;

    fn phone(&mut self) -> &mut Phone {
        &mut self.phone
    }

    async fn call(&mut self, number: &str) -> anyhow::Result<Call> {
        let (dialog, answer) = self.phone.call(number, self.sound.description()).await?;
        let remote = audio_address(&answer).context("the answer has no audio")?;
        Ok(Call { dialog, remote })
    }

    async fn answer(&mut self) -> anyhow::Result<Call> {
        let (dialog, offer) = self.phone.ring().await?;
        let remote = audio_address(&offer).context("the offer has no audio")?;
        self.phone.accept(dialog, self.sound.description()).await?;
        Ok(Call { dialog, remote })
    }

    async fn connected(&mut self, _: &mut Call) -> anyhow::Result<()> {
        Ok(())
    }

    async fn talk(&mut self, call: &mut Call, own: Tone, others: Tone) -> anyhow::Result<Talk> {
        let seed = self.phone.number();
        tokio::select! {
            biased;
            ended = self.phone.until_over(call.dialog) => ended.and_then(|()| bail!("the call ended too early")),
            talk = self.sound.talk(call.remote, own, others, seed) => Ok(talk?),
        }
    }

    async fn hang_up(&mut self, call: Call) -> anyhow::Result<()> {
        self.phone.hang_up(call.dialog).await
    }

    async fn until_over(&mut self, call: Call) -> anyhow::Result<()> {
        self.phone.until_over(call.dialog).await
    }
}
