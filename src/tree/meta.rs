//! What the fuse room must know of a node without asking it.

use std::time::Duration;

/// The type of a node, as `stat` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileType {
    /// Directory.
    Dir,
    /// Regular file.
    File,
    /// Symbolic link.
    Symlink,
    /// Block device.
    Block,
    /// Character device.
    Char,
    /// Named pipe.
    Fifo,
    /// Unix socket.
    Socket,
}

/// A point in time: seconds since 1970 (negative before) plus nanoseconds that always count forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Whole seconds since the epoch, rounded down.
    pub secs: i64,
    /// Nanoseconds after `secs`, below 1,000,000,000.
    pub nanos: u32,
}

/// How long an answer about a node, its name, or the absence of a name in it may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It can never change: everything inside a snapshot.
    Forever,
    /// At most this long: made-up directories that follow new snapshots.
    For(Duration),
}

/// What makes a node the same node: the fuse room derives inode numbers from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// Its place: the fuse room chains the identity of the directory it is in with its name.
    Path,
    /// A key that is the same wherever the same node is shown (hard links of a snapshot, unchanged files of several
    /// snapshots) and different for everything else. Directories carry a key only where `namespace` roots a tree.
    Key(u128),
}

/// What the names of attributes begin with that only the privileged see.
pub const TRUSTED_XATTRS: &[u8] = b"trusted.";

/// Extended attributes that begin so tell what backupfs knows of a node. They answer to their names and are not listed.
pub const OWN_XATTRS: &[u8] = b"user.backupfs.";

/// The attributes of a node: small and copyable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Meta {
    /// Type of the node.
    pub kind: FileType,
    /// Permission bits with set-uid, set-gid and sticky: `mode & 0o7777`.
    pub perm: u16,
    /// Recorded owner.
    pub uid: u32,
    /// Recorded group.
    pub gid: u32,
    /// Number of hard links, at least 1.
    pub nlink: u32,
    /// Device number of device nodes in Linux's 32-bit encoding (`minor & 0xff | major << 8 | (minor & !0xff) << 12`).
    pub rdev: u32,
    /// Bytes that reading delivers (files), or the target's length (symlinks).
    pub size: u64,
    /// 512-byte units that hold data; holes are not counted.
    pub blocks: u64,
    /// Last modification.
    pub mtime: Time,
    /// Last access, as recorded.
    pub atime: Time,
    /// Last status change, as recorded.
    pub ctime: Time,
    /// How long this may be kept; of a directory, also how long "no such name" in it may be.
    pub validity: Validity,
    /// What makes it this node.
    pub identity: Identity,
    /// Whether listing the extended attributes could show any. False answers getxattr without asking the node, unless it is
    /// for one of [`OWN_XATTRS`] or the node is a directory.
    pub has_xattrs: bool,
}

impl Meta {
    /// A made-up directory: owned by root, mode 0755, identified by its place.
    pub fn directory(time: Time, validity: Validity) -> Self {
        Meta {
            kind: FileType::Dir,
            perm: 0o755,
            uid: 0,
            gid: 0,
            nlink: 1,
            rdev: 0,
            size: 0,
            blocks: 0,
            mtime: time,
            atime: time,
            ctime: time,
            validity,
            identity: Identity::Path,
            has_xattrs: false,
        }
    }
}
