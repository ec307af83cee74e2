//! `tandem demo` as a visitor sees it: what it prints, how it ends, and that it leaves nothing behind.
#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sip::Transport;
use sip::random::Random;
use tandem::app::{Running, run_beside};
use tandem::cli::demo::device::Device as _;
use tandem::cli::demo::mobile::Mobile;
use tandem::cli::demo::phone::Account;
use tandem::config::Config;
use tempfile::TempDir;

const HOUR: Duration = Duration::from_secs(3600);

/// A demonstration whose store is in a folder of the test. It ends with the test, whatever becomes of it.
struct Demo {
    process: Child,
    lines: Vec<String>,
    folder: TempDir,
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.arg("demo").args(arguments).env("TMPDIR", folder).env_remove("TANDEM_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Demo {
    /// Starts one, and reads until the line that begins with `last`, or to the end.
    fn until(last: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = command(folder.path(), arguments).spawn().unwrap();
        let mut demo = Self { process, lines: Vec::new(), folder };
        for line in BufReader::new(demo.process.stdout.as_mut().unwrap()).lines() {
            demo.lines.push(line.unwrap());
            if demo.lines.last().unwrap().starts_with(last) {
                break;
            }
        }
        demo
    }

    /// Returns the exit code and standard error, and makes sure that nothing is left.
    fn end(&mut self, signal: Option<Signal>) -> (Option<i32>, String) {
        if let Some(signal) = signal {
            kill(Pid::from_raw(self.process.id().try_into().unwrap()), signal).unwrap();
        }
        let mut errors = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        let code = self.process.wait().unwrap().code();
        assert_eq!(std::fs::read_dir(self.folder.path()).unwrap().count(), 0, "the store is still there");
        (code, errors)
    }

    /// Returns what stands behind the word that begins a line.
    fn said(&self, what: &str) -> Vec<&str> {
        let said = self.lines.iter().filter_map(|line| line.strip_prefix(what)).map(str::trim);
        said.collect()
    }
}

#[test]
fn a_call_is_shown_step_by_step() {
    let mut demo = Demo::until("nothing: to the end", &["--exit"]);
    let (code, errors) = demo.end(None);
    assert_eq!((code, &*errors), (Some(0), ""), "{:#?}", demo.lines);
    let words = demo.lines.iter().map(|line| line.get(..14).unwrap().trim()).filter(|word| !word.is_empty()).collect::<Vec<_>>();
    let mut steps = vec!["switch", "the story", "rings", "graph", "answered", "graph"];
    for change in ["video added", "moved", "moved", "moved"] {
        steps.extend([change, "bob heard", "bob saw", "graph"]);
    }
    steps.push("the end");
    steps.extend(["registered", "registered"]);
    for _ in ["ann and bob", "carol and bob", "bob and carol"] {
        steps.extend(["call set up", "media", "tone", "media", "tone", "hung up", "call record"]);
    }
    steps.extend(["call set up", "media", "tone", "video", "media", "tone", "video", "hung up", "call record"]); // carol and dave
    steps.extend(["unregistered", "unregistered"]);
    assert_eq!(words, steps, "{:#?}", demo.lines);
    let expected = [
        ". . rings . .  desk phone -+- ann",
        "<== audio ==>  desk phone --- ann",
        "<== audio ==>  desk phone -+- ann", // and the mobile with the video
        "<= both ====>  mobile ------- ann",
        "<== video ==>  mobile -----+- ann", // and the desk phone with the sound
        "<= both ====>  desk phone --- ann",
    ];
    assert_eq!(demo.said("graph"), expected.map(|graph| format!("bob --- desk phone  {graph}")));
    let seconds = demo.said("").into_iter().filter(|row| row.ends_with(" -----'") || row.ends_with("desk phone -'")).collect::<Vec<_>>();
    assert_eq!(seconds, [". . rings . .  mobile -----'", "<== video ==>  mobile -----'", "<== audio ==>  desk phone -'"]);
    let (heard, saw) = (demo.said("bob heard"), demo.said("bob saw"));
    let one = "0 repeated, 0 changes of source";
    assert!(
        heard.iter().all(|heard| heard.ends_with(&format!(", {one}; he got 1 re-INVITE for the video, and none for a move"))),
        "{heard:#?}"
    );
    assert!(saw.iter().all(|saw| saw.contains(" pictures, longest still ") && saw.ends_with(one)), "{saw:#?}");
    assert!(demo.said("registered")[0].contains("ann over UDP in ") && demo.said("registered")[0].contains("bob over TCP in "));
    assert!(demo.said("registered")[1].contains("carol over WSS in ") && demo.said("registered")[1].contains("dave over WSS in "));
    assert!(demo.said("media").iter().all(|figures| figures.contains("100 packets sent, ")), "{:#?}", demo.lines);
    for (at, tone) in demo.said("tone").into_iter().enumerate() {
        let (others, own) = if at % 2 == 0 { (1000, 400) } else { (400, 1000) };
        assert!(tone.ends_with(&format!(" tone of {others} Hz, 0.0 % the own of {own} Hz")), "{:#?}", demo.lines);
    }
    assert!(demo.said("video  ").iter().all(|figures| figures.contains("60 frames sent, ")), "{:#?}", demo.lines);
    let calls = [("ann", "102", "bob"), ("carol", "102", "bob"), ("bob", "103", "carol"), ("carol", "104", "dave")];
    for (record, (caller, number, callee)) in demo.said("call record").into_iter().zip(calls) {
        let story = format!("{caller}@127.0.0.1 dialled {number}, reached {callee}@127.0.0.1, ");
        assert!(record.starts_with(&story), "{:#?}", demo.lines);
    }
}

#[test]
fn it_stays_up_for_other_phones_until_ctrl_c() {
    let mut demo = Demo::until("  stop", &["--pause", "0"]);
    let users: Vec<_> = demo.said("  user").iter().map(|user| user.split(' ').collect::<Vec<_>>()).collect();
    assert_eq!(users.iter().map(|user| user[0]).collect::<Vec<_>>(), ["ann", "bob", "carol", "dave"], "{:#?}", demo.lines);
    assert_ne!(users[0][3], users[1][3], "each has a password of its own");
    assert_eq!(demo.said("  domain"), ["127.0.0.1"]);
    assert!(demo.said("  browser")[0].starts_with("wss://127.0.0.1:"), "{:#?}", demo.lines);
    let servers = demo.said("  server");
    let transports: Vec<_> = servers.iter().map(|server| server.split([' ', ',']).nth(2).unwrap()).collect();
    assert_eq!(transports, ["UDP", "TCP", "TLS", "WS", "WSS"]);
    assert!(servers.iter().all(|server| server.starts_with("127.0.0.1:") && !server.starts_with("127.0.0.1:0 ")), "{servers:?}");
    assert_eq!(demo.process.try_wait().unwrap(), None, "it stays up");
    assert_eq!(demo.end(Some(Signal::SIGINT)).0, Some(0));
}

#[test]
fn ctrl_c_in_the_middle_is_no_success_and_leaves_nothing_either() {
    let mut demo = Demo::until("answered", &["--exit"]);
    let (code, errors) = demo.end(Some(Signal::SIGINT));
    assert_eq!((code, &*errors), (Some(1), "tandem: stopped before the demonstration was over\n"));
}

#[test]
fn no_place_for_the_store_is_one_sentence() {
    let output = command(Path::new("/no/such/folder"), &["--exit"]).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), errors.lines().count()), (Some(1), 1), "{errors}");
    assert!(errors.starts_with("tandem: no folder for the store can be made: "), "{errors}");
}

/// Other tests of the whole switch begin like this one.
#[test]
fn a_mobile_registers_at_the_switch_whose_certificate_it_has_and_at_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let text = "domain = \"127.0.0.1\"\n[media]\nwebrtc_port = 0\n[sip]\ndns = false\nwss = [\"127.0.0.1:0\"]\n\
                [[user]]\nname = \"ann\"\npassword = \"secret\"\n";
    let config = Config::parse(&folder.path().join("switch.toml"), text).unwrap_or_else(|error| panic!("{error}"));
    let play = async |running: Running| {
        let switch = running.listeners()[0].address;
        let right = std::fs::read(config.data_dir.join("self-signed.pem"))?;
        let wrong = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?.cert.pem();
        let account = |certificate, password| {
            let (domain, transport) = ("127.0.0.1", Transport::Wss);
            Account { name: "ann", password, domain, switch, transport, certificate }
        };
        let mut random = Random::new([7; 32]);
        let stranger = Mobile::open(account(wrong.as_bytes(), "secret"), &mut random).await;
        assert!(stranger.is_err_and(|error| format!("{error:#}").contains("TLS failed: ")));
        let mut guesser = Mobile::open(account(&right, "guess"), &mut random).await?;
        assert_eq!(
            guesser.phone().register(HOUR).await.map_err(|error| format!("{error:#}")).unwrap_err(),
            "the switch said 401 Unauthorized: the answer was refused"
        );
        let mut mobile = Mobile::open(account(&right, "secret"), &mut random).await?;
        mobile.phone().register(HOUR).await
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run_beside(&config, play)).unwrap();
}
