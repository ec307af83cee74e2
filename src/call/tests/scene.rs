//! A switch, its calls and media ports, the phones around it, and a wire that carries whole messages, all in virtual time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::dtmf::Digit;
use media::port::Kind;
use media::quality::Statistics;
use media::sdp::MediaKind;
use media::sdp::negotiate::StreamAddress;
use media::sdp::transport::{Local, Profile, Protection};
use media::{BridgeId, Event as MediaEvent, Kinds, Member, PortId, Settings};
use sip::message::header::Header as _;
use sip::message::parse::parse;
use sip::message::{Headers, Message, Name, NameAddr};
use sip::random::Random;
use sip::{
    DialogEvent, DialogId, Endpoint, Event, Flow, Hop, Listeners, Method, OutgoingInvite, ReferId, Setup, StatusCode, Transport, Uri,
};

use crate::call::command::{Answer, Command, Refusal, Ticket};
use crate::call::conference::room::Room;
use crate::call::graph::{self, Missed, View};
use crate::call::handoff::LINGER;
use crate::call::leg::{Port, Ports};
use crate::call::make::{Alert, Destination, Make};
use crate::call::party::{PartyId, Person, Who};
use crate::call::pickup::{Entrant, Place};
use crate::call::record::Record;
use crate::call::transfer::{Referral, Report};
use crate::call::{Calls, Id, Output, Plan, Policy, Switch, Target};
use crate::device;

pub(super) const SWITCH: usize = 0;
pub(super) const CALLER: usize = 1;
pub(super) const DESK: usize = 2;
pub(super) const MOBILE: usize = 3;
/// In a house of four: ann calls, bob has the desk phone, carol and dave have phones.
pub(super) const CAROL: usize = MOBILE;
pub(super) const DAVE: usize = 4;
pub(super) const NO_ANSWER: Duration = Duration::from_secs(60);
pub(super) const PARK: Duration = Duration::from_secs(120);
pub(super) const UNIX: u64 = 1_700_000_000_000;

/// SDP of a phone: PCMU, or what else it is told.
pub(super) fn sdp(phone: usize, media: &str) -> Bytes {
    format!("v=0\r\no=- {phone} 1 IN IP4 10.0.0.{p}\r\ns=-\r\nc=IN IP4 10.0.0.{p}\r\nt=0 0\r\n{media}", p = phone + 1).into()
}

pub(super) const PCMU: &str = "m=audio 4000 RTP/AVP 0\r\n";
pub(super) const HOLD: &str = "m=audio 4000 RTP/AVP 0\r\na=sendonly\r\n";
/// What a phone on hold answers.
pub(super) const LISTENING: &str = "m=audio 4000 RTP/AVP 0\r\na=recvonly\r\n";
pub(super) const BOTH: &str = "m=audio 4000 RTP/AVP 0 8\r\n";
pub(super) const PCMA: &str = "m=audio 4000 RTP/AVP 8\r\n";
/// Audio and video.
pub(super) const FILM: &str = "m=audio 4000 RTP/AVP 0\r\nm=video 4002 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\n";
/// Video alone.
pub(super) const PICTURE: &str = "m=video 4002 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\n";
/// Audio, and video refused.
pub(super) const NO_PICTURE: &str = "m=audio 4000 RTP/AVP 0\r\nm=video 0 RTP/AVP 97\r\n";
/// Video, and audio refused.
pub(super) const NO_SOUND: &str = "m=audio 0 RTP/AVP 0\r\nm=video 4002 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\n";

pub(super) fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(node + 1).expect("few phones")], 5060))
}

fn endpoint(node: usize, seed: u64) -> Endpoint {
    let mut bytes = [u8::try_from(node).expect("few phones"); 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    Endpoint::new(Setup {
        listeners: Listeners(vec![(Transport::Udp, address(node))]),
        node: 1,
        seed: bytes,
        product: "scene".to_owned(),
        session_interval: Duration::from_secs(1800),
    })
}

pub(super) fn flow(from: usize, to: usize) -> Flow {
    Flow { transport: Transport::Udp, local: address(from), remote: address(to), connection: None }
}

fn name_addr(text: &str) -> NameAddr {
    NameAddr::parse(&text.into()).expect("an address")
}

pub(super) fn person(name: &str) -> Person {
    let shown = name_addr(&format!("<sip:{name}@h>"));
    Person { who: Who::User(name.into()), address: format!("{name}@h").into(), shown }
}

/// Ports that only remember.
#[derive(Default)]
pub(super) struct FakePorts {
    pub(super) opened: u64,
    /// The thread of what is opened, if not that of the port beside, and without one each of two in turn.
    pub(super) thread: u16,
    /// How many more may be opened.
    pub(super) left: Option<u64>,
    /// Ports that went to another thread, and how many more may before one cannot.
    pub(super) brought: Vec<(PortId, PortId)>,
    pub(super) brings: Option<usize>,
    pub(super) settings: BTreeMap<PortId, Settings>,
    /// Of bridges of two: who hears whom.
    pub(super) bridged: BTreeMap<PortId, PortId>,
    /// Who is in each bridge.
    pub(super) arranged: BTreeMap<BridgeId, Vec<Member>>,
    pub(super) closed: BTreeSet<PortId>,
    /// Next to which port each was to be.
    pub(super) beside: Vec<Option<PortId>>,
    pub(super) events: VecDeque<MediaEvent>,
    /// Keys that were pressed towards peers.
    pub(super) pressed: Vec<(PortId, char)>,
}

fn stream(port: u64) -> StreamAddress {
    let number = u16::try_from(20_000 + port % 10_000 * 2).expect("a port");
    let at = |port| SocketAddr::from(([10, 0, 0, 1], port));
    StreamAddress { rtp: at(number), rtcp: at(number + 1) }
}

impl Ports for FakePorts {
    fn open(&mut self, _kind: Kind, streams: usize, beside: Option<PortId>) -> Result<Port, String> {
        self.beside.push(beside);
        if self.left.is_some_and(|left| self.opened >= left) {
            return Err("no media port is free".to_owned());
        }
        self.opened += 1;
        let addresses = vec![stream(self.opened); streams];
        let turn = u16::try_from(self.opened % 2).expect("it is small");
        let thread = if self.thread == 0 { beside.map_or(turn, PortId::thread) } else { self.thread };
        Ok(Port { id: PortId::new(thread, self.opened), local: Local { addresses, ..Local::default() } })
    }

    fn extend(&mut self, port: &mut Port, streams: usize) -> Result<(), String> {
        port.local.addresses.resize(streams, stream(self.opened));
        Ok(())
    }

    fn bring(&mut self, port: &mut Port, beside: PortId) -> Result<(), String> {
        assert!(!self.closed.contains(&port.id), "a closed port is brought");
        assert!(!self.arranged.values().flatten().any(|member| member.port == port.id), "brought out of a bridge");
        match &mut self.brings {
            Some(0) => {
                self.brings = None;
                return Err("the media thread is overloaded".to_owned());
            }
            Some(left) => *left -= 1,
            None => {}
        }
        let to = PortId::new(beside.thread(), port.id.number());
        if let Some(settings) = self.settings.remove(&port.id) {
            self.settings.insert(to, settings);
        }
        self.brought.push((port.id, to));
        port.id = to;
        Ok(())
    }

    fn set(&mut self, port: PortId, settings: Settings) {
        assert!(!self.closed.contains(&port), "a closed port is set");
        self.settings.insert(port, settings);
    }

    fn arrange(&mut self, bridge: BridgeId, members: &[Member]) {
        for before in self.arranged.remove(&bridge).iter().flatten() {
            self.bridged.remove(&before.port);
        }
        if members.is_empty() {
            return;
        }
        assert!(members.iter().all(|member| member.port.thread() == members[0].port.thread()), "a bridge on two threads");
        for member in members {
            assert!(!self.closed.contains(&member.port), "a closed port is bridged");
            let elsewhere = self.arranged.values().flatten().any(|other| other.port == member.port);
            assert!(!elsewhere, "a port in two bridges");
        }
        if let [a, b] = members {
            self.bridged.extend([(a.port, b.port), (b.port, a.port)]);
        }
        self.arranged.insert(bridge, members.to_vec());
    }

    fn press(&mut self, port: PortId, digit: Digit, _duration: Duration) {
        self.pressed.push((port, digit.letter()));
    }

    fn close(&mut self, port: PortId) {
        assert!(self.closed.insert(port), "closed twice");
        assert!(!self.arranged.values().flatten().any(|member| member.port == port), "closed in a bridge");
        self.settings.remove(&port);
        self.events.push_back(MediaEvent::Closed { port, statistics: Statistics::default() });
    }
}

/// What a phone does about an offer within the session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OnOffer {
    /// Takes audio, and video if it can.
    Fit {
        video: bool,
    },
    Accept(&'static str),
    Refuse(StatusCode),
    Wait,
}

pub(super) struct Phone {
    pub(super) endpoint: Endpoint,
    /// The dialog placed or taken last.
    pub(super) dialog: Option<DialogId>,
    /// Every dialog it ever had.
    dialogs: Vec<DialogId>,
    /// The last offer in each.
    offers: BTreeMap<DialogId, Bytes>,
    /// What it said last in each.
    pub(super) said: BTreeMap<DialogId, String>,
    /// Its last INVITE had no offer.
    asks_late: bool,
    pub(super) events: Vec<(DialogId, DialogEvent)>,
    pub(super) acknowledges: bool,
    pub(super) answers_requests: bool,
    pub(super) on_offer: OnOffer,
    /// SDP of the answer to a late offer, in the ACK.
    pub(super) late_answer: &'static str,
    /// It hears nothing and says nothing.
    pub(super) dead: bool,
}

impl Phone {
    /// Leaves its dialogs to themselves: they are over.
    pub(super) fn forget(&mut self) {
        self.dialogs.clear();
        self.offers.clear();
        self.said.clear();
        self.events.clear();
        self.dialog = None;
    }

    /// The answer that fits an offer, or the phone's own when it is asked for one.
    fn fitting(&mut self, dialog: DialogId, offer: &Bytes, video: bool) -> String {
        let text = std::str::from_utf8(offer).expect("SDP is text");
        // RFC 6337 §5.3: asked for an offer, who is on hold says what it can, not what it was told.
        let own = || without(self.said.get(&dialog).map_or(PCMU, String::as_str), &["recvonly", "inactive"]);
        let answer = if text.is_empty() { own() } else { fit(text, video) };
        self.said.insert(dialog, answer.clone());
        answer
    }
}

/// Takes each offered audio line with PCMU, and each video line with H264 if video is taken at all.
fn fit(offer: &str, video: bool) -> String {
    let mut answer = String::new();
    for part in offer.split("m=").skip(1) {
        let mut words = part.split_whitespace();
        let (kind, port, protocol) = (words.next().unwrap_or_default(), words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let h264 = part.lines().find_map(|line| line.strip_prefix("a=rtpmap:")?.strip_suffix(" H264/90000"));
        let says = |direction: &str| part.lines().any(|line| line.strip_prefix("a=") == Some(direction));
        let direction = match () {
            () if says("sendonly") => "a=recvonly\r\n",
            () if says("recvonly") => "a=sendonly\r\n",
            () if says("inactive") => "a=inactive\r\n",
            () => "",
        };
        match (kind, h264) {
            ("audio", _) if port != "0" => answer.push_str(&format!("m=audio 4000 {protocol} 0\r\n{direction}")),
            ("video", Some(format)) if port != "0" && video => {
                answer.push_str(&format!("m=video 4002 {protocol} {format}\r\na=rtpmap:{format} H264/90000\r\n{direction}"));
            }
            _ => answer.push_str(&format!("m={kind} 0 {protocol} 0\r\n")),
        }
    }
    answer
}

/// What a phone says without these directions.
fn without(said: &str, directions: &[&str]) -> String {
    directions.iter().fold(said.to_owned(), |said, direction| said.replace(&format!("a={direction}\r\n"), ""))
}

pub(super) struct Carried {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) message: Message,
    bytes: Bytes,
}

pub(super) struct Scene {
    pub(super) now: Instant,
    pub(super) start: Instant,
    pub(super) sip: Endpoint,
    pub(super) calls: Calls,
    pub(super) media: FakePorts,
    random: Random,
    pub(super) phones: Vec<Phone>,
    pub(super) wire: VecDeque<Carried>,
    pub(super) log: Vec<Carried>,
    pub(super) records: Vec<Record>,
    /// The calls as events tell of them.
    pub(super) views: BTreeMap<Id, Arc<View>>,
    /// The number of the last event.
    pub(super) told: u64,
    /// Who was called into a call and did not come.
    pub(super) missed: Vec<Missed>,
    /// What became of the commands that took time.
    pub(super) outcomes: Vec<(Ticket, Result<(), Refusal>)>,
    pub(super) started: usize,
    /// The devices that ring.
    pub(super) targets: Vec<usize>,
    /// Calls whose targets are still looked for.
    pub(super) plans: Vec<Plan>,
    pub(super) plans_wait: bool,
    /// All devices registered the same contact.
    pub(super) same_contact: bool,
    /// There is one device, and each phone is one of its addresses.
    pub(super) one_device: bool,
    /// How long the caller's INVITE is good.
    pub(super) expires: Option<Duration>,
    /// The ways to carry media to a device, in the order to offer them.
    pub(super) profiles: Vec<Profile>,
    /// Nobody hears of the session timers of the others.
    pub(super) no_timers: bool,
    /// Phones that ring say that they can be told to answer.
    pub(super) talks: bool,
    /// The place that the next INVITE is to take, and what came of the last one.
    pub(super) place: Option<Place>,
    pub(super) refusal: Option<Refusal>,
    /// The room that the next INVITE is to, and what came of the last one.
    pub(super) room: Option<Arc<Room>>,
    pub(super) visited: Option<Result<(), Refusal>>,
    /// REFERs that wait.
    pub(super) refers: Vec<(DialogId, ReferId)>,
    /// Calls that became part of another one.
    pub(super) merged: Vec<(Id, Id)>,
    /// Users who are to be called back.
    pub(super) recalls: Vec<(Id, Arc<str>)>,
}

impl Phone {
    /// Every dialog it ever had.
    pub(super) fn endpoint_dialogs(&self) -> Vec<DialogId> {
        self.dialogs.clone()
    }
}

impl Scene {
    /// Returns the switch's dialog with a phone, the newest.
    pub(super) fn switch_dialog(&self, phone: usize) -> DialogId {
        self.calls.dialog_of(&device::Id::named(&format!("phone{phone}"))).expect("the phone is in a call")
    }

    /// A caller and some devices, all of which ring.
    pub(super) fn new(devices: usize) -> Self {
        Self::seeded(devices, 7)
    }

    pub(super) fn seeded(devices: usize, seed: u64) -> Self {
        let start = crate::clock::now();
        let phone = |node| Phone {
            endpoint: endpoint(node, seed),
            dialog: None,
            dialogs: Vec::new(),
            offers: BTreeMap::new(),
            said: BTreeMap::new(),
            asks_late: false,
            events: Vec::new(),
            acknowledges: true,
            answers_requests: true,
            on_offer: OnOffer::Accept(PCMU),
            late_answer: PCMU,
            dead: false,
        };
        Self {
            now: start,
            start,
            sip: endpoint(SWITCH, seed),
            calls: Calls::new(Policy {
                no_answer: NO_ANSWER,
                media_timeout: Duration::from_secs(30),
                park: PARK,
                calls_per_user: 100,
                calls_per_trunk: 100,
            }),
            media: FakePorts::default(),
            random: Random::new([9; 32]),
            phones: (0..=devices + 1).map(phone).collect(),
            wire: VecDeque::new(),
            log: Vec::new(),
            records: Vec::new(),
            views: BTreeMap::new(),
            told: 0,
            missed: Vec::new(),
            outcomes: Vec::new(),
            started: 0,
            targets: (DESK..DESK + devices).collect(),
            plans: Vec::new(),
            plans_wait: false,
            same_contact: false,
            one_device: false,
            expires: None,
            profiles: vec![Profile::Plain],
            no_timers: false,
            talks: false,
            place: None,
            refusal: None,
            room: None,
            visited: None,
            refers: Vec::new(),
            merged: Vec::new(),
            recalls: Vec::new(),
        }
    }

    pub(super) fn unix(&self) -> u64 {
        UNIX + u64::try_from((self.now - self.start).as_millis()).expect("short")
    }

    pub(super) fn with_calls<R>(&mut self, work: impl FnOnce(&mut Calls, &mut Switch<'_>) -> R) -> R {
        let unix = self.unix();
        let mut switch = Switch { now: self.now, unix, sip: &mut self.sip, media: &mut self.media, random: &mut self.random };
        work(&mut self.calls, &mut switch)
    }

    // ---- phones

    pub(super) fn place(&mut self, media: &str) {
        self.place_from(CALLER, ("ann", "bob"), media);
    }

    /// A phone calls.
    pub(super) fn place_from(&mut self, phone: usize, (caller, callee): (&str, &str), media: &str) {
        let body = if media.is_empty() { Bytes::new() } else { sdp(phone, media) };
        let invite = OutgoingInvite {
            uri: Uri::parse(&format!("sip:{callee}@10.0.0.1").into()).expect("a URI"),
            routes: Vec::new(),
            hop: Hop::Flow(flow(phone, SWITCH)),
            from: name_addr(&format!("<sip:{caller}@h>")),
            to: name_addr(&format!("<sip:{callee}@h>")),
            headers: Headers::default(),
            body,
        };
        let caller = &mut self.phones[phone];
        let dialog = caller.endpoint.place(self.now, invite);
        caller.dialog = Some(dialog);
        caller.said.insert(dialog, media.to_owned());
        caller.dialogs.extend(caller.dialog);
        caller.asks_late = media.is_empty();
        self.flush(phone);
    }

    /// A phone does something in its last dialog; what it says is on the wire then.
    pub(super) fn act<R>(&mut self, phone: usize, work: impl FnOnce(&mut Endpoint, Instant, DialogId) -> R) -> R {
        let dialog = self.phones[phone].dialog.expect("the phone has a call");
        self.act_in(phone, dialog, work)
    }

    fn act_in<R>(&mut self, phone: usize, dialog: DialogId, work: impl FnOnce(&mut Endpoint, Instant, DialogId) -> R) -> R {
        let result = work(&mut self.phones[phone].endpoint, self.now, dialog);
        self.flush(phone);
        result
    }

    pub(super) fn progress(&mut self, phone: usize, status: StatusCode, media: &str) {
        let body = if media.is_empty() { Bytes::new() } else { sdp(phone, media) };
        let _gone = self.act(phone, |endpoint, now, dialog| endpoint.progress(now, dialog, status, body));
    }

    pub(super) fn accept(&mut self, phone: usize, media: &str) {
        self.act(phone, |endpoint, now, dialog| endpoint.accept(now, dialog, sdp(phone, media)));
    }

    /// Answers the INVITE of the last dialog with what fits its offer.
    pub(super) fn accept_fitting(&mut self, phone: usize, video: bool) {
        let this = &mut self.phones[phone];
        let dialog = this.dialog.expect("the phone has a call");
        let offer = this.offers.get(&dialog).cloned().unwrap_or_default();
        let answer = this.fitting(dialog, &offer, video);
        self.act(phone, |endpoint, now, dialog| endpoint.accept(now, dialog, sdp(phone, &answer)));
    }

    /// Sends a re-INVITE made of what the phone said last, and with video besides, or on hold.
    pub(super) fn change(&mut self, phone: usize, video: bool, hold: bool) -> bool {
        let this = &self.phones[phone];
        let said = this.dialog.and_then(|dialog| this.said.get(&dialog)).filter(|said| said.contains("audio 4000"));
        let gone: &[&str] = if hold { &["sendonly", "recvonly", "inactive"] } else { &["sendonly"] };
        let Some(mut said) = said.map(|said| without(said, gone)) else { return false };
        if video && !said.contains("m=video") {
            said.push_str(PICTURE);
        }
        if hold {
            let end = said.find("m=video").unwrap_or(said.len());
            said.insert_str(end, "a=sendonly\r\n");
        }
        let sent = self.offer(phone, &said);
        let this = &mut self.phones[phone];
        if let Some(dialog) = this.dialog.filter(|_| sent) {
            this.said.insert(dialog, said);
        }
        sent
    }

    pub(super) fn refuse(&mut self, phone: usize, status: StatusCode) {
        let _gone = self.act(phone, |endpoint, now, dialog| endpoint.refuse(now, dialog, status, &Headers::default()));
    }

    /// A phone rings, and whoever waits for it knows.
    pub(super) fn rings(&mut self, phone: usize) {
        self.progress(phone, StatusCode::RINGING, "");
        self.settle();
    }

    /// A phone answers, and all that follows from it has happened.
    pub(super) fn answers(&mut self, phone: usize, media: &str) {
        self.accept(phone, media);
        self.settle();
    }

    /// A phone refuses, likewise.
    pub(super) fn refuses(&mut self, phone: usize, status: StatusCode) {
        self.refuse(phone, status);
        self.settle();
    }

    /// A phone hangs up, likewise.
    pub(super) fn hangs_up(&mut self, phone: usize) {
        self.bye(phone);
        self.settle();
    }

    /// A phone sends a REFER in its dialog; the switch has it then.
    pub(super) fn refer(&mut self, phone: usize) -> (DialogId, Report) {
        self.act(phone, |endpoint, now, dialog| {
            let mut headers = Headers::default();
            headers.push(Name::ReferTo, "<sip:carol@h>");
            headers.push(Name::Contact, format!("<sip:x@10.0.0.{}>", phone + 1));
            endpoint.request_within(now, dialog, Method::Refer, &headers, Bytes::new()).expect("it has a session")
        });
        self.settle();
        let (dialog, refer) = self.refers.pop().expect("a REFER");
        (dialog, Report::Refer { dialog, refer })
    }

    /// Sends the other party of a phone's call to the phones of a user.
    pub(super) fn transfer(&mut self, phone: usize, user: &str, to: &[usize]) -> Result<(), Refusal> {
        let (dialog, report) = self.refer(phone);
        let (id, party, ..) = self.calls.owner(dialog).expect("the phone is in a call");
        let targets = to.iter().map(|phone| self.target_of(user, *phone)).collect();
        let referral = Referral { to: person(user), headers: Headers::default(), targets, report: Some(report) };
        let result = self.with_calls(|calls, switch| calls.transfer(switch, id, party, referral));
        self.settle();
        result
    }

    /// What a phone was told of its REFER.
    pub(super) fn told(&self, phone: usize) -> Vec<String> {
        let notifies = self.log.iter().filter(|carried| carried.to == phone).filter_map(|carried| match &carried.message {
            Message::Request(request) if request.method == Method::Notify => Some(request),
            Message::Request(_) | Message::Response(_) => None,
        });
        notifies.map(|notify| String::from_utf8_lossy(&notify.body).trim().replace("SIP/2.0 ", "")).collect()
    }

    pub(super) fn cancel(&mut self, phone: usize) {
        self.act(phone, |endpoint, now, dialog| endpoint.cancel(now, dialog, None));
    }

    pub(super) fn bye(&mut self, phone: usize) {
        self.act(phone, |endpoint, now, dialog| endpoint.bye(now, dialog, None));
    }

    /// Sends a re-INVITE, or with no media one that asks for an offer. Returns whether the phone could.
    pub(super) fn offer(&mut self, phone: usize, media: &str) -> bool {
        let body = if media.is_empty() { Bytes::new() } else { sdp(phone, media) };
        let sent = self.act(phone, |endpoint, now, dialog| endpoint.offer(now, dialog, body));
        if sent.is_ok() {
            self.phones[phone].asks_late = media.is_empty();
        }
        sent.is_ok()
    }

    pub(super) fn info(&mut self, phone: usize, body: &'static str) {
        self.act(phone, |endpoint, now, dialog| {
            let mut headers = Headers::default();
            headers.push(Name::ContentType, "application/dtmf-relay");
            endpoint.request_within(now, dialog, Method::Info, &headers, Bytes::from_static(body.as_bytes()))
        });
    }

    /// Takes back the last re-INVITE of a phone.
    pub(super) fn withdraw(&mut self, phone: usize) {
        let sent = self.log.iter().chain(&self.wire).filter(|carried| carried.from == phone);
        let mut invites = sent.filter_map(|carried| match &carried.message {
            Message::Request(request) if request.method == Method::Invite && request.to_tag().is_some() => Some(request),
            Message::Request(_) | Message::Response(_) => None,
        });
        let Some(invite) = invites.next_back() else { return };
        let text = |name| String::from_utf8_lossy(invite.headers.get(name).unwrap_or_default()).into_owned();
        let cancel = format!(
            "CANCEL {} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {}\r\nContent-Length: 0\r\n\r\n",
            invite.uri,
            text(Name::Via),
            text(Name::From),
            text(Name::To),
            text(Name::CallId),
            text(Name::CSeq).replace("INVITE", "CANCEL"),
        );
        self.carry(phone, SWITCH, cancel.into());
    }

    /// Sends an offer in an UPDATE, which the phones' own endpoints never do. Nothing else may come from this phone then.
    pub(super) fn update(&mut self, phone: usize, media: &str) {
        let ack = self.log.iter().rfind(|carried| carried.from == phone && word(&carried.message) == "ACK").expect("an ACK");
        let Message::Request(ack) = &ack.message else { unreachable!("an ACK is a request") };
        let text = |name| String::from_utf8_lossy(ack.headers.get(name).unwrap_or_default()).into_owned();
        let body = String::from_utf8(sdp(phone, media).to_vec()).expect("text");
        let update = format!(
            "UPDATE {} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.{}:5060;branch=z9hG4bKupdate\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\n\
             Call-ID: {}\r\nCSeq: 1000000 UPDATE\r\nContact: <sip:ann@10.0.0.{}>\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{body}",
            ack.uri,
            phone + 1,
            text(Name::From),
            text(Name::To),
            text(Name::CallId),
            phone + 1,
            body.len(),
        );
        self.carry(phone, SWITCH, update.into());
    }

    /// Once the phones behave and what was under way is over, whoever is in a call may make an offer, and ask for one. Returns how many did.
    #[track_caller]
    pub(super) fn assert_offers_are_taken(&mut self) -> usize {
        let mut offers = 0;
        for phone in CALLER..self.phones.len() {
            self.phones[phone].acknowledges = true;
            self.phones[phone].on_offer = OnOffer::Accept(PCMU);
            for dialog in self.phones[phone].dialogs.clone() {
                self.act_in(phone, dialog, |endpoint, now, dialog| {
                    endpoint.acknowledge(now, dialog, Bytes::new());
                    endpoint.accept(now, dialog, sdp(phone, PCMU));
                });
            }
        }
        self.advance(Duration::from_secs(100));
        for phone in CALLER..self.phones.len() {
            for (dialog, media) in self.phones[phone].dialogs.clone().into_iter().flat_map(|dialog| [(dialog, PCMU), (dialog, "")]) {
                let before = self.phones[phone].events.len();
                self.phones[phone].dialog = Some(dialog);
                if self.offer(phone, media) {
                    offers += 1;
                    self.advance(Duration::from_secs(1));
                    let mut after = self.phones[phone].events[before..].iter().filter(|(id, _)| *id == dialog);
                    let taken = |event: &DialogEvent| matches!(event, DialogEvent::OfferAnswered { .. } | DialogEvent::Ended { .. });
                    assert!(after.any(|(_, event)| taken(event)), "{:?}", &self.phones[phone].events[before..]);
                }
            }
        }
        offers
    }

    /// Every phone ends what it has, and does what it should from now on.
    pub(super) fn give_up_all(&mut self) {
        for phone in CALLER..self.phones.len() {
            self.phones[phone].acknowledges = true;
            self.phones[phone].on_offer = OnOffer::Accept(PCMU);
        }
        self.settle();
        for phone in CALLER..self.phones.len() {
            self.answer_requests(phone);
            for dialog in self.phones[phone].dialogs.clone() {
                self.phones[phone].dialog = Some(dialog);
                self.cancel(phone);
                self.bye(phone);
                self.refuse(phone, StatusCode::TEMPORARILY_UNAVAILABLE);
            }
        }
    }

    /// The port of a phone.
    pub(super) fn port(&self, phone: usize) -> PortId {
        let is_its = |settings: &&Settings| {
            settings
                .streams
                .iter()
                .filter_map(|stream| stream.remote_rtp)
                .any(|remote| remote.ip().to_string() == format!("10.0.0.{}", phone + 1))
        };
        let port = self.media.settings.iter().find(|(_, settings)| is_its(settings));
        *port.expect("a port").0
    }

    /// A phone answers the requests that it left without answer.
    pub(super) fn answer_requests(&mut self, phone: usize) {
        self.refuse_requests(phone, StatusCode::OK);
    }

    /// The same, with another response.
    pub(super) fn refuse_requests(&mut self, phone: usize, status: StatusCode) {
        let (now, this) = (self.now, &mut self.phones[phone]);
        for (_, event) in &this.events {
            if let DialogEvent::Request { server, request } = event {
                let response = this.endpoint.reply(request, status);
                this.endpoint.respond(now, *server, &response);
            }
        }
        self.flush(phone);
    }

    fn flush(&mut self, phone: usize) {
        loop {
            while let Some(event) = self.phones[phone].endpoint.next_event() {
                self.react(phone, event);
            }
            let Some(send) = self.phones[phone].endpoint.next_send() else { return };
            if !self.phones[phone].dead {
                self.carry(phone, SWITCH, send.bytes);
            }
        }
    }

    fn react(&mut self, phone: usize, event: Event) {
        let (now, this) = (self.now, &mut self.phones[phone]);
        let (id, event) = match event {
            Event::Request(incoming) => {
                let offer = incoming.request.body.clone();
                if let Some(dialog) = this.endpoint.take(now, *incoming) {
                    this.offers.insert(dialog, offer);
                    this.dialog = Some(dialog);
                    this.dialogs.push(dialog);
                }
                return;
            }
            Event::Dialog(id, event) => (id, event),
            Event::Forward(_)
            | Event::Elsewhere(..)
            | Event::Cancel(_)
            | Event::Response(..)
            | Event::Refer(..)
            | Event::Subscription(..) => return,
        };
        if let DialogEvent::Answered { body } | DialogEvent::OfferAnswered { body } = &event
            && this.acknowledges
        {
            let answer = match this.on_offer {
                OnOffer::Fit { video } => this.fitting(id, body, video),
                OnOffer::Accept(_) | OnOffer::Refuse(_) | OnOffer::Wait => this.late_answer.to_owned(),
            };
            let ack = if body.is_empty() || !this.asks_late { Bytes::new() } else { sdp(phone, &answer) };
            this.endpoint.acknowledge(now, id, ack);
        } else if let DialogEvent::Offered { body } = &event {
            match this.on_offer {
                OnOffer::Fit { video } => {
                    let answer = this.fitting(id, body, video);
                    this.endpoint.accept(now, id, sdp(phone, &answer));
                }
                OnOffer::Accept(media) => this.endpoint.accept(now, id, sdp(phone, media)),
                OnOffer::Refuse(status) => drop(this.endpoint.refuse(now, id, status, &Headers::default())),
                OnOffer::Wait => {}
            }
        } else if let DialogEvent::Request { server, request } = &event
            && this.answers_requests
        {
            let response = this.endpoint.reply(request, StatusCode::OK);
            this.endpoint.respond(now, *server, &response);
        }
        self.phones[phone].events.push((id, event));
    }

    // ---- the wire

    pub(super) fn carry(&mut self, from: usize, to: usize, bytes: Bytes) {
        let bytes = if self.no_timers { without_timers(&bytes) } else { bytes };
        let bytes = if self.talks && to == SWITCH { with_talk(&bytes) } else { bytes };
        let message = parse(bytes.clone()).expect("what we print can be read");
        self.wire.push_back(Carried { from, to, message, bytes });
    }

    /// Delivers one message and lets the switch work on it.
    pub(super) fn deliver(&mut self) -> bool {
        self.drain();
        let Some(carried) = self.wire.pop_front() else { return false };
        let (from, to, bytes) = (carried.from, carried.to, carried.bytes.clone());
        self.log.push(carried);
        if to == SWITCH {
            self.sip.receive(self.now, flow(SWITCH, from), bytes);
            self.drain();
        } else if !self.phones[to].dead {
            self.phones[to].endpoint.receive(self.now, flow(to, SWITCH), bytes);
            self.flush(to);
        }
        true
    }

    /// Delivers whatever is on the way, and the ports' last words.
    pub(super) fn settle(&mut self) {
        while self.deliver() || self.media_event() {}
    }

    pub(super) fn media_event(&mut self) -> bool {
        let Some(event) = self.media.events.pop_front() else { return false };
        self.with_calls(|calls, switch| calls.handle_media(switch, event));
        self.drain();
        true
    }

    fn drain(&mut self) {
        loop {
            if let Some(event) = self.sip.next_event() {
                match event {
                    Event::Request(incoming) => self.invite(*incoming),
                    Event::Dialog(dialog, event) => self.with_calls(|calls, switch| calls.handle_dialog(switch, dialog, event)),
                    Event::Refer(dialog, refer) => self.refers.push((dialog, refer.id)),
                    Event::Forward(_) | Event::Elsewhere(..) | Event::Cancel(_) | Event::Response(..) | Event::Subscription(..) => {
                        panic!("{event:?}")
                    }
                }
            } else if let Some(send) = self.sip.next_send() {
                let to = (0..self.phones.len()).find(|node| address(*node) == send.hop.remote());
                if let Some(to) = to {
                    self.carry(SWITCH, to, send.bytes);
                }
            } else if let Some(output) = self.calls.poll_output() {
                match output {
                    Output::Record(record) => self.records.push(*record),
                    Output::Event(event) => self.follow(*event),
                    Output::Merged { call, into } => self.merged.push((call, into)),
                    Output::Recall { call, user } => self.recalls.push((call, user)),
                    Output::Outcome { ticket, result } => self.outcomes.push((ticket, result)),
                }
            } else {
                return;
            }
        }
    }

    /// Events come in order, and each begins where the last one of its call ended.
    fn follow(&mut self, event: graph::Event) {
        self.told += 1;
        assert_eq!(event.number, self.told);
        assert_eq!(event.before, self.views.get(&event.call).cloned());
        assert_ne!(event.before.as_ref(), Some(&event.after));
        self.missed.extend(event.missed);
        if event.after.state == graph::State::Ended {
            self.views.remove(&event.call);
        } else {
            self.views.insert(event.call, event.after);
        }
    }

    /// A device of a user to call.
    pub(super) fn target_of(&self, user: &str, phone: usize) -> Target {
        Target {
            device: Some(device::Id::named(&format!("phone{phone}"))),
            uri: Uri::parse(&format!("sip:{user}@10.0.0.{}", phone + 1).into()).expect("a URI"),
            routes: Vec::new(),
            hops: vec![Hop::Flow(flow(SWITCH, phone))],
            protection: Protection::Prefer,
            profiles: self.profiles.clone(),
        }
    }

    fn invite(&mut self, incoming: sip::Incoming) {
        let offer = incoming.request.body.clone();
        let from: NameAddr = incoming.request.headers.typed(Name::From).expect("From");
        let (caller, callee) = (from.uri.user().to_owned(), incoming.request.uri.user().to_owned());
        let source = incoming.flow.remote;
        let phone = (0..self.phones.len()).find(|node| address(*node) == source).expect("a phone");
        let Some(dialog) = self.sip.take(self.now, incoming) else { return };
        let device = Some(device::Id::named(&format!("phone{phone}")));
        if let Some(place) = self.place.take() {
            let protection = Protection::Prefer;
            let entrant = Entrant { dialog, offer, signaling: source.ip(), protection, person: person(&caller), device };
            self.refusal = self.with_calls(|calls, switch| calls.take_place(switch, entrant, place)).err();
            return;
        }
        if let Some(room) = self.room.take() {
            let protection = Protection::Prefer;
            let visitor = Entrant { dialog, offer, signaling: source.ip(), protection, person: person(&caller), device };
            self.visited = Some(self.with_calls(|calls, switch| calls.visit(switch, visitor, &room)));
            return;
        }
        let same = self.same_contact;
        let target = |phone: &usize| {
            let mut target = self.target(*phone);
            if same {
                target.uri = Uri::parse(&"sip:bob@10.0.0.99".into()).expect("a URI");
            }
            target
        };
        let mut targets: Vec<Target> = self.targets.iter().map(target).collect();
        if self.one_device {
            let hops = targets.iter().flat_map(|target| target.hops.clone()).collect();
            targets.truncate(1);
            targets[0].hops = hops;
        }
        let plan = Plan {
            dialog,
            offer,
            signaling: source.ip(),
            protection: Protection::Prefer,
            caller: person(&caller),
            device,
            dialled: callee.clone(),
            callee: person(&callee),
            headers: Headers::default(),
            expires: self.expires,
            targets,
        };
        self.plans.push(plan);
        if !self.plans_wait {
            self.start_plans();
        }
    }

    /// A device as a command names it.
    pub(super) fn target(&self, phone: usize) -> Target {
        Target {
            device: Some(device::Id::named(&format!("phone{phone}"))),
            uri: Uri::parse(&format!("sip:bob@10.0.0.{}", phone + 1).into()).expect("a URI"),
            routes: Vec::new(),
            hops: vec![Hop::Flow(flow(SWITCH, phone))],
            protection: Protection::Prefer,
            profiles: self.profiles.clone(),
        }
    }

    /// The only call.
    #[track_caller]
    pub(super) fn call(&self) -> Id {
        self.calls.views().next().expect("a call").id
    }

    /// A user wants to call somebody by a phone, with another one for video if there is one.
    pub(super) fn make_to(
        &mut self,
        (user, phone): (&str, usize),
        (kinds, video): (Kinds, Option<usize>),
        (callee, to): (&str, Destination),
    ) -> Result<(Id, Ticket), Refusal> {
        let make = Make {
            caller: person(user),
            devices: vec![self.target_of(user, phone)],
            alert: Alert::Answer,
            video: video.map(|phone| self.target_of(user, phone)),
            kinds,
            dialled: callee.to_owned(),
            callee: person(callee),
            to,
        };
        let made = self.with_calls(|calls, switch| calls.make(switch, make));
        self.started += usize::from(made.is_ok());
        self.settle();
        made
    }

    pub(super) fn command(&mut self, command: Command) -> Result<Answer, Refusal> {
        let answer = self.with_calls(|calls, switch| calls.command(switch, command));
        self.drain();
        answer
    }

    /// Has a party's media go to a device, as far as its INVITE or re-INVITE.
    pub(super) fn hand_over(&mut self, party: u16, kinds: Kinds, phone: usize) -> Result<Answer, Refusal> {
        let (call, target) = (self.call(), self.target(phone));
        let answer = self.command(Command::Move { call, party: PartyId(party), kinds, target });
        self.settle();
        answer
    }

    /// Whoever is waited for in a handoff is heard.
    pub(super) fn hear(&mut self, kind: MediaKind) {
        self.begin_to_hear(kind);
        self.advance(LINGER);
    }

    /// The same, at its first packet.
    pub(super) fn begin_to_hear(&mut self, kind: MediaKind) {
        let awaited: Vec<PortId> = self.media.arranged.values().flatten().filter_map(|member| member.until).collect();
        for port in awaited {
            self.media.events.push_back(MediaEvent::Heard { port, kind: kind.clone() });
        }
        self.settle();
    }

    /// Each device in the call by its number, with what it gives and takes.
    #[track_caller]
    pub(super) fn carried(&self) -> Vec<(usize, Kinds, Kinds)> {
        let view = self.calls.views().next().expect("a call");
        let legs = view.parties.iter().flat_map(|party| &party.legs);
        let number = |id: &device::Id| id.as_str().trim_start_matches("phone").parse().expect("a phone");
        legs.map(|leg| (leg.device.as_ref().map_or(0, number), leg.gives, leg.takes)).collect()
    }

    pub(super) fn start_plans(&mut self) {
        for plan in std::mem::take(&mut self.plans) {
            self.started += 1;
            self.with_calls(|calls, switch| calls.start(switch, plan));
        }
        self.drain();
    }

    /// Lets time pass, timer by timer.
    pub(super) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        self.settle();
        loop {
            let phones = self.phones.iter().filter_map(|phone| phone.endpoint.poll_timeout());
            let next = phones.chain(self.sip.poll_timeout()).chain(self.calls.poll_timeout()).min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            self.tick();
            self.settle();
        }
        self.now = end;
    }

    /// Every timer that is due fires.
    pub(super) fn tick(&mut self) {
        let now = self.now;
        self.sip.handle_timeout(now);
        self.with_calls(|calls, switch| calls.handle_timeout(switch));
        self.drain();
        for phone in 0..self.phones.len() {
            self.phones[phone].endpoint.handle_timeout(now);
            self.flush(phone);
        }
    }

    // ---- what came of it

    /// Requests and responses that reached a node: `CANCEL`, `200 INVITE`.
    pub(super) fn words(&self, from: usize, to: usize) -> Vec<String> {
        let carried = self.log.iter().filter(|carried| carried.from == from && carried.to == to);
        carried.map(|carried| word(&carried.message)).collect()
    }

    pub(super) fn count(&self, from: usize, to: usize, what: &str) -> usize {
        self.words(from, to).iter().filter(|word| *word == what).count()
    }

    /// The last message of that kind.
    #[track_caller]
    pub(super) fn last(&self, from: usize, to: usize, what: &str) -> &Message {
        let found = self.log.iter().rfind(|carried| carried.from == from && carried.to == to && word(&carried.message) == what);
        &found.unwrap_or_else(|| panic!("no {what} in {:?}", self.words(from, to))).message
    }

    #[track_caller]
    pub(super) fn body(&self, from: usize, to: usize, what: &str) -> String {
        let body = match self.last(from, to, what) {
            Message::Request(request) => &request.body,
            Message::Response(response) => &response.body,
        };
        String::from_utf8(body.to_vec()).expect("SDP")
    }

    #[track_caller]
    pub(super) fn record(&self) -> &Record {
        assert_eq!(self.records.len(), 1, "{:?}", self.records);
        &self.records[0]
    }

    /// A call of two phones, answered and acknowledged.
    pub(super) fn talking() -> Self {
        Self::talking_with(1, PCMU)
    }

    /// The same with other media, and with that many devices besides that do not ring.
    pub(super) fn talking_with(devices: usize, media: &str) -> Self {
        let mut scene = Self::new(devices);
        scene.targets.truncate(1);
        scene.place(media);
        scene.settle();
        scene.answers(DESK, media);
        assert_eq!(scene.media.bridged.len(), 2);
        scene
    }

    /// Ann and bob talk; carol and dave have phones.
    pub(super) fn house() -> Self {
        Self::talking_with(3, PCMU)
    }

    /// Ann calls bob, whose phone rings; carol and dave have phones.
    pub(super) fn ringing() -> Self {
        Self::ringing_with(PCMU)
    }

    /// The same with other media.
    pub(super) fn ringing_with(media: &str) -> Self {
        let mut scene = Self::new(3);
        scene.targets = vec![DESK];
        scene.place(media);
        scene.settle();
        scene.rings(DESK);
        scene
    }

    /// The users in a call.
    #[track_caller]
    pub(super) fn names(&self, id: Id) -> Vec<String> {
        let view = self.calls.view(id).expect("the call");
        view.parties.iter().map(|party| party.who.user().expect("a user").to_string()).collect()
    }

    /// Two phones and nobody else hear each other.
    #[track_caller]
    pub(super) fn assert_hear(&self, one: usize, other: usize) {
        assert_eq!(self.media.bridged.len(), 2, "{:?}", self.media.arranged);
        let members = self.media.arranged.values().next().expect("one bridge");
        assert!(members.iter().all(|member| member.plays.is_none() && member.gives.audio && member.takes.audio), "{members:?}");
        assert!(self.directions().iter().all(|direction| direction == "SendRecv"), "{:?}", self.directions());
        for phone in [one, other] {
            assert_eq!(self.phones[phone].endpoint.dialogs(), 1, "phone {phone}");
        }
        assert_eq!((self.calls.len(), self.sip.dialogs()), (1, 2));
    }

    /// What came of the commands that took time.
    #[track_caller]
    pub(super) fn assert_outcomes(&self, expected: &[Result<(), Refusal>]) {
        assert_eq!(self.outcomes.iter().map(|(_, result)| *result).collect::<Vec<_>>(), expected);
    }

    /// Both sides are in the call, and hear each other.
    #[track_caller]
    pub(super) fn assert_talking(&self) {
        assert_eq!((self.calls.len(), self.media.bridged.len(), self.sip.dialogs()), (1, 2, 2), "{:?}", self.records);
    }

    /// Directions that the ports were told last, of those that are open.
    pub(super) fn directions(&self) -> Vec<String> {
        self.media.settings.values().flat_map(|settings| settings.streams.iter().map(|stream| format!("{:?}", stream.direction))).collect()
    }

    /// Everything is over, and nothing is left of it.
    #[track_caller]
    pub(super) fn assert_over(&mut self) {
        self.advance(Duration::from_secs(150));
        let calls = &self.calls;
        assert_eq!(calls.left(), [0; 7], "calls, dialogs, ports, passed requests, deadlines, given up, users: {:?}", self.records);
        assert!(self.views.is_empty() && self.media.arranged.is_empty(), "{:?} {:?}", self.views, self.media.arranged);
        assert_eq!((self.sip.dialogs(), self.sip.transactions()), (0, 0));
        assert_eq!(u64::try_from(self.media.closed.len()), Ok(self.media.opened), "every port is closed once");
        assert_eq!(self.records.len(), self.started, "one record for each call");
        for phone in self.phones.iter().filter(|phone| !phone.dead) {
            assert_eq!((phone.endpoint.dialogs(), phone.endpoint.transactions()), (0, 0), "{:?}", phone.events);
        }
        for record in &self.records {
            let answered = record.answered_at.is_some();
            assert_eq!((answered, record.answered_by.is_some()), (record.status == 200, answered), "{record:?}");
            assert!(record.started_at <= record.answered_at.unwrap_or(record.ended_at), "{record:?}");
            assert!(record.answered_at.unwrap_or(record.started_at) <= record.ended_at, "{record:?}");
            let legs = u64::try_from(record.media.len()).expect("few");
            assert!(legs <= self.media.opened, "{record:?}");
        }
    }
}

/// Makes a message that of a phone without RFC 4028.
fn without_timers(bytes: &Bytes) -> Bytes {
    let text = std::str::from_utf8(bytes).expect("we write ASCII");
    text.replace("Session-Expires:", "X-Session-Gone:").replace("timer", "nimer").into()
}

/// Makes a provisional response that of a phone that can be told to answer.
fn with_talk(bytes: &Bytes) -> Bytes {
    let text = std::str::from_utf8(bytes).expect("we write ASCII");
    let cseq = if text.starts_with("SIP/2.0 180") { "\r\nAllow-Events: hold, talk\r\nCSeq:" } else { "\r\nCSeq:" };
    text.replacen("\r\nCSeq:", cseq, 1).into()
}

pub(super) fn word(message: &Message) -> String {
    match message {
        Message::Request(request) => request.method.to_string(),
        Message::Response(response) => {
            format!("{} {}", response.status.code(), response.cseq().expect("a CSeq").method)
        }
    }
}
