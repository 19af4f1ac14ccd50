//! Writing a segment: rows in order, then packs, then what describes them.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use xxhash_rust::xxh3::xxh3_64;

use super::layout::{self, BODY, Header, PAGE};
use super::merge::Output;
use super::row::Row;
use super::segment::Covered;
use crate::error::{Error, Kind, Result};
use crate::source::chunked::Id;

/// Bytes that are handed to the system at once.
const AT_ONCE: usize = 64 * PAGE;

/// A segment's file as it is being written. Page 0 comes last: a file without it is no segment.
pub(super) struct Writer<'f> {
    file: &'f File,
    header: Header,
    /// Whole pages.
    done: Vec<u8>,
    /// The number of the page that is being filled, and what it holds.
    number: u64,
    body: Vec<u8>,
    firsts: Vec<u8>,
}

impl<'f> Writer<'f> {
    /// Writes to `file`, which is new and empty.
    pub(super) fn new(file: &'f File) -> Self {
        let header = Header { salt: layout::salt(), rows: 0, packs: 0, files: 0, checksum: 0 };
        let done = vec![0; PAGE];
        Writer { file, header, done, number: 1, body: Vec::with_capacity(PAGE), firsts: Vec::new() }
    }

    /// Writes the tables of `files` and page 0.
    pub(super) fn finish(mut self, files: &[Covered]) -> Result<()> {
        self.page()?;
        let mut tables = std::mem::take(&mut self.firsts);
        tables.extend(files.iter().flat_map(layout::encode_covered));
        self.header.files = u32::try_from(files.len()).map_err(|_| too_large())?;
        self.header.checksum = xxh3_64(&tables);
        self.done.append(&mut tables);
        self.flush()?;
        self.file.write_all_at(&self.header.encode(), 0).map_err(failed)
    }

    /// Appends `bytes`, which fit onto a page.
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.body.len() + bytes.len() > BODY {
            self.page()?;
        }
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    /// Ends the page, unless it is empty.
    fn page(&mut self) -> Result<()> {
        if self.body.is_empty() {
            return Ok(());
        }
        self.body.resize(BODY, 0);
        let checksum = layout::checksum(self.header.salt, self.number, &self.body);
        self.done.append(&mut self.body);
        self.done.extend(checksum.to_le_bytes());
        self.number += 1;
        if self.done.len() >= AT_ONCE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_all(&self.done).map_err(failed)?;
        self.done.clear();
        Ok(())
    }
}

impl Output for Writer<'_> {
    fn row(&mut self, row: &Row) -> Result<()> {
        let encoded = row.encode();
        if self.body.len() + encoded.len() > BODY {
            self.page()?;
        }
        if self.body.is_empty() {
            self.firsts.extend(row.id.prefix().to_le_bytes());
        }
        self.header.rows += 1;
        self.append(&encoded)
    }

    fn pack(&mut self, pack: &Id) -> Result<()> {
        if self.header.packs == 0 {
            self.page()?;
        }
        self.header.packs = self.header.packs.checked_add(1).ok_or_else(too_large)?;
        self.append(&pack.0)
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::io("writing", error)
}

fn too_large() -> Error {
    Error::new(Kind::Unsupported, "more than a segment can hold")
}
