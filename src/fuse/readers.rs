//! Open files: a reader for every handle, and for zero-message opens, which have no handle, one for every inode that
//! was read lately.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::error::{Error, Kind, Result};
use crate::tree::{Backing, Content, Node, Reader, Step};

/// Readers kept for inodes: more than files are read at the same time.
const KEPT: u64 = 512;
/// How long an unused one is kept.
const IDLE: Duration = Duration::from_secs(60);

/// A file being read.
pub(super) struct OpenFile {
    reader: Arc<dyn Reader>,
    size: u64,
}

impl OpenFile {
    /// Opens the file that `node` is.
    pub fn open(node: &Node) -> Step<Arc<OpenFile>> {
        let size = node.meta.size;
        match &node.content {
            Content::File(file) => file.open().map(move |reader| Ok(Arc::new(OpenFile { reader, size }))),
            Content::Dir(_) => {
                Step::err(Error::new(Kind::IsDirectory, "a directory is not read like a file"))
            }
            _ => Step::err(Error::new(Kind::Invalid, "not a regular file")),
        }
    }

    /// Its size, as the kernel was told.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The file behind it that the kernel may read by itself.
    pub fn backing(&self) -> Option<Backing> {
        self.reader.backing()
    }

    /// Exactly the bytes from `offset` that a file of this size has, `len` at most.
    pub fn read(&self, offset: u64, len: u32) -> Step<Bytes> {
        let wanted = self.size.saturating_sub(offset).min(u64::from(len));
        let Ok(wanted) = usize::try_from(wanted) else {
            return Step::err(Error::new(Kind::Invalid, "length"));
        };
        if wanted == 0 {
            return Step::ok(Bytes::new());
        }
        // Fewer bytes would be taken for the end of the file.
        match self.reader.read_at(offset, wanted) {
            Step::Ready(data) => Step::Ready(data.and_then(|data| complete(data, offset, wanted))),
            Step::Wait(wait) => Step::wait(async move { complete(wait.await?, offset, wanted) }),
        }
    }

    /// Where data or a hole begins from `offset` on; `None` at and beyond the end, and for data when only a hole follows.
    pub fn seek(&self, offset: u64, hole: bool) -> Step<Option<u64>> {
        if offset >= self.size {
            return Step::ok(None);
        }
        if hole {
            self.reader.next_hole(offset).map(|hole| Ok(Some(hole)))
        } else {
            self.reader.next_data(offset)
        }
    }
}

fn complete(data: Bytes, offset: u64, wanted: usize) -> Result<Bytes> {
    if data.len() == wanted {
        return Ok(data);
    }
    let message = format!("a reader gave {} of {wanted} bytes at {offset}", data.len());
    Err(Error::new(Kind::Internal, message))
}

/// Readers of inodes without handles. Sequential state lives in them, so the same one answers from read to read.
pub(super) struct Readers(Cache<u64, Arc<OpenFile>>);

impl Readers {
    /// Empty.
    pub fn new() -> Self {
        let cache = Cache::builder().max_capacity(KEPT).eviction_policy(EvictionPolicy::lru());
        Readers(cache.time_to_idle(IDLE).build())
    }

    /// The reader of `ino`.
    pub fn get(&self, ino: u64) -> Option<Arc<OpenFile>> {
        self.0.get(&ino)
    }

    /// Lets go of the reader of `ino`.
    pub fn drop(&self, ino: u64) {
        self.0.invalidate(&ino);
    }

    /// Keeps a new reader, unless another request was faster: then the other's is used.
    pub fn keep(&self, ino: u64, file: Arc<OpenFile>) -> Arc<OpenFile> {
        self.0.entry(ino).or_insert(file).into_value()
    }
}

/// What is open, by the number given to the kernel: never 0.
pub(super) struct Handles<T> {
    open: Mutex<HashMap<u64, Arc<T>>>,
    next: AtomicU64,
}

impl<T> Handles<T> {
    /// Empty.
    pub fn new() -> Self {
        Handles { open: Mutex::default(), next: AtomicU64::new(1) }
    }

    /// A new number for `value`.
    pub fn insert(&self, value: Arc<T>) -> u64 {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(handle, value);
        handle
    }

    /// What has this number.
    pub fn get(&self, handle: u64) -> Option<Arc<T>> {
        self.lock().get(&handle).cloned()
    }

    /// Closes it.
    pub fn remove(&self, handle: u64) {
        self.lock().remove(&handle);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<T>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives all but the last `short` of the bytes asked for.
    struct Digits {
        short: usize,
    }

    impl Reader for Digits {
        fn read_at(&self, offset: u64, len: usize) -> Step<Bytes> {
            let all = b"0123456789";
            let from = usize::try_from(offset).unwrap();
            Step::ok(Bytes::copy_from_slice(&all[from..from + len - self.short]))
        }
        fn next_data(&self, offset: u64) -> Step<Option<u64>> {
            Step::ok((offset < 5).then_some(offset))
        }
        fn next_hole(&self, offset: u64) -> Step<u64> {
            Step::ok(offset.max(5))
        }
    }

    fn file(short: usize) -> OpenFile {
        OpenFile { reader: Arc::new(Digits { short }), size: 10 }
    }

    fn now<T>(step: Step<T>) -> Result<T> {
        let Step::Ready(result) = step else { panic!("waits") };
        result
    }

    #[test]
    fn reads_are_cut_at_the_end_and_nowhere_else() {
        assert_eq!(now(file(0).read(2, 3)).unwrap(), "234");
        assert_eq!(now(file(0).read(8, 4096)).unwrap(), "89");
        assert_eq!(now(file(0).read(10, 4096)).unwrap(), "");
        assert_eq!(now(file(0).read(u64::MAX, 1)).unwrap(), "");
    }

    #[test]
    fn a_short_answer_is_an_error_and_never_a_short_read() {
        let error = now(file(1).read(2, 3)).unwrap_err();
        assert_eq!(error.kind(), Kind::Internal);
        assert_eq!(error.to_string(), "a reader gave 2 of 3 bytes at 2");
    }

    #[test]
    fn seeks_end_with_the_file() {
        assert_eq!(now(file(0).seek(3, false)).unwrap(), Some(3));
        assert_eq!(now(file(0).seek(7, false)).unwrap(), None);
        assert_eq!(now(file(0).seek(3, true)).unwrap(), Some(5));
        assert_eq!(now(file(0).seek(10, true)).unwrap(), None);
    }

    #[test]
    fn the_first_reader_of_an_inode_is_the_one_that_stays() {
        let readers = Readers::new();
        assert!(readers.get(9).is_none());
        let first = readers.keep(9, Arc::new(file(0)));
        let second = readers.keep(9, Arc::new(file(0)));
        assert!(Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&readers.get(9).unwrap(), &first));
        readers.drop(9);
        assert!(readers.get(9).is_none());
    }

    #[test]
    fn handles_are_never_zero_and_end_when_closed() {
        let handles = Handles::new();
        let (a, b) = (handles.insert(Arc::new('a')), handles.insert(Arc::new('b')));
        assert!(a != 0 && b != 0 && a != b);
        assert_eq!(handles.get(a).as_deref(), Some(&'a'));
        handles.remove(a);
        assert_eq!((handles.get(a), handles.get(b).as_deref()), (None, Some(&'b')));
    }
}
