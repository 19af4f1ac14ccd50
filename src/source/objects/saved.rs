//! A listing on disk: blocks one behind the other, then what a [`Table`] knows of them, then where that begins and a
//! checksum of it.
//!
//! Keys lie there readable, as names in any directory do: the cache is for its owner alone.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::table::{Block, LARGEST, Place, Table};
use crate::cache::Folder;
use crate::error::{Error, Kind, Result};
use crate::source::chunked::Id;

/// The directory of listings in the cache directory.
const FOLDER: &str = "objects";

/// What a file ends in: where the index begins (8 bytes), its checksum (16), and this.
const MAGIC: &[u8; 16] = b"backupfs-list-01";
const END: usize = 8 + 16 + 16;

/// What stands behind the blocks.
#[derive(Serialize, Deserialize)]
struct Index {
    identity: String,
    versions: bool,
    /// Seconds since 1970.
    listed: u64,
    objects: u64,
    bytes: u64,
    changes: Vec<i64>,
    blocks: Vec<Line>,
}

/// One block: its last key, its digest, and its length; they follow each other.
#[derive(Serialize, Deserialize)]
struct Line(String, u128, u32);

/// Where the listing of one bucket is kept.
pub(super) struct Saved {
    folder: Folder,
    name: String,
    identity: String,
    versions: bool,
}

impl Saved {
    /// That of the bucket that `identity` tells apart, with or without versions, in a cache directory. Errors: as
    /// [`Folder::open`].
    pub(super) fn new(cache: &Folder, identity: &str, versions: bool) -> Result<Self> {
        let name = format!("{}.list", Id::of(&[identity.as_bytes(), &[u8::from(versions)]]).short());
        Ok(Saved { folder: cache.below(FOLDER)?, name, identity: identity.to_owned(), versions })
    }

    /// What was kept; `None` when there is nothing of this bucket, or it is damaged. Blocks.
    pub(super) fn load(&self) -> Option<Table> {
        let file = self.folder.open_file(&self.name).ok()?;
        self.read(file).inspect_err(|error| tracing::warn!("{}: listed anew: {error}", self.identity)).ok()?
    }

    fn read(&self, file: File) -> Result<Option<Table>> {
        let failed = |e| Error::io("the kept listing of a bucket", e);
        let wrong = || Error::new(Kind::Corrupt, "the kept listing is damaged");
        let length = file.metadata().map_err(failed)?.len();
        let end_at = length.checked_sub(END as u64).ok_or_else(wrong)?;
        let mut end = [0; END];
        file.read_exact_at(&mut end, end_at).map_err(failed)?;
        let (begin, rest) = end.split_first_chunk().ok_or_else(wrong)?;
        let (checksum, magic) = rest.split_first_chunk().ok_or_else(wrong)?;
        let begin = u64::from_le_bytes(*begin);
        let size = end_at.checked_sub(begin).and_then(|size| usize::try_from(size).ok()).ok_or_else(wrong)?;
        if magic != MAGIC || size > LARGEST {
            return Err(wrong());
        }
        let mut index = vec![0; size];
        file.read_exact_at(&mut index, begin).map_err(failed)?;
        if xxh3_128(&index) != u128::from_le_bytes(*checksum) {
            return Err(wrong());
        }
        let index = zstd::stream::decode_all(&*index).map_err(failed)?;
        let index: Index = serde_json::from_slice(&index).map_err(|_| wrong())?;
        // The name is a hash, cut short.
        if index.identity != self.identity || index.versions != self.versions {
            return Ok(None);
        }
        Ok(Some(table(index, &Arc::new(file))))
    }

    /// Keeps `table`; answers the same, its blocks in the file. Blocks the thread.
    pub(super) fn save(&self, table: &Table) -> Result<Table> {
        let new = format!("{}.{}", self.name, std::process::id());
        self.folder.remove(&new)?;
        let file = self.folder.create(&new)?;
        let index = self.index(table);
        let written = write(&file, table, &index).and_then(|()| self.folder.finish(&file, &new, &self.name));
        if let Err(error) = written {
            self.folder.remove(&new)?;
            return Err(error);
        }
        let listed = table.listed;
        Ok(Table { listed, ..self::table(index, &Arc::new(file)) })
    }

    fn index(&self, table: &Table) -> Index {
        let listed = table.listed.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let line = |block: &Block| Line(block.last.to_string(), block.digest, block.place.length());
        Index {
            identity: self.identity.clone(),
            versions: self.versions,
            listed,
            objects: table.objects,
            bytes: table.bytes,
            changes: table.changes.clone(),
            blocks: table.blocks.iter().map(line).collect(),
        }
    }
}

fn table(index: Index, file: &Arc<File>) -> Table {
    let mut at = 0;
    let mut blocks = Vec::with_capacity(index.blocks.len());
    for Line(last, digest, length) in index.blocks {
        let place = Place::File { file: Arc::clone(file), at, length };
        blocks.push(Block { last: last.into(), digest, place });
        at += u64::from(length);
    }
    let listed = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(index.listed));
    let table = Table::new(blocks, index.changes, index.objects, index.bytes);
    Table { listed: listed.unwrap_or(SystemTime::UNIX_EPOCH), ..table }
}

fn write(file: &File, table: &Table, index: &Index) -> Result<()> {
    let failed = |e| Error::io("keeping the listing of a bucket", e);
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut begin = 0u64;
    for block in &table.blocks {
        let bytes = block.place.read()?;
        out.write_all(&bytes).map_err(failed)?;
        begin += bytes.len() as u64;
    }
    let index = serde_json::to_vec(index).map_err(|e| Error::caused_by(Kind::Internal, "a listing", e))?;
    let index = zstd::bulk::compress(&index, 1).map_err(failed)?;
    for part in [&index[..], &begin.to_le_bytes(), &xxh3_128(&index).to_le_bytes(), MAGIC] {
        out.write_all(part).map_err(failed)?;
    }
    out.flush().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::super::table::Cursor;
    use super::super::table::tests::table as listed;
    use super::*;
    use crate::cache::Budget;
    use crate::source::chunked::Shared;

    fn keys(table: &Table) -> Vec<String> {
        let shared = Shared::new(Budget::of(8 << 20));
        let mut cursor = Cursor::new(table, &shared, 0);
        let mut keys = Vec::new();
        while let Some(row) = cursor.next().unwrap() {
            keys.push(row.key.to_owned());
        }
        keys
    }

    #[test]
    fn what_was_kept_is_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Folder::open(dir.path()).unwrap();
        let saved = Saved::new(&cache, "bucket/prefix", true).unwrap();
        assert!(saved.load().is_none());
        let names: Vec<String> = (0..3000).map(|n| format!("é/{n:05}")).collect();
        let kept = saved.save(&Table { objects: 7, bytes: 8, ..listed(names.clone()) }).unwrap();
        let again = Saved::new(&cache, "bucket/prefix", true).unwrap().load().unwrap();
        for table in [&kept, &again] {
            assert_eq!((keys(table), table.objects, table.bytes), (names.clone(), 7, 8));
            assert_eq!((table.digest, &table.changes), (kept.digest, &kept.changes));
        }
        let age = kept.listed.duration_since(again.listed).unwrap();
        assert!(age < Duration::from_secs(1), "{age:?}");
        saved.save(&listed(["other".to_owned()])).unwrap();
        assert_eq!(keys(&again), names, "who has the old one keeps it");
        assert_eq!(keys(&saved.load().unwrap()), ["other"]);
        for other in [Saved::new(&cache, "bucket/prefix", false), Saved::new(&cache, "bucket/other", true)] {
            assert!(other.unwrap().load().is_none());
        }
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let saved = Saved::new(&Folder::open(dir.path()).unwrap(), "b", false).unwrap();
        saved.save(&listed((0..100).map(|n| format!("{n:05}")))).unwrap();
        let path = dir.path().join(FOLDER).join(&saved.name);
        let good = std::fs::read(&path).unwrap();
        for cut in [0, 10, good.len() - 1, good.len() / 2] {
            std::fs::write(&path, &good[..cut]).unwrap();
            assert!(saved.load().is_none(), "cut to {cut}");
        }
        for flipped in [good.len() - 1, good.len() - 20, good.len() - 40, good.len() - 60] {
            let mut bad = good.clone();
            bad[flipped] ^= 1;
            std::fs::write(&path, bad).unwrap();
            assert!(saved.load().is_none(), "flipped {flipped}");
        }
        std::fs::write(&path, &good).unwrap();
        assert!(saved.load().is_some());
    }
}
