//! Whether and where to mount: the mountpoint is looked at once, here, and by its absolute path from then on.
//!
//! What an automounter keeps is never opened or listed: that would wait for the mount that is being made.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::ours;
use crate::error::{Error, Kind, Result};
use crate::fuse;

/// The absolute path of a mountpoint, without symbolic links. A dead mount may lie there.
pub fn absolute(typed: &Path) -> Result<PathBuf> {
    let failed = |e| Error::io(format!("mountpoint {}", typed.display()), e);
    match fs::canonicalize(typed) {
        Ok(path) => Ok(path),
        // The server of what is mounted there died: the directory above tells.
        Err(e) if is_disconnected(&e) => {
            let name = typed.file_name().ok_or_else(|| failed(e))?;
            let above = typed.parent().filter(|above| *above != Path::new("")).unwrap_or(Path::new("."));
            Ok(fs::canonicalize(above).map_err(failed)?.join(name))
        }
        Err(e) => Err(failed(e)),
    }
}

fn is_disconnected(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOTCONN)
}

/// A file system that does not answer for so long hangs.
const PATIENCE: Duration = Duration::from_secs(2);

/// Makes sure that `mountpoint` ([`absolute`]) can be mounted on: a directory that overlaps none of the repositories.
/// Errors: what is in the way.
pub fn check<'a>(mountpoint: &Path, repositories: impl Iterator<Item = &'a Path>) -> Result<()> {
    let failed = |e| Error::io(format!("mountpoint {}", mountpoint.display()), e);
    if !fs::metadata(mountpoint).map_err(failed)?.is_dir() {
        return Err(Error::new(
            Kind::NotDirectory,
            format!("mountpoint {} is not a directory", mountpoint.display()),
        ));
    }
    for repository in repositories {
        let (own, other) = (mountpoint.to_owned(), repository.to_owned());
        let look = move || fs::canonicalize(other).map(|resolved| overlap(&own, &resolved));
        // A repository that is not there is for whoever opens it to report, and so is one whose file system hangs.
        let Some(Ok(overlaps)) = in_time(look) else { continue };
        if overlaps.map_err(failed)? {
            return Err(overlapping(mountpoint, repository));
        }
    }
    Ok(())
}

/// That one of the two is or holds the other.
pub(super) fn overlapping(mountpoint: &Path, repository: &Path) -> Error {
    let (mountpoint, repository) = (mountpoint.display(), repository.display());
    let says = format!("mountpoint {mountpoint} and repository {repository} lie in each other");
    Error::new(Kind::Invalid, format!("{says}; reading would wait for itself"))
}

/// What `look` finds out about a place whose file system may hang; `None` when it does.
pub(super) fn in_time<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (tell, told) = mpsc::channel();
    // It ends with the process at the latest.
    std::thread::spawn(move || tell.send(look()));
    told.recv_timeout(PATIENCE).ok()
}

/// Takes away mounts of ours at `mountpoint` whose server died. Errors: one that is alive.
pub fn remove_dead(mountpoint: &Path) -> Result<()> {
    while is_taken(mountpoint)? {
        fuse::unmount(mountpoint, true)?;
        tracing::info!(mountpoint = %mountpoint.display(), "took away a mount whose server had died");
    }
    Ok(())
}

/// Whether a mount of ours whose server died lies at `mountpoint`. Errors: one that is alive.
pub fn is_taken(mountpoint: &Path) -> Result<bool> {
    let Some(mount) = ours::seen_at(mountpoint)? else { return Ok(false) };
    if ours::is_dead(mountpoint) {
        return Ok(true);
    }
    let shown = mountpoint.display();
    let says = format!("{} is already mounted at {shown} (backupfs umount {shown})", mount.source);
    Err(Error::new(Kind::Invalid, says))
}

/// Whether there is something in `mountpoint` that cannot be seen while it is mounted on. What an automounter keeps is
/// not looked into: opening it would wait for this very mount.
pub fn hides_something(mountpoint: &Path) -> bool {
    let Ok(mounts) = fuse::mounts() else { return false };
    let around = mounts.iter().filter(|mount| mountpoint.starts_with(&mount.mountpoint));
    // Of several at one place the last one is seen.
    let nearest = around.max_by_key(|mount| mount.mountpoint.as_os_str().len());
    if nearest.is_none_or(|mount| mount.fstype == "autofs") {
        return false;
    }
    let directory = mountpoint.to_owned();
    in_time(move || fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some()))
        .unwrap_or(false)
}

/// Whether one of two directories is or holds the other, by name or by identity (a bind mount has another name).
fn overlap(a: &Path, b: &Path) -> io::Result<bool> {
    Ok(a.starts_with(b) || b.starts_with(a) || is_above(a, b)? || is_above(b, a)?)
}

/// Whether `upper` is `lower` or one of the directories above it, by identity.
fn is_above(upper: &Path, lower: &Path) -> io::Result<bool> {
    let identity = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    let upper = identity(upper)?;
    // `/` is above everything: names have told that already.
    for path in lower.ancestors().filter(|path| path.file_name().is_some()) {
        if identity(path)? == upper {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_hangs_is_not_waited_for() {
        let (hold, held) = mpsc::channel::<()>();
        assert_eq!(in_time(move || held.recv().is_ok()), None);
        drop(hold);
        assert_eq!(in_time(|| 7), Some(7));
    }

    #[test]
    fn directories_overlap_when_one_holds_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(&path).unwrap();
            path
        };
        for (a, b, overlaps) in [
            ("repo", "repo", true),
            ("repo", "repo/data", true),
            ("mnt/deep/er", "mnt", true),
            ("repo", "repo2", false),
            ("repo", "mnt", false),
        ] {
            assert_eq!(overlap(&at(a), &at(b)).unwrap(), overlaps, "{a} {b}");
            assert_eq!(overlap(&at(b), &at(a)).unwrap(), overlaps, "{b} {a}");
        }
    }

    #[test]
    fn symbolic_links_do_not_hide_an_overlap() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("repo/data")).unwrap();
        symlink(dir.path().join("repo/data"), dir.path().join("mnt")).unwrap();
        let mountpoint = absolute(&dir.path().join("mnt")).unwrap();
        let error = check(&mountpoint, [dir.path().join("repo").as_path()].into_iter()).unwrap_err();
        assert!(error.to_string().contains("lie in each other"), "{error}");
    }

    #[test]
    fn a_mountpoint_must_be_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let nothing = std::iter::empty();
        assert_eq!(check(&absolute(&file).unwrap(), nothing.clone()).unwrap_err().kind(), Kind::NotDirectory);
        let missing = absolute(&dir.path().join("missing")).unwrap_err();
        assert_eq!(missing.kind(), Kind::NotFound);
        assert!(missing.to_string().contains("missing: No such file"), "{missing}");
        check(&absolute(dir.path()).unwrap(), nothing).unwrap();
        assert!(hides_something(dir.path()));
        fs::remove_file(&file).unwrap();
        assert!(!hides_something(dir.path()));
    }
}
