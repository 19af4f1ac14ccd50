//! Go's file modes and device numbers as Linux's.

use crate::tree::FileType;

/// Permission bits, set-uid, set-gid and sticky (`0o7777`) of a Go `FileMode`. Its type bits are not to be trusted:
/// rustic writes devices without them.
pub fn perm(go_mode: u32) -> u16 {
    let bit = |go: u32, posix: u16| if go_mode & (1 << go) != 0 { posix } else { 0 };
    // Nine bits.
    #[allow(clippy::cast_possible_truncation)]
    let rwx = (go_mode & 0o777) as u16;
    rwx | bit(23, 0o4000) | bit(22, 0o2000) | bit(20, 0o1000)
}

/// What a node is given whose writer recorded no permissions.
pub fn default_perm(kind: FileType) -> u16 {
    match kind {
        FileType::Dir => 0o755,
        FileType::Symlink => 0o777,
        _ => 0o644,
    }
}

/// Linux's 32-bit device number of a glibc `dev_t`, or `None` when the kernel has no such number (a major above 4,095
/// or a minor above 1,048,575).
pub fn device(dev_t: u64) -> Option<u32> {
    // Below bit 32 the two encodings are the same; glibc keeps what does not fit there above it.
    u32::try_from(dev_t).ok()
}
