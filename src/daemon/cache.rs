//! Looking after the cache directory, for the verb.

use std::path::Path;
use std::time::SystemTime;

use crate::cache::{self, Folder, Part, Summary};
use crate::error::{Error, Result};

/// What lies in a cache directory.
#[derive(Clone, Debug)]
pub struct CacheReport {
    /// Bytes of directories, snapshots and the like.
    pub metadata: u64,
    /// Bytes of the content of files.
    pub data: u64,
    /// Bytes of the indexes of repositories.
    pub indexes: u64,
    /// What was said for all who use the directory.
    pub limit: Option<u64>,
    /// By store.
    pub stores: Vec<CachedStore>,
}

/// What lies in it of one store.
#[derive(Clone, Debug)]
pub struct CachedStore {
    /// How the store is called and how people call it, if that is known.
    pub names: Option<(String, String)>,
    /// When it was listed last.
    pub listed: Option<SystemTime>,
    /// Entries.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// What lies in the cache directory `dir`. Errors: `Denied` when it is none to be trusted.
pub fn cache_report(dir: &Path) -> Result<CacheReport> {
    let Some(folder) = existing(dir)? else {
        return Ok(CacheReport { metadata: 0, data: 0, indexes: 0, limit: None, stores: Vec::new() });
    };
    let Summary { metadata, data, limit, parts } = cache::summary(&folder)?;
    let store = |Part { names, listed, entries, bytes }| CachedStore { names, listed, entries, bytes };
    let stores = parts.into_iter().map(store).collect();
    Ok(CacheReport { metadata, data, indexes: indexes(&folder)?, limit, stores })
}

/// Makes the cache no larger than `bytes`, now and for all mounts; `None` takes that back. Returns how many bytes went.
pub fn cache_limit(dir: &Path, bytes: Option<u64>) -> Result<u64> {
    cache::limit(&Folder::open(dir)?, bytes)
}

/// Empties the cache, the indexes included. Returns how many bytes went.
pub fn cache_clear(dir: &Path) -> Result<u64> {
    let Some(folder) = existing(dir)? else { return Ok(0) };
    let mut gone = cache::clear(&folder)?;
    each_index(&folder, |shelf, name, bytes| {
        gone += bytes;
        shelf.remove(name)
    })?;
    Ok(gone)
}

/// Removes what is kept of the stores called `name`. Returns how many bytes went, `None` when there is no such store.
pub fn cache_purge(dir: &Path, name: &str) -> Result<Option<u64>> {
    existing(dir)?.map_or(Ok(None), |folder| cache::purge(&folder, name))
}

fn existing(dir: &Path) -> Result<Option<Folder>> {
    match dir.symlink_metadata() {
        Ok(_) => Folder::open(dir).map(Some),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(dir.display().to_string(), e)),
    }
}

fn indexes(cache: &Folder) -> Result<u64> {
    let mut sum = 0;
    each_index(cache, |_, _, bytes| {
        sum += bytes;
        Ok(())
    })?;
    Ok(sum)
}

/// Visits the files of all indexes, but for locks.
fn each_index(cache: &Folder, mut visit: impl FnMut(&Folder, &str, u64) -> Result<()>) -> Result<()> {
    let index = cache.below("index")?;
    for repository in index.names()? {
        let Ok(shelf) = index.below(&repository) else { continue };
        for name in shelf.names()?.iter().filter(|name| *name != "lock") {
            // One that goes meanwhile is not there.
            let Ok(lying) = shelf.stat(name) else { continue };
            visit(&shelf, name, lying.bytes)?;
        }
    }
    Ok(())
}
