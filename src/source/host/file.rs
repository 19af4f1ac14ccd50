//! Files of this machine: read where they lie, through the page cache that everybody else uses too.

use std::io::IoSliceMut;
use std::num::NonZeroU64;
use std::sync::Arc;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, OFlags, SeekFrom, fadvise};
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};

use super::descriptor::{Descriptor, Slot};
use super::stat::Stat;
use super::view::View;
use crate::error::{Error, Kind, Result};
use crate::tree::{BEGINNING, Backing, File, FileType, Reader, Step};

/// A regular file at its place, as it was when it was found.
pub(super) struct HostFile(Arc<Known>);

struct Known {
    view: Arc<View>,
    path: Box<[u8]>,
    stat: Stat,
}

impl HostFile {
    pub(super) fn new(view: Arc<View>, path: Box<[u8]>, stat: Stat) -> Self {
        HostFile(Arc::new(Known { view, path, stat }))
    }

    /// Has its beginning read into memory; nobody waits for that, and what goes wrong is told to who reads it. Blocks.
    pub(super) fn read_ahead(&self) {
        let length = NonZeroU64::new(self.0.stat.size.min(BEGINNING));
        // Whether it still is what it was is looked at when it is read.
        let open = self.0.view.open(&self.0.path, OFlags::RDONLY);
        if let (Some(length), Ok(fd)) = (length, open) {
            let _ = fadvise(&fd, 0, Some(length), Advice::WillNeed);
        }
    }
}

impl Known {
    /// Opens it. Blocks.
    fn open(&self) -> Result<Descriptor> {
        let opened = self.view.open(&self.path, OFlags::RDONLY);
        opened.and_then(|fd| self.checked(fd)).map_err(|error| self.explain(error))
    }

    /// The same, of what the kernel has in memory.
    fn open_at_once(&self) -> Option<Result<Descriptor>> {
        let opened = self.view.open_at_once(&self.path, OFlags::RDONLY)?;
        Some(opened.and_then(|fd| self.checked(fd)).map_err(|error| self.explain(error)))
    }

    /// What was opened, if it still is what was found.
    fn checked(&self, fd: Descriptor) -> Result<Descriptor> {
        let (now, _) = Stat::of(&fd).map_err(|e| Error::io("stat", e.into()))?;
        if now.kind() != FileType::File || !now.is_same_file(&self.stat) {
            return Err(Error::new(Kind::Stale, "the file is not what it was"));
        }
        Ok(fd)
    }

    fn explain(&self, error: Error) -> Error {
        self.view.explain(&self.path, error)
    }
}

impl File for HostFile {
    fn open(&self) -> Step<Arc<dyn Reader>> {
        let file = Arc::clone(&self.0);
        if let Some(opened) = file.open_at_once() {
            return Step::Ready(opened.map(|fd| HostReader::of(file, fd) as _));
        }
        let host = Arc::clone(&file.view.host);
        Step::wait(async move {
            host.run(move || {
                let fd = file.open()?;
                Ok(HostReader::of(file, fd) as Arc<dyn Reader>)
            })
            .await
        })
    }
}

/// Reads a file. Its descriptor may be closed between two reads when others need it more.
struct HostReader {
    file: Arc<Known>,
    slot: Arc<Slot>,
}

impl HostReader {
    fn of(file: Arc<Known>, fd: Descriptor) -> Arc<Self> {
        let slot: Arc<Slot> = Arc::default();
        slot.fill(fd);
        Arc::new(HostReader { file, slot })
    }

    /// How many of `len` bytes at `offset` the file has.
    fn within(&self, offset: u64, len: usize) -> usize {
        let left = self.file.stat.size.saturating_sub(offset);
        usize::try_from(left).map_or(len, |left| left.min(len))
    }

    /// Runs `call` where it may block, with the file open.
    fn wait<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Descriptor) -> Result<T> + Send + 'static,
    ) -> Step<T> {
        let (file, slot) = (Arc::clone(&self.file), Arc::clone(&self.slot));
        let host = Arc::clone(&file.view.host);
        Step::wait(async move {
            host.run(move || {
                let fd = match slot.get() {
                    Some(fd) => fd,
                    None => slot.fill(file.open()?),
                };
                call(&fd).map_err(|error| file.explain(error))
            })
            .await
        })
    }
}

impl Reader for HostReader {
    fn read_at(&self, offset: u64, len: usize) -> Step<Bytes> {
        let len = self.within(offset, len);
        if len == 0 {
            return Step::ok(Bytes::new());
        }
        match self.slot.get().and_then(|fd| cached(&fd, offset, len)) {
            Some(bytes) => Step::ok(bytes),
            None => self.wait(move |fd| read(fd, offset, len)),
        }
    }

    fn backing(&self) -> Option<Backing> {
        // A server that hangs must not hang its readers in the kernel, where no deadline ends that.
        let is_near = self.file.view.at_hand().is_some_and(|top| top.is_near);
        let fd = self.slot.get().filter(|_| is_near)?;
        Some(Backing { lease: fd.lease(), file: fd })
    }

    fn next_data(&self, offset: u64) -> Step<Option<u64>> {
        let size = self.file.stat.size;
        self.wait(move |fd| {
            let found = seek(fd, SeekFrom::Data(offset))?;
            Ok(found.filter(|found| (offset..size).contains(found)))
        })
    }

    fn next_hole(&self, offset: u64) -> Step<u64> {
        let size = self.file.stat.size;
        self.wait(move |fd| Ok(seek(fd, SeekFrom::Hole(offset))?.unwrap_or(size).clamp(offset, size)))
    }
}

/// Where data or a hole begins; nothing behind the last. A file system that knows no holes has data everywhere.
fn seek(fd: &Descriptor, from: SeekFrom) -> Result<Option<u64>> {
    match rustix::fs::seek(fd, from) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NXIO) => Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(match from {
            SeekFrom::Data(offset) => Some(offset),
            _ => None,
        }),
        Err(error) => Err(Error::io("seek", error.into())),
    }
}

/// All `len` bytes at `offset`, if the page cache has them: nothing is waited for.
fn cached(fd: &Descriptor, offset: u64, len: usize) -> Option<Bytes> {
    let mut bytes = vec![0; len];
    let read = preadv2(fd, &mut [IoSliceMut::new(&mut bytes)], offset, ReadWriteFlags::NOWAIT);
    (read == Ok(len)).then(|| bytes.into())
}

/// All `len` bytes at `offset`. Blocks. Errors: `Stale` when the file became shorter.
fn read(fd: &Descriptor, offset: u64, len: usize) -> Result<Bytes> {
    let mut bytes = Vec::new();
    let no_memory = |_| Error::new(Kind::System, format!("no memory for {len} bytes"));
    bytes.try_reserve_exact(len).map_err(no_memory)?;
    while bytes.len() < len {
        let at = offset + bytes.len() as u64;
        // Reads a little more than wanted where the allocator rounded up.
        match pread(fd, spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(Error::new(Kind::Stale, "the file became shorter")),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Error::io("read", error.into())),
        }
    }
    bytes.truncate(len);
    Ok(bytes.into())
}
