//! A bucket's listing: keys in order, packed in blocks that are compressed.
//!
//! Where blocks end follows from the keys, so that a change in one place leaves the other blocks as they are: a new
//! listing takes over what it has in common with the one before. Blocks lie in memory or in a ledger of the cache.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::rows::Row;
use crate::cache::Ledger;
use crate::error::{Error, Kind, Result};
use crate::source::chunked::{Id, Shared};

/// A block has so many rows at least and at most; between them every so manieth key ends one.
const FEWEST: u32 = 256;
const MOST: u32 = 1024;
const ONE_IN: u64 = 256;

/// What a block holds uncompressed, at most: some versions more than keys of a kibibyte come to.
pub(super) const LARGEST: usize = 64 << 20;

/// A block ends early when it holds so many bytes.
const LARGE: usize = 1 << 20;

/// zstd's fastest: names compress well with any.
const LEVEL: i32 = 1;

/// A stretch of keys.
#[derive(Clone)]
pub(super) struct Block {
    /// Its last key.
    pub last: Arc<str>,
    /// Of what it holds.
    pub digest: u128,
    pub place: Place,
}

/// Where a block lies.
#[derive(Clone)]
pub(super) enum Place {
    Memory(Bytes),
    Ledger { ledger: Arc<Ledger>, at: u64, length: u32 },
}

/// Everything that was listed.
pub(super) struct Table {
    pub blocks: Vec<Block>,
    /// When something changed, in milliseconds since 1970: ascending, each once. Of a listing without versions the last
    /// change only.
    pub changes: Vec<i64>,
    /// Objects as they are now, and their bytes.
    pub objects: u64,
    pub bytes: u64,
    /// When it was complete.
    pub listed: SystemTime,
    /// Tells it apart from others.
    pub digest: u128,
}

impl Place {
    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Place::Memory(bytes) => bytes.len() as u64,
            Place::Ledger { length, .. } => u64::from(*length),
        }
    }

    /// The compressed bytes.
    pub(super) fn read(&self) -> Result<Bytes> {
        match self {
            Place::Memory(bytes) => Ok(bytes.clone()),
            Place::Ledger { ledger, at, length } => Ok(ledger.read(*at, *length)?.into()),
        }
    }
}

fn damaged() -> Error {
    Error::new(Kind::Corrupt, "the kept listing of a bucket is damaged")
}

impl Block {
    /// A block of the rows in `packed`.
    fn new(last: &str, packed: &[u8]) -> Result<Self> {
        let stored = zstd::bulk::compress(packed, LEVEL)
            .map_err(|e| Error::caused_by(Kind::Internal, "compressing a listing", e))?;
        Ok(Block { last: last.into(), digest: xxh3_128(packed), place: Place::Memory(stored.into()) })
    }

    /// Its rows.
    fn rows(&self) -> Result<Bytes> {
        let stored = self.place.read()?;
        let packed =
            zstd::stream::decode_all(std::io::Read::take(&*stored, LARGEST as u64)).map_err(|_| damaged())?;
        if packed.len() > LARGEST || xxh3_128(&packed) != self.digest {
            return Err(damaged());
        }
        Ok(packed.into())
    }
}

/// Takes rows in order and makes blocks of them.
#[derive(Default)]
pub(super) struct Packer {
    packed: Vec<u8>,
    rows: u32,
    last: String,
    pub blocks: Vec<Block>,
}

impl Packer {
    /// The buffer for the next row, which is of `key`.
    pub(super) fn row(&mut self, key: &str, put: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        put(&mut self.packed);
        self.rows += 1;
        key.clone_into(&mut self.last);
        let ends = self.rows >= FEWEST && xxh3_64(key.as_bytes()).is_multiple_of(ONE_IN);
        if ends || self.rows >= MOST || self.packed.len() >= LARGE { self.end() } else { Ok(()) }
    }

    /// Ends the block that was begun.
    pub(super) fn end(&mut self) -> Result<()> {
        if self.rows > 0 {
            self.blocks.push(Block::new(&self.last, &self.packed)?);
        }
        self.rows = 0;
        self.packed.clear();
        Ok(())
    }
}

impl Table {
    /// A table of `blocks`, listed now.
    pub(super) fn new(blocks: Vec<Block>, mut changes: Vec<i64>, objects: u64, bytes: u64) -> Self {
        changes.sort_unstable();
        changes.dedup();
        let digests: Vec<u8> = blocks.iter().flat_map(|block| block.digest.to_le_bytes()).collect();
        let digest = xxh3_128(&digests);
        Table { blocks, changes, objects, bytes, listed: SystemTime::now(), digest }
    }

    /// The same, all of it in memory.
    pub(super) fn in_memory(mut self) -> Result<Self> {
        for block in &mut self.blocks {
            block.place = Place::Memory(block.place.read()?);
        }
        Ok(self)
    }

    /// Whether it lies in the cache as a whole; notes that it was used just now.
    pub(super) fn is_kept(&self) -> bool {
        let mut ledgers = self.blocks.iter().map(|block| match &block.place {
            Place::Memory(_) => None,
            Place::Ledger { ledger, .. } => Some(ledger),
        });
        let Some(Some(first)) = ledgers.next() else { return false };
        ledgers.all(|ledger| ledger.is_some_and(|ledger| Arc::ptr_eq(first, ledger))) && first.is_kept()
    }

    /// The last change not later than `until`.
    pub(super) fn changed_by(&self, until: i64) -> Option<i64> {
        let after = self.changes.partition_point(|change| *change <= until);
        self.changes.get(after.checked_sub(1)?).copied()
    }
}

/// Walks through a table. Its calls may read from disk.
pub(super) struct Cursor<'a> {
    table: &'a Table,
    shared: &'a Shared,
    number: u32,
    /// The block it is in, and where in it.
    block: usize,
    packed: Bytes,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Before the first row. Blocks are kept in memory under `number`.
    pub(super) fn new(table: &'a Table, shared: &'a Shared, number: u32) -> Self {
        Cursor { table, shared, number, block: usize::MAX, packed: Bytes::new(), at: 0 }
    }

    /// Goes to the first row whose key is `key` or greater.
    pub(super) fn seek(&mut self, key: &str) -> Result<()> {
        let block = self.table.blocks.partition_point(|block| *block.last < *key);
        let is_behind = Row::first(self.rest()).is_none_or(|(row, _)| row.key > key);
        if block != self.block || is_behind {
            self.enter(block)?;
        }
        while let Some((_, length)) = Row::first(self.rest()).filter(|(row, _)| row.key < key) {
            self.at += length;
        }
        Ok(())
    }

    /// The row it is at, and steps behind it; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Row<'_>>> {
        while self.at >= self.packed.len() {
            let next = self.block.wrapping_add(1);
            if next >= self.table.blocks.len() {
                return Ok(None);
            }
            self.enter(next)?;
        }
        let at = self.at;
        let rest = self.packed.get(at..).unwrap_or_default();
        let (row, length) = Row::first(rest).ok_or_else(damaged)?;
        self.at = at + length;
        Ok(Some(row))
    }

    fn rest(&self) -> &[u8] {
        self.packed.get(self.at..).unwrap_or_default()
    }

    fn enter(&mut self, block: usize) -> Result<()> {
        (self.block, self.at) = (block, 0);
        self.packed = match self.table.blocks.get(block) {
            Some(found) => self.rows(found)?,
            None => Bytes::new(),
        };
        Ok(())
    }

    fn rows(&self, block: &Block) -> Result<Bytes> {
        let key = (self.number, Id::of(&[b"block", &block.digest.to_le_bytes()]));
        if let Some(rows) = self.shared.blobs.get(&key) {
            return Ok(rows);
        }
        let rows = block.rows()?;
        self.shared.blobs.insert(key, rows.clone(), rows.len() as u64);
        Ok(rows)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cache::Budget;
    use crate::source::objects::rows;
    use crate::store::bucket::{Stored, Version};

    /// A table of objects without versions, all as large as their keys.
    pub(crate) fn table(keys: impl IntoIterator<Item = String>) -> Table {
        let mut packer = Packer::default();
        for key in keys {
            let stored = Some(Stored { size: key.len() as u64, etag: "e".into() });
            let version = Version { key: key.clone(), id: None, changed: 5, is_latest: true, stored };
            packer.row(&key, |to| rows::put(to, &mut vec![version])).unwrap();
        }
        packer.end().unwrap();
        Table::new(packer.blocks, vec![5], 0, 0)
    }

    fn keys(count: u32) -> impl Iterator<Item = String> {
        (0..count).map(|n| format!("dir-{:03}/object-{n:07}", n / 100))
    }

    #[test]
    fn rows_are_found_in_order_from_any_key() {
        let (table, shared) = (table(keys(5000)), Shared::new(Budget::of(8 << 20)));
        assert!(table.blocks.len() >= 5, "{}", table.blocks.len());
        let mut cursor = Cursor::new(&table, &shared, 0);
        let all: Vec<String> = keys(5000).collect();
        let mut walked = Vec::new();
        while let Some(row) = cursor.next().unwrap() {
            walked.push(row.key.to_owned());
        }
        assert_eq!(walked, all);
        for (key, found) in [
            ("", 0),
            ("dir-000/object-0000001x", 2),
            ("dir-030/", 3000),
            ("dir-02", 2000),
            ("dir-049/object-0004999", 4999),
        ] {
            cursor.seek(key).unwrap();
            assert_eq!(cursor.next().unwrap().unwrap().key, all[found], "{key}");
        }
        cursor.seek("e").unwrap();
        assert!(cursor.next().unwrap().is_none());
        cursor.seek("dir-010/object-0001000").unwrap();
        assert_eq!(cursor.next().unwrap().unwrap().key, all[1000], "backwards too");
    }

    #[test]
    fn a_change_leaves_the_other_blocks_as_they_are() {
        let before = table(keys(20_000));
        let after = table(keys(20_000).filter(|key| !key.ends_with("7777")).chain(["zzz".to_owned()]));
        let known: BTreeMap<u128, ()> = before.blocks.iter().map(|block| (block.digest, ())).collect();
        let new = after.blocks.iter().filter(|block| !known.contains_key(&block.digest)).count();
        assert!(new <= 3, "{new} of {}", after.blocks.len());
        assert_ne!(before.digest, after.digest);
        assert_eq!(before.digest, table(keys(20_000)).digest);
    }

    #[test]
    fn damage_is_found() {
        let mut table = table(keys(10));
        table.blocks[0].digest ^= 1;
        let shared = Shared::new(Budget::of(8 << 20));
        assert_eq!(Cursor::new(&table, &shared, 0).next().unwrap_err().kind(), Kind::Corrupt);
        table.blocks[0].place = Place::Memory(Bytes::from_static(b"no zstd"));
        assert!(Cursor::new(&table, &shared, 0).seek("x").is_ok(), "behind the end");
        assert_eq!(Cursor::new(&table, &shared, 0).seek("").unwrap_err().kind(), Kind::Corrupt);
    }

    #[test]
    fn the_last_change_by_a_moment_is_known() {
        let table = Table::new(Vec::new(), vec![30, 10, 20, 10], 0, 0);
        assert_eq!(table.changes, [10, 20, 30]);
        for (until, change) in [(9, None), (10, Some(10)), (29, Some(20)), (i64::MAX, Some(30))] {
            assert_eq!(table.changed_by(until), change, "{until}");
        }
    }
}
