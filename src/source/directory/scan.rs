//! Walking the levels of a pattern: one listing for each directory above the snapshots, and none of a snapshot.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, openat, openat2, statx};

use super::pattern::{Level, Pattern};
use super::unfinished;
use crate::error::{Error, Kind, Result};
use crate::source::host;
use crate::tree::{Part, Time, Usage};

/// The file in which snapper says what a snapshot is, beside it.
const INFO: &str = "info.xml";

/// More of it is not read.
const INFO_SIZE: u64 = 64 << 10;

/// What tells a directory from every other of this machine: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mark {
    pub device: (u32, u32),
    pub ino: u64,
}

/// A directory where the pattern says that a snapshot is.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Below what is fixed of the pattern.
    pub path: PathBuf,
    pub parts: Vec<Part>,
    /// The name on the way that is a set's.
    pub set: Option<Vec<u8>>,
    pub mark: Mark,
    pub modified: Time,
    /// When the directory was modified that was made for the snapshot: this one, or one above.
    pub dated: Time,
    /// What lies beside it in a file called `info.xml`.
    pub info: Option<Vec<u8>>,
}

/// What a walk found.
#[derive(Default)]
pub(super) struct Scan {
    pub found: Vec<Found>,
    /// Directories that could not be looked into, and why: what lies below them is unknown.
    pub gaps: Vec<(PathBuf, Error)>,
    /// What the file system holds on which the beginning of the pattern lies.
    pub usage: Usage,
}

/// Opens what is fixed of the pattern, wherever links lead there. Blocks.
pub(super) fn top(pattern: &Pattern) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, &pattern.fixed, flags, Mode::empty())
        .map_err(|e| Error::io(pattern.fixed.display().to_string(), e.into()))
}

/// Where a directory is, and when it was changed last. Blocks.
pub(super) fn marked(dir: impl AsFd) -> Result<(Mark, Time)> {
    let found = statx(dir, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS);
    let found = found.map_err(|e| Error::io("looking at a directory", e.into()))?;
    let mark = Mark { device: (found.stx_dev_major, found.stx_dev_minor), ino: found.stx_ino };
    Ok((mark, Time { secs: found.stx_mtime.tv_sec, nanos: found.stx_mtime.tv_nsec }))
}

/// Every snapshot that is there. Blocks. Errors: when what is fixed of the pattern cannot be read.
pub(super) fn scan(pattern: &Pattern) -> Result<Scan> {
    let mut walk = Walk { scan: Scan::default(), wants_info: !pattern.has(super::pattern::TIME) };
    let top = top(pattern)?;
    walk.scan.usage = usage(&top);
    match walk.descend(&top, &pattern.levels, &Way::default()) {
        Err(error) => Err(error.context(pattern.fixed.display().to_string())),
        Ok(()) => Ok(walk.scan),
    }
}

/// What the file system of `dir` holds; nothing where it does not say.
fn usage(dir: &OwnedFd) -> Usage {
    let Ok(found) = rustix::fs::fstatvfs(dir) else { return Usage::default() };
    Usage {
        bytes: found.f_blocks.saturating_sub(found.f_bfree).saturating_mul(found.f_frsize),
        // Some file systems do not count files.
        objects: found.f_files.saturating_sub(found.f_ffree).max(1),
    }
}

/// What was passed on the way to a directory.
#[derive(Clone, Default)]
struct Way {
    path: PathBuf,
    parts: Vec<Part>,
    set: Option<Vec<u8>>,
    dated: Option<Time>,
    info: Option<Vec<u8>>,
}

struct Walk {
    scan: Scan,
    wants_info: bool,
}

impl Walk {
    fn descend(&mut self, dir: &OwnedFd, levels: &[Level], way: &Way) -> Result<()> {
        let Some((level, below)) = levels.split_first() else { return self.arrive(dir, way) };
        match level {
            Level::Plain(name) => {
                let info = (self.wants_info && below.is_empty()).then(|| info(dir)).flatten();
                let way = Way { path: way.path.join(name), info, ..way.clone() };
                self.enter(dir, Path::new(name), below, way, false);
            }
            Level::Parts(parts) => {
                for name in host::names(dir)? {
                    let bytes = name.as_os_str().as_bytes();
                    let Some(matched) = parts.matched(bytes).filter(|_| !unfinished::is_named(bytes)) else {
                        continue;
                    };
                    let set = if parts.is_set { Some(bytes.to_vec()) } else { way.set.clone() };
                    let (path, is_dated) = (way.path.join(&name), parts.is_dated);
                    let parts = way.parts.iter().cloned().chain(matched).collect();
                    let way = Way { path, parts, set, dated: way.dated, info: None };
                    self.enter(dir, &name, below, way, is_dated);
                }
            }
        }
        Ok(())
    }

    /// Goes on in the directory `name`, if it is one; a link is none.
    fn enter(&mut self, dir: &OwnedFd, name: &Path, below: &[Level], mut way: Way, is_dated: bool) {
        let entered = host::directory(dir, name).and_then(|dir| {
            if is_dated {
                way.dated = Some(marked(&dir)?.1);
            }
            self.descend(&dir, below, &way)
        });
        if let Err(error) = entered
            && !is_none(&error)
        {
            self.scan.gaps.push((way.path.clone(), error));
        }
    }

    fn arrive(&mut self, dir: &OwnedFd, way: &Way) -> Result<()> {
        let (mark, modified) = marked(dir)?;
        let Way { path, parts, set, dated, info } = way.clone();
        let dated = dated.unwrap_or(modified);
        self.scan.found.push(Found { path, parts, set, mark, modified, dated, info });
        Ok(())
    }
}

/// Whether an error only says that there is no such directory.
pub(super) fn is_none(error: &Error) -> bool {
    let is_link = std::error::Error::source(error)
        .and_then(|cause| cause.downcast_ref::<std::io::Error>())
        .is_some_and(|cause| cause.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()));
    is_link || matches!(error.kind(), Kind::NotFound | Kind::NotDirectory)
}

/// What snapper's file in `dir` holds, if it is there and can be read.
fn info(dir: &OwnedFd) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = File::from(openat2(dir, INFO, flags, Mode::empty(), resolve).ok()?);
    let is_file = file.metadata().ok()?.is_file();
    let mut text = Vec::new();
    is_file.then(|| file.take(INFO_SIZE).read_to_end(&mut text).ok())??;
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(directories: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        directories.iter().for_each(|name| fs::create_dir_all(dir.path().join(name)).unwrap());
        dir
    }

    fn found(dir: &Path, pattern: &str) -> Vec<String> {
        let pattern = Pattern::parse(&dir.join(pattern)).unwrap();
        let scan = scan(&pattern).unwrap();
        assert!(scan.gaps.is_empty(), "{:?}", scan.gaps);
        let mut paths: Vec<_> = scan.found.iter().map(|f| f.path.to_str().unwrap().to_owned()).collect();
        paths.sort();
        paths
    }

    #[test]
    fn what_looks_like_the_pattern_is_found_and_nothing_else() {
        let dir = tree(&["a/2026/deep", "a/2027", "b/2026", "b/.hidden", "b/2028.partial", "c"]);
        fs::write(dir.path().join("c/2026"), "a file").unwrap();
        symlink("2026", dir.path().join("a/latest")).unwrap();
        symlink(dir.path().join("a"), dir.path().join("d")).unwrap();
        symlink("/", dir.path().join("c/root")).unwrap();
        assert_eq!(found(dir.path(), "{host}/{time}"), ["a/2026", "a/2027", "b/2026"]);
        assert_eq!(found(dir.path(), "{host}/2026"), ["a/2026", "b/2026"]);
        assert_eq!(found(dir.path(), "{host}/{time}/deep"), ["a/2026/deep"]);
        assert!(found(dir.path(), "{host}/nothing").is_empty());
        assert_eq!(found(dir.path(), "a"), [""]);
    }

    #[test]
    fn parts_sets_and_marks_are_kept_on_the_way() {
        let dir = tree(&["one/pc@+home/x"]);
        let pattern = Pattern::parse(&dir.path().join("{time}/{host}@+{path}/x")).unwrap();
        let found = scan(&pattern).unwrap().found.remove(0);
        let parts: Vec<_> = found.parts.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(parts, [("time", &b"one"[..]), ("host", b"pc"), ("path", b"home")]);
        assert_eq!(found.set.as_deref(), Some(&b"pc@+home"[..]));
        let there = File::open(dir.path().join("one/pc@+home/x")).unwrap();
        assert_eq!(marked(&there).unwrap(), (found.mark, found.modified));
    }

    #[test]
    fn what_snapper_says_is_read_where_no_name_tells_the_time() {
        let dir = tree(&["1/snapshot", "2/snapshot", "3/snapshot"]);
        fs::write(dir.path().join("1/info.xml"), "<snapshot/>").unwrap();
        symlink("../1/info.xml", dir.path().join("3/info.xml")).unwrap();
        let pattern = Pattern::parse(&dir.path().join("{n}/snapshot")).unwrap();
        let mut found = scan(&pattern).unwrap().found;
        found.sort_by(|one, other| one.path.cmp(&other.path));
        let info: Vec<_> = found.iter().map(|found| found.info.as_deref()).collect();
        assert_eq!(info, [Some(&b"<snapshot/>"[..]), None, None]);
    }

    #[test]
    fn a_pattern_whose_beginning_is_not_there_is_an_error_that_names_it() {
        let pattern = Pattern::parse(Path::new("/nowhere/at/all/{time}")).unwrap();
        let error = scan(&pattern).err().unwrap();
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }
}
