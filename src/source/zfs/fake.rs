//! Programs with recorded answers, for the syntax of an OpenZFS that this machine does not have.
//!
//! One shell script stands for `zfs`, `mount` and `umount`: it looks its arguments up among the recorded ones and notes
//! what it was asked. The names of clones, which are drawn, are recorded as `backupfs-ID`, owners as `ME`. What was not recorded fails the way a wrong call does.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use super::clones::Clones;
use super::layout::Layout;
use super::name::{Dataset, SnapshotName};
use super::own::{Means, Own};
use super::owner::Owner;
use super::tool::Tool;
use crate::store::program::Program;

/// `$0` is the directory, `$1` the program.
const SCRIPT: &str = r#"
    [ "$1" = zfs ] && shift
    call=$(printf %s "$*" | sed -E 's/backupfs-[0-9a-f]{16}/backupfs-ID/g; s/(owner=)[^ ]*/\1ME/; s#'"$0"'/folder#DIR#g')
    key=$(printf %s "$call" | sha256sum | cut -c1-64)
    id=$(printf %s "$*" | grep -oE 'backupfs-[0-9a-f]{16}' | head -n 1)
    printf '%s\n' "$call" >>"$0/asked"
    if [ -e "$0/$key.run" ]; then . "$0/$key.run"; exit; fi
    if [ -e "$0/$key.err" ]; then cat "$0/$key.err" >&2; exit 1; fi
    if [ -e "$0/$key.out" ]; then cat "$0/$key.out"; exit; fi
    echo "not recorded: $*" >&2; exit 2
"#;

/// How `clone` of [`Stage`] is called.
const CLONE: &str = "clone -o readonly=on -o canmount=noauto -o mountpoint=legacy -o backupfs:owner=ME";

/// The recorded answers.
pub(super) struct Fake {
    dir: tempfile::TempDir,
}

impl Fake {
    pub(super) fn new() -> Self {
        Fake { dir: tempfile::tempdir().unwrap() }
    }

    /// The programs. `mount` and `umount` are called by their names.
    pub(super) fn tool(&self) -> Tool {
        let program = |name: &str| Program {
            name: "sh".into(),
            arguments: vec!["-c".into(), SCRIPT.into(), self.dir.path().into(), name.into()],
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
        };
        Tool { zfs: program("zfs"), mount: program("mount"), umount: program("umount") }
    }

    /// Called so, the program prints `text`.
    pub(super) fn answers(&self, call: &str, text: &str) {
        self.record(call, "out", text);
    }

    /// Called so, it fails and says `text`.
    pub(super) fn refuses(&self, call: &str, text: &str) {
        self.record(call, "err", text);
    }

    /// Called so, it runs `script`.
    pub(super) fn runs(&self, call: &str, script: &str) {
        self.record(call, "run", script);
    }

    /// What the programs were called with, in order.
    pub(super) fn asked(&self) -> Vec<String> {
        let asked = fs::read_to_string(self.dir.path().join("asked")).unwrap_or_default();
        asked.lines().map(str::to_owned).collect()
    }

    /// Of those, what changes something.
    pub(super) fn changes(&self) -> Vec<String> {
        self.asked().into_iter().filter(|call| !call.starts_with("get ")).collect()
    }

    fn record(&self, call: &str, ending: &str, text: &str) {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, call.as_bytes());
        let key: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        for other in ["out", "err", "run"] {
            let path: PathBuf = self.dir.path().join(format!("{key}.{other}"));
            if other == ending {
                fs::write(path, text).unwrap();
            } else {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// A pool of an OpenZFS with the dataset `tank/b` and snapshots `s` of it: what is mounted is a tmpfs with a file and
/// a directory.
pub(super) struct Stage {
    pub(super) fake: Fake,
}

impl Stage {
    /// `None` where nothing can be mounted.
    pub(super) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root mounts");
            return None;
        }
        let stage = Stage { fake: Fake::new() };
        fs::create_dir(stage.folder()).unwrap();
        let fill = r#"d="$0/folder/$id"; mount -t tmpfs none "$d" && mkdir "$d/h@+x" && echo data >"$d/a""#;
        stage.run("mount", fill);
        stage.run("umount", r#"umount "$0/folder/$id""#);
        for step in ["clone", "destroy"] {
            stage.run(step, ":");
        }
        Some(stage)
    }

    /// Where clones are mounted.
    pub(super) fn folder(&self) -> PathBuf {
        self.fake.dir.path().join("folder")
    }

    pub(super) fn snapshot(&self) -> SnapshotName {
        SnapshotName::parse("tank/b@s").unwrap()
    }

    pub(super) fn clones(&self) -> Clones {
        Clones {
            tool: self.fake.tool(),
            parent: Dataset::new("tank/b").unwrap(),
            owner: Owner::this().unwrap(),
            folder: self.folder(),
            is_kernel_s: Box::new(|| true),
            turns: tokio::sync::Semaphore::new(8),
        }
    }

    /// Hands that make at most `most` clones.
    pub(super) fn own(&self, most: usize) -> Own {
        self.own_seeing(most, None)
    }

    /// The same, where the table of mounts has the dataset at `mounted`.
    pub(super) fn own_seeing(&self, most: usize, mounted: Option<PathBuf>) -> Own {
        let means = Means {
            layout: Layout::parse("tank/b").unwrap(),
            parent: None,
            tool: self.fake.tool(),
            folder: self.folder(),
            is_kernel_s: Box::new(|| true),
            most,
            mounted_at: Arc::new(move |_| mounted.clone()),
        };
        Own::new(means).unwrap()
    }

    /// A mountpoint where snapshots are shown, each with a directory.
    pub(super) fn shows(&self, labels: &[&str]) -> PathBuf {
        let at = self.fake.dir.path().join("mounted");
        for label in labels {
            fs::create_dir_all(at.join(".zfs/snapshot").join(label).join("h@+x")).unwrap();
        }
        at
    }

    /// A step (`clone`, `mount`, `umount`, `destroy`) runs `script`.
    pub(super) fn run(&self, step: &str, script: &str) {
        self.calls(step).iter().for_each(|call| self.fake.runs(call, script));
    }

    /// A step fails and says `text`.
    pub(super) fn refuse(&self, step: &str, text: &str) {
        self.calls(step).iter().for_each(|call| self.fake.refuses(call, text));
    }

    /// How a step is called, for each snapshot.
    fn calls(&self, step: &str) -> Vec<String> {
        let clone = "tank/b/backupfs-ID";
        match step {
            "clone" => {
                ["s", "s1", "s2", "s3"].iter().map(|s| format!("{CLONE} tank/b@{s} {clone}")).collect()
            }
            "mount" => vec![format!("mount -t zfs -o ro,nosuid,nodev,noexec -- {clone} DIR/backupfs-ID")],
            "umount" => vec!["umount -- DIR/backupfs-ID".to_owned()],
            _ => vec![format!("destroy {clone}")],
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for mounted in fs::read_dir(self.folder()).unwrap() {
            let _ = Command::new("umount").arg("-lq").arg(mounted.unwrap().path()).status();
        }
    }
}

/// What is in an open directory.
pub(super) fn names(top: impl AsFd) -> Vec<String> {
    let entries = rustix::fs::Dir::read_from(top).unwrap();
    let name = |entry: rustix::io::Result<rustix::fs::DirEntry>| {
        entry.unwrap().file_name().to_str().unwrap().to_owned()
    };
    let mut names: Vec<String> = entries.map(name).filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}
