//! A machine as its files show it: this one, or a tree that stands for one.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::super::mountpoint::in_time;
use crate::error::{Error, Result};

/// No file that is looked at is longer; a table of 50,000 mounts is 8 MiB.
const LONGEST: u64 = 16 << 20;

/// A machine's files, by their absolute paths on it.
pub(super) struct Machine {
    /// `None` for this machine.
    root: Option<OwnedFd>,
    /// Whoever asks is root there.
    pub is_root: bool,
}

impl Machine {
    /// This machine.
    pub fn this() -> Result<Self> {
        Ok(Machine { root: None, is_root: rustix::process::geteuid().is_root() })
    }

    /// The machine whose root is the directory `root`: no link in it leads out of it.
    pub fn at(root: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, root, flags, Mode::empty())
            .map_err(|e| Error::io(root.display().to_string(), e.into()))?;
        Ok(Machine { root: Some(fd), ..Machine::this()? })
    }

    /// Whether it runs, and we on it.
    pub fn is_this(&self) -> bool {
        self.root.is_none()
    }

    /// The text of a file; `None` where there is none, or nothing that can be read.
    pub fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        self.bytes(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The same, byte for byte.
    pub fn bytes(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let fd = self.open(path.as_ref(), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).ok()?;
        let mut bytes = Vec::new();
        File::from(fd).take(LONGEST).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// What lies at `path`, where links lead to; `None` where nothing does. What does not answer in two seconds is an
    /// error, `TimedOut`.
    pub fn stat(&self, path: impl AsRef<Path>) -> io::Result<Option<Stat>> {
        self.look(path.as_ref(), OFlags::PATH)
    }

    /// What lies at `path` itself, be it a link. An automounter is not woken.
    pub fn lstat(&self, path: impl AsRef<Path>) -> io::Result<Option<Stat>> {
        self.look(path.as_ref(), OFlags::PATH | OFlags::NOFOLLOW)
    }

    fn look(&self, path: &Path, flags: OFlags) -> io::Result<Option<Stat>> {
        let (root, path) = (self.duplicate()?, path.to_owned());
        let look = move || match open(root.as_ref(), &path, flags).and_then(|fd| rustix::fs::fstat(&fd)) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(e.into()),
        };
        in_time(look).unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::TimedOut, "does not answer")))
    }

    /// A directory to ask further of, with `in_time` around what is asked.
    pub fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let (root, path) = (self.duplicate()?, path.to_owned());
        let look = move || Ok(open(root.as_ref(), &path, OFlags::RDONLY | OFlags::DIRECTORY)?);
        in_time(look).unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::TimedOut, "does not answer")))
    }

    /// Whether a program lies at one of `paths`: the first that does.
    pub fn program<'a>(&self, paths: &[&'a str]) -> Option<&'a str> {
        let is_program = |path: &&str| {
            self.stat(path)
                .is_ok_and(|stat| stat.is_some_and(|stat| is_file(&stat) && stat.st_mode & 0o111 != 0))
        };
        paths.iter().copied().find(|path| is_program(path))
    }

    /// The names in a directory, sorted; none where there is none.
    pub fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let Ok(fd) = self.open(path.as_ref(), OFlags::RDONLY | OFlags::DIRECTORY) else { return Vec::new() };
        let Ok(entries) = Dir::read_from(fd) else { return Vec::new() };
        let name = |entry: rustix::fs::DirEntry| entry.file_name().to_str().ok().map(str::to_owned);
        let mut names: Vec<String> = entries.filter_map(|entry| name(entry.ok()?)).collect();
        names.retain(|name| !matches!(name.as_str(), "." | ".."));
        names.sort_unstable();
        names
    }

    fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        open(self.root.as_ref(), path, flags)
    }

    fn duplicate(&self) -> io::Result<Option<OwnedFd>> {
        self.root.as_ref().map(|root| root.as_fd().try_clone_to_owned()).transpose()
    }
}

fn open(root: Option<&OwnedFd>, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    match root {
        Some(root) => rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT),
        None => rustix::fs::openat(CWD, path, flags, Mode::empty()),
    }
}

/// Whether it is an ordinary file.
pub(super) fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// The lines of a file that say something: without what follows `#`, and without blanks around.
pub(super) fn said(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| !line.is_empty())
}

/// A path as fstab and the kernel's tables write it, with blanks as `\040`.
pub(super) fn unescaped(field: &str) -> PathBuf {
    OsString::from_vec(crate::fuse::unescape(field.as_bytes())).into()
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A tree of files that stands for a machine.
    pub(in super::super) struct Fixture {
        dir: tempfile::TempDir,
        /// Whoever asks is root there.
        is_root: bool,
    }

    impl Fixture {
        pub fn new(is_root: bool) -> Self {
            Fixture { dir: tempfile::tempdir().unwrap(), is_root }
        }

        pub fn path(&self) -> &Path {
            self.dir.path()
        }

        /// With this file, and the directories above it.
        pub fn with(self, path: &str, text: &str) -> Self {
            self.with_mode(path, text, 0o644)
        }

        pub fn with_mode(self, path: &str, text: &str, mode: u32) -> Self {
            let path = self.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            self
        }

        pub fn with_directory(self, path: &str, mode: u32) -> Self {
            let path = self.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            self
        }

        pub fn with_link(self, path: &str, target: &str) -> Self {
            let path = self.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
            self
        }

        pub fn machine(&self) -> Machine {
            Machine { is_root: self.is_root, ..Machine::at(self.path()).unwrap() }
        }
    }

    #[test]
    fn files_are_found_below_the_root_and_links_stay_in_it() {
        let fixture = Fixture::new(true)
            .with("/etc/real", "inside")
            .with_link("/etc/link", "/etc/real")
            .with_link("/etc/out", "../../../../../../etc/passwd")
            .with_link("/etc/loop", "loop")
            .with_mode("/usr/bin/tool", "", 0o755);
        let machine = fixture.machine();
        assert_eq!(machine.text("/etc/link").unwrap(), "inside");
        assert_eq!(machine.text("/etc/out"), None);
        assert_eq!(machine.text("/etc/loop"), None);
        assert_eq!(machine.names("/etc"), ["link", "loop", "out", "real"]);
        assert!(machine.names("/none").is_empty());
        assert!(machine.stat("/etc/real").unwrap().is_some_and(|stat| is_file(&stat)));
        assert!(machine.lstat("/etc/link").unwrap().is_some_and(|stat| !is_file(&stat)));
        assert!(machine.stat("/none").unwrap().is_none());
        assert_eq!(machine.program(&["/etc/real", "/usr/bin/tool"]), Some("/usr/bin/tool"));
        assert_eq!(machine.program(&["/etc/real"]), None);
        assert!(machine.directory(Path::new("/etc")).is_ok() && machine.directory(Path::new("/x")).is_err());
    }

    #[test]
    fn this_machine_is_read_as_it_is() {
        let machine = Machine::this().unwrap();
        assert!(machine.is_this());
        assert!(machine.text("/proc/self/mountinfo").unwrap().contains("/proc"));
    }

    #[test]
    fn remarks_say_nothing() {
        assert_eq!(said("# a\n b # c\n\n#\nd").collect::<Vec<_>>(), ["b", "d"]);
        assert_eq!(unescaped("/mnt/a\\040b"), Path::new("/mnt/a b"));
    }
}
