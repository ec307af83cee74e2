//! What the scripted phones do, what must come of it, and the line that each step prints. Each step has a deadline, so that the whole ends.

use std::fmt::Display;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use sip::Transport;
use sip::random::Random;
use tokio::time::{sleep, timeout};
use tokio::try_join;

use super::phone::{Account, Call, Phone};
use super::rtp::Talk;
use super::tone::Tone;
use super::{HOST, User, say};
use crate::app::Running;
use crate::clock;

/// The longest that a step may take.
const STEP: Duration = Duration::from_secs(15);
/// How long the phones register for.
const EXPIRES: Duration = Duration::from_secs(600);
/// How often the store is looked at for the call's record.
const LOOK: Duration = Duration::from_millis(10);
/// What the caller sends.
const LOW: Tone = Tone(400);
/// What the callee sends.
const HIGH: Tone = Tone(1000);
/// The least part of what is heard that the other side's tone must be.
const CLEAR: f64 = 0.9;
/// The most of it that one's own tone may be.
const ECHO: f64 = 0.01;
/// The most packets of a talk that may be missing.
const LOSS: u32 = 5;

/// A phone and its user.
struct Actor<'a> {
    user: &'a User,
    phone: Phone,
    transport: Transport,
}

/// Plays the whole script.
///
/// # Errors
/// One sentence about the first step that failed.
pub(super) async fn play(switch: &Running, folder: &Path, users: &[User; 2], mut random: Random) -> anyhow::Result<()> {
    let listeners: String = switch.listeners().iter().map(|listener| format!("{listener} ")).collect();
    say("switch", format_args!("{listeners}with its store in {}", folder.display()));
    let mut ann = Actor::enter(switch, &users[0], Transport::Udp, &mut random).await?;
    let mut bob = Actor::enter(switch, &users[1], Transport::Tcp, &mut random).await?;
    let took = register(&mut ann, &mut bob, EXPIRES).await?;
    say("registered", format_args!("{took}, with digest"));
    let calls = call(&mut ann, &mut bob).await?;
    talk(&mut ann, &mut bob, &calls).await?;
    hang_up(&mut ann, &mut bob, &calls).await?;
    find_record(switch, &ann, &bob).await?;
    let took = register(&mut ann, &mut bob, Duration::ZERO).await?;
    say("unregistered", took);
    Ok(())
}

impl<'a> Actor<'a> {
    async fn enter(switch: &Running, user: &'a User, transport: Transport, random: &mut Random) -> anyhow::Result<Self> {
        let listener = switch.listeners().iter().find(|listener| listener.transport == transport);
        let switch = listener.with_context(|| format!("the switch does not listen on {transport}"))?.address;
        let domain = HOST.to_string();
        let account = Account { name: user.name, password: &user.password, domain: &domain, switch, transport };
        let (phone, _) = step(format!("{}'s phone cannot start", user.name), Phone::open(account, random)).await?;
        Ok(Self { user, phone, transport })
    }

    fn name(&self) -> &'static str {
        self.user.name
    }
}

/// Registers both, or takes that back, and says how long it took.
async fn register(ann: &mut Actor<'_>, bob: &mut Actor<'_>, expires: Duration) -> anyhow::Result<String> {
    let what = if expires.is_zero() { "unregister" } else { "register" };
    let ((), anns) = step(format!("{} cannot {what}", ann.name()), ann.phone.register(expires)).await?;
    let ((), bobs) = step(format!("{} cannot {what}", bob.name()), bob.phone.register(expires)).await?;
    Ok(format!("{} over {} in {}, {} over {} in {}", ann.name(), ann.transport, ms(anns), bob.name(), bob.transport, ms(bobs)))
}

async fn call(ann: &mut Actor<'_>, bob: &mut Actor<'_>) -> anyhow::Result<(Call, Call)> {
    let ((one, took), (other, _)) = try_join!(
        step(format!("{} cannot call {}", ann.user.name, bob.user.name), ann.phone.call(bob.user.number)),
        step(format!("{} cannot answer", bob.user.name), bob.phone.answer()),
    )?;
    say(
        "call set up",
        format_args!("{} dialled {}, {} answered: {} from INVITE to 200", ann.name(), bob.user.number, bob.name(), ms(took)),
    );
    Ok((one, other))
}

async fn talk(ann: &mut Actor<'_>, bob: &mut Actor<'_>, calls: &(Call, Call)) -> anyhow::Result<()> {
    let ((anns, _), (bobs, _)) = try_join!(
        step(format!("{} cannot talk", ann.user.name), ann.phone.talk(&calls.0, LOW, HIGH)),
        step(format!("{} cannot talk", bob.user.name), bob.phone.talk(&calls.1, HIGH, LOW)),
    )?;
    judge(ann.name(), &anns, &bobs, LOW, HIGH)?;
    judge(bob.name(), &bobs, &anns, HIGH, LOW)
}

/// Says what one side sent and received, and refuses too little of it.
fn judge(name: &str, talk: &Talk, other: &Talk, own: Tone, others: Tone) -> anyhow::Result<()> {
    let lost = other.sent.saturating_sub(talk.received);
    let (sent, received, jitter) = (talk.sent, talk.received, ms(talk.jitter));
    let figures = format!("{sent} packets sent, {received} received, {lost} lost, jitter {jitter}");
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
    Ok(())
}

async fn hang_up(ann: &mut Actor<'_>, bob: &mut Actor<'_>, calls: &(Call, Call)) -> anyhow::Result<()> {
    let (_, (_, took)) = try_join!(
        step(format!("{} cannot hang up", ann.user.name), ann.phone.hang_up(&calls.0)),
        step(format!("{} is not told of the end", bob.user.name), bob.phone.until_over(&calls.1)),
    )?;
    say("hung up", format_args!("{} hung up, {} was told in {}", ann.name(), bob.name(), ms(took)));
    Ok(())
}

/// A call's record, as far as it is looked at.
#[derive(Deserialize)]
struct Record {
    caller: String,
    dialled: String,
    callee: String,
    answered_at: Option<u64>,
    ended_at: u64,
    status: u16,
    ended_by: String,
    media: Vec<Leg>,
}

#[derive(Deserialize)]
struct Leg {
    received: u64,
    sent: u64,
    lost: u64,
}

async fn find_record(switch: &Running, ann: &Actor<'_>, bob: &Actor<'_>) -> anyhow::Result<()> {
    let (record, took) = step("the call left no record in the store", first_record(switch)).await?;
    let Record { caller, dialled, callee, answered_at, ended_at, status, ended_by, media } = record;
    let aor = |actor: &Actor<'_>| format!("{}@{HOST}", actor.name());
    let is_right = (&*caller, &*dialled, &*callee) == (&*aor(ann), bob.user.number, &*aor(bob));
    ensure!(is_right, "the call's record is wrong: {caller} dialled {dialled} and reached {callee}");
    ensure!(status == 200 && ended_by == "caller", "the call's record is wrong: status {status}, ended by {ended_by}");
    let answered = answered_at.context("the call's record is wrong: it was never answered")?;
    let [ann_leg, bob_leg] = &media[..] else { bail!("the call's record is wrong: media of {} legs", media.len()) };
    let talked = Duration::from_millis(ended_at.saturating_sub(answered)).as_secs_f64();
    say(
        "call record",
        format_args!("{caller} dialled {dialled}, reached {callee}, talked {talked:.1} s; found in the store after {}", ms(took)),
    );
    for (name, leg) in [(ann.name(), ann_leg), (bob.name(), bob_leg)] {
        say("", format_args!("{name}'s leg: {} packets in, {} out, {} lost", leg.received, leg.sent, leg.lost));
    }
    Ok(())
}

/// Waits for a record: it is written when the media ports have said their last.
async fn first_record(switch: &Running) -> anyhow::Result<Record> {
    loop {
        if let Some(record) = switch.records()?.first() {
            return serde_json::from_slice(record).context("it cannot be read");
        }
        sleep(LOOK).await;
    }
}

/// Takes a step, and measures it. An error says what did not work, and why.
async fn step<T>(fault: impl Display, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<(T, Duration)> {
    let began = clock::now();
    match timeout(STEP, work).await {
        Ok(Ok(done)) => Ok((done, clock::now().saturating_duration_since(began))),
        Ok(Err(error)) => Err(error.context(fault.to_string())),
        Err(_) => bail!("{fault}: nothing came within {} s", STEP.as_secs()),
    }
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::tone::{BLOCK, Ear};

    fn talk(heard: &[Tone], received: u32) -> Talk {
        let mut ear = Ear::new(&[LOW, HIGH]);
        for tone in heard {
            ear.hear(&tone.block(BLOCK as u32));
        }
        Talk { sent: 100, received, jitter: Duration::ZERO, ear }
    }

    fn judged(heard: &[Tone], received: u32) -> Result<(), String> {
        judge("ann", &talk(heard, received), &talk(&[], 100), LOW, HIGH).map_err(|error| error.to_string())
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

    #[tokio::test(start_paused = true)]
    async fn a_step_that_never_ends_fails_with_a_sentence() {
        let stuck = step("ann cannot wait", std::future::pending::<anyhow::Result<()>>()).await;
        assert_eq!(stuck.map_err(|error| format!("{error:#}")).err().as_deref(), Some("ann cannot wait: nothing came within 15 s"));
        let failed = step("ann cannot call", async { anyhow::Result::<()>::Err(anyhow::anyhow!("the switch said 404 Not Found")) }).await;
        assert_eq!(failed.map_err(|error| format!("{error:#}")).err().as_deref(), Some("ann cannot call: the switch said 404 Not Found"));
    }
}
