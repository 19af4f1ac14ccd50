//! Files and extended attributes of a backup. Like directories, the handles are light: an entry of a directory.

use std::sync::Arc;

use bytes::Bytes;

use super::directory::TreeDir;
use super::parsed::Parsed;
use crate::error::{Error, Kind, Result};
use crate::source::chunked::{ChunkReader, FileMap, Loader};
use crate::tree::{File, Reader, Step, Xattrs};

/// Entry `entry` of `dir`, a regular file.
pub(super) struct TreeFile {
    pub dir: TreeDir,
    pub entry: usize,
}

impl TreeFile {
    fn loader(&self) -> &Loader {
        &self.dir.place.view.repository.loader
    }

    /// The reader, or nothing when the index does not know all blobs of the file.
    fn reader(&self, parsed: &Parsed) -> Result<Option<Arc<dyn Reader>>> {
        let gone = || Error::new(Kind::Internal, "a file's entry is not in its directory");
        let entry = parsed.entry(self.entry).ok_or_else(gone)?;
        if entry.is_damaged() {
            return Err(Error::new(Kind::Corrupt, "the file's node names no content"));
        }
        let Ok(map) = FileMap::new(entry.content(), &self.loader().index()) else { return Ok(None) };
        if map.size() != parsed.measure(self.entry).size {
            let text = format!("shown with {} bytes, has {}", parsed.measure(self.entry).size, map.size());
            return Err(Error::new(Kind::Corrupt, text));
        }
        let inner = ChunkReader::new(self.loader().clone(), Arc::new(map));
        let file = TreeFile { dir: self.dir.clone(), entry: self.entry };
        Ok(Some(Arc::new(TreeReader { inner, file: Arc::new(file) })))
    }

    /// Lists the index again, then has a reader or a reason.
    async fn reader_after_relisting(&self, parsed: &Parsed) -> Result<Arc<dyn Reader>> {
        self.loader().relist(self.loader().index().generation()).await;
        if let Some(reader) = self.reader(parsed)? {
            return Ok(reader);
        }
        let content =
            parsed.entry(self.entry).map(|entry| FileMap::new(entry.content(), &self.loader().index()));
        let which = match content {
            Some(Err(blob)) => format!("data blob {blob} is in no index file"),
            _ => "a data blob is in no index file".into(),
        };
        Err(Error::new(Kind::Corrupt, which))
    }

    fn explain(&self, error: Error) -> Error {
        let parsed = self.dir.place.view.repository.parsed(&self.dir.tree);
        let entry = parsed.as_ref().and_then(|parsed| parsed.entry(self.entry));
        self.dir.place.explain(entry.as_ref().map(|entry| entry.name()), error)
    }
}

impl File for TreeFile {
    fn open(&self) -> Step<Arc<dyn Reader>> {
        let file = TreeFile { dir: self.dir.clone(), entry: self.entry };
        self.dir.parsed().then(move |parsed| match file.reader(&parsed) {
            Ok(Some(reader)) => Step::ok(reader),
            Ok(None) => Step::wait(async move {
                file.reader_after_relisting(&parsed).await.map_err(|error| file.explain(error))
            }),
            Err(error) => Step::err(file.explain(error)),
        })
    }
}

/// Reads a file; errors tell its path.
struct TreeReader {
    inner: ChunkReader,
    file: Arc<TreeFile>,
}

impl Reader for TreeReader {
    fn read_at(&self, offset: u64, len: usize) -> Step<Bytes> {
        match self.inner.read_at(offset, len) {
            Step::Ready(Ok(bytes)) => Step::ok(bytes),
            Step::Ready(Err(error)) => Step::err(self.file.explain(error)),
            Step::Wait(wait) => {
                let file = Arc::clone(&self.file);
                Step::wait(async move { wait.await.map_err(|error| file.explain(error)) })
            }
        }
    }

    fn next_data(&self, offset: u64) -> Step<Option<u64>> {
        self.inner.next_data(offset)
    }

    fn next_hole(&self, offset: u64) -> Step<u64> {
        self.inner.next_hole(offset)
    }
}

/// The extended attributes of entry `entry` of `dir`.
pub(super) struct EntryXattrs {
    pub dir: TreeDir,
    pub entry: usize,
}

impl Xattrs for EntryXattrs {
    fn get(&self, name: &[u8]) -> Step<Option<Bytes>> {
        match self.dir.parsed() {
            Step::Ready(parsed) => Step::Ready(parsed.map(|parsed| value(&parsed, self.entry, name))),
            Step::Wait(wait) => {
                let (entry, name) = (self.entry, name.to_vec());
                Step::wait(async move { Ok(value(&*wait.await?, entry, &name)) })
            }
        }
    }

    fn names(&self) -> Step<Vec<Bytes>> {
        let entry = self.entry;
        self.dir.parsed().map(move |parsed| {
            let node = parsed.entry(entry);
            Ok(node
                .iter()
                .flat_map(|node| node.xattrs())
                .map(|(name, _)| Bytes::copy_from_slice(name))
                .collect())
        })
    }
}

fn value(parsed: &Parsed, entry: usize, name: &[u8]) -> Option<Bytes> {
    let node = parsed.entry(entry)?;
    let found = node.xattrs().find(|(found, _)| *found == name)?;
    Some(Bytes::copy_from_slice(found.1))
}
