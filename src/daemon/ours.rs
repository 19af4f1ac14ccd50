//! The mounts of this program among those of the machine.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use crate::error::Result;
use crate::fuse::{self, MountEntry};

/// A mount of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// The kernel's number of it, unique while it lives.
    pub id: u64,
    /// Where.
    pub mountpoint: PathBuf,
    /// The source column: what is shown.
    pub source: String,
}

/// All of them in this mount namespace, in the order in which they were made.
pub fn mounts() -> Result<Vec<Mounted>> {
    Ok(fuse::mounts()?.into_iter().filter_map(ours).collect())
}

/// The one that is seen at `mountpoint`; `None` when nothing or something else is.
pub fn seen_at(mountpoint: &Path) -> Result<Option<Mounted>> {
    Ok(fuse::mounted_at(mountpoint)?.and_then(ours))
}

/// The entry, if it is one of ours.
pub(super) fn ours(entry: MountEntry) -> Option<Mounted> {
    let MountEntry { id, mountpoint, fstype, source, .. } = entry;
    (fstype == fuse::FSTYPE).then(|| Mounted {
        id,
        mountpoint,
        source: source.to_string_lossy().into_owned(),
    })
}

/// A server that lives answers sooner, or at least is no dead one.
const PATIENCE: Duration = Duration::from_secs(5);

/// How the server of a mount is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It answers, or nothing of ours is there.
    Alive,
    /// It has gone.
    Dead,
    /// It does not answer.
    Silent,
}

/// Whether what is seen at `mountpoint` is ours and its server has died. A server that is stopped has not.
pub fn is_dead(mountpoint: &Path) -> bool {
    life(mountpoint) == Life::Dead
}

/// How the server of what is seen at `mountpoint` is doing.
pub(super) fn life(mountpoint: &Path) -> Life {
    let (answer, answered) = mpsc::channel();
    let mountpoint = mountpoint.to_owned();
    std::thread::spawn(move || {
        // Nobody may be listening any more.
        let _ = answer.send(fuse::is_dead(&mountpoint).unwrap_or(false));
    });
    match answered.recv_timeout(PATIENCE) {
        Ok(true) => Life::Dead,
        Ok(false) => Life::Alive,
        Err(_) => Life::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_mounts_are_not_ours() {
        assert!(mounts().unwrap().iter().all(|mount| mount.mountpoint != Path::new("/proc")));
        assert_eq!(seen_at(Path::new("/proc")).unwrap(), None);
        assert!(!is_dead(Path::new("/proc")));
        let entry = MountEntry {
            id: 7,
            device: "0:50".into(),
            mountpoint: "/mnt/b".into(),
            fstype: "fuse.backupfs".into(),
            source: "home".into(),
            options: "ro".into(),
        };
        let expected = Mounted { id: 7, mountpoint: "/mnt/b".into(), source: "home".into() };
        assert_eq!(ours(entry), Some(expected));
    }
}
