//! Putting content into the kernel's page cache unasked: FUSE_NOTIFY_STORE.
//!
//! Written by us to a duplicate of the session's descriptor, because fuser takes ENOENT for success: an inode that the
//! kernel does not know (yet) keeps nothing.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::error::{Error, Kind, Result};

/// `enum fuse_notify_code` of `linux/fuse.h`.
const NOTIFY_STORE: i32 = 4;

/// Bytes of `struct fuse_out_header` and `struct fuse_notify_store_out`.
const HEADER: usize = 16 + 24;

/// What became of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// The kernel keeps it.
    Kept,
    /// The kernel does not know the inode.
    Unknown,
}

/// The whole content of inode `ino`, which must be as long as the kernel was told: what lies beyond would grow the
/// file. Waits for reads of the same pages that are being answered, so it is never called on a kernel thread.
///
/// Errors: `Unavailable` when the mount has gone, `System` when this kernel does not take it.
pub(super) fn store(door: &OwnedFd, ino: u64, content: &[u8]) -> Result<Stored> {
    let header = header(ino, content.len())?;
    match rustix::io::writev(door, &[IoSlice::new(&header), IoSlice::new(content)]) {
        Ok(_) => Ok(Stored::Kept),
        Err(Errno::NOENT) => Ok(Stored::Unknown),
        Err(Errno::NODEV) => Err(Error::new(Kind::Unavailable, "the mount has gone")),
        Err(errno) => Err(Error::caused_by(Kind::System, "the kernel takes no content unasked", errno)),
    }
}

fn header(ino: u64, size: usize) -> Result<[u8; HEADER]> {
    let field = |size: usize| {
        u32::try_from(size).map_err(|_| Error::new(Kind::Internal, "more than can be stored at once"))
    };
    let fields: [&[u8]; 7] = [
        &field(HEADER + size)?.to_ne_bytes(),
        &NOTIFY_STORE.to_ne_bytes(),
        // The request that this answers: none.
        &0u64.to_ne_bytes(),
        &ino.to_ne_bytes(),
        // From the beginning of the file.
        &0u64.to_ne_bytes(),
        &field(size)?.to_ne_bytes(),
        // Padding.
        &0u32.to_ne_bytes(),
    ];
    let mut header = [0; HEADER];
    header.iter_mut().zip(fields.concat()).for_each(|(to, from)| *to = from);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_laid_out_as_the_kernel_reads_it() {
        let header = header(0x0102_0304_0506_0708, 1000).unwrap();
        let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_ne_bytes(header[at..at + 8].try_into().unwrap());
        assert_eq!((word(0), word(4), long(8)), (1040, 4, 0));
        assert_eq!((long(16), long(24), word(32), word(36)), (0x0102_0304_0506_0708, 0, 1000, 0));
    }

    #[test]
    fn a_message_is_written_in_one_piece() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        assert_eq!(store(&writer, 7, b"content").unwrap(), Stored::Kept);
        let mut message = [0; 100];
        let size = rustix::io::read(&reader, &mut message).unwrap();
        assert_eq!(&message[HEADER..size], b"content");
        drop(reader);
        assert_eq!(store(&writer, 7, b"content").unwrap_err().kind(), Kind::System);
    }
}
