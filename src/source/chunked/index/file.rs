//! The blobs of one index file, as they are read from it.

use super::row::{MOST_PACKS, Row};
use super::{BlobKind, Place};
use crate::source::chunked::Id;

/// The blobs of one index file.
pub struct IndexFile {
    pub(super) id: Id,
    pub(super) packs: Vec<Id>,
    pub(super) rows: Vec<Row>,
    /// Entries that are malformed and were left out.
    pub malformed: u64,
}

impl IndexFile {
    /// An empty list of the blobs that index file `id` names.
    pub fn new(id: Id) -> Self {
        IndexFile { id, packs: Vec::new(), rows: Vec::new(), malformed: 0 }
    }

    /// Adds one blob; `place.standing` says whether its pack is marked for deletion. Files name their blobs pack by pack.
    pub fn push(&mut self, kind: BlobKind, id: Id, place: &Place) {
        if self.packs.last() != Some(&place.pack) {
            self.packs.push(place.pack);
        }
        match u32::try_from(self.packs.len() - 1) {
            Ok(number) if number < MOST_PACKS => self.rows.push(Row::new(kind, id, number, place)),
            _ => self.malformed += 1,
        }
    }
}
