//! Opening what lies below a directory, without leaving it: the kernel refuses every way out, whatever changes meanwhile.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, RawDir, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// A look-up that a change of directories disturbed is made again so often.
const TRIES: usize = 100;

/// The kernel takes no path of 4096 bytes; a longer one is walked in pieces.
const LONGEST: usize = 4000;

/// Bytes of entries that one call gets.
pub(super) const BUFFER: usize = 64 << 10;

/// Below, in the same file system, by real directories only.
const INSIDE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Opens the directory `path` below `top`, which is empty for `top` itself. No symbolic link is followed; other file
/// systems are entered, because each snapshot may be mounted on its own. Blocks. Errors: as openat2(2) has them, with the
/// path.
pub fn directory(top: impl AsFd, path: &Path) -> Result<OwnedFd> {
    let resolve = INSIDE.difference(ResolveFlags::NO_XDEV);
    open_resolved(top, path.as_os_str().as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY, resolve)
        .map_err(|e| Error::io(path.display().to_string(), e.into()))
}

/// The names in an open directory, but `.` and `..`, in the order in which it has them. Blocks.
pub fn names(dir: impl AsFd) -> Result<Vec<PathBuf>> {
    let failed = |e: Errno| Error::io("listing a directory", e.into());
    let mut names = Vec::new();
    // A descriptor's position is shared by all who have it.
    let own = open(dir, b"", OFlags::RDONLY | OFlags::DIRECTORY, Waits::Allowed).map_err(failed)?;
    visit(&own, |name, _| names.push(PathBuf::from(std::ffi::OsString::from_vec(name.to_vec()))))
        .map_err(failed)?;
    Ok(names)
}

/// Calls `entry` with the name and the inode number of every entry but `.` and `..`.
pub(super) fn visit(dir: impl AsFd, mut entry: impl FnMut(&[u8], u64)) -> rustix::io::Result<()> {
    let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(next) = entries.next() {
        let next = next?;
        let name = next.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            entry(name, next.ino());
        }
    }
    Ok(())
}

/// Whether a look-up may wait for a disk or a server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// It may.
    Allowed,
    /// It answers `EAGAIN` instead: only what the kernel has in memory is found.
    Refused,
}

/// Opens `path`, a relative path of bytes, below `top`.
pub(super) fn open(top: impl AsFd, path: &[u8], flags: OFlags, waits: Waits) -> rustix::io::Result<OwnedFd> {
    let resolve = if waits == Waits::Refused { INSIDE | ResolveFlags::CACHED } else { INSIDE };
    open_resolved(top, path, flags, resolve)
}

fn open_resolved(
    top: impl AsFd,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let Some((above, rest)) = cut(path) else {
        let path = if path.is_empty() { b"." } else { path };
        return open_piece(&top, path, flags, resolve);
    };
    let above = open_piece(&top, above, OFlags::PATH | OFlags::DIRECTORY, resolve)?;
    open_resolved(above, rest, flags, resolve)
}

/// A path that is too long for one call, in two.
fn cut(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = path.get(..LONGEST).filter(|start| start.len() < path.len())?;
    let slash = start.iter().rposition(|byte| *byte == b'/')?;
    Some((path.get(..slash)?, path.get(slash + 1..)?))
}

/// Opens without touching the time of last access where that is allowed.
fn open_piece(
    top: &impl AsFd,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let path = OsStr::from_bytes(path);
    let base = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // With O_PATH nothing is read, and further flags are refused.
    let (quiet, base) = if flags.contains(OFlags::PATH) {
        let base = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        (base, base)
    } else {
        (base | OFlags::NOATIME, base)
    };
    let call = |flags| match openat2(top, path, flags, Mode::empty(), resolve) {
        // Something was renamed meanwhile. Where waiting is refused, this is the answer.
        Err(Errno::AGAIN) if !resolve.contains(ResolveFlags::CACHED) => None,
        opened => Some(opened),
    };
    let tried = |flags| (0..TRIES).find_map(|_| call(flags)).unwrap_or(Err(Errno::AGAIN));
    match tried(quiet) {
        Err(Errno::PERM) if quiet != base => tried(base),
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::error::Kind;

    fn top(path: &Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    #[test]
    fn no_link_is_followed_and_nothing_above_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("in/a/b")).unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        symlink("../out", dir.path().join("in/link")).unwrap();
        symlink("a", dir.path().join("in/inside")).unwrap();
        let top = top(&dir.path().join("in"));
        for there in ["", "a", "a/b", "a/../a/b"] {
            directory(&top, there.as_ref()).unwrap();
        }
        for (outside, kind) in
            [("..", Kind::Unavailable), ("../out", Kind::Unavailable), ("no", Kind::NotFound)]
        {
            assert_eq!(directory(&top, outside.as_ref()).unwrap_err().kind(), kind, "{outside}");
        }
        for link in ["link", "inside", "inside/b", "/", "/etc"] {
            directory(&top, link.as_ref()).unwrap_err();
        }
        let mut found = names(&top).unwrap();
        found.sort();
        assert_eq!(found, ["a", "inside", "link"].map(PathBuf::from));
        assert_eq!(names(&top).unwrap().len(), 3, "a second time too");
    }

    #[test]
    fn other_file_systems_are_entered_only_on_the_way_to_a_snapshot() {
        let root = top("/".as_ref());
        let within = |path: &[u8]| open(&root, path, OFlags::PATH | OFlags::DIRECTORY, Waits::Allowed);
        assert!(within(b"proc").is_err());
        within(b"usr").unwrap();
        directory(&root, "proc/self".as_ref()).unwrap_err();
        directory(&root, "proc/sys".as_ref()).unwrap();
    }

    #[test]
    fn paths_of_any_length_are_walked() {
        let dir = tempfile::tempdir().unwrap();
        let top = top(dir.path());
        let name = "d".repeat(200);
        let mut at = directory(&top, "".as_ref()).unwrap();
        for _ in 0..50 {
            rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
            at = directory(&at, name.as_ref()).unwrap();
        }
        let whole = vec![name.as_str(); 50].join("/");
        let reached = directory(&top, whole.as_ref()).unwrap();
        let ino = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
        assert_eq!(ino(&reached), ino(&at));
    }
}
