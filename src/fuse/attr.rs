//! What a node's attributes look like to the kernel.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, INodeNo};

use super::owner::Owners;
use crate::error::{Error, Kind, Result};
use crate::tree::{FileType, Meta, Time, Validity};

/// What `st_blksize` says: large enough for `cp` to read in few calls.
const BLOCK_SIZE: u32 = 256 * 1024;

/// As good as for ever, and far from every overflow in the kernel's clock.
const FOREVER: Duration = Duration::from_secs(1 << 30);

/// Attributes of `meta` under inode number `ino`. Errors: `Corrupt` for a size that the kernel cannot express.
pub(super) fn shown(meta: &Meta, ino: u64, owners: &Owners) -> Result<FileAttr> {
    if i64::try_from(meta.size).is_err() {
        return Err(Error::new(Kind::Corrupt, format!("a size of {} bytes cannot be shown", meta.size)));
    }
    let (uid, gid) = owners.of(meta.uid, meta.gid);
    Ok(FileAttr {
        ino: INodeNo(ino),
        size: meta.size,
        blocks: meta.blocks,
        atime: time(meta.atime),
        mtime: time(meta.mtime),
        ctime: time(meta.ctime),
        crtime: UNIX_EPOCH,
        kind: kind(meta.kind),
        perm: meta.perm & 0o7777,
        nlink: meta.nlink.max(1),
        uid,
        gid,
        rdev: meta.rdev,
        blksize: BLOCK_SIZE,
        flags: 0,
    })
}

/// Attributes for an entry whose true ones only a look-up can tell: right in type and number, valid for no time.
pub(super) fn placeholder(file_type: FileType, ino: u64) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: kind(file_type),
        perm: 0,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// How long the kernel may keep an answer.
pub(super) fn ttl(validity: Validity) -> Duration {
    match validity {
        Validity::Forever => FOREVER,
        Validity::For(duration) => duration.min(FOREVER),
    }
}

/// The kernel's name for a type.
pub(super) fn kind(file_type: FileType) -> fuser::FileType {
    match file_type {
        FileType::Dir => fuser::FileType::Directory,
        FileType::File => fuser::FileType::RegularFile,
        FileType::Symlink => fuser::FileType::Symlink,
        FileType::Block => fuser::FileType::BlockDevice,
        FileType::Char => fuser::FileType::CharDevice,
        FileType::Fifo => fuser::FileType::NamedPipe,
        FileType::Socket => fuser::FileType::Socket,
    }
}

/// Every `i64` of seconds is a `SystemTime` on Linux; the epoch stands in should it ever not be.
fn time(time: Time) -> SystemTime {
    let seconds = Duration::from_secs(time.secs.unsigned_abs());
    let whole = if time.secs < 0 { UNIX_EPOCH.checked_sub(seconds) } else { UNIX_EPOCH.checked_add(seconds) };
    let nanos = Duration::from_nanos(u64::from(time.nanos.min(999_999_999)));
    whole.and_then(|whole| whole.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuse::{IdMap, Owner};

    fn meta() -> Meta {
        Meta::directory(Time { secs: 1, nanos: 2 }, Validity::Forever)
    }

    fn owners() -> Owners {
        Owners::new(Owner::Recorded, IdMap::default())
    }

    #[test]
    fn times_before_1970_and_at_the_ends_of_the_calendar_come_through() {
        let half_before = time(Time { secs: -1, nanos: 500_000_000 });
        assert_eq!(UNIX_EPOCH.duration_since(half_before).unwrap(), Duration::from_millis(500));
        let year_9999 = time(Time { secs: 253_402_300_799, nanos: 999_999_999 });
        assert_eq!(
            year_9999.duration_since(UNIX_EPOCH).unwrap(),
            Duration::new(253_402_300_799, 999_999_999)
        );
        let last = time(Time { secs: i64::MAX, nanos: u32::MAX });
        assert_eq!(last.duration_since(UNIX_EPOCH).unwrap().as_secs(), i64::MAX.unsigned_abs());
        let first = time(Time { secs: i64::MIN, nanos: 0 });
        assert_eq!(UNIX_EPOCH.duration_since(first).unwrap().as_secs(), 1 << 63);
    }

    #[test]
    fn sizes_beyond_the_kernels_are_refused() {
        let mut meta = Meta { kind: FileType::File, size: i64::MAX.unsigned_abs(), ..meta() };
        assert_eq!(shown(&meta, 7, &owners()).unwrap().size, i64::MAX.unsigned_abs());
        meta.size += 1;
        assert_eq!(shown(&meta, 7, &owners()).unwrap_err().kind(), Kind::Corrupt);
    }

    #[test]
    fn attributes_are_the_nodes_own() {
        let meta = Meta {
            kind: FileType::Char,
            perm: 0o6751,
            uid: 12,
            gid: 34,
            nlink: 0,
            rdev: 0x0501,
            blocks: 9,
            ..meta()
        };
        let attr = shown(&meta, 42, &owners()).unwrap();
        assert_eq!((attr.ino.0, attr.kind, attr.perm), (42, fuser::FileType::CharDevice, 0o6751));
        assert_eq!((attr.uid, attr.gid, attr.rdev, attr.blocks), (12, 34, 0x0501, 9));
        assert_eq!(attr.nlink, 1, "a link count of 0 confuses programs");
        assert_eq!(attr.mtime, UNIX_EPOCH + Duration::new(1, 2));
    }

    #[test]
    fn a_placeholder_tells_the_type_and_grants_nothing() {
        let attr = placeholder(FileType::Dir, 9);
        assert_eq!((attr.kind, attr.ino.0, attr.perm), (fuser::FileType::Directory, 9, 0));
    }

    #[test]
    fn validity_becomes_a_lifetime() {
        assert_eq!(ttl(Validity::For(Duration::from_secs(60))), Duration::from_secs(60));
        assert_eq!(ttl(Validity::For(Duration::MAX)), ttl(Validity::Forever));
        assert_eq!(ttl(Validity::For(Duration::ZERO)), Duration::ZERO);
    }
}
