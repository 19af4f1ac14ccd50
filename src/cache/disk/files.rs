//! Reading: which record lies where, and those that lie together by one read.
//!
//! Every record is checked before it is answered. One that is damaged, another's, or not there is a miss and is
//! forgotten; nothing here is ever an error.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::key::Key;
use super::record::{self, HEADER};
use super::seal::Seal;
use super::segment::{Number, Segment, Spot};
use super::table::Table;
use crate::cache::Folder;
use crate::error::{Kind, Result};
use crate::observe::metrics;

/// Records that are so close are read together with what lies between them.
const GAP: u64 = 32 << 10;

/// A read that brings several records is not made longer than this.
const LONGEST: u64 = 4 << 20;

/// So many segments are kept open.
const OPEN: usize = 48;

/// What all who read and write share.
pub(super) struct Files {
    pub folder: Folder,
    pub table: Table,
    pub seal: Seal,
    open: Mutex<HashMap<Number, Arc<Segment>>>,
}

impl Files {
    /// The cache in `folder`; `bytes` is how much it may become, should it be new. Nothing is read but a header.
    pub(super) fn open(folder: Folder, bytes: u64) -> Result<Self> {
        let table = Table::open(&folder, bytes)?;
        Self::with(folder, table)
    }

    /// The cache in `folder` if there is one that was used.
    pub(super) fn existing(folder: Folder) -> Result<Option<Self>> {
        match Table::existing(&folder) {
            Ok(table) => Self::with(folder, table).map(Some),
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Corrupt) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn with(folder: Folder, table: Table) -> Result<Self> {
        let seal = Seal::open(&folder)?;
        Ok(Files { folder, table, seal, open: Mutex::default() })
    }

    /// The payloads of `keys`, each in its place; `None` for what is not here.
    pub(super) fn read(&self, keys: &[Key]) -> Vec<Option<Bytes>> {
        let mut found: Vec<Option<Bytes>> = vec![None; keys.len()];
        let mut wanted: Vec<(usize, &Key, Spot)> =
            keys.iter().enumerate().filter_map(|(n, key)| Some((n, key, self.table.find(key)?))).collect();
        wanted.sort_unstable_by_key(|(_, _, spot)| (spot.number, spot.offset));
        for run in wanted.chunk_by(|(_, _, a), (_, _, b)| a.number == b.number) {
            for run in runs(run) {
                self.read_run(run, &mut found);
            }
        }
        let hits = found.iter().flatten();
        metrics::CACHE_HIT_BYTES.add(hits.clone().map(|payload| payload.len() as u64).sum());
        let hits = hits.count();
        metrics::CACHE_HITS.add(hits as u64);
        metrics::CACHE_MISSES.add((keys.len() - hits) as u64);
        found
    }

    /// Reads records of one segment that lie together.
    fn read_run(&self, run: &[(usize, &Key, Spot)], found: &mut [Option<Bytes>]) {
        let (Some((_, _, first)), Some(end)) = (run.first(), run.iter().map(|(_, _, spot)| spot.end()).max())
        else {
            return;
        };
        let bytes = self.segment(first.number).and_then(|segment| {
            let length = usize::try_from(end - first.offset).ok()?;
            segment.read(first.offset, length).ok()
        });
        for (place, key, spot) in run {
            let payload = bytes.as_ref().and_then(|bytes| {
                let start = usize::try_from(spot.offset - first.offset).ok()?;
                let end = start.checked_add(usize::try_from(spot.length).ok()?)?;
                self.payload(key, (end <= bytes.len()).then(|| bytes.slice(start..end))?)
            });
            // Where nothing could be read, it may be there next time.
            if payload.is_none() && bytes.is_some() {
                self.table.remove_at(key, *spot);
            }
            if let Some(place) = found.get_mut(*place) {
                *place = payload;
            }
        }
    }

    /// What a record holds, if it is the good one of `key`.
    fn payload(&self, key: &Key, record: Bytes) -> Option<Bytes> {
        let header = record::check(&record, key)?;
        let payload = record.slice(HEADER..);
        if header.sealed { self.seal.open_sealed(&key.0, &payload).map(Bytes::from) } else { Some(payload) }
    }

    /// A segment, open.
    fn segment(&self, number: Number) -> Option<Arc<Segment>> {
        let known = self.lock().get(&number).cloned();
        let segment = match known {
            Some(segment) => segment,
            None => {
                let segment = Arc::new(Segment::new(self.folder.open_file(&number.name()).ok()?));
                let mut open = self.lock();
                // Any of them will do: it is opened again when it is wanted.
                if open.len() >= OPEN
                    && let Some(other) = open.keys().next().copied()
                {
                    open.remove(&other);
                }
                open.insert(number, Arc::clone(&segment));
                segment
            }
        };
        if segment.is_used() {
            return Some(segment);
        }
        self.lock().remove(&number);
        None
    }

    /// Lets go of segments that others have removed, so that their space is free.
    pub(super) fn close_removed(&self) {
        self.lock().retain(|_, segment| segment.is_there());
    }

    /// The same of all, some of which were removed.
    pub(super) fn close_all(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Number, Arc<Segment>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records of one segment, in order, in portions that are read at once.
fn runs<'a, 'k>(records: &'a [(usize, &'k Key, Spot)]) -> Vec<&'a [(usize, &'k Key, Spot)]> {
    let mut runs = Vec::new();
    let mut rest = records;
    while let Some((_, _, first)) = rest.first() {
        let mut end = first.end();
        let together = |(_, _, spot): &&(usize, &Key, Spot)| {
            let fits =
                spot.offset <= end.saturating_add(GAP) && spot.end().max(end) - first.offset <= LONGEST;
            end = end.max(spot.end());
            fits
        };
        let count = 1 + rest.iter().skip(1).take_while(together).count();
        let (run, others) = rest.split_at(count);
        runs.push(run);
        rest = others;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::super::key::Owner;
    use super::*;

    fn lengths(spots: &[(u64, u32)]) -> Vec<usize> {
        let key = Key::whole(Owner(1), "");
        let spot =
            |(offset, length): &(u64, u32)| Spot { number: Number(2), offset: *offset, length: *length };
        let records: Vec<_> = spots.iter().map(|record| (0, &key, spot(record))).collect();
        runs(&records).into_iter().map(<[_]>::len).collect()
    }

    #[test]
    fn records_that_lie_together_are_read_together() {
        assert_eq!(lengths(&[]), Vec::<usize>::new());
        assert_eq!(lengths(&[(0, 100), (112, 100), (208 + (32 << 10), 100)]), [3]);
        assert_eq!(lengths(&[(0, 100), (200 + (32 << 10), 100)]), [1, 1]);
        assert_eq!(lengths(&[(0, 5 << 20), (5 << 20, 100)]), [1, 1], "not longer than it should be");
        assert_eq!(lengths(&[(0, 3 << 20), (3 << 20, 1 << 20), (4 << 20, 16)]), [2, 1]);
    }
}
