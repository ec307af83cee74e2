//! Opening: what is wrong with a data folder is one clear sentence, and nothing is left behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tandem::storage::{Batch, MAX_KEY, MAX_VALUE, OpenError, Options, SCHEMA_VERSION, Storage, Table};

use crate::disk::scratch;

fn error(folder: &Path) -> OpenError {
    let error = Storage::open(folder, &Options::default()).err().expect("it does not open");
    let sentence = error.to_string();
    assert!(sentence.contains(&folder.display().to_string()), "{sentence} names the folder");
    assert!(!sentence.contains('\n'), "{sentence} is one sentence");
    error
}

#[test]
fn first_start_makes_the_folder_for_us_alone() {
    let folder = scratch("first").join("some/data");
    drop(Storage::open(&folder, &Options::default()).unwrap());
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_file_is_not_a_folder() {
    let file = scratch("file").join("data");
    fs::write(&file, "").unwrap();
    assert!(matches!(error(&file), OpenError::NotAFolder { .. }));
    assert!(matches!(error(&file.join("below")), OpenError::NotAFolder { .. }));
}

#[test]
fn a_read_only_folder_is_not_writable() {
    let folder = Path::new("/sys/kernel"); // read-only even for root
    if folder.is_dir() {
        assert!(matches!(error(folder), OpenError::NotWritable { .. }));
    } else {
        eprintln!("SKIPPED a_read_only_folder_is_not_writable: no /sys");
    }
}

#[test]
fn two_cannot_have_it_open() {
    let folder = scratch("twice");
    let first = Storage::open(&folder, &Options::default()).unwrap();
    assert!(matches!(error(&folder), OpenError::InUse { .. }));
    drop(first);
    drop(Storage::open(&folder, &Options::default()).unwrap());
}

#[test]
fn a_corrupt_store_is_said_to_be_corrupt() {
    for file in ["snap.", "conf"] {
        let folder = scratch("corrupt");
        drop(Storage::open(&folder, &Options::default()).unwrap());
        drop(Storage::open(&folder, &Options::default()).unwrap()); // sled writes its snapshot at the second start
        let paths = fs::read_dir(folder.join("store")).unwrap().map(|entry| entry.unwrap().path());
        let path = paths.into_iter().find(|path| path.to_string_lossy().contains(file)).unwrap();
        fs::write(&path, [b'x'; 100]).unwrap();
        assert!(matches!(error(&folder), OpenError::Corrupt { .. }), "{file}");
    }
}

/// Pages of the largest entries stay below the size from which sled keeps them in files that nobody syncs.
#[tokio::test]
async fn largest_entries_stay_in_the_one_file() {
    let folder = scratch("largest");
    let storage = Storage::open(&folder, &Options::default()).unwrap();
    let mut batch = Batch::new();
    for n in 0..600u32 {
        let mut key = [b'k'; MAX_KEY];
        key[..4].copy_from_slice(&(n.wrapping_mul(2_654_435_761)).to_be_bytes());
        batch.clear();
        storage.write(batch.put(Table::User, &key, &[b'v'; MAX_VALUE])).await.unwrap();
        assert_eq!(fs::read_dir(folder.join("store/blobs")).unwrap().count(), 0, "after {n} entries");
    }
    assert_eq!(storage.scan(Table::User, b"").count(), 600);
}

#[tokio::test]
async fn another_schema_is_refused() {
    let folder = scratch("schema");
    let storage = Storage::open(&folder, &Options::default()).unwrap();
    assert_eq!(storage.get(Table::Meta, b"schema").unwrap().unwrap(), SCHEMA_VERSION.to_le_bytes());
    storage.write(Batch::new().put(Table::Meta, b"schema", &77u32.to_le_bytes())).await.unwrap();
    drop(storage);
    assert!(matches!(error(&folder), OpenError::Schema { found: 77, .. }));
}

#[tokio::test]
async fn a_closed_store_opens_again_at_once() {
    let folder = scratch("again");
    for n in 0..100u32 {
        let storage = Storage::open(&folder, &Options::default()).unwrap();
        let mut batch = Batch::new();
        batch.put(Table::User, &n.to_be_bytes(), &[0; 300]);
        storage.write(&batch).await.unwrap();
    }
    let storage = Storage::open(&folder, &Options::default()).unwrap();
    assert_eq!(storage.scan(Table::User, b"").count(), 100);
}

/// A child that was forked and has not yet called exec holds copies of our locked files.
#[tokio::test]
async fn a_closed_store_opens_again_while_children_start() {
    let folder = scratch("children");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                Command::new("true").status().unwrap();
            }
        });
        let opened = (0..300).try_for_each(|_| Storage::open(&folder, &Options::default()).map(drop));
        done.store(true, Ordering::Relaxed);
        opened.unwrap();
    });
}
