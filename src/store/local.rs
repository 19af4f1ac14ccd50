//! A store in a directory of this machine (or of a file server mounted on it).
//!
//! Every call is a few blocking system calls on a pool of its own, bounded per store: a hung file server holds up its
//! own calls and nobody else's. Nothing is kept open between calls, so that the file system below can be unmounted. Large
//! ranges are read past the page cache.
//!
//! Symbolic links are followed, for objects and for directories alike: people move `data/` to another disk. What a link
//! leads to is read as part of the repository and believed as little as the rest of it. Only regular files are objects;
//! a pipe or a device in their place is opened without blocking and refused.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::Semaphore;

use super::direct;
use super::key::{check_key, check_limit, check_prefix, check_range};
use super::{Level, ObjectInfo, ObjectStore, Pace, counted};
use crate::error::{Error, Kind, Result};
use crate::observe::metrics;

/// Blocking calls of one store at a time: enough to keep a disk array or a file server busy.
const CALLS: usize = 16;

/// A directory whose regular files are the objects.
///
/// Its futures must be awaited inside a tokio runtime.
pub struct Local {
    root: Arc<Path>,
    name: String,
    calls: Arc<Semaphore>,
}

impl Local {
    /// The store in the directory `path`. Errors: `NotFound`, `NotDirectory`, `Denied`.
    pub fn new(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let root = std::path::absolute(path).map_err(|e| Error::io(&name, e))?;
        fs::read_dir(&root).map_err(|e| Error::io(&name, e))?;
        Ok(Local { root: root.into(), name, calls: Arc::new(Semaphore::new(CALLS)) })
    }

    /// Runs `call` with the root on the blocking pool.
    ///
    /// The permit goes with the call, not with the future: an abandoned call that hangs still counts.
    fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Path) -> Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        let (root, calls) = (self.root.clone(), self.calls.clone());
        async move {
            let permit = calls.acquire_owned().await.map_err(|e| broken("waiting for a call", e))?;
            let run = move || {
                let result = call(&root);
                drop(permit);
                result
            };
            tokio::task::spawn_blocking(run).await.map_err(|e| broken("running a call", e))?
        }
        .boxed()
    }
}

fn broken(doing: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused_by(Kind::Internal, format!("store: {doing}"), error)
}

impl ObjectStore for Local {
    fn name(&self) -> &str {
        &self.name
    }

    fn pace(&self) -> Pace {
        Pace::LOCAL
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ObjectInfo>>> {
        metrics::STORE_LISTS.add(1);
        let prefix = prefix.to_owned();
        self.blocking(move |root| list(root, prefix))
    }

    fn list_level<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Level>> {
        metrics::STORE_LISTS.add(1);
        let prefix = prefix.to_owned();
        self.blocking(move |root| list_level(root, &prefix))
    }

    fn newest<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Option<SystemTime>>> {
        metrics::STORE_LISTS.add(1);
        let prefix = prefix.to_owned();
        self.blocking(move |root| newest(root, prefix))
    }

    fn stat<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectInfo>> {
        let key = key.to_owned();
        self.blocking(move |root| {
            let (_, size) = open(root, &key)?;
            Ok(ObjectInfo { key, size })
        })
    }

    fn get<'a>(&'a self, key: &'a str, limit: u64) -> BoxFuture<'a, Result<Bytes>> {
        let key = key.to_owned();
        self.blocking(move |root| {
            let (file, size) = open(root, &key)?;
            check_limit(&key, size, limit)?;
            read_exact(&file, &key, 0, size)
        })
    }

    fn get_range<'a>(&'a self, key: &'a str, offset: u64, length: u64) -> BoxFuture<'a, Result<Bytes>> {
        let key = key.to_owned();
        self.blocking(move |root| {
            let (file, size) = open(root, &key)?;
            check_range(&key, size, offset, length)?;
            if let Some(bytes) = direct::read(&file, offset, length) {
                return Ok(counted(bytes));
            }
            read_exact(&file, &key, offset, length)
        })
    }
}

/// Opens an object and tells its size.
fn open(root: &Path, key: &str) -> Result<(File, u64)> {
    check_key(key)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::openat(CWD, root.join(key), flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(e) => return Err(failed(root, key, e.into())),
    };
    let meta = file.metadata().map_err(|e| Error::io(key, e))?;
    if !meta.is_file() {
        return Err(Error::new(Kind::NotFound, format!("{key}: not a regular file")));
    }
    Ok((file, meta.len()))
}

/// The error of looking for `key`: that it is absent can only be said while the store itself is there.
fn failed(root: &Path, key: &str, error: io::Error) -> Error {
    if !is_absence(&error) {
        return Error::io(key, error);
    }
    match fs::read_dir(root) {
        Ok(_) => Error::caused_by(Kind::NotFound, key, error),
        Err(gone) => unreachable_root(root, gone),
    }
}

fn unreachable_root(root: &Path, error: io::Error) -> Error {
    Error::caused_by(Kind::Unavailable, format!("the directory {} cannot be read", root.display()), error)
}

/// No such path, or a file where a directory would have to be.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Exactly `length` bytes from `offset`, which lay within the object when it was opened.
fn read_exact(file: &File, key: &str, offset: u64, length: u64) -> Result<Bytes> {
    let too_large = || Error::new(Kind::System, format!("{key}: no memory for {length} bytes"));
    let wanted = usize::try_from(length).map_err(|_| too_large())?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(wanted).map_err(|_| too_large())?;
    while bytes.len() < wanted {
        let at = offset + bytes.len() as u64;
        // Reads a little more than wanted where the allocator rounded up.
        match rustix::io::pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(Error::new(Kind::Corrupt, format!("{key}: cut short while it was read"))),
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(Error::io(key, e.into())),
        }
    }
    bytes.truncate(wanted);
    Ok(counted(bytes.into()))
}

/// Every object below `prefix`.
fn list(root: &Path, prefix: String) -> Result<Vec<ObjectInfo>> {
    check_prefix(&prefix)?;
    let mut walk = Walk { found: Vec::new(), above: Vec::new() };
    if !walk.directory(&root.join(&prefix), &prefix)? {
        fs::read_dir(root).map_err(|e| unreachable_root(root, e))?;
    }
    Ok(walk.found)
}

/// What lies directly below `prefix`. Directories are told by their entries alone where the file system says what those
/// are, so that a hundred thousand of them cost no call each.
fn list_level(root: &Path, prefix: &str) -> Result<Level> {
    check_prefix(prefix)?;
    let path = root.join(prefix);
    let mut level = Level::default();
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(e) if is_absence(&e) => {
            return fs::read_dir(root).map(|_| level).map_err(|e| unreachable_root(root, e));
        }
        Err(e) => return Err(Error::io(path.display().to_string(), e)),
    };
    for entry in entries {
        let entry = entry.map_err(|e| Error::io(path.display().to_string(), e))?;
        let name = entry.file_name();
        let Some(key) = name.to_str().map(|name| format!("{prefix}{name}")) else { continue };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            level.below.push(key + "/");
            continue;
        }
        match fs::metadata(entry.path()) {
            Ok(meta) if meta.is_dir() => level.below.push(key + "/"),
            Ok(meta) if meta.is_file() => level.objects.push(ObjectInfo { key, size: meta.len() }),
            Ok(_) => {}
            // Removed since, or a link to nowhere.
            Err(e) if is_absence(&e) => {}
            Err(e) => return Err(Error::io(entry.path().display().to_string(), e)),
        }
    }
    Ok(level)
}

/// When the newest object below `prefix` was written.
fn newest(root: &Path, prefix: String) -> Result<Option<SystemTime>> {
    let mut newest = None;
    for object in list(root, prefix)? {
        let path = root.join(&object.key);
        match fs::metadata(&path).and_then(|meta| meta.modified()) {
            Ok(written) => newest = newest.max(Some(written)),
            Err(e) if is_absence(&e) => {}
            Err(e) => return Err(Error::io(path.display().to_string(), e)),
        }
    }
    Ok(newest)
}

/// A walk through directories, links followed.
struct Walk {
    found: Vec<ObjectInfo>,
    /// Device and inode of the directories that lead to the present one: a link back to one of them is left out.
    above: Vec<(u64, u64)>,
}

impl Walk {
    /// Walks one directory; `prefix` is its key with a slash at the end. False when there is none: others may remove
    /// it at any time.
    fn directory(&mut self, path: &Path, prefix: &str) -> Result<bool> {
        let listed = fs::metadata(path).and_then(|meta| Ok((meta, fs::read_dir(path)?)));
        let (meta, entries) = match listed {
            Ok(listed) => listed,
            Err(e) if is_absence(&e) => return Ok(false),
            Err(e) => return Err(Error::io(path.display().to_string(), e)),
        };
        let own = (meta.dev(), meta.ino());
        if self.above.contains(&own) {
            return Ok(true);
        }
        self.above.push(own);
        for entry in entries {
            let entry = entry.map_err(|e| Error::io(path.display().to_string(), e))?;
            if let Some(name) = entry.file_name().to_str() {
                self.entry(entry.path(), format!("{prefix}{name}"))?;
            }
        }
        self.above.pop();
        Ok(true)
    }

    fn entry(&mut self, path: PathBuf, key: String) -> Result<()> {
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => self.directory(&path, &(key + "/")).map(drop),
            Ok(meta) if meta.is_file() => {
                self.found.push(ObjectInfo { key, size: meta.len() });
                Ok(())
            }
            Ok(_) => Ok(()),
            // Removed since, or a link to nowhere.
            Err(e) if is_absence(&e) => Ok(()),
            Err(e) => Err(Error::io(path.display().to_string(), e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn directory() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("data/00")).unwrap();
        fs::write(dir.path().join("data/00/x"), "0123456789").unwrap();
        dir
    }

    async fn keys(store: &Local, prefix: &str) -> Vec<String> {
        let mut keys: Vec<_> = store.list(prefix).await.unwrap().into_iter().map(|o| o.key).collect();
        keys.sort();
        keys
    }

    fn refusal(path: impl AsRef<Path>) -> Kind {
        Local::new(path).err().unwrap().kind()
    }

    #[tokio::test]
    async fn the_newest_object_tells_when_it_was_written() {
        let dir = directory();
        let store = Local::new(dir.path()).unwrap();
        let written = |n| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n);
        for (name, at) in [("a", 1_000), ("b", 3_000), ("c", 2_000)] {
            let file = fs::File::create(dir.path().join("data/00").join(name)).unwrap();
            file.set_modified(written(at)).unwrap();
        }
        fs::remove_file(dir.path().join("data/00/x")).unwrap();
        assert_eq!(store.newest("data/").await.unwrap(), Some(written(3_000)));
        assert_eq!(store.newest("keys/").await.unwrap(), None);
    }

    #[test]
    fn a_missing_directory_or_a_file_is_refused_at_once() {
        let dir = directory();
        assert_eq!(refusal(dir.path().join("missing")), Kind::NotFound);
        assert_eq!(refusal(dir.path().join("data/00/x")), Kind::NotDirectory);
    }

    #[tokio::test]
    async fn a_store_that_went_away_is_unavailable_and_never_empty() {
        let dir = directory();
        let store = Local::new(dir.path()).unwrap();
        fs::rename(dir.path(), dir.path().with_extension("away")).unwrap();
        assert_eq!(store.list("").await.unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(store.list("data/").await.unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(store.list_level("").await.unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(store.list_level("data/").await.unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(store.stat("data/00/x").await.unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(store.get("data/00/x", 99).await.unwrap_err().kind(), Kind::Unavailable);
        fs::rename(dir.path().with_extension("away"), dir.path()).unwrap();
        assert_eq!(store.get("data/00/x", 99).await.unwrap(), "0123456789");
    }

    #[tokio::test]
    async fn links_are_followed_and_loops_and_dead_ends_left_out() {
        let (dir, elsewhere) = (directory(), directory());
        fs::remove_dir_all(dir.path().join("data")).unwrap();
        symlink(elsewhere.path().join("data"), dir.path().join("data")).unwrap();
        symlink("x", elsewhere.path().join("data/00/same")).unwrap();
        symlink("..", elsewhere.path().join("data/00/loop")).unwrap();
        symlink(".", elsewhere.path().join("data/00/self")).unwrap();
        symlink("nowhere", elsewhere.path().join("data/00/dead")).unwrap();
        let store = Local::new(dir.path()).unwrap();
        assert_eq!(keys(&store, "").await, ["data/00/same", "data/00/x"]);
        assert_eq!(store.list_level("").await.unwrap().below, ["data/"]);
        let mut level = store.list_level("data/00/").await.unwrap();
        level.below.sort();
        assert_eq!(
            (level.below, level.objects.len()),
            (vec!["data/00/loop/".into(), "data/00/self/".into()], 2)
        );
        assert_eq!(store.get("data/00/same", 99).await.unwrap(), "0123456789");
    }

    #[tokio::test]
    async fn only_regular_files_with_text_names_are_objects() {
        use std::os::unix::ffi::OsStrExt;
        let dir = directory();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"latin\xe9")), "x").unwrap();
        let store = Local::new(dir.path()).unwrap();
        assert_eq!(keys(&store, "").await, ["data/00/x"]);
        for key in ["pipe", "data/00", "data/00/x/y"] {
            assert_eq!(store.get(key, 99).await.unwrap_err().kind(), Kind::NotFound, "{key}");
            assert_eq!(store.stat(key).await.unwrap_err().kind(), Kind::NotFound, "{key}");
        }
    }

    #[tokio::test]
    async fn an_absurd_range_costs_no_memory() {
        let dir = directory();
        let store = Local::new(dir.path()).unwrap();
        let error = store.get_range("data/00/x", 5, u64::MAX / 2).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
    }

    #[tokio::test]
    async fn abandoned_calls_keep_their_place_until_they_end() {
        let dir = directory();
        let store = Local::new(dir.path()).unwrap();
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let (started, running) = tokio::sync::oneshot::channel();
        let call = store.blocking(move |_| {
            started.send(()).unwrap();
            hang.recv().map_err(|e| broken("test", e))
        });
        let abandoned = tokio::spawn(call);
        running.await.unwrap();
        abandoned.abort();
        assert!(abandoned.await.unwrap_err().is_cancelled());
        assert_eq!(store.calls.available_permits(), CALLS - 1);
        release.send(()).unwrap();
        let all = store.calls.acquire_many(u32::try_from(CALLS).unwrap()).await.unwrap();
        drop(all);
        assert_eq!(store.get("data/00/x", 99).await.unwrap().len(), 10);
    }
}
