//! Where entries lie: one file, shared by all processes, in which a key has one bucket where it may be.
//!
//! The first 512 bytes are a header, every other 512 a bucket of 21 slots. A slot has 24 bytes: eight of the key, the
//! segment, the offset in units of 16 bytes, the record's length, and a checksum of these; anything that does not match
//! its checksum is free. What a slot says is a hint: the record itself tells whether it is the one. So a bucket may
//! lose slots to others, to a crash or to two processes that write to it at once, and costs a miss each time.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use super::key::Key;
use super::record::ALIGN;
use super::segment::{Class, Number, Spot};
use crate::cache::Folder;
use crate::error::{Error, Kind, Result};

const NAME: &str = "table";

const BUCKET: usize = 512;
const SLOT: usize = 24;
const SLOTS: u64 = (BUCKET / SLOT) as u64;

/// Changes with the form.
const MAGIC: [u8; 16] = *b"backupfs table 1";

/// Entries are taken to have so many bytes on the average when a table is made.
const USUAL_ENTRY: u64 = 8 << 10;

/// Bounds of its size: 256 KiB, 512 MiB.
const BUCKETS: std::ops::RangeInclusive<u64> = 512..=1 << 20;

type Bucket = [u8; BUCKET];

/// The table of one cache.
pub(super) struct Table {
    file: File,
    buckets: u64,
    /// Held while a bucket is changed.
    turn: Mutex<()>,
}

impl Table {
    /// Opens the table, or makes one for a cache of `bytes`. One that cannot be written to serves for reading.
    pub(super) fn open(folder: &Folder, bytes: u64) -> Result<Self> {
        match Self::existing(folder) {
            Ok(table) => return Ok(table),
            Err(error) if !matches!(error.kind(), Kind::NotFound | Kind::Corrupt) => return Err(error),
            Err(_) => {}
        }
        // A damaged one is of no use to anybody.
        folder.remove(NAME)?;
        let buckets =
            (bytes / USUAL_ENTRY / SLOTS).next_power_of_two().clamp(*BUCKETS.start(), *BUCKETS.end());
        let name = format!("{NAME}.{}", std::process::id());
        // Left by a process that had this number and died.
        folder.remove(&name)?;
        let file = folder.create(&name)?;
        let written =
            file.set_len((buckets + 1) * BUCKET as u64).and_then(|()| file.write_all_at(&header(buckets), 0));
        let made = written.map_err(failed).and_then(|()| folder.finish_first(&file, &name, NAME));
        if let Err(error) = made {
            // The first error is the one to tell.
            let _ = folder.remove(&name);
            return Err(error);
        }
        // Of two processes that make one at once the first is right.
        Self::existing(folder)
    }

    /// Opens the table. Errors: `NotFound`, `Corrupt` when it has to be made anew.
    pub(super) fn existing(folder: &Folder) -> Result<Self> {
        let file = match folder.open_for_writing(NAME) {
            Err(error) if error.kind() != Kind::NotFound => folder.open_file(NAME).map_err(|_| error)?,
            opened => opened?,
        };
        let mut first = [0; BUCKET];
        let damaged = || Error::new(Kind::Corrupt, "the table of the cache is damaged");
        file.read_exact_at(&mut first, 0).map_err(|_| damaged())?;
        let buckets =
            first.get(16..).and_then(|rest| rest.first_chunk()).map_or(0, |n| u64::from_le_bytes(*n));
        let whole = file
            .metadata()
            .is_ok_and(|meta| meta.len() >= (buckets.saturating_add(1)).saturating_mul(BUCKET as u64));
        if !BUCKETS.contains(&buckets) || first != header(buckets) || !whole {
            return Err(damaged());
        }
        Ok(Table { file, buckets, turn: Mutex::default() })
    }

    /// Where the record of `key` may lie.
    pub(super) fn find(&self, key: &Key) -> Option<Spot> {
        let (at, known) = self.place(key);
        let bucket = self.read(at).ok()?;
        slots(&bucket).find(|(print, _)| *print == known).map(|(_, spot)| spot)
    }

    /// Notes where the record of `key` lies. What points to a segment that `is_gone` gives way first, then data of the
    /// oldest segments.
    pub(super) fn put(&self, key: &Key, spot: Spot, is_gone: impl Fn(Number) -> bool) -> Result<()> {
        let (at, known) = self.place(key);
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bucket = self.read(at).map_err(failed)?;
        let rank = |slot: &[u8; SLOT]| match decode(slot) {
            Some((print, _)) if print == known => (0, Number(0)),
            None => (1, Number(0)),
            Some((_, spot)) if is_gone(spot.number) => (2, spot.number),
            Some((_, spot)) if spot.number.class() == Class::Data => (3, spot.number),
            Some((_, spot)) => (4, spot.number),
        };
        let (slots, _) = bucket.as_chunks_mut::<SLOT>();
        if let Some(slot) = slots.iter_mut().min_by_key(|slot| rank(slot)) {
            *slot = encode(known, spot);
        }
        self.file.write_all_at(&bucket, at).map_err(failed)
    }

    /// Forgets where the record of `key` lies.
    pub(super) fn remove(&self, key: &Key) {
        self.remove_where(key, |_| true);
    }

    /// Forgets that the record of `key` lies at `spot`: meanwhile there may be another, which is good.
    pub(super) fn remove_at(&self, key: &Key, spot: Spot) {
        self.remove_where(key, |known| known == spot);
    }

    fn remove_where(&self, key: &Key, is_it: impl Fn(Spot) -> bool) {
        let (at, known) = self.place(key);
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(mut bucket) = self.read(at) else { return };
        let (slots, _) = bucket.as_chunks_mut::<SLOT>();
        slots
            .iter_mut()
            .filter(|slot| decode(slot).is_some_and(|(print, spot)| print == known && is_it(spot)))
            .for_each(|slot| *slot = [0; SLOT]);
        // What cannot be written cannot be forgotten: the record is checked again each time.
        let _ = self.file.write_all_at(&bucket, at);
    }

    /// Forgets everything, for all processes.
    pub(super) fn clear(&self) -> Result<()> {
        let emptied = self.file.set_len(BUCKET as u64);
        emptied.and_then(|()| self.file.set_len((self.buckets + 1) * BUCKET as u64)).map_err(failed)
    }

    /// Hands it to the disk.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(failed)
    }

    /// Where the bucket of `key` begins, and what it is known by in there.
    fn place(&self, key: &Key) -> (u64, u64) {
        let (high, low) = key.halves();
        ((high % self.buckets + 1) * BUCKET as u64, low)
    }

    fn read(&self, at: u64) -> std::io::Result<Bucket> {
        let mut bucket = [0; BUCKET];
        self.file.read_exact_at(&mut bucket, at).map(|()| bucket)
    }
}

fn header(buckets: u64) -> Bucket {
    let mut first = [0; BUCKET];
    let said = [&MAGIC[..], &buckets.to_le_bytes()].concat();
    let whole = [&said[..], &xxh3_64(&said).to_le_bytes()].concat();
    first.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
    first
}

fn slots(bucket: &Bucket) -> impl Iterator<Item = (u64, Spot)> {
    bucket.as_chunks::<SLOT>().0.iter().filter_map(decode)
}

fn encode(known: u64, spot: Spot) -> [u8; SLOT] {
    let offset = u32::try_from(spot.offset / ALIGN).unwrap_or(u32::MAX);
    let mut slot = [0; SLOT];
    let parts = [
        &known.to_le_bytes()[..],
        &spot.number.0.to_le_bytes(),
        &offset.to_le_bytes(),
        &spot.length.to_le_bytes(),
    ];
    let said = parts.concat();
    slot.copy_from_slice(&[&said[..], &sum(&said)].concat());
    slot
}

fn decode(slot: &[u8; SLOT]) -> Option<(u64, Spot)> {
    let (said, checksum) = slot.split_last_chunk::<4>()?;
    let word = |at: usize| Some(u32::from_le_bytes(*said.get(at..)?.first_chunk()?));
    let spot = Spot { number: Number(word(8)?), offset: u64::from(word(12)?) * ALIGN, length: word(16)? };
    let known = u64::from_le_bytes(*said.first_chunk()?);
    (*checksum == sum(said) && spot.length > 0).then_some((known, spot))
}

fn sum(said: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = xxh3_64(said).to_le_bytes();
    [a, b, c, d]
}

fn failed(error: std::io::Error) -> Error {
    Error::io("the table of the cache", error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::key::Owner;
    use super::*;

    struct Made {
        dir: tempfile::TempDir,
        table: Table,
    }

    fn made(bytes: u64) -> Made {
        let dir = tempfile::tempdir().unwrap();
        let table = Table::open(&Folder::open(dir.path()).unwrap(), bytes).unwrap();
        Made { dir, table }
    }

    fn key(n: u64) -> Key {
        Key::whole(Owner(1), &n.to_string())
    }

    fn spot(n: u64) -> Spot {
        Spot { number: Number(u32::try_from(n).unwrap()), offset: n * 16, length: 7 }
    }

    fn alive(_: Number) -> bool {
        false
    }

    #[test]
    fn what_was_put_is_found_by_every_process_until_it_is_removed() {
        let made = made(1 << 20);
        (1..500).for_each(|n| made.table.put(&key(n), spot(n), alive).unwrap());
        let other = Table::open(&Folder::open(made.dir.path()).unwrap(), 1 << 40).unwrap();
        assert_eq!(other.buckets, made.table.buckets, "as it was made");
        assert!((1..500).all(|n| other.find(&key(n)) == Some(spot(n))));
        other.put(&key(7), spot(1000), alive).unwrap();
        other.remove(&key(8));
        assert_eq!((made.table.find(&key(7)), made.table.find(&key(8))), (Some(spot(1000)), None));
        other.clear().unwrap();
        assert!((1..500).all(|n| made.table.find(&key(n)).is_none()));
        made.table.put(&key(1), spot(1), alive).unwrap();
        assert_eq!(other.find(&key(1)), Some(spot(1)));
    }

    #[test]
    fn who_finds_an_old_record_damaged_takes_the_new_one_from_nobody() {
        let made = made(1 << 20);
        made.table.put(&key(1), spot(1), alive).unwrap();
        made.table.put(&key(1), spot(2), alive).unwrap();
        made.table.remove_at(&key(1), spot(1));
        assert_eq!(made.table.find(&key(1)), Some(spot(2)));
        made.table.remove_at(&key(1), spot(2));
        assert_eq!(made.table.find(&key(1)), None);
    }

    #[test]
    fn a_full_bucket_gives_up_what_is_gone_then_old_data_then_old_metadata() {
        let made = made(0);
        let keys: Vec<Key> =
            (0u64..).map(key).filter(|key| key.halves().0 % made.table.buckets == 0).take(26).collect();
        // Slots of segments 2, 4, … (data) and of 41 (metadata, the last).
        for (n, key) in (1u64..=20).zip(&keys) {
            made.table.put(key, spot(n * 2), alive).unwrap();
        }
        made.table.put(&keys[20], spot(41), alive).unwrap();
        let gone = Number(20);
        made.table.put(&keys[21], spot(100), |number| number == gone).unwrap();
        assert_eq!(made.table.find(&keys[9]), None);
        made.table.put(&keys[22], spot(100), alive).unwrap();
        assert_eq!((made.table.find(&keys[0]), made.table.find(&keys[1])), (None, Some(spot(4))));
        for (n, key) in (200..).zip(&keys[..25]) {
            made.table.put(key, spot(n * 2), alive).unwrap();
        }
        assert_eq!(made.table.find(&keys[20]), Some(spot(220 * 2)));
    }

    #[test]
    fn a_damaged_table_is_made_anew_and_one_that_others_made_is_refused() {
        let made = made(1 << 20);
        let path = made.dir.path().join(NAME);
        let folder = Folder::open(made.dir.path()).unwrap();
        for damage in [0, 17, 30] {
            made.table.put(&key(1), spot(1), alive).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[damage] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let anew = Table::open(&folder, 1 << 20).unwrap();
            assert_eq!(anew.find(&key(1)), None);
            anew.put(&key(2), spot(2), alive).unwrap();
            assert_eq!(Table::open(&folder, 1 << 20).unwrap().find(&key(2)), Some(spot(2)));
        }
        std::fs::write(&path, &std::fs::read(&path).unwrap()[..1000]).unwrap();
        assert_eq!(Table::open(&folder, 1 << 20).unwrap().find(&key(2)), None);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert_eq!(Table::open(&folder, 1 << 20).err().unwrap().kind(), Kind::Denied);
    }

    #[test]
    fn one_table_is_left_when_many_are_made_at_once() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let folder = Folder::open(dir.path()).unwrap();
                scope.spawn(move || {
                    // In one process the names are the same, so that some of them fail: others must not.
                    if let Ok(table) = Table::open(&folder, 1 << 20) {
                        table.put(&key(n), spot(n + 1), alive).unwrap();
                    }
                });
            }
        });
        let names = Folder::open(dir.path()).unwrap().names().unwrap();
        assert_eq!(names, [NAME]);
    }

    proptest! {
        #[test]
        fn a_damaged_slot_is_a_miss(flips in prop::collection::vec((0usize..512, 0u8..8), 1..20)) {
            let made = made(0);
            let keys: Vec<Key> = (0u64..).map(key).filter(|key| key.halves().0 % made.table.buckets == 3).take(10).collect();
            for (n, key) in (1..).zip(&keys) {
                made.table.put(key, spot(n), alive).unwrap();
            }
            let mut bucket = made.table.read(4 * 512).unwrap();
            flips.iter().for_each(|(at, bit)| bucket[*at] ^= 1 << bit);
            made.table.file.write_all_at(&bucket, 4 * 512).unwrap();
            for (n, key) in (1..).zip(&keys) {
                prop_assert!(made.table.find(key).is_none() || made.table.find(key) == Some(spot(n)));
            }
        }
    }
}
