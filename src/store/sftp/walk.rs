//! Lists what lies below a directory, several directories and several pieces of each at a time.
//!
//! Links are followed, but below a directory that a link led to no link to a directory is: a server tells nothing by
//! which a loop could be recognised.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream::FuturesOrdered;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::Sftp;
use super::connection::{Connection, Handle};
use super::packet::{Attributes, Named, Reply, Request, status};
use crate::error::{Error, Kind, Result};
use crate::store::key::{check_key, check_prefix};
use crate::store::{Level, ObjectInfo};

/// Directories listed at once.
const DIRECTORIES: usize = 16;

/// Pieces of a listing asked for at once; doubles while they keep coming.
const PIECES: usize = 64;

/// Links looked up at once.
const LINKS: usize = 64;

/// No listing is longer: one and a half million objects.
const LONGEST: usize = 512 << 20;

/// What an entry takes besides its name.
const ENTRY: usize = 64;

/// What a piece of a listing counts at least, so that a server that sends empty ones comes to an end too.
const PIECE: usize = 16 << 10;

/// A directory that is still to be listed.
struct Below {
    /// With a slash at its end, or empty.
    prefix: String,
    /// Whether a link led here.
    linked: bool,
}

/// Every object below `prefix`.
pub(super) async fn list(store: &Sftp, prefix: &str) -> Result<Vec<ObjectInfo>> {
    Ok(objects(store, prefix).await?.into_iter().map(|object| object.info).collect())
}

/// When the newest object below `prefix` was written.
pub(super) async fn newest(store: &Sftp, prefix: &str) -> Result<Option<SystemTime>> {
    let untold = || Error::new(Kind::Unsupported, format!("{prefix}: the server tells no times"));
    let mut newest = None;
    for object in objects(store, prefix).await? {
        newest = newest.max(Some(object.written.ok_or_else(untold)?));
    }
    Ok(newest.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into())))
}

async fn objects(store: &Sftp, prefix: &str) -> Result<Vec<Object>> {
    check_prefix(prefix)?;
    let connection = store.connection().await?;
    let walk = Walk { store, connection: &connection, taken: AtomicUsize::new(0) };
    let mut found = Vec::new();
    let mut todo = vec![Below { prefix: prefix.to_owned(), linked: false }];
    while !todo.is_empty() {
        let mut listings =
            stream::iter(todo.drain(..)).map(|below| walk.directory(below)).buffer_unordered(DIRECTORIES);
        let mut next = Vec::new();
        while let Some((objects, directories)) = listings.try_next().await? {
            found.extend(objects);
            next.extend(directories);
        }
        drop(listings);
        todo = next;
    }
    Ok(found)
}

/// What lies directly below `prefix`.
pub(super) async fn level(store: &Sftp, prefix: &str) -> Result<Level> {
    check_prefix(prefix)?;
    let connection = store.connection().await?;
    let walk = Walk { store, connection: &connection, taken: AtomicUsize::new(0) };
    let (objects, below) = walk.directory(Below { prefix: prefix.to_owned(), linked: false }).await?;
    let objects = objects.into_iter().map(|object| object.info).collect();
    Ok(Level { objects, below: below.into_iter().map(|below| below.prefix).collect() })
}

struct Walk<'a> {
    store: &'a Sftp,
    connection: &'a Connection,
    /// Memory that the listing takes so far.
    taken: AtomicUsize,
}

impl Walk<'_> {
    /// The objects and directories in a directory; neither where there is none.
    async fn directory(&self, below: Below) -> Result<(Vec<Object>, Vec<Below>)> {
        let names = self.names(&below.prefix).await?;
        let entries = names.into_iter().filter_map(|named| {
            let name = std::str::from_utf8(&named.name).ok()?;
            // "." and ".." stand in every listing.
            (check_key(name).is_ok() && !name.contains('/'))
                .then(|| (format!("{}{name}", below.prefix), named.attributes))
        });
        let linked = below.linked;
        let mut entries = stream::iter(entries)
            .map(|(key, attributes)| self.entry(key, attributes, linked))
            .buffer_unordered(LINKS);
        let (mut objects, mut directories) = (Vec::new(), Vec::new());
        while let Some(entry) = entries.try_next().await? {
            match entry {
                Entry::Object(object) => objects.push(object),
                Entry::Directory(below) => directories.push(below),
                Entry::Nothing => {}
            }
        }
        Ok((objects, directories))
    }

    async fn entry(&self, key: String, attributes: Attributes, linked: bool) -> Result<Entry> {
        if attributes.is_directory() {
            return Ok(Entry::Directory(Below { prefix: key + "/", linked }));
        }
        if let (true, Some(size)) = (attributes.mode.is_some() && attributes.is_file(), attributes.size) {
            return Ok(Entry::Object(Object { info: ObjectInfo { key, size }, written: attributes.written }));
        }
        let target = match self.connection.call(Request::Stat(&self.store.path(&key))).await? {
            Reply::Attributes(attributes) => attributes,
            // Removed since, or a link to nowhere.
            Reply::Status { code: status::NO_SUCH_FILE, .. } => return Ok(Entry::Nothing),
            other => return Err(self.store.refused(self.connection, &key, other).await),
        };
        Ok(match target.size {
            _ if target.is_directory() && linked => Entry::Nothing,
            _ if target.is_directory() => Entry::Directory(Below { prefix: key + "/", linked: true }),
            Some(size) if target.is_file() => {
                Entry::Object(Object { info: ObjectInfo { key, size }, written: target.written })
            }
            _ => Entry::Nothing,
        })
    }

    /// What a directory holds; nothing where there is none but the store's own is there.
    async fn names(&self, prefix: &str) -> Result<Vec<Named>> {
        let key = prefix.trim_end_matches('/');
        let path = self.store.path(key);
        let refused = async |reply| self.store.refused(self.connection, key, reply).await;
        let handle = match self.connection.opened(Request::OpenDirectory(&path), refused).await {
            Ok(handle) => handle,
            Err(error) if error.kind() == Kind::NotFound => return Ok(Vec::new()),
            Err(error) if self.is_no_directory(&path).await => {
                tracing::debug!("{key} is no directory: {error}");
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        self.read(key, &handle).await
    }

    async fn is_no_directory(&self, path: &str) -> bool {
        match self.connection.call(Request::Stat(path)).await {
            Ok(Reply::Attributes(attributes)) => attributes.mode.is_some() && !attributes.is_directory(),
            _ => false,
        }
    }

    async fn read(&self, key: &str, handle: &Handle) -> Result<Vec<Named>> {
        let ask = || self.connection.call(Request::ReadDirectory(handle.bytes()));
        let mut names = Vec::new();
        let mut replies = FuturesOrdered::new();
        let mut together = 2;
        replies.extend((0..together).map(|_| ask()));
        while let Some(reply) = replies.next().await {
            match reply? {
                Reply::Names(some) => {
                    self.take(key, &some)?;
                    names.extend(some.into_iter().map(unshared));
                    together = (together + 1).min(PIECES);
                    while replies.len() < together {
                        replies.push_back(ask());
                    }
                }
                // The pieces behind the end say the same.
                Reply::Status { code: status::END, .. } => break,
                other => return Err(self.store.refused(self.connection, key, other).await),
            }
        }
        Ok(names)
    }

    fn take(&self, key: &str, names: &[Named]) -> Result<()> {
        let more: usize = names.iter().map(|named| named.name.len() + key.len() + ENTRY).sum();
        if self.taken.fetch_add(more + PIECE, Ordering::Relaxed) <= LONGEST {
            return Ok(());
        }
        let says = format!("{key}: a listing of more than {} MiB", LONGEST >> 20);
        Err(Error::new(Kind::Unsupported, says))
    }
}

/// A name that does not keep its packet in memory.
fn unshared(named: Named) -> Named {
    Named { name: Bytes::copy_from_slice(&named.name), ..named }
}

/// An object, and when it was written to, in seconds since 1970, if the server tells.
struct Object {
    info: ObjectInfo,
    written: Option<u32>,
}

enum Entry {
    Object(Object),
    Directory(Below),
    Nothing,
}
