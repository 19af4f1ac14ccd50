//! New index files on their way into segments, within bounded memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Shelf;
use super::file::IndexFile;
use super::segment::{Gathered, Segment};
use crate::error::Result;
use crate::source::chunked::Id;

/// So many rows are gathered in memory (12 MiB) before they go to disk, where there is one.
pub(super) const RUN: usize = 1 << 18;

/// Segments that are not yet in any stack.
#[derive(Default)]
pub struct NewSegments(pub(super) Vec<Arc<Segment>>);

/// Takes index files from several threads.
#[derive(Default)]
pub struct Gathering {
    shelf: Option<Arc<Shelf>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Gathered,
    full: Vec<Segment>,
}

impl Gathering {
    /// With a shelf, what becomes too much for memory goes there.
    pub fn new(shelf: Option<Arc<Shelf>>) -> Self {
        Gathering { shelf, state: Mutex::default() }
    }

    /// An empty list of the blobs of index file `id`, to be filled and then added.
    pub fn begin(&self, id: Id) -> IndexFile {
        IndexFile::with_shelf(id, self.shelf.clone())
    }

    /// Adds a file. Sorts and writes on the caller's thread when enough is gathered. Errors: what went aside of the file
    /// cannot be read.
    pub fn add(&self, file: IndexFile) -> Result<()> {
        let full = match file.joined()? {
            Ok(segment) => segment,
            Err(small) => {
                let mut state = self.lock();
                state.open.add(small);
                let Some(shelf) = self.shelf.as_ref().filter(|_| state.open.len() >= RUN) else {
                    return Ok(());
                };
                let run = std::mem::take(&mut state.open);
                drop(state);
                shelf.aside(run.sorted())
            }
        };
        self.lock().full.push(full);
        Ok(())
    }

    /// What was added since this was asked.
    pub fn finish(&self) -> NewSegments {
        let State { open, mut full } = std::mem::take(&mut *self.lock());
        if !open.is_empty() {
            full.push(open.sorted());
        }
        NewSegments(full.into_iter().map(Arc::new).collect())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl FromIterator<IndexFile> for NewSegments {
    fn from_iter<I: IntoIterator<Item = IndexFile>>(files: I) -> Self {
        let gathering = Gathering::default();
        files.into_iter().for_each(|file| gathering.add(file).unwrap());
        gathering.finish()
    }
}
