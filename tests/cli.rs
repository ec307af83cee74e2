//! The command line as a user and a service manager see it: what is printed, and how it ends.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

fn tandem(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end and returns the exit code, standard output and standard error.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = tandem(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn write(folder: &Path, text: &str) -> String {
    let path = folder.join("tandem.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Ends with the test, whatever becomes of it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Starts a switch and returns it with the line that it prints when it is ready.
    fn start(mut command: Command) -> (Self, String) {
        let mut switch = Self(command.stderr(Stdio::null()).spawn().unwrap());
        let mut line = String::new();
        BufReader::new(switch.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        (switch, line)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), signal).unwrap();
    }

    fn end(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.0.wait().unwrap()
    }
}

#[tokio::test]
async fn serve_says_when_it_is_ready_and_ends_on_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[sip]\nudp = [\"127.0.0.1:0\"]\ntcp = [\"127.0.0.1:0\"]\ntls = [\"127.0.0.1:0\"]\nws = [\"127.0.0.1:0\"]\n\
                wss = [\"127.0.0.1:0\"]\n[http]\nlisten = [\"127.0.0.1:0\"]\n[media]\nwebrtc_port = 18443\nrtp_ports = \"31000-31999\"";
    let file = write(folder.path(), text);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (mut switch, line) = Running::start(tandem(&["serve", "--config", &file]));
        let words: Vec<_> = line.split_whitespace().collect();
        let names: Vec<_> = words.iter().map(|word| word.split('=').next().unwrap()).collect();
        assert_eq!(names, ["ready", "udp", "tcp", "tls", "ws", "wss", "http"], "{line}");
        let tcp = words[2].strip_prefix("tcp=").unwrap();
        TcpStream::connect(tcp).await.unwrap();
        switch.signal(Signal::SIGHUP); // asks to read the certificate again, no more
        assert_eq!(switch.end(signal).code(), Some(0));
        let mut more = String::new();
        switch.0.stdout.take().unwrap().read_to_string(&mut more).unwrap();
        assert_eq!(more, "", "one line only");
    }
}

#[test]
fn faults_are_one_sentence_and_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    for (text, sentence) in [
        (
            "[sip]\nudp = [\"foo\"]",
            "tandem.toml:2: sip.udp[0]: \"foo\" is no address; accepted: IP:PORT such as \"127.0.0.1:5060\" or \"[::1]:5060\"",
        ),
        ("[sip]\nport = 5060", "tandem.toml:2: sip.port: unknown key `port`; accepted: "),
        ("[sip]\nudp = [\"192.0.2.1:5060\"]", "tandem.toml:2: sip.udp[0]: 192.0.2.1:5060 is no address of this machine"),
        ("[sip]\ntls = [\"127.0.0.1:0\"]\n[tls]\ncertificate = \"c\"\nkey = \"k\"", "tandem.toml:4: tls.certificate: "),
    ] {
        let file = write(folder.path(), text);
        for arguments in [&["serve", "--config", &file][..], &["config", "check", &file]] {
            let (code, out, err) = run(arguments);
            assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
            assert_eq!(err.lines().count(), 1, "{err}");
            assert!(err.starts_with("tandem: ") && err.contains(sentence), "{err}");
        }
    }
    let (code, _, err) = run(&["serve", "--config", "/no/such/file"]);
    assert_eq!((code, err.lines().count()), (Some(1), 1), "{err}");
}

#[test]
fn a_good_file_is_called_good() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "[sip]\nudp = [\"127.0.0.1:0\"]");
    assert_eq!(run(&["config", "check", &file]), (Some(0), format!("{file}: good\n"), String::new()));
    assert!(!folder.path().join("data").exists(), "a check leaves nothing behind");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in [&[][..], &["dance"], &["serve", "--port", "1"], &["config", "check"]] {
        assert_eq!(run(arguments).0, Some(2), "{arguments:?}");
    }
    assert_eq!(run(&["--help"]).0, Some(0));
}

#[tokio::test]
async fn a_switch_without_file_descriptors_rests_and_comes_back() {
    // S11
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "[sip]\ntcp = [\"127.0.0.1:0\"]\n[limits]\nhalf_open = \"1h\"\nidle = \"1h\"");
    let mut shell = Command::new("sh");
    let exec = format!("ulimit -n 64 && exec {} serve --config {file}", env!("CARGO_BIN_EXE_tandem"));
    shell.args(["-c", &exec]).stdin(Stdio::null()).stdout(Stdio::piped());
    let (mut switch, line) = Running::start(shell);
    let address: SocketAddr = line.trim().strip_prefix("ready tcp=").expect(&line).parse().unwrap();
    let mut phones = Vec::new();
    for _ in 0..90 {
        phones.push(TcpStream::connect(address).await.unwrap());
    }
    // the oldest stranger makes room, so that the newest phone is served at last
    let mut last = phones.pop().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut last, b"\r\n\r\n").await.unwrap();
    let mut pong = [0; 2];
    timeout(Duration::from_secs(30), last.read_exact(&mut pong)).await.expect("served").unwrap();
    assert_eq!(switch.end(Signal::SIGTERM).code(), Some(0));
}
