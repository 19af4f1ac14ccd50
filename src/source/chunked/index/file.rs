//! The blobs of one index file, as they are read from it.

use std::sync::Arc;

use super::gathering::RUN;
use super::merge::{self, Input};
use super::row::{MOST_PACKS, Row};
use super::segment::{Gathered, Segment};
use super::stack::Shown;
use super::{BlobKind, Place, Shelf};
use crate::error::Result;
use crate::source::chunked::Id;

/// The blobs of one index file. Of a huge one, most go aside while it is read; nothing of it counts before it is whole.
pub struct IndexFile {
    pub(super) id: Id,
    pub(super) packs: Vec<Id>,
    pub(super) rows: Vec<Row>,
    /// Entries that are malformed and were left out.
    pub malformed: u64,
    shelf: Option<Arc<Shelf>>,
    aside: Vec<Segment>,
}

impl IndexFile {
    /// An empty list of the blobs that index file `id` names.
    pub fn new(id: Id) -> Self {
        IndexFile { id, packs: Vec::new(), rows: Vec::new(), malformed: 0, shelf: None, aside: Vec::new() }
    }

    /// The same; with a shelf, what becomes too much for memory goes there.
    pub(super) fn with_shelf(id: Id, shelf: Option<Arc<Shelf>>) -> Self {
        IndexFile { shelf, ..IndexFile::new(id) }
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
        if self.rows.len() >= RUN
            && let Some(shelf) = self.shelf.clone()
        {
            let run = self.run();
            self.aside.push(shelf.aside(run));
        }
    }

    /// What is in memory, as a segment of its own.
    fn run(&mut self) -> Segment {
        let (packs, rows) = (std::mem::take(&mut self.packs), std::mem::take(&mut self.rows));
        let mut gathered = Gathered::default();
        let malformed = std::mem::take(&mut self.malformed);
        gathered.add(IndexFile { packs, rows, malformed, ..IndexFile::new(self.id) });
        gathered.sorted()
    }

    /// The whole file as one segment when much of it went aside; itself when nothing did.
    pub(super) fn joined(mut self) -> Result<std::result::Result<Segment, Self>> {
        let Some(shelf) = self.shelf.clone().filter(|_| !self.aside.is_empty()) else { return Ok(Err(self)) };
        let rest = self.run();
        self.aside.push(rest);
        let inputs: Vec<Input> = self.aside.iter().map(|run| (run, [Shown::Current].as_slice())).collect();
        shelf.merged_aside(&inputs).or_else(|_| merge::in_memory(&inputs)).map(Ok)
    }
}
