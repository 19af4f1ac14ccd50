//! Clones of snapshots: made, mounted where nobody else looks, unmounted and destroyed.
//!
//! OpenZFS gets `mountpoint=legacy` and is mounted by mount(8), because that alone keeps a clone out of everybody's
//! way. zfs-fuse has no file system type of its own and mounts what has a mountpoint at once, so there the mountpoint
//! is the private directory. A clone's name and the owner written at it tell it from everything else: nothing that
//! lacks either is ever destroyed here.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::listing::{self, Left, OWNER};
use super::name::{Dataset, SnapshotName};
use super::owner::Owner;
use super::tool::{Refusal, Tool, Why, remedy};
use crate::error::{Context, Error, Kind, Result};

/// What the names of clones begin with; 16 hexadecimal digits follow.
const PREFIX: &str = "backupfs-";

/// zfs-fuse lets go of a clone a little after it was unmounted.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);

const NEEDS: &str = "cannot make a clone";

/// So many clones are made and destroyed at a time, of the kernel's ZFS; of zfs-fuse one, which hangs when mounts come and
/// go beside each other.
pub(super) const TURNS: u32 = 8;

/// Whether the kernel knows ZFS. Asked each time: its module may be loaded late.
pub type IsKernelS = Box<dyn Fn() -> bool + Send + Sync>;

/// Where and how clones are made.
pub(super) struct Clones {
    pub tool: Tool,
    /// The dataset in which they are made.
    pub parent: Dataset,
    /// Who makes them.
    pub owner: Owner,
    /// A directory of this user alone, in which they are mounted.
    pub folder: PathBuf,
    /// Else it is zfs-fuse.
    pub is_kernel_s: IsKernelS,
    /// [`TURNS`] of them, of which zfs-fuse takes all.
    pub turns: Semaphore,
}

/// A clone that is mounted.
#[derive(Debug)]
pub(super) struct Clone {
    name: Dataset,
    dir: PathBuf,
}

impl Clone {
    /// The last component of its name, which is also that of its directory.
    pub(super) fn last(&self) -> &str {
        self.name.last()
    }
}

impl Clones {
    /// Whether a clone made by a process like this may be called so, by the last component of its name.
    pub(super) fn is_name(name: &str) -> bool {
        let id = name.strip_prefix(PREFIX).unwrap_or_default();
        id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit())
    }

    /// A clone of `snapshot`, mounted, and its top directory. Errors: `NotFound` when there is no such snapshot, `Denied`
    /// when rights or a key are missing.
    pub(super) async fn make(&self, snapshot: &SnapshotName) -> Result<(Clone, OwnedFd)> {
        let clone = self.place()?;
        let turn = self.turn().await?;
        let made = self.mounted(snapshot, &clone).await;
        drop(turn);
        match made {
            Ok(top) => Ok((clone, top)),
            Err(error) => {
                // What is left of it is found at the next start.
                if let Err(left) = self.unmake(&clone).await {
                    tracing::warn!(error = %left, "a clone is left");
                }
                Err(error.context(snapshot.to_string()))
            }
        }
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>> {
        let turns = if (self.is_kernel_s)() { 1 } else { TURNS };
        self.turns
            .acquire_many(turns)
            .await
            .map_err(|e| Error::caused_by(Kind::Internal, "waiting for a turn", e))
    }

    /// A new name, and a new directory for it.
    fn place(&self) -> Result<Clone> {
        let name = format!("{PREFIX}{:016x}", RandomState::new().hash_one(std::process::id()));
        let clone = Clone { name: self.parent.child(&name)?, dir: self.folder.join(name) };
        let make = fs::DirBuilder::new().mode(0o700).create(&clone.dir);
        make.map_err(|e| Error::io(clone.dir.display().to_string(), e))?;
        Ok(clone)
    }

    async fn mounted(&self, snapshot: &SnapshotName, clone: &Clone) -> Result<OwnedFd> {
        let is_kernel_s = (self.is_kernel_s)();
        let private = clone.dir.to_str().filter(|_| !is_kernel_s).unwrap_or("legacy");
        let mountpoint = format!("mountpoint={private}");
        let owner = format!("{OWNER}={}", self.owner.text());
        let (from, to) = (snapshot.to_string(), clone.name.as_str());
        let set = ["-o", "readonly=on", "-o", "canmount=noauto", "-o", &mountpoint, "-o", &owner];
        let cloned = self.tool.zfs(&[&["clone"], &set[..], &[&from, to]].concat()).await;
        cloned.map_err(|refusal| remedy(refusal.error, NEEDS))?;
        if is_kernel_s {
            let mounted = self.tool.mount(to, clone.dir.as_os_str()).await;
            mounted.map_err(|refusal| locked(refusal, &snapshot.dataset))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = clone.dir.display().to_string();
        let top = rustix::fs::openat(CWD, &clone.dir, flags, Mode::empty());
        let top = top.map_err(|e| Error::io(dir.clone(), e.into()))?;
        // An empty directory would pass for the snapshot.
        if device(&top) == fs::metadata(&self.folder).ok().map(|folder| folder.dev()) {
            return Err(Error::new(Kind::Unavailable, format!("{to} was not mounted at {dir}")));
        }
        Ok(top)
    }

    /// Unmounts and destroys `clone`. Nothing is left of it, or it is an error, and may be tried again: `Unavailable` while
    /// somebody has something open in it.
    pub(super) async fn unmake(&self, clone: &Clone) -> Result<()> {
        let _turn = self.turn().await?;
        match self.tool.unmount(clone.dir.as_os_str()).await {
            Ok(()) | Err(Refusal { why: Why::NotMounted | Why::Missing, .. }) => {}
            Err(refusal) => return Err(refusal.error),
        }
        self.destroy(&clone.name).await.context(|| format!("destroying {}", clone.name))?;
        remove(&clone.dir)
    }

    async fn destroy(&self, clone: &Dataset) -> Result<()> {
        let mut call = vec!["destroy", clone.as_str()];
        for _ in 0..TRIES {
            match self.tool.zfs(&call).await {
                Ok(_) | Err(Refusal { why: Why::Missing, .. }) => return Ok(()),
                Err(Refusal { why: Why::Busy, .. }) => tokio::time::sleep(PAUSE).await,
                // Somebody snapshots everything, clones too.
                Err(Refusal { why: Why::Children, error }) if call.len() > 2 => return Err(error),
                Err(Refusal { why: Why::Children, .. }) => call.insert(1, "-r"),
                Err(refusal) => return Err(remedy(refusal.error, "cannot destroy a clone")),
            }
        }
        Err(Error::new(Kind::Unavailable, "it is in use"))
    }

    /// Destroys the clones that processes left which have ended. Answers how many there were; what cannot be destroyed
    /// is logged.
    pub(super) async fn sweep(&self) -> Result<usize> {
        let mut swept = 0;
        for clone in self.left().await? {
            match self.unmake(&clone).await {
                Ok(()) => swept += 1,
                Err(error) => tracing::warn!(%error, "a clone of an earlier run stays"),
            }
        }
        Ok(swept)
    }

    /// Destroys the clone whose name ends so, if a process left it that has ended.
    pub(super) async fn sweep_one(&self, last: &str) -> Result<()> {
        match self.left().await?.into_iter().find(|clone| clone.last() == last) {
            Some(clone) => self.unmake(&clone).await,
            None => Ok(()),
        }
    }

    /// The clones that processes left which have ended.
    async fn left(&self) -> Result<Vec<Clone>> {
        let clones = listing::clones(&self.tool, &self.parent).await?;
        let left = clones.into_iter().filter(|left| self.is_left(left)).map(|left| {
            let dir = left.mountpoint.unwrap_or_else(|| self.folder.join(left.name.last()));
            Clone { name: left.name, dir }
        });
        Ok(left.collect())
    }

    fn is_left(&self, left: &Left) -> bool {
        let is_here = left.mountpoint.as_ref().is_none_or(|at| at.ends_with(left.name.last()));
        Clones::is_name(left.name.last()) && is_here && self.owner.has_outlived(&left.owner)
    }
}

/// A mount that was refused because of a key says so, and what to do.
fn locked(refusal: Refusal, dataset: &Dataset) -> Error {
    match refusal.why {
        Why::Key => refusal.error.context(format!("its key is not loaded (zfs load-key {dataset})")),
        _ => remedy(refusal.error, "cannot mount a clone"),
    }
}

fn device(top: &OwnedFd) -> Option<u64> {
    rustix::fs::fstat(top).ok().map(|found| found.st_dev)
}

/// Removes the directory of a clone, which is empty now.
fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(dir.display().to_string(), e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, Stage};
    use super::*;

    #[tokio::test]
    async fn openzfs_clones_as_legacy_and_mount_mounts() {
        let Some(stage) = Stage::new() else { return };
        let clones = stage.clones();
        let (clone, top) = clones.make(&stage.snapshot()).await.unwrap();
        assert_eq!(super::super::fake::names(&top), ["a", "h@+x"]);
        let busy = clones.unmake(&clone).await.unwrap_err();
        assert!(busy.to_string().contains("busy"), "{busy}");
        assert!(clone.dir.join("a").exists(), "somebody uses it");
        drop(top);
        clones.unmake(&clone).await.unwrap();
        assert!(!clone.dir.exists());
        let set = "-o readonly=on -o canmount=noauto -o mountpoint=legacy -o backupfs:owner=ME";
        assert_eq!(
            stage.fake.changes(),
            [
                format!("clone {set} tank/b@s tank/b/backupfs-ID"),
                "mount -t zfs -o ro,nosuid,nodev,noexec -- tank/b/backupfs-ID DIR/backupfs-ID".to_owned(),
                "umount -- DIR/backupfs-ID".to_owned(),
                "umount -- DIR/backupfs-ID".to_owned(),
                "destroy tank/b/backupfs-ID".to_owned(),
            ]
        );
    }

    #[tokio::test]
    async fn what_is_refused_leaves_nothing_and_says_what_is_missing() {
        for (step, said, kind, says) in [
            ("clone", "cannot create 'x': permission denied", Kind::Denied, "docs/zfs.md"),
            (
                "clone",
                "cannot open 'tank/b@s': dataset does not exist",
                Kind::NotFound,
                "tank/b@s: cannot open",
            ),
            ("mount", "mount: must be superuser to use mount.", Kind::Denied, "docs/zfs.md"),
            (
                "mount",
                "cannot mount 'tank/b/backupfs-1': encryption key not loaded",
                Kind::Denied,
                "zfs load-key tank/b",
            ),
        ] {
            let Some(stage) = Stage::new() else { return };
            stage.refuse(step, said);
            let error = stage.clones().make(&stage.snapshot()).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{said}");
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(fs::read_dir(stage.clones().folder).unwrap().count(), 0);
            assert_eq!(stage.fake.asked().last().unwrap(), "destroy tank/b/backupfs-ID");
        }
    }

    #[tokio::test]
    async fn an_empty_directory_does_not_pass_for_a_snapshot() {
        let Some(stage) = Stage::new() else { return };
        stage.run("mount", "exit 0");
        let error = stage.clones().make(&stage.snapshot()).await.unwrap_err();
        assert!(error.to_string().contains("was not mounted"), "{error}");
    }

    #[tokio::test]
    async fn what_was_snapshotted_meanwhile_is_destroyed_with_its_snapshots() {
        let Some(stage) = Stage::new() else { return };
        let clones = stage.clones();
        let (clone, top) = clones.make(&stage.snapshot()).await.unwrap();
        drop(top);
        stage.refuse("destroy", "cannot destroy 'x': filesystem has children");
        stage.fake.answers("destroy -r tank/b/backupfs-ID", "");
        clones.unmake(&clone).await.unwrap();
        assert_eq!(stage.fake.asked().last().unwrap(), "destroy -r tank/b/backupfs-ID");
    }

    #[tokio::test]
    async fn only_what_ended_processes_left_is_swept() {
        let Some(stage) = Stage::new() else { return };
        let clones = stage.clones();
        let (dead, alive) = (Owner::dead().text(), clones.owner.text());
        let line = |name: &str, owner: &str, origin: &str| {
            [("type", "filesystem"), ("origin", origin), ("mountpoint", "legacy"), (OWNER, owner)]
                .map(|(property, value)| format!("tank/b/{name}\t{property}\t{value}\n"))
                .concat()
        };
        let printed = line("backupfs-0123456789abcdef", &dead, "tank/b@s")
            + &line("backupfs-0123456789abcdee", &alive, "tank/b@s")
            + &line("backupfs-0123456789abcded", &dead, "-")
            + &line("mine", &dead, "tank/b@s")
            + &line("backupfs-mine", &dead, "tank/b@s");
        let asked = "get -H -p -d 1 -o name,property,value type,origin,mountpoint,backupfs:owner tank/b";
        stage.fake.answers(asked, &printed);
        assert_eq!(clones.sweep().await.unwrap(), 1);
        assert_eq!(stage.fake.changes(), ["umount -- DIR/backupfs-ID", "destroy tank/b/backupfs-ID"]);
    }

    #[tokio::test]
    async fn a_pool_that_is_away_is_an_error_of_the_sweep() {
        let Some(stage) = Stage::new() else { return };
        let fake = Fake::new();
        let clones = Clones { tool: fake.tool(), ..stage.clones() };
        assert!(clones.sweep().await.unwrap_err().to_string().starts_with("not recorded"));
    }
}
