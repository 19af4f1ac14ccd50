//! Snapshots where ZFS shows them itself: in `.zfs/snapshot` of a mounted dataset.
//!
//! Looking at one is enough to have it mounted. A hold keeps it from being destroyed while it is used; who lacks the
//! right to hold goes without, as everybody does who looks there by hand.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::name::SnapshotName;
use super::owner::Owner;
use super::tool::{Refusal, Tool, Why};
use crate::error::{Error, Kind, Result};

/// Below the mountpoint.
const DIR: &str = ".zfs/snapshot";

/// What the tags of holds begin with; the owner follows.
const TAG: &str = "backupfs:";

/// The directory of the snapshots of what is mounted at `mountpoint`, if it has one. Blocks.
pub(super) fn of(mountpoint: &Path) -> Option<PathBuf> {
    let dir = mountpoint.join(DIR);
    File::open(&dir).is_ok_and(|open| open.metadata().is_ok_and(|found| found.is_dir())).then_some(dir)
}

/// Opens the top of a snapshot in `dir`. Blocks. Errors: `NotFound` when it is not there.
pub(super) fn open(dir: &Path, snapshot: &SnapshotName) -> Result<OwnedFd> {
    let failed = |e: Errno| Error::io(dir.join(&*snapshot.label).display().to_string(), e.into());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let above = rustix::fs::openat(CWD, dir, flags, Mode::empty()).map_err(failed)?;
    // Its last component makes sure that what is mounted there is entered, not what it is mounted on.
    let inside = format!("{}/.", snapshot.label);
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(&above, inside, flags, Mode::empty(), resolve).map_err(failed)
}

/// Holds a snapshot for `owner`. False where that is not allowed.
pub(super) async fn hold(tool: &Tool, owner: &Owner, snapshot: &SnapshotName) -> Result<bool> {
    match tool.zfs(&["hold", &tag(&owner.text()), &snapshot.to_string()]).await {
        Ok(_) | Err(Refusal { why: Why::Exists, .. }) => Ok(true),
        Err(Refusal { why: Why::Denied, .. }) => Ok(false),
        Err(refusal) => Err(refusal.error),
    }
}

/// Ends the hold of `owner`.
pub(super) async fn release(tool: &Tool, owner: &str, snapshot: &SnapshotName) -> Result<()> {
    match tool.zfs(&["release", &tag(owner), &snapshot.to_string()]).await {
        Ok(_) | Err(Refusal { why: Why::Missing, .. }) => Ok(()),
        Err(refusal) => Err(refusal.error),
    }
}

/// Ends the holds of processes that have ended on these snapshots. Answers how many there were; what cannot be ended is
/// logged.
pub(super) async fn sweep(tool: &Tool, owner: &Owner, held: &[String]) -> Result<usize> {
    if held.is_empty() {
        return Ok(0);
    }
    let call: Vec<&str> = ["holds", "-H"].into_iter().chain(held.iter().map(String::as_str)).collect();
    let text = tool.zfs(&call).await.map_err(|refusal| refusal.error)?;
    let mut swept = 0;
    for (name, left) in text.lines().filter_map(left) {
        if !owner.has_outlived(left) {
            continue;
        }
        match release(tool, left, &name).await {
            Ok(()) => swept += 1,
            Err(error) => tracing::warn!(%error, "a hold of an earlier run stays"),
        }
    }
    Ok(swept)
}

/// The snapshot and the owner that a line of `zfs holds -H` tells, if the hold was made here.
fn left(line: &str) -> Option<(SnapshotName, &str)> {
    let mut fields = line.split('\t');
    let name = SnapshotName::parse(fields.next()?)?;
    Some((name, fields.next()?.strip_prefix(TAG)?))
}

fn tag(owner: &str) -> String {
    format!("{TAG}{owner}")
}

/// Told once, by whoever hears that holds are not allowed.
pub(super) fn unprotected(snapshot: &SnapshotName) -> Error {
    let says = format!("{snapshot} is not held while it is used (docs/zfs.md tells which right is needed)");
    Error::new(Kind::Denied, says)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::super::fake::{self, Fake};
    use super::*;

    fn snapshot(name: &str) -> SnapshotName {
        SnapshotName::parse(name).unwrap()
    }

    #[test]
    fn a_snapshot_is_opened_where_it_is_shown_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of(dir.path()), None);
        fs::create_dir_all(dir.path().join(".zfs/snapshot/s1/h@+x")).unwrap();
        fs::write(dir.path().join(".zfs/snapshot/file"), "").unwrap();
        symlink("/", dir.path().join(".zfs/snapshot/link")).unwrap();
        let at = of(dir.path()).unwrap();
        assert_eq!(fake::names(open(&at, &snapshot("tank/b@s1")).unwrap()), ["h@+x"]);
        for (name, kind) in
            [("s2", Kind::NotFound), ("file", Kind::NotDirectory), ("link", Kind::Unavailable)]
        {
            let error = open(&at, &snapshot(&format!("tank/b@{name}"))).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
        }
    }

    #[tokio::test]
    async fn a_hold_is_taken_where_it_may_be() {
        let (fake, owner) = (Fake::new(), Owner::this().unwrap());
        let held = |name: &str| format!("hold {} tank/b@{name}", tag(&owner.text()));
        fake.answers(&held("s1"), "");
        fake.refuses(&held("s2"), "cannot hold snapshot 'tank/b@s2': tag already exists on this dataset");
        fake.refuses(&held("s3"), "cannot hold 'tank/b@s3': permission denied");
        fake.refuses(&held("s4"), "cannot open 'tank/b@s4': dataset does not exist");
        for (name, expected) in
            [("s1", Ok(true)), ("s2", Ok(true)), ("s3", Ok(false)), ("s4", Err(Kind::NotFound))]
        {
            let held = hold(&fake.tool(), &owner, &snapshot(&format!("tank/b@{name}"))).await;
            assert_eq!(held.map_err(|e| e.kind()), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn holds_of_ended_processes_are_released() {
        let (fake, owner) = (Fake::new(), Owner::this().unwrap());
        let dead = Owner::dead().text();
        let line = |label: &str, tag: &str| format!("tank/b@{label}\t{tag}\tSat Nov 21 21:47 2026\n");
        let printed =
            line("s1", &tag(&dead)) + &line("s1", "keep") + &line("s2", &tag(&owner.text())) + "x\n";
        fake.answers("holds -H tank/b@s1 tank/b@s2", &printed);
        fake.answers(&format!("release {} tank/b@s1", tag(&dead)), "");
        let held = ["s1", "s2"].map(|label| format!("tank/b@{label}"));
        assert_eq!(sweep(&fake.tool(), &owner, &held).await.unwrap(), 1);
        assert_eq!(fake.asked().len(), 2);
        assert_eq!(sweep(&fake.tool(), &owner, &[]).await.unwrap(), 0);
        assert_eq!(fake.asked().len(), 2, "nobody is asked about what nobody holds");
    }
}
