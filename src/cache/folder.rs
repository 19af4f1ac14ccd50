//! A directory of the cache: ours alone, or not used.
//!
//! Others may try to plant files or links where a cache will be. Everything is opened relative to a directory that was
//! checked, links are not followed, and what belongs to somebody else or is open to others for writing is refused.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::error::{Error, Kind, Result};

/// Nobody but the owner may write.
const OTHERS_WRITE: u32 = 0o022;

/// The file whose lock is the directory's.
const LOCK: &str = "lock";

/// An open directory.
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

/// A file as its directory tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lying {
    /// Its length.
    pub bytes: u64,
    /// When it was last written to.
    pub changed: SystemTime,
}

/// Held while a directory is being changed. Other processes, and other threads of this one, wait or go without.
pub struct Lock(#[allow(dead_code, reason = "held, not read")] File);

impl Folder {
    /// Opens the cache directory `path`, made with mode 0700 where it is missing. Errors: `Denied` when it is a link, is
    /// somebody else's or may be written to by others; else as the system has it.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(parent) = path.parent() {
            let mut builder = std::fs::DirBuilder::new();
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.recursive(true).create(parent).map_err(|e| Error::io(parent.display().to_string(), e))?;
        }
        Folder::at(CWD, path, path.to_owned())
    }

    /// The directory `name` in this one.
    pub fn below(&self, name: &str) -> Result<Self> {
        let name = one_component(name)?;
        Folder::at(&self.fd, Path::new(name), self.path.join(name))
    }

    fn at(above: impl std::os::fd::AsFd, name: &Path, path: PathBuf) -> Result<Self> {
        let said = |e: Errno| Error::io(path.display().to_string(), e.into());
        match rustix::fs::mkdirat(&above, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(said(e)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&above, name, flags, Mode::empty()).map_err(|e| match e {
            Errno::LOOP | Errno::NOTDIR => refused(&path, "it is a link or no directory"),
            e => said(e),
        })?;
        let stat = rustix::fs::fstat(&fd).map_err(said)?;
        check(&path, &stat)?;
        Ok(Folder { fd, path })
    }

    /// The names of what is in it.
    pub fn names(&self) -> Result<Vec<String>> {
        let said = |e: Errno| self.failed("", e);
        let entries = Dir::read_from(&self.fd).map_err(said)?;
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry.map_err(said)?.file_name().to_str()
                && !matches!(name, "." | "..")
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Opens a file for reading. Errors: `Denied` for links and what is not ours alone.
    pub fn open_file(&self, name: &str) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        self.openat(name, flags)
    }

    /// Opens a file for reading and writing. Errors as [`Folder::open_file`].
    pub fn open_for_writing(&self, name: &str) -> Result<File> {
        self.openat(name, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK)
    }

    /// Makes a new file of mode 0600, for writing and reading.
    pub fn create(&self, name: &str) -> Result<File> {
        self.openat(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC)
    }

    fn openat(&self, name: &str, flags: OFlags) -> Result<File> {
        let path = self.path.join(name);
        let fd = rustix::fs::openat(&self.fd, one_component(name)?, flags, Mode::RUSR | Mode::WUSR);
        let fd = fd.map_err(|e| match e {
            Errno::LOOP => refused(&path, "it is a link"),
            e => self.failed(name, e),
        })?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| self.failed(name, e))?;
        check(&path, &stat)?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
            return Err(refused(&path, "it is no regular file"));
        }
        Ok(File::from(fd))
    }

    /// Gives `file`, which was created here as `from`, its name, once its content is safe. Replaces what has that name.
    pub fn finish(&self, file: &File, from: &str, to: &str) -> Result<()> {
        self.rename(file, from, to, RenameFlags::empty())
    }

    /// The same, unless something has that name: then `from` goes, and the answer is false.
    pub fn finish_first(&self, file: &File, from: &str, to: &str) -> Result<bool> {
        match self.rename(file, from, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(error) => {
                self.remove(from)?;
                self.stat(to).map(|_| false).map_err(|_| error)
            }
        }
    }

    fn rename(&self, file: &File, from: &str, to: &str, flags: RenameFlags) -> Result<()> {
        file.sync_all().map_err(|e| Error::io(self.path.join(from).display().to_string(), e))?;
        rustix::fs::renameat_with(&self.fd, one_component(from)?, &self.fd, one_component(to)?, flags)
            .and_then(|()| rustix::fs::fsync(&self.fd))
            .map_err(|e| self.failed(to, e))
    }

    /// A file as it lies here, not what it leads to.
    pub fn stat(&self, name: &str) -> Result<Lying> {
        let stat = rustix::fs::statat(&self.fd, one_component(name)?, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(|e| self.failed(name, e))?;
        let changed =
            Duration::new(stat.st_mtime.try_into().unwrap_or(0), stat.st_mtime_nsec.try_into().unwrap_or(0));
        Ok(Lying { bytes: stat.st_size.try_into().unwrap_or(0), changed: SystemTime::UNIX_EPOCH + changed })
    }

    /// Bytes that may still be written to the file system.
    pub fn free_space(&self) -> Result<u64> {
        let system = rustix::fs::fstatvfs(&self.fd).map_err(|e| self.failed("", e))?;
        Ok(system.f_bavail.saturating_mul(system.f_frsize))
    }

    /// Removes a file; none is as good.
    pub fn remove(&self, name: &str) -> Result<()> {
        match rustix::fs::unlinkat(&self.fd, one_component(name)?, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(self.failed(name, e)),
        }
    }

    /// How long ago a file was written.
    pub fn age(&self, name: &str) -> Result<Duration> {
        Ok(SystemTime::now().duration_since(self.stat(name)?.changed).unwrap_or_default())
    }

    /// The lock of this directory; `None` while another process or thread holds it.
    pub fn lock(&self) -> Result<Option<Lock>> {
        let file = self.openat(LOCK, OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC)?;
        Ok(self.claim(LOCK, &file)?.then_some(Lock(file)))
    }

    /// Claims a file until it is closed; false while another, in this process or elsewhere, has it open and claimed.
    pub fn claim(&self, name: &str, file: &File) -> Result<bool> {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(e) => Err(self.failed(name, e)),
        }
    }

    fn failed(&self, name: &str, error: Errno) -> Error {
        Error::io(self.path.join(name).display().to_string(), error.into())
    }
}

/// Refuses what is not ours alone to write.
fn check(path: &Path, stat: &rustix::fs::Stat) -> Result<()> {
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(refused(path, "it belongs to another user"));
    }
    if stat.st_mode & OTHERS_WRITE != 0 {
        return Err(refused(path, "others may write to it"));
    }
    Ok(())
}

fn refused(path: &Path, why: &str) -> Error {
    Error::new(Kind::Denied, format!("{}: not used: {why}", path.display()))
}

/// A name that leads nowhere else.
fn one_component(name: &str) -> Result<&str> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
        return Err(Error::new(Kind::Invalid, format!("{name:?} is no name in a cache directory")));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn refusal<T>(answer: Result<T>) -> String {
        let error = answer.err().unwrap();
        assert_eq!(error.kind(), Kind::Denied, "{error}");
        error.to_string()
    }

    #[test]
    fn what_is_made_is_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/cache");
        let cache = Folder::open(&path).unwrap();
        let below = cache.below("index").unwrap();
        let mut file = below.create("x.new").unwrap();
        file.write_all(b"content").unwrap();
        below.finish(&file, "x.new", "x").unwrap();
        for made in ["a", "a/b", "a/b/cache", "a/b/cache/index"] {
            assert_eq!(mode(&dir.path().join(made)), 0o700, "{made}");
        }
        assert_eq!(mode(&path.join("index/x")), 0o600);
        assert_eq!(below.names().unwrap(), ["x"]);
        let mut read = String::new();
        below.open_file("x").unwrap().read_to_string(&mut read).unwrap();
        assert_eq!(read, "content");
        assert!(below.age("x").unwrap() < Duration::from_secs(3600));
        assert!(below.create("x").is_err(), "it is there already");
        below.remove("x").unwrap();
        below.remove("x").unwrap();
        assert_eq!(below.open_file("x").unwrap_err().kind(), Kind::NotFound);
        assert!(below.names().unwrap().is_empty());
    }

    #[test]
    fn planted_directories_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        assert!(refusal(Folder::open(&link)).contains("it is a link"));
        for open in [0o770, 0o707, 0o777] {
            fs::set_permissions(&real, fs::Permissions::from_mode(open)).unwrap();
            assert!(refusal(Folder::open(&real)).contains("others may write"), "{open:o}");
        }
        fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).unwrap();
        let cache = Folder::open(&real).unwrap();
        symlink(dir.path(), real.join("index")).unwrap();
        assert!(refusal(cache.below("index")).contains("it is a link"));
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(refusal(Folder::open(&dir.path().join("file"))).contains("no directory"));
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&real, Some(1000), None).unwrap();
            assert!(refusal(Folder::open(&real)).contains("another user"));
        }
    }

    #[test]
    fn planted_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Folder::open(&dir.path().join("cache")).unwrap();
        let place = |name: &str| dir.path().join("cache").join(name);
        fs::write(dir.path().join("elsewhere"), "").unwrap();
        symlink(dir.path().join("elsewhere"), place("link")).unwrap();
        assert!(refusal(cache.open_file("link")).contains("it is a link"));
        symlink(dir.path().join("made"), place("lock")).unwrap();
        assert!(refusal(cache.lock()).contains("it is a link"));
        assert!(!dir.path().join("made").exists());
        fs::write(place("open"), "").unwrap();
        fs::set_permissions(place("open"), fs::Permissions::from_mode(0o666)).unwrap();
        assert!(refusal(cache.open_file("open")).contains("others may write"));
        rustix::fs::mknodat(CWD, place("pipe"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(refusal(cache.open_file("pipe")).contains("no regular file"));
    }

    #[test]
    fn the_first_of_two_that_finish_a_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Folder::open(dir.path()).unwrap();
        for (content, is_first) in [("one", true), ("other", false)] {
            let mut file = cache.create("x.new").unwrap();
            file.write_all(content.as_bytes()).unwrap();
            assert_eq!(cache.finish_first(&file, "x.new", "x").unwrap(), is_first);
            assert_eq!(cache.names().unwrap(), ["x"]);
            assert_eq!(cache.stat("x").unwrap().bytes, 3);
        }
        let mut file = cache.open_for_writing("x").unwrap();
        assert!(cache.claim("x", &file).unwrap());
        assert!(!cache.claim("x", &cache.open_file("x").unwrap()).unwrap());
        file.write_all(b"longer").unwrap();
        drop(file);
        assert!(cache.claim("x", &cache.open_file("x").unwrap()).unwrap());
        assert_eq!(cache.stat("x").unwrap().bytes, 6);
        assert!(cache.free_space().unwrap() > 0);
    }

    #[test]
    fn names_lead_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Folder::open(dir.path()).unwrap();
        for name in ["", ".", "..", "a/b", "../x", "/etc", "a\0"] {
            assert_eq!(cache.below(name).err().unwrap().kind(), Kind::Invalid, "{name:?}");
            assert_eq!(cache.create(name).unwrap_err().kind(), Kind::Invalid, "{name:?}");
            assert_eq!(cache.remove(name).unwrap_err().kind(), Kind::Invalid, "{name:?}");
        }
    }

    #[test]
    fn one_at_a_time_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (Folder::open(dir.path()).unwrap(), Folder::open(dir.path()).unwrap());
        let held = one.lock().unwrap().unwrap();
        assert!(other.lock().unwrap().is_none() && one.lock().unwrap().is_none());
        drop(held);
        assert!(other.lock().unwrap().is_some());
    }
}
