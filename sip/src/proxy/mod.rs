//! A stateful proxy (RFC 3261 §16, RFC 5393): [`accept`], then one [`Proxy`] for each request that is forwarded. It sees messages, branches
//! and targets; transactions, next hops and flows are the caller's.
//!
//! The life of a request: `accept` → choose targets → `Proxy::new` → `Output::Forward` for each branch, which the caller sends in a client
//! transaction whose branch carries the given hash → `Input::Response` … → `Output::Respond` → `Output::Done`.

mod request;
mod response;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytestring::ByteString;

use crate::message::header::Reason;
use crate::message::{Method, Name, Request, Response, StatusCode, Uri};
use crate::registrar::{Reach, Target};

pub use request::{Accepted, Ours, accept, forward_ack};

/// Most branches of one request, spare flows included; further targets are not tried.
pub const MAX_BRANCHES: usize = 32;

/// Timer C: how long a branch may ring without another provisional response (§16.6 item 11: more than three minutes).
pub const TIMER_C: Duration = Duration::from_secs(181);

/// How long a branch has to end after its CANCEL: 64 times T1 (§9.1).
const CANCELLED: Duration = Duration::from_secs(32);

/// How to forward.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Our URIs for Record-Route, the one for the callee's side last (RFC 5658); empty: we do not stay in the path.
    pub record_route: Vec<Uri>,
    /// Another value for each request, such as a random number in hex: the To tag of responses that are made here.
    pub unique: ByteString,
    /// Our digest realm: credentials for it end here (S12).
    pub realm: ByteString,
}

/// A request to send on.
#[derive(Clone, Debug)]
pub struct Forward {
    /// Which branch this is; names it in inputs and outputs.
    pub branch: usize,
    /// The request, all but our own Via, whose transport and address are known only when the next hop is.
    pub request: Request,
    /// What the branch parameter of our Via has to carry, so that a loop is known (§16.6 item 8).
    pub loop_hash: u64,
    /// Where it goes (§16.6 item 7): the URI to locate, unless `reach` is a flow.
    pub next_hop: Uri,
    /// How to get there.
    pub reach: Reach,
}

/// What [`Proxy`] takes. Branches that do not exist, and input after their end, change nothing.
#[derive(Debug)]
pub enum Input {
    /// A response on a branch, our Via still on top.
    Response(usize, Box<Response>),
    /// The branch's client transaction timed out (timer B or F).
    Timeout(usize),
    /// The request could not be sent on that branch.
    TransportError(usize),
    /// A CANCEL for the request, with its Reason if it has one; the CANCEL itself was answered by the caller with 200.
    Cancel(Option<ByteString>),
}

/// What [`Proxy`] wants done.
#[derive(Debug)]
pub enum Output {
    /// Send this in a new client transaction.
    Forward(Box<Forward>),
    /// Send this in the server transaction.
    Respond(Box<Response>),
    /// Send CANCEL for this branch, with this value of Reason if it is not empty (RFC 3326). It is given only once a provisional response
    /// has come (§9.1).
    Cancel(usize, ByteString),
    /// All branches have ended, and a final response was given. It comes once. A further 2xx to INVITE that is put in later is still
    /// forwarded, for as long as the caller keeps the machine.
    Done,
}

/// The response context of one forwarded request (§16.7).
#[derive(Debug)]
pub struct Proxy {
    accepted: Accepted,
    options: Options,
    /// Max-Breadth of each branch.
    breadth: u32,
    branches: Vec<Branch>,
    /// Final responses that were not forwarded.
    finals: Vec<Response>,
    upstream: Upstream,
    outputs: VecDeque<Output>,
}

/// The server transaction, as far as it decides what we do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upstream {
    /// It waits for a final response.
    Open,
    /// So it does, but nothing new is tried: it was cancelled, or a 6xx has come.
    Ending,
    /// A final response was forwarded; further 2xx to INVITE are too.
    Answered,
    /// All branches have ended.
    Done,
}

#[derive(Debug)]
struct Branch {
    state: State,
    /// Timer C, or the end of the wait after CANCEL.
    deadline: Option<Instant>,
    /// Flows to try when this one fails.
    spares: Vec<Target>,
}

/// The client transaction of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has come back.
    Calling,
    /// Nothing has come back, and it is to be cancelled, with this Reason, when something does.
    Unwanted(ByteString),
    /// A provisional response has come.
    Proceeding,
    /// CANCEL was sent.
    Cancelling,
    /// It is over.
    Ended,
}

impl Proxy {
    /// Starts forwarding a request to all targets at once.
    #[must_use]
    pub fn new(now: Instant, accepted: Accepted, targets: Vec<Target>, options: Options) -> Self {
        let count = u32::try_from(targets.len().min(MAX_BRANCHES)).unwrap_or(u32::MAX);
        let mut proxy = Self {
            breadth: accepted.max_breadth.checked_div(count).unwrap_or(0),
            accepted,
            options,
            branches: Vec::new(),
            finals: Vec::new(),
            upstream: Upstream::Open,
            outputs: VecDeque::new(),
        };
        if count > 0 && proxy.breadth == 0 {
            proxy.finals.push(proxy.own(StatusCode::MAX_BREADTH_EXCEEDED));
        } else if count == 0 {
            proxy.finals.push(proxy.own(StatusCode::TEMPORARILY_UNAVAILABLE));
        } else {
            targets.into_iter().for_each(|target| proxy.start(now, target));
        }
        proxy.end();
        proxy
    }

    fn start(&mut self, now: Instant, mut target: Target) {
        if self.branches.len() == MAX_BRANCHES {
            return;
        }
        let spares = std::mem::take(&mut target.spares);
        let forward = self.accepted.forward(self.branches.len(), &target, &self.options, self.breadth);
        self.outputs.push_back(Output::Forward(Box::new(forward)));
        let deadline = self.is_invite().then(|| now + TIMER_C);
        self.branches.push(Branch { state: State::Calling, deadline, spares });
    }

    fn is_invite(&self) -> bool {
        self.accepted.request.method == Method::Invite
    }

    /// Makes a response of our own.
    fn own(&self, status: StatusCode) -> Response {
        let mut response = Response::to(&self.accepted.request, status);
        response.set_to_tag(&self.options.unique);
        response
    }

    /// Takes an input.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::Response(branch, response) => self.response(now, branch, *response),
            Input::Timeout(branch) => self.lost(now, branch, StatusCode::REQUEST_TIMEOUT),
            Input::TransportError(branch) => self.lost(now, branch, StatusCode::SERVICE_UNAVAILABLE),
            Input::Cancel(reason) => {
                if self.is_invite() && matches!(self.upstream, Upstream::Open | Upstream::Ending) {
                    self.upstream = Upstream::Ending;
                    self.cancel_all(now, &reason.unwrap_or_default());
                }
            }
        }
        self.end();
    }

    /// Handles timer C, and branches that stay silent after their CANCEL.
    pub fn handle_timeout(&mut self, now: Instant) {
        for at in 0..self.branches.len() {
            let Some(branch) = self.branches.get_mut(at) else { break };
            if branch.deadline.is_none_or(|deadline| now < deadline) {
                continue;
            }
            match branch.state {
                // §16.8: timer C, after a provisional response.
                State::Proceeding => self.cancel(now, at, &ByteString::new()),
                State::Calling => self.lost(now, at, StatusCode::REQUEST_TIMEOUT),
                State::Unwanted(_) | State::Cancelling => self.lost(now, at, StatusCode::REQUEST_TERMINATED),
                State::Ended => branch.deadline = None,
            }
        }
        self.end();
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when to call [`Proxy::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.branches.iter().filter_map(|branch| branch.deadline).min()
    }

    /// Handles a response (§16.7).
    fn response(&mut self, now: Instant, at: usize, mut response: Response) {
        if self.branches.get(at).is_none() {
            return;
        }
        response.headers.pop_first(Name::Via);
        // Step 3: without another Via it was for us, and we sent nothing on our own account.
        if !response.headers.has(Name::Via) {
            return;
        }
        if response.status.is_provisional() { self.provisional(now, at, response) } else { self.final_response(now, at, response) }
    }

    fn provisional(&mut self, now: Instant, at: usize, response: Response) {
        let is_invite = self.is_invite();
        let is_100 = response.status == StatusCode::TRYING;
        let Some(branch) = self.branches.get_mut(at) else { return };
        branch.state = match std::mem::replace(&mut branch.state, State::Ended) {
            State::Unwanted(reason) => {
                branch.deadline = Some(now + CANCELLED);
                self.outputs.push_back(Output::Cancel(at, reason));
                State::Cancelling
            }
            State::Calling | State::Proceeding => {
                if is_invite && !is_100 {
                    branch.deadline = Some(now + TIMER_C);
                }
                if !is_100 && matches!(self.upstream, Upstream::Open | Upstream::Ending) {
                    self.outputs.push_back(Output::Respond(Box::new(response)));
                }
                State::Proceeding
            }
            state @ (State::Cancelling | State::Ended) => state,
        };
    }

    fn final_response(&mut self, now: Instant, at: usize, response: Response) {
        let was_open = self.finish(at);
        let status = response.status;
        if status.is_success() {
            let is_first = was_open && matches!(self.upstream, Upstream::Open | Upstream::Ending);
            // Step 5: each 2xx to INVITE is forwarded, the caller has to end what it does not want. Of others only the first is.
            if is_first || self.is_invite() {
                self.outputs.push_back(Output::Respond(Box::new(response)));
            }
            if is_first {
                self.upstream = Upstream::Answered;
                self.cancel_all(now, &Reason::sip(200, "Call completed elsewhere").to_string().into());
            }
            return;
        }
        if !was_open {
            return;
        }
        self.finals.push(response);
        if status.code() >= 600 && self.upstream == Upstream::Open {
            self.upstream = Upstream::Ending;
            self.cancel_all(now, &Reason::sip(status.code(), "").to_string().into());
        }
        if matches!(status, StatusCode::FLOW_FAILED | StatusCode::REQUEST_TIMEOUT) {
            self.try_spare(now, at);
        }
    }

    /// Ends a branch without a response from its far end (§16.8, §16.9).
    fn lost(&mut self, now: Instant, at: usize, status: StatusCode) {
        if !self.finish(at) {
            return;
        }
        self.finals.push(self.own(status));
        self.try_spare(now, at);
    }

    /// Tries the next flow to the same device (RFC 5626 §5.3).
    fn try_spare(&mut self, now: Instant, at: usize) {
        let mut spares = self.branches.get_mut(at).map(|branch| std::mem::take(&mut branch.spares)).unwrap_or_default();
        if self.upstream == Upstream::Open && !spares.is_empty() {
            let next = spares.remove(0);
            self.start(now, Target { spares, ..next });
        }
    }

    /// Marks a branch as ended; false if it was before.
    fn finish(&mut self, at: usize) -> bool {
        let Some(branch) = self.branches.get_mut(at) else { return false };
        branch.deadline = None;
        std::mem::replace(&mut branch.state, State::Ended) != State::Ended
    }

    /// Cancels every branch that is under way (§16.7 step 10, §16.10). Only INVITE can be.
    fn cancel_all(&mut self, now: Instant, reason: &ByteString) {
        if self.is_invite() {
            (0..self.branches.len()).for_each(|at| self.cancel(now, at, reason));
        }
    }

    fn cancel(&mut self, now: Instant, at: usize, reason: &ByteString) {
        let Some(branch) = self.branches.get_mut(at) else { return };
        branch.state = match std::mem::replace(&mut branch.state, State::Ended) {
            State::Calling => State::Unwanted(reason.clone()),
            State::Proceeding => {
                branch.deadline = Some(now + CANCELLED);
                self.outputs.push_back(Output::Cancel(at, reason.clone()));
                State::Cancelling
            }
            state @ (State::Unwanted(_) | State::Cancelling | State::Ended) => state,
        };
    }

    /// Forwards the best response once all branches have ended (§16.7 steps 6 to 9).
    fn end(&mut self) {
        if self.upstream == Upstream::Done || self.branches.iter().any(|branch| branch.state != State::Ended) {
            return;
        }
        if self.upstream != Upstream::Answered
            && let Some(best) = response::best(std::mem::take(&mut self.finals))
        {
            self.outputs.push_back(Output::Respond(Box::new(best)));
        }
        self.upstream = Upstream::Done;
        self.outputs.push_back(Output::Done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, NameAddr, Via, header::Header as _, parse};
    use crate::time::origin;

    const ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

    /// A proxy with some branches, and the time.
    struct Scene {
        proxy: Proxy,
        now: Instant,
        forwards: Vec<Forward>,
    }

    fn request(method: &str, rows: &str) -> Accepted {
        let text = format!(
            "{method} sip:b@p.net SIP/2.0\r\nVia: SIP/2.0/UDP a.net;branch=z9hG4bKa\r\nFrom: <sip:a@a.net>;tag=1\r\nTo: <sip:b@p.net>\r\n\
             Call-ID: c\r\nCSeq: 1 {method}\r\n{rows}\r\n"
        );
        let Ok(Message::Request(request)) = parse::parse(text.into_bytes().into()) else { panic!("no request") };
        accept(request, &|host, _| host.to_string() == "p.net").unwrap()
    }

    fn target(name: &str) -> Target {
        Target::new(Uri::parse(&format!("sip:{name}").into()).unwrap())
    }

    impl Scene {
        fn new(method: &str, targets: &[&str]) -> Self {
            Self::with(request(method, ""), targets.iter().map(|name| target(name)).collect())
        }

        fn with(accepted: Accepted, targets: Vec<Target>) -> Self {
            let now = origin();
            let options = Options { unique: "u1".into(), ..Options::default() };
            let mut scene = Self { proxy: Proxy::new(now, accepted, targets, options), now, forwards: Vec::new() };
            let count = scene.drain().len();
            assert_eq!(count, scene.forwards.len());
            scene
        }

        /// Takes all outputs, as words.
        fn drain(&mut self) -> Vec<String> {
            let mut words = Vec::new();
            while let Some(output) = self.proxy.poll_output() {
                words.push(match output {
                    Output::Forward(forward) => {
                        let word = format!("forward {} {}", forward.branch, forward.request.uri);
                        self.forwards.push(*forward);
                        word
                    }
                    Output::Respond(response) => {
                        assert_eq!(response.headers.list::<Via>(Name::Via).unwrap().len(), 1, "the caller's Via is left");
                        format!("respond {}", response.status.code())
                    }
                    Output::Cancel(at, reason) => format!("cancel {at} {reason}"),
                    Output::Done => "done".to_owned(),
                });
            }
            words
        }

        fn input(&mut self, input: Input) -> Vec<String> {
            self.proxy.handle_input(self.now, input);
            self.drain()
        }

        fn response(&self, branch: usize, code: u16) -> Box<Response> {
            let request = self.forwards.get(branch).map_or(&self.proxy.accepted.request, |forward| &forward.request);
            let mut response = Response::to(request, StatusCode::new(code).unwrap());
            response.headers.push_front(Name::Via, "SIP/2.0/UDP p.net;branch=x");
            response.set_to_tag("callee");
            Box::new(response)
        }

        fn reply(&mut self, branch: usize, code: u16) -> Vec<String> {
            let response = self.response(branch, code);
            self.input(Input::Response(branch, response))
        }

        fn cancel(&mut self) -> Vec<String> {
            self.input(Input::Cancel(None))
        }

        fn pass(&mut self, time: Duration) -> Vec<String> {
            self.now += time;
            self.proxy.handle_timeout(self.now);
            self.drain()
        }
    }

    #[test]
    fn a_request_goes_to_all_targets_at_once() {
        let scene = Scene::new("INVITE", &["b@h1", "b@h2"]);
        assert_eq!(scene.forwards.iter().map(|forward| forward.branch).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(scene.forwards[1].request.headers.get(Name::MaxBreadth), Some(b"30".as_slice()));
    }

    #[test]
    fn one_answers_and_the_others_are_cancelled() {
        let mut scene = Scene::new("INVITE", &["h0", "h1", "h2"]);
        assert!(scene.reply(0, 100).is_empty());
        assert_eq!(scene.reply(0, 180), ["respond 180"]);
        assert_eq!(scene.reply(1, 183), ["respond 183"]);
        assert_eq!(scene.reply(1, 200), ["respond 200".to_owned(), format!("cancel 0 {ELSEWHERE}")]);
        assert_eq!(scene.reply(2, 100), [format!("cancel 2 {ELSEWHERE}")], "not before a provisional response");
        assert!(scene.reply(0, 180).is_empty());
        assert!(scene.reply(0, 487).is_empty());
        assert_eq!(scene.reply(2, 200), ["respond 200", "done"], "it answered before the CANCEL came");
        assert_eq!(scene.reply(1, 200), ["respond 200"], "a fork behind that branch");
        assert_eq!(scene.proxy.poll_timeout(), None);
    }

    #[test]
    fn the_best_response_waits_for_all_branches() {
        let mut scene = Scene::new("INVITE", &["h0", "h1", "h2"]);
        assert!(scene.reply(0, 486).is_empty());
        assert!(scene.input(Input::Timeout(1)).is_empty());
        assert_eq!(scene.reply(2, 302), ["respond 302", "done"]);
    }

    #[test]
    fn a_6xx_cancels_the_others_and_wins_unless_one_answers() {
        let mut scene = Scene::new("INVITE", &["h0", "h1", "h2"]);
        scene.reply(0, 180);
        assert_eq!(scene.reply(1, 603), ["cancel 0 SIP;cause=603"]);
        assert!(scene.reply(0, 487).is_empty());
        assert_eq!(scene.reply(2, 486), ["respond 603", "done"]);
        let mut scene = Scene::new("INVITE", &["h0", "h1"]);
        scene.reply(1, 603);
        assert_eq!(scene.reply(0, 200), ["respond 200", "done"]);
    }

    #[test]
    fn a_cancel_ends_every_branch() {
        let mut scene = Scene::new("INVITE", &["h0", "h1", "h2"]);
        scene.reply(0, 180);
        scene.reply(1, 486);
        assert_eq!(scene.input(Input::Cancel(Some("SIP;cause=26".into()))), ["cancel 0 SIP;cause=26"]);
        assert!(scene.cancel().is_empty());
        assert_eq!(scene.reply(2, 180), ["cancel 2 SIP;cause=26"]);
        assert!(scene.reply(0, 487).is_empty());
        assert_eq!(scene.reply(2, 487), ["respond 486", "done"]);
    }

    #[test]
    fn timer_c_cancels_a_branch_that_rings_too_long() {
        let mut scene = Scene::new("INVITE", &["h0"]);
        scene.reply(0, 180);
        assert!(scene.pass(TIMER_C - Duration::from_secs(1)).is_empty());
        scene.reply(0, 180);
        assert!(scene.pass(Duration::from_secs(1)).is_empty(), "started again by 180");
        scene.reply(0, 100);
        assert_eq!(scene.pass(TIMER_C - Duration::from_secs(1)), ["cancel 0 "], "not by 100");
        assert_eq!(scene.proxy.poll_timeout(), Some(scene.now + CANCELLED));
        assert_eq!(scene.pass(CANCELLED), ["respond 487", "done"]);
        assert_eq!(scene.proxy.poll_timeout(), None);
    }

    #[test]
    fn only_the_first_2xx_to_a_message_is_forwarded_and_nothing_is_cancelled() {
        let mut scene = Scene::new("MESSAGE", &["h0", "h1"]);
        assert_eq!(scene.proxy.poll_timeout(), None, "timer C is for INVITE");
        assert!(scene.reply(0, 100).is_empty());
        assert!(scene.cancel().is_empty());
        assert_eq!(scene.reply(1, 202), ["respond 202"]);
        assert_eq!(scene.reply(0, 200), ["done"]);
    }

    #[test]
    fn a_request_that_cannot_be_sent_is_a_500_here() {
        let mut scene = Scene::new("MESSAGE", &["h0"]);
        assert_eq!(scene.input(Input::TransportError(0)), ["respond 500", "done"]);
    }

    #[test]
    fn a_response_of_our_own_has_a_tag() {
        let options = Options { unique: "u1".into(), ..Options::default() };
        let mut proxy = Proxy::new(origin(), request("INVITE", ""), Vec::new(), options);
        let Some(Output::Respond(response)) = proxy.poll_output() else { panic!("no response") };
        assert_eq!(response.status, StatusCode::TEMPORARILY_UNAVAILABLE);
        assert_eq!(response.to_tag().as_deref(), Some("u1"));
        assert!(matches!(proxy.poll_output(), Some(Output::Done)));
    }

    #[test]
    fn a_request_is_not_multiplied_without_end() {
        // S11, RFC 5393
        let targets = |count| (0..count).map(|n| target(&format!("h{n}"))).collect::<Vec<_>>();
        let options = || Options { unique: "u1".into(), ..Options::default() };
        let mut proxy = Proxy::new(origin(), request("INVITE", "Max-Breadth: 2\r\n"), targets(3), options());
        assert!(matches!(proxy.poll_output(), Some(Output::Respond(response)) if response.status == StatusCode::MAX_BREADTH_EXCEEDED));
        let scene = Scene::with(request("INVITE", ""), targets(100));
        assert_eq!(scene.forwards.len(), MAX_BRANCHES);
        assert_eq!(scene.forwards[0].request.headers.get(Name::MaxBreadth), Some(b"1".as_slice()));
    }

    #[test]
    fn a_failed_flow_is_followed_by_the_next_of_that_device() {
        // RFC 5626 §5.3
        let with_spares = || Target { spares: vec![target("s1"), target("s2")], ..target("h0") };
        let mut scene = Scene::with(request("INVITE", ""), vec![with_spares(), target("h1")]);
        assert_eq!(scene.reply(0, 430), ["forward 2 sip:s1"]);
        assert_eq!(scene.input(Input::TransportError(2)), ["forward 3 sip:s2"]);
        assert!(scene.reply(3, 486).is_empty());
        assert_eq!(scene.reply(1, 404), ["respond 486", "done"]);
        let mut scene = Scene::with(request("INVITE", ""), vec![with_spares()]);
        scene.cancel();
        assert_eq!(scene.reply(0, 430), ["respond 480", "done"], "nothing new after CANCEL");
    }

    #[test]
    fn strange_input_changes_nothing() {
        let mut scene = Scene::new("INVITE", &["h0"]);
        assert!(scene.reply(7, 200).is_empty());
        assert!(scene.input(Input::Timeout(7)).is_empty());
        assert!(scene.input(Input::TransportError(usize::MAX)).is_empty());
        let mut bare = scene.response(0, 200);
        bare.headers.remove(Name::Via);
        bare.headers.push(Name::Via, "SIP/2.0/UDP p.net;branch=x");
        assert!(scene.input(Input::Response(0, bare)).is_empty(), "no Via of the caller");
        assert_eq!(scene.proxy.branches[0].state, State::Calling);
    }

    /// Every state of a branch with every input: what is given out for it, and the state after.
    #[test]
    fn every_state_takes_every_input() {
        use State::{Calling, Cancelling, Ended, Proceeding};
        let unwanted = || State::Unwanted(ByteString::new());
        let enter = |state: &State| {
            // The second branch keeps the machine from ending.
            let mut scene = Scene::new("INVITE", &["h0", "h1"]);
            match state {
                Calling => {}
                State::Unwanted(_) => drop(scene.cancel()),
                Proceeding => drop(scene.reply(0, 100)),
                Cancelling => drop((scene.reply(0, 100), scene.cancel())),
                Ended => drop(scene.reply(0, 486)),
            }
            assert_eq!(scene.proxy.branches[0].state, *state);
            scene
        };
        type Step = fn(&mut Scene) -> Vec<String>;
        let inputs: [Step; 9] = [
            |scene| scene.reply(0, 100),
            |scene| scene.reply(0, 180),
            |scene| scene.reply(0, 200),
            |scene| scene.reply(0, 404),
            |scene| scene.reply(0, 603),
            |scene| scene.input(Input::Timeout(0)),
            |scene| scene.input(Input::TransportError(0)),
            Scene::cancel,
            |scene| {
                scene.proxy.branches[1].deadline = None;
                scene.pass(TIMER_C)
            },
        ];
        let table: [(State, [(&str, State); 9]); 5] = [
            (
                Calling,
                [
                    ("", Proceeding),
                    ("respond 180", Proceeding),
                    ("respond 200", Ended),
                    ("", Ended),
                    ("", Ended),
                    ("", Ended),
                    ("", Ended),
                    ("", unwanted()),
                    ("", Ended),
                ],
            ),
            (
                unwanted(),
                [
                    ("cancel 0 ", Cancelling),
                    ("cancel 0 ", Cancelling),
                    ("respond 200", Ended),
                    ("", Ended),
                    ("", Ended),
                    ("", Ended),
                    ("", Ended),
                    ("", unwanted()),
                    ("", Ended),
                ],
            ),
            (
                Proceeding,
                [
                    ("", Proceeding),
                    ("respond 180", Proceeding),
                    ("respond 200", Ended),
                    ("", Ended),
                    ("", Ended),
                    ("", Ended),
                    ("", Ended),
                    ("cancel 0 ", Cancelling),
                    ("cancel 0 ", Cancelling),
                ],
            ),
            (
                Cancelling,
                [
                    ("", Cancelling),
                    ("", Cancelling),
                    ("respond 200", Ended),
                    ("", Ended),
                    ("", Ended),
                    ("", Ended),
                    ("", Ended),
                    ("", Cancelling),
                    ("", Ended),
                ],
            ),
            (
                Ended,
                [
                    ("", Ended),
                    ("", Ended),
                    ("respond 200", Ended),
                    ("", Ended),
                    ("", Ended),
                    ("", Ended),
                    ("", Ended),
                    ("", Ended),
                    ("", Ended),
                ],
            ),
        ];
        for (state, row) in table {
            for (at, ((output, after), input)) in row.into_iter().zip(inputs).enumerate() {
                let mut scene = enter(&state);
                let given = input(&mut scene);
                assert_eq!((given.join(", ").as_str(), &scene.proxy.branches[0].state), (output, &after), "{state:?}, input {at}");
            }
        }
    }

    #[test]
    fn we_stay_in_the_path_with_record_route() {
        let uri = Uri::parse(&"sip:p.net;lr".into()).unwrap();
        let options = Options { unique: "u1".into(), record_route: vec![uri], ..Options::default() };
        let mut proxy = Proxy::new(origin(), request("INVITE", ""), vec![target("h0")], options);
        let Some(Output::Forward(forward)) = proxy.poll_output() else { panic!("nothing forwarded") };
        let row = forward.request.headers.get_text(Name::RecordRoute).unwrap();
        assert_eq!(NameAddr::parse(&row).unwrap().uri.as_str(), "sip:p.net;lr");
    }
}
