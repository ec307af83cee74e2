//! What the scripted devices do, what must come of it, and the line that each step prints. Each step has a deadline, so that the whole ends.

use std::fmt::Display;
use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use sip::Transport;
use sip::random::Random;
use tokio::time::timeout;
use tokio::try_join;

use super::desk::Desk;
use super::device::Device;
use super::mobile::Mobile;
use super::peer::Media;
use super::phone::Account;
use super::record::Record;
use super::talk::{Pictures, Talk};
use super::tone::Tone;
use super::{HOST, User, say, story};
use crate::app::Running;
use crate::clock;

/// The longest that a step may take.
const STEP: Duration = Duration::from_secs(15);
/// How long the devices register for.
const EXPIRES: Duration = Duration::from_secs(600);
/// What the caller sends.
const LOW: Tone = Tone(400);
/// What the callee sends.
const HIGH: Tone = Tone(1000);
/// The least part of what is heard that the other side's tone must be.
const CLEAR: f64 = 0.9;
/// The most of it that one's own tone may be.
const ECHO: f64 = 0.01;
/// The most packets, or frames, of a talk that may be missing.
const LOSS: u32 = 5;

/// A device and its user.
struct Actor<'a, D> {
    user: &'a User,
    device: D,
    transport: Transport,
}

/// The switch, and what was played on it.
struct Stage<'a> {
    switch: &'a Running,
    certificate: Vec<u8>,
    random: Random,
    /// Calls that are over; as many records are in the store.
    calls: usize,
}

/// Plays the whole script. `pause`: how long each step of the story stays as it is, for people to read.
///
/// # Errors
/// One sentence about the first step that failed.
pub(super) async fn play(
    switch: &Running,
    folder: &Path,
    certificate: Vec<u8>,
    users: &[User; 4],
    mut random: Random,
    pause: Duration,
) -> anyhow::Result<()> {
    let listeners: String = switch.listeners().iter().map(|listener| format!("{listener} ")).collect();
    say("switch", format_args!("{listeners}with its store in {}", folder.display()));
    let [ann, bob, carol, dave] = users;
    story::play(switch, folder, &certificate, [ann, bob], &mut random, pause).await?;
    let mut stage = Stage { switch, certificate, random, calls: 1 };
    let mut ann = stage.desk(ann, Transport::Udp).await?;
    let mut bob = stage.desk(bob, Transport::Tcp).await?;
    let mut carol = stage.mobile(carol).await?;
    let mut dave = stage.mobile(dave).await?;
    say("registered", format_args!("{}, with digest", register(&mut ann, &mut bob, EXPIRES).await?));
    say("registered", format_args!("{}, with digest", register(&mut carol, &mut dave, EXPIRES).await?));
    stage.scene(&mut ann, &mut bob).await?;
    stage.scene(&mut carol, &mut bob).await?;
    stage.scene(&mut bob, &mut carol).await?;
    carol.device.media = Media::BOTH;
    stage.scene(&mut carol, &mut dave).await?;
    say("unregistered", register(&mut ann, &mut bob, Duration::ZERO).await?);
    say("unregistered", register(&mut carol, &mut dave, Duration::ZERO).await?);
    Ok(())
}

impl Stage<'_> {
    async fn desk<'a>(&mut self, user: &'a User, transport: Transport) -> anyhow::Result<Actor<'a, Desk>> {
        let domain = HOST.to_string();
        let account = account(self.switch, &self.certificate, user, &domain, transport)?;
        let (device, _) = step(format!("{}'s phone cannot start", user.name), Desk::open(account, &mut self.random)).await?;
        Ok(Actor { user, device, transport })
    }

    async fn mobile<'a>(&mut self, user: &'a User) -> anyhow::Result<Actor<'a, Mobile>> {
        let (domain, transport) = (HOST.to_string(), Transport::Wss);
        let account = account(self.switch, &self.certificate, user, &domain, transport)?;
        let (device, _) = step(format!("{}'s mobile cannot start", user.name), Mobile::open(account, &mut self.random)).await?;
        Ok(Actor { user, device, transport })
    }

    /// One user calls another, both talk, the caller hangs up, and there is a record of it.
    async fn scene<A: Device, B: Device>(&mut self, caller: &mut Actor<'_, A>, callee: &mut Actor<'_, B>) -> anyhow::Result<()> {
        let began = clock::now();
        let mut calls = call(caller, callee).await?;
        talk(caller, callee, &mut calls, began).await?;
        hang_up(caller, callee, calls).await?;
        let (record, took) = step("the call left no record in the store", Record::find(self.switch, self.calls)).await?;
        self.calls += 1;
        let (story, legs) = record.checked(caller.name(), callee.user.number, callee.name())?;
        say("call record", format_args!("{story}; found in the store after {}", ms(took)));
        for (name, leg) in [caller.name(), callee.name()].into_iter().zip(legs) {
            say("", format_args!("{name}'s leg: {} packets in, {} out, {} lost", leg.received, leg.sent, leg.lost));
        }
        Ok(())
    }
}

pub(super) fn account<'a>(
    switch: &Running,
    certificate: &'a [u8],
    user: &'a User,
    domain: &'a str,
    transport: Transport,
) -> anyhow::Result<Account<'a>> {
    let listener = switch.listeners().iter().find(|listener| listener.transport == transport);
    let switch = listener.with_context(|| format!("the switch does not listen on {transport}"))?.address;
    Ok(Account { name: user.name, password: &user.password, domain, switch, transport, certificate })
}

impl<D> Actor<'_, D> {
    fn name(&self) -> &'static str {
        self.user.name
    }
}

/// Registers both, or takes that back, and says how long it took.
async fn register<A: Device, B: Device>(ann: &mut Actor<'_, A>, bob: &mut Actor<'_, B>, expires: Duration) -> anyhow::Result<String> {
    let what = if expires.is_zero() { "unregister" } else { "register" };
    let ((), anns) = step(format!("{} cannot {what}", ann.name()), ann.device.phone().register(expires)).await?;
    let ((), bobs) = step(format!("{} cannot {what}", bob.name()), bob.device.phone().register(expires)).await?;
    Ok(format!("{} over {} in {}, {} over {} in {}", ann.name(), ann.transport, ms(anns), bob.name(), bob.transport, ms(bobs)))
}

async fn call<A: Device, B: Device>(ann: &mut Actor<'_, A>, bob: &mut Actor<'_, B>) -> anyhow::Result<(A::Call, B::Call)> {
    let (name, number, other) = (ann.name(), bob.user.number, bob.name());
    let ((mut one, took), (mut two, _)) = try_join!(
        step(format!("{name} cannot call {other}"), ann.device.call(number)),
        step(format!("{other} cannot answer"), bob.device.answer()),
    )?;
    say("call set up", format_args!("{name} dialled {number}, {other} answered: {} from INVITE to 200", ms(took)));
    try_join!(
        step(format!("{name}'s media does not connect"), ann.device.connected(&mut one)),
        step(format!("{other}'s media does not connect"), bob.device.connected(&mut two)),
    )?;
    Ok((one, two))
}

async fn talk<A: Device, B: Device>(
    ann: &mut Actor<'_, A>,
    bob: &mut Actor<'_, B>,
    calls: &mut (A::Call, B::Call),
    began: Instant,
) -> anyhow::Result<()> {
    let (one, other) = (ann.name(), bob.name());
    let ((anns, _), (bobs, _)) = try_join!(
        step(format!("{one} cannot talk"), ann.device.talk(&mut calls.0, LOW, HIGH)),
        step(format!("{other} cannot talk"), bob.device.talk(&mut calls.1, HIGH, LOW)),
    )?;
    judge(one, began, &anns, &bobs, LOW, HIGH)?;
    judge(other, began, &bobs, &anns, HIGH, LOW)
}

/// Says what one side sent and received, and refuses too little of it.
fn judge(name: &str, began: Instant, talk: &Talk, other: &Talk, own: Tone, others: Tone) -> anyhow::Result<()> {
    let lost = other.sent.saturating_sub(talk.received);
    let first = talk.first.map_or_else(|| "never".to_owned(), |first| ms(first.saturating_duration_since(began)));
    let (sent, received, jitter) = (talk.sent, talk.received, ms(talk.jitter()));
    let figures =
        format!("{sent} packets sent, {received} received, {lost} lost, jitter {jitter}, the first heard {first} after the call began");
    ensure!(lost <= LOSS, "{name} does not hear enough: {figures}");
    let (heard, echo) = (talk.ear.share(others), talk.ear.share(own));
    let shares = format!(
        "{:.1} % of what is heard is the other's tone of {} Hz, {:.1} % the own of {} Hz",
        heard * 100.0,
        others.0,
        echo * 100.0,
        own.0
    );
    ensure!(heard >= CLEAR, "{name} does not hear the other side: {shares}");
    ensure!(echo <= ECHO, "{name} hears an echo: {shares}");
    say("media", format_args!("{name}: {figures}"));
    say("tone", format_args!("{name}: {shares}"));
    match (&talk.pictures, &other.pictures) {
        (Some(pictures), Some(others)) => watch(name, pictures, others),
        (None, None) => Ok(()),
        (Some(_), None) | (None, Some(_)) => bail!("only one side has video"),
    }
}

fn watch(name: &str, pictures: &Pictures, others: &Pictures) -> anyhow::Result<()> {
    let lost = others.sent.saturating_sub(pictures.album.whole);
    let figures = format!("{} frames sent, {} received whole, {lost} lost", pictures.sent, pictures.album.whole);
    ensure!(lost <= LOSS, "{name} does not see enough: {figures}");
    say("video", format_args!("{name}: {figures}"));
    Ok(())
}

async fn hang_up<A: Device, B: Device>(ann: &mut Actor<'_, A>, bob: &mut Actor<'_, B>, calls: (A::Call, B::Call)) -> anyhow::Result<()> {
    let (one, other) = (ann.name(), bob.name());
    let (_, (_, took)) = try_join!(
        step(format!("{one} cannot hang up"), ann.device.hang_up(calls.0)),
        step(format!("{other} is not told of the end"), bob.device.until_over(calls.1)),
    )?;
    say("hung up", format_args!("{one} hung up, {other} was told in {}", ms(took)));
    Ok(())
}

/// Takes a step, and measures it. An error says what did not work, and why.
pub(super) async fn step<T>(fault: impl Display, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<(T, Duration)> {
    let began = clock::now();
    match timeout(STEP, work).await {
        Ok(Ok(done)) => Ok((done, clock::now().saturating_duration_since(began))),
        Ok(Err(error)) => Err(error.context(fault.to_string())),
        Err(_) => bail!("{fault}: nothing came within {} s", STEP.as_secs()),
    }
}

pub(super) fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::tone::BLOCK;

    fn talk(heard: &[Tone], received: u32) -> Talk {
        let mut talk = Talk::new(LOW, HIGH);
        for tone in heard {
            talk.ear.hear(&tone.block(BLOCK as u32));
        }
        (talk.sent, talk.received) = (100, received);
        talk
    }

    fn judged(heard: &[Tone], received: u32) -> Result<(), String> {
        judge("ann", clock::now(), &talk(heard, received), &talk(&[], 100), LOW, HIGH).map_err(|error| error.to_string())
    }

    #[test]
    fn only_the_other_side_alone_is_good_to_hear() {
        assert_eq!(judged(&[HIGH], 95), Ok(()));
        for (heard, received, fault) in [
            (&[][..], 0, "ann does not hear enough: "),
            (&[HIGH], 94, "ann does not hear enough: "),
            (&[], 100, "ann does not hear the other side: "),
            (&[LOW], 100, "ann does not hear the other side: "),
            (&[HIGH, LOW], 100, "ann does not hear the other side: "),
        ] {
            let told = judged(heard, received);
            assert!(told.as_ref().is_err_and(|told| told.starts_with(fault)), "{told:?}");
        }
        let mut echo = [HIGH; 50];
        echo[0] = LOW;
        assert!(judged(&echo, 100).is_err_and(|fault| fault.starts_with("ann hears an echo: ")));
    }

    #[test]
    fn too_few_pictures_are_a_fault() {
        let watched = |whole| {
            let (mut pictures, others) = (Pictures::default(), Pictures { sent: 60, ..Pictures::default() });
            pictures.album.whole = whole;
            watch("ann", &pictures, &others).map_err(|error| error.to_string())
        };
        assert_eq!(watched(55), Ok(()));
        assert!(watched(54).is_err_and(|fault| fault.starts_with("ann does not see enough: ")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_never_ends_fails_with_a_sentence() {
        let stuck = step("ann cannot wait", std::future::pending::<anyhow::Result<()>>()).await;
        assert_eq!(stuck.map_err(|error| format!("{error:#}")).err().as_deref(), Some("ann cannot wait: nothing came within 15 s"));
        let failed = step("ann cannot call", async { anyhow::Result::<()>::Err(anyhow::anyhow!("the switch said 404 Not Found")) }).await;
        assert_eq!(failed.map_err(|error| format!("{error:#}")).err().as_deref(), Some("ann cannot call: the switch said 404 Not Found"));
    }
}
