//! Workload: a child process in which several writers put, remove and write pairs without pause, and the check of what
//! it left behind. Both know each writer's n-th operation from the seed, so a token says everything about a write.
//!
//! The child prints `acked <writer> <token>` for each commit group, `refused <error>` when the storage fails.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tandem::storage::{Batch, MAX_BATCH, MAX_VALUE, Options, Storage, StorageError, Table};

const WRITERS: u64 = 4;
const KEYS: u64 = 300;
const PAIRS: u64 = 20;
/// Batches that a writer has out at once.
const OUT: u64 = 64;

/// A generator whose whole state is its seed (SplitMix64).
#[derive(Clone, Copy)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Takes the seed from TANDEM_SEED, or a new one, and prints it.
    pub(crate) fn printed(test: &str) -> Self {
        use std::hash::{BuildHasher, RandomState};
        let seed = match std::env::var("TANDEM_SEED") {
            Ok(seed) => seed.parse().expect("TANDEM_SEED is a number"),
            Err(_) => RandomState::new().hash_one(0),
        };
        eprintln!("{test}: TANDEM_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

type Key = (Table, Vec<u8>);

/// Which operation put a value, and the value.
type Contents = BTreeMap<Key, Vec<u8>>;

/// The n-th operation of a writer: the keys it changes and their new value.
fn operation(seed: u64, writer: u64, n: u64) -> (Vec<Key>, Option<Vec<u8>>) {
    let mut random = Random(seed ^ (writer << 48) ^ n);
    let kind = random.below(16);
    let keys = if kind < 8 {
        let key = format!("{writer}/{}", random.below(PAIRS)).into_bytes();
        vec![(Table::User, key.clone()), (Table::Cdr, key)]
    } else {
        vec![(Table::Binding, format!("{writer}/{}", random.below(KEYS)).into_bytes())]
    };
    if kind % 8 == 1 {
        return (keys, None);
    }
    let most = if kind < 8 { MAX_BATCH / 2 - 100 } else { MAX_VALUE - 24 };
    let len = if random.below(64) == 0 { random.below(most as u64) } else { 100 + random.below(500) };
    let mut value = [seed, writer, n].map(u64::to_be_bytes).concat();
    value.resize(value.len() + usize::try_from(len).unwrap(), n.to_be_bytes()[7]);
    (keys, Some(value))
}

/// Reads the number of the operation back out of a value of this seed.
fn number(seed: u64, value: &[u8]) -> Option<u64> {
    let word = |i: usize| u64::from_be_bytes(value[8 * i..8 * i + 8].try_into().unwrap());
    (word(0) == seed).then(|| word(2))
}

/// Prepares the command that runs the workload in `folder`.
pub(crate) fn child(folder: &Path, seed: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "workload::in_child", "--nocapture", "--test-threads=1"]);
    command.env("STORAGE_CHILD", folder).env("STORAGE_SEED", seed.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// What a child said before it ended.
#[derive(Default, Debug)]
pub(crate) struct Told {
    /// By writer, how many operations were acknowledged.
    pub(crate) acked: BTreeMap<u64, u64>,
    pub(crate) groups: u64,
    pub(crate) refused: Option<String>,
}

impl Told {
    pub(crate) fn batches(&self) -> u64 {
        self.acked.values().sum()
    }
}

/// Listens to a child to its end; kills it after so many groups.
pub(crate) fn listen(mut child: Child, kill_after: Option<u64>) -> (Told, std::process::ExitStatus) {
    let mut told = Told::default();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some((_, rest)) = line.split_once("acked ") {
            let (writer, token) = rest.split_once(' ').unwrap();
            told.acked.insert(writer.parse().unwrap(), token.parse::<u64>().unwrap() + 1);
            told.groups += 1;
        } else if let Some((_, error)) = line.split_once("refused ") {
            told.refused = Some(error.to_owned());
        }
        if kill_after == Some(told.groups) {
            child.kill().unwrap();
        }
    }
    (told, child.wait().unwrap())
}

#[test]
fn in_child() {
    let Ok(folder) = std::env::var("STORAGE_CHILD") else {
        return;
    };
    let seed = std::env::var("STORAGE_SEED").unwrap().parse().unwrap();
    let storage = Storage::open(Path::new(&folder), &Options::default()).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let storage = &storage;
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(write(storage, seed, writer));
            });
        }
    });
}

fn say(line: &str) {
    std::io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap(); // one write: lines of the writers never mix
}

async fn write(storage: &Storage, seed: u64, id: u64) {
    let (mut writer, mut batch, mut acked) = (storage.writer(), Batch::new(), 0);
    for n in 0..100_000 {
        let (keys, value) = operation(seed, id, n);
        batch.clear();
        for (table, key) in &keys {
            match &value {
                Some(value) => batch.put(*table, key, value),
                None => batch.remove(*table, key),
            };
        }
        let mut outcome = writer.submit(&batch, n);
        writer.flush();
        while outcome.is_ok() && n + 1 - acked >= OUT {
            outcome = writer.committed().await.map(|tokens| {
                assert!(tokens.iter().copied().eq(acked..acked + tokens.len() as u64), "tokens come in order");
                acked += tokens.len() as u64;
                say(&format!("acked {id} {}", acked - 1));
            });
        }
        if let Err(error) = outcome {
            assert!(matches!(error, StorageError::Failed(_)), "{error}");
            assert_eq!(writer.submit(&batch, n), Err(error.clone()), "a failed storage takes nothing");
            assert_eq!(storage.write(&batch).await, Err(error.clone()));
            assert!(matches!(writer.try_committed(), None | Some(Err(_))), "a failed storage acknowledges nothing");
            return say(&format!("refused {error}"));
        }
    }
}

/// Checks what is in `folder` against what was there before and what the child told, and returns it.
pub(crate) fn check(folder: &Path, seed: u64, before: &Contents, told: &Told) -> Contents {
    let storage = Storage::open(folder, &Options::default()).unwrap();
    let mut now = Contents::new();
    for table in [Table::Binding, Table::User, Table::Cdr] {
        now.extend(storage.scan(table, b"").map(Result::unwrap).map(|(key, value)| ((table, key), value)));
    }
    assert_eq!(folder.join("store/blobs").read_dir().unwrap().count(), 0, "sled keeps nothing outside its one file");
    let users: Vec<_> = now.iter().filter(|((table, _), _)| *table == Table::User).collect();
    let cdrs = now.iter().filter(|((table, _), _)| *table == Table::Cdr).count();
    assert_eq!(users.len(), cdrs, "a batch is kept wholly or not at all");
    for ((_, key), value) in users {
        assert_eq!(now.get(&(Table::Cdr, key.clone())), Some(value), "a batch is kept wholly or not at all");
    }

    // For each key, the operations from its last acknowledged one on are what may be seen.
    let mut allowed: BTreeMap<Key, Vec<Option<u64>>> = BTreeMap::new();
    for writer in 0..WRITERS {
        let acked = told.acked.get(&writer).copied().unwrap_or(0);
        for n in 0..acked + 2 * OUT {
            let (keys, value) = operation(seed, writer, n);
            for key in keys {
                let seen = allowed.entry(key).or_insert_with_key(|key| match before.get(key) {
                    Some(_) => vec![Some(u64::MAX)],
                    None => vec![None],
                });
                if n < acked {
                    seen.clear();
                }
                seen.push(value.as_ref().map(|_| n));
            }
        }
    }
    for (key, seen) in &allowed {
        let found = now.get(key).map(|value| number(seed, value).unwrap_or(u64::MAX));
        assert!(seen.contains(&found), "{key:?}: found {found:?}, may be one of {seen:?}; {told:?}");
    }
    for (key, value) in &now {
        let writer = u64::from_be_bytes(value[8..16].try_into().unwrap());
        match number(seed, value) {
            Some(n) => assert_eq!(operation(seed, writer, n).1.as_ref(), Some(value), "{key:?} is as it was written"),
            None => assert_eq!(before.get(key), Some(value), "{key:?} is as it was before"),
        }
    }
    for key in before.keys() {
        assert!(now.contains_key(key) || allowed.contains_key(key), "{key:?} is gone and nobody removed it");
    }
    now
}
