//! Disk: the preloaded `disk.c` and the folders that it leaves, for power cuts and broken disks.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::workload;

/// A folder of its own for a test, empty.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("storage").join(name);
    let _absent = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A disk with the folder `data` on it.
pub(crate) struct Disk {
    library: PathBuf,
    root: PathBuf,
    keep: PathBuf,
}

impl Disk {
    /// Returns none, and says so, where there is no C compiler.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let Some(library) = library() else {
            eprintln!("SKIPPED {name}: no C compiler (cc)");
            return None;
        };
        let scratch = scratch(name);
        let disk = Self { library, root: scratch.join("disk"), keep: scratch.join("keep") };
        fs::create_dir(&disk.root).unwrap();
        Some(disk)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Prepares the workload on this disk, which is as it is now; `settings` are those of `disk.c`.
    pub(crate) fn child(&self, seed: u64, settings: &[(&str, u64)]) -> Command {
        let _absent = fs::remove_dir_all(&self.keep);
        fs::create_dir(&self.keep).unwrap();
        let mut child = workload::child(&self.data(), seed);
        child.env("LD_PRELOAD", &self.library).env("SHIM_ROOT", &self.root).env("SHIM_KEEP", &self.keep);
        child.envs(settings.iter().map(|(name, value)| (name, value.to_string())));
        child
    }

    /// Makes the disk what the power cut left of it. `names`: those last synced ("listing"), or those at the cut ("now").
    pub(crate) fn lose_power(&self, names: &str) {
        let root = fs::metadata(&self.root).unwrap().ino();
        fs::remove_dir_all(&self.root).unwrap();
        self.restore(names, &root.to_string(), &self.root);
    }

    fn restore(&self, names: &str, inode: &str, folder: &Path) {
        fs::create_dir(folder).unwrap();
        let list = fs::read_to_string(self.keep.join(format!("{names}.{inode}"))).unwrap_or_default();
        for line in list.lines() {
            let [kind, id, name] = line.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
            if kind == "folder" {
                self.restore(names, id, &folder.join(name));
            } else {
                fs::copy(self.keep.join(format!("content.{id}")), folder.join(name)).unwrap();
            }
        }
    }
}

/// Compiles `disk.c`, once.
fn library() -> Option<PathBuf> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let compile = || {
        let library = scratch("library").join("disk.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/storage/disk.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]).arg(&library).arg(source).arg("-lpthread");
        let status = cc.status().ok()?;
        assert!(status.success(), "cc refused disk.c");
        Some(library)
    };
    LIBRARY.get_or_init(compile).clone()
}
