//! A store in a directory of this machine (or of a file server mounted on it).
//!
//! Every call is a few blocking system calls, bounded per store and per file system ([`Place`]): a hung file server holds
//! up its own calls and nobody else's. Nothing is kept open between calls, so that the file system below can be unmounted. Large
//! ranges are read past the page cache.
//!
//! Symbolic links are followed, for objects and for directories alike: people move `data/` to another disk. What a link
//! leads to is read as part of the repository and believed as little as the rest of it. Where it must not lead out of a
//! directory, [`Local::within`] says so. Only regular files are objects; a pipe or a device in their place is opened
//! without blocking and refused.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustix::buffer::spare_capacity;
use rustix::fs::OFlags;
use rustix::io::Errno;
use tokio::sync::Semaphore;

use super::direct;
use super::key::{check_key, check_limit, check_prefix, check_range};
use super::root::Root;
use super::{Level, ObjectInfo, ObjectStore, Pace, Place, counted};
use crate::error::{Error, Kind, Result};
use crate::observe::metrics;

/// Blocking calls of one store at a time: enough to keep a disk array or a file server busy.
const CALLS: usize = 16;

/// A directory whose regular files are the objects.
///
/// Its futures must be awaited inside a tokio runtime.
pub struct Local {
    root: Arc<Root>,
    name: String,
    calls: Arc<Semaphore>,
    place: Arc<Place>,
}

impl Local {
    /// The store in the directory `path`, which is looked at. Errors: `NotFound`, `NotDirectory`, `Denied`.
    pub fn new(path: impl AsRef<Path>) -> Result<Self> {
        Self::looked_at(path.as_ref(), None)
    }

    /// The same, with every link that leads out of `within`, which holds `path` or is it, refused as `Denied`.
    pub fn within(path: impl AsRef<Path>, within: &Path) -> Result<Self> {
        Self::looked_at(path.as_ref(), Some(within))
    }

    fn looked_at(path: &Path, within: Option<&Path>) -> Result<Self> {
        let local = Self::at(path, within, Place::alone())?;
        local.root.entries("").map_err(|e| local.root.error("", e))?;
        Ok(local)
    }

    /// The store in the directory `path`, which lies on `place` and is not looked at before something is asked for. Every
    /// link that leads out of `within` is refused.
    pub fn at(path: &Path, within: Option<&Path>, place: Arc<Place>) -> Result<Self> {
        let name = path.display().to_string();
        let absolute = |path: &Path| std::path::absolute(path).map_err(|e| Error::io(&name, e));
        let root = Root::new(absolute(path)?, within.map(absolute).transpose()?);
        Ok(Local { root: Arc::new(root), name, calls: Arc::new(Semaphore::new(CALLS)), place })
    }

    /// Runs `call` with the root on the blocking pool.
    ///
    /// The permits go with the call, not with the future: an abandoned call that hangs still counts.
    fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Root) -> Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        let (root, calls, place) = (self.root.clone(), self.calls.clone(), Arc::clone(&self.place));
        async move {
            let closed = |e| Error::caused_by(Kind::Internal, "store: waiting for a call", e);
            let permit = calls.acquire_owned().await.map_err(closed)?;
            let run = move || {
                let result = call(&root);
                drop(permit);
                result
            };
            place.run(run).await?
        }
        .boxed()
    }
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
        self.blocking(move |root| list(root, &prefix))
    }

    fn list_level<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Level>> {
        metrics::STORE_LISTS.add(1);
        let prefix = prefix.to_owned();
        self.blocking(move |root| list_level(root, &prefix))
    }

    fn newest<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Option<SystemTime>>> {
        metrics::STORE_LISTS.add(1);
        let prefix = prefix.to_owned();
        self.blocking(move |root| newest(root, &prefix))
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
fn open(root: &Root, key: &str) -> Result<(File, u64)> {
    check_key(key)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = root.open(key, flags).map_err(|e| failed(root, key, e))?;
    let meta = file.metadata().map_err(|e| Error::io(key, e))?;
    if !meta.is_file() {
        return Err(Error::new(Kind::NotFound, format!("{key}: not a regular file")));
    }
    Ok((file, meta.len()))
}

/// The error of looking for `key`: that it is absent can only be said while the store itself is there.
fn failed(root: &Root, key: &str, error: io::Error) -> Error {
    if !is_absence(&error) {
        return root.error(key, error);
    }
    match root.entries("") {
        Ok(_) => Error::caused_by(Kind::NotFound, key, error),
        Err(gone) => unreachable_root(root, gone),
    }
}

fn unreachable_root(root: &Root, error: io::Error) -> Error {
    let says = format!("the directory {} cannot be read", root.path_of("").display());
    Error::caused_by(Kind::Unavailable, says, error)
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
fn list(root: &Root, prefix: &str) -> Result<Vec<ObjectInfo>> {
    check_prefix(prefix)?;
    let mut walk = Walk { root, found: Vec::new(), above: Vec::new() };
    if !walk.directory(prefix)? {
        root.entries("").map_err(|e| unreachable_root(root, e))?;
    }
    Ok(walk.found)
}

/// What lies directly below `prefix`. Directories are told by their entries alone where the file system says what those
/// are, so that a hundred thousand of them cost no call each.
fn list_level(root: &Root, prefix: &str) -> Result<Level> {
    check_prefix(prefix)?;
    let mut level = Level::default();
    let entries = match root.entries(prefix) {
        Ok(entries) => entries,
        Err(e) if is_absence(&e) => {
            return root.entries("").map(|_| level).map_err(|e| unreachable_root(root, e));
        }
        Err(e) => return Err(root.error(prefix, e)),
    };
    for entry in entries {
        let entry = entry.map_err(|e| root.error(prefix, e))?;
        let name = entry.file_name();
        let Some(key) = name.to_str().map(|name| format!("{prefix}{name}")) else { continue };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            level.below.push(key + "/");
            continue;
        }
        match root.metadata(&key) {
            Ok(meta) if meta.is_dir() => level.below.push(key + "/"),
            Ok(meta) if meta.is_file() => level.objects.push(ObjectInfo { key, size: meta.len() }),
            Ok(_) => {}
            // Removed since, or a link to nowhere.
            Err(e) if is_absence(&e) => {}
            Err(e) => return Err(root.error(&key, e)),
        }
    }
    Ok(level)
}

/// When the newest object below `prefix` was written.
fn newest(root: &Root, prefix: &str) -> Result<Option<SystemTime>> {
    let mut newest = None;
    for ObjectInfo { key, .. } in list(root, prefix)? {
        match root.metadata(&key).and_then(|meta| meta.modified()) {
            Ok(written) => newest = newest.max(Some(written)),
            Err(e) if is_absence(&e) => {}
            Err(e) => return Err(root.error(&key, e)),
        }
    }
    Ok(newest)
}

/// A walk through directories, links followed.
struct Walk<'a> {
    root: &'a Root,
    found: Vec<ObjectInfo>,
    /// Device and inode of the directories that lead to the present one: a link back to one of them is left out.
    above: Vec<(u64, u64)>,
}

impl Walk<'_> {
    /// Walks the directory whose key, with a slash at the end, is `prefix`. False when there is none: others may remove
    /// it at any time.
    fn directory(&mut self, prefix: &str) -> Result<bool> {
        let root = self.root;
        let (meta, entries) = match root.metadata(prefix).and_then(|meta| Ok((meta, root.entries(prefix)?))) {
            Ok(listed) => listed,
            Err(e) if is_absence(&e) => return Ok(false),
            Err(e) => return Err(root.error(prefix, e)),
        };
        let own = (meta.dev(), meta.ino());
        if self.above.contains(&own) {
            return Ok(true);
        }
        self.above.push(own);
        for entry in entries {
            let entry = entry.map_err(|e| root.error(prefix, e))?;
            if let Some(name) = entry.file_name().to_str() {
                self.entry(format!("{prefix}{name}"))?;
            }
        }
        self.above.pop();
        Ok(true)
    }

    fn entry(&mut self, key: String) -> Result<()> {
        match self.root.metadata(&key) {
            Ok(meta) if meta.is_dir() => self.directory(&(key + "/")).map(drop),
            Ok(meta) if meta.is_file() => {
                self.found.push(ObjectInfo { key, size: meta.len() });
                Ok(())
            }
            Ok(_) => Ok(()),
            // Removed since, or a link to nowhere.
            Err(e) if is_absence(&e) => Ok(()),
            Err(e) => Err(self.root.error(&key, e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, Mode};

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
    async fn links_out_of_what_a_store_is_kept_within_are_an_error_and_nothing_else() {
        let (dir, elsewhere) = (directory(), directory());
        symlink(elsewhere.path().join("data"), dir.path().join("more")).unwrap();
        symlink("data/00/x", dir.path().join("same")).unwrap();
        let store = Local::within(dir.path(), dir.path()).unwrap();
        assert_eq!(store.get("data/00/x", 99).await.unwrap(), "0123456789");
        assert_eq!(store.get("same", 99).await.unwrap(), "0123456789");
        assert_eq!(store.get_range("data/00/x", 2, 3).await.unwrap(), "234");
        assert_eq!(keys(&store, "data/").await, ["data/00/x"]);
        assert_eq!(store.get("absent", 99).await.unwrap_err().kind(), Kind::NotFound);
        for error in [
            store.get("more/00/x", 99).await.unwrap_err(),
            store.stat("more/00/x").await.unwrap_err(),
            store.list("").await.unwrap_err(),
            store.list("more/").await.unwrap_err(),
            store.list_level("").await.unwrap_err(),
        ] {
            assert!(error.kind() == Kind::Denied && error.to_string().contains("link"), "{error}");
        }
        assert_eq!(Local::new(dir.path()).unwrap().list("").await.unwrap().len(), 3);
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
            hang.recv().map_err(|e| Error::caused_by(Kind::Internal, "test", e))
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
