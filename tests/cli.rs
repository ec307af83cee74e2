//! The command line as a user and a service manager see it: what is printed, and how it ends.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

fn tandem(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command
        .args(arguments)
        .env_remove("TANDEM_TOKEN")
        .env_remove("TANDEM_KEY")
        .env_remove("TANDEM_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
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
        switch.signal(Signal::SIGXFSZ); // a file at its limit: the write fails, and that is told
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
fn a_configuration_is_shown_as_it_is_in_force_and_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "[[user]]\nname = \"ann\"\npassword = \"ann-secret\"");
    let (code, shown, _) = run(&["config", "show", &file]);
    assert_eq!(code, Some(0));
    assert!(shown.contains("[history]\nkeep_days = 365\n") && shown.contains("(hidden)") && !shown.contains("ann-secret"), "{shown}");
    assert_eq!(run(&["config", "check", &write(folder.path(), &shown)]).0, Some(0));
    let (_, json, _) = run(&["config", "show", &file, "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["sip"]["udp"], serde_json::json!(["127.0.0.1:5060"]));
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

/// The schemas of the manual and of CAS.
struct Schemas {
    /// What the manual says of each command.
    named: BTreeMap<String, String>,
    /// The schemas that stand in the manual itself.
    own: BTreeMap<String, Value>,
    components: Value,
}

impl Schemas {
    fn read() -> Self {
        let manual = include_str!("../docs/cli.md");
        let row = |line: &str| {
            let mut cells =
                line.strip_prefix("| `")?.split('|').map(|cell| cell.split('`').find(|part| !part.trim().is_empty()).unwrap_or(""));
            Some((cells.next()?.to_owned(), cells.next()?.to_owned()))
        };
        let own = ["doctor", "top"].map(|name| {
            let (_, text) = manual.split_once(&format!("```json {name}\n")).unwrap();
            (name.to_owned(), serde_json::from_str(text.split("```").next().unwrap()).unwrap())
        });
        let components = cas::document::openapi("test")["components"].take();
        Self { named: manual.lines().filter_map(row).collect(), own: own.into(), components }
    }

    /// Finds the schema of a command's output.
    fn of(&self, command: &str) -> Value {
        if let Some(schema) = self.own.get(command) {
            return schema.clone();
        }
        if command == "device show" {
            return self.at("Devices/properties/devices/items");
        }
        let name = self.named.get(command).unwrap_or_else(|| panic!("{command} is not in the manual"));
        self.at(&format!("{name}/properties/body"))
    }

    fn at(&self, path: &str) -> Value {
        json!({ "$ref": format!("#/components/schemas/{path}"), "components": self.components })
    }

    fn check(schema: &Value, value: &Value, what: &str) {
        let faults: Vec<_> = jsonschema::validator_for(schema).unwrap().iter_errors(value).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{what}: {faults:?}: {value:#}");
    }
}

/// A switch that runs beside the commands.
struct Host {
    switch: Running,
    folder: TempDir,
    config: String,
    udp: SocketAddr,
    http: SocketAddr,
    schemas: Schemas,
}

impl Host {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = "domain = \"127.0.0.1\"\n[sip]\nudp = [\"127.0.0.1:0\"]\ndns = false\n[http]\nlisten = [\"127.0.0.1:0\"]\nplain = true\n\
                    [media]\nwebrtc_port = 0\n\
                    [[user]]\nname = \"ann\"\npassword = \"ann-secret\"\nnumbers = [\"501\"]\n\
                    [[user]]\nname = \"bob\"\npassword = \"bob-secret\"\nnumbers = [\"502\"]\n";
        let config = write(folder.path(), text);
        let (switch, line) = Running::start(tandem(&["serve", "--config", &config]));
        let address = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)).expect(&line).parse().unwrap();
        Self { switch, udp: address("udp="), http: address("http="), folder, config, schemas: Schemas::read() }
    }

    /// Runs a command of the host's administrator.
    fn run(&self, command: &str) -> (Option<i32>, String, String) {
        let arguments: Vec<_> = command.split(' ').chain(["--config", &self.config]).collect();
        run(&arguments)
    }

    /// Runs a command that succeeds and returns its JSON, which has the schema that the manual names.
    fn json(&self, command: &str) -> Value {
        let (code, out, err) = self.run(&format!("{command} --json"));
        assert_eq!((code, err.as_str()), (Some(0), ""), "{command}: {out}");
        let value = serde_json::from_str(&out).unwrap_or_else(|fault| panic!("{command}: {fault}: {out}"));
        let words: Vec<_> = command.split(' ').take(2).collect();
        let name = if words.get(1).is_none_or(|word| word.starts_with('-')) { words[0].to_owned() } else { words.join(" ") };
        Schemas::check(&self.schemas.of(&name), &value, command);
        value
    }

    /// Runs a command that fails and returns its exit code and its sentence.
    fn refused(&self, command: &str) -> (i32, String) {
        let (code, out, err) = self.run(command);
        assert_eq!((out.as_str(), err.lines().count()), ("", 1), "{command}: {err}");
        (code.unwrap(), err.strip_prefix("tandem: ").expect(&err).trim().to_owned())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

#[test]
fn every_command_of_a_running_switch_answers_with_json_of_its_schema() {
    let mut host = Host::start();
    users_and_numbers(&host);
    permissions(&host);
    presence(&host);
    keys_and_logins(&host);
    the_switch_itself(&host);
    who_may_not_is_told_which_right_is_missing(&host);
    draining(&mut host);
}

fn draining(host: &mut Host) {
    assert_eq!(host.refused("drain").0, 2, "nobody can be asked");
    assert_eq!(host.json("drain --stay --yes")["draining"], true);
    assert_eq!(host.json("status")["draining"], true);
    assert_eq!(host.run("doctor").0, Some(5), "it is not ready");
    assert_eq!(host.json("drain --cancel")["draining"], false);
    assert_eq!(host.json("status")["draining"], false);
    assert_eq!(host.json("drain --deadline 1m --yes")["calls"], 0);
    assert_eq!(host.switch.0.wait().unwrap().code(), Some(0), "it ends when it has no calls");
}

fn users_and_numbers(host: &Host) {
    let password = host.write("carol.pw", "carol-secret\n");
    let added = host.json(&format!("user add carol --number 503 --password file:{password}"));
    assert_eq!((&added["user"], &added["managed"]), (&json!("carol"), &json!("store")));
    assert_eq!(host.json("user set carol --name Carol")["name"], "Carol");
    assert_eq!(host.json("user show carol")["numbers"], json!(["503"]));
    let names: Vec<_> = host.json("user list")["users"].as_array().unwrap().iter().map(|user| user["user"].clone()).collect();
    assert_eq!(names, ["ann", "bob", "carol"]);
    let (_, table, _) = host.run("user list");
    assert!(table.starts_with("USER ") && table.lines().count() == 4 && table.contains("carol  Carol  503"), "{table}");
    assert_eq!(host.refused("user show nobody").0, 3);
    let (code, sentence) = host.refused(&format!("user add carol --password file:{password}"));
    assert!(code == 1 && sentence.contains("carol"), "{sentence}");
    assert_eq!(host.refused("user set ann --name Anna").0, 1, "the file manages ann");

    assert_eq!(host.json("number add 777 --user carol")["user"], "carol");
    assert_eq!(host.json("number list")["numbers"].as_array().unwrap().len(), 4);
    assert_eq!(host.refused("number rm 777").0, 2, "nobody can be asked");
    host.json("number rm 777 --yes");
    assert_eq!(host.refused("number rm 777 --yes").0, 3);
    assert_eq!(host.refused("user rm nobody --yes").0, 3);
    host.json("user rm carol --yes");
    assert_eq!(host.refused("user show carol").0, 3);
}

fn permissions(host: &Host) {
    let set = host.json("permission set bob history.delete=deny tel.hold=all");
    assert_eq!((&set["effective"]["history.delete"], &set["effective"]["tel.hold"]), (&json!("none"), &json!("all")));
    host.json("permission set bob history.delete=default tel.hold=default history-days=30 history-days=all");
    assert_eq!(host.json("permission show bob")["rights"]["exceptions"], Value::Null);
    let (code, sentence) = host.refused("permission set bob history.remove=deny");
    assert!(code == 2 && sentence.contains("accepted: "), "{sentence}");
    assert!(host.run("permission show bob").1.starts_with("bob is user\n"));
}

fn presence(host: &Host) {
    host.json("presence set ann away --note lunch --for 1h");
    assert_eq!(host.json("presence show ann bob")["users"].as_array().unwrap().len(), 2);
    assert_eq!(host.json("presence list")["users"].as_array().unwrap().len(), 2);
    host.json("presence set ann auto");
    assert_eq!(host.refused("presence show ann nobody").0, 3);
    host.json("presence watch ann --count 1");
}

fn keys_and_logins(host: &Host) {
    let secret = host.json("key add crm --user ann --scope tel.* --scope presence.get")["secret"].clone();
    assert_eq!(host.json("key list")["keys"][0]["scopes"].as_array().unwrap().len(), 2);
    let url = format!("http://{}", host.http);
    let with_key =
        |command: &str| run(&[&command.split(' ').collect::<Vec<_>>()[..], &["--url", &url, "--key", secret.as_str().unwrap()]].concat());
    assert_eq!(with_key("call list").0, Some(0));
    let (code, _, sentence) = with_key("user list");
    assert!(code == Some(4) && sentence.contains("admin.list-users"), "{sentence}");
    assert_eq!(run(&["call", "list", "--url", &url, "--key", "wrong"]).0, Some(4));
    assert_eq!(run(&["call", "list", "--url", &url]).0, Some(2), "who asks?");
    host.json("key rm crm --yes");
    assert_eq!(with_key("call list").0, Some(4));

    let password = host.write("ann.pw", "ann-secret");
    let granted = host.json(&format!("login add ann --password file:{password}"));
    let logins = host.json("login list");
    assert!(
        logins["logins"].as_array().unwrap().iter().any(|login| login["login"] == granted["login"] && login["user"] == "ann"),
        "{logins}"
    );
    host.json(&format!("login rm {} --yes", granted["login"]));
    assert_eq!(run(&["call", "list", "--url", &url, "--token", granted["token"].as_str().unwrap()]).0, Some(4));
    assert_eq!(host.json("plugin list")["plugins"], json!([]));
    assert_eq!(host.refused("plugin rm crm --yes").0, 3);
}

fn the_switch_itself(host: &Host) {
    assert_eq!(host.json("status")["users"], 2);
    assert_eq!(host.json("top")["calls"], json!([]));
    let (code, sentence) = host.refused("top");
    assert!(code == 1 && sentence.contains("top draws on a terminal"), "{sentence}");
    let found = host.json("doctor");
    assert!(found["checks"].as_array().unwrap().iter().any(|check| check["check"] == "switch" && check["verdict"] == "ok"), "{found:#}");
    assert_eq!(host.json("device list")["devices"], json!([]));
    assert_eq!(host.refused("device show nowhere").0, 3);
    assert_eq!(host.refused("device rm nowhere --yes").0, 3);
    assert_eq!(host.json("history list --user ann --kind missed --since 1d")["entries"], json!([]));
    for list in ["history list", "call list", "login list", "device list"] {
        assert_eq!(host.refused(&format!("{list} --user nobody")).0, 3, "{list}");
    }
    let (code, sentence) = host.refused("history list");
    assert!(code == 2 && sentence.contains("--user"), "{sentence}");
    for number in ["*70", "tel:502", "audio"] {
        assert_eq!(host.refused(&format!("number add {number} --user ann")).0, 2, "{number}");
    }
    assert_eq!(host.refused("key add crm --user ann --scope tel.holdd").0, 2);
    assert_eq!(host.refused("history rm 123 --yes").0, 3);
    assert_eq!(host.refused("history set 123 --note x").0, 3);
    for verb in ["show", "why", "watch", "hold", "drop --yes"] {
        let (verb, more) = verb.split_once(' ').unwrap_or((verb, ""));
        assert_eq!(host.refused(format!("call {verb} 00000000000000ff {more}").trim()).0, 3, "{verb}");
    }
    // what is sent is shown, and stands apart from the output
    let (code, out, err) = host.run("status --json --print-request");
    assert_eq!((code, err.lines().count()), (Some(0), 2), "login and status: {err}");
    assert!(serde_json::from_str::<Value>(&out).is_ok() && err.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{err}");
}

fn who_may_not_is_told_which_right_is_missing(host: &Host) {
    // S15
    let password = host.write("bob.pw", "bob-secret");
    let url = format!("http://{}", host.http);
    let (code, token, _) = run(&["login", "add", "bob", "--password", &format!("file:{password}"), "--url", &url]);
    assert_eq!(code, Some(0));
    let as_bob = |command: &str| run(&[&command.split(' ').collect::<Vec<_>>()[..], &["--url", &url, "--token", token.trim()]].concat());
    for (command, right) in [
        ("user list", "admin.list-users"),
        ("user rm ann --yes", "admin.remove-user"),
        ("permission set bob role=administrator", "permission.set-role"),
        ("device list --user ann", "admin.list-devices"),
        ("history list --user ann", "history.list"),
        ("key list", "admin.list-keys"),
        ("status", "admin.status"),
    ] {
        let (code, out, err) = as_bob(command);
        assert_eq!((code, out.as_str()), (Some(4), ""), "{command}: {err}");
        assert!(err.contains(right) && err.lines().count() == 1, "{command}: {err}");
    }
    for command in ["device list", "history list", "call list", "permission show", "presence show ann"] {
        assert_eq!(as_bob(command).0, Some(0), "{command}");
    }
}

#[test]
fn without_a_switch_a_command_says_so_and_the_doctor_looks_at_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let config = write(folder.path(), "[sip]\nudp = [\"127.0.0.1:0\"]\n[media]\nwebrtc_port = 0\n");
    for command in ["status", "user list", "call watch", "event tail", "top --json"] {
        let (code, out, err) = run(&command.split(' ').chain(["--config", &config]).collect::<Vec<_>>());
        assert_eq!((code, out.as_str(), err.lines().count()), (Some(1), "", 1), "{command}: {err}");
        assert!(err.contains("no switch answers at ") && err.contains("data/tandem.sock; is `tandem serve` running"), "{command}: {err}");
    }
    let (code, out, err) = run(&["doctor", "--json", "--config", &config]);
    assert_eq!((code, err.lines().count()), (Some(5), 1), "{err}");
    let found: Value = serde_json::from_str(&out).unwrap();
    Schemas::check(&Schemas::read().own["doctor"], &found, "doctor");
    let failed: Vec<_> =
        found["checks"].as_array().unwrap().iter().filter(|check| check["verdict"] == "fail").map(|check| &check["check"]).collect();
    assert_eq!(failed, ["switch"], "{found:#}");
    assert!(!folder.path().join("data").exists(), "a check leaves nothing behind");
    let (_, lines, _) = run(&["doctor", "--config", &config]);
    assert!(lines.lines().any(|line| line.starts_with("ok    ports         udp 127.0.0.1:0")), "{lines}");
    assert!(lines.lines().any(|line| line.starts_with("fail  switch")), "{lines}");
}

#[test]
fn usage_that_cannot_be_is_exit_code_2() {
    for command in [
        "user",
        "user add",
        "user add a@b --password -",
        "user add ann --password secret",
        "user set ann",
        "call move 1",
        "call move 1 --to a\tb",
        "call transfer 1",
        "call transfer 1 --to 501 --consult 2",
        "call dtmf 1 x",
        "permission set ann history.delete=perhaps",
        "presence set ann sleepy",
        "key add crm --user ann",
        "event tail --since yesterday",
        "status --url pbx.example",
        "status --url http://127.0.0.1:1 --socket x",
        "completion tcsh-of-old",
    ] {
        let (code, out, err) = run(&command.split(' ').collect::<Vec<_>>());
        assert_eq!((code, out.as_str()), (Some(2), ""), "{command}: {err}");
    }
    let (code, _, err) = run(&["user", "add", "ann", "--socket", "nowhere"]);
    assert_eq!((code, err.lines().count()), (Some(2), 1), "nobody can be asked for the password: {err}");
}

#[test]
fn a_dry_run_prints_a_request_that_the_interface_takes() {
    let schemas = Schemas::read();
    for command in [
        "status",
        "drain --deadline 10m",
        "drain --stay",
        "drain --cancel",
        "user list",
        "user show ann",
        "user add ann --name Ann --number 501 --number 502",
        "user set ann --password --name A",
        "user rm ann",
        "device list --all",
        "device show abc --user ann",
        "device rm abc --user ann",
        "device move 1 --to abc --user ann",
        "device split 1 --audio a --video b",
        "number list",
        "number add 501 --user ann",
        "number rm 501",
        "call list --user ann",
        "call show 1",
        "call why 1",
        "call make 501 --user ann --device abc --video",
        "call add 501 --user ann --device abc --video-device def",
        "call answer 1 --device abc",
        "call answer 1 --device abc --video-device def",
        "call decline 1 --busy",
        "call move 1 --to abc --only video",
        "call move 1 --to abc --keep",
        "call decline 1",
        "call move 1 --to abc",
        "call split 1 --user ann --audio a --video b",
        "call drop 1 --user ann",
        "call hold 1",
        "call resume 1",
        "call transfer 1 --to 502",
        "call transfer 1 --consult 2",
        "call conference 1 --join 2 --to 503",
        "call mute 1",
        "call mute 1 bob --off --user ann",
        "call lock 1",
        "call lock 1 --off",
        "call kick 1 bob --user ann",
        "call moderate 1 bob",
        "call park 1 --slot 701",
        "call pickup 1 --user bob --device abc",
        "call pickup --slot 7",
        "call list --pickup --user bob",
        "call dtmf 1 12#",
        "history list --user ann --device abc --kind missed --kind placed --since 2h --limit 10 --after 5",
        "history set 5 --note hello",
        "history set 5",
        "history rm 5",
        "presence list",
        "presence show ann bob",
        "presence set ann busy --note x --for 2h",
        "presence set ann auto",
        "permission show",
        "permission set ann history.delete=deny tel.*=default role=user history-days=30",
        "permission set ann tel.*=deny --device abc",
        "key list",
        "key add crm --user ann --scope tel.*",
        "key rm crm",
        "login list",
        "login list --user ann",
        "login rm 4",
        "plugin list",
        "plugin rm 4",
    ] {
        let (code, out, err) = run(&command.split(' ').chain(["--dry-run"]).collect::<Vec<_>>());
        assert_eq!((code, err.as_str()), (Some(0), ""), "{command}: {out}");
        for line in out.lines() {
            let request: Value = serde_json::from_str(line).unwrap();
            let name = format!("{}.{}", request["topic"].as_str().unwrap(), request["message"].as_str().unwrap());
            Schemas::check(&schemas.at(&name), &request, command);
        }
        assert!(out.lines().count() >= 1, "{command}");
    }
}

#[test]
fn each_shell_gets_its_completion() {
    for (shell, mark) in [("bash", "complete -F"), ("zsh", "#compdef tandem"), ("fish", "complete -c tandem")] {
        let (code, out, err) = run(&["completion", shell]);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(out.contains(mark) && out.contains("transfer"), "{shell}");
    }
}

#[cfg(feature = "demo")]
mod calls {
    //! What needs phones: devices, calls, events and histories.

    use sip::Transport;
    use sip::random::Random;
    use tandem::cli::demo::desk::Desk;
    use tandem::cli::demo::device::Device as _;
    use tandem::cli::demo::phone::Account;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn phone(host: &Host, name: &str, password: &str) -> Desk {
        let account = Account { name, password, domain: "127.0.0.1", switch: host.udp, transport: Transport::Udp, certificate: &[] };
        let mut phone = Desk::open(account, &mut Random::new([name.as_bytes()[0]; 32])).await.unwrap();
        phone.phone().register(HOUR).await.unwrap();
        phone
    }

    fn lines(text: &str) -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_call_is_seen_steered_and_explained() {
        let host = Host::start();
        let (mut ann, mut bob) = (phone(&host, "ann", "ann-secret").await, phone(&host, "bob", "bob-secret").await);
        let devices = host.json("device list")["devices"].clone();
        let device =
            devices.as_array().unwrap().iter().find(|device| device["user"] == "bob").unwrap()["device"].as_str().unwrap().to_owned();
        assert_eq!(host.json(&format!("device show {device}"))["user"], "bob");

        // a place before anything happened
        let cursor = host.folder.path().join("cursor").to_str().unwrap().to_owned();
        assert_eq!(host.run(&format!("event tail --count 0 --cursor {cursor}")), (Some(0), String::new(), String::new()));

        let (ours, theirs) = tokio::join!(ann.call("502"), bob.answer());
        let call = host.json("call list")["calls"][0].clone();
        let id = call["id"].as_str().unwrap().to_owned();
        assert_eq!(host.json(&format!("call show {id}"))["call"]["state"], "connected");
        assert_eq!(host.json("call list --user bob")["calls"].as_array().unwrap().len(), 1);
        host.json(&format!("call why {id}"));
        assert_eq!(host.json(&format!("call watch {id} --count 1"))["call"]["id"], id.as_str());
        assert!(host.run(&format!("call show {id}")).1.contains("ann"));
        for (act, expected) in [("hold {} --user carol", 2), ("pickup {} --user ann", 1), ("answer {} --user ann", 1)] {
            let (code, sentence) = host.refused(&format!("call {}", act.replace("{}", &id)));
            assert!(code == expected && !sentence.is_empty(), "{act}: {code} {sentence}");
        }
        ann.hang_up(ours.unwrap()).await.unwrap();
        bob.until_over(theirs.unwrap()).await.unwrap();

        let watched = host.json(&format!("call watch {id}"));
        assert_eq!(watched["call"]["state"], "ended", "it ends with the call");
        let why = host.json(&format!("call why {id}"))["why"].as_str().unwrap().to_owned();
        assert!(!why.contains('\n') && why.len() > 5, "{why}");
        the_history_has_it(&host, &id);
        events_go_on_where_they_stopped(&host, &cursor);
        host.json(&format!("device rm {device} --yes"));
        assert_eq!(host.json("device list")["devices"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_call_is_made_parked_picked_up_and_transferred() {
        let host = Host::start();
        let password = host.write("carol.pw", "carol-secret");
        host.json(&format!("user add carol --password file:{password}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let open = |name: &'static str| runtime.block_on(phone(&host, name, &format!("{name}-secret")));
        let (mut ann, mut bob, mut carol) = (open("ann"), open("bob"), open("carol"));
        let devices = host.json("device list")["devices"].clone();
        let device_of = |user: &str| {
            let found = devices.as_array().unwrap().iter().find(|device| device["user"] == user).unwrap();
            found["device"].as_str().unwrap().to_owned()
        };
        // a command that waits runs beside the phones that it waits for
        let beside = |command: String, phones: &mut [&mut Desk]| {
            std::thread::scope(|scope| {
                let done = scope.spawn(|| host.json(&command));
                for phone in phones {
                    runtime.block_on(phone.answer()).unwrap();
                }
                done.join().unwrap()
            })
        };
        assert_eq!(host.refused("call make nobody --user ann").0, 3);
        assert_eq!(host.refused("call make 501 --user ann").0, 2, "her own number");
        let made = beside(format!("call make 502 --user ann --device {}", device_of("ann")), &mut [&mut ann, &mut bob]);
        let id = made["call"]["id"].as_str().unwrap().to_owned();
        assert_eq!(host.json(&format!("call park {id} --user ann --slot 9"))["call"]["slot"], "9");
        assert_eq!(host.json(&format!("call show {id}"))["call"]["state"], "parked");
        let waits = host.json("call list --pickup --user carol")["calls"].clone();
        assert_eq!((&waits[0]["id"], &waits[0]["actions"]), (&json!(id), &json!(["pickup"])), "{waits}");
        assert_eq!(host.refused("call pickup --slot 8 --user carol").0, 3, "an empty slot");
        let picked = beside(format!("call pickup --slot 9 --user carol --device {}", device_of("carol")), &mut [&mut carol]);
        assert_eq!(host.json("call list --pickup")["calls"], json!([]));
        assert_eq!(picked["call"]["state"], "connected");
        assert_eq!(host.refused(&format!("call answer {id} --user carol")).0, 1, "she has answered");
        let sent = beside(format!("call transfer {id} --user carol --to 501"), &mut [&mut ann]);
        assert_eq!(sent["call"]["constructed"], json!({ "how": "transferred", "by": "carol" }));
        host.json(&format!("call drop {id} --user bob --yes"));
        assert_eq!(host.json(&format!("call show {id}"))["call"]["state"], "ended");
    }

    fn the_history_has_it(host: &Host, call: &str) {
        let entry = host.json("history list --user bob")["entries"][0].clone();
        assert_eq!((&entry["kind"], &entry["call"]), (&json!("received"), &json!(call)));
        let id = entry["id"].as_str().unwrap();
        assert_eq!(host.json(&format!("history set {id} --note hello"))["entry"]["note"], "hello");
        host.json(&format!("history rm {id} --yes"));
        assert_eq!(host.json("history list --user bob")["entries"], json!([]));
    }

    fn events_go_on_where_they_stopped(host: &Host, cursor: &str) {
        let event = host.schemas.at("Event");
        let tail = |count: u32| {
            let (code, out, err) = host.run(&format!("event tail --json --count {count} --cursor {cursor}"));
            assert_eq!((code, err.as_str()), (Some(0), ""));
            lines(&out)
        };
        let (first, more) = (tail(2), tail(3));
        let numbers: Vec<_> = first.iter().chain(&more).map(|event| event["sequence-id"].as_u64().unwrap()).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
        for one in first.iter().chain(&more).filter(|event| event["topic"] != "admin") {
            Schemas::check(&event, one, "event tail");
        }
        assert_eq!((&first[0]["topic"], &first[0]["message"]), (&json!("tel"), &json!("ringing")));
    }
}
