//! What whole WebRTC calls cost the switch: SIP over secure WebSocket, ICE, DTLS and media together. The switch is a process of its own,
//! whose CPU time alone counts; the mobiles of `tandem demo` (the `webrtc` crate) call each other in pairs.
//!
//! `cargo bench --bench webrtc_call -- [PAIRS [ROUNDS]]`, on a machine that does nothing else: a mobile costs more than a leg of ours.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sip::Transport;
use sip::random::Random;
use tandem::cli::demo::device::Device as _;
use tandem::cli::demo::mobile::{Call, Mobile};
use tandem::cli::demo::phone::Account;
use tandem::cli::demo::tone::Tone;
use tokio::task::{JoinSet, LocalSet};

const HOUR: Duration = Duration::from_secs(3600);
/// Ticks of the kernel's CPU times in a second (proc(5), USER_HZ).
const TICKS: f64 = 100.0;

/// The switch, which ends with the benchmark.
struct Switch {
    process: Child,
    wss: SocketAddr,
}

impl Switch {
    fn start(folder: &Path, users: usize) -> Self {
        let mut config = format!("data_dir = {:?}\ndomain = \"127.0.0.1\"\n", folder.join("data"));
        config.push_str("[media]\nwebrtc_port = 0\n[sip]\ndns = false\nwss = [\"127.0.0.1:0\"]\n");
        for user in 0..users {
            write!(config, "[[user]]\nname = \"u{user}\"\npassword = \"secret\"\nnumbers = [\"{}\"]\n", 1000 + user).unwrap();
        }
        let file = folder.join("switch.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
        command.args(["serve", "--config"]).arg(&file).stdin(Stdio::null()).stdout(Stdio::piped()).env("TANDEM_LOG", "warn");
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready = lines.map_while(Result::ok).find(|line| line.starts_with("ready")).expect("the switch starts");
        // "ready" and each listener as kind and address.
        let address = ready.split_whitespace().find_map(|word| word.rsplit('=').next()?.parse().ok());
        Self { process, wss: address.unwrap_or_else(|| panic!("no listener in {ready}")) }
    }

    /// CPU time so far, in milliseconds.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
        fields.skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() * 1000.0 / TICKS
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A mobile and its call.
type Talking = (Mobile, Call);

async fn register(switch: SocketAddr, certificate: &[u8], user: usize) -> Mobile {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&user.to_be_bytes());
    let (name, mut random) = (format!("u{user}"), Random::new(seed));
    let account = Account { name: &name, password: "secret", domain: "127.0.0.1", switch, transport: Transport::Wss, certificate };
    let mut mobile = Mobile::open(account, &mut random).await.unwrap();
    mobile.phone().register(HOUR).await.unwrap();
    mobile
}

/// One calls the other; both ends when their media can flow.
async fn connect((mut caller, mut callee): (Mobile, Mobile), number: usize) -> [Talking; 2] {
    let number = number.to_string();
    let (call, answered) = tokio::join!(caller.call(&number), callee.answer());
    let (mut call, mut answered) = (call.unwrap(), answered.unwrap());
    let (ours, theirs) = tokio::join!(caller.connected(&mut call), callee.connected(&mut answered));
    ours.unwrap();
    theirs.unwrap();
    [(caller, call), (callee, answered)]
}

async fn run(pairs: usize, rounds: usize) {
    let folder = tempfile::tempdir().unwrap();
    let switch = Switch::start(folder.path(), 2 * pairs);
    let certificate = std::fs::read(folder.path().join("data/self-signed.pem")).unwrap();
    let started = switch.cpu();
    let mut mobiles = Vec::new();
    for user in 0..2 * pairs {
        mobiles.push(register(switch.wss, &certificate, user).await);
    }
    let registered = switch.cpu();
    println!("registration over wss: {:.2} ms each", (registered - started) / (2 * pairs) as f64);

    let mut talking = Vec::new();
    for pair in 0..pairs {
        let callee = mobiles.pop().unwrap();
        let caller = mobiles.pop().unwrap();
        talking.extend(connect((caller, callee), 1000 + 2 * (pairs - pair) - 1).await);
    }
    let connected = switch.cpu();
    let legs = talking.len() as f64;
    println!("set-up (INVITE, ICE, DTLS): {:.2} ms a leg", (connected - registered) / legs);

    for _ in 0..rounds {
        let (before, begin) = (switch.cpu(), std::time::Instant::from(tokio::time::Instant::now()));
        let mut talks = JoinSet::new();
        for (mut mobile, mut call) in talking.drain(..) {
            talks.spawn_local(async move {
                let talk = mobile.talk(&mut call, Tone(440), Tone(440)).await.unwrap();
                (mobile, call, talk.sent, talk.received)
            });
        }
        let (mut sent, mut received) = (0, 0);
        for (mobile, call, ours, theirs) in talks.join_all().await {
            talking.push((mobile, call));
            (sent, received) = (sent + ours, received + theirs);
        }
        let seconds = begin.elapsed().as_secs_f64();
        let used = switch.cpu() - before;
        println!(
            "talk: {:.3} ms of CPU a leg and second, {:.2} us a packet, {received} of {sent} packets heard",
            used / legs / seconds,
            used * 1000.0 / f64::from(received.max(1))
        );
    }
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let (pairs, rounds) = (numbers.next().unwrap_or(20), numbers.next().unwrap_or(5));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(LocalSet::new().run_until(run(pairs, rounds)));
}
