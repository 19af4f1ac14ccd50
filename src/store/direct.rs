//! Large ranges of files that the page cache does not hold are read past it.
//!
//! What a mount serves lies in the page cache anyway, decoded. Keeping the stored bytes there too takes a copy, a page for
//! every 4 KiB, and the place of what others have cached. Ranges that are cached already, and file systems that cannot,
//! are left to ordinary reads, and so is whatever goes wrong here.

use std::fs::File;
use std::os::fd::AsRawFd;

use bytes::Bytes;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// Shorter ranges profit from what the kernel reads around them.
const SHORTEST: u64 = 256 * 1024;

/// Offsets, lengths and memory are multiples of this, which suits every device.
const ALIGNMENT: u64 = 4096;

/// The number of cachestat(2) (Linux 6.5), which no library names yet on all machines; older kernels refuse it.
const CACHESTAT: libc::c_long = 451;

/// `length` bytes from `offset`, if they are better read so and could be.
pub(super) fn read(file: &File, offset: u64, length: u64) -> Option<Bytes> {
    if length < SHORTEST || !is_mostly_uncached(file, offset, length)? {
        return None;
    }
    let flags = fcntl_getfl(file).ok()?;
    fcntl_setfl(file, flags | OFlags::DIRECT).ok()?;
    let bytes = read_aligned(file, offset, length);
    if bytes.is_none() {
        fcntl_setfl(file, flags).ok()?;
    }
    bytes
}

fn read_aligned(file: &File, offset: u64, length: u64) -> Option<Bytes> {
    let start = offset / ALIGNMENT * ALIGNMENT;
    let end = offset.checked_add(length)?.checked_next_multiple_of(ALIGNMENT)?;
    let skip = usize::try_from(offset - start).ok()?;
    let wanted = usize::try_from(length).ok()?;
    let mut bytes = Vec::<u8>::new();
    bytes.try_reserve_exact(usize::try_from(end - start + ALIGNMENT).ok()?).ok()?;
    // The first read starts at an aligned address; `pad` bytes before it are never looked at.
    let pad = bytes.as_ptr().align_offset(usize::try_from(ALIGNMENT).ok()?);
    bytes.resize(pad, 0);
    while bytes.len() < pad + skip + wanted {
        let at = start + (bytes.len() - pad) as u64;
        let left = usize::try_from(end - at).ok()?;
        // No more than that, because the length has to be a multiple too.
        let free = bytes.spare_capacity_mut().get_mut(..left)?;
        let read = match rustix::io::pread(file, free, at) {
            Ok((read, _)) => read.len(),
            Err(Errno::INTR) => continue,
            Err(_) => return None,
        };
        if read == 0 {
            return None;
        }
        // SAFETY: so many bytes behind the present end were just written, within the capacity.
        unsafe { bytes.set_len(bytes.len() + read) };
    }
    Some(Bytes::from(bytes).slice(pad + skip..pad + skip + wanted))
}

/// Whether less than half of a range is in the page cache; nothing where the kernel does not tell.
fn is_mostly_uncached(file: &File, offset: u64, length: u64) -> Option<bool> {
    // struct cachestat_range: offset, length. struct cachestat: cached, dirty, under writeback, evicted, lately evicted.
    let range = [offset, length];
    let mut pages = [0u64; 5];
    // SAFETY: the descriptor is open, and both pointers are to memory of the size that the call reads and writes.
    let result =
        unsafe { libc::syscall(CACHESTAT, file.as_raw_fd(), range.as_ptr(), pages.as_mut_ptr(), 0_u32) };
    (result == 0).then(|| pages.first().is_some_and(|cached| cached * ALIGNMENT * 2 < length))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;
    use rustix::fs::Advice;

    use super::*;

    /// A file of a million numbers.
    fn numbers() -> (File, Vec<u8>) {
        let bytes: Vec<u8> = (0u32..1_000_003).flat_map(u32::to_le_bytes).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file.sync_all().unwrap();
        (file, bytes)
    }

    #[test]
    fn what_is_cached_or_short_is_left_to_ordinary_reads() {
        let (file, bytes) = numbers();
        assert_eq!(read(&file, 0, SHORTEST - 1), None);
        assert_eq!(read(&file, 0, bytes.len() as u64), None, "just written");
        let flags = fcntl_getfl(&file).unwrap();
        assert!(!flags.contains(OFlags::DIRECT));
    }

    #[test]
    fn what_goes_wrong_leaves_an_ordinary_file() {
        let (file, bytes) = numbers();
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        assert_eq!(read(&file, 5, bytes.len() as u64), None, "beyond the end");
        assert_eq!(read(&file, u64::MAX - 5, SHORTEST), None);
        assert!(!fcntl_getfl(&file).unwrap().contains(OFlags::DIRECT));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]
        #[test]
        fn any_range_is_exact(offset in 0u64..3_000_000, length in 0u64..1_200_000) {
            let (file, bytes) = numbers();
            let (from, to) = (usize::try_from(offset).unwrap(), usize::try_from(offset + length).unwrap());
            let end = u64::try_from(bytes.len()).unwrap();
            // Where the disk or the kernel cannot, there is nothing to compare.
            if let Some(read) = read_aligned(&file, offset, length) {
                prop_assert!(offset + length <= end);
                prop_assert_eq!(&read[..], &bytes[from..to]);
            }
            fcntl_setfl(&file, fcntl_getfl(&file).unwrap() | OFlags::DIRECT).unwrap();
            if let Some(read) = read_aligned(&file, offset, length) {
                prop_assert_eq!(&read[..], &bytes[from..to]);
            }
        }
    }
}
