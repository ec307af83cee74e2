//! Thin clients on the whole switch: an application with nothing but CAS and WebRTC calls a phone, is called, renegotiates, and goes.
#![cfg(feature = "demo")]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use sip::Transport;
use sip::random::Random;
use tandem::cli::demo::peer::{Media, Peer, Received};
use tandem::cli::demo::phone::{Account, Phone};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::harness::{HOME, PATIENCE, Switch, switch};
use super::web::{Client, Socket};

const WEB: &str = "[http]\nlisten = [\"127.0.66.1:0\"]\nplain = true\n";
/// Packets that have to arrive, each way.
const PACKETS: u32 = 5;

/// A desk phone: SIP, and a socket for its sound.
struct Desk {
    phone: Phone,
    sound: UdpSocket,
}

impl Desk {
    async fn open(switch: &Switch, name: &str) -> Self {
        let account = Account {
            name,
            password: &format!("{name}-secret"),
            domain: "tandem.test",
            switch: switch.address(Transport::Tcp),
            transport: Transport::Tcp,
            certificate: b"",
        };
        let mut phone = Box::pin(Phone::open(account, &mut Random::new([3; 32]))).await.unwrap();
        Box::pin(phone.register(Duration::from_secs(600))).await.unwrap();
        Self { phone, sound: UdpSocket::bind((HOME, 0)).await.unwrap() }
    }

    fn description(&self) -> Bytes {
        let port = self.sound.local_addr().unwrap().port();
        format!("v=0\r\no=- 1 1 IN IP4 {HOME}\r\ns=-\r\nc=IN IP4 {HOME}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n").into()
    }
}

/// An application that is a device: a login, its events, and the media of one call.
struct Page {
    client: Client,
    events: Socket,
    peer: Peer,
}

impl Page {
    async fn open(switch: &Switch, user: &str) -> Self {
        let client = Client::sign_in(switch.address(Transport::Ws), user).await;
        let events = client.socket(Some(0)).await;
        let peer = Box::pin(Peer::open(HOME.parse().unwrap(), [11, 12])).await.unwrap();
        Self { client, events, peer }
    }

    /// Waits for an event with this message.
    async fn event(&mut self, message: &str) -> Value {
        loop {
            let event = self.events.event("tel").await;
            if event["message"] == message {
                return event["body"].clone();
            }
        }
    }
}

fn ok(reply: &Value) -> &Value {
    assert_eq!(reply["response"], 0, "{reply}");
    &reply["body"]
}

fn text(sdp: &Bytes) -> String {
    String::from_utf8(sdp.to_vec()).unwrap()
}

/// Waits for what must come to an end.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, Box::pin(work)).await.expect("it ends")
}

/// Lets both ends speak until each has heard the other.
async fn hear_each_other(peer: &mut Peer, sound: &UdpSocket, towards: SocketAddr) {
    in_time(peer.connected()).await.unwrap();
    let (mut at_page, mut at_desk, mut sent) = (0, 0, 0_u16);
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    let mut buffer = [0; 2048];
    while at_page < PACKETS || at_desk < PACKETS {
        tokio::select! {
            biased;
            _ = pace.tick() => {
                peer.speak(vec![0x11; 160].into(), Duration::from_millis(20)).await.unwrap();
                let mut packet = vec![0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
                packet[2..4].copy_from_slice(&sent.to_be_bytes());
                packet[4..8].copy_from_slice(&(u32::from(sent) * 160).to_be_bytes());
                packet.extend_from_slice(&[0x22; 160]);
                sound.send_to(&packet, towards).await.unwrap();
                sent += 1;
                assert!(sent < 500, "the page heard {at_page} packets, the phone {at_desk}");
            }
            came = peer.receive() => if let Received::Audio(packet) = came.unwrap() {
                at_page += u32::from(packet.payload.iter().all(|octet| *octet == 0x22));
            },
            came = sound.recv_from(&mut buffer) => {
                let (length, _) = came.unwrap();
                at_desk += u32::from(length == 172 && buffer[12..length].iter().all(|octet| *octet == 0x11));
            }
        }
    }
}

fn media_address(description: &[u8]) -> SocketAddr {
    let text = std::str::from_utf8(description).unwrap();
    let port = text.lines().find_map(|line| line.strip_prefix("m=audio ")).unwrap().split(' ').next().unwrap();
    SocketAddr::new(HOME.parse().unwrap(), port.parse().unwrap())
}

#[tokio::test]
async fn an_application_without_sip_calls_a_phone_and_both_hear_each_other() {
    switch(WEB, async |switch| {
        let (mut bob, mut ann) = (Desk::open(switch, "bob").await, Page::open(switch, "ann").await);
        let offer = text(&Box::pin(ann.peer.offer(Media::AUDIO)).await.unwrap());
        let calling = ann.client.ask("tel", "make-call", json!({ "destination": "%62ob@TANDEM.test:5060", "sdp": offer }));
        let answering = async {
            let (dialog, offered) = bob.phone.ring().await.unwrap();
            bob.phone.accept(dialog, bob.description()).await.unwrap();
            (dialog, media_address(&offered))
        };
        let (reply, (dialog, towards)) = in_time(async { tokio::join!(Box::pin(calling), Box::pin(answering)) }).await;
        let call = ok(&reply)["call"].clone();
        assert_eq!(call["state"], "connected", "{call}");
        assert!(call["parties"][0]["devices"][0]["device"].is_string(), "{call}");
        Box::pin(ann.peer.answered(reply["body"]["sdp"].as_str().unwrap().as_bytes())).await.unwrap();
        Box::pin(hear_each_other(&mut ann.peer, &bob.sound, towards)).await;
        assert_eq!(ann.event("connected").await["call"]["id"], call["id"]);
        // a second offer within the call: the answer comes with the reply
        let again = text(&Box::pin(ann.peer.offer(Media::AUDIO)).await.unwrap());
        let reply = ann.client.ask("tel", "negotiate", json!({ "call": call["id"], "sdp": again })).await;
        Box::pin(ann.peer.answered(ok(&reply)["sdp"].as_str().unwrap().as_bytes())).await.unwrap();
        ok(&ann.client.ask("tel", "drop", json!({ "call": call["id"] })).await);
        in_time(bob.phone.until_over(dialog)).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_application_without_sip_rings_and_answers_and_goes_with_its_login() {
    switch(WEB, async |switch| {
        let (mut bob, mut ann) = (Desk::open(switch, "bob").await, Page::open(switch, "ann").await);
        let registered = ann.client.ask("tel", "register", json!({ "device": "page" })).await;
        let device = ok(&registered)["device"].clone();
        let devices = ann.client.ask("admin", "list-devices", json!({})).await;
        assert_eq!(ok(&devices)["devices"][0]["device"], device);
        let description = bob.description();
        let answering = async {
            let ringing = ann.event("ringing").await["call"].clone();
            let offered = ann.event("sdp").await;
            assert_eq!((&offered["type"], &offered["device"], &offered["call"]), (&json!("offer"), &device, &ringing["id"]));
            let answer = text(&Box::pin(ann.peer.answer(offered["sdp"].as_str().unwrap().as_bytes())).await.unwrap());
            ok(&ann.client.ask("tel", "answer", json!({ "call": ringing["id"], "sdp": answer })).await);
            ringing["id"].clone()
        };
        let (called, call) = in_time(async { tokio::join!(Box::pin(bob.phone.call("ann", description)), Box::pin(answering)) }).await;
        let (dialog, answer) = called.unwrap();
        Box::pin(hear_each_other(&mut ann.peer, &bob.sound, media_address(&answer))).await;
        let refused = ann.client.ask("tel", "negotiate", json!({ "call": call, "sdp": "hello" })).await;
        assert_eq!((&refused["response"], &refused["body"]["field"]), (&json!(400), &json!("sdp")));
        ok(&ann.client.ask("login", "logout", json!({})).await);
        in_time(bob.phone.until_over(dialog)).await.unwrap();
        let root = super::http::host(switch, "admin", "list-devices", json!({ "user": "ann" })).await;
        assert_eq!(ok(&root)["devices"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn a_call_moves_from_a_phone_to_an_application_without_sip() {
    switch(WEB, async |switch| {
        let (mut bob, mut desk) = (Desk::open(switch, "bob").await, Desk::open(switch, "ann").await);
        let mut page = Page::open(switch, "ann").await;
        let device = ok(&page.client.ask("tel", "register", json!({ "device": "page" })).await)["device"].clone();
        let (description, answer) = (bob.description(), desk.description());
        let answering = async {
            let (dialog, _) = desk.phone.ring().await.unwrap();
            desk.phone.accept(dialog, answer).await.unwrap();
            dialog
        };
        let (called, dialog) = in_time(async { tokio::join!(Box::pin(bob.phone.call("ann", description)), Box::pin(answering)) }).await;
        let (at_bob, answer) = called.unwrap();
        let towards = media_address(&answer);
        let rang = page.event("sdp").await;
        assert_eq!(page.event("sdp").await["type"], "rollback", "the phone was quicker");
        let client = page.client.clone();
        let accepting = async {
            let offered = page.event("sdp").await;
            assert_eq!((&offered["type"], &offered["call"]), (&json!("offer"), &rang["call"]));
            let answer = text(&Box::pin(page.peer.answer(offered["sdp"].as_str().unwrap().as_bytes())).await.unwrap());
            ok(&client.ask("tel", "negotiate", json!({ "call": rang["call"], "type": "answer", "sdp": answer })).await);
            Box::pin(hear_each_other(&mut page.peer, &bob.sound, towards)).await;
        };
        let move_here = client.ask("tel", "move", json!({ "call": rang["call"], "device": device }));
        let (moved, (), left) =
            in_time(async { tokio::join!(Box::pin(move_here), Box::pin(accepting), desk.phone.until_over(dialog)) }).await;
        left.unwrap();
        let parties = ok(&moved)["call"]["parties"].to_string();
        assert!(parties.contains(device.as_str().unwrap()), "{parties}");
        bob.phone.hang_up(at_bob).await.unwrap();
    })
    .await;
}
