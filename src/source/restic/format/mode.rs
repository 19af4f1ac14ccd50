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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_modes_become_permissions() {
        for (go, posix) in [
            (2_147_484_141, 0o755),
            (2_148_532_735, 0o1777),
            (8_389_101, 0o4755),
            (4_194_797, 0o2755),
            (134_218_239, 0o777),
            (33_554_852, 0o644),
            (67_109_248, 0o600),
            (69_206_400, 0o600),
            (493, 0o755),
            (0, 0),
            (u32::MAX, 0o7777),
        ] {
            assert_eq!(perm(go), posix, "{go}");
        }
    }

    #[test]
    fn device_numbers_of_glibc_are_those_of_the_kernel_or_none() {
        let kernel = |major: u32, minor: u32| minor & 0xff | major << 8 | (minor & !0xff) << 12;
        for (major, minor) in [(1, 3), (259, 70_000), (4095, 1_048_575), (8, 0)] {
            let glibc = libc::makedev(major, minor);
            assert_eq!(device(glibc), Some(kernel(major, minor)), "{major}:{minor}");
        }
        assert_eq!(device(259), Some(259));
        assert_eq!(device(286_327_664), Some(kernel(259, 70_000)));
        assert_eq!(device(libc::makedev(4096, 0)), None);
        assert_eq!(device(libc::makedev(0, 1 << 20)), None);
        assert_eq!(device(u64::MAX), None);
    }
}
