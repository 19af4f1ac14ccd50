//! Looking after the cache directory, for the verb.

use std::path::Path;
use std::time::SystemTime;

use crate::cache::{self, Folder, Part, Purged, Summary};
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
    Ok(cache::clear(&folder)? + remove_indexes(&folder, |_| true)?)
}

/// Removes what is kept of the stores called `name`, their indexes included. Returns how many bytes went, `None` when
/// there is no such store.
pub fn cache_purge(dir: &Path, name: &str) -> Result<Option<u64>> {
    let Some(folder) = existing(dir)? else { return Ok(None) };
    let Some(Purged { bytes, marks }) = cache::purge(&folder, name)? else { return Ok(None) };
    let is_of_it = |shelf: &Folder| marks.iter().any(|mark| shelf.stat(mark).is_ok());
    Ok(Some(bytes + remove_indexes(&folder, is_of_it)?))
}

/// Removes the indexes that are `wanted` gone.
fn remove_indexes(cache: &Folder, wanted: impl Fn(&Folder) -> bool) -> Result<u64> {
    let mut gone = 0;
    for shelf in shelves(cache)?.filter(wanted) {
        each_file(&shelf, |name, bytes| {
            gone += bytes;
            shelf.remove(name)
        })?;
    }
    Ok(gone)
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
    for shelf in shelves(cache)? {
        each_file(&shelf, |_, bytes| {
            sum += bytes;
            Ok(())
        })?;
    }
    Ok(sum)
}

/// The directories of all indexes.
fn shelves(cache: &Folder) -> Result<impl Iterator<Item = Folder>> {
    let index = cache.below("index")?;
    Ok(index.names()?.into_iter().filter_map(move |repository| index.below(&repository).ok()))
}

/// Visits the files of an index, but for its lock.
fn each_file(shelf: &Folder, mut visit: impl FnMut(&str, u64) -> Result<()>) -> Result<()> {
    for name in shelf.names()?.iter().filter(|name| *name != "lock") {
        // One that goes meanwhile is not there.
        let Ok(lying) = shelf.stat(name) else { continue };
        visit(name, lying.bytes)?;
    }
    Ok(())
}
