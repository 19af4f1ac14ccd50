//! A segment in a file: read page by page, never believed.
//!
//! Nothing is mapped: a file that is cut short while it is in use is a failed read instead of a SIGBUS, and what is
//! read counts in a memory of our own ([`Pages`]). A page that fails its checksum marks the segment as damaged, which
//! has the index files decoded again. A wrong entry that passes could at worst make a blob unreadable, because blobs are
//! authenticated and checked against their ids.

use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use xxhash_rust::xxh3::xxh3_64;

use super::layout::{self, BODY, Header, IDS, PAGE, ROWS};
use super::pages::Pages;
use super::row::{Row, id_at};
use super::segment::{Body, Segment};
use super::{BlobKind, search};
use crate::error::{Error, Kind, Result};
use crate::source::chunked::Id;

/// Pages that are read at once when all of them are.
const READ_AT_ONCE: u64 = 64;

/// Rows and packs in a file.
pub(super) struct Table {
    file: File,
    /// `None` for a file that nobody else can open.
    name: Option<String>,
    header: Header,
    /// What the first id of each page begins with.
    firsts: Box<[u64]>,
    number: u64,
    pages: Arc<Pages>,
    damaged: AtomicBool,
}

/// Opens the segment in `file`. Errors: `Corrupt` when it is none or is not whole.
pub(super) fn open(file: File, name: Option<String>, pages: &Arc<Pages>) -> Result<Segment> {
    let corrupt = |why: &str| Error::new(Kind::Corrupt, why);
    let failed = |e| Error::io("reading", e);
    let length = file.metadata().map_err(failed)?.len();
    if length < PAGE as u64 {
        return Err(corrupt("cut short"));
    }
    let mut page = [0; PAGE];
    file.read_exact_at(&mut page, 0).map_err(failed)?;
    let header = Header::decode(&page).ok_or_else(|| corrupt("no segment of an index"))?;
    let tables_at = header.tables_at().ok_or_else(|| corrupt("absurd numbers"))?;
    if tables_at.checked_add(header.tables_len()) != Some(length) {
        return Err(corrupt("of a wrong length"));
    }
    let mut tables = vec![0; usize::try_from(header.tables_len()).map_err(|_| corrupt("too large"))?];
    file.read_exact_at(&mut tables, tables_at).map_err(failed)?;
    if xxh3_64(&tables) != header.checksum {
        return Err(corrupt("damaged tables"));
    }
    let (firsts, files) =
        tables.split_at_checked(usize::try_from(header.row_pages() * 8).unwrap_or(0)).unwrap_or_default();
    let (firsts, _) = firsts.as_chunks::<8>();
    let firsts: Box<[u64]> = firsts.iter().map(|first| u64::from_le_bytes(*first)).collect();
    let files = layout::decode_covered(files, header.packs).filter(|_| firsts.is_sorted());
    let files = files.ok_or_else(|| corrupt("tables out of order"))?;
    let (number, pages, damaged) = (pages.number(), Arc::clone(pages), AtomicBool::new(false));
    Ok(Segment { files, body: Body::Disk(Table { file, name, header, firsts, number, pages, damaged }) })
}

impl Table {
    /// How many rows there are.
    pub(super) fn len(&self) -> u64 {
        self.header.rows
    }

    /// How many packs there are.
    pub(super) fn packs(&self) -> u32 {
        self.header.packs
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether a page could not be read.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Calls `each` for the rows of one blob until it breaks.
    pub(super) fn visit(&self, kind: BlobKind, id: &Id, each: &mut dyn FnMut(Row) -> ControlFlow<()>) {
        let mut next = Some(self.page_of(id));
        // Taken out of the page first: `each` may look at other pages, and one of them may belong into the same slot.
        let mut wanted: Vec<Row> = Vec::new();
        while let Some(at) = next {
            let goes_on = self.page(1 + at as u64, |page| {
                let rows = self.rows_on(at, page);
                let first = rows.partition_point(|row| is_below(row, id));
                let rest = rows.get(first..).unwrap_or_default();
                let same = rest.iter().take_while(|row| id_at(*row) == *id).map(Row::decode);
                let before = wanted.len();
                wanted.extend(same);
                rest.len() == wanted.len() - before
            });
            let more = self.firsts.get(at + 1).is_some_and(|first| *first <= id.prefix());
            next = (goes_on == Some(true) && more).then_some(at + 1);
        }
        let _ = wanted.into_iter().filter(|row| row.kind() == kind).try_for_each(each);
    }

    /// The row page on which the rows of a blob begin, if there are any.
    fn page_of(&self, id: &Id) -> usize {
        let prefix = id.prefix();
        let first = |at: usize| self.firsts.get(at).copied().unwrap_or(u64::MAX);
        let from = search::first(self.firsts.len(), prefix, first, |at| first(at) < prefix);
        // Pages that begin like this id: hardly ever more than one, unless somebody made the ids.
        let same = self.firsts.get(from..).unwrap_or_default().partition_point(|first| *first == prefix);
        let begins_below = |at: usize| self.page(1 + at as u64, |page| is_below(page, id)).unwrap_or(false);
        search::halve(from, from + same, begins_below).saturating_sub(1)
    }

    /// The pack of this number.
    pub(super) fn pack(&self, number: u32) -> Option<Id> {
        if number >= self.header.packs {
            return None;
        }
        let at = usize::try_from(u64::from(number) % IDS * 32).ok()?;
        self.page(self.header.pack_page(number), |page| Some(id_at(page.get(at..at + 32)?)))?
    }

    /// All rows in order. An error ends them.
    pub(super) fn scan(&self) -> Scan<'_> {
        Scan { table: self, next: 0, buffer: Vec::new(), rows: Vec::new().into_iter() }
    }

    /// The rows on row page `at`.
    fn rows_on<'p>(&self, at: usize, page: &'p [u8]) -> &'p [[u8; Row::BYTES]] {
        let left = self.header.rows.saturating_sub(at as u64 * ROWS).min(ROWS);
        let (rows, _) = page.get(..BODY).unwrap_or_default().as_chunks();
        rows.get(..usize::try_from(left).unwrap_or(0)).unwrap_or_default()
    }

    /// What `read` makes of a page; nothing when the page cannot be read, which is noted.
    fn page<T>(&self, at: u64, read: impl FnOnce(&[u8; PAGE]) -> T) -> Option<T> {
        let load = |page: &mut [u8; PAGE]| self.load(at, page);
        let answer = self.pages.with((self.number, at), load, read);
        answer.map_err(|error| self.note_damage(&error)).ok()
    }

    /// Fills `buffer` with pages from number `at` and checks them.
    fn load(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(buffer, at * PAGE as u64).map_err(|e| Error::io(format!("page {at}"), e))?;
        for (number, page) in (at..).zip(buffer.chunks_exact(PAGE)) {
            if !layout::is_good(self.header.salt, number, page) {
                return Err(Error::new(Kind::Corrupt, format!("page {number} is damaged")));
            }
        }
        Ok(())
    }

    fn note_damage(&self, error: &Error) {
        if !self.damaged.swap(true, Ordering::Relaxed) {
            let name = self.name().unwrap_or("not yet named");
            tracing::warn!("index cache, segment {name}: {error}; its index files will be read again");
        }
    }
}

/// Whether the id that `bytes` begin with is below `id`. Their beginnings decide nearly always.
fn is_below(bytes: &[u8], id: &Id) -> bool {
    let beginning = bytes.first_chunk().copied().map_or(0, u64::from_be_bytes);
    beginning < id.prefix() || beginning == id.prefix() && id_at(bytes) < *id
}

/// The rows of a table in order.
pub(super) struct Scan<'t> {
    table: &'t Table,
    /// The next row page.
    next: u64,
    buffer: Vec<u8>,
    rows: std::vec::IntoIter<Row>,
}

impl Scan<'_> {
    /// Reads the next pages; false after the last.
    fn read(&mut self) -> Result<bool> {
        let pages = (self.table.header.row_pages() - self.next).min(READ_AT_ONCE);
        if pages == 0 {
            return Ok(false);
        }
        self.buffer.resize(usize::try_from(pages).unwrap_or(0) * PAGE, 0);
        self.table.load(1 + self.next, &mut self.buffer)?;
        let first = usize::try_from(self.next).unwrap_or(usize::MAX);
        let numbered = (first..).zip(self.buffer.chunks_exact(PAGE));
        let rows = numbered.flat_map(|(at, page)| self.table.rows_on(at, page)).map(Row::decode);
        self.rows = rows.collect::<Vec<Row>>().into_iter();
        self.next += pages;
        Ok(true)
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        loop {
            if let Some(row) = self.rows.next() {
                return Some(Ok(row));
            }
            match self.read() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.table.note_damage(&error);
                    self.next = self.table.header.row_pages();
                    return Some(Err(error));
                }
            }
        }
    }
}
