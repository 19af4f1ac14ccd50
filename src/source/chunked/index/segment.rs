//! The blobs of a set of index files, sorted by id: in memory, or in a file.

use std::ops::ControlFlow;

use super::file::IndexFile;
use super::row::{MOST_PACKS, Row};
use super::table::Table;
use super::{BlobKind, search};
use crate::error::Result;
use crate::source::chunked::Id;

/// What a segment knows of one of its index files. Its packs are numbered in one row, file after file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Covered {
    pub id: Id,
    /// The number of its first pack in the segment.
    pub first_pack: u32,
    /// Whether all its rows are here. A merge leaves out rows of files that are gone; such a file must be read again when
    /// it is listed again.
    pub whole: bool,
    /// Data blobs not marked for deletion, each counted in one file of the segment only, and their plaintext bytes.
    pub blobs: u64,
    pub bytes: u64,
    /// Entries that are malformed and were left out.
    pub malformed: u64,
}

/// Immutable.
pub(super) struct Segment {
    pub files: Vec<Covered>,
    pub body: Body,
}

/// Where its rows are.
pub(super) enum Body {
    Memory { packs: Vec<Id>, rows: Vec<Row> },
    Disk(Table),
}

impl Segment {
    /// Calls `each` for the rows of one blob until it breaks.
    pub(super) fn visit(&self, kind: BlobKind, id: &Id, each: &mut dyn FnMut(Row) -> ControlFlow<()>) {
        match &self.body {
            Body::Disk(table) => table.visit(kind, id, each),
            Body::Memory { rows, .. } => {
                let below = |at: usize| rows.get(at).is_some_and(|row| row.id < *id);
                let prefix_at = |at: usize| rows.get(at).map_or(0, |row| row.id.prefix());
                let first = search::first(rows.len(), id.prefix(), prefix_at, below);
                let same = rows.get(first..).unwrap_or_default().iter().take_while(|row| row.id == *id);
                let _ = same.filter(|row| row.kind() == kind).try_for_each(|row| each(*row));
            }
        }
    }

    /// The pack of this number.
    pub(super) fn pack(&self, number: u32) -> Option<Id> {
        match &self.body {
            Body::Memory { packs, .. } => packs.get(number as usize).copied(),
            Body::Disk(table) => table.pack(number),
        }
    }

    /// Which of its files named a pack.
    pub(super) fn file_of(&self, pack: u32) -> usize {
        file_of(&self.files, pack)
    }

    /// How many rows it has.
    pub(super) fn len(&self) -> u64 {
        match &self.body {
            Body::Memory { rows, .. } => rows.len() as u64,
            Body::Disk(table) => table.len(),
        }
    }

    /// The numbers of the packs of a file.
    pub(super) fn packs_of(&self, file: usize) -> std::ops::Range<u32> {
        let all = match &self.body {
            Body::Memory { packs, .. } => u32::try_from(packs.len()).unwrap_or(MOST_PACKS),
            Body::Disk(table) => table.packs(),
        };
        let from = self.files.get(file).map_or(all, |file| file.first_pack);
        from..self.files.get(file + 1).map_or(all, |next| next.first_pack)
    }

    /// All rows in order. An error ends them.
    pub(super) fn scan(&self) -> Box<dyn Iterator<Item = Result<Row>> + Send + '_> {
        match &self.body {
            Body::Memory { rows, .. } => Box::new(rows.iter().copied().map(Ok)),
            Body::Disk(table) => Box::new(table.scan()),
        }
    }

    /// Whether something in it could not be read: what it does not find may be there.
    pub(super) fn is_damaged(&self) -> bool {
        matches!(&self.body, Body::Disk(table) if table.is_damaged())
    }

    /// The name of its file in the cache, where others and later mounts find it.
    pub(super) fn name(&self) -> Option<&str> {
        match &self.body {
            Body::Disk(table) => table.name(),
            Body::Memory { .. } => None,
        }
    }
}

/// Which of `files` named a pack: the last one that begins at or before it.
fn file_of(files: &[Covered], pack: u32) -> usize {
    files.partition_point(|file| file.first_pack <= pack).saturating_sub(1)
}

/// Counts data blobs while rows are written in order.
pub(super) struct Tally<'a> {
    files: &'a mut [Covered],
    last: Option<Id>,
}

impl<'a> Tally<'a> {
    /// Adds to `files`.
    pub(super) fn new(files: &'a mut [Covered]) -> Self {
        Tally { files, last: None }
    }

    /// Notes that a row is left out.
    pub(super) fn leave_out(&mut self, row: &Row) {
        let at = file_of(self.files, row.pack());
        if let Some(file) = self.files.get_mut(at) {
            file.whole = false;
        }
    }

    /// Counts the next row.
    pub(super) fn count(&mut self, row: &Row) {
        if row.kind() == BlobKind::Tree || row.is_deleted() || self.last == Some(row.id) {
            return;
        }
        self.last = Some(row.id);
        let at = file_of(self.files, row.pack());
        if let Some(file) = self.files.get_mut(at) {
            file.blobs += 1;
            file.bytes += u64::from(row.size());
        }
    }
}

/// Index files on their way into a segment.
#[derive(Default)]
pub(super) struct Gathered {
    files: Vec<Covered>,
    packs: Vec<Id>,
    rows: Vec<Row>,
}

impl Gathered {
    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no file was added.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Adds a file. Rows beyond what a segment can number are counted as malformed.
    pub(super) fn add(&mut self, file: IndexFile) {
        let IndexFile { id, packs, rows, mut malformed, .. } = file;
        let first_pack = u32::try_from(self.packs.len()).unwrap_or(MOST_PACKS);
        let room = MOST_PACKS.saturating_sub(first_pack);
        self.packs.extend_from_slice(packs.get(..packs.len().min(room as usize)).unwrap_or_default());
        for row in rows {
            if row.pack() < room {
                self.rows.push(row.in_pack(first_pack + row.pack()));
            } else {
                malformed += 1;
            }
        }
        self.files.push(Covered { id, first_pack, whole: true, blobs: 0, bytes: 0, malformed });
    }

    /// The segment of what was added.
    pub(super) fn sorted(self) -> Segment {
        let Gathered { mut files, packs, mut rows } = self;
        rows.sort_unstable();
        let mut tally = Tally::new(&mut files);
        rows.iter().for_each(|row| tally.count(row));
        Segment { files, body: Body::Memory { packs, rows } }
    }
}
