//! A listing in the cache directory: a ledger of blocks, whose last part is what a [`Table`] knows of them.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::table::{Block, Place, Table};
use crate::cache::{Drawer, Ledger};
use crate::error::{Error, Kind, Result};

/// The last part.
#[derive(Serialize, Deserialize)]
struct Index {
    identity: String,
    objects: u64,
    bytes: u64,
    changes: Vec<i64>,
    blocks: Vec<Line>,
}

/// One block: its last key, its digest, and how many bytes it takes in the ledger; they follow each other.
#[derive(Serialize, Deserialize)]
struct Line(String, u128, u32);

/// Where the listing of one bucket is kept.
pub(super) struct Saved {
    drawer: Drawer,
    name: &'static str,
    identity: String,
}

impl Saved {
    /// That of the bucket that `identity` tells apart, with or without versions.
    pub(super) fn new(drawer: Drawer, identity: &str, versions: bool) -> Self {
        let name = if versions { "versions" } else { "objects" };
        Saved { drawer, name, identity: identity.to_owned() }
    }

    /// What was kept; `None` when there is nothing of this bucket, or it is damaged. Blocks.
    pub(super) fn load(&self) -> Option<Table> {
        let ledger = self.drawer.ledger(self.name)?;
        self.read(ledger)
            .inspect_err(|error| tracing::warn!("{}: listed anew: {error}", self.identity))
            .ok()?
    }

    fn read(&self, ledger: Ledger) -> Result<Option<Table>> {
        let index = zstd::stream::decode_all(&*ledger.last()?).map_err(unreadable)?;
        let index: Index = serde_json::from_slice(&index).map_err(unreadable)?;
        // The name of the ledger is a hash, cut short.
        if index.identity != self.identity {
            return Ok(None);
        }
        // Whether it is used now is of no weight for what it holds.
        let _ = ledger.is_kept();
        // Where nobody noted when it was made, it is as old as can be.
        let listed = self.drawer.renewal(self.name).unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(Some(table(index, &Arc::new(ledger), listed)))
    }

    /// Keeps `table`, unless it is kept already, and when it was listed; answers the same. Where that cannot be, it is in
    /// memory. Blocks the thread.
    pub(super) fn keep(&self, table: Table) -> Result<Table> {
        let kept = if table.is_kept() { Ok(None) } else { self.save(&table).map(Some) };
        match kept {
            Ok(kept) => {
                self.drawer.renewed(self.name, table.listed);
                Ok(kept.unwrap_or(table))
            }
            Err(error) => {
                self.drawer.listed();
                tracing::warn!("{}: the listing stays in memory: {error}", self.identity);
                table.in_memory()
            }
        }
    }

    fn save(&self, table: &Table) -> Result<Table> {
        let bytes = table.blocks.iter().map(|block| block.place.bytes() + block.last.len() as u64).sum();
        let mut new = self.drawer.new_ledger(self.name, bytes)?;
        let mut blocks = Vec::with_capacity(table.blocks.len());
        for block in &table.blocks {
            let (_, length) = new.append(&block.place.read()?)?;
            blocks.push(Line(block.last.to_string(), block.digest, length));
        }
        let index = Index {
            identity: self.identity.clone(),
            objects: table.objects,
            bytes: table.bytes,
            changes: table.changes.clone(),
            blocks,
        };
        let last =
            serde_json::to_vec(&index).map_err(|e| Error::caused_by(Kind::Internal, "a listing", e))?;
        let last = zstd::bulk::compress(&last, 1).map_err(|e| Error::io("a listing", e))?;
        let ledger = new.finish(&last)?;
        Ok(self::table(index, &Arc::new(ledger), table.listed))
    }
}

fn table(index: Index, ledger: &Arc<Ledger>, listed: SystemTime) -> Table {
    let mut at = 0;
    let mut blocks = Vec::with_capacity(index.blocks.len());
    for Line(last, digest, length) in index.blocks {
        let place = Place::Ledger { ledger: Arc::clone(ledger), at, length };
        blocks.push(Block { last: last.into(), digest, place });
        at += u64::from(length);
    }
    Table { listed, ..Table::new(blocks, index.changes, index.objects, index.bytes) }
}

fn unreadable(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused_by(Kind::Corrupt, "the kept listing is damaged", cause)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::table::Cursor;
    use super::super::table::tests::table as listed;
    use super::*;
    use crate::cache::{Budget, Disk, Folder, clear};
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

    fn saved(dir: &Path, size: u64, identity: &str, versions: bool) -> Saved {
        let disk = Disk::open(&Folder::open(dir).unwrap(), size).unwrap();
        Saved::new(Drawer::new(disk, "s3:bucket", "b").of("s3:bucket"), identity, versions)
    }

    #[test]
    fn what_was_kept_is_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let at = |identity: &str, versions| self::saved(dir.path(), 1 << 30, identity, versions);
        let saved = at("bucket/prefix", true);
        assert!(saved.load().is_none());
        let names: Vec<String> = (0..3000).map(|n| format!("é/{n:05}")).collect();
        let kept = saved.keep(Table { objects: 7, bytes: 8, ..listed(names.clone()) }).unwrap();
        drop(saved);
        let again = at("bucket/prefix", true).load().unwrap();
        for table in [&kept, &again] {
            assert_eq!((keys(table), table.objects, table.bytes), (names.clone(), 7, 8));
            assert_eq!((table.digest, &table.changes), (kept.digest, &kept.changes));
            assert!(table.is_kept());
        }
        let saved = at("bucket/prefix", true);
        saved.keep(listed(["other".to_owned()])).unwrap();
        assert_eq!(keys(&again), names, "who has the old one keeps it");
        assert_eq!(keys(&saved.load().unwrap()), ["other"]);
        for other in [at("bucket/prefix", false), at("bucket/other", true)] {
            assert!(other.load().is_none());
        }
    }

    #[test]
    fn from_when_it_is_is_told_too_though_nothing_changed_since() {
        let dir = tempfile::tempdir().unwrap();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        // Each is a process of its own: what one notes is there when it has ended.
        let next = |size| saved(dir.path(), size, "b", true);
        let (first, later) = (at(1_700_000_000), at(1_700_000_060));
        let names = || (0..3000).map(|n| format!("{n:05}"));
        next(1 << 30).keep(Table { listed: first, ..listed(names()) }).unwrap();
        let kept = next(1 << 30).load().unwrap();
        assert_eq!(kept.listed, first);
        let kept = next(1 << 30).keep(Table { listed: later, ..kept }).unwrap();
        assert!(kept.is_kept(), "the ledger stays");
        assert_eq!(next(1 << 30).load().unwrap().listed, later);
        let other = Table { listed: at(1_700_000_120), ..listed(names().map(|name| name + "x")) };
        assert!(!next(1000).keep(other).unwrap().is_kept(), "there was no room");
        let kept = next(1 << 30).load().unwrap();
        assert_eq!((kept.listed, keys(&kept).len()), (later, 3000), "of what lies there nobody knows more");
    }

    #[test]
    fn what_nobody_noted_the_time_of_is_as_old_as_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let saved = self::saved(dir.path(), 1 << 30, "b", true);
        saved.save(&listed(["a".to_owned()])).unwrap();
        assert_eq!(saved.load().unwrap().listed, SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn nothing_of_it_lies_there_in_the_clear() {
        let dir = tempfile::tempdir().unwrap();
        let saved = self::saved(dir.path(), 1 << 30, "marker-bucket", false);
        // Few: what zstd leaves as it is would show.
        saved.keep(listed(["marker-object".to_owned()])).unwrap();
        drop(saved);
        let mut waiting = vec![dir.path().to_owned()];
        let mut bytes = 0;
        while let Some(path) = waiting.pop() {
            if path.is_dir() {
                waiting.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let content = std::fs::read(&path).unwrap();
            assert!(!content.windows(6).any(|part| part == b"marker"), "{}", path.display());
            bytes += content.len();
        }
        assert!(bytes > 100, "nothing was kept");
    }

    #[test]
    fn what_was_cleared_is_kept_again_and_what_is_too_large_stays_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let saved = self::saved(dir.path(), 1 << 20, "b", false);
        let kept = saved.keep(listed((0..3000).map(|n| format!("{n:05}")))).unwrap();
        clear(&Folder::open(dir.path()).unwrap()).unwrap();
        assert!(!kept.is_kept() && saved.load().is_none());
        let kept = saved.keep(kept).unwrap();
        assert!(kept.is_kept() && keys(&saved.load().unwrap()).len() == 3000);
        let small = self::saved(dir.path(), 1000, "b", false);
        clear(&Folder::open(dir.path()).unwrap()).unwrap();
        let large = small.keep(kept).unwrap();
        assert!(large.blocks.iter().all(|block| matches!(block.place, Place::Memory(_))));
        assert_eq!(keys(&large).len(), 3000);
        assert!(small.load().is_none());
    }

    #[test]
    fn a_damaged_ledger_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let saved = self::saved(dir.path(), 1 << 30, "b", false);
        saved.drawer.new_ledger("objects", 10).unwrap().finish(b"no listing").unwrap();
        assert!(saved.load().is_none());
        let json = zstd::bulk::compress(b"{}", 1).unwrap();
        saved.drawer.new_ledger("objects", 10).unwrap().finish(&json).unwrap();
        assert!(saved.load().is_none());
        saved.keep(listed(["a".to_owned()])).unwrap();
        assert_eq!(keys(&saved.load().unwrap()), ["a"]);
    }
}
