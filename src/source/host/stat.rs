//! The attributes of an entry as the file system tells them.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Statx, StatxAttributes, StatxFlags, StatxTimestamp, statx};

use crate::source::chunked::hash;
use crate::tree::{FileType, Identity, Meta, Time, Validity};

/// What statx(2) says, as far as it is shown; small, because there is one for each entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// Inode number.
    pub ino: u64,
    pub size: u64,
    blocks: u64,
    mtime: (i64, u32),
    atime: (i64, u32),
    ctime: (i64, u32),
    mode: u16,
    uid: u32,
    gid: u32,
    nlink: u32,
    rdev: u32,
    /// Another file system, or another volume of this one, begins here.
    pub is_border: bool,
}

/// The number of a device in Linux's 32-bit encoding.
pub(super) type Device = (u32, u32);

impl Stat {
    /// Of the entry `name` of `dir`, which lies on `device`. A link is not followed, nothing is mounted for it.
    pub(super) fn at(dir: impl AsFd, name: &[u8], device: Device) -> rustix::io::Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let found = statx(dir, name, flags, StatxFlags::BASIC_STATS)?;
        Ok(Stat::new(&found, device))
    }

    /// Of what `fd` is open on, and the device it lies on.
    pub(super) fn of(fd: impl AsFd) -> rustix::io::Result<(Self, Device)> {
        let found = statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        let device = (found.stx_dev_major, found.stx_dev_minor);
        Ok((Stat::new(&found, device), device))
    }

    fn new(found: &Statx, device: Device) -> Self {
        let time = |time: StatxTimestamp| (time.tv_sec, time.tv_nsec);
        let elsewhere = (found.stx_dev_major, found.stx_dev_minor) != device;
        let mounted = found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
        // Of other files the device says little: overlayfs shows that of the layer below.
        let is_border = mounted || elsewhere && kind(found.stx_mode) == FileType::Dir;
        Stat {
            ino: found.stx_ino,
            size: found.stx_size,
            blocks: found.stx_blocks,
            mtime: time(found.stx_mtime),
            atime: time(found.stx_atime),
            ctime: time(found.stx_ctime),
            mode: found.stx_mode,
            uid: found.stx_uid,
            gid: found.stx_gid,
            nlink: found.stx_nlink,
            rdev: encoded(found.stx_rdev_major, found.stx_rdev_minor),
            is_border,
        }
    }

    /// Its type.
    pub(super) fn kind(&self) -> FileType {
        kind(self.mode)
    }

    /// Whether `other` is the same file with the same content, as far as attributes tell. The number of links and the
    /// time of change do not count: both move when a later backup links to the same file.
    pub(super) fn is_same_file(&self, other: &Stat) -> bool {
        (self.ino, self.size, self.mtime, self.kind()) == (other.ino, other.size, other.mtime, other.kind())
    }

    /// What a file is identified by in the snapshot that `view` is a hash of: hard links are one, and a file that was
    /// written since is another.
    pub(super) fn key(&self, view: u128) -> u128 {
        let ((secs, nanos), number) = (self.mtime, u64::to_le_bytes);
        let of = [number(self.ino), number(self.size), secs.to_le_bytes(), number(u64::from(nanos))];
        hash(&[b"file", &view.to_le_bytes(), of.as_flattened()])
    }

    /// The attributes of a node; `target` is the length of a symbolic link's.
    pub(super) fn meta(
        &self,
        target: usize,
        identity: Identity,
        validity: Validity,
        has_xattrs: bool,
    ) -> Meta {
        let time = |(secs, nanos): (i64, u32)| Time { secs, nanos };
        let (size, blocks) = match self.kind() {
            // What a file system sets aside beyond the end holds no data.
            FileType::File => (self.size, self.blocks.min(self.size.div_ceil(512))),
            FileType::Symlink => (target as u64, 0),
            _ => (0, 0),
        };
        Meta {
            kind: self.kind(),
            perm: self.mode & 0o7777,
            uid: self.uid,
            gid: self.gid,
            nlink: self.nlink.max(1),
            rdev: self.rdev,
            size,
            blocks,
            mtime: time(self.mtime),
            atime: time(self.atime),
            ctime: time(self.ctime),
            validity,
            identity,
            has_xattrs,
        }
    }
}

fn kind(mode: u16) -> FileType {
    match u32::from(mode) & libc::S_IFMT {
        libc::S_IFDIR => FileType::Dir,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFBLK => FileType::Block,
        libc::S_IFCHR => FileType::Char,
        libc::S_IFIFO => FileType::Fifo,
        libc::S_IFSOCK => FileType::Socket,
        _ => FileType::File,
    }
}

fn encoded(major: u32, minor: u32) -> u32 {
    minor & 0xff | (major & 0xfff) << 8 | (minor & !0xff) << 12
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn stat(dir: &fs::File, name: &str) -> Stat {
        let (_, device) = Stat::of(dir).unwrap();
        Stat::at(dir, name.as_bytes(), device).unwrap()
    }

    #[test]
    fn attributes_are_those_of_the_file_system() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), [7; 1000]).unwrap();
        fs::hard_link(dir.path().join("file"), dir.path().join("again")).unwrap();
        symlink("target", dir.path().join("link")).unwrap();
        let open = fs::File::open(dir.path()).unwrap();
        let meta = stat(&open, "file").meta(0, Identity::Path, Validity::Forever, false);
        let real = fs::metadata(dir.path().join("file")).unwrap();
        assert_eq!((meta.kind, u32::from(meta.perm), meta.nlink), (FileType::File, real.mode() & 0o7777, 2));
        assert_eq!((meta.mtime.secs, i64::from(meta.mtime.nanos)), (real.mtime(), real.mtime_nsec()));
        assert_eq!((meta.size, meta.blocks), (1000, 2), "as many blocks as there is data");
        assert!(stat(&open, "again").is_same_file(&stat(&open, "file")));
        let link = stat(&open, "link").meta(6, Identity::Path, Validity::Forever, false);
        assert_eq!((link.kind, link.size), (FileType::Symlink, 6));
    }

    #[test]
    fn a_file_that_was_written_since_is_another() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "one").unwrap();
        let open = fs::File::open(dir.path()).unwrap();
        let before = stat(&open, "file");
        fs::hard_link(dir.path().join("file"), dir.path().join("later")).unwrap();
        assert!(before.is_same_file(&stat(&open, "file")), "a link more");
        assert_eq!(before.key(1), stat(&open, "later").key(1));
        assert_ne!(before.key(1), before.key(2), "in another snapshot");
        fs::write(dir.path().join("file"), "three").unwrap();
        assert!(!before.is_same_file(&stat(&open, "file")));
        assert_ne!(before.key(1), stat(&open, "file").key(1));
    }

    #[test]
    fn borders_of_file_systems_are_seen() {
        let root = fs::File::open("/").unwrap();
        assert!(stat(&root, "proc").is_border && stat(&root, "sys").is_border);
        assert!(!stat(&root, "usr").is_border);
    }

    #[test]
    fn devices_are_numbered_as_the_kernel_does() {
        let dev = fs::File::open("/dev").unwrap();
        let null = stat(&dev, "null").meta(0, Identity::Path, Validity::Forever, false);
        assert_eq!((null.kind, null.rdev), (FileType::Char, 0x103));
        assert_eq!(encoded(259, 0x12345), 0x1231_0345);
    }
}
