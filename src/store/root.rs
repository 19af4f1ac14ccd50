//! The directory below which a local store looks.
//!
//! Symbolic links are followed wherever they lead, unless others than whoever mounts choose them: then the kernel itself
//! keeps every look-up below a directory, whatever changes meanwhile.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Error, Kind};

/// A look-up that a change of directories disturbed is made again so often.
const TRIES: usize = 100;

/// A directory, and how far links may lead.
pub(super) struct Root {
    path: PathBuf,
    /// No link may lead out of this, which is the directory or lies above it.
    within: Option<PathBuf>,
}

impl Root {
    /// The directory `path`, absolute.
    pub(super) fn new(path: PathBuf, within: Option<PathBuf>) -> Self {
        Root { path, within }
    }

    /// Where `key` lies.
    pub(super) fn path_of(&self, key: &str) -> PathBuf {
        if key.is_empty() { self.path.clone() } else { self.path.join(key) }
    }

    /// Opens what lies at `key`.
    pub(super) fn open(&self, key: &str, flags: OFlags) -> io::Result<File> {
        let (path, flags) = (self.path_of(key), flags | OFlags::CLOEXEC);
        let fd = match &self.within {
            None => rustix::fs::openat(CWD, &path, flags, Mode::empty())?,
            Some(within) => beneath(within, &path, flags)?,
        };
        Ok(File::from(fd))
    }

    /// What lies at `key`, or at what it leads to.
    pub(super) fn metadata(&self, key: &str) -> io::Result<Metadata> {
        match self.within {
            None => fs::metadata(self.path_of(key)),
            Some(_) => self.open(key, OFlags::PATH)?.metadata(),
        }
    }

    /// The entries of the directory at `key`.
    pub(super) fn entries(&self, key: &str) -> io::Result<Entries> {
        if self.within.is_none() {
            return fs::read_dir(self.path_of(key)).map(|entries| Entries { entries, _open: None });
        }
        let open = self.open(key, OFlags::RDONLY | OFlags::DIRECTORY)?;
        // What was opened, wherever its name leads by now.
        let entries = fs::read_dir(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open)))?;
        Ok(Entries { entries, _open: Some(open) })
    }

    /// The error of a call about `key`; says so where a link led too far.
    pub(super) fn error(&self, key: &str, error: io::Error) -> Error {
        match &self.within {
            Some(within) if error.raw_os_error() == Some(Errno::XDEV.raw_os_error()) => {
                let says = "a link leads out of";
                let why = "and is not followed: its owner might be shown what is another's";
                let (path, within) = (self.path_of(key), within.display());
                Error::new(Kind::Denied, format!("{}: {says} {within}, {why}", path.display()))
            }
            _ => Error::io(
                if key.is_empty() { self.path.display().to_string() } else { key.to_owned() },
                error,
            ),
        }
    }
}

/// Opens `path`, which lies below `within`, without leaving that.
fn beneath(within: &Path, path: &Path, flags: OFlags) -> rustix::io::Result<std::os::fd::OwnedFd> {
    let below = match path.strip_prefix(within) {
        Ok(same) if same.as_os_str().is_empty() => Path::new("."),
        Ok(below) => below,
        Err(_) => return Err(Errno::XDEV),
    };
    let above = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let above = rustix::fs::openat(CWD, within, above, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let open = || rustix::fs::openat2(&above, below, flags, Mode::empty(), resolve);
    let disturbed = |opened: &rustix::io::Result<_>| matches!(opened, Err(Errno::AGAIN));
    (0..TRIES).map(|_| open()).find(|opened| !disturbed(opened)).unwrap_or(Err(Errno::AGAIN))
}

/// The entries of a directory, which stays open with them.
pub(super) struct Entries {
    entries: fs::ReadDir,
    _open: Option<File>,
}

impl Iterator for Entries {
    type Item = io::Result<fs::DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.entries.next()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Two members, the first of which reaches for the second.
    fn members() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in ["alice/own", "bob/data"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("bob/config"), "bob's").unwrap();
        fs::write(dir.path().join("alice/own/config"), "alice's").unwrap();
        let alice = dir.path().join("alice");
        symlink("../bob/config", alice.join("config")).unwrap();
        symlink(dir.path().join("bob/data"), alice.join("data")).unwrap();
        symlink("own", alice.join("inside")).unwrap();
        symlink("own/../../bob", alice.join("roundabout")).unwrap();
        symlink("/proc/self/root", alice.join("magic")).unwrap();
        dir
    }

    #[test]
    fn no_link_leads_out_of_what_it_is_kept_within() {
        let dir = members();
        let alice = dir.path().join("alice");
        let (free, kept) = (Root::new(alice.clone(), None), Root::new(alice.clone(), Some(alice.clone())));
        for key in ["config", "data", "roundabout/config", "magic/etc/passwd"] {
            free.metadata(key).unwrap();
            let error = kept.metadata(key).unwrap_err();
            assert_eq!(kept.error(key, error).kind(), Kind::Denied, "{key}");
            kept.open(key, OFlags::RDONLY).unwrap_err();
        }
        free.entries("data").unwrap();
        assert!(kept.entries("data").is_err());
        assert!(kept.metadata("inside/config").unwrap().is_file());
        let names = |root: &Root, key: &str| root.entries(key).unwrap().flatten().count();
        assert_eq!((names(&kept, ""), names(&kept, "inside")), (6, 1));
        assert_eq!(kept.error("x", kept.metadata("x").unwrap_err()).kind(), Kind::NotFound);
        assert_eq!(names(&free, ""), 6);
    }

    #[test]
    fn what_lies_further_down_is_kept_within_what_lies_above() {
        let dir = members();
        let (alice, own) = (dir.path().join("alice"), dir.path().join("alice/own"));
        symlink("../inside/config", own.join("up")).unwrap();
        symlink("../../bob/config", own.join("out")).unwrap();
        let root = Root::new(own.clone(), Some(alice));
        assert!(root.metadata("up").unwrap().is_file());
        assert!(root.metadata("out").is_err());
        let elsewhere = Root::new(own, Some(dir.path().join("bob")));
        assert!(elsewhere.metadata("config").is_err(), "it does not lie there at all");
    }
}
