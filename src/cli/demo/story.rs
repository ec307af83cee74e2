//! The story of the product: a call that one person takes from a desk phone to a mobile and back, while the other side hears one stream
//! without a break. The script is a client of CAS over the switch's Unix socket, as any application may be.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use sip::Transport;
use sip::random::Random;
use tokio::time::sleep;
use tokio::try_join;

use super::player::{Make, Order, Player, Remote, Report};
use super::script::{account, ms, step};
use super::tone::Tone;
use super::{HOST, User, say};
use crate::app::Running;
use crate::cli::client::{Client, On, Show};
use crate::clock;

/// What bob says.
const BOB: Tone = Tone(1000);
/// What ann says into her desk phone.
const DESK: Tone = Tone(400);
/// What she says into her mobile.
const MOBILE: Tone = Tone(600);
/// What bob may hear: himself would be an echo.
const AT_BOB: &[Tone] = &[DESK, MOBILE];
/// What ann may hear.
const AT_ANN: &[Tone] = &[BOB];
/// In how many packets one after the other a tone must be heard.
const HEARD: u32 = 15;
/// The most packets that bob may miss in the whole call: none is lost on this computer unless it is busy.
const LOSS: u32 = 5;
/// The longest silence that bob may hear, on a computer that is busy.
const SILENCE: Duration = Duration::from_millis(100);

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
    let story = Story { cas, bob, desk, mobile, names, anns: (at_desk, at_mobile), number: ann.number, call: String::new(), pause };
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
        let ((), took) = step("bob does not hear ann's desk phone", self.bob.until(|at| at.stream.hears(DESK, HEARD))).await?;
        step("ann's mobile rings on", self.mobile.until(|at| !at.rings)).await?;
        say("answered", format_args!("ann answered on the desk phone; bob hears her, {} after that", ms(took)));
        self.rest().await?;
        self.take(Ann::Mobile).await?;
        self.take(Ann::Desk).await?;
        say("bob heard", format_args!("in the whole call: {}", told(&self.bob.report())?));
        self.desk.order(Order::HangUp).await?;
        step("bob is not told of the end", self.bob.until(|at| !at.talks)).await?;
        say("the end", "ann hung up on the desk phone");
        for remote in [&self.bob, &self.desk, &self.mobile] {
            remote.order(Order::Leave).await?;
        }
        self.cas.sign_out().await;
        Ok(())
    }

    /// Ann takes the call to another of her devices.
    async fn take(&mut self, to: Ann) -> anyhow::Result<()> {
        let (what, tone) = if to == Ann::Mobile { ("mobile", MOBILE) } else { ("desk phone", DESK) };
        let Self { cas, bob, desk, mobile, anns, call, .. } = self;
        let (new, old, device) = if to == Ann::Mobile { (mobile, desk, &anns.1) } else { (desk, mobile, &anns.0) };
        let began = clock::now();
        let request = cas.ask("tel", "move", json!({ "call": call, "user": "ann", "device": device }));
        let answer = async {
            new.until(|at| at.rings).await?;
            new.order(Order::Answer).await
        };
        step(format!("the call does not move to the {what}"), async { try_join!(request, answer) }).await?;
        step(format!("bob does not hear the {what}"), bob.until(|at| at.stream.hears(tone, HEARD))).await?;
        step("the old device talks on", old.until(|at| !at.talks)).await?;
        step(format!("ann does not hear bob on the {what}"), new.until(|at| at.stream.hears(BOB, HEARD))).await?;
        let took = ms(clock::now().saturating_duration_since(began));
        say("moved", format_args!("ann takes the call on the {what}, bob hears her there after {took}: {}", told(&bob.report())?));
        self.rest().await
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

/// Says what bob heard, and refuses what he should not have.
fn told(report: &Report) -> anyhow::Result<String> {
    let stream = &report.stream;
    let figures = format!(
        "longest silence {}, {} of {} packets lost, {} repeated, {} changes of source, {} re-INVITEs seen",
        ms(stream.silence),
        stream.lost,
        stream.packets,
        stream.repeated,
        stream.breaks,
        report.offers
    );
    let is_whole = stream.lost <= LOSS && stream.repeated == 0 && stream.breaks == 0 && stream.silence <= SILENCE && report.offers == 0;
    ensure!(is_whole, "bob noticed the move: {figures}");
    Ok(figures)
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
    fn what_bob_should_not_have_heard_is_a_fault() {
        let told = |change: fn(&mut Report)| {
            let mut report = Report::default();
            change(&mut report);
            told(&report).map_err(|error| error.to_string())
        };
        assert!(told(|_| {}).is_ok_and(|figures| figures.starts_with("longest silence 0.0 ms, 0 of 0 packets lost")));
        for change in [
            |report: &mut Report| report.offers = 1,
            |report: &mut Report| report.stream.repeated = 1,
            |report: &mut Report| report.stream.breaks = 1,
            |report: &mut Report| report.stream.lost = LOSS + 1,
            |report: &mut Report| report.stream.silence = SILENCE * 2,
        ] {
            assert!(told(change).is_err_and(|fault| fault.starts_with("bob noticed the move: ")));
        }
    }
}
