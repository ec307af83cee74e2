//! This host: the data folder, the clock and the limit of open files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;

use super::Finding;
use crate::cli::text::{moment, now};
use crate::config::Config;

/// Space below which a warning is given, in bytes.
const LITTLE_SPACE: u64 = 1024 * 1024 * 1024;
/// Space below which the store is about to stop, in bytes.
const NO_SPACE: u64 = 64 * 1024 * 1024;
/// Open files below which a busy switch runs out of them.
const FEW_FILES: u64 = 16 * 1024;
/// No clock shows less: this was written later (2026-01-01), in milliseconds.
const WRITTEN: u64 = 1_767_225_600_000;
/// How far in the future a file may be before the clock is doubted, in milliseconds.
const AHEAD: u64 = 60 * 1000;

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut findings = data_folder(&config.data_dir);
    findings.extend(exposed(&config.data_dir));
    findings.push(clock(&config.data_dir, now()));
    findings.push(files());
    findings
}

/// Looks without making anything: the folder is the switch's, and may belong to another user.
fn data_folder(folder: &Path) -> Vec<Finding> {
    const CHECK: &str = "data folder";
    let shown = folder.display();
    // what is not there yet is made in the nearest folder that is
    let existing =
        folder.ancestors().map(|part| if part.as_os_str().is_empty() { Path::new(".") } else { part }).find(|part| part.exists());
    let Some(existing) = existing else {
        return vec![Finding::fail(CHECK, format!("{shown} cannot be made"), "set data_dir to a folder that can be made")];
    };
    if nix::unistd::access(existing, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK).is_err() {
        let advice = "run as the user that runs the switch, or let that user write to it";
        return vec![Finding::fail(CHECK, format!("{shown} is not to be written to"), advice)];
    }
    let state = if existing == folder { "is writable" } else { "is made at the first start" };
    vec![match statvfs(existing).map(|fs| fs.blocks_available().saturating_mul(fs.fragment_size())) {
        Ok(free) if free < NO_SPACE => Finding::fail(
            CHECK,
            format!("{shown} has {} MiB left", free >> 20),
            "make room: without it nothing is kept; calls go on, and devices cannot register",
        ),
        Ok(free) if free < LITTLE_SPACE => Finding::warn(CHECK, format!("{shown} has {} MiB left", free >> 20), "make room soon"),
        Ok(free) => Finding::ok(CHECK, format!("{shown} {state}, {} GiB free", free >> 30)),
        Err(error) => Finding::warn(CHECK, format!("{shown} {state}; its free space is unknown ({error})"), "look with df"),
    }]
}

/// Passwords, keys and histories are in it (S20); a socket in it may be reached through a folder that cannot be read.
pub(super) fn exposed(folder: &Path) -> Option<Finding> {
    let mode = std::fs::metadata(folder).ok()?.permissions().mode();
    let advice = "let nobody else read it: chmod go-rw, or make a folder of its own";
    (mode & 0o066 != 0)
        .then(|| Finding::warn("data folder", format!("others may read or write {} (mode {:o})", folder.display(), mode & 0o777), advice))
}

/// A clock that is wrong makes certificates and nonces fail. Files from the future show that it went back.
fn clock(folder: &Path, now: u64) -> Finding {
    const CHECK: &str = "clock";
    let shown = moment(now);
    let advice = "set the clock and keep it right with NTP";
    if now < WRITTEN {
        return Finding::fail(CHECK, format!("it shows {shown}, which is over"), advice);
    }
    let newest = newest(folder);
    if let Some((file, at)) = newest.filter(|(_, at)| *at > now + AHEAD) {
        return Finding::fail(CHECK, format!("it shows {shown}, but {} was written at {}", file.display(), moment(at)), advice);
    }
    // where systemd keeps the clock it leaves a mark once that has worked
    let (runs, synchronised) = (Path::new("/run/systemd/timesync"), Path::new("/run/systemd/timesync/synchronized"));
    if runs.exists() && !synchronised.exists() {
        return Finding::warn(CHECK, format!("it shows {shown} and was not set by NTP yet"), "see `timedatectl`");
    }
    Finding::ok(CHECK, format!("it shows {shown}"))
}

fn newest(folder: &Path) -> Option<(PathBuf, u64)> {
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let changed = entries.filter_map(|entry| {
        let since = entry.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some((entry.path(), u64::try_from(since.as_millis()).ok()?))
    });
    changed.max_by_key(|(_, at)| *at)
}

fn files() -> Finding {
    const CHECK: &str = "open files";
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, most)) if most < FEW_FILES => {
            let advice = format!("each connection and media port is one; raise it to {FEW_FILES} or more (LimitNOFILE= of the service)");
            Finding::warn(CHECK, format!("at most {most}"), advice)
        }
        Ok((_, most)) => Finding::ok(CHECK, format!("at most {most}")),
        Err(error) => Finding::warn(CHECK, format!("the limit is unknown ({error})"), "see `ulimit -Hn`"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_folder_is_looked_at_and_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        let found = data_folder(&inner);
        assert!(found[0].verdict < Verdict::Fail && found[0].found.contains("first start"), "{found:?}");
        assert!(!folder.path().join("a").exists());
        assert!(data_folder(folder.path())[0].found.contains("is writable"));
        let allow = |mode| std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        for (mode, is_exposed) in [(0o700, false), (0o710, false), (0o750, true), (0o704, true)] {
            allow(mode);
            assert_eq!(exposed(folder.path()).is_some(), is_exposed, "{mode:o}"); // S20
        }
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(data_folder(Path::new("/proc/no/such")).first().map(|finding| finding.verdict), Some(Verdict::Fail));
    }

    #[test]
    fn a_clock_that_went_back_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("store"), "").unwrap();
        assert!(clock(folder.path(), now()).verdict < Verdict::Fail);
        assert_eq!(clock(folder.path(), WRITTEN).verdict, Verdict::Fail, "the store is newer than that");
        assert_eq!(clock(folder.path(), 0).verdict, Verdict::Fail);
    }
}
