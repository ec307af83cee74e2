//! Breaking off: kill -9, power cuts, a failing sync, a full disk. What was acknowledged is there, what was removed is gone.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::disk::{Disk, scratch};
use crate::workload::{Random, check, child, listen};

#[test]
fn kill_loses_nothing_acknowledged_and_brings_nothing_back() {
    let mut random = Random::printed("kill");
    let folder = scratch("kill").join("data");
    let mut contents = BTreeMap::new();
    let mut acked = 0;
    for _round in 0..15 {
        let seed = random.below(u64::MAX);
        let (told, status) = listen(child(&folder, seed).spawn().unwrap(), Some(1 + random.below(100)));
        assert_eq!(status.signal(), Some(9), "the child was killed");
        acked += told.batches();
        contents = check(&folder, seed, &contents, &told);
    }
    eprintln!("kill: 15 rounds, {acked} acknowledged batches");
}

#[test]
fn a_power_cut_loses_nothing_acknowledged() {
    let Some(disk) = Disk::new("power-cut") else {
        return;
    };
    let mut random = Random::printed("power-cut");
    let mut contents = BTreeMap::new();
    let mut acked = 0;
    for _round in 0..20 {
        let seed = random.below(u64::MAX);
        let events = [30, 80, 160][random.below(3) as usize]; // opening alone is about 25
        let torn = [0, 0, 10, 50, 90][random.below(5) as usize];
        let names = ["listing", "now"][random.below(2) as usize];
        let settings = [("SHIM_CUT", 1 + random.below(events)), ("SHIM_TORN", torn), ("SHIM_SEED", seed)];
        let (told, status) = listen(disk.child(seed, &settings).spawn().unwrap(), None);
        assert_eq!(status.code(), Some(137), "the power was cut");
        eprintln!("power-cut: {settings:?}, names {names}, {} acknowledged", told.batches());
        disk.lose_power(names);
        acked += told.batches();
        contents = check(&disk.data(), seed, &contents, &told);
    }
    eprintln!("power-cut: 20 rounds, {acked} acknowledged batches");
}

#[test]
fn a_power_cut_in_the_first_start_leaves_a_folder_that_opens() {
    let mut random = Random::printed("first-cut");
    for cut in 1..32 {
        let Some(disk) = Disk::new("first-cut") else {
            return;
        };
        let seed = random.below(u64::MAX);
        let torn = [0, 50, 90][random.below(3) as usize];
        let names = ["listing", "now"][random.below(2) as usize];
        let settings = [("SHIM_CUT", cut), ("SHIM_TORN", torn), ("SHIM_SEED", seed)];
        let (told, _) = listen(disk.child(seed, &settings).spawn().unwrap(), None);
        eprintln!("first-cut: {settings:?}, names {names}, {} acknowledged", told.batches());
        disk.lose_power(names);
        check(&disk.data(), seed, &BTreeMap::new(), &told);
    }
}

#[test]
fn the_power_cut_test_would_see_a_missing_fdatasync() {
    let Some(disk) = Disk::new("deaf") else {
        return;
    };
    let (told, status) = listen(disk.child(1, &[("SHIM_CUT", 150), ("SHIM_DEAF", 1)]).spawn().unwrap(), None);
    assert_eq!(status.code(), Some(137), "the power was cut");
    assert!(told.batches() > 0);
    disk.lose_power("listing");
    assert!(catch_unwind(AssertUnwindSafe(|| check(&disk.data(), 1, &BTreeMap::new(), &told))).is_err());
}

/// Breaks the disk under the workload: it ends by itself, says why, and leaves what it had acknowledged.
fn broken(name: &str, setting: &str, at: [u64; 2], said: &str) {
    let mut random = Random::printed(name);
    for _round in 0..4 {
        let Some(disk) = Disk::new(name) else { return };
        let seed = random.below(u64::MAX);
        let settings = [(setting, at[0] + random.below(at[1] - at[0]))];
        let (told, status) = listen(disk.child(seed, &settings).spawn().unwrap(), None);
        eprintln!("{name}: {settings:?}, {} acknowledged, then: {:?}", told.batches(), told.refused);
        assert!(status.success(), "the process goes on and ends by itself: {status}");
        let refused = told.refused.clone().expect("the workload was refused");
        assert!(refused.contains(said) && !refused.contains('\n'), "{refused}");
        check(&disk.data(), seed, &BTreeMap::new(), &told);
        disk.lose_power("listing");
        check(&disk.data(), seed, &BTreeMap::new(), &told);
    }
}

#[test]
fn a_failed_sync_ends_acknowledgements() {
    broken("failed-sync", "SHIM_FAIL_SYNC", [20, 100], "Input/output error");
}

#[test]
fn a_failed_write_ends_acknowledgements() {
    broken("failed-write", "SHIM_FAIL_WRITE", [20, 100], "Input/output error");
}

#[test]
fn a_full_disk_ends_acknowledgements() {
    broken("full-disk", "SHIM_SPACE", [5 << 20, 10 << 20], "No space left");
}
