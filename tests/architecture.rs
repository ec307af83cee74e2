//! Checks the rules of the house that no lint can: who may know whom (`TABLE`), a module doc in every file, the size of files, and
//! what must not stand in code or in tests. It reads the sources; each rule is shown a violation too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Who may know whom in the root crate: module, the other parts it may use, and which of the three crates.
/// A module that is not here is a leaf: it may be used by all, and itself uses no part but those of `LEAVES`.
const TABLE: &[(&str, &[&str], &[&str])] = &[
    (
        "app",
        &["call", "cli", "clients", "history", "http", "net", "presence", "provider", "request", "signaling", "storage", "thin", "user"],
        &["sip", "media", "cas"],
    ),
    ("call", &[], &["sip", "media"]),
    ("cli", &["app", "net"], &["sip", "cas"]),
    ("clients", &["provider"], &["cas"]),
    ("history", &["call", "storage"], &["cas"]),
    ("http", &["clients", "net"], &["cas"]),
    ("net", &[], &["sip", "media"]),
    ("presence", &["call", "storage", "user"], &["sip", "cas"]),
    ("provider", &["call", "presence", "storage", "history", "route", "signaling", "thin", "user"], &["cas", "media", "sip"]),
    ("request", &["presence", "route", "storage", "user"], &["sip"]),
    ("route", &["user"], &["sip"]),
    ("signaling", &["call", "presence", "request", "route", "clients", "history", "net", "storage", "thin", "user"], &["sip", "media"]),
    ("storage", &[], &["sip"]),
    ("thin", &[], &["sip", "media"]),
    ("user", &["storage"], &["sip", "cas"]),
];

/// Parts that a leaf may use.
const LEAVES: (&[&str], &[&str]) = (&["storage"], &["sip"]);

/// `main.rs` and `lib.rs` name every module; telemetry shows the network's figures.
const EXEMPT: &[&str] = &["main", "lib", "telemetry"];

/// Longest file before its tests. 500 asks for a seam; this fails.
const LINES: usize = 600;

/// What the three crates must not name outside their tests.
const CLOCKS_AND_SOCKETS: &[&str] =
    &["tokio", "std::thread", "Instant::now", "SystemTime::now", "UdpSocket", "TcpStream", "TcpListener", "std::fs", "std::env"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One source file: its path from the top, its text, and its code (comments and literals blanked) up to its tests and from there.
struct Source {
    path: String,
    text: String,
    code: String,
    tests: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let blank = code_of(text);
        let in_tests = path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs");
        let mut marks = blank.match_indices("\n#[cfg(test)]\n").map(|(at, mark)| (at, &blank[at + mark.len()..]));
        // a `use`, or a module in a file of its own, has no body
        let has_body = |item: &str| !item.lines().find(|line| !line.starts_with("#[")).is_some_and(|line| line.ends_with(';'));
        let end = marks.find(|(_, item)| has_body(item)).map_or(blank.len(), |(at, _)| at);
        let cut = if in_tests { 0 } else { end };
        let (code, tests) = blank.split_at(cut);
        Self { path: path.to_owned(), text: text.to_owned(), code: code.to_owned(), tests: tests.to_owned() }
    }

    /// The root crate's module that this file belongs to; none outside `src/`.
    fn module(&self) -> Option<&str> {
        self.path.strip_prefix("src/")?.split(['/', '.']).next()
    }

    fn is_of_a_crate(&self) -> bool {
        ["sip/src/", "media/src/", "cas/src/"].iter().any(|folder| self.path.starts_with(folder))
    }
}

/// Blanks comments, strings and characters, and keeps every line where it is.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with('"') {
            quoted(rest)
        } else if rest.starts_with("r\"") || rest.starts_with("r#") && raw_hashes(rest).is_some() {
            let end = format!("\"{}", "#".repeat(raw_hashes(rest).unwrap_or(0)));
            let open = rest.find('"').unwrap_or(0) + 1;
            rest[open..].find(&end).map_or(rest.len(), |at| open + at + end.len())
        } else if let Some(length) = character(rest) {
            length
        } else {
            let c = rest.chars().next().map_or(1, char::len_utf8);
            out.push_str(&rest[..c]);
            at += c;
            continue;
        };
        out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        at += length;
    }
    out
}

fn quoted(text: &str) -> usize {
    let mut escaped = false;
    let close = |(_, c): &(usize, char)| {
        let end = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        end
    };
    text.char_indices().skip(1).find(close).map_or(text.len(), |(at, _)| at + 1)
}

fn raw_hashes(text: &str) -> Option<usize> {
    let hashes = text[1..].bytes().take_while(|b| *b == b'#').count();
    text[1 + hashes..].starts_with('"').then_some(hashes)
}

/// The length of a character literal; none for a lifetime.
fn character(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'')?;
    if inner.starts_with('\\') {
        return inner[2..].find('\'').map(|at| at + 4);
    }
    let first = inner.chars().next()?.len_utf8();
    inner[first..].starts_with('\'').then_some(first + 2)
}

fn is_word(byte: Option<&u8>) -> bool {
    byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

/// Where the word stands in code, as a whole word.
fn word<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    let whole = move |at: &usize| !(is_word(bytes.get(at + word.len())) || *at > 0 && is_word(bytes.get(at - 1)));
    code.match_indices(word).map(|(at, _)| at).filter(whole)
}

fn line_of(source: &str, at: usize) -> usize {
    source[..at].matches('\n').count() + 1
}

/// The first names behind a path's start, such as `crate::`, also of a group in braces.
fn names_behind(code: &str, start: &str) -> Vec<String> {
    let bytes = code.as_bytes();
    let mut names = Vec::new();
    for (at, _) in code.match_indices(start) {
        if at > 0 && (is_word(bytes.get(at - 1)) || bytes.get(at - 1) == Some(&b':')) {
            continue;
        }
        let tail = &code[at + start.len()..];
        let group = tail.strip_prefix('{').unwrap_or(tail.split_inclusive(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(""));
        let mut depth = 0_usize;
        let mut name = String::new();
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => names.push(std::mem::take(&mut name)),
                c if depth == 0 => name.push(c),
                _ => {}
            }
        }
        names.push(name);
    }
    let first = |name: String| name.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("").to_owned();
    names.into_iter().map(first).filter(|name| !name.is_empty()).collect()
}

fn who_knows_whom(source: &Source) -> Vec<String> {
    let Some(module) = source.module().filter(|module| !EXEMPT.contains(module)) else { return Vec::new() };
    let row = TABLE.iter().find(|row| row.0 == module);
    let (parts, crates) = row.map_or(LEAVES, |row| (row.1, row.2));
    // From src/a/b.rs the root is two levels up.
    let depth = source.path.trim_end_matches("/mod.rs").matches('/').count();
    let mut used = names_behind(&source.code, "crate::");
    used.extend(names_behind(&source.code, &"super::".repeat(depth)));
    let is_part = |name: &String| TABLE.iter().any(|row| row.0 == name);
    let parts = used.into_iter().filter(|name| name != module && is_part(name) && !parts.contains(&name.as_str()));
    let crates = ["sip", "media", "cas"].into_iter().filter(|name| !crates.contains(name));
    let crates = crates.filter(|name| source.code.match_indices(&format!("{name}::")).any(|(at, _)| starts_a_path(&source.code, at)));
    parts.chain(crates.map(str::to_owned)).map(|name| format!("{}: `{module}` must not use `{name}`", source.path)).collect()
}

fn starts_a_path(code: &str, at: usize) -> bool {
    at == 0 || !(is_word(code.as_bytes().get(at - 1)) || code.as_bytes().get(at - 1) == Some(&b':'))
}

fn crates_know_no_host(source: &Source) -> Vec<String> {
    if !source.is_of_a_crate() {
        return Vec::new();
    }
    let strangers = ["sip", "media", "cas", "tandem"].into_iter().filter(|name| !source.path.starts_with(&format!("{name}/")));
    let strangers = strangers.filter(|name| source.code.match_indices(&format!("{name}::")).any(|(at, _)| starts_a_path(&source.code, at)));
    let hosts = CLOCKS_AND_SOCKETS.iter().filter(|name| word(&source.code, name).next().is_some());
    strangers.chain(hosts.copied()).map(|name| format!("{}: a crate without I/O names `{name}`", source.path)).collect()
}

fn module_doc(source: &Source) -> Vec<String> {
    if source.text.starts_with("//! ") { Vec::new() } else { vec![format!("{}: does not begin with a module doc", source.path)] }
}

fn size(source: &Source) -> Vec<String> {
    let lines = source.code.lines().count();
    if lines > LINES { vec![format!("{}: {lines} lines before its tests, more than {LINES}", source.path)] } else { Vec::new() }
}

fn unfinished_code(source: &Source) -> Vec<String> {
    let code = format!("{}{}", source.code, source.tests);
    let found = ["todo!", "unimplemented!", "dbg!"].into_iter().flat_map(|name| code.match_indices(name).collect::<Vec<_>>());
    found.map(|(at, name)| format!("{}:{}: {name}", source.path, line_of(&code, at))).collect()
}

fn unwrap(source: &Source) -> Vec<String> {
    if source.path.contains("benches/") {
        return Vec::new(); // a measurement may end where it fails
    }
    source.code.match_indices(".unwrap()").map(|(at, _)| format!("{}:{}: unwrap", source.path, line_of(&source.code, at))).collect()
}

fn sleeping_tests(source: &Source) -> Vec<String> {
    let sleeps = ["sleep", "sleep_until", "sleep_ms"].into_iter().flat_map(|name| word(&source.tests, name).collect::<Vec<_>>());
    let first = source.code.matches('\n').count();
    sleeps.map(|at| format!("{}:{}: a test sleeps", source.path, first + line_of(&source.tests, at))).collect()
}

type Rule = fn(&Source) -> Vec<String>;
const RULES: &[Rule] = &[who_knows_whom, crates_know_no_host, module_doc, size, unfinished_code, unwrap, sleeping_tests];

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            collect(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// Dependencies that the manifest of a crate must not name, in any section.
fn manifest(name: &str, text: &str) -> Vec<String> {
    let table: toml::Table = text.parse().unwrap_or_else(|e| panic!("{name}/Cargo.toml: {e}"));
    let sections = table.iter().filter(|(section, _)| section.ends_with("dependencies")).filter_map(|(_, section)| section.as_table());
    let names = sections.flat_map(|section| section.keys());
    let banned = |dependency: &&String| ["sip", "media", "cas", "tandem", "tokio"].contains(&dependency.as_str());
    names.filter(banned).map(|dependency| format!("{name}/Cargo.toml: {name} depends on {dependency}")).collect()
}

#[test]
fn the_house_rules_hold() {
    let mut paths = Vec::new();
    collect(root(), &mut paths);
    paths.sort();
    assert!(paths.len() > 100, "the sources are not found: {}", paths.len());
    let mut faults = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let from_the_top = path.strip_prefix(root()).expect("it was found there").to_string_lossy().into_owned();
        let source = Source::new(&from_the_top, &text);
        faults.extend(RULES.iter().flat_map(|rule| rule(&source)));
    }
    for name in ["sip", "media", "cas"] {
        let text = std::fs::read_to_string(root().join(name).join("Cargo.toml")).expect("the crate's manifest");
        faults.extend(manifest(name, &text));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn each_rule_notices_a_violation() {
    let long = "//! x\n".to_owned() + &"fn f() {}\n".repeat(LINES);
    let violations: &[(Rule, &str, &str)] = &[
        (who_knows_whom, "src/call/ring.rs", "//! x\nuse crate::storage::Table;"),
        (who_knows_whom, "src/call/ring.rs", "//! x\nuse crate::{clock, user::{a, b}};"),
        (who_knows_whom, "src/call/ring.rs", "//! x\nfn f() { super::super::http::g() }"),
        (who_knows_whom, "src/net/udp.rs", "//! x\nfn f() { crate::request::g() }"),
        (who_knows_whom, "src/request/mod.rs", "//! x\nuse media::sdp::Description;"),
        (who_knows_whom, "src/number.rs", "//! x\nuse crate::call::Calls;"),
        (crates_know_no_host, "sip/src/lib.rs", "//! x\nuse media::sdp::Description;"),
        (crates_know_no_host, "media/src/lib.rs", "//! x\nfn f() { let now = std::time::Instant::now(); }"),
        (crates_know_no_host, "cas/src/lib.rs", "//! x\nuse tokio::sync::mpsc;"),
        (module_doc, "src/a.rs", "// x\nfn f() {}"),
        (size, "src/a.rs", &long),
        (who_knows_whom, "src/call/mod.rs", "//! x\n#[cfg(test)]\nmod tests;\nuse crate::storage::Table;"),
        (unfinished_code, "src/a.rs", "//! x\nfn f() { todo!() }"),
        (unfinished_code, "tests/a.rs", "//! x\nfn f() { dbg!(1); }"),
        (unwrap, "src/a.rs", "//! x\nfn f() { g().unwrap(); }"),
        (sleeping_tests, "tests/a.rs", "//! x\nuse std::thread::sleep;"),
        (sleeping_tests, "src/a.rs", "//! x\n#[cfg(test)]\nmod tests {\n async fn f() { tokio::time::sleep(d).await } }"),
    ];
    for (rule, path, text) in violations {
        assert_eq!(rule(&Source::new(path, text)).len(), 1, "{path}: {text}");
    }
    assert_eq!(manifest("sip", "[dev-dependencies]\nmedia.path = \"../media\"\n[dependencies]\ntokio = \"1\"").len(), 2);
}

#[test]
fn what_only_looks_like_a_violation_passes() {
    let text = "//! todo!() in a doc\n/* crate::http */ const A: &str = \"crate::user \\\" .unwrap()\"; const B: &str = r#\"dbg!(\"x\")\"#;\n\
                fn f<'a>(x: &'a str) -> char { let _ = ('\"', '\\'', \"crate::storage\"); b'\"' as char } // sleep\n\
                #[cfg(test)]\nmod tests {\n fn g() { h().unwrap(); use crate::storage; } }\n";
    let source = Source::new("src/call/mod.rs", text);
    let faults: Vec<_> = RULES.iter().flat_map(|rule| rule(&source)).collect();
    assert_eq!(faults, Vec::<String>::new());
    let names: BTreeMap<_, _> = TABLE.iter().map(|row| (row.0, ())).collect();
    assert_eq!(names.len(), TABLE.len(), "a module is there twice");
}
