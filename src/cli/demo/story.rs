//! The story of the product: a call to which one person adds video on the mobile, and whose sound and pictures go from desk phone to mobile
//! and back, while the other side hears and sees one stream of each without a break. The script is a client of CAS over the switch's Unix
//! socket, as any application may be.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use sip::Transport;
use sip::random::Random;
use tokio::time::sleep;
use tokio::try_join;

use super::ends::Own;
use super::picture::Camera;
use super::player::{Make, Order, Player, Remote, Report};
use super::script::{account, ms, step};
use super::stream::Numbers;
use super::tone::Tone;
use super::{HOST, User, say};
use crate::app::Running;
use crate::cli::client::{Client, On, Show};
use crate::clock;

/// Bob's phone.
const BOB: Own = Own { tone: Tone(1000), camera: Camera(1) };
/// Ann's desk phone.
const DESK: Own = Own { tone: Tone(400), camera: Camera(2) };
/// Ann's mobile.
const MOBILE: Own = Own { tone: Tone(600), camera: Camera(3) };
/// What bob may hear: himself would be an echo.
const AT_BOB: &[Tone] = &[DESK.tone, MOBILE.tone];
/// What ann may hear.
const AT_ANN: &[Tone] = &[BOB.tone];
/// In how many packets one after the other a tone must be heard.
const HEARD: u32 = 15;
/// How many pictures one after the other must be a camera's.
const SEEN: u32 = 10;
/// The most packets of a kind that bob may miss in the whole call: none is lost on this computer unless it is busy.
const LOSS: u32 = 5;
/// The longest silence that bob may hear, on a computer that is busy.
const SILENCE: Duration = Duration::from_millis(100);
/// The longest that bob's picture may stand still, on a computer that is busy.
const STILL: Duration = Duration::from_millis(1000);

/// The devices, and what the switch says of them.
struct Story {
    cas: Client,
    bob: Remote,
    desk: Remote,
    mobile: Remote,
    /// What each device is called, by its name at the switch.
    names: BTreeMap<String, &'static str>,
    /// The names of ann's desk phone and mobile.
    anns: (String, String),
    number: &'static str,
    call: String,
    /// Offers that bob's phone may have got within the call.
    offers: u32,
    pause: Duration,
}

/// One of ann's devices.
#[derive(Clone, Copy, PartialEq)]
enum Ann {
    Desk,
    Mobile,
}

/// Plays the story. Each step stays as it is for a while, for people to read.
///
/// # Errors
/// One sentence about the first step that failed.
pub(super) async fn play(
    switch: &Running,
    folder: &Path,
    certificate: &[u8],
    [ann, bob]: [&User; 2],
    random: &mut Random,
    pause: Duration,
) -> anyhow::Result<()> {
    let domain = HOST.to_string();
    let account = |user, transport| account(switch, certificate, user, &domain, transport);
    let socket = Some(folder.join("data").join("tandem.sock"));
    let (mut cas, _) = step("there is no CAS", Client::sign_in(&On { socket, ..On::default() }, Show::Nothing)).await?;
    let mut names = BTreeMap::new();
    let open = Player::open(account(bob, Transport::Tcp)?, Make::Desk, (BOB, AT_BOB), random);
    let ((bobs, bob), _) = step("bob's phone cannot register", open).await?;
    name(&mut cas, &mut names, "bob", "desk phone").await?;
    let open = Player::open(account(ann, Transport::Udp)?, Make::Desk, (DESK, AT_ANN), random);
    let ((desks, desk), _) = step("ann's desk phone cannot register", open).await?;
    let at_desk = name(&mut cas, &mut names, "ann", "desk phone").await?;
    let open = Player::open(account(ann, Transport::Wss)?, Make::Mobile, (MOBILE, AT_ANN), random);
    let ((mobiles, mobile), _) = step("ann's mobile cannot register", open).await?;
    let at_mobile = name(&mut cas, &mut names, "ann", "mobile").await?;
    let story =
        Story { cas, bob, desk, mobile, names, anns: (at_desk, at_mobile), number: ann.number, call: String::new(), offers: 0, pause };
    try_join!(
        story.tell(),
        async { bobs.live().await.context("bob's phone stopped") },
        async { desks.live().await.context("ann's desk phone stopped") },
        async { mobiles.live().await.context("ann's mobile stopped") },
    )?;
    Ok(())
}

/// Gives the device of a user that has none yet a name to show, and returns what the switch calls it.
async fn name(cas: &mut Client, names: &mut BTreeMap<String, &'static str>, user: &str, what: &'static str) -> anyhow::Result<String> {
    let reply = cas.ask("admin", "list-devices", json!({ "user": user })).await?;
    let mut devices = reply["devices"].as_array().into_iter().flatten().filter_map(|device| device["device"].as_str());
    let device = devices.find(|device| !names.contains_key(*device)).context("the switch does not list the device")?.to_owned();
    names.insert(device.clone(), what);
    Ok(device)
}

impl Story {
    async fn tell(mut self) -> anyhow::Result<()> {
        say("the story", "ann has a desk phone and a mobile, and is one person; bob calls her from his desk phone");
        let began = clock::now();
        self.bob.order(Order::Call(self.number)).await?;
        step("ann's devices do not ring", async { try_join!(self.desk.until(|at| at.rings), self.mobile.until(|at| at.rings)) }).await?;
        let took = ms(clock::now().saturating_duration_since(began));
        say("rings", format_args!("bob dialled {}, ann's desk phone and mobile ring after {took}", self.number));
        let calls = self.cas.ask("tel", "list", json!({ "user": "ann" })).await?;
        calls["calls"][0]["id"].as_str().context("the switch shows no call")?.clone_into(&mut self.call);
        self.rest().await?;
        self.desk.order(Order::Answer).await?;
        let ((), took) = step("bob does not hear ann's desk phone", self.bob.until(|at| at.stream.hears(DESK.tone, HEARD))).await?;
        step("ann's mobile rings on", self.mobile.until(|at| !at.rings)).await?;
        say("answered", format_args!("ann answered on the desk phone; bob hears her, {} after that", ms(took)));
        self.rest().await?;
        self.add_video().await?;
        self.move_sound(Ann::Mobile).await?;
        self.move_sound(Ann::Desk).await?;
        self.move_pictures().await?;
        self.desk.order(Order::HangUp).await?;
        step("bob is not told of the end", self.bob.until(|at| !at.talks)).await?;
        say("the end", "ann hung up on the desk phone");
        for remote in [&self.bob, &self.desk, &self.mobile] {
            remote.order(Order::Leave).await?;
        }
        self.cas.sign_out().await;
        Ok(())
    }

    /// Ann goes on talking on the desk phone, and shows herself on the mobile: only now bob's phone is asked for video, too.
    async fn add_video(&mut self) -> anyhow::Result<()> {
        let Self { cas, bob, mobile, anns: (at_desk, at_mobile), call, .. } = self;
        let request = cas.ask("tel", "split", json!({ "call": call, "user": "ann", "audio": at_desk, "video": at_mobile }));
        let answered = step("no video comes to the mobile", async { try_join!(request, answer(mobile)) }).await?.0.1;
        step("bob does not see ann", bob.until(|at| at.sight.sees(MOBILE.camera, SEEN))).await?;
        step("ann does not see bob", mobile.until(|at| at.sight.sees(BOB.camera, SEEN))).await?;
        let first = |remote: &Remote| remote.report().sight.since.map_or_else(String::new, |at| ms(at.saturating_duration_since(answered)));
        let (at_bob, at_ann) = (first(bob), first(mobile));
        self.offers = 1;
        say("video added", format_args!("on the mobile; first picture at bob {at_bob}, at ann {at_ann} after her answer there"));
        self.tell_of_bob()?;
        self.rest().await
    }

    /// Ann talks on another of her devices; the pictures stay on the mobile.
    async fn move_sound(&mut self, to: Ann) -> anyhow::Result<()> {
        let began = clock::now();
        let Self { cas, bob, desk, mobile, anns: (at_desk, at_mobile), call, .. } = self;
        let on_mobile = to == Ann::Mobile;
        let (what, own, new, device) =
            if on_mobile { ("mobile", MOBILE, &mut *mobile, &*at_mobile) } else { ("desk phone", DESK, &mut *desk, &*at_desk) };
        let request = cas.ask("tel", "split", json!({ "call": call, "user": "ann", "audio": device, "video": at_mobile }));
        // The mobile is in the call, with its video; the desk phone has left, and rings.
        let answered = async { if on_mobile { Ok(began) } else { answer(new).await } };
        step(format!("the sound does not move to the {what}"), async { try_join!(request, answered) }).await?;
        step(format!("bob does not hear the {what}"), bob.until(|at| at.stream.hears(own.tone, HEARD))).await?;
        step(format!("ann does not hear bob on the {what}"), new.until(|at| at.stream.hears(BOB.tone, HEARD))).await?;
        if on_mobile {
            step("the desk phone stays in the call", desk.until(|at| !at.talks)).await?;
        }
        let took = ms(clock::now().saturating_duration_since(began));
        say("moved", format_args!("the sound to the {what}, where bob hears her after {took}"));
        self.tell_of_bob()?;
        self.rest().await
    }

    /// Ann shows herself on the desk phone, too, and lays the mobile away.
    async fn move_pictures(&mut self) -> anyhow::Result<()> {
        let began = clock::now();
        let Self { cas, bob, desk, mobile, anns: (at_desk, _), call, .. } = self;
        let request = cas.ask("tel", "move", json!({ "call": call, "user": "ann", "device": at_desk }));
        step("the video does not move to the desk phone", request).await?;
        step("bob does not see the desk phone's pictures", bob.until(|at| at.sight.sees(DESK.camera, SEEN))).await?;
        step("ann does not see bob on the desk phone", desk.until(|at| at.sight.sees(BOB.camera, SEEN))).await?;
        step("the mobile stays in the call", mobile.until(|at| !at.talks)).await?;
        let first = bob.report().sight.since.map_or_else(String::new, |at| ms(at.saturating_duration_since(began)));
        say("moved", format_args!("the video to the desk phone, where bob sees her after {first}"));
        self.tell_of_bob()?;
        self.rest().await
    }

    /// Says what bob noticed since the call began, and refuses what he should not have.
    fn tell_of_bob(&self) -> anyhow::Result<()> {
        let report = self.bob.report();
        let (heard, saw) = (heard(&report), saw(&report));
        ensure!(is_whole(&report, self.offers), "bob noticed it: {heard}; {saw}; {} re-INVITEs", report.offers);
        say("bob heard", format_args!("{heard}; he got {} re-INVITE for the video, and none for a move", report.offers));
        say("bob saw", saw);
        Ok(())
    }

    /// Shows who is in the call with which device, and leaves it so for a while.
    async fn rest(&mut self) -> anyhow::Result<()> {
        let graph = self.cas.ask("graph", "get", json!({ "call": self.call })).await?;
        for (at, row) in draw(&graph, &self.names).iter().enumerate() {
            say(if at == 0 { "graph" } else { "" }, row);
        }
        sleep(self.pause).await;
        Ok(())
    }
}

/// Waits until a device rings, and has it answer; returns when that was.
async fn answer(device: &mut Remote) -> anyhow::Result<Instant> {
    device.until(|at| at.rings).await?;
    device.order(Order::Answer).await?;
    Ok(clock::now())
}

fn heard(report: &Report) -> String {
    format!("longest silence {}, {}", ms(report.stream.silence), numbers(&report.stream.numbers))
}

fn saw(report: &Report) -> String {
    let sight = &report.sight;
    format!("{} pictures, longest still {}, {}", sight.pictures(), ms(sight.pause), numbers(&sight.numbers))
}

fn numbers(numbers: &Numbers) -> String {
    let Numbers { packets, lost, repeated, breaks, .. } = numbers;
    format!("{lost} of {packets} packets lost, {repeated} repeated, {breaks} changes of source")
}

/// Whether bob noticed nothing but what is to be: one stream of each kind without a break, and so many offers.
fn is_whole(report: &Report, offers: u32) -> bool {
    let is_one = |numbers: &Numbers| numbers.lost <= LOSS && numbers.repeated == 0 && numbers.breaks == 0;
    let is_smooth = report.stream.silence <= SILENCE && report.sight.pause <= STILL;
    is_one(&report.stream.numbers) && is_one(&report.sight.numbers) && is_smooth && report.offers == offers
}

/// Draws a call of two: the caller with a device at the left, the other one's devices at the right, and what goes between them.
fn draw(graph: &Value, names: &BTreeMap<String, &'static str>) -> Vec<String> {
    let list = |member: &str| graph[member].as_array().map(Vec::as_slice).unwrap_or_default();
    let nodes: Vec<&str> = list("nodes").iter().filter_map(|node| node["id"].as_str()).collect();
    let [caller, callee, ..] = nodes[..] else { return vec!["nobody".to_owned()] };
    let of = |node: &str| list("edges").iter().filter(|edge| edge["node"] == node && edge["state"] != "left").collect::<Vec<_>>();
    let name = |edge: &Value| edge["device"].as_str().and_then(|device| names.get(device)).copied().unwrap_or("phone");
    let left = of(caller).first().map_or_else(|| caller.to_owned(), |edge| format!("{caller} --- {}", name(edge)));
    let rows = of(callee);
    let row = |(at, edge): (usize, &&Value)| {
        let carries = |kind: &str| edge["media"].as_array().is_some_and(|media| media.iter().any(|one| one == kind));
        let arrow = match (edge["state"] == "ringing", carries("audio"), carries("video")) {
            (true, ..) => ". . rings . .",
            (_, true, true) => "<= both ====>",
            (_, true, false) => "<== audio ==>",
            (_, false, true) => "<== video ==>",
            (_, false, false) => "",
        };
        let joint = match (at, rows.len()) {
            (0, 1) => format!("--- {callee}"),
            (0, _) => format!("-+- {callee}"),
            _ => "-'".to_owned(),
        };
        let (left, device) = (if at == 0 { left.as_str() } else { "" }, format!("{} ", name(edge)));
        format!("{left:<20}{arrow:<15}{device:-<11}{joint}")
    };
    rows.iter().enumerate().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_with_two_devices_is_one_node() {
        let names = BTreeMap::from([("b".to_owned(), "desk phone"), ("d".to_owned(), "desk phone"), ("m".to_owned(), "mobile")]);
        let edge = |node: &str, device: &str, media: &[&str], state: &str| json!({ "node": node, "device": device, "media": media, "state": state });
        let graph = |edges: &[Value]| json!({ "call": "1", "nodes": [{ "id": "bob" }, { "id": "ann" }], "edges": edges });
        let bob = edge("bob", "b", &["audio"], "dialing");
        let ringing = graph(&[bob.clone(), edge("ann", "d", &["audio"], "ringing"), edge("ann", "m", &[], "ringing")]);
        assert_eq!(
            draw(&ringing, &names),
            ["bob --- desk phone  . . rings . .  desk phone -+- ann", "                    . . rings . .  mobile -----'"]
        );
        let split = graph(&[bob.clone(), edge("ann", "d", &["audio"], "connected"), edge("ann", "m", &["video"], "connected")]);
        assert!(draw(&split, &names).iter().zip(["<== audio ==>", "<== video ==>"]).all(|(row, arrow)| row.contains(arrow)));
        let alone = graph(&[bob, edge("ann", "d", &["audio"], "left"), edge("ann", "m", &["audio"], "connected")]);
        assert_eq!(draw(&alone, &names), ["bob --- desk phone  <== audio ==>  mobile ------- ann"]);
        assert_eq!(draw(&json!({}), &names), ["nobody"]);
    }

    #[test]
    fn what_bob_should_not_have_noticed_is_a_fault() {
        let is_whole = |change: fn(&mut Report)| {
            let mut report = Report::default();
            change(&mut report);
            is_whole(&report, 1)
        };
        assert!(is_whole(|report| report.offers = 1));
        for change in [
            |_: &mut Report| {},
            |report: &mut Report| report.offers = 2,
            |report: &mut Report| (report.offers, report.stream.numbers.repeated) = (1, 1),
            |report: &mut Report| (report.offers, report.sight.numbers.repeated) = (1, 1),
            |report: &mut Report| (report.offers, report.stream.numbers.breaks) = (1, 1),
            |report: &mut Report| (report.offers, report.sight.numbers.breaks) = (1, 1),
            |report: &mut Report| (report.offers, report.stream.numbers.lost) = (1, LOSS + 1),
            |report: &mut Report| (report.offers, report.sight.numbers.lost) = (1, LOSS + 1),
            |report: &mut Report| (report.offers, report.stream.silence) = (1, SILENCE * 2),
            |report: &mut Report| (report.offers, report.sight.pause) = (1, STILL * 2),
        ] {
            assert!(!is_whole(change));
        }
    }
}
